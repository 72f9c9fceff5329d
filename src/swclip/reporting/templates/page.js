// Interaction: maps, filters, the list of queries and the panel.

const classNames = map.classes_m.map((edge, i) => (i === 0 ? "within " : distance(map.classes_m[i - 1]) + " to ") + distance(edge))
  .concat("over " + distance(map.classes_m[map.classes_m.length - 1]));
const SPOKES = 10;
const chosen = { view: 0, system: data.map_system || map.systems[0], lines: "worst", search: "", colour: "error", classes: classNames.map(() => true), district: "", lisa: "", order: "worst" };
const byId = (id) => document.getElementById(id);
const viewNow = () => map.views[chosen.view];
const answersNow = () => viewNow().answers[chosen.system];

const lisaColour = (i) => lisaColourOf(viewNow().queries.lisa[i]);
const errorColour = (i) => classColour(classOf(answersNow().error[i]));
const mainMap = new QueryMap(byId("map"), (i) => (chosen.colour === "lisa" ? lisaColour(i) : errorColour(i)), (i) => choose(i));
const lisaMap = byId("lisa-map") ? new QueryMap(byId("lisa-map"), lisaColour, (i) => pickOnLisaMap(i)) : null;

function sortedQueries() {
  const error = answersNow().error, id = viewNow().queries.id, way = chosen.order === "best" ? 1 : -1;
  const sorted = error.map((_, i) => i);
  return sorted.sort(chosen.order === "name" ? (a, b) => (id[a] < id[b] ? -1 : 1) : (a, b) => way * (error[a] - error[b]) || a - b);
}

// A predicate of all filters but one: the counts of a filter are of the queries that pass the other filters.
function passing(without) {
  const { district, lisa, id } = viewNow().queries, error = answersNow().error, number = viewNow().districts.indexOf(chosen.district);
  return (i) => (without === "class" || chosen.classes[classOf(error[i])]) && (chosen.district === "" || district[i] === number)
    && (chosen.lisa === "" || lisa[i] === Number(chosen.lisa)) && id[i].toLowerCase().includes(chosen.search);
}

function filter() {
  const view = viewNow(), error = answersNow().error, order = sortedQueries(), passes = passing("");
  const listed = order.filter(passes);
  const visible = view.queries.x.map((_, i) => i).filter(passes).sort((a, b) => error[a] - error[b]); // the largest errors on top
  mainMap.showQueries(visible);
  const worst = visible.slice().reverse();
  mainMap.lines = chosen.lines === "all" ? worst : chosen.lines === "worst" ? worst.slice(0, SPOKES) : [];
  byId("shown").textContent = grouped(listed.length) + " of " + grouped(view.queries.x.length) + (view.n > view.queries.x.length ? " drawn, " + grouped(view.n) + " in total" : " shown");
  const counts = classNames.map(() => 0), others = passing("class");
  error.forEach((value, i) => { if (others(i)) counts[classOf(value)] += 1; });
  document.querySelectorAll("#classes button").forEach((button, c) => {
    button.setAttribute("aria-pressed", String(chosen.classes[c]));
    button.querySelector("b").textContent = grouped(counts[c]);
  });
  const list = byId("query-list");
  list.replaceChildren(...listed.map((i) => element("option", { value: i, text: metres(error[i]) + "  " + view.queries.id[i] })));
  list.value = listed.includes(mainMap.chosen) ? String(mainMap.chosen) : "";
  if (mainMap.chosen >= 0 && !passes(mainMap.chosen)) unchoose();
  mainMap.redraw();
}

function choose(i, look = false) {
  const view = viewNow(), answers = answersNow(), detail = detailOf(view, i);
  Object.assign(mainMap, { chosen: i, detail });
  byId("query-list").value = String(i);
  const step = (by) => {
    const list = byId("query-list"), at = list.selectedIndex + by;
    if (at >= 0 && at < list.options.length) choose(Number(list.options[at].value), true);
  };
  const button = (text, label, act) => element("button", { type: "button", title: label, "aria-label": label, text, onclick: act });
  const buttons = element("div", { class: "panel-buttons" }, button("\u2039", "Previous query", () => step(-1)), button("\u203a", "Next query", () => step(1)),
    button("Zoom to query", "Show the true position, the answer and the posterior of this query", () => mainMap.fit(extentOf(view, answers, i, detail))),
    button("Copy link", "Copy a link to this query on this page", (event) => copyLink(event.target)));
  fillPanel(byId("panel"), view, answers, i, detail, [button("\u00d7", "Close", unchoose), buttons]);
  if (look) bringIntoView(i);
  history.replaceState(null, "", "#query=" + encodeURIComponent(view.queries.id[i]));
  mainMap.redraw();
}

async function copyLink(button) {
  try {
    await navigator.clipboard.writeText(location.href);
    button.textContent = "Copied";
  } catch {
    window.prompt("Copy this link:", location.href); // browsers allow clipboard access on some pages only
  }
}

