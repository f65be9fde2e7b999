// The operator's page: reads everything once, then hears what changes.

import { Refused, arrive, ask, listen } from "/api.js";
import { chart } from "/chart.js";
import { byId, el, made, money, put, usd } from "/dom.js";
import * as limits from "/limits.js";
import * as tables from "/tables.js";

/** Newest events kept: of payments for the plot, of refusals for the list. */
const KEPT = 5000;
/** Refusals that are read at first. */
const REFUSALS = 200;
/** How long the list of questions stands still before it takes clicks, in milliseconds. */
const STILL = 600;

const paid = new Map();
const refused = new Map();
let approvals = [];
let frozen = [];
/** Runs until the list of questions has stood still. */
let stands = null;
let health = null;

function told(error) {
  if (error instanceof Refused && error.status === 401) return signIn(false);
  byId("error").textContent = error ? `The proxy says: ${error.message}` : "";
  byId("error").hidden = !error;
}

function signIn(wrong) {
  byId("login").hidden = false;
  byId("wrong").hidden = !wrong;
  byId("main").hidden = true;
  byId("live").hidden = true;
  put(byId("ready"), "signed out");
  byId("login").elements.token.focus();
}

function keep(event) {
  const own = event.state === "denied" ? refused : paid;
  const before = own.get(event.id);
  if (before && Date.parse(before.time) > Date.parse(event.time)) return;
  own.delete(event.id);
  own.set(event.id, event);
  if (own.size > KEPT) own.delete(own.keys().next().value);
}

const newest = (own) => [...own.values()].reverse();

function draw() {
  const events = newest(paid);
  const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
  put(byId("chart"), chart(events, chosen("by"), Number(chosen("span"))));
  put(byId("payments-table"), tables.payments(events, draw));
  put(byId("refusals-table"), tables.refusals(newest(refused), draw));
  tiles(events);
}

function tiles(events) {
  // The day of budgets, whatever the browser's is.
  const today = new Date().setUTCHours(0, 0, 0, 0);
  const counts = (p) => ["settled", "unknown", "reserved"].includes(p.state);
  const spent = events.filter((p) => counts(p) && made(p) >= today);
  const sum = (list) => list.reduce((all, p) => all + usd(p.charged), 0);
  const open = events.filter((p) => p.state === "unknown" || p.state === "reserved");
  const turned = newest(refused).filter((p) => Date.parse(p.time) >= today);
  const waiting = approvals;
  const tile = (name, value, mood, place) => el("a", { class: `tile ${mood}`, href: place }, el("b", {}, value), el("span", {}, name));
  put(byId("tiles"),
    tile("spent today (UTC)", money(sum(spent)), "", "#spend"),
    tile("payments today (UTC)", spent.length, "", "#payments"),
    tile("outcome unknown", money(sum(open)), open.length > 0 ? "warn" : "", "#payments"),
    tile("refused today (UTC)", turned.length < REFUSALS ? turned.length : `${turned.length}+`, "", "#refusals"),
    tile("waiting for you", waiting.length, waiting.length > 0 ? "warn" : "", "#approvals"));
  document.title = waiting.length > 0 ? `(${waiting.length}) Farepass` : "Farepass";
}

async function readApprovals() {
  const before = approvals.map((a) => a.id).join();
  const [asked, sessions] = await Promise.all([ask("approvals"), ask("sessions")]);
  approvals = limits.open(asked, limits.over(sessions));
  const moved = before !== approvals.map((a) => a.id).join();
  if (moved || stands === null) questions(moved);
  // A click that was meant for what stood there a moment ago answers nothing.
  if (moved) {
    clearTimeout(stands);
    stands = setTimeout(questions, STILL, false);
  }
  tiles(newest(paid));
}

function questions(still) {
  if (!still) stands = null;
  put(byId("approvals-list"), limits.approvals(approvals, answer, still));
}

async function readFreezes() {
  frozen = await ask("freezes");
  put(byId("freezes-list"), limits.freezes(frozen, thaw));
  standing();
}

async function readLimits() {
  const [budgets, sessions] = await Promise.all([ask("budgets"), ask("sessions")]);
  put(byId("budgets"), limits.budgets(budgets));
  put(byId("sessions"), limits.sessions(sessions));
}

