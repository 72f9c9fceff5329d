// What the page asks of the service. A key, where one is needed, lives as long as the tab.
const KEY = "swclip-key";

export class Refused extends Error {
  constructor(problem) {
    super(problem.detail || problem.title || "The service refused.");
    this.status = problem.status;
    this.title = problem.title;
  }
}

export function keepKey(key) {
  sessionStorage.setItem(KEY, key);
}

async function ask(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = key ? { Authorization: "Bearer " + key } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused({ title: "No answer", detail: "The service cannot be reached. Try again." });
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({ title: "The service failed", detail: "It answered with status " + response.status + "." }));
  throw new Refused({ ...problem, status: response.status });
}

export const gallery = async () => (await ask("/v2/gallery")).json();
export const points = async () => (await ask("/v2/gallery/points")).json();

export async function thumbnail(imageId) {
  const path = "/v2/gallery/photographs/" + imageId.split("/").map(encodeURIComponent).join("/");
  return URL.createObjectURL(await (await ask(path)).blob());
}

export async function locate(files, options, signal) {
  const form = new FormData();
  for (const file of files) form.append("photographs", file, "photograph");
  form.append("include_posterior", "true");
  if (options.combined) form.append("combined", "true");
  if (options.exif) form.append("compare_exif", "true");
  if (options.city) form.append("city", options.city);
  if (options.area) {
    const ring = [...options.area, options.area[0]].map(([lat, lon]) => [lon, lat]);
    form.append("prior", JSON.stringify({ type: "Polygon", coordinates: [ring] }));
  }
  return (await ask("/v2/locate", { method: "POST", body: form, signal })).json();
}
