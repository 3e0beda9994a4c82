// Drives the page of a server of its own. Usage: node page.mjs GOGRID CHROMIUM TOOLS PICTURES
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { env } from "node:process";

const [gogrid, chromium, tools, pictures] = process.argv.slice(2);
const require = createRequire(path.resolve(tools, "package.json"));
const puppeteer = require("puppeteer-core");

const KEY = "a-key-for-the-page";
const WAIT_MS = 60_000;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A home for the servers, so that they share no limits with other gogrids of this machine; models come from the user's cache. */
const home = await mkdtemp(path.join(tmpdir(), "gogrid-page-"));
const cache = path.join(env.XDG_CACHE_HOME ?? path.join(env.HOME, ".cache"), "gogrid", "models");
const own = { XDG_RUNTIME_DIR: home, XDG_CACHE_HOME: home, HOME: home, TMPDIR: home };
const serverEnv = { GOGRID_CACHE: cache, ...env, ...own };

/** A server on a port that the system chooses, once it serves. */
async function serve(...args) {
  const words = ["serve", "--mode", "aggressive", "--listen", "127.0.0.1:0", "--drain", "1", ...args];
  const process = spawn(gogrid, words, { env: serverEnv });
  let said = "";
  process.stderr.on("data", (bytes) => (said += bytes));
  const ended = new Promise((resolve) => process.on("exit", resolve));
  const until = Date.now() + WAIT_MS;
  while (!said.includes("serving ")) {
    assert.ok(process.exitCode === null && Date.now() < until, `gogrid does not serve: ${said}`);
    await sleep(50);
  }
  const address = said.match(/listening on (http:\S+)/)[1];
  return { address, end: () => (process.kill("SIGTERM"), ended) };
}

