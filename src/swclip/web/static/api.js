// Requests to the service. An API key is stored for the lifetime of the tab.
const KEY = "swclip-key";

export class ServiceError extends Error {
  constructor(problem) {
    super(problem.detail || problem.title || "The request failed.");
    this.status = problem.status;
    this.title = problem.title;
    this.photograph = problem.photograph;  // whether the photographs themselves cannot be used
    this.problems = problem.problems;
    this.retryAfter = problem.retryAfter;
  }
}

export function storeKey(key) {
  sessionStorage.setItem(KEY, key);
}

async function request(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = key ? { Authorization: "Bearer " + key } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError({ title: "No response", detail: "The service cannot be reached. Try again." });
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({ title: "The service failed", detail: "The service returned status " + response.status + "." }));
  throw new ServiceError({ ...problem, status: response.status, retryAfter: Number(response.headers.get("Retry-After")) || null });
}

export const gallery = async () => (await request("/v2/gallery")).json();
export const points = async () => (await request("/v2/gallery/points")).json();

export async function thumbnail(imageId) {
  const path = "/v2/gallery/photographs/" + imageId.split("/").map(encodeURIComponent).join("/");
  return URL.createObjectURL(await (await request(path)).blob());
}

export async function locate(files, options, signal) {
  const form = new FormData();
  for (const file of files) form.append("photographs", file, "photograph");
  form.append("include_posterior", "true");
  if (options.combined) form.append("combined", "true");
  if (options.matches) form.append("matches", "true");
  if (options.exif) form.append("compare_exif", "true");
  if (options.city) form.append("city", options.city);
  if (options.area) {
    const ring = [...options.area, options.area[0]].map(([lat, lon]) => [lon, lat]);
    form.append("prior", JSON.stringify({ type: "Polygon", coordinates: [ring] }));
  }
  return (await request("/v2/locate", { method: "POST", body: form, signal })).json();
}
