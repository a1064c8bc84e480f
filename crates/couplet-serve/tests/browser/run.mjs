// The pages in a real browser: `node run.mjs COUPLET [PICTURES]` after `npm ci`, with Debian's chromium or the one that CHROMIUM
// names. Trains tiny runs with the binary, and fails at the first thing that is not as it should be.
// - PICTURES: a folder for screenshots.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const couplet = path.resolve(process.argv[2]);
const pictures = process.argv[3] ? path.resolve(process.argv[3]) : null;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "couplet-browser-"));
const started = [];

const CONFIG = `
name = "tiny"
device = "flex"
[model]
embed_dim = 16
[model.image]
kind = "vit"
image_size = 32
patch_size = 8
width = 32
layers = 1
heads = 2
[model.text]
context_length = 16
vocab_size = 49408
width = 16
layers = 1
heads = 2
[data.train]
source = "folder"
path = "pairs"
[data.val]
source = "shapes"
samples = 40
[data]
max_skipped = 0.2
[batch]
global = 8
[optimizer]
kind = "adamw"
lr = 3e-3
[schedule]
kind = "cosine"
length = "60 steps"
[[eval]]
kind = "zero-shot"
dataset = "set.toml"
every = "10 steps"
[checkpoint]
every = ["10 steps"]
best = "eval/tiny/top1"
[log]
every = "1 step"
`;
const DATASET = `
name = "tiny"
source = "shapes"
split = "test"
classes = "shapes"
samples = 80
`;

function run(...args) {
  const done = spawnSync(couplet, args, { cwd: folder, encoding: "utf8", timeout: 300_000 });
  return { code: done.status, text: done.stdout + done.stderr };
}
function succeed(...args) {
  const { code, text } = run(...args);
  assert.equal(code, 0, `${args.join(" ")}: ${text}`);
}

// Starts a server, and waits for its address.
function serve(...args) {
  const child = spawn(couplet, args, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  started.push(child);
  return new Promise((resolve, reject) => {
    let printed = "";
    const read = (bytes) => {
      printed += bytes;
      const found = printed.match(/http:\/\/[0-9.:]+/);
      if (found) resolve({ url: found[0], child });
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("exit", (code) => reject(new Error(`${args.join(" ")} ended with ${code}: ${printed}`)));
    setTimeout(() => reject(new Error(`${args.join(" ")}: no address in: ${printed}`)), 60_000).unref();
  });
}

function prepare() {
  fs.writeFileSync(path.join(folder, "tiny.toml"), CONFIG);
  fs.writeFileSync(path.join(folder, "set.toml"), DATASET);
  // Pictures with captions, of which one is damaged and some have captions that would be markup.
  succeed("data", "shapes", "pairs", "--samples", "60", "--format", "folder");
  const texts = fs.readdirSync(path.join(folder, "pairs"), { recursive: true }).filter((name) => name.endsWith(".txt")).sort();
  assert.ok(texts.length >= 60, texts.length);
  for (let at = 10; at < 40; at += 1) fs.writeFileSync(path.join(folder, "pairs", texts[at]), `<script>document.title='broken'</script> & no shape at all: ${at}`);
  const damaged = texts[5].replace(/txt$/, "png");
  assert.ok(fs.existsSync(path.join(folder, "pairs", damaged)), damaged);
  fs.writeFileSync(path.join(folder, "pairs", damaged), "no image");
  // A run that was stopped and resumed, and two others.
  succeed("train", "tiny.toml", "--run-dir", "runs/a", "--set", "schedule.length=20 steps");
  succeed("train", "tiny.toml", "--run-dir", "runs/a", "--resume");
  succeed("train", "tiny.toml", "--run-dir", "runs/b", "--set", "seed=1");
  succeed("train", "tiny.toml", "--run-dir", "runs/c", "--set", "optimizer.lr=1e-5");
  succeed("report", "runs/a", "--out", "one.html");
  succeed("report", "runs/a", "runs/b", "runs/c", "--out", "three.html");
  const indexed = run("index", "--model", "runs/a", "pairs", "--out", "pairs.index");
  assert.equal(indexed.code, 1, "the damaged image is told");
}

// A page that fails the test with whatever it says on the console, or asks from elsewhere.
async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: options.width || 1280, height: 900 }, colorScheme: options.theme || "light", hasTouch: Boolean(options.touch) });
  const page = await context.newPage();
  page.problems = [];
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) page.problems.push(message.text()); });
  page.on("pageerror", (error) => page.problems.push(error.message));
  page.on("request", (request) => {
    const asked = request.url();
    if (!asked.startsWith("data:") && !asked.startsWith("blob:") && !asked.startsWith(new URL(url).protocol === "file:" ? url : new URL(url).origin)) {
      page.problems.push(`asked for ${asked}`);
    }
  });
  await page.goto(url);
  return page;
}
async function close(page, name) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(wide <= 0, `${name}: ${wide} pixels too wide`);
  if (pictures) await page.screenshot({ path: path.join(pictures, `${name}.png`), fullPage: true });
  assert.deepEqual(page.problems, [], name);
  await page.context().close();
}
const texts_of = (page, selector) => page.locator(selector).allTextContents();

