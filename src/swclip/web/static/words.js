// Numbers formatted for display.
export function percent(share) {
  const value = share * 100;
  if (value > 0 && value < 1) return "under 1 %";
  if (value > 99 && value < 100) return "over 99 %";
  return Math.round(value) + " %";
}

export function metres(value) {
  if (value < 9.95) return value.toFixed(1) + " m";
  if (value < 9999.5) return Math.round(value).toLocaleString("en-GB") + " m";
  const km = value / 1000;
  return (km < 99.95 ? km.toFixed(1) : Math.round(km).toLocaleString("en-GB")) + " km";
}

export function area(km2) {
  if (km2 < 0.01) return Math.round(km2 * 1e6).toLocaleString("en-GB") + " m²";
  return (km2 < 0.1 ? km2.toFixed(3) : km2 < 10 ? km2.toFixed(2) : Math.round(km2).toLocaleString("en-GB")) + " km²";
}

export const degrees = (point) => point.lat_deg.toFixed(5) + ", " + point.lon_deg.toFixed(5);

export const plural = (count, one, many) => count.toLocaleString("en-GB") + " " + (count === 1 ? one : many);

export const similarity = (cosine) => cosine.toFixed(2).replace("-", "−");
