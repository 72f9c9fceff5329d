// A small map: a view of the Mercator world on a canvas, moved by pointer, wheel, touch and keys. It draws what its
// layers draw, and tells of clicks.
import { metresAcross, project, unproject } from "/static/mercator.js";

const TILE = 256, MOST_ZOOM = 21, LEAST_ZOOM = 0, STILL_PX = 5;

export class Map2D {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.x = 0.5; this.y = 0.35; this.zoom = 2;
    this.layers = [];
    this.onClick = () => {};
    this.onKey = () => false;
    this.home = null;
    this.target = null;
    this.pointers = new Map();
    this.pending = false;
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
    this.listen();
  }

  get scale() { return TILE * 2 ** this.zoom; }
  get centre() { return unproject(this.x, this.y); }

  toScreen(wx, wy) {
    return [(wx - this.x) * this.scale + this.width / 2, (wy - this.y) * this.scale + this.height / 2];
  }

  toWorld(px, py) {
    return [(px - this.width / 2) / this.scale + this.x, (py - this.height / 2) / this.scale + this.y];
  }

  // Pixels for a metre, at the middle.
  get pixelsPerMetre() { return this.scale / metresAcross(this.centre[0]); }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const box = this.canvas.getBoundingClientRect();
    this.width = box.width; this.height = box.height;
    this.canvas.width = Math.round(box.width * ratio);
    this.canvas.height = Math.round(box.height * ratio);
    this.ratio = ratio;
    if (this.shown) this.fit(this.shown);
    this.redraw();
  }

  redraw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
      this.context.clearRect(0, 0, this.width, this.height);
      for (const layer of this.layers) layer(this, this.context);
    });
  }

  // Show a box of south, west, north, east.
  fit(box, padding = 46, mostZoom = 18) {
    const [south, west, north, east] = box;
    const [left, top] = project(north, west), [right, bottom] = project(south, east);
    const wide = Math.max(this.width - 2 * padding, 60), high = Math.max(this.height - 2 * padding, 60);
    const zoom = Math.log2(Math.min(wide / Math.max(right - left, 1e-9), high / Math.max(bottom - top, 1e-9)) / TILE);
    this.moved((left + right) / 2, (top + bottom) / 2, Math.min(zoom, mostZoom));
    this.shown = box;  // until somebody moves the map, a change of its size keeps this in view
  }

  moved(x, y, zoom) {
    this.shown = null;
    this.zoom = Math.max(LEAST_ZOOM, Math.min(MOST_ZOOM, zoom));
    this.x = x;
    this.y = Math.max(0, Math.min(1, y));
    this.redraw();
  }

  pan(dx, dy) { this.moved(this.x - dx / this.scale, this.y - dy / this.scale, this.zoom); }

  zoomAt(px, py, by) {
    const [wx, wy] = this.toWorld(px, py);
    const zoom = Math.max(LEAST_ZOOM, Math.min(MOST_ZOOM, this.zoom + by));
    const scale = TILE * 2 ** zoom;
    this.moved(wx - (px - this.width / 2) / scale, wy - (py - this.height / 2) / scale, zoom);
  }

  zoomBy(by) { this.zoomAt(this.width / 2, this.height / 2, by); }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const pixels = event.deltaY * (event.deltaMode === 1 ? 18 : 1);
      this.zoomAt(event.offsetX, event.offsetY, Math.max(-1, Math.min(1, -pixels / 240)));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
      this.start = this.pointers.size === 1 ? [event.offsetX, event.offsetY] : null;
    });
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    const up = (event) => {
      const there = this.pointers.delete(event.pointerId);
      if (there && event.type === "pointerup" && this.start) {
        this.onClick(unproject(...this.toWorld(event.offsetX, event.offsetY)), [event.offsetX, event.offsetY]);
      }
      this.start = null;
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  drag(event) {
    if (!this.pointers.has(event.pointerId)) return;
    const before = [...this.pointers.values()].map((at) => [...at]);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    const now = [...this.pointers.values()];
    if (this.start && Math.hypot(event.offsetX - this.start[0], event.offsetY - this.start[1]) < STILL_PX) {
      this.pointers.set(event.pointerId, this.start);  // a click, so far
      return;
    }
    this.start = null;
    if (now.length === 1) {
      this.pan(now[0][0] - before[0][0], now[0][1] - before[0][1]);
    } else {
      const middle = (at) => [(at[0][0] + at[1][0]) / 2, (at[0][1] + at[1][1]) / 2];
      const apart = (at) => Math.max(1, Math.hypot(at[0][0] - at[1][0], at[0][1] - at[1][1]));
      const [from, to] = [middle(before), middle(now)];
      this.pan(to[0] - from[0], to[1] - from[1]);
      this.zoomAt(to[0], to[1], Math.log2(apart(now) / apart(before)));
    }
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 200 : 60;
    const acts = {
      ArrowLeft: () => this.pan(step, 0), ArrowRight: () => this.pan(-step, 0),
      ArrowUp: () => this.pan(0, step), ArrowDown: () => this.pan(0, -step),
      "+": () => this.zoomBy(0.5), "=": () => this.zoomBy(0.5), "-": () => this.zoomBy(-0.5),
      Home: () => this.home && this.fit(this.home), End: () => this.target && this.fit(this.target),
    };
    if (this.onKey(event.key)) event.preventDefault();
    else if (acts[event.key]) { event.preventDefault(); acts[event.key](); }
  }
}
