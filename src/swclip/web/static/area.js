// Draws an area on the map with clicks or keys, corner by corner.
import { drawArea, drawCrosshair } from "/static/layers.js";
import { project } from "/static/map_layers.js";

const CLOSE_PX = 14, MAX_CORNERS = 200;

export class AreaTool {
  constructor(map, elements, onChange) {
    Object.assign(this, { map, elements, onChange, corners: [], closed: false, drawing: false });
    const { draw, done, remove } = elements;
    draw.addEventListener("click", () => (this.drawing ? this.stop() : this.begin()));
    done.addEventListener("click", () => this.close());
    remove.addEventListener("click", () => this.clear());
    this.show();
  }

  get area() { return this.closed ? this.corners : null; }

  begin() {
    Object.assign(this, { corners: [], closed: false, drawing: true, byKeys: false });
    this.map.canvas.focus({ preventScroll: true });
    this.map.canvas.scrollIntoView({ block: "nearest" });
    this.show();
  }

  stop() {
    this.drawing = false;
    this.corners = [];
    this.show();
  }

  close() {
    if (this.corners.length < 3) return;
    Object.assign(this, { closed: true, drawing: false });
    this.show();
    this.onChange();
  }

  clear() {
    Object.assign(this, { corners: [], closed: false, drawing: false });
    this.show();
    this.onChange();
  }

  add(corner) {
    if (this.corners.length < MAX_CORNERS) this.corners.push(corner);
    this.show();
  }

  // Handles a click on the map; returns whether it belongs to the area.
  click(at, [px, py]) {
    if (!this.drawing) return false;
    this.byKeys = false;
    if (this.corners.length >= 3) {
      const [fx, fy] = this.map.toScreen(...project(...this.corners[0]));
      if (Math.hypot(px - fx, py - fy) < CLOSE_PX) { this.close(); return true; }
    }
    this.add(at);
    return true;
  }

  key(name) {
    if (!this.drawing) return false;
    this.byKeys = true;
    if (name === "Enter" || name === " ") this.add(this.map.centre);
    else if (name === "Backspace") { this.corners.pop(); this.show(); }
    else if (name === "Escape") this.stop();
    else { this.map.redraw(); return false; }
    return true;
  }

  show() {
    const { draw, done, remove, note } = this.elements;
    draw.setAttribute("aria-pressed", String(this.drawing));
    draw.textContent = this.drawing ? "Stop drawing" : this.closed ? "Draw another area" : "Draw an area";
    done.hidden = !(this.drawing && this.corners.length >= 3);
    remove.hidden = !this.closed;
    const missing = 3 - this.corners.length;
    note.hidden = !(this.drawing || this.closed);
    note.textContent = this.closed ? "Answers are restricted to this area."
      : missing > 0 ? `Click the corners on the map: at least ${missing} more. With keys: arrows move the map, Enter adds a corner.`
        : "Add more corners, or close the area.";
    this.map.canvas.classList.toggle("drawing", this.drawing);
    this.map.redraw();
  }

  layer(map, context) {
    drawArea(map, context, this.corners, this.closed);
    if (this.drawing && this.byKeys !== false) drawCrosshair(map, context);
  }
}
