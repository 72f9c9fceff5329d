// Web Mercator: degrees to a square world of side 1, y downwards, and back.
const LIMIT = 85.0511287798066;

export function project(lat, lon) {
  const bounded = Math.max(-LIMIT, Math.min(LIMIT, lat)) * Math.PI / 180;
  return [lon / 360 + 0.5, 0.5 - Math.log(Math.tan(Math.PI / 4 + bounded / 2)) / (2 * Math.PI)];
}

export function unproject(x, y) {
  const lat = (2 * Math.atan(Math.exp((0.5 - y) * 2 * Math.PI)) - Math.PI / 2) * 180 / Math.PI;
  return [lat, ((x - 0.5) * 360 + 540) % 360 - 180];
}

// Metres on the ground for one unit of the world, at a latitude.
export function metresAcross(lat) {
  return 40075016.686 * Math.cos(lat * Math.PI / 180);
}
