// Tables inside .sortable, and data frames of eight rows and more: a button in every column's head sorts the rows.
// Without this script they stand as written. Tables with merged cells, or reasons below their rows (reading.js, which must
// have run), stay as they are.
addEventListener("load", () => {
  const MANY = 8;
  const value = (row, i) => { // what is not known is ""; a number may have an interval or a sign of order about it
    const text = row.cells[i].textContent.trim().replaceAll("\u2212", "-").replaceAll(",", "");
    const number = /^[<>~+]*(-?\d*\.?\d+(?:e[+-]?\d+)?)(?=$|[\s%[(±×])/i.exec(text);
    return number ? Number(number[1]) : ["-", "\u2013"].includes(text) ? "" : text;
  };
  const order = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b, "en", { numeric: true });
  };
  for (const table of document.querySelectorAll(".sortable table, table.dataframe:not(:has(tr.reason))")) {
    const body = table.tBodies[0], head = [...table.tHead.rows], columns = head[0].cells.length;
    const flat = (row) => row.cells.length === columns && [...row.cells].every((c) => c.colSpan === 1 && c.rowSpan === 1);
    if (![...head, ...body.rows].every(flat) || (!table.closest(".sortable") && body.rows.length < MANY)) continue;
    // the lowest head of a column that says something: pandas names rows below the other heads
    const heads = [...head[0].cells].map((_, i) => head.map((r) => r.cells[i]).findLast((c) => c.textContent.trim()));
    heads.forEach((th, i) => {
      if (!th) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...th.childNodes);
      th.replaceChildren(button);
      button.addEventListener("click", () => {
        const up = th.getAttribute("aria-sort") !== "ascending";
        heads.forEach((h) => h?.removeAttribute("aria-sort"));
        th.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...body.rows].sort((a, b) => {
          const x = value(a, i), y = value(b, i);
          if (x === "" || y === "") return (x === "") - (y === ""); // what is not known comes last, whichever way
          return order(x, y) * (up ? 1 : -1);
        });
        body.replaceChildren(...rows);
      });
    });
  }
});
