// The page: sends photographs to the service, and shows the answers on the map and in the panel.
import * as api from "/static/api.js";
import { AreaTool } from "/static/area.js";
import { batchesOf, locateAll } from "/static/batches.js";
import { asGeoJson, asKml, save } from "/static/download.js";
import { boxOf, drawCells, drawMarks, drawOutline, fitting, outline, pointLayer, prepareCells } from "/static/layers.js";
import { attributionNodes, drawScale, MercatorView, tileLayer, unproject } from "/static/map_layers.js";
import { showAnswer, showRegion } from "/static/panel.js";
import { Photographs } from "/static/photographs.js";
import { decode, encode } from "/static/share.js";
import { degrees, plural } from "/static/words.js";

const byId = (id) => document.getElementById(id);
const map = new MercatorView(byId("map"));
// One result per photograph: an item of the service's results, or null while it is awaited.
let gallery = null, results = [], current = null, cells = [], edges = [], pending = null, hovered = -1;
const NO_LIMITS = { max_files: 8, max_upload_bytes: Infinity, max_request_bytes: Infinity };

const area = new AreaTool(map, { draw: byId("draw"), done: byId("draw-done"), remove: byId("draw-remove"), note: byId("draw-note") }, locate);
const photographs = new Photographs({ choose: byId("choose"), strip: byId("photographs") }, (files) => {
  clear();  // an answer never stays beside other photographs
  photographs.show(files);
  byId("options").hidden = false;
  byId("combined-label").hidden = files.length < 2;
  const together = batchesOf(files, limits()).length < 2;
  byId("combined").disabled = !together;
  byId("combined").checked &&= together;
  byId("combined-limit").textContent = together ? "" : ` (at most ${plural(limits().max_files, "photograph", "photographs")})`;
  byId("drop-note").textContent = "or drop or paste others";
  byId("choose-label").textContent = "Choose others";
  byId("drop").classList.add("small");
  return locate();
}, (i) => showResult(i));

function problem(text) {
  byId("problem").textContent = text || "";
  byId("problem").hidden = !text;
}

function marks() {
  if (!current) return [];
  const places = current.answer.candidates.map((candidate, i) => ({
    lat: candidate.lat_deg, lon: candidate.lon_deg, kind: i === hovered ? "picked" : "place", text: String(i + 1),
  }));
  const exif = (current.exif || []).filter((item) => item.position)
    .map((item) => ({ lat: item.position.lat_deg, lon: item.position.lon_deg, kind: "exif" }));
  const answer = { lat: current.answer.lat_deg, lon: current.answer.lon_deg, kind: "answer" };
  const others = places.filter((_, i) => i !== hovered && current.answer.candidates[i].distance_m > 0.05).reverse();
  return [...others, ...exif, answer, ...places.filter((_, i) => i === hovered)];
}

const level = () => Number(byId("level").value);
const limits = () => gallery?.limits ?? NO_LIMITS;

function showLevel() {
  if (!current) return;
  showRegion(current, level(), gallery?.area_km2);
  edges = outline(cells, level() / 100);
  map.redraw();
}

function show(result, options) {
  current = result;
  hovered = -1;
  cells = prepareCells(result.posterior);
  showAnswer(result, { protocol: gallery?.calibration?.protocol, inAreaThreshold: gallery?.calibration?.in_area_threshold, ...options, hasThumbnails: Boolean(gallery?.thumbnails), licenceUrls: gallery?.licence_urls, oneCity: gallery?.cities.length === 1 });
  showLevel();
  byId("legend").hidden = false;
  byId("legend-exif").hidden = !(result.exif || []).some((item) => item.position);
  const box = boxOf(cells, level() / 100, result.answer);
  map.target = box && fitting(box, Math.min(90, map.width / 8), 17.5);
  if (map.target) map.fit(...map.target);
  map.canvas.setAttribute("aria-label", `Map of the answer at ${degrees(result.answer)}`);
  const { lat_deg: lat, lon_deg: lon } = result.answer;
  byId("osm").href = `https://www.openstreetmap.org/?mlat=${lat}&mlon=${lon}#map=18/${lat}/${lon}`;
  byId("save-count").textContent = entries().length > 1 ? ` of ${entries().length} answers` : "";
}

