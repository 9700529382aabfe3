// What a number of seeds and of test items can resolve. The functions are those of affectcore.evaluation
// (statistics.power, minimal_detectable_effect, sample_size; resolution.Design): a test holds them together on a grid.
const resolution = (() => {
  // --- the normal distribution: a series near 0, a continued fraction in the tail
  const normalSf = (z) => {
    const x = Math.abs(z) / Math.SQRT2;
    let tail; // erfc(x)
    if (x < 3) {
      let term = x, sum = x;
      for (let k = 1; Math.abs(term) > 1e-17 * sum; k += 1) { term *= (2 * x * x) / (2 * k + 1); sum += term; }
      tail = 1 - (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
    } else {
      let f = x;
      for (let k = 60; k > 0; k -= 1) f = x + k / 2 / f;
      tail = Math.exp(-x * x) / (Math.sqrt(Math.PI) * f);
    }
    return z < 0 ? 1 - tail / 2 : tail / 2;
  };
  const root = (f, low, high) => { // f falls through 0: regula falsi (Illinois), every third step a bisection
    let a = f(low), b = f(high);
    for (let k = 1; k < 300 && high - low > 1e-13 * Math.max(1, Math.abs(low)); k += 1) {
      const x = k % 3 === 0 ? (low + high) / 2 : (low * b - high * a) / (b - a);
      const y = f(x);
      if (Math.abs(y) < 1e-14) return x;
      if (y > 0) { low = x; a = y; b /= 2; } else { high = x; b = y; a /= 2; }
    }
    return (low + high) / 2;
  };
  const normalIsf = (p) => root((z) => normalSf(z) - p, -40, 40);

  // --- Student's t: T = (Z + shift) / s, where s is the root of a chi-square over its degrees of freedom. In x = ln s
  // the density is proportional to exp(v (x - (e^2x - 1) / 2)); smooth, so that equal steps converge very fast.
  const overScale = (f, freedom, shift) => {
    const fall = (x) => freedom * (x - Math.expm1(2 * x) / 2) + 42; // above 0 where the density counts
    let low = -1, high = 1;
    while (fall(low) > 0) low *= 2;
    while (fall(high) > 0) high *= 2;
    low = -root((x) => fall(-x), 0, -low);
    high = root(fall, 0, high);
    const steps = Math.min(40000, Math.max(400, Math.ceil(((high - low) * Math.max(1, shift)) / 0.3)));
    let sum = 0, whole = 0;
    for (let k = 0; k <= steps; k += 1) {
      const x = low + ((high - low) * k) / steps;
      const weight = Math.exp(fall(x) - 42);
      whole += weight;
      sum += weight * f(Math.exp(x));
    }
    return sum / whole;
  };
  const cuts = new Map();
  const tIsf = (p, freedom) => {
    const key = `${p}/${freedom}`;
    if (!cuts.has(key)) {
      const tail = (t) => overScale((s) => normalSf(t * s), freedom, 0) - p;
      let high = 2;
      while (tail(high) > 0) high *= 2;
      cuts.set(key, root(tail, 0, high));
    }
    return cuts.get(key);
  };

  // --- seeds on a fixed test set: the paired t-test
  const power = (effect, sd, n, alpha = 0.05) => {
    const shift = (Math.abs(effect) / sd) * Math.sqrt(n), cut = tIsf(alpha / 2, n - 1);
    return overScale((s) => normalSf(cut * s - shift) + normalSf(cut * s + shift), n - 1, shift);
  };
  const units = new Map();
  const minimalDetectableEffect = (sd, n, alpha = 0.05, target = 0.8) => {
    if (sd === 0) return 0;
    const key = `${n}/${alpha}/${target}`;
    if (!units.has(key)) {
      let high = 1;
      while (power(high, 1, n, alpha) < target) high *= 2;
      units.set(key, root((d) => target - power(d, 1, n, alpha), 0, high));
    }
    return sd * units.get(key);
  };
  const sampleSize = (sd, margin, alpha = 0.05, target = 0.8, most = 100000) => { // null above `most`
    if (sd === 0) return 2;
    const enough = (n) => power(margin, sd, n, alpha) >= target;
    let low = 2, high = 2;
    while (!enough(high)) { low = high; high *= 2; if (low > most) return null; }
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (enough(middle)) high = middle; else low = middle + 1;
    }
    return high;
  };

  // --- items, and seeds and items together: the normal approximation of the bootstrap
  const design = ({ items, discordance, seeds = 1, seedSd = 0, stable = 1, groups = null, alike = 0 }) => {
    const itemVariance = stable * discordance * (1 + (groups === null ? 0 : (items / groups - 1) * alike));
    const error = Math.sqrt(itemVariance / items + seedSd ** 2 / seeds);
    const errors = (alpha, target) => normalIsf(alpha / 2) + normalIsf(1 - target);
    const needed = (margin, alpha, target, other, mine, least) => {
      const left = (margin / errors(alpha, target)) ** 2 - other;
      return left <= 0 ? null : Math.max(least, Math.ceil(mine / left));
    };
    return {
      error,
      detectable: (alpha = 0.05, target = 0.8) => errors(alpha, target) * error,
      power: (effect, alpha = 0.05) => {
        const cut = normalIsf(alpha / 2), shift = Math.abs(effect) / error;
        return normalSf(cut - shift) + normalSf(cut + shift);
      },
      itemsNeeded: (margin, alpha = 0.05, target = 0.8) =>
        needed(margin, alpha, target, seedSd ** 2 / seeds, itemVariance, 2),
      seedsNeeded: (margin, alpha = 0.05, target = 0.8) =>
        needed(margin, alpha, target, itemVariance / items, seedSd ** 2, 1),
    };
  };
  return { normalSf, normalIsf, tIsf, power, minimalDetectableEffect, sampleSize, design };
})();
if (typeof module !== "undefined") module.exports = resolution;

