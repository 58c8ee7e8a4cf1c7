// Everything that people do on the page, in a real browser. Addresses of receivers and the token come by the
// environment; `tests/it/browser.rs` starts and fills them.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import {
  DESKTOP, PHONE, TOKEN, accessible, at, browser, drawn, fits, open, picture, quiet, signIn, visit,
} from "./support.mjs";

const [FULL, STRANGE, SHORT, EMPTY] = ["FULL", "STRANGE", "SHORT", "EMPTY"].map(at);
const JOB = "/jobs/harbour/shop/ci.yml/integration";

after(() => browser.close());

/** The addresses of a run, and of the comparison of two, of this job. */
async function addresses(page, job = JOB) {
  await page.goto(job);
  const runs = await page.locator("tbody th a[href^='/runs/']").evaluateAll((links) => links.map((link) => link.getAttribute("href")));
  const [newest, before] = [...new Set(runs)].map((run) => run.split("/").pop());
  return { run: `/runs/${newest}`, compare: `/compare?a=${before}&b=${newest}` };
}

test("one signs in with the read token, and out", async () => {
  const page = await open(FULL);
  await page.goto("/?sort=name");
  assert.equal(new URL(page.url()).pathname, "/sign-in");
  assert.ok(await page.getByLabel("Read token").evaluate((input) => input === document.activeElement), "one can type at once");
  await page.getByLabel("Read token").fill(` ${TOKEN}\n`);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Jobs" }).waitFor();
  assert.equal(new URL(page.url()).search, "?sort=name", "where one wanted to go");
  const [cookie] = await page.context().cookies();
  assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.secure, cookie.path], [true, "Strict", false, "/"]);
  assert.ok(!cookie.value.includes(TOKEN));
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Read token").waitFor();
  assert.deepEqual(await page.context().cookies(), []);
  await page.goto("/");
  assert.equal(new URL(page.url()).pathname, "/sign-in");
  quiet(page);
});

test("a wrong token is told and slowed down", async () => {
  const page = await open(FULL);
  await page.goto("/sign-in");
  const times = [];
  for (let at = 0; at < 8; at += 1) {
    await page.getByLabel("Read token").fill("not the token");
    const began = Date.now();
    const answer = page.waitForResponse((response) => response.request().method() === "POST");
    await page.keyboard.press("Enter");
    assert.equal((await answer).status(), 403);
    times.push(Date.now() - began);
    await page.getByRole("alert").filter({ hasText: "not the read token" }).waitFor();
  }
  assert.ok(times[7] > 180, `it comes later and later: ${times}`);
  assert.equal(await page.getByLabel("Read token").getAttribute("aria-invalid"), "true");
  await accessible(page, "the form with an error");
  assert.deepEqual(await page.context().cookies(), []);
});

test("one goes on only to pages of the receiver", async () => {
  const page = await open(FULL);
  await page.goto(`/sign-in?next=${encodeURIComponent("//example.com/")}`);
  await page.getByLabel("Read token").fill(TOKEN);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Jobs" }).waitFor();
  assert.equal(page.url(), `${FULL}/`);
  quiet(page);
});

test("a form of another site does nothing", async () => {
  const page = await visit(FULL, "/");
  const context = page.context();
  const other = await context.newPage();
  await other.route("http://other.test/", (route) => route.fulfill({
    contentType: "text/html", body: `<form method="post" action="${FULL}/sign-out"><button>Win</button></form>`,
  }));
  await other.goto("http://other.test/");
  await other.getByRole("button").click();
  await other.getByText("sent by another site").waitFor();
  await page.reload();
  await page.getByRole("heading", { name: "Jobs" }).waitFor();
});

test("by TLS the cookie is for TLS alone", async () => {
  const secure = at("SECURE").replace("http:", "https:");
  const page = await visit(secure, "/", { ignoreHTTPSErrors: true });
  const [cookie] = await page.context().cookies();
  assert.deepEqual([cookie.name, cookie.secure, cookie.httpOnly], ["__Host-session", true, true]);
  assert.ok((await page.locator("main").textContent()).includes(`${secure}/api/v1/token`), "the first steps say so");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Read token").waitFor();
  quiet(page);
});

test("a session that has ended is begun anew where one was", async () => {
  const page = await visit(SHORT, JOB);
  await page.getByRole("heading", { name: "integration", exact: true }).waitFor();
  await page.waitForTimeout(4_500);
  await page.reload();
  await page.getByRole("status").filter({ hasText: "Your session has ended" }).waitFor();
  await accessible(page, "the form after the end");
  await page.getByLabel("Read token").fill(TOKEN);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "integration", exact: true }).waitFor();
  quiet(page);
});

