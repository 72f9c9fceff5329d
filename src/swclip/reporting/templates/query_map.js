// The queries on the map of a report: candidates, answers, errors, and the posterior of the chosen query.

const map = data.map;
const classColour = (c) => colour("class-" + c), lisaColourOf = (label) => colour("lisa-" + (label < 0 ? 4 : label));
const baseMap = data.tiles ? tileLayer(data.tiles, () => [mainMap, lisaMap].forEach((one) => one && one.redraw())) : null;
const classOf = (error) => { const at = map.classes_m.findIndex((edge) => error <= edge); return at < 0 ? map.classes_m.length : at; };

class QueryMap extends CityView {
  constructor(canvas, colourOf, onPick) {
    super(canvas);
    Object.assign(this, { colourOf, view: null, visible: [], hits: [], lines: [], chosen: -1, detail: null });
    const pick = (px, py, reach) => nearestPoint(this, this.hits, px, py, reach);
    this.isTarget = (px, py) => pick(px, py, 9) >= 0;
    this.onClick = (px, py) => { const i = pick(px, py, 14); if (i >= 0) onPick(i); };
  }

  show(view, answers) {
    const other = view !== this.view;
    Object.assign(this, { view, candidates: pairs(view.candidates), queries: pairs(view.queries), answers: pairs(answers) });
    this.layers = [...(baseMap ? [baseMap] : []), () => this.drawPosterior(), () => this.drawCandidates(), () => this.drawLines(), () => this.drawQueries(), () => this.drawChosen(), drawScale];
    this.home = [view.extent_m];
    if (other) this.fit(view.extent_m); else this.redraw();
  }

  // Set the queries that are drawn and can be clicked, the last on top.
  showQueries(indices) {
    this.visible = indices;
    this.hits = [];
    indices.forEach((i) => { this.hits[i] = [this.view.queries.x[i], this.view.queries.y[i]]; });
  }

  drawCandidates() {
    const size = Math.min(4, Math.max(1.6, (this.candidates.length > 4000 ? 1.6 : 2.4) * this.magnification));
    drawSquares(this, this.context, this.candidates, size, colour("place"));
  }

  drawLines() {
    const pen = this.context;
    pen.globalAlpha = this.chosen >= 0 ? 0.1 : 0.36;
    pen.strokeStyle = colour("spoke");
    pen.lineWidth = 1;
    pen.beginPath();
    this.lines.forEach((i) => { pen.moveTo(...this.toScreen(...this.queries[i])); pen.lineTo(...this.toScreen(...this.answers[i])); });
    pen.stroke();
    pen.globalAlpha = 1;
  }

  drawQueries() {
    const count = this.queries.length, size = Math.min(7, (count > 1500 ? 2.6 : count > 500 ? 3.4 : 4.6) * Math.max(1, this.magnification));
    this.context.globalAlpha = this.chosen >= 0 ? 0.32 : 1;
    this.visible.forEach((i) => drawDot(this.context, ...this.toScreen(...this.queries[i]), size, this.colourOf(i), colour("halo"), 0.8));
    this.context.globalAlpha = 1;
  }

  // Denser is more probable. On a canvas of its own, strokes of the region's cells with their insides cut out leave the outline of the 80 % region.
  drawPosterior() {
    if (!this.detail || !this.detail.cells) return;
    this.sheet ??= document.createElement("canvas");
    Object.assign(this.sheet, { width: this.canvas.width, height: this.canvas.height });
    const { cells, list, region } = this.detail, pen = this.sheet.getContext("2d"), most = Math.max(...list.map((entry) => entry[1]));
    pen.setTransform(this.context.getTransform());
    const trace = (c) => tracePolygon(this, pen, cells.outline.map(([dx, dy]) => [cells.x[c] + dx, cells.y[c] + dy]));
    const fill = ([c, share]) => {
      trace(c);
      pen.globalCompositeOperation = "destination-out";
      pen.fill();
      pen.globalCompositeOperation = "source-over";
      pen.globalAlpha = 0.08 + 0.72 * Math.sqrt(share / most);
      pen.fillStyle = colour("posterior");
      pen.fill();
      pen.globalAlpha = 1;
    };
    const inside = list.slice(0, Math.max(0, region));
    list.slice(inside.length).forEach(fill);
    Object.assign(pen, { strokeStyle: colour("posterior"), lineWidth: 4.5, lineJoin: "round" });
    inside.forEach(([c]) => { trace(c); pen.stroke(); });
    inside.forEach(fill);
    this.context.drawImage(this.sheet, 0, 0, this.width, this.height);
  }

  drawChosen() {
    if (this.chosen < 0) return;
    const i = this.chosen, pen = this.context, [x, y] = this.toScreen(...this.queries[i]), [ax, ay] = this.toScreen(...this.answers[i]);
    Object.assign(pen, { strokeStyle: colour("ink"), lineWidth: 1.6 });
    pen.setLineDash([5, 4]);
    pen.beginPath(); pen.moveTo(x, y); pen.lineTo(ax, ay); pen.stroke();
    pen.setLineDash([]);
    (this.detail ? this.detail.top : []).slice(0, 10).forEach(([east, north], rank) => {
      const [px, py] = this.toScreen(east, north);
      drawDot(pen, px, py, rank < 3 ? 8 : 3.4, colour("halo"), colour("posterior"), 1.4);
      if (rank < 3) { Object.assign(pen, { fillStyle: colour("ink"), font: "600 10.5px system-ui, sans-serif", textAlign: "center" }); pen.fillText(String(rank + 1), px, py + 3.7); }
    });
    Object.assign(pen, { strokeStyle: colour("ink"), lineWidth: 3 });
    pen.beginPath(); pen.moveTo(ax - 7, ay - 7); pen.lineTo(ax + 7, ay + 7); pen.moveTo(ax + 7, ay - 7); pen.lineTo(ax - 7, ay + 7); pen.stroke();
    drawDot(pen, x, y, 7, this.colourOf(i), colour("ink"), 2.5);
  }
}

// Small maps for the choice of a city.
function drawSmall(canvas, view, answers) {
  const small = canvas.small || new MapView(canvas, { interactive: false });
  canvas.small = small;
  small.layers = [
    (target, pen) => drawSquares(target, pen, pairs(view.candidates), 1, colour("place")),
    (target, pen) => answers.error.map((_, i) => i).sort((a, b) => answers.error[a] - answers.error[b]).forEach((i) => drawDot(
      pen, ...target.toScreen(view.queries.x[i], view.queries.y[i]), view.queries.x.length > 300 ? 1.2 : 1.8, classColour(classOf(answers.error[i])))),
  ];
  small.fit(view.extent_m);
}