// --- the page: builds the form into the element that holds the printed table
if (typeof document !== "undefined") document.addEventListener("DOMContentLoaded", () => {
  const box = document.querySelector(".power");
  if (!box) return;
  const node = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const KINDS = { seeds: "other seeds, on this test set", items: "other test items, for these two trained models",
    both: "other seeds and other test items" };
  const whole = { inputmode: "numeric", least: 1, whole: true }, share = { inputmode: "decimal", least: 0, most: 1 };
  // name, question, value at first, rule, the kinds that ask it
  const FIELDS = [
    ["seeds", "seeds (pairs of runs)", "10", { ...whole, least: 2, most: 100000 }, "seeds both"],
    ["sd", "standard deviation of the difference over seeds", "0.015", { inputmode: "decimal", least: 0 }, "seeds both"],
    ["items", "test items", "922", { ...whole, least: 2, most: 1e9 }, "items both"],
    ["discordance", "discordance: share of items on which exactly one model is right", "0.15", { ...share, above: true }, "items both"],
    ["stable", "share of the discordance that is the same in every seed (1 is cautious)", "1", share, "both"],
    ["groups", "groups, such as videos or speakers (empty: items are independent)", "", { ...whole, least: 2, optional: true }, "items both"],
    ["alike", "how alike the items of a group are (intraclass correlation of the difference)", "0", share, "items both"],
    ["alpha", "level of significance", "0.05", { inputmode: "decimal", least: 0, most: 0.5, above: true }, "seeds items both"],
    ["target", "power", "0.8", { inputmode: "decimal", least: 0.5, most: 0.999 }, "seeds items both"],
    ["margin", "difference that matters", "0.02", { inputmode: "decimal", least: 0, above: true }, "seeds items both"],
  ];
  const start = JSON.parse(box.dataset.start ?? "{}"); // the page's own example
  box.replaceChildren();
  const form = node("form", { class: "panel", "aria-label": "What you have" });
  const kinds = node("fieldset", { class: "models" }, node("legend", {}, "the conclusion is to hold for"));
  for (const [value, text] of Object.entries(KINDS)) {
    const radio = node("input", { type: "radio", name: "kind", value });
    radio.checked = value === (start.kind ?? "items");
    kinds.append(node("label", { class: "check" }, radio, ` ${text}`));
  }
  form.append(kinds);
  const inputs = new Map(FIELDS.map(([name, text, value, rule, asked]) => {
    const input = node("input", { type: "text", name, inputmode: rule.inputmode, autocomplete: "off" });
    input.value = start[name] ?? value;
    const label = node("label", {}, text, input);
    form.append(label);
    return [name, { input, label, text: text.split(/[:(,]/)[0].trim(), rule, asked: asked.split(" ") }];
  }));
  const said = node("output", { class: "answer", "aria-live": "polite" });
  const more = node("table", { class: "table", tabindex: "0" });
  box.prepend(form, said, more);

  const read = (kind) => { // the numbers that this kind asks for; throws the first broken rule in words
    const out = {};
    for (const { input, label, asked } of inputs.values()) {
      label.hidden = !asked.includes(kind);
      input.removeAttribute("aria-invalid");
    }
    for (const [name, { input, label, text, rule }] of inputs) {
      if (label.hidden) continue;
      const typed = input.value.trim().replace(",", ".");
      if (rule.optional && typed === "") { out[name] = null; continue; }
      const x = Number(typed), most = name === "groups" ? Math.min(out.items ?? Infinity, 1e9) : rule.most ?? Infinity;
      const bad = typed === "" || !Number.isFinite(x) || x < rule.least || x > most || (rule.above && x === rule.least) || (rule.whole && !Number.isInteger(x));
      if (bad) {
        input.setAttribute("aria-invalid", "true");
        const bounds = `${rule.above ? "above" : "at least"} ${rule.least}${most < Infinity ? ` and at most ${most}` : ""}`;
        throw new RangeError(`${text}: “${input.value}” must be a ${rule.whole ? "whole " : ""}number ${bounds}.`);
      }
      out[name] = x;
    }
    if (out.alpha >= out.target) throw new RangeError("level of significance: must lie below the power.");
    return out;
  };
  const short = (x) => (x >= 0.0995 ? x.toFixed(3) : x >= 0.00095 ? x.toFixed(4) : x.toPrecision(2)).replace(/^0\./, ".");
  const percent = (x) => (x > 0.999 ? "more than 99.9\u00a0%" : `${(100 * x).toFixed(x < 0.1 ? 1 : 0)}\u00a0%`);
  const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

  // what one kind of conclusion can resolve: the least difference, the power, and what would be needed
  const answer = (kind, v) => {
    if (kind === "seeds") {
      const needed = v.sd === 0 ? 2 : resolution.sampleSize(v.sd, v.margin, v.alpha, v.target);
      return {
        least: (times) => resolution.minimalDetectableEffect(v.sd, Math.max(2, Math.round(v.seeds * times)), v.alpha, v.target),
        power: v.sd === 0 ? 1 : resolution.power(v.margin, v.sd, v.seeds, v.alpha),
        needed: [needed === null ? "more than 100,000 seeds" : count(needed, "seed")],
        rows: [["seeds", v.seeds]],
      };
    }
    const setup = (by = {}) => resolution.design({ items: v.items * (by.items ?? 1), discordance: v.discordance,
      groups: v.groups === null ? null : v.groups * (by.items ?? 1), alike: v.alike,
      ...(kind === "both" ? { stable: v.stable, seeds: v.seeds * (by.seeds ?? 1), seedSd: v.sd } : {}) });
    const now = setup(), items = now.itemsNeeded(v.margin, v.alpha, v.target);
    const needed = [items === null ? "no number of items does with these seeds" : count(items, "item")];
    if (kind === "both") {
      const seeds = now.seedsNeeded(v.margin, v.alpha, v.target);
      needed[0] += items === null ? "" : ` with these ${v.seeds} seeds`;
      needed.push(seeds === null ? "no number of seeds does on these items" : `${count(seeds, "seed")} on these items`);
    }
    const rows = [["items", v.items, "items"], ...(kind === "both" ? [["seeds", v.seeds, "seeds"]] : [])];
    return {
      least: (times, what = "items") => setup({ [what]: times }).detectable(v.alpha, v.target),
      power: now.error ? now.power(v.margin, v.alpha) : 1, needed, rows,
    };
  };
  const show = () => {
    const kind = form.elements.kind.value;
    let v;
    try { v = read(kind); } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      said.textContent = error.message;
      more.replaceChildren();
      return;
    }
    const found = answer(kind, v), least = found.least(1);
    const limit = kind === "seeds" ? "" : least > v.discordance
      ? ` Two models that disagree on ${short(v.discordance)} of the items cannot differ by more than that, so here nothing can be found.` : "";
    said.replaceChildren(node("strong", {}, `Least detectable difference: ${short(least)}`),
      `, found with probability ${percent(v.target)} at level ${v.alpha}.${limit} A true difference of ${v.margin} is found with `
      + `probability ${percent(found.power)}. To resolve it takes ${found.needed.join(", or ")}.`);
    const times = [1, 2, 4, 10];
    more.replaceChildren(node("caption", {}, "Least detectable difference with more of one thing, all else as above"),
      node("thead", {}, node("tr", {}, ...["", ...times.map((t) => (t === 1 ? "as entered" : `${t} times`))].map((t) => node("th", { scope: "col" }, t)))),
      node("tbody", {}, ...found.rows.map(([name, n, what]) => node("tr", {}, node("th", { scope: "row" }, name),
        ...times.map((t) => node("td", {}, `${short(found.least(t, what))} (${(n * t).toLocaleString("en")})`))))));
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (e) => e.preventDefault());
  show();
});
