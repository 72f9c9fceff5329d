// Charts: evaluation/chart.py says what they show; here they are drawn at the width that the page has.

const SVG = "http" + "://www.w3.org/2000/svg"; // a name, never loaded

function shape(tag, attributes, parent) {
  const node = document.createElementNS(SVG, tag);
  Object.entries(attributes).forEach(([name, value]) => {
    if (name === "text") node.textContent = value; else node.setAttribute(name, value);
  });
  parent.append(node);
  return node;
}

const DASH = { solid: "", dash: "7 5", dot: "2 4", dashdot: "8 4 2 4" };

function scaleOf(axis, from, to) {
  const at = axis.log ? Math.log : (value) => value;
  const low = at(axis.low), high = at(axis.high);
  return (value) => from + (to - from) * (at(axis.log ? Math.max(value, axis.low) : value) - low) / (high - low);
}

function path(series, px, py, floor) {
  const points = series.x.map((x, i) => [px(x), py(series.y[i])]);
  if (series.style !== "steps") return "M" + points.map((p) => p[0].toFixed(1) + " " + p[1].toFixed(1)).join("L");
  let text = "M" + points[0][0].toFixed(1) + " " + floor.toFixed(1);
  points.forEach(([x, y]) => { text += "H" + x.toFixed(1) + "V" + y.toFixed(1); });
  return text;
}

function drawChart(node, chart) {
  const width = Math.max(260, node.clientWidth), height = Number(node.dataset.height) || 320;
  const inner = { left: 60, right: width - 16, top: 34, bottom: height - 48 };
  const px = scaleOf(chart.x, inner.left, inner.right), py = scaleOf(chart.y, inner.bottom, inner.top);
  node.replaceChildren();
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, node);
  const clip = "clip-" + chart.name;
  shape("rect", { x: inner.left, y: inner.top - 4, width: inner.right - inner.left + 6, height: inner.bottom - inner.top + 8 },
    shape("clipPath", { id: clip }, svg));

  let free = -1e9; // ticks whose words would touch are drawn without them
  chart.x.ticks.forEach(([value, words]) => {
    const x = px(value), half = 3.6 * words.length + 5;
    shape("line", { x1: x, x2: x, y1: inner.top, y2: inner.bottom, stroke: RULE }, svg);
    if (x - half < free) return;
    const anchor = x + half > width ? "end" : "middle";
    shape("text", { x: anchor === "end" ? width - 2 : x, y: inner.bottom + 18, "text-anchor": anchor, text: words }, svg);
    free = x + half;
  });
  chart.y.ticks.forEach(([value, words]) => {
    const y = py(value);
    shape("line", { x1: inner.left, x2: inner.right, y1: y, y2: y, stroke: RULE }, svg);
    shape("text", { x: inner.left - 8, y: y + 4, "text-anchor": "end", text: words }, svg);
  });
  shape("text", { x: 2, y: 15, class: "axis-title", text: "\u2191 " + chart.y.title }, svg);
  shape("text", { x: inner.right, y: height - 8, class: "axis-title", "text-anchor": "end", text: chart.x.title + " \u2192" }, svg);
  chart.uprights.forEach((value) => shape("line", { x1: px(value), x2: px(value), y1: inner.top, y2: inner.bottom,
    stroke: "#8b97a3", "stroke-dasharray": "2 4" }, svg));
  if (chart.diagonal) {
    shape("line", { x1: px(chart.x.low), y1: py(chart.y.low), x2: px(chart.x.high), y2: py(chart.y.high),
      stroke: "#8b97a3", "stroke-dasharray": "7 5" }, svg);
    shape("text", { x: px(90) - 10, y: py(90) - 8, "text-anchor": "end", text: chart.diagonal }, svg);
  }
  const plot = shape("g", { "clip-path": `url(#${clip})` }, svg);
  chart.series.forEach((series) => {
    if (series.style !== "points") {
      shape("path", { d: path(series, px, py, inner.bottom), fill: "none", stroke: series.colour, class: "line",
        "stroke-width": series.width, "stroke-dasharray": DASH[series.dash], "stroke-linejoin": "round" }, plot);
    }
    series.low.forEach((low, i) => shape("line", { x1: px(series.x[i]), x2: px(series.x[i]), y1: py(low), y2: py(series.high[i]),
      stroke: series.colour, "stroke-width": 5, "stroke-opacity": 0.28, "stroke-linecap": "round" }, plot));
    if (series.style === "points" || series.style === "both") {
      series.x.forEach((x, i) => shape("circle", { cx: px(x), cy: py(series.y[i]), r: 4.5, fill: series.colour, stroke: "#fff" }, plot));
    }
  });
  const named = chart.series.filter((series) => series.name);
  if (named.length > 1) {
    const legend = element("div", { class: "legend" });
    named.forEach((series) => {
      const key = element("span", {}), sample = shape("svg", { width: 26, height: 10, viewBox: "0 0 26 10", class: "sample" }, key);
      shape("line", { x1: 0, x2: 26, y1: 5, y2: 5, stroke: series.colour, "stroke-width": series.width, "stroke-dasharray": DASH[series.dash] }, sample);
      key.append(series.name);
      legend.append(key);
    });
    node.append(legend);
  }
  readPoints(node, svg, chart, px, py, width);
}

// Point, tap, or go with the arrow keys: the nearest point says what it is.
function readPoints(node, svg, chart, px, py, width) {
  const points = chart.series.flatMap((series) => series.x.map((x, i) => ({ x: px(x), y: py(series.y[i]),
    words: (chart.series.length > 1 && series.name ? series.name + ": " : "") + series.told[i], colour: series.colour })));
  const mark = shape("circle", { r: 6, fill: "none", "stroke-width": 2, visibility: "hidden" }, svg);
  const told = element("div", { class: "told", "aria-live": "polite" });
  node.append(told);
  let at = -1;
  const show = (index) => {
    at = index;
    const point = points[index], scale = svg.clientWidth / width;
    [["cx", point.x], ["cy", point.y], ["stroke", point.colour], ["visibility", "visible"]].forEach(([k, v]) => mark.setAttribute(k, v));
    told.textContent = point.words;
    told.style.display = "block";
    told.style.left = Math.max(0, Math.min(point.x * scale - told.offsetWidth / 2, node.clientWidth - told.offsetWidth)) + "px";
    told.style.top = (point.y * scale > told.offsetHeight + 16 ? point.y * scale - told.offsetHeight - 12 : point.y * scale + 12) + "px";
  };
  const hide = () => { told.style.display = "none"; mark.setAttribute("visibility", "hidden"); };
  const nearest = (event) => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) * width / box.width, y = (event.clientY - box.top) * width / box.width;
    let best = 0, least = Infinity;
    points.forEach((point, i) => { // across counts more than up and down: one reads a line at a place along it
      const off = (point.x - x) ** 2 + 0.25 * (point.y - y) ** 2;
      if (off < least) { least = off; best = i; }
    });
    show(best);
  };
  svg.addEventListener("pointermove", nearest);
  svg.addEventListener("pointerdown", nearest);
  svg.addEventListener("pointerleave", hide);
  node.onblur = hide;
  node.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(Math.max(0, Math.min(points.length - 1, at + step)));
  };
}
