// Entries of frames on all pages: short ones are not broken, long ones get room, an interval breaks before its bracket.
document.addEventListener("DOMContentLoaded", () => {
  for (const cell of document.querySelectorAll(".bd-article table.dataframe :is(td, th)")) {
    const text = cell.textContent.trim();
    if (text.length <= (cell.matches("thead *") ? 7 : 16)) cell.classList.add("short");
    if (text.length > 24) cell.classList.add(text.length > 50 ? "long" : "middle");
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
