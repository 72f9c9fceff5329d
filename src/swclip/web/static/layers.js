// The layers of the map, from bottom to top: tiles, candidates, cells of the posterior, region outline, markers.
import { colour, drawDot, drawSquares, MercatorView, project, projectBox, tracePolygon, unproject } from "/static/map_layers.js";

const RAMP_STEPS = 4;

export function pointLayer(geojson) {
  const world = geojson.features.flatMap((feature) => feature.geometry.coordinates.map(([lon, lat]) => project(lat, lon)));
  return (map, context) => drawSquares(map, context, world, Math.max(1.4, Math.min(5, (map.tileZoom - 9) * 0.55)), colour("place"));
}

// Cells as polygons in world coordinates, with the strength of their colour.
export function prepareCells(posterior) {
  const highest = Math.max(1e-9, ...posterior.cells.map((cell) => cell.probability));
  return posterior.cells.map((cell) => ({
    world: cell.boundary_deg.map(([lat, lon]) => project(lat, lon)),
    strength: Math.sqrt(cell.probability / highest),
    from: cell.from_level,
  }));
}

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function cellColour(strength) {
  const at = Math.min(0.9999, strength) * (RAMP_STEPS - 1), low = Math.floor(at), part = at - low;
  const from = channels(colour("ramp-" + low)), to = channels(colour("ramp-" + (low + 1)));
  const [red, green, blue] = from.map((value, i) => Math.round(value + (to[i] - value) * part));
  return `rgba(${red}, ${green}, ${blue}, ${(0.3 + 0.5 * strength).toFixed(3)})`;
}

export function drawCells(map, context, cells) {
  for (const cell of [...cells].reverse()) {
    if (cell.strength < 0.02) continue;
    const [px, py] = map.toScreen(...cell.world[0]);
    if (px < -300 || py < -300 || px > map.width + 300 || py > map.height + 300) continue;
    tracePolygon(map, context, cell.world);
    context.fillStyle = cellColour(cell.strength);
    context.fill();
  }
}

// The outline of a region: the edges that belong to only one of its cells.
export function outline(cells, level) {
  const edges = new Map();
  const name = ([wx, wy]) => Math.round(wx * 4e7) + " " + Math.round(wy * 4e7);  // about a metre
  for (const cell of cells) {
    if (cell.from === null || cell.from > level + 1e-9) continue;
    cell.world.forEach((from, i) => {
      const to = cell.world[(i + 1) % cell.world.length];
      const key = [name(from), name(to)].sort().join("|");
      if (edges.has(key)) edges.delete(key); else edges.set(key, [from, to]);
    });
  }
  return [...edges.values()];
}

export function drawOutline(map, context, edges) {
  for (const [style, width] of [[colour("halo"), 5], [colour("accent"), 2.5]]) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.lineCap = "round";
    context.beginPath();
    for (const [from, to] of edges) {
      context.moveTo(...map.toScreen(...from));
      context.lineTo(...map.toScreen(...to));
    }
    context.stroke();
  }
}

export function drawMarks(map, context, marks) {
  for (const { lat, lon, kind, text } of marks) {
    const [px, py] = map.toScreen(...project(lat, lon));
    context.beginPath();
    context.lineWidth = 2.5;
    context.strokeStyle = colour("halo");
    if (kind === "exif") {
      context.fillStyle = colour("exif");
      context.moveTo(px, py - 10); context.lineTo(px + 10, py); context.lineTo(px, py + 10); context.lineTo(px - 10, py);
      context.closePath();
    } else {
      const radius = kind === "answer" ? 9 : 11;
      context.fillStyle = colour(kind === "answer" ? "ink" : kind === "picked" ? "accent" : "paper");
      if (kind === "place") context.strokeStyle = colour("soft");
      context.lineWidth = kind === "place" ? 1.5 : 2.5;
      context.arc(px, py, radius, 0, 2 * Math.PI);
    }
    context.fill();
    context.stroke();
    if (text) {
      context.fillStyle = colour(kind === "picked" ? "on-accent" : "ink");
      context.font = "600 13px system-ui, sans-serif";
      context.textAlign = "center";
      context.textBaseline = "middle";
      context.fillText(text, px, py + 0.5);
    }
  }
}

export function drawArea(map, context, corners, closed) {
  if (!corners.length) return;
  context.beginPath();
  corners.forEach(([lat, lon], i) => {
    const at = map.toScreen(...project(lat, lon));
    if (i) context.lineTo(...at); else context.moveTo(...at);
  });
  if (closed) { context.closePath(); context.globalAlpha = 0.08; context.fillStyle = colour("accent"); context.fill(); context.globalAlpha = 1; }
  context.setLineDash([7, 5]);
  context.lineWidth = 2;
  context.strokeStyle = colour("soft");
  context.stroke();
  context.setLineDash([]);
  for (const corner of corners) drawDot(context, ...map.toScreen(...project(...corner)), closed ? 3 : 5, colour("halo"), colour("soft"), 2);
}

export function drawCrosshair(map, context) {
  const [px, py] = [map.width / 2, map.height / 2];
  context.strokeStyle = colour("ink");
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(px - 12, py); context.lineTo(px + 12, py);
  context.moveTo(px, py - 12); context.lineTo(px, py + 12);
  context.stroke();
}

// The arguments of `fit` that show a bounding box (south, west, north, east).
export const fitting = (box, padding = 46, maxZoom = 18) => [projectBox(box), padding, MercatorView.scaleOf(maxZoom)];

const NEAR_DEG = 0.05; // of latitude: 5.6 km

// Bounding box (south, west, north, east) of the cells of a region, or of the most probable cells. Around a point only of
// those near it: a small part of a region in another city would leave both as dots.
export function boxOf(cells, level, point) {
  const inside = cells.filter((cell) => cell.from !== null && cell.from <= level + 1e-9);
  let corners = (inside.length ? inside : cells.slice(0, 200)).flatMap((cell) => cell.world.map(([x, y]) => unproject(x, y)));
  if (point) {
    const lonDeg = NEAR_DEG / Math.max(0.01, Math.cos((point.lat_deg * Math.PI) / 180));
    corners = corners.filter(([lat, lon]) => Math.abs(lat - point.lat_deg) < NEAR_DEG && Math.abs(lon - point.lon_deg) < lonDeg);
    corners.push([point.lat_deg, point.lon_deg]);
  }
  if (!corners.length) return null;
  const lats = corners.map((c) => c[0]), lons = corners.map((c) => c[1]);
  const lowest = (values) => values.reduce((a, b) => Math.min(a, b)), highest = (values) => values.reduce((a, b) => Math.max(a, b));
  return [lowest(lats), lowest(lons), highest(lats), highest(lons)];
}
