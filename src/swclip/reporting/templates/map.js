// The map: dots on a local frame of metres, on a canvas, so that tens of thousands of them move at once.
// Drag, wheel (once it was clicked, or with Ctrl), two fingers, or the keys + - 0 and the arrows move it.

const CLASS_COLOURS = ["#2166ac", "#5aa7d6", "#f2b134", "#e5702a", "#a5122a"];
const LISA_COLOURS = ["#b2182b", "#2166ac", "#f0885d", "#6fb1d8", "#98a5b1"];
const POSTERIOR = "110, 60, 150";
const map = data.map;
const classOf = (error) => { const at = map.classes_m.findIndex((edge) => error <= edge); return at < 0 ? map.classes_m.length : at; };

class DotMap {
  constructor(canvas, colourOf, onPick) {
    Object.assign(this, { canvas, colourOf, onPick, view: null, answers: null, shown: [], lines: [], chosen: -1, detail: null });
    this.hint = element("div", { class: "map-hint", "aria-hidden": "true" });
    canvas.after(this.hint);
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.listen();
  }

  show(view, answers) {
    const other = view !== this.view;
    Object.assign(this, { view, answers });
    if (other) this.fit(view.extent_m); else this.draw();
  }

  // Centre and scale such that an extent [x0, y0, x1, y1] in metres is seen whole.
  fit([x0, y0, x1, y1]) {
    this.x = (x0 + x1) / 2; this.y = (y0 + y1) / 2;
    const width = this.canvas.clientWidth || 640, height = this.canvas.clientHeight || 480;
    this.reach = [Math.max(x1 - x0, 20), Math.max(y1 - y0, 20)]; // metres across that are to be in sight
    this.metre = Math.min(width / this.reach[0], height / this.reach[1]);
    this.draw();
  }

  // What was seen stays in sight when the map gets another size: a phone that is turned, a page that is printed.
  resize() {
    if (!this.view) return;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (width && height) this.metre = Math.min(width / this.reach[0], height / this.reach[1]);
    this.draw();
  }

  px(x) { return this.canvas.clientWidth / 2 + (x - this.x) * this.metre; }
  py(y) { return this.canvas.clientHeight / 2 - (y - this.y) * this.metre; }
  move(dx, dy) { this.x -= dx / this.metre; this.y += dy / this.metre; this.draw(); }

  zoom(factor, px = this.canvas.clientWidth / 2, py = this.canvas.clientHeight / 2) {
    const metre = Math.min(20, Math.max(1e-5, this.metre * factor)), dx = px - this.canvas.clientWidth / 2, dy = py - this.canvas.clientHeight / 2;
    this.x += dx / this.metre - dx / metre; this.y -= dy / this.metre - dy / metre;
    this.metre = metre;
    this.reach = [this.canvas.clientWidth / metre, this.canvas.clientHeight / metre];
    this.draw();
  }

  nearest(px, py, reach) {
    let best = -1, least = reach * reach;
    const { x, y } = this.view.queries;
    this.shown.forEach((i) => {
      const off = (this.px(x[i]) - px) ** 2 + (this.py(y[i]) - py) ** 2;
      if (off <= least) { least = off; best = i; }
    });
    return best;
  }

