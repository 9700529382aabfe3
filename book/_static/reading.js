// Entries of frames on all pages: short ones are not broken, long ones get room, an interval breaks before its bracket.
document.addEventListener("DOMContentLoaded", () => {
  for (const cell of document.querySelectorAll(".bd-article table.dataframe :is(td, th)")) {
    const text = cell.textContent.trim();
    if (text.length <= (cell.matches("thead *") ? 7 : 16)) cell.classList.add(text.includes(": ") ? "pair" : "short");
    if (text.length >= 24) cell.classList.add(text.length > 50 ? "long" : "middle");
    if (cell.childElementCount === 0 && /^\S+ \[\S+, \S+\]$/.test(text)) cell.textContent = text.replace(", ", ",\u00a0");
  }
});

// A figure that scrolls on a telephone can be reached by the keyboard: asked again when it, or its picture, gets another
// size, for pictures load late and telephones are turned.
document.addEventListener("DOMContentLoaded", () => {
  const watch = new ResizeObserver((entries) => {
    for (const figure of new Set(entries.map((e) => e.target.closest("figure")))) {
      if (figure.scrollWidth > figure.clientWidth) figure.tabIndex = 0;
      else figure.removeAttribute("tabindex");
    }
  });
  for (const part of document.querySelectorAll(".bd-article div.cell_output figure, .bd-article div.cell_output figure > img")) {
    watch.observe(part);
  }
});

// Tables of sentences. Where many columns end in one of reasons, a reason goes below the numbers of its row. Every entry
// gets the name of its column, which a telephone shows in place of the head (custom.css, "listed").
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".bd-article table.dataframe:has(td.long, td.middle:last-child)")) {
    const head = [...table.tHead.rows], rows = [...table.tBodies[0].rows];
    const columns = Math.max(...rows.map((r) => r.cells.length)), last = columns - 1;
    const names = Array.from({ length: columns }, (_, i) => head.map((r) => r.cells[i]?.textContent.trim()).filter(Boolean).join(" "));
    if (columns < 3 || head.some((r) => r.cells.length !== columns)) continue;
    let group = "";
    for (const row of rows) {
      const missing = columns - row.cells.length; // a name that began further up
      if (missing) row.cells[0].dataset.name = group;
      else group = row.cells[0].textContent.trim();
      for (const cell of row.querySelectorAll("td")) {
        cell.dataset.name = names[cell.cellIndex + missing];
        if (["", "-"].includes(cell.textContent.trim())) cell.classList.add("none");
      }
    }
    table.classList.add("listed");
    if (columns < 7 || !rows.some((r) => r.lastElementChild.matches("td.long, td.middle"))) continue;
    for (const row of head) row.cells[last].remove();
    for (const row of rows) {
      const below = document.createElement("tr"), cell = row.lastElementChild;
      below.className = "reason";
      if (row.cells.length === columns) row.cells[0].rowSpan *= 2;
      cell.colSpan = last - 1;
      cell.classList.remove("short", "pair");
      below.append(cell);
      row.after(below);
    }
  }
});

// Frames that scroll: on a telephone the names of their rows stay (custom.css, "scrolls").
const measure = () => {
  for (const table of document.querySelectorAll(".bd-article div.cell_output table.dataframe")) {
    table.classList.remove("scrolls");
    table.classList.toggle("scrolls", table.scrollWidth > table.clientWidth + 1);
  }
};
addEventListener("load", measure);
addEventListener("resize", measure);
