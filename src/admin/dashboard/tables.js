// Payments and refusals, with the exchange behind each.

import { ask } from "/api.js";
import { el, table, when } from "/dom.js";
import { sequence } from "/sequence.js";

/** Ids of rows that are open. */
const opened = new Map();

const MOOD = { settled: "good", reserved: "", unknown: "warn", released: "quiet" };

const price = (text) => el("span", { class: "whole" }, text ?? "");

export function payments(events, redraw) {
  const rows = events.slice(0, 100).flatMap((event) => {
    const flags = event.flags.map((flag) => el("span", { class: "tag warn" }, flag.replaceAll("_", " ")));
    const state = el("span", { class: `tag ${MOOD[event.state]}` }, event.state);
    const cells = [more(event, redraw), when(event.time), el("span", {}, state, flags), price(event.charged ?? event.price), el("bdi", {}, event.host), el("bdi", {}, `${event.method} ${event.path}`), event.agent, event.rule ?? ""];
    return rowsOf(event, cells);
  });
  return table("The newest record of each payment. Open one to see the exchange.", ["", "Time", "State", "Cost", "Host", "Request", "Agent", "Rule"], rows, "Nothing was paid yet.");
}

export function refusals(events, redraw) {
  const rows = events.slice(0, 100).flatMap((event) => {
    const reason = el("span", { class: "tag bad" }, event.reason ?? "?");
    const cells = [more(event, redraw), when(event.time), reason, event.rule ?? "no rule", price(event.price), el("bdi", {}, event.host), el("bdi", {}, `${event.method} ${event.path}`), event.agent];
    return rowsOf(event, cells);
  });
  return table("What was not paid, and the rule that decided.", ["", "Time", "Reason", "Rule", "Price", "Host", "Request", "Agent"], rows, "Nothing was refused yet.");
}

function rowsOf(event, cells) {
  const row = el("tr", { "data-id": event.id }, cells.map((cell) => el("td", {}, cell)));
  const open = opened.get(event.id);
  if (!open) return [row];
  return [row, el("tr", { class: "opened" }, el("td", { colspan: cells.length }, open))];
}

function more(event, redraw) {
  const open = opened.has(event.id);
  const label = open ? "Close" : "Show the exchange";
  const name = `${label}: ${event.host}, ${when(event.time).textContent}`;
  const attributes = { class: "more", "aria-expanded": String(open), "aria-label": name, title: label, "data-key": event.id };
  return el("button", { ...attributes, onclick: () => toggle(event.id, redraw) }, open ? "▾" : "▸");
}

async function toggle(id, redraw) {
  if (opened.delete(id)) return redraw();
  await look(id);
  redraw();
}

async function look(id) {
  try {
    opened.set(id, sequence(await ask(`payments/${id}/trail`)));
  } catch (error) {
    opened.set(id, el("p", { class: "bad" }, error.message));
  }
}

/** An open payment has moved. */
export async function moved(id) {
  if (opened.has(id)) await look(id);
}
