// The page's own scripts without a browser: a document that has what they use, and a proxy that is made up.
// Arguments: the folder of the page, and the path that it was opened at. Writes what was seen as JSON.

import { readFileSync } from "node:fs";
import { register } from "node:module";
import { pathToFileURL } from "node:url";

const [pages, path] = process.argv.slice(2);

/** How often what is read aloud was written, by its id. */
const spoken = {};

class Node {
  children = [];
  parent = null;
  get textContent() {
    return this.children.map((child) => child.textContent).join("");
  }
  set textContent(text) {
    this.replaceChildren(new Text(text));
  }
  get childElementCount() {
    return this.children.filter((child) => child instanceof Element).length;
  }
  get isConnected() {
    return this === document.body || (this.parent?.isConnected ?? false);
  }
  append(...nodes) {
    for (const one of nodes) {
      const node = one instanceof Node ? one : new Text(one);
      node.parent = this;
      this.children.push(node);
    }
    for (let place = this; place; place = place.parent) {
      if (place.attributes?.["aria-live"] || place.attributes?.role === "status") spoken[place.id] = (spoken[place.id] ?? 0) + 1;
    }
  }
  replaceChildren(...nodes) {
    const held = this.children.some((child) => child.contains(document.activeElement));
    for (const child of this.children) child.parent = null;
    this.children = [];
    if (held) document.activeElement = document.body;
    this.append(...nodes);
  }
  contains(node) {
    for (let place = node; place; place = place.parent) if (place === this) return true;
    return false;
  }
  *all() {
    for (const child of this.children) {
      yield child;
      yield* child.all();
    }
  }
}

class Text extends Node {
  constructor(text) {
    super();
    this.text = String(text);
  }
  get textContent() {
    return this.text;
  }
}

class Element extends Node {
  attributes = {};
  heard = {};
  hidden = false;
  value = "";
  constructor(name) {
    super();
    this.name = name;
    this.dataset = new Proxy({}, { get: (own, key) => own[key] ?? this.attributes[`data-${key}`] });
  }
  get id() {
    return this.attributes.id;
  }
  get className() {
    return this.attributes.class ?? "";
  }
  set className(text) {
    this.attributes.class = text;
  }
  get disabled() {
    return "disabled" in this.attributes;
  }
  set disabled(is) {
    if (is) this.attributes.disabled = "";
    else delete this.attributes.disabled;
    // As in a browser: what takes no clicks has no focus.
    if (is && document.activeElement === this) document.activeElement = document.body;
  }
  get elements() {
    return Object.fromEntries([...this.all()].filter((e) => e.attributes?.name).map((e) => [e.attributes.name, e]));
  }
  setAttribute(key, text) {
    this.attributes[key] = text;
  }
  addEventListener(kind, act) {
    this.heard[kind] = act;
  }
  querySelectorAll(what) {
    const fits = what === "[data-key]" ? (e) => e.attributes && "data-key" in e.attributes : (e) => e.name === what;
    return [...this.all()].filter(fits);
  }
  focus() {
    document.activeElement = this;
  }
  scrollIntoView() {}
}

const body = new Element("body");
const named = (test) => [...body.all()].filter((e) => e instanceof Element && test(e.attributes));
const document = {
  body,
  activeElement: body,
  hidden: false,
  createElement: (name) => new Element(name),
  createElementNS: (_, name) => new Element(name),
  createTextNode: (text) => new Text(text),
  getElementById: (id) => named((a) => a.id === id)[0] ?? null,
  querySelector: (what) => named((a) => what.includes(`name=${a.name}`) && "checked" in a)[0],
  querySelectorAll: () => named((a) => a.type === "radio"),
  addEventListener() {},
  removeEventListener() {},
};