test("the overview has the most wasteful job first, or the one at risk", async () => {
  const page = await visit(FULL, "/");
  const names = () => page.locator(".jobs tbody th > a").allTextContents();
  assert.equal((await names())[0], "load-test");
  assert.equal((await names()).length, 9);
  const wasteful = page.locator(".jobs tbody tr").filter({ hasText: "load-test" });
  assert.match(await wasteful.textContent(), /of 17 cores/);
  assert.match(await wasteful.textContent(), /core-h/);
  await page.getByLabel("Order").selectOption("risk");
  await page.getByRole("button", { name: "Show" }).click();
  await page.waitForURL(/sort=risk/);
  const first = page.locator(".jobs tbody tr").first();
  assert.match(await first.textContent(), /^\s*test/);
  assert.match(await first.textContent(), /OOM-killed/);
  assert.ok((await page.locator(".jobs .spark").count()) >= 8);
  quiet(page);
});

test("jobs are searched for and narrowed down", async () => {
  const page = await visit(FULL, "/");
  const names = () => page.locator(".jobs tbody th > a").allTextContents();
  await page.getByRole("searchbox").fill("BILLING");
  await page.keyboard.press("Enter");
  await page.waitForURL(/q=BILLING/);
  assert.deepEqual((await names()).sort(), ["load-test", "test"]);
  await page.getByRole("searchbox").fill("nothing like that");
  await page.keyboard.press("Enter");
  await page.getByText("No job matches").waitFor();
  await page.getByRole("link", { name: "Show all jobs" }).click();
  await page.getByRole("link", { name: "harbour/shop" }).first().click();
  await page.getByRole("heading", { name: "shop" }).waitFor();
  assert.deepEqual((await names()).sort(), ["build", "integration", "lint"]);
  await page.getByRole("searchbox").fill("lint");
  await page.keyboard.press("Enter");
  await page.waitForURL(/q=lint/);
  assert.deepEqual(await names(), ["lint"], "within the repository");
  quiet(page);
});

