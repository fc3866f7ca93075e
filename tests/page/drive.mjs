// Drives the page as a person would. Arguments: base URL, folder for screenshots (optional).
// Needs Chromium (CHROMIUM names it; else /usr/bin/chromium).
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [base, shots] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--no-first-run"],
});
const context = await browser.newContext({ viewport: { width: 1180, height: 780 } });
const page = await context.newPage();
const complaints = [];
page.on("console", (message) => { if (message.type() === "error") complaints.push(message.text()); });
page.on("pageerror", (error) => complaints.push(String(error)));
const elsewhere = [];
page.on("request", (request) => {
  if (!request.url().startsWith(base) && !request.url().startsWith("data:")) elsewhere.push(request.url());
});

async function step(name, work) {
  await work();
  console.log(`ok ${name}`);
}
const shot = (name) => (shots ? page.screenshot({ path: `${shots}/${name}.png` }) : null);
const ask = async (text) => {
  await page.getByLabel("Message").fill(text);
  await page.getByLabel("Message").press("Enter");
};
const answer = () => page.locator("article.assistant").last();
const whole = () => answer().getByRole("button", { name: "Retry" }).waitFor({ timeout: 90_000 });

await step("asks and streams", async () => {
  await page.goto(base);
  await page.getByText("Model and sampling").click();
  await page.locator('input[name="max_tokens"]').fill("60");
  await ask("What is the capital of France?");
  await page.waitForFunction(() => document.querySelector("article.assistant .text")?.textContent.length > 3);
  await whole();
  assert.match(await answer().locator(".text").textContent(), /Paris/);
  assert.match(await answer().textContent(), /ms to first token/);
});
await step("explains the answer", async () => {
  await answer().getByRole("button", { name: "Why so long?" }).click();
  await answer().getByText("Whole answer").waitFor({ timeout: 20_000 });
  assert.match(await answer().textContent(), /prefill/);
  await shot("chat-light");
});
await step("stops", async () => {
  await page.locator('input[name="max_tokens"]').fill("2000");
  await ask("Write a long story about a ship and its crew, with many chapters.");
  await page.waitForFunction(() =>
    document.querySelector("article.assistant[aria-busy=true] .text")?.textContent.length > 5);
  await page.getByRole("button", { name: "Stop" }).click();
  await answer().getByText("stopped").waitFor();
});
await step("tries again", async () => {
  const before = await page.locator("article").count();
  await page.locator('input[name="max_tokens"]').fill("12");
  await answer().getByRole("button", { name: "Retry" }).click();
  await whole();
  assert.equal(await page.locator("article").count(), before);
});
await step("keeps the conversation over a reload", async () => {
  const before = await page.locator("article").allTextContents();
  await page.reload();
  await page.locator("article.assistant").first().waitFor();
  assert.equal((await page.locator("article").allTextContents()).length, before.length);
});
await step("shows a model's markup as text, and runs none of it", async () => {
  const turns = [{ role: "user", content: "<img src=x onerror=alert(1)>" },
    { role: "assistant", content: "<script>window.broken=1</script><img src=x onerror='window.broken=1'>\n\n**bold** [x](javascript:alert(1))" }];
  await page.evaluate((kept) => localStorage.setItem("conversations", JSON.stringify([{ id: "x", title: "x", turns: kept }])), turns);
  await page.reload();
  await answer().locator("strong").waitFor();
  assert.equal(await page.evaluate(() => window.broken), undefined);
  assert.equal(await page.locator("article img, article script").count(), 0);
  assert.equal(await answer().locator("a[href^=javascript]").count(), 0);
  assert.match(await answer().locator(".text").textContent(), /<script>window.broken=1/);
});
await step("says a 429 kindly", async () => {
  await page.route("**/v1/chat/completions", (route) => route.fulfill({
    status: 429, headers: { "retry-after": "7" }, contentType: "application/json",
    body: JSON.stringify({ error: { message: "60 requests a minute", type: "rate_limit_error" } }),
  }));
  await ask("Once more?");
  await answer().getByText("Try again in 7 s").waitFor();
  await page.unroute("**/v1/chat/completions");
});
await step("moves in the live view", async () => {
  await page.getByRole("button", { name: "New chat" }).click();
  await page.locator('input[name="max_tokens"]').fill("200").catch(() => {});
  const load = () => Promise.all([1, 2, 3].map((n) => context.request.post(`${base}/v1/completions`, {
    data: { model: "SmolLM2-135M-Instruct", prompt: `Story ${n}:`, max_tokens: 150, ignore_eos: true }, timeout: 120_000,
  })));
  const loads = load().then(load);
  await page.getByRole("link", { name: "Live" }).click();
  await page.waitForFunction(() => {
    const figures = [...document.querySelectorAll("output")].map((one) => Number(one.textContent));
    return figures[4] > 0;
  }, null, { timeout: 30_000 });
  await loads;
  await page.waitForFunction(() => {
    const figures = [...document.querySelectorAll("output")].map((one) => Number(one.textContent));
    return figures[0] > 0 && figures[1] > 0 && figures[2] > 0 && figures[3] > 0;
  });
  await page.locator(".workers td.state.ready").first().waitFor();
  for (const name of ["gateway-1", "broker", "tokenizer"]) {
    await page.locator(".processes li", { hasText: name }).locator(".state.ready").waitFor();
  }
  await page.getByText("worker-1: sequences in a step").waitFor();
  await page.setViewportSize({ width: 1180, height: 1160 });
  await shot("live-light");
});
await step("has a dark theme and fits a phone", async () => {
  const theme = page.getByRole("button", { name: /Theme/ });
  for (const wanted of ["light", "dark"]) {
    await theme.click();
    await page.waitForFunction((name) => document.documentElement.dataset.theme === name, wanted);
  }
  // Charts take the theme's colours when they are drawn next.
  for (let look = 0; look < 2; look += 1) await page.waitForResponse("**/api/v1/live");
  await shot("live-dark");
  await page.setViewportSize({ width: 1180, height: 780 });
  await page.getByRole("link", { name: "Chat" }).click();
  await page.getByLabel("Message").waitFor();
  await page.evaluate(() => { document.querySelector("details.controls").open = true; });
  await page.locator('input[name="max_tokens"]').fill("120");
  await ask("Write a Python function that adds two numbers, as a code block, and say what it does.");
  await whole();
  await answer().getByRole("button", { name: "Why so long?" }).click();
  await answer().getByText("Whole answer").waitFor({ timeout: 20_000 });
  await shot("chat-dark");
  await page.setViewportSize({ width: 390, height: 780 });
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wider <= 0, `the page is ${wider} px wider than a phone`);
  await shot("chat-phone");
});
await step("is used by keyboard alone", async () => {
  await page.getByLabel("Message").focus();
  await page.keyboard.type("Hello");
  await page.keyboard.press("Enter");
  await whole();
});
await step("asks no other host and complains of nothing", async () => {
  assert.deepEqual(elsewhere, []);
  assert.deepEqual(complaints.filter((text) => !text.includes("429")), []);
});
await browser.close();
