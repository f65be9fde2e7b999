// Spend over time: bars in stacks, drawn by hand.

import { el, made, money, svg, usd } from "/dom.js";

const [HEIGHT, BOTTOM, TOP] = [240, 26, 12];
const BARS = 60;
const SHOWN = 6;

/** Bars of what `payments` cost in the last `span` seconds, by `host` or `agent`. Before `whole` some are missing. */
export function chart(payments, by, span, whole = 0, now = Date.now()) {
  const start = now - span * 1000;
  const counts = (p) => p.charged && p.state !== "released" && p.state !== "denied";
  const here = payments.filter((p) => counts(p) && made(p) >= start);
  const names = largest(here, by);
  const bars = Array.from({ length: BARS }, () => new Map());
  for (const payment of here) {
    const at = Math.min(BARS - 1, Math.floor(((made(payment) - start) / (span * 1000)) * BARS));
    const name = names.includes(payment[by]) ? payment[by] : "other";
    bars[at].set(name, (bars[at].get(name) ?? 0) + usd(payment.charged));
  }
  const all = [...names, ...(bars.some((bar) => bar.has("other")) ? ["other"] : [])];
  const total = here.reduce((sum, p) => sum + usd(p.charged), 0);
  const sum = `${whole > start ? "at least " : ""}${money(total)} in all`;
  return el("figure", {}, draw(bars, all, start, span, sum), legend(all, here, by, names, sum));
}

function largest(payments, by) {
  const sums = new Map();
  for (const p of payments) sums.set(p[by], (sums.get(p[by]) ?? 0) + usd(p.charged));
  return [...sums].sort((a, b) => b[1] - a[1]).slice(0, SHOWN).map(([name]) => name);
}

/** A round number that is no smaller. */
function ceiling(most) {
  if (most <= 0) return 1e7;
  const unit = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((n) => n * unit).find((n) => n >= most * 0.999);
}

function draw(bars, names, start, span, total) {
  const narrow = innerWidth < 640;
  const WIDTH = narrow ? 480 : 960;
  const sum = (bar) => [...bar.values()].reduce((a, b) => a + b, 0);
  const most = ceiling(Math.max(...bars.map(sum)));
  // Room for the longest number, in the letters of the style sheet (12 or 16 px).
  const longest = Math.max(...[0, 0.5, 1].map((part) => money(most * part).length));
  const LEFT = 12 + longest * (narrow ? 10 : 7.5);
  const [width, height] = [WIDTH - LEFT, HEIGHT - BOTTOM - TOP];
  const y = (value) => TOP + height - (value / most) * height;
  const label = `Spend over time, ${total}`;
  const root = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  for (const part of [0, 0.5, 1]) {
    root.append(
      svg("line", { x1: LEFT, x2: WIDTH, y1: y(most * part), y2: y(most * part), class: "grid" }),
      svg("text", { x: LEFT - 8, y: y(most * part) + 4, "text-anchor": "end" }, money(most * part)),
    );
  }
  bars.forEach((bar, i) => {
    let base = 0;
    for (const name of names) {
      const value = bar.get(name);
      if (!value) continue;
      const [x, w] = [LEFT + (i * width) / BARS + 0.5, width / BARS - 1.5];
      const title = svg("title", {}, `${name}: ${money(value)}`);
      const high = Math.max(1, y(base) - y(base + value));
      const place = { x, width: w, y: y(base + value), height: high };
      root.append(svg("rect", { ...place, rx: 1.5, class: `c${names.indexOf(name)}` }, title));
      base += value;
    }
  });
  for (const part of narrow ? [0, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1]) {
    const anchor = part === 0 ? "start" : part === 1 ? "end" : "middle";
    const place = { x: LEFT + width * part, y: HEIGHT - 6, "text-anchor": anchor };
    root.append(svg("text", place, tick(start + span * 1000 * part, span)));
  }
  return root;
}

function tick(at, span) {
  const date = new Date(at);
  if (span > 86400) return date.toLocaleDateString([], { month: "short", day: "numeric" });
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

function legend(all, payments, by, names, total) {
  const own = (name) => payments.filter((p) => (names.includes(p[by]) ? p[by] : "other") === name);
  const sum = (name) => own(name).reduce((s, p) => s + usd(p.charged), 0);
  const item = (name, i) =>
    el("li", {}, el("span", { class: `swatch c${i}`, "aria-hidden": "true" }), el("bdi", {}, name), ` ${money(sum(name))}`);
  const none = all.length === 0 && el("p", { class: "quiet" }, "Nothing was spent in this time.");
  return el("figcaption", {}, none || [el("ul", { class: "legend" }, all.map(item)), el("p", {}, total)]);
}
