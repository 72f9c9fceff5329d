// A map on a canvas, for reports and for the service: a view that pointer, wheel, touch and keys move, Web Mercator, and
// shared layers. The service loads it as a module; a report embeds it without the exports.

const STILL_PX = 4, TILE_PX = 256, MERCATOR_LIMIT = 85.0511287798066, MAX_TILES = 300;

// A colour of colours.css by name; it follows the reader's choice of light or dark, and prints are light.
const colours = new Map();
export function colour(name) {
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim());
  return colours.get(name);
}
function onOtherColours(draw) {
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", () => { colours.clear(); draw(); });
}

// A view of a plane of metres, y to the north. `layers` are functions of the view and its 2D context, drawn in order.
// A box is [x0, y0, x1, y1]; `home` and `target` are lists of arguments of `fit`, for the keys Home (and 0) and End. With `cooperative` one finger scrolls the page, and so does the wheel until the map is clicked.
export class MapView {
  constructor(canvas, { least = 1e-5, most = 20, cooperative = false, interactive = true } = {}) {
    Object.assign(this, { canvas, least, most, cooperative, north: -1, x: 0, y: 0, scale: 1, width: 0, height: 0 });
    Object.assign(this, { layers: [], home: null, target: null, shown: null, onClick: () => {}, onKey: () => false, isTarget: null });
    this.context = canvas.getContext("2d");
    if (cooperative) {
      this.hint = document.createElement("div");
      this.hint.className = "map-hint";
      this.hint.setAttribute("aria-hidden", "true");
      canvas.after(this.hint);
    }
    onOtherColours(() => this.draw());
    this.resize();
    if (!interactive) return;
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.listen();
  }

  toScreen(x, y) { return [(x - this.x) * this.scale + this.width / 2, this.north * (y - this.y) * this.scale + this.height / 2]; }
  toPlane(px, py) { return [(px - this.width / 2) / this.scale + this.x, this.north * (py - this.height / 2) / this.scale + this.y]; }
  get pixelsPerMetre() { return this.scale; }

  // The visible extent stays visible when the canvas changes size, as when a phone is turned or a page is printed.
  resize() {
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    if (this.shown && this.width && this.height) this.scale = this.scaleFor(this.shown);
    this.moved();
    this.draw(); // at once: resizing clears a canvas
  }

  scaleFor({ size: [across, down], padding, most }) {
    const width = Math.max(this.width - 2 * padding, 60), height = Math.max(this.height - 2 * padding, 60);
    return Math.max(this.least, Math.min(width / across, height / down, most));
  }

  fit([x0, y0, x1, y1], padding = 0, most = this.most) {
    this.shown = { size: [Math.max(x1 - x0, 1e-9), Math.max(y1 - y0, 1e-9)], padding, most };
    Object.assign(this, { x: (x0 + x1) / 2, y: (y0 + y1) / 2, scale: this.scaleFor(this.shown) });
    this.moved();
  }

  go(x, y, scale = this.scale) {
    Object.assign(this, { x, y, scale: Math.max(this.least, Math.min(this.most, scale)) });
    if (this.width && this.height) this.shown = { size: [this.width / this.scale, this.height / this.scale], padding: 0, most: this.most };
    this.moved();
  }

  // The visible extent is written to the document, where tests read it.
  moved() {
    const [x0, y1] = this.toPlane(0, 0), [x1, y0] = this.toPlane(this.width, this.height);
    this.canvas.dataset.extent = [x0, y0, x1, y1].map((value) => value.toFixed(this.scale > 100 ? 9 : 1)).join(" ");
    this.redraw();
  }

  pan(dx, dy) { this.go(this.x - dx / this.scale, this.y - this.north * dy / this.scale); }

  zoom(factor, px = this.width / 2, py = this.height / 2) {
    const [x, y] = this.toPlane(px, py), scale = Math.max(this.least, Math.min(this.most, this.scale * factor));
    this.go(x - (px - this.width / 2) / scale, y - this.north * (py - this.height / 2) / scale, scale);
  }

