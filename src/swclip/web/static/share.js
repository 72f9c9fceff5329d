// An answer as a link: the data of the map, rounded and packed into the fragment of the URL, which is not sent to servers.
// Neighbouring hexagons have nearly the same shape, so a cell is encoded as the index of a shape and its centre.
const VERSION = 1, MAX_CELLS = 350, SAME_SHAPE = 8, UNIT = 1e6;
const SCOPES = ["area", "small areas", "all areas"];
const MAX = { cells: 2000, shapes: 500, corners: 12, places: 50, levels: 60, text: 200 };

class Writer {
  constructor() { this.bytes = []; }
  number(value) {  // zigzag varint of seven bits; no shifts, since they are limited to 32 bits
    let rest = value < 0 ? -2 * value - 1 : 2 * value;
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.bytes.push((rest % 128) + 128);
    this.bytes.push(rest);
  }
  text(value) {
    const bytes = new TextEncoder().encode(value || "");
    this.number(bytes.length);
    this.bytes.push(...bytes);
  }
}

class Reader {
  constructor(bytes) { this.bytes = bytes; this.at = 0; }
  number() {
    let rest = 0, factor = 1, byte;
    do {
      if (this.at >= this.bytes.length || factor > 2 ** 49) throw new Error("truncated");
      byte = this.bytes[this.at++];
      rest += (byte % 128) * factor;
      factor *= 128;
    } while (byte >= 128);
    return rest % 2 ? -(rest + 1) / 2 : rest / 2;
  }
  count(max) {
    const value = this.number();
    if (value < 0 || value > max) throw new Error("out of range");
    return value;
  }
  text() {
    const length = this.count(MAX.text);
    if (this.at + length > this.bytes.length) throw new Error("truncated");
    this.at += length;
    return new TextDecoder().decode(this.bytes.subarray(this.at - length, this.at));
  }
  degrees(limit) {
    const value = this.number() / UNIT;
    if (Math.abs(value) > limit) throw new Error("not on the Earth");
    return value;
  }
}

const micro = (degrees) => Math.round(degrees * UNIT);

function centreOf(boundary) {
  return [0, 1].map((axis) => Math.round(boundary.reduce((sum, corner) => sum + micro(corner[axis]), 0) / boundary.length));
}

export function encode({ answer, posterior }, model, level, protocol, inAreaThreshold) {
  const out = new Writer();
  out.number(VERSION);
  out.text(model.slice(0, 8));
  out.number(level);
  out.number(micro(answer.lat_deg)); out.number(micro(answer.lon_deg));
  out.number(Math.round(answer.probability_within_50m * 1000));
  out.text(answer.city);
  out.number(answer.city_probability === null ? -1 : Math.round(answer.city_probability * 1000));
  out.number(answer.region.calibrated ? 1 : 0);
  out.number(posterior.regions.length);
  for (const region of posterior.regions) {
    out.number(Math.round(region.level * 100));
    out.number(region.area_km2 === null ? -1 : Math.round(region.area_km2 * 1e6));
    out.number(region.cannot_tell ? 1 : 0);
  }
  out.number(answer.candidates.length);
  for (const candidate of answer.candidates) {
    out.number(micro(candidate.lat_deg)); out.number(micro(candidate.lon_deg));
    out.number(Math.round(candidate.probability * 1000)); out.number(Math.round(candidate.distance_m));
  }
  const shapes = [], cells = [];
  for (const cell of posterior.cells.slice(0, MAX_CELLS)) {
    const centre = centreOf(cell.boundary_deg);
    const shape = cell.boundary_deg.map((corner) => corner.map((value, axis) => micro(value) - centre[axis]));
    let index = shapes.findIndex((other) => other.length === shape.length
      && other.every((corner, i) => Math.abs(corner[0] - shape[i][0]) <= SAME_SHAPE && Math.abs(corner[1] - shape[i][1]) <= SAME_SHAPE));
    if (index < 0) index = shapes.push(shape) - 1;
    cells.push([centre, index, cell]);
  }
  out.number(shapes.length);
  for (const shape of shapes) {
    out.number(shape.length);
    for (const corner of shape) for (const value of corner) out.number(value);
  }
  out.number(cells.length);
  let [lat, lon] = [micro(answer.lat_deg), micro(answer.lon_deg)];
  for (const [centre, index, cell] of cells) {
    out.number(centre[0] - lat); out.number(centre[1] - lon);
    [lat, lon] = centre;
    out.number(index);
    out.number(Math.round(-8 * Math.log2(Math.max(cell.probability, 1e-9))));
    out.number(cell.from_level === null ? -1 : Math.round(cell.from_level * 100));
  }
  // What the certainty was calibrated on, which earlier links do not have.
  out.text(answer.region.area);
  out.number(SCOPES.indexOf(answer.region.calibrated_on));
  out.text(protocol);
  for (const share of [answer.in_area_probability, inAreaThreshold]) out.number(share === null || share === undefined ? -1 : Math.round(share * 1000));
  return btoa(String.fromCharCode(...out.bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

// The inverse of `encode`; throws on truncated or invalid links.
export function decode(text) {
  const reader = new Reader(Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0)));
  if (reader.number() !== VERSION) throw new Error("unknown version");
  const model = reader.text(), level = reader.count(100);
  const point = { lat_deg: reader.degrees(90), lon_deg: reader.degrees(180) };
  const near = reader.count(1000) / 1000, city = reader.text() || null, cityShare = reader.number();
  const calibrated = reader.count(1) === 1;
  const regions = Array.from({ length: reader.count(MAX.levels) }, () => {
    const at = reader.count(100), square = reader.number();
    return { level: at / 100, area_km2: square < 0 ? null : square / 1e6, cannot_tell: reader.count(1) === 1 };
  });
  const candidates = Array.from({ length: reader.count(MAX.places) }, () => ({
    lat_deg: reader.degrees(90), lon_deg: reader.degrees(180), probability: reader.count(1000) / 1000,
    distance_m: reader.count(3e7), city: null, image_ids: [],
  }));
  const shapes = Array.from({ length: reader.count(MAX.shapes) }, () =>
    Array.from({ length: reader.count(MAX.corners) }, () => [reader.number(), reader.number()]));
  let [lat, lon] = [micro(point.lat_deg), micro(point.lon_deg)];
  const cells = Array.from({ length: reader.count(MAX.cells) }, () => {
    lat += reader.number(); lon += reader.number();
    const shape = shapes[reader.number()];
    if (!shape || shape.length < 3) throw new Error("out of range");
    const probability = 2 ** (-reader.count(400) / 8), from = reader.number();
    return {
      boundary_deg: shape.map((corner) => [(lat + corner[0]) / UNIT, (lon + corner[1]) / UNIT]),
      probability, from_level: from < 0 ? null : from / 100,
    };
  });
  const more = reader.at < reader.bytes.length;
  const area = more ? reader.text() : null, scope = more ? SCOPES[reader.number()] : null, protocol = more ? reader.text() : null;
  const [inArea, inAreaThreshold] = [0, 1].map(() => (reader.at < reader.bytes.length ? reader.number() : -1)).map((share) => (share < 0 ? null : share / 1000));
  return {
    model, level, protocol, inAreaThreshold,
    result: {
      answer: {
        ...point, in_area_probability: inArea, probability_within_50m: near, city, city_probability: cityShare < 0 ? null : cityShare / 1000,
        region: { calibrated, area, calibrated_on: scope }, candidates,
      },
      posterior: { cells, regions, cut: false }, exif: null,
    },
  };
}