async function readHealth() {
  health = await ask("health");
  const policy = await ask("policy");
  if (byId("policy-text").dataset.hash !== policy.hash) {
    byId("policy-text").dataset.hash = policy.hash;
    put(byId("policy-text"), limits.policy(policy));
  }
  standing();
}

/** What the pill at the top says. */
function standing() {
  const all = frozen.some((f) => f.what === "all");
  const [text, mood] = !health ? ["not known whether it pays", ""]
    : !health.ready ? [`may not pay: ${health.why_not}`, "bad"]
    : all ? ["frozen: nothing is paid", "bad"]
    : health.mode === "observe" ? ["observing: nothing is paid", "warn"]
    : frozen.length > 0 ? ["pays, with freezes", "warn"] : ["pays", "good"];
  byId("ready").className = `pill ${mood}`;
  put(byId("ready"), text);
}

async function readPayments() {
  const [payments, refusals] = await Promise.all([ask(`payments?limit=${KEPT}`), ask(`refusals?limit=${REFUSALS}`)]);
  for (const event of payments.reverse()) keep(event);
  for (const event of refusals.reverse()) keep(event);
  draw();
}

async function answer(id, yes, button) {
  button.disabled = true;
  try {
    await ask(`approvals/${id}/${yes ? "approve" : "deny"}`, "POST");
    told(null);
  } catch (error) {
    told(error);
  }
  await readApprovals().catch(told);
}

async function freeze(scope, name, why) {
  await ask("freezes", "POST", { scope, name, why });
  await readFreezes();
}

async function thaw(scope, name) {
  try {
    await ask("freezes", "DELETE", { scope, name });
    await readFreezes();
    told(null);
  } catch (error) {
    told(error);
  }
}

/** A button that is replaced between press and release is not clicked: nothing is redrawn meanwhile. */
let pressed = false;
addEventListener("pointerdown", () => (pressed = true), true);
for (const end of ["pointerup", "pointercancel", "blur"]) addEventListener(end, () => setTimeout(() => (pressed = false)), true);

/** Calls that come close together are one. */
function soon(act, wait) {
  let timer = null;
  const later = () => {
    timer = null;
    if (pressed) timer = setTimeout(later, wait);
    else Promise.resolve(act()).catch(told);
  };
  return () => {
    timer ??= setTimeout(later, wait);
  };
}

const drawSoon = soon(draw, 100);
const limitsSoon = soon(readLimits, 500);
const controlSoon = soon(() => Promise.all([readApprovals(), readFreezes()]), 50);

function heard(kind, data) {
  if (kind !== "spend") return controlSoon();
  keep(data);
  tables.moved(data.id).then(drawSoon);
  drawSoon();
  limitsSoon();
}

function alive(is) {
  byId("live").className = `pill ${is ? "quiet" : "warn"}`;
  put(byId("live"), is ? "live" : "not connected");
  if (!is) {
    // What was heard before may not hold any more.
    health = null;
    standing();
  }
  // What is in no stream may have changed meanwhile, and a stream that heard nothing yet begins anew.
  if (is) Promise.all([readHealth(), readPayments(), readLimits().then(readApprovals), readFreezes()]).catch(told);
}

function wire() {
  for (const input of document.querySelectorAll("input[type=radio]")) input.addEventListener("change", draw);
  const form = byId("freeze");
  const { scope, name, why } = form.elements;
  scope.addEventListener("change", () => {
    name.disabled = scope.value === "all";
    name.required = !name.disabled;
    if (name.disabled) name.value = "";
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await freeze(scope.value, name.value || undefined, why.value);
      form.reset();
      name.disabled = true;
      told(null);
    } catch (error) {
      told(error);
    }
  });
  // The drawing is for the width.
  addEventListener("resize", drawSoon);
  setInterval(() => readHealth().catch(told), 15000);
  setInterval(controlSoon, 15000);
  setInterval(drawSoon, 30000);
}

async function begin() {
  const wrong = arrive();
  try {
    await readHealth();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) return signIn(wrong);
    return told(error);
  }
  byId("main").hidden = false;
  wire();
  await Promise.all([readLimits().then(readApprovals), readFreezes()]).catch(told);
  draw();
  // A link to one question ends in its id.
  const asked = location.pathname.match(/^\/approvals\/(apr_[0-9a-f]+)$/)?.[1];
  if (asked) byId(asked)?.scrollIntoView();
  listen(heard, alive);
}

begin();
