// The answer as text, beside the map.
import { thumbnail } from "/static/api.js";
import { matchNodes } from "/static/matches.js";
import { area, degrees, metres, percent, plural, similarity } from "/static/words.js";

const byId = (id) => document.getElementById(id);

function setText(id, text) {
  byId(id).textContent = text || "";
  byId(id).hidden = !text;
}

const PROTOCOLS = { "known-places": "known places", "new-streets": "new streets", "new-city": "new cities" };

// Which photographs the certainty of an answer was calibrated on, as in "known places of Cambridge".
function calibratedOn(region, protocol) {
  const kind = PROTOCOLS[protocol] || "validation photographs";
  const here = !region.area || /^8[0-9a-f]{14}$/.test(region.area) ? "this area" : region.area;
  return kind + ({ area: ` of ${here}`, "small areas": " of the areas with few photographs, together", "all areas": " of all areas of the gallery, together" }[region.calibrated_on]
    || " of the gallery’s area");
}

export function showAnswer({ answer, exif }, { shared, hasThumbnails, licenceUrls, combined, all, oneCity, protocol, inAreaThreshold, matches }) {
  byId("answer").hidden = false;
  byId("answer-title").textContent = shared ? "A shared answer" : combined
    ? `Answer to ${all ? "all" : combined} photographs together` : "Answer";
  const inArea = answer.in_area_probability ?? null, elsewhere = inArea !== null && inArea < (inAreaThreshold ?? 0);
  setText("elsewhere", elsewhere && `Probably not taken in the gallery’s area (probability that it was: ${percent(inArea)}). The model abstains: what follows is true only if it was taken there after all.`);
  setText("in-area", inArea !== null && !elsewhere && `Taken in the gallery’s area: probability ${percent(inArea)}. If so:`);
  byId("point").textContent = degrees(answer);
  setText("city", answer.city && (oneCity ? answer.city : `${answer.city} (probability ${percent(answer.city_probability)})`));
  setText("near", `${percent(answer.probability_within_50m)} probability within 50 m of this point${inArea === null ? ", valid only if the photograph was taken in the gallery’s area" : ""}.`);
  setText("exif-distance", exif && exif.map((item) => (item.position
    ? `The EXIF position of the photograph is ${metres(item.distance_m)} from this point.`
    : "The photograph has no usable EXIF position.")).join(" "));
  setText("calibration", answer.region.calibrated
    ? `Calibrated on ${calibratedOn(answer.region, protocol)}: there, regions contained the true position this often.`
    : "Not calibrated: the region contains this share of the model’s probability, which may be overconfident.");
  showPlaces(answer, hasThumbnails, licenceUrls, matches);
}

// The text that changes with the slider.
export function showRegion({ posterior }, level, totalKm2) {
  const region = posterior.regions.find((item) => Math.round(item.level * 100) === level);
  byId("level-value").textContent = level + " %";
  byId("level").setAttribute("aria-valuetext", level + " percent");
  const all = region.area_km2 === null;
  byId("region-area").textContent = all ? "The whole area of the gallery and beyond."
    : `${area(region.area_km2)}${totalKm2 ? ` of ${area(totalKm2)}` : ""}.`;
  setText("abstains", region.cannot_tell && `The model abstains: ${all
    ? `no bounded region has a nominal coverage of ${level} % with this gallery.`
    : `a region with a nominal coverage of ${level} % is as large as one that ignores the photograph.`
  } The point is only the best of many candidates.`);
  byId("share-note").dataset.cut = String(posterior.cut);
}

async function picture(imageId, alt) {
  const image = document.createElement("img");
  image.alt = alt;
  try {
    image.src = await thumbnail(imageId);
    return image;
  } catch {
    const placeholder = document.createElement("span");
    placeholder.className = "none";
    placeholder.textContent = "no photograph";
    return placeholder;
  }
}

// Only web addresses become links: a manifest may hold others.
function credited(text, url) {
  if (!/^https?:\/\//.test(url || "")) return document.createTextNode(text);
  const link = document.createElement("a");
  link.href = url;
  link.rel = "noreferrer";
  link.target = "_blank";
  link.textContent = text;
  return link;
}

// "Photograph: Ada Byron, CC-BY-SA-4.0", below a photograph of the gallery; null where nothing is stated.
function credit(candidate, licenceUrls) {
  const [author, licence, source] = [candidate.image_authors?.[0], candidate.image_licences?.[0], candidate.image_source_urls?.[0]];
  if (!author && !licence && !source) return null;
  const line = document.createElement("p");
  line.className = "credit";
  line.append("Photograph: ", credited(author || (source ? "source" : "author not stated"), source), ", ",
    licence ? credited(licence, licenceUrls?.[licence]) : "licence not stated");
  return line;
}

function showPlaces(answer, hasThumbnails, licenceUrls, matches) {
  const list = byId("places");
  for (const image of list.querySelectorAll("img")) URL.revokeObjectURL(image.src);
  for (const figure of list.querySelectorAll("figure")) figure.release();
  list.replaceChildren(...answer.candidates.map((candidate, i) => {
    const item = document.createElement("li"), button = document.createElement("button");
    const share = document.createElement("span"), where = document.createElement("span");
    const away = candidate.distance_m < 0.05 ? "at the point" : metres(candidate.distance_m) + " away";
    const count = candidate.image_ids.length, cosine = candidate.image_similarities?.[0];
    const evidence = count && plural(count, "photograph", "photographs") + (cosine === undefined ? ""
      : count > 1 ? `, the most similar ${similarity(cosine)}` : `, similarity ${similarity(cosine)}`);
    share.className = "share";
    share.textContent = `${i + 1}. ${percent(candidate.probability)}`;
    where.className = "where";
    where.textContent = [candidate.city, away, evidence || null].filter(Boolean).join(" · ");
    button.type = "button";
    button.dataset.place = String(i);
    button.append(share, where);
    if (hasThumbnails && count) {
      const placeholder = document.createElement("span");
      placeholder.className = "none";
      button.prepend(placeholder);
      picture(candidate.image_ids[0], `Most similar photograph of place ${i + 1} in the gallery`).then((image) => placeholder.replaceWith(image));
    } else button.className = "bare";
    item.append(button);
    const shown = hasThumbnails && count ? credit(candidate, licenceUrls) : null;
    if (shown) item.append(shown);
    const matching = matches?.candidates.find((of) => of.candidate === i);
    if (matching) item.append(...matchNodes(matches.file, matching, matches.centralSquare, i + 1));
    return item;
  }));
}
