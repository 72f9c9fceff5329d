// Folded sections: links open them, and prints contain them.

const foldings = Array.from(document.querySelectorAll("section.folded > details"));

function openTarget() {
  const target = location.hash.startsWith("#query=") ? null : document.getElementById(location.hash.slice(1));
  if (!target) return;
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  const own = target.querySelector(":scope > details");
  if (own) own.open = true;
  target.scrollIntoView();
}
window.addEventListener("hashchange", openTarget);
openTarget();

const foldAll = document.getElementById("fold-all");
if (foldAll) {
  const shut = () => foldings.some((part) => !part.open);
  const label = () => { foldAll.textContent = shut() ? "Open all sections" : "Close all sections"; };
  foldAll.hidden = false;
  foldAll.addEventListener("click", () => { const open = shut(); foldings.forEach((part) => { part.open = open; }); });
  foldings.forEach((part) => part.addEventListener("toggle", label));
  label();
}

let opened = [];
window.addEventListener("beforeprint", () => {
  opened = Array.from(document.querySelectorAll("details:not([open]):not(.no-print)"));
  opened.forEach((part) => { part.open = true; });
  [mainMap, lisaMap].forEach((one) => one && one.resize()); // at once: a map in a folded part has no size
});
window.addEventListener("afterprint", () => opened.forEach((part) => { part.open = false; }));
