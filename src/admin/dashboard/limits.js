// Budgets and sessions as bars, approvals, freezes, policy.

import { el, money, plain, usd, when } from "/dom.js";

function bar(name, used, text) {
  const level = used >= 1 ? "full" : used >= 0.8 ? "high" : "";
  const meter = el("progress", { max: 1000, value: Math.min(1000, Math.round(used * 1000)), class: level, "aria-label": `${plain(name)}, used` });
  return el("li", {}, el("div", { class: "between" }, el("bdi", {}, name), el("span", {}, text)), meter);
}

export function budgets(all) {
  if (all.length === 0) return [el("h3", {}, "Budgets"), el("p", { class: "quiet" }, "The policy has no budgets; sessions have their own.")];
  return [el("h3", {}, "Budgets"), ...all.map(budget)];
}

function budget(one) {
  const window = { day: "today (UTC)", month: "this month" }[one.window] ?? `in ${one.window}`;
  const limit = [one.limit, one.payments_limit && `${one.payments_limit} payments`].filter(Boolean).join(", ");
  const title = el("div", { class: "between" }, el("strong", {}, one.name), el("span", { class: "quiet" }, `${limit} ${window}, each ${one.scope}`.replace("each all", "together")));
  const rows = one.accounts.slice(0, 8).map((account) => {
    const byMoney = one.limit ? usd(account.spent) / usd(one.limit) : 0;
    const byCount = one.payments_limit ? account.payments / one.payments_limit : 0;
    const left = one.limit ? `${money(usd(account.remaining))} left` : `${account.payments_remaining} payments left`;
    return bar(account.whose || "everybody", Math.max(byMoney, byCount), left);
  });
  const more = one.accounts.length > 8 && el("p", { class: "quiet" }, `and ${one.accounts.length - 8} more`);
  const none = rows.length === 0 && el("p", { class: "quiet" }, "Nothing counts against it now.");
  return el("div", { class: "card" }, title, rows.length > 0 && el("ul", { class: "bars" }, rows), none, more);
}

/** Those that spend come first; what is over fills up to so many. */
const SESSIONS = 30;
/** Open ones are all shown, up to what a page can draw twice a second. */
const OPEN = 500;

export function sessions(all) {
  const ended = over(all);
  const open = all.filter((session) => !ended.has(session.id)).slice(0, OPEN);
  const rest = all.filter((session) => ended.has(session.id)).slice(0, Math.max(0, SESSIONS - open.length));
  const shown = [...open, ...rest];
  const rows = shown.map((session) => {
    const end = session.closed ? "closed" : ended.has(session.id) ? "expired" : "";
    const name = session.id === session.agent ? session.id : `${session.agent} · ${session.id}`;
    const left = Math.max(0, usd(session.budget) - usd(session.spent));
    return bar(name, usd(session.budget) > 0 ? usd(session.spent) / usd(session.budget) : 1, end || `${money(left)} left of ${money(usd(session.budget))}`);
  });
  const more = all.length > shown.length && el("p", { class: "quiet" }, `and ${all.length - shown.length} more`);
  return [el("h3", {}, "Sessions"), el("div", { class: "card" }, el("ul", { class: "bars" }, rows), more)];
}

/** Sessions in which nothing more is paid, whatever a person says. */
export const over = (sessions) => new Set(sessions.filter((s) => s.closed || Date.parse(s.expires) <= Date.now()).map((s) => s.id));

/** What waits, the oldest first: what comes later moves nothing that is there. */
export function open(approvals, over) {
  const waits = (a) => a.stage === "waiting" && Date.parse(a.expires) > Date.now() && !over.has(a.session);
  return approvals.filter(waits).reverse();
}

/** `answer(id, yes)` is called on a click, not while `still`: the list has just moved. */
export function approvals(open, answer, still) {
  if (open.length === 0) return [el("p", { class: "quiet" }, "No payment waits for an answer.")];
  return open.map((asking) => {
    const button = (yes, text) =>
      el("button", { disabled: still, class: yes ? "go" : "danger", "data-key": `${asking.id}-${yes}`, onclick: (e) => answer(asking.id, yes, e.currentTarget) }, text, el("span", { class: "hidden" }, ` ${asking.price} to ${asking.host}`));
    const because = asking.because.map((why) => why.replaceAll("_", " ")).join(", ");
    return el("article", { class: "card asks", id: asking.id },
      el("div", {},
        el("p", {}, el("strong", {}, asking.price), " for ", el("bdi", {}, `${asking.method} ${asking.host}${asking.path}`)),
        el("p", { class: "quiet" }, `agent ${asking.agent}, rule ${asking.rule} asks (${because}), to `, el("code", {}, asking.pay_to), ` on ${asking.network}, until `, when(asking.expires))),
      el("div", { class: "buttons" }, button(true, "Approve"), button(false, "Deny")));
  });
}

/** `thaw(scope, name)` is called on a click. */
export function freezes(all, thaw) {
  if (all.length === 0) return [el("p", { class: "quiet" }, "Nothing is frozen.")];
  return all.map((freeze) => {
    const [scope, ...name] = freeze.what.split(" ");
    // The operator's file freezes as long as it is there: no click takes it away.
    const button = freeze.since && el("button", { "data-key": freeze.what, onclick: () => thaw(scope, name.join(" ") || undefined) }, "Unfreeze", el("span", { class: "hidden" }, ` ${freeze.what}`));
    const since = freeze.since && [" since ", when(freeze.since)];
    const why = freeze.why && ` (${freeze.why})`;
    return el("div", { class: "card between frozen" }, el("span", {}, el("strong", {}, freeze.what === "all" ? "all payments" : freeze.what), why, since), button);
  });
}

export function policy(document) {
  const { hash, mode, ...rest } = document;
  const rules = (rest.rules ?? []).map((rule) =>
    el("details", {}, el("summary", {}, el("strong", {}, rule.name), rule.deny ? " denies" : ` pays up to ${rule.pay?.max ?? "its budgets"}`), el("pre", {}, pretty(rule))));
  const others = Object.entries(rest).filter(([key]) => key !== "rules");
  const more = others.map(([key, value]) => el("details", {}, el("summary", {}, key), el("pre", {}, pretty(value))));
  return [el("p", {}, "hash ", el("code", {}, hash), `, mode ${mode}; the first rule that matches decides.`), ...rules, ...more];
}

/** Over several lines; the breaks are ours, the text inside is spelled out. */
function pretty(value) {
  return JSON.stringify(value, null, 2).split("\n").flatMap((line) => [line, el("br")]);
}