/** A page whose complaints are kept. */
async function open(browser, address, { width, dark }) {
  const page = await browser.newPage();
  page.complaints = [];
  page.on("console", (message) => {
    if (message.type() === "error") page.complaints.push(message.text());
  });
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(address) && !url.startsWith("data:")) page.complaints.push(`asked ${url}`);
  });
  await page.evaluateOnNewDocument(() => {
    window.shifts = 0;
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => {
      window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`);
    });
    new PerformanceObserver((list) => {
      for (const shift of list.getEntries()) if (!shift.hadRecentInput) window.shifts += shift.value;
    }).observe({ type: "layout-shift", buffered: true });
  });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }]);
  await page.setViewport({ width, height: width < 800 ? 740 : 900 });
  await page.goto(address);
  return page;
}

const text = (page, selector) => page.$eval(selector, (node) => node.textContent);
const until = (page, condition, ...args) => page.waitForFunction(condition, { timeout: WAIT_MS }, ...args);
const untilText = (page, selector, pattern) =>
  until(page, (selector, pattern) => new RegExp(pattern).test(document.querySelector(selector)?.textContent ?? ""), selector, pattern);
const status = async (address) => (await fetch(`${address}/gogrid/status`)).json();

async function say(page, message) {
  const [first, ...rest] = message.split("\n");
  await page.type("#message", first);
  for (const line of rest) {
    await page.keyboard.down("Shift");
    await page.keyboard.press("Enter");
    await page.keyboard.up("Shift");
    await page.type("#message", line);
  }
  await page.keyboard.press("Enter");
}

/** Until as many answers as `count` have ended with their figures. */
const answered = (page, count) =>
  until(
    page,
    (count) => {
      const notes = [...document.querySelectorAll(".turn.model .meta")].map((node) => node.textContent);
      return notes.length === count && /\d+ tokens/.test(notes.at(-1));
    },
    count,
  );

async function holdsAChat(page) {
  await until(page, () => document.querySelector("#model").options.length > 0);
  await page.click("#options-toggle");
  await page.$eval("#temperature", (slider) => {
    slider.value = 0;
    slider.dispatchEvent(new Event("input"));
  });
  await page.type("#system", "Answer in one short sentence.");
  await page.click("#options-toggle");
  await say(page, "What is the capital of France?");
  await answered(page, 1);
  assert.match(await text(page, ".turn.model .body"), /Paris/);
  await say(page, "And of Italy?");
  await answered(page, 2);
  const notes = await page.$$eval(".turn.model .meta", (notes) => notes.map((note) => note.textContent));
  console.log("answers:", notes.join(" | "));
}

async function stopsAnAnswer(page) {
  const before = (await page.$$(".turn.model")).length;
  await say(page, "Write a long story about a river.");
  await until(page, (before) => document.querySelectorAll(".turn.model .text").length > before, before);
  await page.keyboard.press("Escape");
  await until(page, () => [...document.querySelectorAll(".turn.model .meta")].at(-1).textContent === "Stopped.");
}

async function movesALimit(page, address) {
  await page.focus("#limits-max_compute_usage_percent");
  const name = "limits-max_compute_usage_percent";
  for (let press = 0; press < 45; press += 1) await page.keyboard.press("ArrowLeft");
  await untilText(page, `output[for="${name}"]`, "^50 %$");
  await untilText(page, "#allowed", "^50$");
  await untilText(page, "#state-words", "up to 50 %");
  const { settings, status: now } = await status(address);
  assert.equal(settings.limits.max_compute_usage_percent, 0.5);
  assert.equal(now.ruling.compute_share, 0.5);
  console.log("limit: settings and ruling have", now.ruling.compute_share);
  await page.select("#mode", "aggressive");
  await untilText(page, "#allowed", "^95$");
}

async function pausesAndGoesOn(page, address) {
  const before = (await page.$$(".turn.model")).length;
  await page.click("#pause");
  await untilText(page, "#state-words", "Stopped: paused by hand");
  await say(page, "Name a colour.");
  await until(
    page,
    () => /Waiting: paused by hand/.test([...document.querySelectorAll(".turn.model .meta")].at(-1).textContent),
  );
  assert.equal((await status(address)).status.ruling.verdict, "shut");
  await page.screenshot({ path: path.join(pictures, "paused.png") });
  await page.click("#resume");
  await untilText(page, "#state-words", "^Open");
  await answered(page, before + 1);
  await page.click("#snooze");
  await untilText(page, "#why", "Snoozed for another 1[78]\\d\\d s");
  await page.click("#resume");
  await untilText(page, "#state-words", "^Open");
  console.log("pause, snooze and resume: reasons shown, the answer came");
}

/** Texts whose contrast with the colour behind them is below 4.5, WCAG's AA. */
const tooFaint = (page) =>
  page.evaluate(() => {
    const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
    const light = ([r, g, b]) => {
      const [R, G, B] = [r, g, b].map((v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
      return 0.2126 * R + 0.7152 * G + 0.0722 * B;
    };
    const behind = (node) => {
      for (; node; node = node.parentElement) {
        const colour = parts(getComputedStyle(node).backgroundColor);
        if (colour[3] === undefined || colour[3] > 0) return colour;
      }
      return [255, 255, 255];
    };
    const faint = [];
    for (const node of document.querySelectorAll("body *")) {
      const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
      if (!own || !node.checkVisibility() || node.matches("script, style, option, :disabled")) continue;
      const [a, b] = [parts(getComputedStyle(node).color), behind(node)].map(light).sort((a, b) => b - a);
      const ratio = (a + 0.05) / (b + 0.05);
      if (ratio < 4.5) faint.push(`${node.tagName}.${node.className} ${node.textContent.slice(0, 20)}: ${ratio.toFixed(2)}`);
    }
    return faint;
  });

async function checkLooks(page, name) {
  assert.deepEqual(await tooFaint(page), [], name);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(wide, 0, `${name} is wider than its window`);
  await page.screenshot({ path: path.join(pictures, `${name}.png`) });
}

async function pictureEach(browser, address) {
  for (const dark of [false, true]) {
    for (const width of [360, 1440]) {
      const name = `${width}-${dark ? "dark" : "light"}`;
      const page = await open(browser, address, { width, dark });
      await until(page, () => document.querySelector("#model").options.length > 0);
      await say(page, "Explain this:\n```python\nprint('hello')\n```\nand write it in JavaScript.");
      await answered(page, 1);
      await checkLooks(page, name);
      if (width < 800) {
        await page.click("#view-machine");
        await sleep(1500);
        await checkLooks(page, `${name}-machine`);
        await page.$eval(".machine", (node) => (node.scrollTop = 700));
        await checkLooks(page, `${name}-machine-end`);
      }
      await checkQuiet(page, name);
      await page.close();
    }
  }
}

async function checkQuiet(page, name) {
  assert.deepEqual(page.complaints, [], `${name}: complaints`);
  assert.deepEqual(await page.evaluate(() => window.violations), [], `${name}: policy`);
  const shifts = await page.evaluate(() => window.shifts);
  assert.ok(shifts < 0.1, `${name}: the layout shifted by ${shifts}`);
}

/** Reasoning is folded, errors can be tried again, and markup in an answer is text. The answers are made up here. */
async function showsWhateverIsSaid(browser, address) {
  const page = await open(browser, address, { width: 1440, dark: false });
  await until(page, () => document.querySelector("#model").options.length > 0);
  const chunk = (delta) => `data: ${JSON.stringify({ choices: [{ index: 0, delta }] })}\n\n`;
  const markup = "<img src=x onerror=alert(1)><script>alert(1)</script>";
  const answers = [
    `: gogrid queued position=3\n\ndata: ${JSON.stringify({ error: { message: "no room" } })}\n\n`,
    chunk({ reasoning_content: `I think. ${markup}` }) +
      chunk({ content: `Look: ${markup}\n\`\`\`html\n${markup}` }) +
      "data: [DONE]\n\n",
  ];
  await page.setRequestInterception(true);
  page.on("request", (request) => {
    if (!request.url().endsWith("/chat/completions")) return request.continue();
    return request.respond({ contentType: "text/event-stream", body: answers.shift() });
  });
  await say(page, `What is ${markup}?`);
  await untilText(page, ".turn.model .meta", "^no room");
  await page.click(".turn.model .meta button");
  await untilText(page, ".turn.model .meta", "^The stream ended early");
  assert.equal(await text(page, ".turn.model .body > .text"), `Look: ${markup}`);
  assert.equal(await text(page, ".turn.model code"), markup);
  assert.equal(await text(page, ".reasoning .text"), `I think. ${markup}`);
  assert.equal(await page.$eval(".reasoning", (folded) => folded.open), false);
  assert.equal((await page.$$(".log img, .log script")).length, 0);
  await checkQuiet(page, "whatever is said");
  await page.close();
  console.log("markup: shown as text; reasoning folded; an error tried again");
}