// The answers that can be saved, each once, with the names of their photographs.
function entries() {
  const answered = [...new Set(results.filter((result) => result?.answer))];
  if (current && !answered.includes(current)) return [{ name: "shared answer", result: current }];
  return answered.map((result) => ({ name: photographs.files.filter((_, i) => results[i] === result).map((file) => file.name).join(", "), result }));
}

function clear() {
  current = null;
  cells = edges = [];
  byId("answer").hidden = byId("legend").hidden = true;
  byId("answer").classList.remove("stale");
  map.canvas.setAttribute("aria-label", "Map of the gallery");
  map.redraw();
}

function showResult(i) {
  const result = results[i];
  problem(result?.problem && photographs.files.length > 1 ? `${photographs.files[i].name}: ${result.problem.detail}` : result?.problem?.detail);
  const combined = result?.photographs?.length > 1 ? result.photographs.length : 0;
  if (result?.answer) show(result, { shared: false, combined, all: combined === photographs.files.length, matches: matchesOf(result, i) });
  else clear();
}

// What the service says of the matches of the i-th photograph, and how to draw them; null where it says nothing.
function matchesOf({ matches }, i) {
  const of = matches?.length > 1 ? matches.find((item) => item.photograph === i) : matches?.[0];
  return of ? { file: photographs.files[i], candidates: of.candidates, centralSquare: gallery.matches.central_square } : null;
}

const status = (text) => { byId("status").textContent = text; };

// "2 answered, 1 failed: README.md"
function summary(files) {
  const failed = files.filter((_, i) => !results[i]?.answer).map((file) => file.name);
  if (!failed.length) return `${plural(files.length, "photograph", "photographs")} located.`;
  return files.length > 1 ? `${files.length - failed.length} answered, ${failed.length} failed: ${failed.join(", ")}` : "";
}

async function locate() {
  const { files } = photographs;
  if (!files.length) return;
  pending?.abort();
  const controller = pending = new AbortController();
  problem(null);
  status("Locating …");
  byId("answer").classList.add("stale");
  history.replaceState(null, "", location.pathname);  // removes the link of a shared answer
  const options = {
    matches: Boolean(gallery?.matches && gallery.thumbnails), combined: files.length > 1 && byId("combined").checked, exif: byId("exif").checked, area: area.area, city: byId("within-city").value,
  };
  const onResults = (sofar) => {
    results = sofar;
    photographs.mark(results);
    byId("answer").classList.remove("stale");
    if (results[photographs.picked]) showResult(photographs.picked);
  };
  try {
    onResults(await locateAll(files, options, limits(), controller.signal, {
      onBatch: (batch) => status(batch.length < files.length ? `Locating ${batch[0] + 1} to ${batch[batch.length - 1] + 1} of ${files.length} …` : "Locating …"),
      onResults,
      onWait: (seconds) => status(`The service is busy; trying again in ${seconds} s …`),
    }));
    status(summary(files));
  } catch (error) {
    if (error.name === "AbortError") return;
    results = [];
    photographs.mark(results);
    clear();
    problem(error.message);
    status("");
    if (error.status === 401) byId("key-form").hidden = false;
  }
}

