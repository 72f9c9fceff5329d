// Tables: a click on a column sorts the rows, and each table can be saved as CSV.

const UNITS = { m: 1, km: 1000, "m²": 1e-6, "km²": 1, "%": 1, "points": 1 };

// The number at the start of a text in a base unit (metres, km², per cent), that unit, and what follows; null where there is none.
function quantity(text) {
  const match = text.trim().replace(/\u00a0/g, " ").replace(/\u2212/g, "-").match(/^([+-]?[\d,]+(?:\.\d+)?)(?: ?(km²|m²|km|m|%|points)(?![\w²]))?(.*)$/);
  if (!match || /^[\w.]/.test(match[3])) return null;
  const unit = match[2] || "";
  return { value: Number(match[1].replace(/,/g, "")) * (UNITS[unit] || 1), unit: unit === "km" ? "m" : unit === "m²" ? "km²" : unit, rest: match[3].trim() };
}

// The main text of a cell, without its second line.
const mainText = (cell) => Array.from(cell.childNodes).filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.textContent).join("").trim();
const smallText = (cell) => Array.from(cell.querySelectorAll("small")).map((node) => node.textContent.trim()).join("; ");
const headerText = (cell) => cell.textContent.trim();

function makeSortable(table) {
  const headers = Array.from(table.tHead.rows[0].cells), body = table.tBodies[0], original = Array.from(body.rows);
  const movable = original.filter((row) => !row.classList.contains("reference"));
  if (movable.length < 2) { table.parentElement.tabIndex = 0; return; } // a part that scrolls needs something that takes the focus
  headers.forEach((header, column) => {
    const button = element("button", { type: "button", title: "Sort by this column", text: headerText(header) });
    button.addEventListener("click", () => {
      const state = header.getAttribute("aria-sort"), next = state === "ascending" ? "descending" : state === "descending" ? null : "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      let rows = movable;
      if (next) {
        header.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        rows = movable.slice().sort((a, b) => sign * compare(mainText(a.cells[column]), mainText(b.cells[column])));
      }
      // Baselines stay where they are, below the systems.
      const queue = rows.slice();
      body.replaceChildren(...original.map((row) => (movable.includes(row) ? queue.shift() : row)));
    });
    header.replaceChildren(button);
  });
}

// Numbers before texts, empty cells last.
function compare(a, b) {
  const [x, y] = [quantity(a), quantity(b)];
  if (x && y) return x.value - y.value;
  if (x || y) return x ? -1 : 1;
  if (!a || !b) return a ? -1 : b ? 1 : 0;
  return a.localeCompare(b, "en", { numeric: true });
}

// Texts as a column of numbers with their unit in its name where all are numbers of one unit, else as they are.
function columnOf(name, texts) {
  const values = texts.map(quantity), units = new Set(values.filter((value) => value).map((value) => value.unit));
  if (units.size !== 1 || !values.every((value, at) => (value ? !value.rest : !texts[at]))) return [name, ...texts.map(guarded)];
  const [unit] = units;
  return [name + (unit ? ` (${unit})` : ""), ...values.map((value) => (value ? String(Number(value.value.toPrecision(12))) : ""))];
}

// Deviations after ± and second lines are columns of their own.
function tableAsCsv(table) {
  const rows = Array.from(table.tBodies[0].rows).map((row) => Array.from(row.cells));
  const columns = [];
  Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
    const texts = rows.map((cells) => mainText(cells[column]).split("±").map((text) => text.trim())), name = headerText(header);
    columns.push(columnOf(name, texts.map(([text]) => text)));
    if (texts.some((parts) => parts.length > 1)) columns.push(columnOf(name + ", ±", texts.map((parts) => parts[1] || "")));
    const small = rows.map((cells) => smallText(cells[column]));
    if (small.some((text) => text)) columns.push([name + ", note", ...small.map(guarded)]);
  });
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return columns[0].map((_, row) => columns.map((column) => quoted(column[row].replace(/\u00a0/g, " "))).join(",")).join("\r\n") + "\r\n";
}

// As in the files of swclip, a text that a spreadsheet would run as a formula has an apostrophe before it.
const guarded = (text) => (/^[=+\-@\t\r]/.test(text) ? "'" + text : text);

function save(content, type, name) {
  const link = element("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const fileName = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60) || "table";

// The last heading, or title of a folded part, above an element.
function headingOf(node) {
  const above = Array.from(document.querySelectorAll("h1, h2, h3, summary")).filter((one) => one.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_FOLLOWING);
  return above.length ? above[above.length - 1].textContent.trim() : document.title;
}

document.querySelectorAll(".scroll > table").forEach((table) => {
  const name = headingOf(table);
  makeSortable(table);
  table.parentElement.after(element("p", { class: "table-tools no-print" }, element("button", {
    type: "button", class: "plain", text: "Download CSV", "aria-label": "Download as CSV: " + name,
    onclick: () => save(tableAsCsv(table), "text/csv;charset=utf-8", fileName(document.title + " " + name) + ".csv"),
  })));
});
