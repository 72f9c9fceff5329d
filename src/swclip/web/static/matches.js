// What a photograph and a candidate have in common: both pictures, and lines between the patches that match.
import { thumbnail } from "/static/api.js";
import { plural } from "/static/words.js";

const SVG = "http://www.w3.org/2000/svg", HIGH = 100, GAP = 5;

function add(parent, name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent.append(node);
  return node;
}

// A picture's address and aspect; without an address where the browser cannot show it (HEIC), or it is gone.
async function loaded(address) {
  const image = new Image();
  try {
    image.src = await address;
    await image.decode();
    return { address: image.src, aspect: image.naturalWidth / image.naturalHeight };
  } catch {
    if (image.src) URL.revokeObjectURL(image.src);
    return { address: null, aspect: 1 };
  }
}

// The part of a picture that the model sees, from x on; returns its width.
function drawPicture(svg, { address, aspect }, x, centralSquare) {
  const wide = centralSquare ? HIGH : HIGH * aspect;
  const box = add(svg, "svg", { x, y: 0, width: wide, height: HIGH, viewBox: `0 0 ${wide} ${HIGH}` });
  add(box, "rect", { width: wide, height: HIGH, class: "no-picture" });
  const side = HIGH / (centralSquare || 1), edge = (HIGH - side) / 2;
  if (address) {
    add(box, "image", centralSquare
      ? { href: address, x: edge, y: edge, width: side, height: side, preserveAspectRatio: "xMidYMid slice" }
      : { href: address, width: wide, height: HIGH, preserveAspectRatio: "none" });
  }
  return wide;
}

// The colour of a line is that of its place in the photograph from left to right: lines that cross the others stand out.
function drawPair(svg, { query: [qx, qy], photograph: [px, py] }, left, start, right) {
  const [x1, y1, x2, y2] = [qx * left, qy * HIGH, start + px * right, py * HIGH].map((value) => value.toFixed(2));
  const colour = `hsl(${Math.round(230 * (1 - qx))} 85% 58%)`;
  add(svg, "line", { x1, y1, x2, y2, stroke: colour, class: "match-line" });
  for (const [cx, cy] of [[x1, y1], [x2, y2]]) add(svg, "circle", { cx, cy, r: 1.5, fill: colour, class: "match-end" });
}

async function drawFigure(figure, file, item, centralSquare, place) {
  const [query, photograph] = await Promise.all([loaded(URL.createObjectURL(file)), loaded(thumbnail(item.image_id))]);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Your photograph on the left, that of place ${place} on the right, with lines between ${plural(item.pairs.length, "pair", "pairs")} of matching patches`);
  const left = drawPicture(svg, query, 0, centralSquare), start = left + GAP;
  const right = drawPicture(svg, photograph, start, centralSquare);
  for (const pair of [...item.pairs].reverse()) drawPair(svg, pair, left, start, right);
  svg.setAttribute("viewBox", `0 0 ${start + right} ${HIGH}`);
  figure.prepend(svg);
  return [query, photograph].map((picture) => picture.address);
}

// A button that shows the figure of a candidate, and the figure; `item` is what the service says of its matches.
export function matchNodes(file, item, centralSquare, place) {
  if (!item.total) {
    const none = document.createElement("p");
    none.className = "credit";
    none.textContent = "No matching patches.";
    return [none];
  }
  const button = document.createElement("button"), figure = document.createElement("figure"), caption = document.createElement("figcaption");
  const label = plural(item.total, "matching patch", "matching patches");
  const shown = item.pairs.length < item.total ? `The ${item.pairs.length} most similar of ${label}` : label;
  let addresses = null, gone = false;
  button.type = "button";
  button.className = "plain matches";
  figure.id = `matches-${place}`;
  figure.hidden = true;
  caption.textContent = `${shown}: your photograph on the left, place ${place} on the right.`;
  figure.append(caption);
  button.setAttribute("aria-controls", figure.id);
  const mark = () => {
    button.setAttribute("aria-expanded", String(!figure.hidden));
    button.textContent = figure.hidden ? `Show ${label} of place ${place}` : `Hide the matches of place ${place}`;
  };
  button.addEventListener("click", async () => {
    figure.hidden = !figure.hidden;
    mark();
    if (addresses) return;
    addresses = [];
    addresses = await drawFigure(figure, file, item, centralSquare, place);
    if (gone) figure.release();
  });
  // The browser holds pictures until it is told that they are no longer needed.
  figure.release = () => {
    gone = true;
    for (const address of addresses || []) if (address) URL.revokeObjectURL(address);
  };
  mark();
  return [button, figure];
}