async function reports(browser) {
  const one = pathToFileURL(path.join(folder, "one.html")).href;
  for (const [width, theme] of [[1280, "light"], [768, "dark"], [360, "light"]]) {
    const page = await open(browser, one, { width, theme });
    assert.equal(await page.title(), "a");
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), theme);
    const body = await page.locator("body").innerText();
    for (const part of ["finished", "resumed on", "corrupt-image", "What the model sees", "Pairs that the model holds for wrong", "By class, the worst first"]) {
      assert.ok(body.includes(part), `${width}: ${part}`);
    }
    // A caption is a text, whatever is in it.
    assert.ok(body.includes("<script>document.title='broken'</script>"), "captions of pairs");
    const broken = await page.evaluate(() => [...document.images].filter((image) => !image.complete || !image.naturalWidth).length);
    assert.equal(broken, 0, "pictures");
    assert.ok((await page.locator(".uplot").count()) >= 8);
    await page.locator("details", { hasText: "Confusion matrix" }).first().locator("summary").click();
    assert.ok((await page.locator(".confusion td.hit").count()) > 0);
    await page.locator("details", { hasText: "Map of both towers" }).first().locator("summary").click();
    assert.equal(await page.locator(".map .uplot").count(), 1);
    await close(page, `report-${width}`);
  }
  const page = await open(browser, one);
  // Hover shows a value, dragging zooms, a double click goes back, smoothing adds a line.
  const chart = page.locator("[data-metric=loss] .u-over");
  await chart.scrollIntoViewIfNeeded();
  const box = await chart.boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  const value = (await texts_of(page, "[data-metric=loss] .u-value")).map((text) => text.trim());
  assert.match(value[0], /^\d+$/);
  assert.match(value[1], /^\d+\.\d+$/);
  const ticks = () => page.evaluate(() => view.charts[0].chart.scales.x.max - view.charts[0].chart.scales.x.min);
  const whole = await ticks();
  await page.mouse.down();
  await page.mouse.move(box.x + (3 * box.width) / 4, box.y + box.height / 2, { steps: 5 });
  await page.mouse.up();
  assert.ok((await ticks()) < whole / 2);
  await chart.dblclick();
  assert.equal(await ticks(), whole);
  await page.locator("#smoothing").fill("0.9");
  await page.waitForFunction(() => view.charts[0].chart.series.length === 3);
  await page.locator("#axis").selectOption("hours");
  await page.locator("#theme").click();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
  await close(page, "report-zoomed");

  const three = await open(browser, pathToFileURL(path.join(folder, "three.html")).href);
  const body = await three.locator("body").innerText();
  for (const part of ["Is the difference to a certain?", "95% interval", "Configs, and where they differ", "optimizer.lr", "seed"]) assert.ok(body.includes(part), part);
  assert.equal(await three.locator(".card .swatch").count() >= 3, true);
  await close(three, "report-three");
  const phone = await open(browser, pathToFileURL(path.join(folder, "three.html")).href, { width: 360, theme: "dark", touch: true });
  // A finger zooms too.
  const touched = phone.locator("[data-metric=loss] .u-over");
  await touched.scrollIntoViewIfNeeded();
  const area = await touched.boundingBox();
  const session = await phone.context().newCDPSession(phone);
  const at = (share) => [{ x: area.x + share * area.width, y: area.y + area.height / 2 }];
  const span = () => phone.evaluate(() => view.charts[0].chart.scales.x.max - view.charts[0].chart.scales.x.min);
  const all = await span();
  await session.send("Input.dispatchTouchEvent", { type: "touchStart", touchPoints: at(0.3) });
  for (const share of [0.4, 0.5, 0.6]) await session.send("Input.dispatchTouchEvent", { type: "touchMove", touchPoints: at(share) });
  await session.send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
  assert.ok((await span()) < all / 2, `${await span()} of ${all}`);
  await phone.locator("#zoom-out").click();
  assert.equal(await span(), all);
  await close(phone, "report-three-phone");
}