test("a job says what to request, why, and lets one copy it", async () => {
  const page = await open(FULL);
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await signIn(page, JOB);
  const advice = page.locator("section", { has: page.getByRole("heading", { name: "What it should request" }) });
  const text = await advice.textContent();
  assert.match(text, /from 8\.0 GiB towards/);
  assert.match(text, /peak of run \d+/);
  for (const [title, holds] of [
    ["Kubernetes resources", /resources:\n\s+requests:\n\s+cpu: "\d+m"/], ["Patch for kustomize", /kind: /],
    ["CGROUP_LIMITS", /"runner":/], ["Variables of GitLab", /variables:/], ["Markdown", /\|/], ["JSON", /"containers": \[/],
  ]) {
    const form = advice.locator("details").filter({ hasText: title });
    if (!(await form.evaluate((details) => details.open))) await form.locator("summary").click();
    const button = form.getByRole("button", { name: /Copy/ });
    await button.click();
    await page.getByRole("status").filter({ hasText: "Copied" }).waitFor({ state: "attached" });
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert.match(copied, holds, title);
    assert.equal(copied, await form.locator("pre").textContent());
    const answer = await page.request.get(await form.getByRole("link", { name: "As a file" }).getAttribute("href"));
    assert.equal(answer.status(), 200);
  }
  quiet(page);
});

test("charts show what their tables hold: hover, switch, zoom", async () => {
  const page = await visit(FULL, JOB);
  const { run } = await addresses(page);
  await page.goto(run);
  await drawn(page);
  assert.equal(await page.locator("figure[data-drawn]").count(), 4);
  const chart = page.locator("figure[data-drawn]").first();
  const canvas = chart.locator(".u-over");
  const box = await canvas.boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  const legend = chart.locator(".legend");
  await legend.getByText(/^at /).waitFor();
  const [, place] = (await legend.locator(".at").textContent()).match(/^at (.+)$/);
  const value = await legend.getByRole("button", { name: /^used/ }).locator(".value").textContent();
  await page.locator("summary", { hasText: "Time series as a table" }).first().click();
  const row = page.locator(".scroll tbody tr", { has: page.locator("td:first-child", { hasText: new RegExp(`^${place}$`) }) }).first();
  assert.match(await row.textContent(), new RegExp(value.replace(/[.]/g, "\\.")), "the same figure in the table");
  // One line less.
  const pixels = () => chart.locator("canvas").evaluate((drawing) => drawing.toDataURL());
  const before = await pixels();
  await legend.getByRole("button", { name: /^request/ }).click();
  assert.equal(await legend.getByRole("button", { name: /^request/ }).getAttribute("aria-pressed"), "false");
  assert.notEqual(await pixels(), before);
  // A part of the time, and all of it again.
  const all = legend.getByRole("button", { name: "Show all" });
  assert.equal(await all.isVisible(), false);
  await chart.scrollIntoViewIfNeeded();
  const again = await canvas.boundingBox();
  await page.mouse.move(again.x + 60, again.y + 40);
  await page.mouse.down();
  await page.mouse.move(again.x + 160, again.y + 40, { steps: 5 });
  await page.mouse.up();
  await all.waitFor();
  await all.click();
  await all.waitFor({ state: "hidden" });
  // By keyboard.
  await chart.locator(".canvas").focus();
  for (const key of ["Home", "ArrowRight", "ArrowRight", "+"]) await page.keyboard.press(key);
  await legend.getByText(/^at /).waitFor();
  await all.waitFor();
  await page.keyboard.press("0");
  await all.waitFor({ state: "hidden" });
  quiet(page);
});

test("a run tells its commands and how well it was measured", async () => {
  const page = await visit(FULL, "/jobs/measured/here/ci.yml/loop");
  const { run } = await addresses(page, "/jobs/measured/here/ci.yml/loop");
  await page.goto(run);
  const commands = page.locator("section", { has: page.getByRole("heading", { name: "Commands by CPU time" }) });
  assert.match(await commands.textContent(), /sh|true/);
  const quality = page.locator("section", { has: page.getByRole("heading", { name: "How well it was measured" }) });
  const text = await quality.textContent();
  for (const word of ["The whole run", "Short-lived processes by", "CPU time that found its container", "Lost records", "Hidden"]) {
    assert.ok(text.includes(word), word);
  }
  assert.match(text, /run mode/);
  const answer = await page.request.get(await quality.getByRole("link", { name: /JSON/ }).getAttribute("href"));
  const payload = await answer.json();
  assert.equal(payload.containers[0].name, "run");
  assert.match(answer.headers()["content-type"], /application\/json/);
  quiet(page);
});

test("two runs are compared", async () => {
  const page = await visit(FULL, JOB);
  await page.getByRole("button", { name: "Compare A with B" }).click();
  await page.getByRole("heading", { name: "Two runs side by side" }).waitFor();
  await drawn(page);
  assert.match(page.url(), /\/compare\?(a=\d+&b=\d+|b=\d+&a=\d+)$/);
  const text = await page.locator("main").textContent();
  for (const word of ["CPU time", "Memory, peak", "postgres", "chromium", "%"]) assert.ok(text.includes(word), word);
  const [a, b] = await page.locator(".tiles a").allTextContents();
  await page.getByRole("link", { name: "Swap A and B" }).click();
  await page.waitForURL((url) => url.search !== "");
  assert.deepEqual(await page.locator(".tiles a").allTextContents(), [b, a]);
  quiet(page);
});

test("an empty database says what to do", async () => {
  const page = await visit(EMPTY, "/");
  await page.getByRole("heading", { name: "Nothing has been measured yet" }).waitFor();
  const steps = await page.locator("main").textContent();
  assert.ok(steps.includes(`${EMPTY}/api/v1/token`) && steps.includes("collector run"));
  await accessible(page, "the first steps");
  await page.setViewportSize(PHONE);
  await fits(page, "the first steps");
  await picture(page, "first-steps-phone-light");
  quiet(page);
});

test("hostile names are text", async () => {
  const page = await visit(STRANGE, "/?sort=name");
  const links = page.locator(".jobs tbody th > a");
  assert.equal(await links.count(), 3);
  const jobs = await links.evaluateAll((all) => all.map((link) => link.getAttribute("href")));
  for (const viewport of [DESKTOP, PHONE]) {
    await page.setViewportSize(viewport);
    await page.goto("/?sort=name");
    await fits(page, "the overview");
    await accessible(page, "the overview");
    for (const job of jobs) {
      await page.goto(job);
      await page.getByRole("heading", { name: "What it should request" }).waitFor();
      await drawn(page);
      await fits(page, job);
      await accessible(page, job);
      const { run, compare } = await addresses(page, job);
      for (const path of [run, compare]) {
        await page.goto(path);
        await drawn(page);
        await fits(page, path);
        await accessible(page, path);
        assert.equal(await page.locator("main script, main img").count(), 0, "names are not markup");
      }
      await page.locator(".crumbs a").nth(3).click();
      await page.locator(".jobs").waitFor();
      assert.equal(await links.count(), 1, "the overview of its workflow");
      await links.click();
      await page.getByRole("heading", { name: "What it should request" }).waitFor();
    }
  }
  await picture(page, "hostile-phone-light");
  quiet(page);
});

test("everything but the charts is there without a script", async () => {
  const page = await visit(FULL, "/", { javaScriptEnabled: false });
  await page.getByRole("searchbox").fill("integration");
  await page.getByRole("button", { name: "Show" }).click();
  await page.getByRole("link", { name: "integration", exact: true }).click();
  await page.getByRole("heading", { name: "What it should request" }).waitFor();
  assert.equal(await page.getByRole("button", { name: /^Copy/ }).count(), 0, "no button that does nothing");
  assert.equal(await page.locator("figure:visible").count(), 0);
  await page.locator("summary", { hasText: "As a table" }).first().click();
  assert.ok((await page.locator(".scroll:visible tbody tr").count()) > 20, "the figures of the charts");
  await picture(page, "job-without-script");
  await page.getByRole("button", { name: "Compare A with B" }).click();
  await page.getByRole("heading", { name: "Two runs side by side" }).waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Read token").waitFor();
});

test("a keyboard is enough", async () => {
  const page = await open(FULL);
  await page.goto("/");
  await page.keyboard.type(TOKEN);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Jobs" }).waitFor();
  const until = async (what) => {
    for (let presses = 0; presses < 60; presses += 1) {
      await page.keyboard.press("Tab");
      const [name, ring] = await page.evaluate(() => {
        const element = document.activeElement;
        return [element.getAttribute("aria-label") ?? element.textContent.trim(), getComputedStyle(element).outlineStyle];
      });
      assert.notEqual(ring, "none", `${name} shows that it has the focus`);
      if (name.startsWith(what)) return;
    }
    assert.fail(`Tab never came to ${what}`);
  };
  await until("Skip to content");
  await page.keyboard.press("Enter");
  await until("integration");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "What it should request" }).waitFor();
  await until("Patch for kustomize");
  await page.keyboard.press("Enter");
  await until("Copy: Patch");
  await page.keyboard.press("Enter");
  await until("Compare A with B");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Two runs side by side" }).waitFor();
  quiet(page);
});