// Select the query that the address of the page names, as in report.html#query=ID.
function openLinked(hash) {
  const match = hash.match(/^#query=(.+)$/);
  if (!match) return;
  const id = decodeURIComponent(match[1]), at = map.views.findIndex((view) => view.queries.id.includes(id));
  clearFilters();
  if (at < 0) {
    unchoose();
    byId("panel").replaceChildren(element("p", { class: "note", text: "The query " + id + " is not on this map: it is no query of this report, or the map leaves it out to limit the size of the file." }));
  } else {
    if (at !== chosen.view) { chosen.view = at; showView(); }
    choose(viewNow().queries.id.indexOf(id), true);
  }
  byId("map-section").scrollIntoView();
}

function clearFilters() {
  ["district", "lisa", "search"].forEach((name) => { chosen[name] = ""; if (byId(name)) byId(name).value = ""; });
  chosen.classes.fill(true);
  filter();
}

// Centre the map on a query that is out of sight.
function bringIntoView(i) {
  const { x, y } = viewNow().queries, [px, py] = mainMap.toScreen(x[i], y[i]);
  if (px < 20 || py < 20 || px > mainMap.width - 20 || py > mainMap.height - 20) mainMap.go(x[i], y[i]);
}

function unchoose() {
  if (location.hash.startsWith("#query=")) history.replaceState(null, "", location.pathname + location.search);
  Object.assign(mainMap, { chosen: -1, detail: null });
  byId("query-list").value = "";
  const panel = byId("panel");
  delete panel.dataset.query;
  panel.replaceChildren(element("p", { class: "note", text: "Select a query on the map or in the list (arrow keys move through it) to see its photograph, candidates and posterior." }));
  mainMap.redraw();
}

function pickOnLisaMap(i) {
  const view = viewNow(), label = view.queries.lisa[i];
  byId("lisa-picked").textContent = view.queries.id[i] + ": " + metres(answersNow().error[i]) + " error, " + (label < 0 ? "not measured" : map.lisa[label]) + ". It is also selected on the map above.";
  clearFilters();
  choose(i, true);
  Object.assign(lisaMap, { chosen: i });
  lisaMap.redraw();
}

function showView() {
  const view = viewNow(), answers = answersNow(), district = byId("district");
  unchoose();
  chosen.district = "";
  district.replaceChildren(element("option", { value: "", text: "all" }), ...view.districts.map((name) => element("option", { value: name, text: name })));
  district.parentElement.hidden = view.districts.length < 2;
  byId("map-title").textContent = view.name + ": " + grouped(view.n) + " queries, median error " + metres(answers.median);
  document.querySelectorAll("#views .view").forEach((button, at) => {
    button.setAttribute("aria-pressed", String(at === chosen.view));
    button.querySelector("span").textContent = "median " + metres(map.views[at].answers[chosen.system].median);
    drawSmall(button.querySelector("canvas"), map.views[at], map.views[at].answers[chosen.system]);
  });
  document.querySelectorAll("select.view-choice").forEach((select) => { select.value = String(chosen.view); });
  mainMap.show(view, answers);
  filter();
  if (lisaMap) {
    lisaMap.chosen = -1;
    byId("lisa-picked").textContent = "";
    lisaMap.show(view, answers);
    lisaMap.showQueries(view.queries.x.map((_, i) => i).sort((a, b) => view.queries.lisa[b] - view.queries.lisa[a]));
  }
}

function makeControls() {
  const on = (id, key, then) => { const node = byId(id); if (node) node.addEventListener("change", () => { chosen[key] = node.value; then(); }); };
  classNames.forEach((name, c) => {
    const dot = element("i", {});
    dot.style.background = `var(--class-${c})`;
    byId("classes").append(element("button", { type: "button", "aria-pressed": "true", title: "Show or hide these queries",
      onclick: () => { chosen.classes[c] = !chosen.classes[c]; filter(); } }, dot, name + " ", element("b", {})));
  });
  if (map.views.length > 1) {
    map.views.forEach((view, at) => byId("views").append(element("button", { type: "button", class: "view", onclick: () => { chosen.view = at; showView(); } },
      element("canvas", { "aria-hidden": "true" }), element("strong", { text: view.name }), element("span", {}))));
  } else byId("views").hidden = true;
  document.querySelectorAll("select.view-choice").forEach((select) => {
    map.views.forEach((view, at) => select.append(element("option", { value: at, text: view.name })));
    select.parentElement.hidden = map.views.length < 2;
    select.addEventListener("change", () => { chosen.view = Number(select.value); showView(); });
  });
  if (byId("system")) {
    map.systems.forEach((name) => byId("system").append(element("option", { value: name, text: name })));
    byId("system").value = chosen.system;
    on("system", "system", showView);
  }
  on("lines", "lines", filter); on("district", "district", filter); on("lisa", "lisa", filter); on("order", "order", filter); on("colour", "colour", () => { byId("lisa-legend").hidden = chosen.colour !== "lisa"; mainMap.redraw(); });
  if (byId("lisa")) {
    map.lisa.forEach((name, at) => {
      byId("lisa").append(element("option", { value: at, text: name }));
      byId("lisa-legend").append(element("span", {}, element("i", { "data-lisa": at }), name));
    });
  }
  byId("query-list").addEventListener("change", (event) => choose(Number(event.target.value), true));
  byId("search").addEventListener("input", (event) => { chosen.search = event.target.value.trim().toLowerCase(); filter(); });
  byId("search").addEventListener("keydown", (event) => {
    const first = byId("query-list").options[0];
    if (event.key === "Enter" && first) choose(Number(first.value), true);
  });
  document.querySelectorAll(".map-buttons button").forEach((button) => button.addEventListener("click", () => {
    const target = button.closest(".map-box").querySelector("canvas") === mainMap.canvas ? mainMap : lisaMap;
    if (button.dataset.zoom) target.zoom(Number(button.dataset.zoom)); else target.fit(target.view.extent_m);
  }));
  document.querySelectorAll("[data-lisa]").forEach((dot) => { dot.style.background = `var(--lisa-${dot.dataset.lisa})`; });
}

const hashAtStart = location.hash;
makeControls();
showView();
openLinked(hashAtStart);
window.addEventListener("hashchange", () => openLinked(location.hash));
if (data.tiles) document.querySelectorAll(".map-box").forEach((box) => box.append(element("p", { class: "attribution" }, ...attributionNodes(data.tiles.attribution))));

document.documentElement.dataset.ready = "yes";