async function live(browser) {
  const { url, child } = await serve("train", "tiny.toml", "--run-dir", "runs/live", "--page=127.0.0.1:0", "--set", "schedule.length=100000 steps");
  const page = await open(browser, url);
  const steps = async () => Number((await page.locator(".card dd").first().textContent()).split(" ")[0].replaceAll(",", ""));
  await page.waitForFunction(() => document.querySelector(".card dd"));
  const before = await steps();
  await page.waitForFunction((before) => Number(document.querySelector(".card dd").textContent.split(" ")[0].replaceAll(",", "")) > before, before, { timeout: 30_000 });
  assert.equal((await page.locator(".live").textContent()), "live");
  assert.ok((await page.locator(".state").textContent()).includes("running"));
  // What one has set stays while the page goes on.
  await page.locator("#smoothing").fill("0.5");
  const later = await steps();
  await page.waitForFunction((before) => Number(document.querySelector(".card dd").textContent.split(" ")[0].replaceAll(",", "")) > before, later, { timeout: 30_000 });
  assert.equal(await page.locator("#smoothing").inputValue(), "0.5");
  await close(page, "live");
  child.kill("SIGTERM");
  const watched = await serve("watch", "runs", "--listen", "127.0.0.1:0");
  const list = await open(browser, watched.url);
  await list.waitForFunction(() => document.querySelectorAll("#runs tbody tr").length >= 4);
  await list.getByLabel("choose runs/a").check();
  await list.getByLabel("choose runs/b").check();
  await list.getByText("Show 2 together").click();
  await list.waitForURL("**/run?**");
  assert.equal(await list.locator(".card .state").count(), 2);
  assert.ok((await list.locator("body").innerText()).includes("What the model sees"));
  await close(list, "watch-two");
  const phone = await open(browser, watched.url, { width: 360 });
  await phone.waitForSelector("#runs");
  await close(phone, "watch-phone");
}

