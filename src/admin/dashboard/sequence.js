// One 402 exchange as it went: who said what to whom, drawn from the records of the ledger.

import { el, svg } from "/dom.js";

const LANES = ["Agent", "Farepass", "Wallet", "Ledger", "Merchant"];
const [STEP, GAP, TOP] = [44, 190, 46];
const X = (lane) => 80 + LANES.indexOf(lane) * GAP;

/** The drawing of a trail, and its records as a list. */
export function sequence(trail) {
  const steps = story(trail.records);
  const [width, height] = [X("Merchant") + 130, TOP + steps.length * STEP + 20];
  const label = steps.map((s) => `${s.from} to ${s.to}: ${s.text}`).join("; ");
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label, class: "sequence" });
  const arrow = svg("path", { d: "M0,0 L8,4 L0,8 z" });
  const marker = { id: "arrow", viewBox: "0 0 8 8", refX: 8, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto" };
  root.append(svg("defs", {}, svg("marker", marker, arrow)));
  for (const lane of LANES) {
    root.append(
      svg("line", { x1: X(lane), x2: X(lane), y1: TOP - 14, y2: height - 8, class: "lane" }),
      svg("text", { x: X(lane), y: 20, "text-anchor": "middle", class: "lane-name" }, lane),
    );
  }
  steps.forEach((step, i) => root.append(...row(step, TOP + 18 + i * STEP)));
  return el("div", { class: "trail" }, el("div", { class: "scroll" }, root), proof(trail));
}

function row(step, y) {
  const [from, to] = [X(step.from), X(step.to)];
  const text = short(step.text, step.from === step.to ? 90 : 64);
  if (from === to) {
    const width = Math.min(440, 24 + text.length * 6.6);
    const x = Math.max(4, Math.min(from - width / 2, X("Merchant") + 126 - width));
    return [
      svg("rect", { x, y: y - 19, width, height: 26, rx: 6, class: `note ${step.mood ?? ""}` }),
      svg("text", { x: x + width / 2, y: y - 2, "text-anchor": "middle", class: `${step.mood ?? ""}` }, text),
    ];
  }
  const line = { x1: from, x2: to, y1: y, y2: y, class: `arrow ${step.mood ?? ""}`, "marker-end": "url(#arrow)" };
  const middle = (from + to) / 2;
  const half = text.length * 3.3;
  const x = Math.max(half + 4, Math.min(middle, X("Merchant") + 126 - half));
  return [svg("line", line), svg("text", { x, y: y - 6, "text-anchor": "middle", class: `said ${step.mood ?? ""}` }, text)];
}

const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function story(records) {
  const first = records[0];
  const what = `${first.method} ${first.host}${first.path}`;
  const asked = { from: "Agent", to: "Farepass", text: what };
  const offered = first.scheme ? `402, ${first.price} by ${first.scheme} on ${first.network}` : "402";
  const begin = [asked, { from: "Farepass", to: "Merchant", text: "the same request" }, { from: "Merchant", to: "Farepass", text: offered }];
  if (first.state === "denied") return [...begin, ...denied(first)];
  const rule = { from: "Farepass", to: "Farepass", text: `rule ${first.rule ?? "?"} allows it` };
  const paying = [
    { from: "Farepass", to: "Ledger", text: `reserve ${first.charged ?? first.price ?? ""} (record ${first.record_seq})` },
    { from: "Farepass", to: "Wallet", text: `sign ${units(first)}` },
    { from: "Farepass", to: "Merchant", text: "the same request, paid" },
  ];
  const outcomes = records.slice(1).flatMap((record, i) => outcome(record, i, records[i]));
  return [...begin, rule, ...paying, ...outcomes, ...flags(records.at(-1))];
}

/** Records have atomic units, and not how many of them make one of the asset. */
const units = ({ amount, asset }) => `${amount} ${amount === "1" ? "unit" : "units"} of ${asset}`;

function denied(record) {
  const by = record.rule ? `rule ${record.rule}: ` : "no rule: ";
  return [
    { from: "Farepass", to: "Farepass", text: `${by}${record.reason}`, mood: "bad" },
    { from: "Farepass", to: "Agent", text: `refused: ${record.reason}`, mood: "bad" },
  ];
}

/** What a record says that the one before it did not. */
function outcome(record, i, before) {
  const mood = { settled: "good", unknown: "warn", released: "warn" }[record.state];
  const steps = [];
  const { status } = record.delivery ?? {};
  const claim = { claimed: "receipt claims it", denied: "receipt denies it" }[record.receipt] ?? "no receipt";
  if (i === 0 && status) steps.push({ from: "Merchant", to: "Farepass", text: `${status}, ${claim}`, mood });
  const why = record.reason && record.reason !== "seen_on_chain" ? `, ${record.reason}` : "";
  const chain = record.confirmed && !before.confirmed ? `, seen on chain${record.block ? ` in block ${record.block}` : ""}` : "";
  const took = record.delivery?.digest && !before.delivery?.digest ? ", body delivered" : "";
  steps.push({ from: "Farepass", to: "Ledger", text: `${record.state}${why}${chain}${took} (record ${record.record_seq})`, mood });
  if (i === 0 && status) steps.push({ from: "Farepass", to: "Agent", text: `${status}${record.state === "settled" ? ", the answer and what it cost" : ""}`, mood });
  return steps;
}

function flags(record) {
  return record.flags.map((flag) => ({ from: "Farepass", to: "Farepass", text: flag.replaceAll("_", " "), mood: "warn" }));
}

function proof(trail) {
  const last = trail.records.at(-1);
  const rows = [
    ["Payment", last.id],
    ["Recipient", last.pay_to],
    ["Transaction", last.transaction],
    ["Nonce", last.nonce],
    ["Policy", last.policy],
    ["Record hash", last.record_hash],
  ];
  const shown = rows.filter(([, value]) => value);
  return el("dl", {}, shown.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, el("code", {}, value))]));
}