  redraw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.pending);
    this.pending = 0;
    const ratio = window.devicePixelRatio || 1, size = [this.width, this.height].map((value) => Math.round(value * ratio));
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) [this.canvas.width, this.canvas.height] = size;
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.clearRect(0, 0, this.width, this.height);
    if (this.width && this.height) this.layers.forEach((layer) => layer(this, this.context));
  }

  showHint(text) {
    this.hint.textContent = text;
    this.hint.classList.add("seen");
    clearTimeout(this.silent);
    this.silent = setTimeout(() => this.hint.classList.remove("seen"), 1400);
  }

  listen() {
    const canvas = this.canvas;
    let from = null, still = true, fingers = null; // position of a pressed pointer, whether it has not moved, touches on the map
    const at = ({ clientX, clientY }) => { const box = canvas.getBoundingClientRect(); return [clientX - box.left, clientY - box.top]; };
    const drag = (to) => {
      if (still && Math.hypot(to[0] - from[0], to[1] - from[1]) < STILL_PX) return;
      still = false;
      this.pan(to[0] - from[0], to[1] - from[1]);
      from = to;
    };
    canvas.addEventListener("pointerdown", (event) => {
      still = true;
      if (event.pointerType === "touch" || event.button !== 0) return;
      from = at(event);
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerType === "touch") return;
      if (from) drag(at(event)); else if (this.isTarget) canvas.style.cursor = this.isTarget(...at(event)) ? "pointer" : "";
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { from = null; });
    canvas.addEventListener("click", (event) => { if (still) this.onClick(...at(event)); });
    canvas.addEventListener("wheel", (event) => {
      const deliberate = event.ctrlKey || event.metaKey || document.activeElement === canvas;
      if (this.cooperative && !deliberate) { this.showHint("Click the map to zoom with the wheel"); return; }
      event.preventDefault();
      const pixels = event.deltaY * (event.deltaMode === 1 ? 18 : 1) * (event.ctrlKey ? 4 : 1); // a pinch on a touchpad is small
      this.zoom(2 ** Math.max(-1, Math.min(1, -pixels / 300)), ...at(event));
    }, { passive: false });
    const spread = (touches) => {
      const [a, b] = [at(touches[0]), at(touches[1])];
      return { x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2, apart: Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1])) };
    };
    const touched = ({ touches }) => {
      from = touches.length === 1 && !this.cooperative ? at(touches[0]) : null;
      fingers = touches.length === 2 ? spread(touches) : null;
      if (fingers) still = false;
    };
    for (const name of ["touchstart", "touchend", "touchcancel"]) canvas.addEventListener(name, touched, { passive: true });
    canvas.addEventListener("touchmove", (event) => {
      if (fingers && event.touches.length === 2) {
        const now = spread(event.touches);
        this.pan(now.x - fingers.x, now.y - fingers.y);
        this.zoom(now.apart / fingers.apart, now.x, now.y);
        fingers = now;
      } else if (from) drag(at(event.touches[0]));
      else { if (this.cooperative) this.showHint("Use two fingers to move the map"); return; }
      event.preventDefault();
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => { if (this.key(event)) event.preventDefault(); });
  }

  // Handle a key; returns whether the map uses it.
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    if (this.onKey(event.key)) return true;
    const step = event.shiftKey ? 200 : 60, all = () => this.home && this.fit(...this.home);
    const acts = {
      ArrowLeft: () => this.pan(step, 0), ArrowRight: () => this.pan(-step, 0), ArrowUp: () => this.pan(0, step), ArrowDown: () => this.pan(0, -step),
      "+": () => this.zoom(1.5), "=": () => this.zoom(1.5), "-": () => this.zoom(1 / 1.5), 0: all, Home: all, End: () => this.target && this.fit(...this.target),
    };
    acts[event.key]?.();
    return event.key in acts;
  }
}

// Web Mercator: degrees to a square of side 1, y to the south, and back.
export function project(lat, lon) {
  const bounded = Math.max(-MERCATOR_LIMIT, Math.min(MERCATOR_LIMIT, lat)) * Math.PI / 180;
  return [lon / 360 + 0.5, 0.5 - Math.log(Math.tan(Math.PI / 4 + bounded / 2)) / (2 * Math.PI)];
}

export function unproject(x, y) {
  const lat = (2 * Math.atan(Math.exp((0.5 - y) * 2 * Math.PI)) - Math.PI / 2) * 180 / Math.PI;
  return [lat, ((x - 0.5) * 360 + 540) % 360 - 180];
}

// Length of the side of the square in metres, at a latitude.
export function metresAcross(lat) { return 40075016.686 * Math.cos(lat * Math.PI / 180); }

// The box of the square that contains a box of south, west, north, east.
export function projectBox([south, west, north, east]) { return [...project(north, west), ...project(south, east)]; }

// A view of the Web Mercator square; its zoom is that of map tiles.
export class MercatorView extends MapView {
  constructor(canvas, options = {}) {
    super(canvas, { least: TILE_PX, most: TILE_PX * 2 ** 21, ...options });
    this.north = 1;
    this.go(0.5, 0.35, TILE_PX * 4);
    this.shown = null;
  }

  get tileZoom() { return Math.log2(this.scale / TILE_PX); }
  get centre() { return unproject(this.x, this.y); }
  get pixelsPerMetre() { return this.scale / metresAcross(this.centre[0]); }
  static scaleOf(zoom) { return TILE_PX * 2 ** zoom; }

  go(x, y, scale) { super.go(x, Math.max(0, Math.min(1, y)), scale); }