test("nothing is found at other addresses, and it is told", async () => {
  const page = await visit(FULL, "/");
  page.wrong.length = 0;
  for (const path of ["/runs/999999", "/runs/x", "/jobs/a/b/c/d", "/elsewhere", "/assets/none.js"]) {
    const answer = await page.goto(path);
    assert.equal(answer.status(), 404, path);
    await page.getByRole("heading", { name: "Not found" }).waitFor();
  }
  assert.equal((await page.goto("/compare?a=1")).status(), 400);
  await accessible(page, "an error");
  const api = await page.request.get("/api/v1/metrics/repo/harbour/shop/ci.yml/build");
  assert.equal(api.status(), 401, "the cookie opens pages and not the API");
});

test("a browser is told to do nothing else, and to keep only what never changes", async () => {
  const page = await open(FULL);
  const answer = await page.goto("/sign-in");
  const headers = answer.headers();
  const policy = headers["content-security-policy"];
  for (const part of ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]) assert.ok(policy.includes(part), part);
  assert.ok(!policy.includes("unsafe"));
  assert.deepEqual([headers["x-content-type-options"], headers["cache-control"]], ["nosniff", "no-store"]);
  const style = await page.locator("link[rel=stylesheet]").getAttribute("href");
  const asset = await page.request.get(style);
  assert.match(asset.headers()["cache-control"], /immutable/);
  const again = await page.request.get(`/assets/${style.split("/").pop()}`);
  assert.match(again.headers()["cache-control"], /no-cache/);
  const known = await page.request.get(`/assets/${style.split("/").pop()}`, { headers: { "if-none-match": again.headers().etag } });
  assert.equal(known.status(), 304);
});

// Every page in every form: it fits, axe finds nothing, and there is a picture of it.
for (const [size, viewport] of [["desktop", DESKTOP], ["phone", PHONE]]) {
  for (const colorScheme of ["light", "dark"]) {
    test(`pages on a ${size}, ${colorScheme}`, async () => {
      const page = await open(FULL, { viewport, colorScheme });
      await page.goto("/sign-in");
      await accessible(page, "sign-in");
      await picture(page, `sign-in-${size}-${colorScheme}`);
      await signIn(page, "/");
      const { run, compare } = await addresses(page);
      for (const [name, path] of [["overview", "/"], ["job", JOB], ["run", run], ["compare", compare]]) {
        await page.goto(path);
        await drawn(page);
        await fits(page, name);
        await picture(page, `${name}-${size}-${colorScheme}`);
        // What is folded is looked at, too.
        await page.locator("summary").evaluateAll((all) => all.forEach((summary) => { summary.parentElement.open = true; }));
        await fits(page, `${name}, unfolded`);
        await accessible(page, `${name} on a ${size}, ${colorScheme}`);
      }
      quiet(page);
    });
  }
}
