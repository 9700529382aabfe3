// Filters for the cards of the claims ledger; without this script all cards stand there, unfiltered.
document.addEventListener("DOMContentLoaded", () => {
  const ledger = document.querySelector(".ledger");
  if (!ledger) return;
  const cards = [...ledger.querySelectorAll("details.claim")];
  const values = (name) => [...new Set(cards.flatMap((c) => c.dataset[name].split(name === "on" ? " " : "|")))];
  const form = document.createElement("form");
  form.className = "ledger-filters";
  form.setAttribute("aria-label", "Filter the claims");
  const fields = [["paper", "paper"], ["verdict", "verdict"], ["on", "tested on"]].map(([name, text]) => {
    const label = document.createElement("label");
    const select = document.createElement("select");
    select.name = name;
    select.append(new Option("all", ""), ...values(name).map((v) => new Option(v, v)));
    label.append(text, select);
    form.append(label);
    return select;
  });
  const label = document.createElement("label");
  const search = document.createElement("input");
  search.type = "search";
  search.name = "words";
  label.append("words", search);
  const count = document.createElement("output");
  count.setAttribute("aria-live", "polite");
  form.append(label, count);
  ledger.before(form);
  const apply = () => {
    const words = search.value.toLowerCase();
    let shown = 0;
    for (const c of cards) {
      const fits = fields.every((f) => !f.value || c.dataset[f.name].split(/[| ]/).includes(f.value)
        || c.dataset[f.name].split("|").includes(f.value));
      c.hidden = !(fits && c.textContent.replaceAll("\u00a0", " ").toLowerCase().includes(words));
      shown += !c.hidden;
    }
    count.textContent = `${shown} of ${cards.length} claims`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (e) => e.preventDefault());
  const follow = () => {
    const card = document.getElementById(location.hash.slice(1));
    if (!card || !card.matches("details.claim")) return;
    form.reset();
    apply();
    card.open = true;
    card.scrollIntoView();
    card.querySelector("summary").focus({ preventScroll: true });
  };
  addEventListener("hashchange", follow);
  addEventListener("load", follow); // what loads late moves the card
  apply();
  follow();

  // A badge is used on other sites: its snippet gets whole addresses, and a button that copies it.
  const site = new URL("../../", location.href.split("#")[0]);
  for (const code of ledger.querySelectorAll(".badge-markdown code")) {
    code.textContent = code.textContent.replace(/\]\((?=[a-z])/g, `](${site}`);
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "copy";
    button.setAttribute("aria-label", `Copy the badge of ${code.closest(".claim").querySelector("b").textContent}`);
    button.addEventListener("click", async () => {
      getSelection().selectAllChildren(code); // stays selected where a page may not write to the clipboard
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "copied";
      } catch {
        button.textContent = "selected";
      }
    });
    code.after(" ", button);
  }
});
