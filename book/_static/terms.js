// Shows the definition of a glossary term beside the link to it: pointed at, or reached by keyboard. Escape hides it.
document.addEventListener("DOMContentLoaded", () => {
  const note = document.createElement("div");
  note.className = "term-note";
  note.id = "term-note";
  note.setAttribute("role", "tooltip");
  note.hidden = true;
  let link = null;
  let leaving = 0;
  const hide = () => {
    note.hidden = true;
    link?.removeAttribute("aria-describedby");
    link = null;
  };
  const show = (event) => {
    clearTimeout(leaving);
    const at = event.target.closest?.("a[data-definition]");
    if (!at || at === link) return;
    hide();
    link = at;
    note.textContent = link.dataset.definition;
    link.setAttribute("aria-describedby", note.id);
    note.hidden = false;
    const place = link.getBoundingClientRect();
    const left = Math.min(place.left, document.documentElement.clientWidth - note.offsetWidth - 8);
    note.style.left = `${Math.max(8, left) + scrollX}px`;
    const below = place.bottom + note.offsetHeight + 8 < innerHeight;
    note.style.top = `${(below ? place.bottom + 4 : place.top - note.offsetHeight - 4) + scrollY}px`;
  };
  const leave = () => { leaving = setTimeout(hide, 200); }; // time to move the pointer onto the note
  for (const term of document.querySelectorAll("a[data-definition]")) {
    term.addEventListener("mouseenter", show);
    term.addEventListener("mouseleave", leave);
    term.addEventListener("focus", show);
    term.addEventListener("blur", hide);
  }
  note.addEventListener("mouseenter", () => clearTimeout(leaving));
  note.addEventListener("mouseleave", leave);
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  addEventListener("resize", hide);
  document.body.append(note);
});
