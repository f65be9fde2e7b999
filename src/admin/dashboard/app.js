// The operator's page: reads everything once, then hears what changes.

import { Refused, arrive, ask, listen } from "/api.js";
import { chart } from "/chart.js";
import { byId, el, made, money, put, usd } from "/dom.js";
import * as limits from "/limits.js";
import * as tables from "/tables.js";

/** Newest events kept: of payments for the plot, of refusals for the list. Payments whose end is open stay besides. */
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

/** What does not work, by what was tried: it is told until the same works again. */
const troubles = new Map();

function told(error, what = "act") {
  if (error instanceof Refused && error.status === 401) return signIn(false);
  troubles.delete(what);
  if (error) troubles.set(what, error.message);
  const last = [...troubles.values()].pop();
  byId("error").textContent = last === undefined ? "" : `The proxy says: ${last}`;
  byId("error").hidden = last === undefined;
}

/** Reads, and tells when that does not work. */
const reads = (read) => () => read().then(() => told(null, read.name), (error) => told(error, read.name));

function signIn(wrong) {
  byId("login").hidden = false;
  byId("wrong").hidden = !wrong;
  byId("main").hidden = true;
  byId("live").hidden = true;
  put(byId("ready"), "signed out");
  byId("login").elements.token.focus();
}

const isOpen = (p) => p.state === "unknown" || p.state === "reserved";

function keep(event) {
  const own = event.state === "denied" ? refused : paid;
  const before = own.get(event.id);
  if (before && Date.parse(before.time) > Date.parse(event.time)) return;
  own.delete(event.id);
  own.set(event.id, event);
  if (own.size <= KEPT) return;
  for (const [id, old] of own) {
    if (isOpen(old)) continue;
    own.delete(id);
    break;
  }
}

const newest = (own) => [...own.values()].reverse();

/** Since when no payment is missing: always, until there are more than are kept. */
function whole(events) {
  if (events.length < KEPT) return 0;
  return events.reduce((first, p) => (isOpen(p) ? first : Math.min(first, Date.parse(p.time))), Infinity);
}

function draw() {
  const events = newest(paid);
  const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
  put(byId("chart"), chart(events, chosen("by"), Number(chosen("span")), whole(events)));
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
  const more = whole(events) > today ? "+" : "";
  const open = events.filter(isOpen);
  const turned = newest(refused).filter((p) => Date.parse(p.time) >= today);
  const waiting = approvals;
  const tile = (name, value, mood, place) => el("a", { class: `tile ${mood}`, href: place }, el("b", {}, value), el("span", {}, name));
  put(byId("tiles"),
    tile("spent today (UTC)", money(sum(spent)) + more, "", "#spend"),
    tile("payments today (UTC)", spent.length + more, "", "#payments"),
    tile("outcome unknown", money(sum(open)) + (open.length < KEPT ? "" : "+"), open.length > 0 ? "warn" : "", "#payments"),
    tile("refused today (UTC)", turned.length < REFUSALS ? turned.length : `${turned.length}+`, "", "#refusals"),
    tile("waiting for you", waiting.length, waiting.length > 0 ? "warn" : "", "#approvals"));
  document.title = waiting.length > 0 ? `(${waiting.length}) Farepass` : "Farepass";
}

async function readApprovals() {
  const listed = () => approvals.map((a) => `${a.id} ${a.expires}`).join();
  const before = listed();
  const [asked, sessions] = await Promise.all([ask("approvals"), ask("sessions")]);
  approvals = limits.open(asked, limits.over(sessions));
  const moved = before !== listed();
  // What stands there is read aloud whenever it is written, so the same is not written again.
  if (moved || byId("approvals-list").childElementCount === 0) questions(moved);
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
  // It is read aloud whenever it is written.
  if (byId("ready").textContent === text && byId("ready").className === `pill ${mood}`) return;
  byId("ready").className = `pill ${mood}`;
  put(byId("ready"), text);
}

async function readPayments() {
  const before = [...paid.values()].filter(isOpen);
  const asked = [`payments?limit=${KEPT}`, `payments?state=reserved&limit=${KEPT}`, `payments?state=unknown&limit=${KEPT}`, `refusals?limit=${REFUSALS}`];
  const [payments, reserved, unknown, refusals] = await Promise.all(asked.map((question) => ask(question)));
  // What was open and is not in these lists has ended while nobody listened. What was heard since is newer.
  for (const one of before) if (paid.get(one.id) === one) paid.delete(one.id);
  for (const all of [unknown, reserved, payments, refusals]) for (const event of all.reverse()) keep(event);
  draw();
}

const [approvalsRead, freezesRead, limitsRead, healthRead, paymentsRead] = [readApprovals, readFreezes, readLimits, readHealth, readPayments].map(reads);

async function answer(id, yes, button) {
  button.disabled = true;
  try {
    await ask(`approvals/${id}/${yes ? "approve" : "deny"}`, "POST");
    told(null);
  } catch (error) {
    told(error);
  }
  await approvalsRead();
  button.disabled = false;
  // The keyboard stays where it was: at the button, or above the list that it left.
  if (document.activeElement === document.body) (button.isConnected ? button : byId("approvals-title")).focus({ preventScroll: true });
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
const limitsSoon = soon(limitsRead, 500);
const controlSoon = soon(() => Promise.all([approvalsRead(), freezesRead()]), 50);

function heard(kind, data) {
  if (data.event === "missed") paymentsRead();
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
  if (is) [healthRead, paymentsRead, () => limitsRead().then(approvalsRead), freezesRead].forEach((read) => read());
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
  setInterval(healthRead, 15000);
  setInterval(controlSoon, 15000);
  setInterval(drawSoon, 30000);
}

async function begin() {
  const wrong = arrive();
  try {
    await readHealth();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) return signIn(wrong);
    return told(error, readHealth.name);
  }
  byId("main").hidden = false;
  wire();
  await Promise.all([limitsRead().then(approvalsRead), freezesRead()]);
  draw();
  // A link to one question ends in its id.
  const asked = location.pathname.match(/^\/approvals\/(apr_[0-9a-f]+)$/)?.[1];
  if (asked && !byId(asked) && byId("approvals-list").childElementCount > 0) {
    byId("gone").hidden = false;
    put(byId("gone"), "The question of this link waits no more: it is answered, or its time is over.");
  }
  if (asked) (byId(asked) ?? byId("approvals")).scrollIntoView();
  listen(heard, alive);
}

begin();