async function openGallery() {
  try {
    gallery = await api.gallery();
  } catch (error) {
    if (error.status === 401) byId("key-form").hidden = false;
    else problem(error.message);
    return;
  }
  byId("key-form").hidden = true;
  const cities = gallery.cities.filter((city) => city.name).map((city) => city.name);
  const where = cities.length > 3 ? plural(cities.length, "city", "cities") : cities.join(", ");
  byId("gallery").textContent = `swclip · ${plural(gallery.candidates, "place", "places")}${where ? " in " + where : ""}`;
  byId("within-city").replaceChildren(byId("within-city").options[0], ...[...cities].sort().map((name) => new Option(name, name)));
  byId("within").hidden = cities.length < 2;
  map.home = fitting(gallery.bbox_deg);
  map.layers = [];
  if (gallery.tiles) {
    map.layers.push(tileLayer(gallery.tiles, () => map.redraw()));
    byId("attribution").replaceChildren(...attributionNodes(gallery.tiles.attribution));
    byId("attribution").hidden = false;
  }
  const points = await api.points().catch((error) => problem(error.message));
  if (points) map.layers.push(pointLayer(points));
  map.layers.push((m, c) => area.layer(m, c), (m, c) => drawCells(m, c, cells), (m, c) => drawOutline(m, c, edges),
    (m, c) => drawMarks(m, c, marks()), drawScale);
  if (!current) map.fit(...map.home);
  map.redraw();
}

function openShared() {
  const match = location.hash.match(/^#a=([\w-]+)$/);
  if (!match) return;
  try {
    const shared = decode(match[1]);
    byId("level").value = String(Math.min(95, Math.max(50, shared.level)));
    show(shared.result, { shared: true, combined: 0, protocol: shared.protocol, inAreaThreshold: shared.inAreaThreshold });
    if (gallery && !gallery.model.startsWith(shared.model)) problem("This link shows an answer of another model than the one of this service.");
  } catch {
    problem("This link cannot be read; it may be truncated.");
  }
}

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    window.prompt("Copy this:", text);  // browsers allow clipboard access on secure pages only
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}

map.onClick = (px, py) => area.click(unproject(...map.toPlane(px, py)), [px, py]);
map.onKey = (name) => area.key(name);
byId("zoom-in").addEventListener("click", () => map.zoom(1.6));
byId("zoom-out").addEventListener("click", () => map.zoom(1 / 1.6));
byId("fit").addEventListener("click", () => map.home && map.fit(...map.home));
byId("level").addEventListener("input", showLevel);
byId("combined").addEventListener("change", locate);
byId("exif").addEventListener("change", locate);
byId("within-city").addEventListener("change", locate);
byId("copy").addEventListener("click", (event) => copy(degrees(current.answer), event.target));
byId("save-geojson").addEventListener("click", () => save(asGeoJson(entries(), level()), "application/geo+json", "answers.geojson"));
byId("save-kml").addEventListener("click", () => save(asKml(entries(), level()), "application/vnd.google-earth.kml+xml", "answers.kml"));
byId("share").addEventListener("click", (event) => {
  history.replaceState(null, "", "#a=" + encode(current, gallery.model, level(), gallery.calibration?.protocol, gallery.calibration?.in_area_threshold));
  copy(location.href, event.target);
});
byId("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  api.storeKey(byId("key").value);
  problem(null);
  await openGallery();
  openShared();
  if (!gallery) problem("The service does not accept this key.");
  else if (photographs.files.length) await locate();
});
const places = byId("places");
const hover = (event) => {
  const button = event.target.closest?.("[data-place]");
  hovered = button ? Number(button.dataset.place) : -1;
  map.redraw();
};
for (const kind of ["pointerover", "focusin"]) places.addEventListener(kind, hover);
for (const kind of ["pointerleave", "focusout"]) places.addEventListener(kind, () => { hovered = -1; map.redraw(); });
places.addEventListener("click", (event) => {
  const button = event.target.closest("[data-place]");
  if (!button) return;
  const { lat_deg: lat, lon_deg: lon } = current.answer.candidates[Number(button.dataset.place)];
  map.fit(...fitting([lat - 6e-4, lon - 9e-4, lat + 6e-4, lon + 9e-4]));
});
window.addEventListener("hashchange", openShared);

await openGallery();
openShared();
document.documentElement.dataset.ready = "yes";
