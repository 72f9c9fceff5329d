"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const INK = "#18212b", SOFT = "#566372", RULE = "#dfe4ea";
  const FONT = getComputedStyle(document.body).fontFamily;
  const CLASS_COLOURS = ["#2166ac", "#5aa7d6", "#f2b134", "#e5702a", "#a5122a"];
  const narrow = () => window.innerWidth < 640;

  // Plotly reads a few tags in its texts; what comes from a file is shown as it is.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function metres(value) {
    if (value < 9.95) return value.toFixed(1) + " m";
    if (value < 9999.5) return Math.round(value).toLocaleString("en-GB") + " m";
    const km = value / 1000;
    return (km < 99.95 ? km.toFixed(1) : Math.round(km).toLocaleString("en-GB")) + " km";
  }

  const distance = (value) => (value >= 1000 && value % 1000 === 0 ? (value / 1000).toLocaleString("en-GB") + " km"
    : Number.isInteger(value) ? value + " m" : metres(value));

  // How many lines the legend takes beyond two: the plot makes room for them below.
  function legendLines() {
    const width = document.getElementById("curve").clientWidth - 80;
    const longest = Math.max(...data.curves.map((curve) => curve.name.length));
    const rows = Math.ceil(data.curves.length / Math.max(1, Math.floor(width / (60 + 7.2 * longest))));
    return Math.max(narrow() ? 1 : 0, rows - 2);
  }

  // ---- the error's cumulative curve --------------------------------------------------------------------------
  function drawCurve() {
    const traces = data.curves.map((curve) => ({
      type: "scatter", mode: "lines", name: plain(curve.name), x: curve.x, y: curve.y,
      line: { color: curve.colour, width: curve.reference ? 1.8 : curve.thin ? 1.5 : 2.6, dash: curve.dash, shape: "hv" },
      hovertemplate: "%{y:.1f} % within %{customdata}<extra>" + plain(curve.name) + "</extra>",
      customdata: curve.x.map(metres),
    }));
    const far = Math.max(...data.curves.map((curve) => curve.x[curve.x.length - 1]));
    const ticks = [];
    for (let power = 0; 10 ** power <= far * 3; power++) ticks.push(10 ** power);
    const layout = {
      margin: { l: 64, r: 14, t: 8, b: 84 + 19 * legendLines() }, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
      font: { family: FONT, size: 13, color: SOFT }, hovermode: "closest", dragmode: false,
      xaxis: {
        type: "log", title: { text: "distance from the truth", standoff: 10 }, range: [0, Math.log10(far * 1.15)],
        tickvals: ticks, ticktext: ticks.map(distance),
        gridcolor: RULE, zeroline: false, fixedrange: true,
      },
      yaxis: {
        title: { text: "queries answered within it" }, range: [0, 101], ticksuffix: " %", gridcolor: RULE,
        zeroline: false, fixedrange: true,
      },
      shapes: [25, 100].map((at) => ({
        type: "line", xref: "x", yref: "paper", x0: at, x1: at, y0: 0, y1: 1,
        line: { color: "#b7c1cb", width: 1, dash: "dot" },
      })),
      legend: { orientation: "h", y: narrow() ? -0.26 : -0.2, x: 0, font: { size: 13, color: INK } },
    };
    const node = document.getElementById("curve");
    node.style.height = node.clientHeight + 19 * Math.max(0, legendLines() - 1) + "px";
    return Plotly.newPlot(node, traces, layout, { responsive: true, displayModeBar: false });
  }

  // ---- the map -------------------------------------------------------------------------------------------------
  const map = data.map;
  const chosen = { view: 0, system: map.systems[0], lines: "worst" };
  const edges = map.classes_m;
  const classOf = (error) => { const at = edges.findIndex((edge) => error <= edge); return at < 0 ? edges.length : at; };
  const classNames = edges.map((edge, i) => (i === 0 ? "within " : distance(edges[i - 1]) + " to ") + distance(edge))
    .concat("over " + distance(edges[edges.length - 1]));

  function describe(view, answers, i) {
    const rank = answers.rank[i] === null ? "no candidate within 25 m of the truth"
      : "first right candidate at rank " + answers.rank[i].toLocaleString("en-GB");
    const city = answers.city[i] === null ? "" : ", answered in " + answers.city[i];
    return { head: view.queries.id[i], error: metres(answers.error[i]) + " away" + city, rank: rank,
      sure: Math.round(100 * answers.probability[i]) + " % sure of these 25 m" };
  }

  function mapTraces(view, answers) {
    const traces = [{
      type: "scatter", mode: "markers", name: "candidates", x: view.candidates.x, y: view.candidates.y,
      marker: { color: "#c9d1d9", size: 3.5 }, hoverinfo: "skip", showlegend: false,
    }];
    const order = answers.error.map((_, i) => i).sort((a, b) => answers.error[b] - answers.error[a]);
    const count = chosen.lines === "all" ? order.length : chosen.lines === "worst" ? Math.min(25, order.length) : 0;
    const lx = [], ly = [];
    order.slice(0, count).forEach((i) => {
      lx.push(view.queries.x[i], answers.x[i], null); ly.push(view.queries.y[i], answers.y[i], null);
    });
    traces.push({ type: "scatter", mode: "lines", x: lx, y: ly, line: { color: "rgba(60,72,84,0.38)", width: 1 }, hoverinfo: "skip", showlegend: false });
    traces.push({ type: "scatter", mode: "lines+markers", x: [], y: [], line: { color: INK, width: 2 },
      marker: { color: INK, size: [0, 13], symbol: "x-thin", line: { width: 3, color: INK } }, hoverinfo: "skip", showlegend: false });
    for (let c = 0; c <= edges.length; c++) {
      const rows = answers.error.map((e, i) => i).filter((i) => classOf(answers.error[i]) === c);
      traces.push({
        type: "scatter", mode: "markers", name: classNames[c], showlegend: false, customdata: rows,
        x: rows.map((i) => view.queries.x[i]), y: rows.map((i) => view.queries.y[i]),
        marker: { color: CLASS_COLOURS[c], size: view.queries.x.length > 600 ? 6 : 9, line: { color: "#fff", width: 0.8 } },
        text: rows.map((i) => {
          const d = describe(view, answers, i);
          return "<b>" + plain(d.error) + "</b><br>" + plain(d.head) + "<br>" + plain(d.rank) + "<br>" + plain(d.sure);
        }),
        hovertemplate: "%{text}<extra></extra>",
      });
    }
    return traces;
  }

  function drawMap() {
    const view = map.views[chosen.view], answers = view.answers[chosen.system];
    const node = document.getElementById("map");
    const margin = { l: narrow() ? 4 : 58, r: 4, t: 4, b: narrow() ? 4 : 30 };
    // The ranges are widened to the shape of the figure, so that a metre is as long east as north and none is wasted.
    let [x0, y0, x1, y1] = view.extent_m;
    const shape = (node.clientWidth - margin.l - margin.r) / (node.clientHeight - margin.t - margin.b);
    const more = Math.max(0, (y1 - y0) * shape - (x1 - x0)) / 2, taller = Math.max(0, (x1 - x0) / shape - (y1 - y0)) / 2;
    x0 -= more; x1 += more; y0 -= taller; y1 += taller;
    const axis = { ticksuffix: " m", gridcolor: "#eef1f4", zeroline: false, tickfont: { size: 11, color: "#8b97a3" }, nticks: narrow() ? 4 : 8 };
    const layout = {
      margin, paper_bgcolor: "#fff", plot_bgcolor: "#fbfcfd",
      font: { family: FONT, size: 13, color: SOFT }, hovermode: "closest", dragmode: narrow() ? false : "pan",
      xaxis: { ...axis, range: [x0, x1], showticklabels: !narrow() },
      yaxis: { ...axis, range: [y0, y1], scaleanchor: "x", showticklabels: !narrow() },
      hoverlabel: { bgcolor: "#fff", bordercolor: "#8b97a3", font: { family: FONT, size: 13, color: INK }, align: "left" },
    };
    const drawn = Plotly.react(node, mapTraces(view, answers), layout, {
      responsive: true, scrollZoom: false, displaylogo: false,
      modeBarButtons: [["pan2d", "zoom2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]], displayModeBar: !narrow(),
    });
    document.getElementById("picked").textContent = "";
    document.getElementById("map-title").textContent =
      view.name + ": " + view.n.toLocaleString("en-GB") + " queries, median " + metres(answers.median);
    return drawn;
  }

  function onPoint(event) {
    const point = event.points[0];
    if (point.customdata === undefined) return;
    const view = map.views[chosen.view], answers = view.answers[chosen.system], i = point.customdata;
    Plotly.restyle("map", { x: [[view.queries.x[i], answers.x[i]]], y: [[view.queries.y[i], answers.y[i]]] }, [2]);
    const d = describe(view, answers, i);
    document.getElementById("picked").textContent = d.head + ": " + d.error + "; " + d.rank + "; " + d.sure + ".";
  }

  // Small maps to choose from: drawn on a canvas, which costs a page of many cities nothing.
  function drawSmall(canvas, view) {
    const answers = view.answers[chosen.system], scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth || 128, height = canvas.clientHeight || 80;
    canvas.width = width * scale; canvas.height = height * scale;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    const [x0, y0, x1, y1] = view.extent_m;
    const metre = Math.min(width / (x1 - x0), height / (y1 - y0));
    const px = (x) => width / 2 + (x - (x0 + x1) / 2) * metre, py = (y) => height / 2 - (y - (y0 + y1) / 2) * metre;
    const dot = (x, y, radius) => { context.beginPath(); context.arc(px(x), py(y), radius, 0, 7); context.fill(); };
    context.fillStyle = "#d3dae1";
    view.candidates.x.forEach((x, i) => dot(x, view.candidates.y[i], 0.8));
    answers.error.map((_, i) => i).sort((a, b) => answers.error[a] - answers.error[b]).forEach((i) => {
      context.fillStyle = CLASS_COLOURS[classOf(answers.error[i])];
      dot(view.queries.x[i], view.queries.y[i], view.queries.x.length > 300 ? 1.3 : 2);
    });
  }

  function makeViews() {
    const holder = document.getElementById("views");
    document.getElementById("map-grid").classList.toggle("several", map.views.length > 1);
    map.views.forEach((view, at) => {
      const button = document.createElement("button");
      button.type = "button"; button.className = "view";
      const canvas = document.createElement("canvas"), name = document.createElement("strong"), line = document.createElement("span");
      name.textContent = view.name;
      button.append(canvas, name, line);
      button.addEventListener("click", () => { chosen.view = at; refresh(); });
      holder.append(button);
    });
  }

  function refresh() {
    document.querySelectorAll("#views .view").forEach((button, at) => {
      const view = map.views[at];
      button.setAttribute("aria-pressed", String(at === chosen.view));
      button.querySelector("span").textContent = "median " + metres(view.answers[chosen.system].median);
      if (map.views.length > 1) drawSmall(button.querySelector("canvas"), view);
    });
    return drawMap();
  }

  function start() {
    const legend = document.getElementById("legend");
    classNames.forEach((name, c) => {
      const entry = document.createElement("span"), swatch = document.createElement("i");
      swatch.style.background = CLASS_COLOURS[c];
      entry.append(swatch, name);
      legend.append(entry);
    });
    makeViews();
    const systems = document.getElementById("system");
    if (systems) {
      map.systems.forEach((name) => { const option = document.createElement("option"); option.value = option.textContent = name; systems.append(option); });
      if (data.map_system) { chosen.system = systems.value = data.map_system; }
      systems.addEventListener("change", () => { chosen.system = systems.value; refresh(); });
    }
    document.getElementById("lines").addEventListener("change", (event) => { chosen.lines = event.target.value; drawMap(); });
    Promise.all([drawCurve(), refresh()]).then(() => {
      const node = document.getElementById("map");
      node.on("plotly_hover", onPoint);
      node.on("plotly_click", onPoint);
      document.documentElement.dataset.ready = "yes";
    });
    window.addEventListener("beforeprint", () => { Plotly.Plots.resize("map"); Plotly.Plots.resize("curve"); });
  }
  start();
})();