  // Between the plane of the view and the Mercator square; here they are the same.
  toMercator(x, y) { return [x, y]; }
  fromMercator(x, y) { return [x, y]; }
}

// Map tiles of a provider. Views of another plane have `tileZoom`, `toMercator` and `fromMercator` too.
export function tileLayer({ url, max_zoom: maxZoom }, redraw) {
  const cache = new Map();
  const imageOf = (address) => {
    let image = cache.get(address);
    if (!image) {
      image = new Image();
      image.referrerPolicy = "origin";  // many providers require a referrer
      image.onload = redraw;
      image.src = address;
      cache.set(address, image);
      if (cache.size > MAX_TILES) cache.delete(cache.keys().next().value);
    }
    return image;
  };
  return (view, context) => {
    const level = Math.max(0, Math.min(maxZoom, Math.round(view.tileZoom))), count = 2 ** level;
    const [left, top] = view.toMercator(...view.toPlane(0, 0)), [right, bottom] = view.toMercator(...view.toPlane(view.width, view.height));
    for (let ty = Math.max(0, Math.floor(top * count)); ty <= Math.min(count - 1, Math.floor(bottom * count)); ty++) {
      for (let tx = Math.floor(left * count); tx <= Math.floor(right * count); tx++) {
        const image = imageOf(url.replace("{z}", level).replace("{x}", ((tx % count) + count) % count).replace("{y}", ty));
        if (!image.complete || !image.naturalWidth) continue;
        const [px, py] = view.toScreen(...view.fromMercator(tx / count, ty / count));
        const [qx, qy] = view.toScreen(...view.fromMercator((tx + 1) / count, (ty + 1) / count));
        context.drawImage(image, px, py, qx - px + 0.5, qy - py + 0.5);
      }
    }
    context.fillStyle = colour("veil");  // tiles are light: in the dark they are dimmed
    context.fillRect(0, 0, view.width, view.height);
  };
}

// The attribution of tiles as nodes: OpenStreetMap is linked to its licence, as it requires.
export function attributionNodes(text) {
  return text.split(/(OpenStreetMap)/).map((part) => {
    if (part !== "OpenStreetMap") return part;
    const link = document.createElement("a");
    Object.assign(link, { href: "https://www.openstreetmap.org/copyright", target: "_blank", rel: "noopener noreferrer", textContent: part });
    return link;
  });
}

// Points as squares of a size in pixels.
export function drawSquares(view, context, points, size, colour) {
  context.fillStyle = colour;
  for (const [x, y] of points) {
    const [px, py] = view.toScreen(x, y);
    if (px > -size && py > -size && px < view.width + size && py < view.height + size) context.fillRect(px - size / 2, py - size / 2, size, size);
  }
}

export function drawDot(context, px, py, radius, fill, stroke, width) {
  context.beginPath();
  context.arc(px, py, radius, 0, 2 * Math.PI);
  if (fill) { context.fillStyle = fill; context.fill(); }
  if (stroke) { Object.assign(context, { strokeStyle: stroke, lineWidth: width }); context.stroke(); }
}

// The path of a polygon of the plane, or of a dot where it is too small to see.
export function tracePolygon(view, context, corners) {
  const screen = corners.map(([x, y]) => view.toScreen(x, y));
  const [[px, py], [qx, qy]] = [screen[0], screen[Math.floor(screen.length / 2)]];
  context.beginPath();
  if (Math.hypot(px - qx, py - qy) < 5) { context.arc((px + qx) / 2, (py + qy) / 2, 3, 0, 2 * Math.PI); return; }
  screen.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.closePath();
}

// The index of the point nearest to a pixel, -1 where none is within reach.
export function nearestPoint(view, points, px, py, reach) {
  let best = -1, least = reach * reach;
  points.forEach((point, i) => {
    const [x, y] = view.toScreen(...point), off = (x - px) ** 2 + (y - py) ** 2;
    if (off <= least) { least = off; best = i; }
  });
  return best;
}

export function drawScale(view, context) {
  const room = Math.min(130, view.width / 3) / view.pixelsPerMetre, ten = 10 ** Math.floor(Math.log10(room));
  const length = [5, 2, 1].map((step) => step * ten).find((step) => step <= room), width = length * view.pixelsPerMetre;
  context.fillStyle = colour("glass");
  context.fillRect(8, 8, width + 16, 27);
  Object.assign(context, { strokeStyle: colour("ink"), fillStyle: colour("ink"), lineWidth: 1.5, font: "12px system-ui, sans-serif", textAlign: "left", textBaseline: "alphabetic" });
  context.beginPath();
  context.moveTo(16, 24); context.lineTo(16, 29); context.lineTo(16 + width, 29); context.lineTo(16 + width, 24);
  context.stroke();
  context.fillText(length >= 1000 ? length / 1000 + " km" : Number(length.toPrecision(1)) + " m", 18, 23);
}
