"use strict";
// Numbers and elements as text; the same formats as reporting/units.py.

const data = JSON.parse(document.getElementById("data").textContent);

const grouped = (value) => Math.round(value).toLocaleString("en-GB");

function metres(value) {
  if (value < 9.95) return value.toFixed(1) + "\u00a0m";
  if (value < 9999.5) return grouped(value) + "\u00a0m";
  const km = value / 1000;
  return (km < 99.95 ? km.toFixed(1) : grouped(km)) + "\u00a0km";
}

function distance(value) {
  if (value >= 1000 && value % 1000 === 0) return grouped(value / 1000) + "\u00a0km";
  return Number.isInteger(value) ? grouped(value) + "\u00a0m" : metres(value);
}

function area(km2) {
  if (km2 < 0.01) return grouped(Number((1e6 * km2).toPrecision(3))) + "\u00a0m²";
  return (km2 >= 100 ? grouped(km2) : String(Number(km2.toPrecision(2)))) + "\u00a0km²";
}

const percent = (share) => (share > 0 && share < 0.01 ? (100 * share).toFixed(1) : Math.round(100 * share)) + "\u00a0%";

// An element with attributes and children; text is always text, never markup.
function element(tag, attributes, ...children) {
  const node = document.createElement(tag);
  Object.entries(attributes || {}).forEach(([name, value]) => {
    if (value === null || value === undefined) return;
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  });
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
