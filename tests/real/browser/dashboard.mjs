// The operator at the dashboard, in a real browser: signs in, looks, approves by a click, freezes. Arguments:
// the browser, the address, the token, a folder for pictures. Writes what was seen as JSON.

import { join } from "node:path";
import { Chromium } from "./chromium.mjs";

const [binary, base, token, pictures] = process.argv.slice(2);
const seen = {};
const browser = await Chromium.start(binary);
try {
  const page = await browser.page(`${base}/`);
  await page.until("the form", `!document.querySelector("#login").hidden`);
  seen.stranger = await page.run("document.body.innerText");
  await page.go(`${base}/?token=${"0".repeat(64)}`);
  await page.until("no", `!document.querySelector("#wrong").hidden`);
  const strange = page.report();

  // The form, as a person fills it in.
  await page.run(`document.querySelector("#login input").value = ${JSON.stringify(token)}`);
  await page.click("#login button");
  await page.until("the page", `!document.querySelector("#main").hidden`);
  await page.until("live", `document.querySelector("#live").innerText === "live"`);
  seen.address = await page.run("location.href");
  seen.cookieSeen = await page.run("document.cookie");

  await page.until("a question", `document.querySelector("#approvals-list article")`);
  seen.question = await page.run(`document.querySelector("#approvals-list").innerText`);
  if (pictures) await look(page, "waiting");
  await page.click("#approvals-list .go");
  await page.until("the payment", `[...document.querySelectorAll("#payments-table tr")].some((r) => r.innerText.includes("/waits") && r.innerText.includes("settled"))`);
  await page.until("the answer", `document.querySelector("#approvals-list article") === null`);

  // By keyboard: the exchange behind the newest payment.
  await page.run(`document.querySelector("#payments-table .more").focus()`);
  await page.key("Enter");
  await page.until("the exchange", `document.querySelector("#payments-table svg.sequence")`);
  // The last record moves what is below it.
  await page.until("the end of the exchange", `document.querySelector("#payments-table svg.sequence").getAttribute("aria-label").includes("body delivered")`);
  seen.focus = await page.run(`document.activeElement.className`);
  seen.sequence = await page.run(`document.querySelector("#payments-table svg.sequence").getAttribute("aria-label")`);
  await page.click("#refusals-table .more");
  await page.until("the refusal", `document.querySelector("#refusals-table svg.sequence")`);
  seen.refusals = await page.run(`document.querySelector("#refusals-table").innerText`);
  seen.refusalSaid = await page.run(`document.querySelector("#refusals-table svg.sequence").getAttribute("aria-label")`);
  seen.chart = await page.run(`document.querySelectorAll("#chart rect").length`);
  await page.click(`input[name=by][value=agent]`);
  seen.limits = await page.run(`document.querySelector("#limits").innerText`);
  if (pictures) await look(page, "paid");

  // Nothing that others wrote became part of the page.
  seen.title = await page.run("document.title");
  seen.intruders = await page.run(`document.querySelectorAll("main img, main script, main b:not(.tile b), main iframe").length`);
  seen.misleading = await page.run(`/[\\u202a-\\u202e\\u2066-\\u2069]/.test(document.body.innerText + document.body.innerHTML)`);

  // Freezes.
  await page.click("#freeze .danger");
  await page.until("the freeze", `document.querySelector("#ready").innerText.startsWith("frozen")`);
  seen.frozen = await page.run(`document.querySelector("#freezes-list").innerText`);
  await page.click(`#freezes-list [data-key=all]`);
  await page.until("the thaw", `document.querySelector("#ready").innerText === "pays, with freezes"`);

  // At no width anything but tables and drawings is wider than the screen, and no column too narrow to be read.
  seen.widths = {};
  for (const width of [360, 390, 768, 1024, 1280]) {
    await page.look("light", width, 844, width < 500);
    await new Promise((drawn) => setTimeout(drawn, 300));
    // Where rows are stacked a cell is as wide as its text.
    const host = `[...document.querySelectorAll("#payments-table tr:not(.opened) bdi")].map((e) => e.closest("td")).filter((td) => getComputedStyle(td).display === "table-cell").reduce((least, td) => Math.min(least, Math.floor(td.getBoundingClientRect().width)), 1e4)`;
    const clipped = `[...document.querySelectorAll("#chart text")].filter((e) => e.getBBox().x < 0 || e.getBBox().x + e.getBBox().width > e.ownerSVGElement.viewBox.baseVal.width + 1).map((e) => e.textContent)`;
    seen.widths[width] = await page.run(`({ page: document.documentElement.scrollWidth, host: ${host}, clipped: ${clipped} })`);
    if (pictures) await page.picture(join(pictures, `width-${width}.png`));
  }
  const after = page.report();
  // The first page is refused twice before anybody has signed in.
  seen.errors = after.errors.slice(strange.errors.length);
  seen.asked = after.asked;

  // A page that has the cookie and not the other half: the same machine, as another port would be.
  seen.halfs = await page.run(`Promise.all([fetch("/api/v1/sessions"), fetch("/api/v1/freezes", { method: "POST", body: '{"scope":"all"}' })]).then((all) => all.map((a) => a.status))`);

  // What no merchant here makes: a payment that a chain showed later, and odd sums.
  seen.chain = await page.run(`import("/sequence.js").then(({ sequence }) => {
    const record = { state: "settled", amount: "1", asset: "USDC", confirmed: false, flags: [], receipt: "claimed", delivery: { status: 200, digest: "d" } };
    const records = [{ ...record, state: "reserved", delivery: null }, record, { ...record, confirmed: true, block: 32, reason: "seen_on_chain" }];
    return sequence({ records: records.map((one, i) => ({ ...one, record_seq: i + 1 })) }).querySelector("svg").getAttribute("aria-label");
  })`);
  seen.money = await page.run(`import("/dom.js").then(({ money, usd }) => ["0.56 USD", "4.44 USD", "0.010000001 USD", "12.5 USD", "0 USD"].map((text) => money(usd(text))).join(" "))`);
  // A stream that breaks, as it does when nobody looks at the page: nobody knows what the proxy does now.
  await page.run(`(Object.defineProperty(document, "hidden", { get: () => true }), document.dispatchEvent(new Event("visibilitychange")), 1)`);
  await page.until("the break", `document.querySelector("#live").innerText === "not connected"`);
  seen.lost = await page.run(`document.querySelector("#ready").innerText`);

  // A button that takes no clicks for a moment has the focus again afterwards.
  seen.parted = await page.run(`import("/dom.js").then(({ el, put }) => {
    const place = el("div");
    document.body.append(place);
    const draw = (still) => put(place, el("button", { "data-key": "k", disabled: still }, "Approve"));
    draw(false);
    place.firstChild.focus();
    draw(true);
    draw(false);
    const there = document.activeElement === place.firstChild;
    place.remove();
    return there;
  })`);
  // What the operator's file freezes no click thaws.
  seen.byFile = await page.run(`import("/limits.js").then(({ freezes }) => {
    const [card] = freezes([{ what: "all", since: null, why: "the file" }], () => {});
    return [card.textContent, card.querySelectorAll("button").length];
  })`);

  // More payments than the page keeps, and a ledger that is away for a while.
  await page.send("Page.addScriptToEvaluateOnNewDocument", { source: `(${crowded})()` });
  await page.go(`${base}/`);
  await page.until("many payments", `document.querySelector("#tiles")?.innerText.includes("5000")`);
  seen.many = await page.run(`[...document.querySelectorAll("#tiles b")].map((b) => b.innerText).slice(0, 3)`);
  seen.manyDrawn = await page.run(`document.querySelector("#chart svg").getAttribute("aria-label")`);
  await page.run(`away(true)`);
  await page.until("the trouble", `!document.querySelector("#error").hidden`);
  seen.trouble = await page.run(`document.querySelector("#error").innerText`);
  await page.run(`away(false)`);
  await page.until("the end of the trouble", `document.querySelector("#error").hidden`);
} finally {
  await browser.stop();
}
process.stdout.write(JSON.stringify(seen));

