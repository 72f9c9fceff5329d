// The answer in words, beside the map.
import { thumbnail } from "/static/api.js";
import { area, degrees, metres, percent, plural, similarity } from "/static/words.js";

const byId = (id) => document.getElementById(id);

function say(id, text) {
  byId(id).textContent = text || "";
  byId(id).hidden = !text;
}

export function showAnswer({ answer, exif }, { shared, hasThumbnails, combined, all, oneCity }) {
  byId("answer").hidden = false;
  byId("answer-title").textContent = shared ? "A shared answer" : combined
    ? `Answer to ${all ? "all" : combined} photographs together` : "Answer";
  byId("point").textContent = degrees(answer);
  say("city", answer.city && (oneCity ? answer.city : `${answer.city}, with ${percent(answer.city_probability)} of the probability`));
  say("near", `${percent(answer.probability_within_50m)} of the probability lies within 50 m of this point.`);
  say("exif-words", exif && exif.map((one) => (one.position
    ? `The photograph’s own EXIF position is ${metres(one.distance_m)} from this point.`
    : "The photograph has no EXIF position that can be used.")).join(" "));
  say("promise", answer.region.calibrated
    ? "Calibrated: among validation photographs of this gallery’s area, the region held the place as often as it says."
    : "Not calibrated: it holds this share of the model’s probability, which may be too sure of itself.");
  showPlaces(answer, hasThumbnails);
}

// The words that change with the slider.
export function showRegion({ posterior }, level, totalKm2) {
  const region = posterior.regions.find((one) => Math.round(one.level * 100) === level);
  byId("level-words").textContent = level + " %";
  byId("level").setAttribute("aria-valuetext", level + " percent");
  const all = region.area_km2 === null;
  byId("region-words").textContent = all ? "All of the gallery’s ground, and the ground beside it."
    : `${area(region.area_km2)}${totalKm2 ? ` of ${area(totalKm2)}` : ""}.`;
  say("cannot-tell", region.cannot_tell && `Cannot tell. ${all
    ? `No region promises ${level} % with this gallery.`
    : `The region that holds the place with ${level} % probability is as large as a blind guess would need.`
  } The point is only the best of many.`);
  byId("share-words").dataset.cut = String(posterior.cut);
}

async function picture(imageId, alt) {
  const image = document.createElement("img");
  image.alt = alt;
  try {
    image.src = await thumbnail(imageId);
    return image;
  } catch {
    const none = document.createElement("span");
    none.className = "none";
    none.textContent = "no photograph";
    return none;
  }
}

function showPlaces(answer, hasThumbnails) {
  const list = byId("places");
  for (const image of list.querySelectorAll("img")) URL.revokeObjectURL(image.src);
  list.replaceChildren(...answer.candidates.map((one, i) => {
    const item = document.createElement("li"), button = document.createElement("button");
    const share = document.createElement("span"), where = document.createElement("span");
    const away = one.distance_m < 0.05 ? "at the point" : metres(one.distance_m) + " away";
    const count = one.image_ids.length, alike = one.image_similarities?.[0];
    const shown = count && plural(count, "photograph", "photographs") + (alike === undefined ? ""
      : count > 1 ? `, the most similar ${similarity(alike)}` : `, similarity ${similarity(alike)}`);
    share.className = "share";
    share.textContent = `${i + 1}. ${percent(one.probability)}`;
    where.className = "where";
    where.textContent = [one.city, away, shown || null].filter(Boolean).join(" · ");
    button.type = "button";
    button.dataset.place = String(i);
    button.append(share, where);
    if (hasThumbnails && count) {
      const hole = document.createElement("span");
      hole.className = "none";
      button.prepend(hole);
      picture(one.image_ids[0], `Most similar photograph of place ${i + 1} in the gallery`).then((found) => hole.replaceWith(found));
    } else button.className = "bare";
    item.append(button);
    return item;
  }));
}
