"use strict";
// Heads become buttons here and not in the text of the page, which so reads well without a script.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    if (!button.textContent.trim()) button.setAttribute("aria-label", `column ${column + 1}`);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column], down ? -1 : 1));
      body.append(...rows);
    });
  });
}
// Numbers by their size, then text; empty cells last, whichever way.
function compare(a, b, sign) {
  const rank = (cell) => (cell.dataset.value !== undefined ? 0 : cell.textContent.trim() ? 1 : 2);
  if (rank(a) !== rank(b)) return rank(a) === 2 || rank(b) === 2 ? rank(a) - rank(b) : sign * (rank(a) - rank(b));
  if (rank(a) === 0) return sign * (Number(a.dataset.value) - Number(b.dataset.value));
  return sign * a.textContent.localeCompare(b.textContent, "en", { numeric: true });
}
// Paper has no buttons, so it shows what is folded.
const folded = new Set();
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details:not([open])")) { folded.add(one); one.open = true; }
});
addEventListener("afterprint", () => {
  for (const one of folded) one.open = false;
  folded.clear();
});
