// Building the page. Text from merchants and agents goes in as text only, and what would turn or hide the
// text around it is spelled out.

const MISLEADING = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** Text that shows what is in it: no control or direction characters. */
export function plain(value) {
  const spelled = (c) => `\\u{${c.codePointAt(0).toString(16)}}`;
  return String(value ?? "").replace(MISLEADING, spelled);
}

/** An element with attributes and children; strings become text. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same in SVG. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, plain(value));
  }
  for (const child of children.flat()) {
    if (child == null || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(plain(child)));
  }
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Where the focus was, in places where what had it takes none for now. */
const parted = new WeakMap();

/** Puts new children into a place, and the focus back where it was, unless it is elsewhere by now. */
export function put(place, ...children) {
  const active = document.activeElement;
  const held = place.contains(active) ? active.dataset.key : active === document.body && parted.get(place);
  place.replaceChildren(...children.flat().filter(Boolean));
  parted.delete(place);
  const again = held && [...place.querySelectorAll("[data-key]")].find((e) => e.dataset.key === held);
  if (!again) return;
  if (again.disabled) parted.set(place, held);
  else again.focus();
}

/** "0.05 USD" in billionths of a dollar, as the ledger counts: whole numbers, so sums of them are exact. */
export function usd(text) {
  const [whole, rest] = (text ?? "0").split(" ")[0].split(".");
  return Number(whole) * 1e9 + Number((rest ?? "").padEnd(9, "0"));
}

/** Billionths as dollars: cents at least, and every digit that counts. Nothing is rounded. */
export function money(billionths) {
  const rest = String(Math.round(billionths % 1e9)).padStart(9, "0");
  return `$${Math.floor(billionths / 1e9)}.${rest.replace(/0{1,7}$/, "")}`;
}

/** When a payment was made, whatever became of it later: its id begins with that (milliseconds). */
export const made = (payment) => Number.parseInt(payment.id.slice(4, 16), 16);

/** A time of today as a time, another one with its day. */
export function when(text) {
  const at = new Date(text);
  const today = at.toDateString() === new Date().toDateString();
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const shown = today ? time : `${at.toLocaleDateString([], { month: "short", day: "numeric" })} ${time}`;
  return el("time", { datetime: text, title: text }, shown);
}

export function table(caption, heads, rows, nothing) {
  if (rows.length === 0) return el("p", { class: "quiet" }, nothing);
  const head = el("tr", {}, heads.map((text) => el("th", { scope: "col" }, text)));
  return el("table", {}, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, rows));
}
