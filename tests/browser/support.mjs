// What all tests of the page share: a browser, signing in, pictures, and what is checked on every page.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

// The modules are not beside the tests but where xtask installed them.
const modules = process.env.BROWSER_MODULES ?? new URL("../../target/browser", import.meta.url).pathname;
const require = createRequire(join(modules, "index.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

export const TOKEN = process.env.READ_TOKEN;
export const at = (name) => `http://${process.env[name]}`;
export const PHONE = { width: 360, height: 740 };
export const DESKTOP = { width: 1280, height: 900 };
const pictures = process.env.SCREENSHOTS;
mkdirSync(pictures, { recursive: true });

export const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  // As root it has no sandbox.
  args: ["--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"],
});

/** A page of its own context; what its console says of errors is kept, and where it asks for anything else than `base`. */
export async function open(base, options = {}) {
  const context = await browser.newContext({
    baseURL: base, viewport: DESKTOP, reducedMotion: "reduce", locale: "en", ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  page.wrong = [];
  page.on("console", (message) => { if (message.type() === "error") page.wrong.push(message.text()); });
  page.on("pageerror", (error) => page.wrong.push(String(error)));
  page.on("dialog", (dialog) => { page.wrong.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(base) && !url.startsWith("data:") && !url.startsWith("blob:")) page.wrong.push(`asked for ${url}`);
  });
  return page;
}

export async function signIn(page, to = "/") {
  await page.goto(to);
  await page.getByLabel("Read token").fill(TOKEN);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("button", { name: "Sign out" }).waitFor();
}

/** Signed in, at this path. */
export async function visit(base, path, options) {
  const page = await open(base, options);
  await signIn(page, path);
  return page;
}

/** All charts that are near enough to be drawn, are. */
export async function drawn(page) {
  const charts = await page.locator("figure[data-chart]").count();
  for (let at = 0; at < charts; at += 1) {
    const chart = page.locator("figure[data-chart]").nth(at);
    await chart.scrollIntoViewIfNeeded();
    await chart.and(page.locator("[data-drawn]")).waitFor();
  }
  await page.evaluate(() => window.scrollTo(0, 0));
}

/** Nothing is wider than the window. */
export async function fits(page, what) {
  const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= window, `${what} is ${content} px wide in a window of ${window} px`);
}

/** What axe-core finds against WCAG 2.2 AA and its best practices: nothing. */
export async function accessible(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  const told = violations.map(({ id, impact, nodes }) => `${id} (${impact}): ${nodes.map((node) => `${node.html}\n${node.failureSummary}`).join("\n  ")}`);
  assert.deepEqual(told, [], what);
}

/** A picture of the page, or of the window alone. */
export async function picture(page, name, whole = true) {
  await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: whole });
}

/** Nothing went wrong that nobody would see. */
export function quiet(page) {
  assert.deepEqual(page.wrong, []);
}
