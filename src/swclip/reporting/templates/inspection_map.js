// The photographs of a manifest on a map; those that are suspicious can be chosen.

const map = data.map, lisaMap = null;
const byId = (id) => document.getElementById(id);
const baseMap = data.tiles ? tileLayer(data.tiles, () => mainMap.redraw()) : null;
const reasonColour = (reason) => colour("series-" + (reason % 8));
const chosen = { view: 0, shown: map.reasons.map(() => true), at: -1 };
const viewNow = () => map.views[chosen.view];

class PhotographMap extends CityView {
  constructor(canvas) {
    super(canvas);
    const pick = (px, py, reach) => nearestPoint(this, this.hits ?? [], px, py, reach);
    this.isTarget = (px, py) => pick(px, py, 9) >= 0;
    this.onClick = (px, py) => { const i = pick(px, py, 14); if (i >= 0) choose(i); };
  }

  show(view) {
    Object.assign(this, { view, photographs: pairs(view.photographs), suspicious: pairs(view.suspicious), home: [view.extent_m] });
    this.layers = [...(baseMap ? [baseMap] : []), () => this.drawPhotographs(), () => this.drawSuspicious(), drawScale];
    this.fit(view.extent_m);
  }

  // Photographs that are shown and can be clicked.
  showSuspicious(indices) {
    this.visible = indices;
    this.hits = [];
    indices.forEach((i) => { this.hits[i] = this.suspicious[i]; });
    this.redraw();
  }

  drawPhotographs() {
    const size = Math.min(5, Math.max(1.8, (this.photographs.length > 4000 ? 1.8 : 2.6) * this.magnification));
    drawSquares(this, this.context, this.photographs, size, colour("class-1"));
  }

  drawSuspicious() {
    (this.visible ?? []).forEach((i) => {
      const [px, py] = this.toScreen(...this.suspicious[i]), picked = i === chosen.at;
      drawDot(this.context, px, py, picked ? 8 : 5, reasonColour(firstReason(i)), colour(picked ? "ink" : "halo"), picked ? 2.5 : 1);
    });
  }
}

// The first reason of a photograph that is not switched off.
const firstReason = (i) => viewNow().suspicious.reasons[i].find((reason) => chosen.shown[reason]) ?? viewNow().suspicious.reasons[i][0];
const namesOf = (i) => viewNow().suspicious.reasons[i].map((reason) => map.reasons[reason]).join(", ");
const mainMap = new PhotographMap(byId("map"));

function filter() {
  const { id, reasons } = viewNow().suspicious;
  const listed = id.map((_, i) => i).filter((i) => reasons[i].some((reason) => chosen.shown[reason]));
  document.querySelectorAll("#classes button").forEach((button, reason) => {
    button.setAttribute("aria-pressed", String(chosen.shown[reason]));
    button.querySelector("b").textContent = grouped(reasons.filter((of) => of.includes(reason)).length);
  });
  byId("shown").textContent = grouped(listed.length) + (listed.length === 1 ? " suspicious photograph" : " suspicious photographs");
  byId("suspicious-list").replaceChildren(...listed.map((i) => element("option", { value: i, text: namesOf(i) + "  " + id[i] })));
  if (!listed.includes(chosen.at)) unchoose();
  byId("suspicious-list").value = listed.includes(chosen.at) ? String(chosen.at) : "";
  mainMap.showSuspicious(listed);
}

function choose(i, look = false) {
  const { id, path, detail, photo } = viewNow().suspicious, [x, y] = mainMap.suspicious[i];
  chosen.at = i;
  byId("suspicious-list").value = String(i);
  const picture = map.images[photo[i]], facts = element("dl", { class: "facts" });
  detail[i].forEach(([reason, text]) => facts.append(element("dt", { text: map.reasons[reason] }), element("dd", { text: text || map.rules[reason] })));
  facts.append(element("dt", { text: "file" }), element("dd", { text: path[i] }));
  byId("panel").replaceChildren(...[element("div", { class: "panel-head" }, element("h4", { text: id[i] })),
    picture ? enlargeable(element("img", { src: picture, class: "query-photograph", alt: "Photograph " + id[i] })) : null, facts].filter((part) => part));
  const [px, py] = mainMap.toScreen(x, y);
  if (look && (px < 20 || py < 20 || px > mainMap.width - 20 || py > mainMap.height - 20)) mainMap.go(x, y);
  mainMap.redraw();
}

function unchoose() {
  chosen.at = -1;
  const text = viewNow().suspicious.id.length ? "Choose a photograph on the map or in the list to see why it is suspicious." : "No photograph of this city is suspicious.";
  byId("panel").replaceChildren(element("p", { class: "note", text }));
  mainMap.redraw();
}

function showView() {
  const view = viewNow();
  byId("map-title").textContent = view.name + ": " + grouped(view.n) + (view.n === 1 ? " photograph" : " photographs") + (view.n > view.photographs.x.length ? ", " + grouped(view.photographs.x.length) + " drawn" : "");
  mainMap.show(view);
  unchoose();
  filter();
}

map.reasons.forEach((name, reason) => {
  const dot = element("i", {});
  dot.style.background = `var(--series-${reason % 8})`;
  byId("classes").append(element("button", { type: "button", "aria-pressed": "true", title: "Show or hide these photographs",
    onclick: () => { chosen.shown[reason] = !chosen.shown[reason]; filter(); } }, dot, name + " ", element("b", {})));
});
byId("classes").hidden = !map.reasons.length;
const cities = byId("city");
map.views.forEach((view, at) => cities.append(element("option", { value: at, text: view.name })));
cities.parentElement.parentElement.hidden = map.views.length < 2;
cities.addEventListener("change", () => { chosen.view = Number(cities.value); showView(); });
byId("suspicious-list").addEventListener("change", (event) => choose(Number(event.target.value), true));
document.querySelectorAll(".map-buttons button").forEach((button) => button.addEventListener("click", () => {
  if (button.dataset.zoom) mainMap.zoom(Number(button.dataset.zoom)); else mainMap.fit(viewNow().extent_m);
}));
showView();
if (data.tiles) document.querySelectorAll(".map-box").forEach((box) => box.append(element("p", { class: "attribution" }, ...attributionNodes(data.tiles.attribution))));

document.documentElement.dataset.ready = "yes";
