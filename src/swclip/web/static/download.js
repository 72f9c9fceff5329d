// Answers as files for other maps: GeoJSON (RFC 7946) and KML 2.2, with the region of the selected coverage level.
import { outline, prepareCells } from "/static/layers.js";
import { unproject } from "/static/map_layers.js";

const CONDITION = "valid only if the photograph was taken in the gallery's area";
const KEY_DIGITS = 4e7;  // of a corner in world coordinates: about a metre, as in the outline of the map
const rounded = (degrees) => Math.round(degrees * 1e7) / 1e7;

// The polygons of the region of a coverage level (0 to 1), each a list of rings of [lon, lat], the first one around the others.
export function regionPolygons(posterior, level) {
  const cells = prepareCells(posterior), edges = outline(cells, level), key = ([x, y]) => Math.round(x * KEY_DIGITS) + " " + Math.round(y * KEY_DIGITS);
  const next = new Map(edges.map(([from, to]) => [key(from), [from, to]]));
  if (next.size < edges.length) return cellPolygons(cells, level);  // rounded corners of a shared answer do not meet
  const rings = [];
  while (next.size) {
    const ring = [], [start] = next.keys();
    for (let at = start; next.has(at);) {
      const [from, to] = next.get(at);
      next.delete(at);
      ring.push(from);
      at = key(to);
      if (at === start) break;
      if (!next.has(at)) return cellPolygons(cells, level);
    }
    rings.push(ring);
  }
  // World coordinates have y to the south, so that a ring with a positive area is clockwise on the Earth: a hole.
  const outer = rings.filter((ring) => areaOf(ring) < 0).map((ring) => [ring]);
  for (const hole of rings.filter((ring) => areaOf(ring) >= 0)) {
    const around = outer.filter(([ring]) => contains(ring, hole[0])).sort((a, b) => areaOf(b[0]) - areaOf(a[0]));
    if (around.length) around[0].push(hole);  // the smallest one around it
  }
  return outer.map((polygon) => polygon.map(closed));
}

const cellPolygons = (cells, level) => cells.filter((cell) => cell.from !== null && cell.from <= level + 1e-9).map((cell) => [closed(cell.world)]);

const areaOf = (ring) => ring.reduce((sum, [x, y], i) => { const [u, v] = ring[(i + 1) % ring.length]; return sum + x * v - u * y; }, 0) / 2;

function contains(ring, [x, y]) {
  let inside = false;
  ring.forEach(([ax, ay], i) => {
    const [bx, by] = ring[(i + 1) % ring.length];
    if ((ay > y) !== (by > y) && x < ax + (bx - ax) * (y - ay) / (by - ay)) inside = !inside;
  });
  return inside;
}

function closed(ring) {
  const points = ring.map(([x, y]) => unproject(x, y)).map(([lat, lon]) => [rounded(lon), rounded(lat)]);
  return [...points, points[0]];
}

const regionOf = ({ posterior }, level) => posterior.regions.find((item) => Math.round(item.level * 100) === level);

// Entries are { name, result }; the level is in per cent.
export function asGeoJson(entries, level) {
  const feature = (type, coordinates, properties) => ({ type: "Feature", geometry: coordinates && { type, coordinates }, properties });
  const features = entries.flatMap(({ name, result }) => {
    const { answer } = result, region = regionOf(result, level);
    return [
      feature("Point", [answer.lon_deg, answer.lat_deg], {
        kind: "answer", photograph: name, city: answer.city, city_probability: answer.city_probability,
        in_area_probability: answer.in_area_probability ?? null, probability_within_50m: answer.probability_within_50m, condition: CONDITION,
      }),
      ...answer.candidates.map((candidate, i) => feature("Point", [candidate.lon_deg, candidate.lat_deg], {
        kind: "candidate", photograph: name, rank: i + 1, probability: candidate.probability, distance_m: candidate.distance_m,
      })),
      feature("MultiPolygon", region.area_km2 === null ? null : regionPolygons(result.posterior, level / 100), {
        kind: "region", photograph: name, nominal_coverage: level / 100, area_km2: region.area_km2, calibrated: answer.region.calibrated, cannot_tell: region.cannot_tell,
      }),
    ];
  });
  return JSON.stringify({ type: "FeatureCollection", features }, null, 1) + "\n";
}

const escaped = (text) => String(text).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, "\ufffd").replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

export function asKml(entries, level) {
  const ringOf = (ring) => `<LinearRing><coordinates>${ring.map((point) => point.join(",")).join(" ")}</coordinates></LinearRing>`;
  const polygonOf = ([around, ...holes]) => `<Polygon><outerBoundaryIs>${ringOf(around)}</outerBoundaryIs>${holes.map((hole) => `<innerBoundaryIs>${ringOf(hole)}</innerBoundaryIs>`).join("")}</Polygon>`;
  const placemarks = entries.map(({ name, result }) => {
    const { answer } = result, region = regionOf(result, level), near = Math.round(100 * answer.probability_within_50m);
    const point = `<Placemark><name>${escaped(name)}</name><description>${near} % probability within 50 m of this point, ${CONDITION}</description>`
      + `<Point><coordinates>${answer.lon_deg},${answer.lat_deg}</coordinates></Point></Placemark>`;
    const polygons = region.area_km2 === null ? [] : regionPolygons(result.posterior, level / 100);
    return point + (polygons.length ? `\n<Placemark><name>${escaped(name)}: region with ${level} % nominal coverage</name><styleUrl>#region</styleUrl><MultiGeometry>${polygons.map(polygonOf).join("")}</MultiGeometry></Placemark>` : "");
  });
  return `<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2"><Document><name>answers</name>`
    + `<Style id="region"><LineStyle><color>ffad5c0b</color><width>2</width></LineStyle><PolyStyle><color>33ad5c0b</color></PolyStyle></Style>\n${placemarks.join("\n")}\n</Document></kml>\n`;
}

export function save(content, type, name) {
  const link = document.createElement("a");
  Object.assign(link, { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