function read(html) {
  let place = body;
  for (const [, end, name, attributes, text] of html.matchAll(/<(\/?)([a-z0-9]+)([^>]*)>|([^<]+)/g)) {
    if (text) {
      place.append(new Text(text));
    } else if (end) {
      place = place.parent;
    } else {
      const element = new Element(name);
      for (const [, key, value] of attributes.matchAll(/([a-z-]+)(?:="([^"]*)")?/g)) element.setAttribute(key, value ?? "");
      element.hidden = "hidden" in element.attributes;
      place.append(element);
      if (name !== "input") place = element;
    }
  }
}

// What the proxy says.
const soon = new Date(Date.now() + 3600e3).toISOString();
const session = (id, closed) => ({ id, agent: id, budget: "100 USD", spent: "1 USD", expires: soon, closed });
const asking = (digit) => ({
  ...{ id: `apr_${digit.repeat(32)}`, stage: "waiting", price: "1.00 USD", method: "GET", host: "shop.test", path: "/x", because: ["above"], agent: "a" },
  ...{ session: "default", rule: "r", pay_to: "0x0", network: "eip155:1", expires: soon },
});
const payment = (host) => ({ id: `pay_${host}`, time: new Date().toISOString(), state: "settled", charged: "1 USD", flags: [], host, method: "GET", path: "/", agent: "a" });
const said = {
  health: { ready: true, mode: "enforce" },
  policy: { hash: "h", mode: "enforce" },
  budgets: [],
  sessions: [...Array.from({ length: 43 }, (_, n) => session(`run-${n}`, true)), session("default", false)],
  freezes: ["host one.test", "agent two"].map((what) => ({ what, since: new Date().toISOString() })),
  approvals: [asking("b"), asking("a")],
  payments: [payment("one.test"), payment("two.test")],
  refusals: [],
};
async function fetch(url, { method }) {
  const [, , , what, id] = url.split(/[/?]/);
  if (what === "events") return { ok: true, body: new ReadableStream() };
  if (method === "POST") said.approvals = said.approvals.filter((a) => a.id !== id);
  return { ok: true, json: async () => structuredClone(what === "payments" && url.includes("state=") ? [] : said[what]) };
}

const again = [];
const world = {
  ...{ Node, document, fetch, location: { hash: "", pathname: path }, history: { replaceState() {} }, innerWidth: 1200, addEventListener() {} },
  ...{ localStorage: { getItem: () => "x", setItem() {} }, setInterval: (act) => again.push(act) },
};
for (const [key, value] of Object.entries(world)) Object.defineProperty(globalThis, key, { value, configurable: true });

const base = pathToFileURL(pages).href;
const resolve = `export const resolve = (name, context, next) => /^[/][a-z]+[.]js$/.test(name) ? { url: ${JSON.stringify(base)} + name, format: "module", shortCircuit: true } : next(name, context);`;
register(`data:text/javascript,${encodeURIComponent(resolve)}`);
read(readFileSync(`${pages}/index.html`, "utf8").split("<body>")[1].split("</body>")[0]);

const rest = (time) => new Promise((on) => setTimeout(on, time));
const byId = document.getElementById;
const seen = {};
await import(`${base}/app.js`);
// The list of questions takes clicks once it has stood still.
await rest(1500);
seen.trouble = byId("error").textContent;
seen.sessions = byId("sessions").textContent;
seen.action = byId("login").attributes.action ?? null;
seen.gone = byId("gone")?.hidden === false && byId("gone").textContent;
seen.names = [...byId("freezes-list").all(), ...byId("payments-table").all()].filter((e) => e.name === "button").map((e) => e.attributes["aria-label"] ?? e.textContent);

for (const id of Object.keys(spoken)) spoken[id] = 0;
for (let time = 0; time < 3; time++) {
  for (const act of again) act();
  await rest(200);
}
seen.spoken = { ...spoken };

const [first] = byId("approvals-list").all();
const button = [...first.all()].find((e) => e.name === "button");
button.focus();
await button.heard.click({ currentTarget: button });
seen.left = byId("approvals-list").childElementCount;
seen.focus = document.activeElement.id ?? document.activeElement.name;
process.stdout.write(JSON.stringify(seen), () => process.exit(0));
