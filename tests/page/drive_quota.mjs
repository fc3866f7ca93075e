// A gateway that asks for keys, and a key of one request a minute. Arguments: base URL, key.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [base, key] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run"],
});
const page = await browser.newPage();
const ask = async (text) => {
  await page.getByLabel("Message").fill(text);
  await page.getByLabel("Message").press("Enter");
};
const answer = () => page.locator("article.assistant").last();

async function step(name, work) {
  await work();
  console.log(`ok ${name}`);
}

await step("asks for a key", async () => {
  await page.goto(base);
  await page.getByText("This gateway asks for an API key.").waitFor();
});
await step("answers who brings one", async () => {
  await page.locator("#key").fill(key);
  await page.locator("#key").press("Enter");
  await page.locator("form.key").waitFor({ state: "detached" });
  await page.getByText("Model and sampling").click();
  await page.locator('input[name="max_tokens"]').fill("8");
  await ask("Hello?");
  await answer().getByRole("button", { name: "Retry" }).waitFor({ timeout: 60_000 });
  assert.ok((await answer().locator(".text").textContent()).length > 0);
});
await step("says kindly that the share is used, and when there is more", async () => {
  await ask("Once more?");
  const said = answer().getByText(/You have used your share for now/);
  await said.waitFor({ timeout: 30_000 });
  assert.match(await said.textContent(), /Try again in [0-9]+ s/);
  assert.ok(!(await page.content()).includes(key), "the key stands in the page");
});
await step("keeps key and conversation over a reload", async () => {
  await page.reload();
  await page.locator("article.assistant").first().waitFor();
  assert.equal(await page.getByText("This gateway asks for an API key.").count(), 0);
});
await browser.close();