  listen() {
    const canvas = this.canvas;
    let drag = null, moved = false, fingers = null;
    const at = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
    canvas.addEventListener("pointerdown", (event) => {
      moved = false;
      if (event.pointerType === "touch" || event.button !== 0) return;
      drag = at(event);
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = at(event);
      if (!drag) { if (event.pointerType === "mouse") canvas.style.cursor = this.nearest(x, y, 9) >= 0 ? "pointer" : "grab"; return; }
      if (Math.hypot(x - drag[0], y - drag[1]) < 3 && !moved) return;
      moved = true;
      this.move(x - drag[0], y - drag[1]);
      drag = [x, y];
    });
    ["pointerup", "pointercancel"].forEach((name) => canvas.addEventListener(name, () => { drag = null; }));
    canvas.addEventListener("click", (event) => {
      if (moved) return;
      const i = this.nearest(...at(event), 14);
      if (i >= 0) this.onPick(i);
    });
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) { this.say("Click the map, then the wheel zooms"); return; }
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)), ...at(event));
    }, { passive: false });
    const spread = (touches) => {
      const [a, b] = [at(touches[0]), at(touches[1])];
      return { x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2, size: Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1])) };
    };
    canvas.addEventListener("touchstart", (event) => { fingers = event.touches.length === 2 ? spread(event.touches) : null; }, { passive: true });
    canvas.addEventListener("touchmove", (event) => { // one finger scrolls the page, two move the map
      if (event.touches.length !== 2 || !fingers) { this.say("Move the map with two fingers"); return; }
      event.preventDefault();
      moved = true;
      const now = spread(event.touches);
      this.move(now.x - fingers.x, now.y - fingers.y);
      this.zoom(now.size / fingers.size, now.x, now.y);
      fingers = now;
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
      if (steps[event.key]) this.move(...steps[event.key]);
      else if (event.key === "+" || event.key === "=") this.zoom(1.5);
      else if (event.key === "-") this.zoom(1 / 1.5);
      else if (event.key === "0") this.fit(this.view.extent_m);
      else return;
      event.preventDefault();
    });
  }

  say(words) {
    this.hint.textContent = words;
    this.hint.classList.add("seen");
    clearTimeout(this.silent);
    this.silent = setTimeout(() => this.hint.classList.remove("seen"), 1400);
  }

  draw() {
    const canvas = this.canvas, ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width || !this.view) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = "#fbfcfd";
    pen.fillRect(0, 0, width, height);
    const half = [width / 2 / this.metre, height / 2 / this.metre];
    canvas.dataset.extent = [this.x - half[0], this.y - half[1], this.x + half[0], this.y + half[1]].map((v) => v.toFixed(1)).join(" ");
    const { candidates, queries, extent_m: all } = this.view;
    const closer = Math.sqrt(this.metre * Math.max((all[2] - all[0]) / width, (all[3] - all[1]) / height));
    if (this.detail && this.detail.cells) this.drawPosterior(pen);
    pen.fillStyle = "#bcc6cf";
    const grain = Math.min(4, Math.max(1.6, (candidates.x.length > 4000 ? 1.6 : 2.4) * closer));
    candidates.x.forEach((x, i) => pen.fillRect(this.px(x) - grain / 2, this.py(candidates.y[i]) - grain / 2, grain, grain));
    pen.strokeStyle = this.chosen >= 0 ? "rgba(60, 72, 84, 0.1)" : "rgba(60, 72, 84, 0.36)";
    pen.lineWidth = 1;
    pen.beginPath();
    this.lines.forEach((i) => { pen.moveTo(this.px(queries.x[i]), this.py(queries.y[i])); pen.lineTo(this.px(this.answers.x[i]), this.py(this.answers.y[i])); });
    pen.stroke();
    const size = Math.min(7, (queries.x.length > 1500 ? 2.6 : queries.x.length > 500 ? 3.4 : 4.6) * Math.max(1, closer));
    pen.globalAlpha = this.chosen >= 0 ? 0.32 : 1;
    pen.strokeStyle = "#fff";
    pen.lineWidth = 0.8;
    this.shown.forEach((i) => {
      pen.beginPath();
      pen.arc(this.px(queries.x[i]), this.py(queries.y[i]), size, 0, 7);
      pen.fillStyle = this.colourOf(i);
      pen.fill();
      pen.stroke();
    });
    pen.globalAlpha = 1;
    if (this.chosen >= 0) this.drawChosen(pen);
    this.drawScale(pen, width, height);
  }

  cell(pen, cells, c) {
    const x = this.px(cells.x[c]), y = this.py(cells.y[c]);
    pen.beginPath();
    if (Math.abs(cells.outline[0][0]) + Math.abs(cells.outline[0][1]) < 4 / this.metre) { pen.arc(x, y, 4, 0, 7); return; }
    cells.outline.forEach(([dx, dy], k) => pen[k ? "lineTo" : "moveTo"](x + dx * this.metre, y - dy * this.metre));
    pen.closePath();
  }

  // Darker is more probable. The line round the 80 % region is what its cells' strokes leave once these are filled.
  drawPosterior(pen) {
    const { cells, list, region } = this.detail, most = Math.max(...list.map((entry) => entry[1]));
    const fill = ([c, share]) => {
      this.cell(pen, cells, c);
      pen.fillStyle = "#fbfcfd";
      pen.fill();
      pen.fillStyle = `rgba(${POSTERIOR}, ${(0.08 + 0.72 * Math.sqrt(share / most)).toFixed(3)})`;
      pen.fill();
    };
    const inside = list.slice(0, Math.max(0, region));
    list.slice(inside.length).forEach(fill);
    pen.strokeStyle = `rgb(${POSTERIOR})`;
    pen.lineWidth = 4.5;
    pen.lineJoin = "round";
    inside.forEach(([c]) => { this.cell(pen, cells, c); pen.stroke(); });
    inside.forEach(fill);
  }

  drawChosen(pen) {
    const i = this.chosen, { queries } = this.view, x = this.px(queries.x[i]), y = this.py(queries.y[i]);
    const ax = this.px(this.answers.x[i]), ay = this.py(this.answers.y[i]);
    pen.strokeStyle = INK;
    pen.lineWidth = 1.6;
    pen.setLineDash([5, 4]);
    pen.beginPath(); pen.moveTo(x, y); pen.lineTo(ax, ay); pen.stroke();
    pen.setLineDash([]);
    (this.detail ? this.detail.top : []).slice(0, 10).forEach(([px, py], rank) => {
      pen.beginPath(); pen.arc(this.px(px), this.py(py), rank < 3 ? 8 : 3.4, 0, 7);
      pen.fillStyle = "#fff"; pen.fill();
      pen.lineWidth = 1.4; pen.strokeStyle = `rgb(${POSTERIOR})`; pen.stroke();
      if (rank < 3) { pen.fillStyle = INK; pen.font = "600 10.5px system-ui, sans-serif"; pen.textAlign = "center"; pen.fillText(String(rank + 1), this.px(px), this.py(py) + 3.7); }
    });
    pen.lineWidth = 3; pen.strokeStyle = INK;
    pen.beginPath(); pen.moveTo(ax - 7, ay - 7); pen.lineTo(ax + 7, ay + 7); pen.moveTo(ax + 7, ay - 7); pen.lineTo(ax - 7, ay + 7); pen.stroke();
    pen.beginPath(); pen.arc(x, y, 7, 0, 7); pen.fillStyle = this.colourOf(i); pen.fill();
    pen.lineWidth = 2.5; pen.stroke();
  }

  drawScale(pen, width, height) {
    const room = Math.min(130, width / 3) / this.metre, ten = 10 ** Math.floor(Math.log10(room));
    const length = [5, 2, 1].map((step) => step * ten).find((step) => step <= room), long = length * this.metre;
    pen.fillStyle = "rgba(255, 255, 255, 0.85)";
    pen.fillRect(8, height - 32, long + 16, 25);
    pen.strokeStyle = pen.fillStyle = INK;
    pen.lineWidth = 1.5;
    pen.beginPath(); pen.moveTo(16, height - 19); pen.lineTo(16, height - 14); pen.lineTo(16 + long, height - 14); pen.lineTo(16 + long, height - 19); pen.stroke();
    pen.font = "12px system-ui, sans-serif"; pen.textAlign = "left";
    pen.fillText(length >= 1 ? distance(length) : metres(length), 17, height - 19);
  }
}

// Small maps to choose from.
function drawSmall(canvas, view, answers) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth || 112, height = canvas.clientHeight || 70;
  canvas.width = width * ratio; canvas.height = height * ratio;
  const pen = canvas.getContext("2d"), [x0, y0, x1, y1] = view.extent_m;
  pen.scale(ratio, ratio);
  const metre = Math.min(width / (x1 - x0), height / (y1 - y0));
  const px = (x) => width / 2 + (x - (x0 + x1) / 2) * metre, py = (y) => height / 2 - (y - (y0 + y1) / 2) * metre;
  pen.fillStyle = "#d3dae1";
  view.candidates.x.forEach((x, i) => pen.fillRect(px(x) - 0.5, py(view.candidates.y[i]) - 0.5, 1, 1));
  answers.error.map((_, i) => i).sort((a, b) => answers.error[a] - answers.error[b]).forEach((i) => {
    pen.fillStyle = CLASS_COLOURS[classOf(answers.error[i])];
    pen.beginPath(); pen.arc(px(view.queries.x[i]), py(view.queries.y[i]), view.queries.x.length > 300 ? 1.2 : 1.8, 0, 7); pen.fill();
  });
}
