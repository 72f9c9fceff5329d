// Details of one query: photograph, error, best candidates, posterior.

const STEPS = 1000; // probabilities are stored in thousandths
const STRIDE = { top: 3, posterior: 2 };

const rowsOf = (list, stride) => Array.from({ length: list.length / stride }, (_, i) => list.slice(i * stride, (i + 1) * stride));

// The map data of query i, in the format that QueryMap draws.
function detailOf(view, i) {
  const top = view.top ? rowsOf(view.top[i], STRIDE.top).map(([place, share, off]) =>
    [view.places.x[place], view.places.y[place], share / STEPS, off, view.places.photo ? view.places.photo[place] : -1]) : [];
  const list = view.posterior ? rowsOf(view.posterior[i], STRIDE.posterior) : [];
  const region = view.region && view.region.cells[i] !== null ? view.region.cells[i] : 0;
  return { top, list, region, cells: list.length ? view.cells : null };
}

// Extent of query i: true position, answer, and the cells of the posterior near either.
function extentOf(view, answers, i, detail) {
  const ends = [[view.queries.x[i], view.queries.y[i]], [answers.x[i], answers.y[i]]];
  const reach = Math.max(400, 0.5 * answers.error[i]);
  const cells = detail.list.map(([c]) => [view.cells.x[c], view.cells.y[c]])
    .filter(([x, y]) => ends.some((end) => Math.hypot(end[0] - x, end[1] - y) < reach));
  const xs = ends.concat(cells).map((p) => p[0]), ys = ends.concat(cells).map((p) => p[1]);
  const low = [Math.min(...xs), Math.min(...ys)], high = [Math.max(...xs), Math.max(...ys)];
  const pad = Math.max(60, 0.12 * Math.max(high[0] - low[0], high[1] - low[1]));
  return [low[0] - pad, low[1] - pad, high[0] + pad, high[1] + pad];
}

const pictures = map.photographs;

// Each photograph is embedded once; those of the examples are further down the page.
function photographOf(view, i) {
  if (!pictures) return null;
  const id = view.queries.id[i], thumbnail = pictures.images[view.queries.photo[i]];
  const example = Array.from(document.querySelectorAll("img[data-image]")).find((image) => image.dataset.image === id);
  const source = thumbnail || (example && example.src);
  if (source) return enlargeable(element("img", { src: source, class: "query-photograph", alt: "The photograph of query " + id }));
  const file = view.queries.path && view.queries.path[i];
  const why = pictures.unread[id] ? "The photograph is " + pictures.unread[id] + "." : pictures.why || "The photograph is not in the manifest.";
  return element("div", { class: "no-photograph" }, element("p", { text: why }), file ? element("p", {}, "File: ", element("code", { text: file })) : null);
}

function factsOf(view, answers, i) {
  const facts = [["error", metres(answers.error[i]) + (answers.city[i] === null ? "" : ", the answer is in " + answers.city[i])]];
  if (map.systems.length > 1) facts[0][0] = "error of " + chosen.system;
  map.systems.filter((name) => name !== chosen.system).forEach((name) => facts.push(["error of " + name, metres(view.answers[name].error[i])]));
  if (answers.probability[i] !== null) {
    facts.push(["stated probability", percent(answers.probability[i]) + " within 25\u00a0m of the answer"]);
    facts.push(["correct candidate", answers.rank[i] === null ? "none within 25\u00a0m of the true position" : "rank " + grouped(answers.rank[i])]);
  } else if (answers.rank[i] > 1) facts.push(["correct answer", "rank " + grouped(answers.rank[i])]);
  if (view.region) {
    const size = view.region.area_km2[i], covered = view.region.covered[i];
    const text = size === null ? "the system abstains" : area(size) + (covered === null ? "" : covered ? ", contains the true position" : ", does not contain the true position");
    facts.push(["80\u00a0% region", text]);
  }
  if (view.districts.length > 1) facts.push(["district", view.districts[view.queries.district[i]]]);
  if (map.lisa && view.queries.lisa[i] >= 0) facts.push(["cluster (LISA)", map.lisa[view.queries.lisa[i]]]);
  const list = element("dl", { class: "facts" });
  facts.forEach(([name, text]) => list.append(element("dt", { text: name }), element("dd", { text })));
  return list;
}

function topTable(detail) {
  if (!detail.top.length) return null;
  const body = element("tbody", {}), withPictures = detail.top.some((row) => row[4] >= 0);
  detail.top.forEach(([, , share, off, photo], rank) => {
    const picture = pictures && pictures.images[photo];
    body.append(element("tr", {},
      element("td", { text: String(rank + 1) }), element("td", { text: percent(share) }), element("td", { text: metres(off) }),
      withPictures ? element("td", {}, picture ? enlargeable(element("img", { src: picture, alt: "Photograph at candidate " + (rank + 1) })) : null) : null));
  });
  const names = ["rank", "probability", "error"].concat(withPictures ? ["photograph"] : []);
  return element("table", { class: "top" }, element("caption", { text: "Most probable candidates" }),
    element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { scope: "col", text: name })))), body);
}

function posteriorNote(view, detail) {
  if (!detail.cells) return null;
  const mass = detail.list.reduce((sum, entry) => sum + entry[1], 0) / STEPS;
  const region = detail.region > 0 ? " The outline is the 80\u00a0% region." : detail.region < 0 ? " The 80\u00a0% region is larger than the cells drawn." : "";
  const [x0, y0, x1, y1] = view.extent_m, [best] = detail.list[0], x = view.cells.x[best], y = view.cells.y[best];
  const away = x < x0 || x > x1 || y < y0 || y > y1 ? " The most probable cells are outside this map; “Zoom to query” shows them." : "";
  return element("p", { class: "note", text: "Violet: the " + detail.list.length + " most probable cells, with " + percent(Math.min(1, mass)) + " of the probability; darker is more probable." + region + away });
}

function fillPanel(node, view, answers, i, detail, buttons) {
  node.replaceChildren();
  node.dataset.query = view.queries.id[i];
  [element("div", { class: "panel-head" }, element("h4", { text: view.queries.id[i] }), ...buttons),
    photographOf(view, i), factsOf(view, answers, i), posteriorNote(view, detail), topTable(detail)].forEach((part) => { if (part) node.append(part); });
}
