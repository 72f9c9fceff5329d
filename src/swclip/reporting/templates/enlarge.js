// Charts and photographs: a click shows them as large as the window; charts can be saved.
function showLarge(title, content, tools) {
  const dialog = element("dialog", { "aria-label": title }, element("div", { class: "dialog-head" }, element("h2", { text: title }), ...tools,
    element("button", { type: "button", class: "plain", text: "Close", onclick: () => dialog.close() })), content);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
}

// A chart as a file: with the colours of the page written out, and its font.
function chartAsSvg(svg) {
  const copy = svg.cloneNode(true), colours = getComputedStyle(document.documentElement);
  copy.querySelectorAll("circle[r]").forEach((node) => { if (node.querySelector("title")) node.remove(); });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("xmlns:xlink", "http://www.w3.org/1999/xlink");
  copy.setAttribute("style", "background:" + colours.getPropertyValue("--paper") + ";font-family:" + getComputedStyle(svg).fontFamily.replaceAll('"', "'"));
  return new XMLSerializer().serializeToString(copy).replace(/var\((--[\w-]+)\)/g, (_, name) => colours.getPropertyValue(name).trim());
}

document.querySelectorAll(".chart").forEach((chart) => {
  const title = chart.previousElementSibling?.tagName === "H3" ? chart.previousElementSibling.textContent : headingOf(chart);
  const wide = chart.querySelector(".wide svg"), tools = chart.querySelector(".chart-tools");
  const saving = () => element("button", { type: "button", class: "plain", text: "Download SVG", onclick: () => save(chartAsSvg(wide), "image/svg+xml", fileName(document.title + " " + title) + ".svg") });
  const enlarge = () => { const copy = wide.cloneNode(true); copy.querySelectorAll("[id]").forEach((node) => node.setAttribute("id", "large-" + node.id)); showLarge(title, linked(copy), [saving()]); };
  chart.querySelectorAll("svg").forEach((svg) => svg.addEventListener("click", enlarge));
  tools.append(element("button", { type: "button", class: "plain", text: "Enlarge", "aria-label": "Enlarge: " + title, onclick: enlarge }));
});

// References of a copy to its own ids.
function linked(svg) {
  svg.querySelectorAll("[clip-path]").forEach((node) => node.setAttribute("clip-path", node.getAttribute("clip-path").replace("#", "#large-")));
  svg.querySelectorAll("use").forEach((node) => node.setAttribute("xlink:href", node.getAttribute("xlink:href").replace("#", "#large-")));
  return svg;
}

function enlargeable(image) {
  const button = element("button", { type: "button", class: "enlarge", "aria-label": "Enlarge: " + image.alt, onclick: () => showLarge(image.alt, element("img", { src: image.src, alt: image.alt }), []) });
  image.replaceWith(button);
  button.append(image);
  return button;
}
document.querySelectorAll("figure img").forEach(enlargeable);
