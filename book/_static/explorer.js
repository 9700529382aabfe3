// The robustness explorer: draws what the page's JSON holds, as SVG, as a table and as CSV. No library, no request.
// Without this script the tables of the page stand there as they are.
document.addEventListener("DOMContentLoaded", () => {
  const box = document.querySelector(".explorer");
  if (!box) return;
  const { look, scenes } = JSON.parse(box.querySelector("script").textContent);
  box.querySelector(".explorer-plain").hidden = true;

  // --- small helpers
  const node = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const svgNode = (name, attributes = {}, text = null) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    return made;
  };
  const short = (x) => (x === null ? "not defined" : x.toFixed(3).replace(/^(-?)0\./, "$1.").replace("-", "−"));
  const spanned = ([mean, low, high]) => `${short(mean)} [${short(low)},\u00a0${short(high)}]`; // breaks before the bracket

  // --- controls
  const form = node("form", { class: "panel", "aria-label": "What to show" });
  const field = (text, name) => {
    const select = node("select", { name });
    form.append(node("label", {}, text, select));
    return select;
  };
  const fields = { scene: field("data", "scene"), stressor: field("stressor", "stressor"),
    setting: field("strength", "setting"), metric: field("metric", "metric") };
  const seedsBox = node("input", { type: "checkbox", name: "seeds" });
  const models = node("fieldset", { class: "models" }, node("legend", {}, "models"));
  form.append(models, node("label", { class: "check" }, seedsBox, " single seeds as dots"));
  const group = (kind) => scenes.filter((s) => s.kind === kind).map((s) => new Option(s.title, s.key));
  fields.scene.append(node("optgroup", { label: "real data" }, ...group("corpus")),
    node("optgroup", { label: "worlds (synthetic, truth known)" }, ...group("world")));
  const fill = (select, options) => select.replaceChildren(...options.map(([text, value]) => new Option(text, value)));

  // --- what is shown
  const scope = node("p", { class: "scope" });
  const picture = node("div", { class: "picture" });
  const said = node("output", { "aria-live": "polite" });
  const holder = node("div");
  const save = node("button", { type: "button" }, "Download this table (CSV)");
  box.prepend(form, scope, picture, said, holder, save);

  const find = (list, key) => list.find((x) => x.key === key);
  const state = () => {
    const scene = find(scenes, fields.scene.value);
    const stressor = find(scene.stressors, fields.stressor.value);
    const metric = find(scene.metrics, fields.metric.value);
    const values = scene.values[`${metric.key}/${stressor.key}`];
    const chosen = [...models.querySelectorAll("input")].flatMap((c, i) => (c.checked ? [i] : []));
    const at = fields.setting.value === "" ? null : Number(fields.setting.value);
    return { scene, stressor, metric, values, chosen, at };
  };
  const style = (i) => { // after one round of the palette, markers are hollow and dashes change
    const n = look.palette.length;
    const dash = { "-": "", "--": "7 4", "-.": "7 3 2 3", ":": "2 3" }[look.dashes[(i + Math.floor(i / n)) % n]];
    return { color: look.palette[i % n], dash, marker: look.markers[i % n], hollow: i >= n };
  };
  const SHAPES = { // within a circle of radius 1
    s: "-.8,-.8 .8,-.8 .8,.8 -.8,.8", "^": "0,-1 .95,.75 -.95,.75", v: "0,1 .95,-.75 -.95,-.75", D: "0,-1 1,0 0,1 -1,0",
    P: "-.35,-1 .35,-1 .35,-.35 1,-.35 1,.35 .35,.35 .35,1 -.35,1 -.35,.35 -1,.35 -1,-.35 -.35,-.35",
    X: "-1,-.55 -.55,-1 0,-.45 .55,-1 1,-.55 .45,0 1,.55 .55,1 0,.45 -.55,1 -1,.55 -.45,0",
  };
  const mark = (i, x, y, r = 5) => {
    const { color, marker, hollow } = style(i);
    const paint = { fill: hollow ? "#fff" : color, stroke: color, "stroke-width": hollow ? 2 : 1 };
    if (marker === "o") return svgNode("circle", { cx: x, cy: y, r, ...paint });
    const points = SHAPES[marker].split(" ").map((p) => p.split(",").map((v, k) => Number(v) * r + [x, y][k]).join(","));
    return svgNode("polygon", { points: points.join(" "), ...paint });
  };
  const key = (i) => {
    const made = svgNode("svg", { width: 30, height: 14, "aria-hidden": "true", class: "key" });
    const { color, dash } = style(i);
    made.append(svgNode("line", { x1: 0, x2: 30, y1: 7, y2: 7, stroke: color, "stroke-width": 2, "stroke-dasharray": dash }),
      mark(i, 15, 7));
    return made;
  };

  // --- drawing
  const ticks = (low, high) => {
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
    const out = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) out.push(k * step);
    return out.map((v) => [v, v.toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)))]);
  };
  const range = ({ metric, values, chosen, at }) => {
    const cells = chosen.flatMap((i) => (at === null ? values[i] : [values[i][at]]));
    const all = [...cells.flatMap((c) => [c[0], c[1], c[2], ...(seedsBox.checked ? c[3] : [])]), metric.floor, metric.ceiling]
      .filter((x) => x !== null);
    const low = Math.min(...all), high = Math.max(...all), pad = (high - low || 1) * 0.06;
    return [low - pad, high + pad];
  };
  const words = (x, y, text, extra = {}) => svgNode("text", { x, y, fill: "#333", "font-size": 13,
    stroke: "#fff", "stroke-width": 4, "paint-order": "stroke", ...extra }, text);
  const bounds = (metric) => [["floor", metric.floor, "2 3"], ["ceiling (clean input)", metric.ceiling, "7 4"]]
    .filter(([, value]) => value !== null);

  // Score upwards, settings to the right: curves on a scale, dots side by side for cases.
  const drawSettings = (s, width) => {
    const { stressor, metric, values, chosen } = s, [low, high] = range(s);
    const height = 400, left = 52, right = width - 14, top = 30, bottom = height - 52;
    const svg = svgNode("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" });
    const y = (v) => bottom - ((v - low) / (high - low)) * (bottom - top);
    const n = stressor.settings.length, scale = stressor.settings.map(Number), slot = (right - left) / n;
    const x = (k) => (stressor.numeric ? left + 14 + (scale[k] / scale[n - 1]) * (right - left - 28) : left + (k + 0.5) * slot);
    for (const [v, text] of ticks(low, high)) {
      svg.append(svgNode("line", { x1: left, x2: right, y1: y(v), y2: y(v), stroke: "#e0e0e0" }),
        words(left - 6, y(v) + 4, text, { "text-anchor": "end" }));
    }
    stressor.settings.forEach((text, k) => svg.append(words(x(k), bottom + 20, text, { "text-anchor": "middle" })));
    svg.append(words((left + right) / 2, height - 10, stressor.axis, { "text-anchor": "middle" }),
      words(4, 15, `${metric.name} (${metric.higher ? "higher" : "lower"} is better)`));
    for (const [name, v, dash] of bounds(metric)) {
      svg.append(svgNode("line", { x1: left, x2: right, y1: y(v), y2: y(v), stroke: look.grey, "stroke-dasharray": dash, "stroke-width": 1.5 }),
        name === "floor" // at the mild end, where curves are far from it; they start near the ceiling
          ? words(left + 4, y(v) - 5, name, { "text-anchor": "start", fill: look.grey })
          : words(right, y(v) - 5, name, { "text-anchor": "end", fill: look.grey }));
    }
    const step = Math.min(14, (slot * 0.8) / Math.max(1, chosen.length));
    chosen.forEach((i, order) => {
      const { color, dash } = style(i);
      const row = values[i].map((c, k) => [c, k]).filter(([c]) => c[1] !== null); // a score may not be defined
      const at = (k) => x(k) + (stressor.numeric ? 0 : (order - (chosen.length - 1) / 2) * step);
      if (stressor.numeric) {
        const edge = [...row.map(([c, k]) => [at(k), y(c[2])]), ...row.map(([c, k]) => [at(k), y(c[1])]).reverse()];
        svg.append(svgNode("polygon", { points: edge.join(" "), fill: color, opacity: 0.13 }),
          svgNode("polyline", { points: row.map(([c, k]) => [at(k), y(c[0])]).join(" "), fill: "none", stroke: color, "stroke-width": 2, "stroke-dasharray": dash }));
      }
      row.forEach(([c, k]) => {
        svg.append(svgNode("line", { x1: at(k), x2: at(k), y1: y(c[1]), y2: y(c[2]), stroke: color, "stroke-width": 2, opacity: stressor.numeric ? 0.5 : 1 }));
        if (seedsBox.checked) for (const v of c[3]) svg.append(svgNode("circle", { cx: at(k) + 4, cy: y(v), r: 1.8, fill: color, opacity: 0.6 }));
        const dot = mark(i, at(k), y(c[0]));
        dot.append(svgNode("title", {}, `${s.scene.models[i]}, ${stressor.settings[k]}: ${spanned(c)}`));
        svg.append(dot);
      });
    });
    return svg;
  };

  // Models as rows, score to the right: one setting.
  const drawModels = (s, width) => {
    const { scene, metric, values, chosen, at } = s, [low, high] = range(s);
    const left = 14, right = width - 14, top = 34, line = 40, bottom = top + line * chosen.length, height = bottom + 46;
    const svg = svgNode("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" });
    const x = (v) => left + ((v - low) / (high - low)) * (right - left);
    for (const [v, text] of ticks(low, high)) {
      svg.append(svgNode("line", { x1: x(v), x2: x(v), y1: top, y2: bottom, stroke: "#e0e0e0" }),
        words(x(v), bottom + 17, text, { "text-anchor": "middle" }));
    }
    svg.append(words((left + right) / 2, height - 9, `${metric.name} (${metric.higher ? "higher" : "lower"} is better)`, { "text-anchor": "middle" }));
    bounds(metric).forEach(([name, v, dash], k) => {
      const end = x(v) > width / 2;
      svg.append(svgNode("line", { x1: x(v), x2: x(v), y1: top - 4, y2: bottom, stroke: look.grey, "stroke-dasharray": dash, "stroke-width": 1.5 }),
        words(x(v) + (end ? 4 : -4), 13 + 14 * (k % 2), name, { "text-anchor": end ? "end" : "start", fill: look.grey }));
    });
    chosen.forEach((i, order) => {
      const y = top + line * (order + 0.68), { color } = style(i), c = values[i][at];
      svg.append(words(left, y - 10, scene.models[i]));
      if (c[1] === null) return;
      svg.append(svgNode("line", { x1: x(c[1]), x2: x(c[2]), y1: y, y2: y, stroke: color, "stroke-width": 3 }));
      if (seedsBox.checked) for (const v of c[3]) svg.append(svgNode("circle", { cx: x(v), cy: y + 6, r: 1.8, fill: color, opacity: 0.6 }));
      svg.append(mark(i, x(c[0]), y));
    });
    return svg;
  };

  const table = ({ scene, stressor, metric, values, chosen, at }) => {
    const columns = at === null ? stressor.settings.map((_, k) => k) : [at];
    const seeds = (i) => values[i][0][3].length;
    const head = node("tr", {}, ...["model", ...columns.map((k) => stressor.settings[k]), "seeds"].map((t) => node("th", { scope: "col" }, t)));
    const rows = chosen.map((i) => node("tr", {}, node("th", { scope: "row" }, scene.models[i]),
      ...columns.map((k) => node("td", {}, spanned(values[i][k]))), node("td", {}, String(seeds(i)))));
    const bound = bounds(metric).map(([name, v]) => node("tr", {}, node("th", { scope: "row" }, name),
      ...columns.map((k) => node("td", {}, name === "floor" || k === 0 ? short(v) : "–")), node("td", {}, "")));
    return node("table", { class: "table", tabindex: "0" },
      node("caption", {}, `${metric.name[0].toUpperCase()}${metric.name.slice(1)}, mean and 95\u00a0% interval. ${scene.title}. Columns: ${stressor.axis}.`),
      node("thead", {}, head), node("tbody", {}, ...rows, ...bound));
  };

  const sentence = ({ scene, stressor, metric, values, chosen, at }) => {
    if (!chosen.length) return "No model is chosen.";
    const k = at ?? stressor.settings.length - 1;
    const sorted = [...chosen].sort((a, b) => (values[a][k][0] - values[b][k][0]) * (metric.higher ? -1 : 1));
    const best = sorted[0], name = `${chosen.length} of ${scene.models.length} models`;
    const lost = short(Math.abs(values[best][k][0] - values[best][0][0]));
    const where = `${stressor.axis}: ${stressor.settings[k]}`;
    return `${name} on ${scene.title}. Best mean at “${where}”: ${scene.models[best]}, ${spanned(values[best][k])}`
      + (k ? `, ${lost} from its score on clean input` : "")
      + (metric.floor === null ? "." : `; floor ${short(metric.floor)}.`);
  };

  const csv = ({ scene, stressor, metric, values, chosen, at }) => {
    const quoted = (v) => (/[",\n]/.test(v) ? `"${v.replaceAll('"', '""')}"` : v);
    const head = ["data", "kind", "metric", "stressor", "setting", "model", "mean", "low95", "high95", "seeds", "floor", "ceiling_clean"];
    const lines = chosen.flatMap((i) => values[i].flatMap(([mean, low, high, seeds], k) => (at === null || at === k
      ? [[scene.key, scene.kind, metric.key, stressor.key, stressor.settings[k], scene.models[i], mean ?? "", low ?? "", high ?? "", seeds.length,
        metric.floor ?? "", metric.ceiling ?? ""]] : [])));
    return [head, ...lines].map((line) => line.map((v) => quoted(String(v))).join(",")).join("\n") + "\n";
  };

  // --- keeping all in step
  let width = 0;
  const draw = () => {
    const s = state();
    width = picture.clientWidth;
    scope.textContent = `${s.scene.kind === "corpus" ? "Real data" : "A world"}. ${s.scene.scope} `
      + (s.scene.kind === "corpus" ? "Intervals: 95\u00a0%, over seeds and videos together (bootstrap)." : "Intervals: 95\u00a0%, over seeds (Student’s t).");
    const text = sentence(s);
    said.textContent = text;
    holder.replaceChildren(table(s));
    save.disabled = !s.chosen.length;
    if (!s.chosen.length) { picture.replaceChildren(); return; }
    const svg = (s.at === null ? drawSettings : drawModels)(s, Math.max(280, width));
    svg.setAttribute("aria-label", `${text} All numbers are in the table below.`);
    picture.replaceChildren(svg);
  };
  const settings = () => {
    const { stressor } = state();
    fill(fields.setting, [["all", ""], ...stressor.settings.map((t, k) => [t, k])]);
  };
  const start = () => { // after another data label: its own stressors, metrics and models
    const scene = find(scenes, fields.scene.value);
    fill(fields.stressor, scene.stressors.map((s) => [s.name, s.key]));
    fill(fields.metric, scene.metrics.map((m) => [m.name, m.key]));
    models.replaceChildren(models.firstChild, ...scene.models.map((name, i) => {
      const check = node("input", { type: "checkbox", name: "model", value: name });
      check.checked = i < 4; // more at once cover each other
      return node("label", { class: "check" }, check, " ", key(i), ` ${name}`);
    }));
    settings();
  };
  form.addEventListener("input", (e) => {
    if (e.target === fields.scene) start();
    if (e.target === fields.stressor) settings();
    draw();
  });
  form.addEventListener("submit", (e) => e.preventDefault());
  save.addEventListener("click", () => {
    const s = state();
    const link = node("a", { href: URL.createObjectURL(new Blob([csv(s)], { type: "text/csv" })),
      download: `robustness_${s.scene.key}_${s.stressor.key}_${s.metric.key}.csv` });
    link.click();
    URL.revokeObjectURL(link.href);
  });
  addEventListener("resize", () => { if (picture.clientWidth !== width) draw(); });
  start();
  draw();
});
