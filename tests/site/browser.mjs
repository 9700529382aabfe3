// Opens every page of the built site in a headless Chromium at two widths, light and dark, and fails on accessibility
// violations (axe, WCAG A and AA), script errors, formulas that were not set, and horizontal overflow. Screenshots of all.
//   npm install --no-save --prefix _build/browser playwright-core axe-core
//   node tests/site/browser.mjs _build/html _build/browser
// CHROMIUM names the browser where it is not found; PAGES limits the pages to those that match.
import { createServer } from "node:http";
import { existsSync, mkdirSync, readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { extname, join, relative, resolve } from "node:path";

const [site, out] = process.argv.slice(2).map((p) => resolve(p));
const require = createRequire(join(out, "x.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

// These come from the theme and from docutils, not from the book.
const ALLOWED = new Set(["label-content-name-mismatch", "aria-required-children", "aria-deprecated-role"]);
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".png": "image/png",
  ".svg": "image/svg+xml", ".woff": "font/woff", ".woff2": "font/woff2", ".json": "application/json" };

const browser_path = process.env.CHROMIUM ??
  ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/usr/bin/google-chrome-stable"].find(existsSync);
if (!browser_path) { console.error("no Chromium found; name one in CHROMIUM"); process.exit(2); }

const files = (dir) => readdirSync(dir, { withFileTypes: true }).flatMap((e) =>
  e.isDirectory() ? (e.name.startsWith("_") ? [] : files(join(dir, e.name))) : e.name.endsWith(".html") ? [join(dir, e.name)] : []);
const pages = files(site).map((p) => relative(site, p)).filter((p) => new RegExp(process.env.PAGES ?? ".").test(p));

const server = createServer((request, response) => {
  const path = join(site, decodeURIComponent(new URL(request.url, "http://x").pathname));
  if (!path.startsWith(site) || !existsSync(path)) { response.writeHead(404).end(); return; }
  response.writeHead(200, { "content-type": TYPES[extname(path)] ?? "application/octet-stream" }).end(readFileSync(path));
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const origin = `http://127.0.0.1:${server.address().port}`;

mkdirSync(out, { recursive: true });
const browser = await chromium.launch({ executablePath: browser_path, args: ["--no-sandbox"] });
let failures = 0;
for (const width of [1280, 390]) for (const mode of ["light", "dark"]) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: mode });
  await context.addInitScript((m) => { localStorage.setItem("mode", m); localStorage.setItem("theme", m); }, mode);
  for (const name of pages) {
    const say = (what) => { failures += 1; console.log(`${name} ${width} ${mode}: ${what}`); };
    const page = await context.newPage();
    page.on("pageerror", (error) => say(`script error: ${error.message}`));
    page.on("requestfailed", (request) => say(`request failed: ${request.url()}`));
    page.on("response", (response) => { if (response.status() >= 400) say(`${response.status()}: ${response.url()}`); });
    await page.goto(`${origin}/${name}`, { waitUntil: "load" });
    await page.evaluate(() => window.MathJax?.startup?.promise);
    await page.waitForTimeout(150);
    const unset = await page.evaluate(() => [...document.querySelectorAll(".math")].filter((e) => !e.querySelector("mjx-container")).length);
    if (unset) say(`${unset} formulas not set`);
    const extra = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (extra > 1) say(`${extra} px of horizontal overflow`);
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] }));
    for (const v of violations.filter((v) => !ALLOWED.has(v.id)))
      say(`${v.id}: ${v.help}\n    ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join("\n    ")}`);
    await page.screenshot({ path: join(out, `${name.replaceAll("/", "-").replace(".html", "")}-${width}-${mode}.png`), fullPage: true });
    await page.close();
  }
  await context.close();
}
await browser.close();
server.close();
console.log(`${pages.length} pages, 2 widths, light and dark: ${failures} failures`);
process.exit(failures ? 1 : 0);