/** Runs in the page before its own scripts. */
function crowded() {
  const real = fetch;
  const cents = (one, n) => ({ ...one, id: `pay_${Date.now().toString(16).padStart(12, "0")}${n.toString(16).padStart(20, "0")}`, time: new Date().toISOString(), state: "settled", charged: "0.01 USD" });
  let gone = false;
  let hidden = false;
  globalThis.fetch = async (path, ...rest) => {
    if (gone && path.includes("/budgets")) return new Response(JSON.stringify({ detail: "no ledger" }), { status: 503 });
    const answer = await real(path, ...rest);
    if (!path.startsWith("/api/v1/payments?limit=")) return answer;
    const [one] = await answer.json();
    return new Response(JSON.stringify(Array.from({ length: 5000 }, (_, n) => cents(one, n))));
  };
  Object.defineProperty(document, "hidden", { get: () => hidden });
  // Whoever looks again reads everything again.
  globalThis.away = async (is) => {
    gone = is;
    for (hidden of [true, false]) {
      document.dispatchEvent(new Event("visibilitychange"));
      await new Promise((on) => setTimeout(on, 300));
    }
  };
}

async function look(page, name) {
  for (const [scheme, width, height] of [["light", 1280, 800], ["dark", 1280, 800], ["light", 390, 844]]) {
    await page.look(scheme, width, height, width < 500);
    await new Promise((drawn) => setTimeout(drawn, 400));
    await page.picture(join(pictures, `${name}-${scheme}-${width}.png`));
  }
  await page.look("light", 1280, 800);
}