async function model(browser) {
  const { url } = await serve("serve", "--model", "runs/a", "--index", "pairs.index", "--listen", "127.0.0.1:0");
  const images = fs.readdirSync(path.join(folder, "pairs"), { recursive: true }).filter((name) => name.endsWith(".png")).sort();
  const file = path.join(folder, "pairs", images[0]);
  for (const [width, theme] of [[1280, "light"], [360, "dark"]]) {
    const page = await open(browser, url, { width, theme });
    await page.waitForFunction(() => document.getElementById("facts").textContent.includes("parameters"));
    await page.locator("#labels").fill("a circle\na square, a star");
    // A dropped image.
    const bytes = fs.readFileSync(file).toString("base64");
    const transfer = await page.evaluateHandle(async (bytes) => {
      const blob = await (await fetch(`data:image/png;base64,${bytes}`).catch(() => null))?.blob();
      const raw = blob || new Blob([Uint8Array.from(atob(bytes), (one) => one.charCodeAt(0))], { type: "image/png" });
      const transfer = new DataTransfer();
      transfer.items.add(new File([raw], "dropped.png", { type: "image/png" }));
      return transfer;
    }, bytes);
    page.problems.length = 0;
    await page.dispatchEvent("#image-drop", "drop", { dataTransfer: transfer });
    await page.waitForFunction(() => document.querySelectorAll("#probabilities li").length === 3);
    const shares = (await texts_of(page, "#probabilities .number")).map(Number.parseFloat);
    assert.ok(Math.abs(shares.reduce((a, b) => a + b) - 100) < 0.1, shares.join());
    assert.deepEqual(shares, [...shares].sort((a, b) => b - a));
    // Search by words, by a result, and by an image, which finds itself.
    await page.locator("#words").fill("a red <b>circle</b>");
    await page.locator("#words").press("Enter");
    await page.waitForFunction(() => document.querySelectorAll("#hits figure").length === 24);
    assert.ok((await page.locator("#search-note").textContent()).includes("59 images searched"));
    const row = await page.locator("#hits figure").nth(5).getAttribute("data-row");
    await page.locator("#hits figure button").nth(5).click();
    await page.waitForFunction((row) => document.querySelector("#hits figure").dataset.row === row, row);
    await page.locator("#search-file").setInputFiles(file);
    await page.waitForFunction((name) => document.querySelector("#hits .place").textContent.includes(name), path.basename(file));
    assert.equal(await page.locator("#hits .top span").first().textContent(), "1.0000");
    await page.waitForFunction(() => { const first = document.querySelector("#hits img"); return first.complete && first.naturalWidth > 0; });
    await close(page, `serve-${width}`);
  }
  // A wrong request is told.
  const page = await open(browser, url);
  await page.locator("#classify").click();
  assert.equal(await page.locator("#zero-shot-error").textContent(), "Choose an image first.");
  await page.locator("#labels").fill("only one");
  await page.locator("#image-file").setInputFiles({ name: "bad.png", mimeType: "image/png", buffer: Buffer.from("no image") });
  await page.locator("#labels").fill("one, two");
  await page.locator("#classify").click();
  await page.waitForFunction(() => document.getElementById("zero-shot-error").textContent.includes("cannot be used"));
  // The browser itself reports the status, and a preview of what is no image.
  page.problems = page.problems.filter((problem) => !problem.includes("status of 400"));
  await close(page, "serve-error");
  // A page of another origin cannot use it.
  const other = await (await browser.newContext()).newPage();
  await other.goto("data:text/html,<title>other</title>");
  const stolen = await other.evaluate(async (url) => {
    const asked = [
      fetch(`${url}/v1/search`, { method: "POST", headers: { "content-type": "application/json" }, body: '{"text":"x"}' }),
      fetch(`${url}/api/model`),
    ];
    return (await Promise.allSettled(asked)).map((one) => one.status);
  }, url);
  assert.deepEqual(stolen, ["rejected", "rejected"]);
  const shown = await other.evaluate((url) => new Promise((resolve) => {
    const image = new Image();
    image.onload = () => resolve("shown");
    image.onerror = () => resolve("refused");
    image.src = `${url}/v1/images/0`;
  }), url);
  assert.equal(shown, "refused");
  await other.context().close();
}

let browser;
try {
  prepare();
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox"] });
  for (const part of [reports, live, model]) {
    await part(browser);
    console.log(`${part.name}: ok`);
  }
} finally {
  if (browser) await browser.close();
  for (const child of started) child.kill("SIGKILL");
  fs.rmSync(folder, { recursive: true, force: true });
}