/** A page that is hidden asks nothing. */
async function restsWhileHidden(page) {
  let asked = 0;
  page.on("request", () => (asked += 1));
  const hide = (hidden) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  await hide(true);
  await sleep(300);
  asked = 0;
  await sleep(2500);
  assert.equal(asked, 0, "requests while hidden");
  await hide(false);
  await sleep(2500);
  assert.ok(asked >= 2 && asked <= 6, `${asked} requests in 2.5 s`);
}

async function asksForAKey(browser) {
  const folder = await mkdtemp(path.join(tmpdir(), "gogrid-page-"));
  const keys = path.join(folder, "keys");
  await writeFile(keys, `${KEY} limits=yes\nanother-key-entirely\n`, { mode: 0o600 });
  const server = await serve("--api-key-file", keys);
  try {
    const page = await open(browser, server.address, { width: 1440, dark: false });
    const enter = async (key) => {
      await until(page, () => document.querySelector("#key-dialog").open);
      await page.type("#key", key);
      await page.keyboard.press("Enter");
    };
    await enter("not-a-key-of-it");
    await until(page, () => !document.querySelector("#key-problem").hidden);
    await page.screenshot({ path: path.join(pictures, "key.png") });
    await enter(KEY);
    await untilText(page, "#state-words", "^Open");
    await until(page, () => document.querySelector("#model").options.length > 0);
    const others = page.complaints.filter((complaint) => !complaint.includes("401"));
    assert.deepEqual(others, []);
    console.log("key: refused, asked for again, taken");
  } finally {
    await server.end();
    await rm(folder, { recursive: true });
  }
}

const server = await serve();
const browser = await puppeteer.launch({ executablePath: chromium, args: ["--no-sandbox", "--disable-gpu"] });
try {
  const page = await open(browser, server.address, { width: 1440, dark: false });
  await untilText(page, "#state-words", "^Open");
  await holdsAChat(page);
  await stopsAnAnswer(page);
  await movesALimit(page, server.address);
  await pausesAndGoesOn(page, server.address);
  await restsWhileHidden(page);
  await checkQuiet(page, "chat");
  await page.screenshot({ path: path.join(pictures, "chat.png") });
  await page.close();
  await showsWhateverIsSaid(browser, server.address);
  await pictureEach(browser, server.address);
  await asksForAKey(browser);
  console.log(`page: all well; pictures in ${pictures}`);
} finally {
  await browser.close();
  await server.end();
  await rm(home, { recursive: true });
}
