// Asking the proxy. The cookie that the browser keeps is half of the key; the other half came once in the
// fragment of this page's address and is kept where no other port of this machine reads it.

const KEY = "farepass-page";

/** Takes the half out of the address; says whether a wrong token was tried. */
export function arrive() {
  const fragment = location.hash.slice(1);
  if (fragment.startsWith("page=")) localStorage.setItem(KEY, fragment.slice(5));
  if (fragment.startsWith("page=") || fragment === "wrong") history.replaceState(null, "", location.pathname);
  return fragment === "wrong";
}

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

function fields(more) {
  return { "Farepass-Page": localStorage.getItem(KEY) ?? "", ...more };
}

/** Asks for a JSON document. Throws Refused. */
export async function ask(path, method = "GET", body = undefined) {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const headers = fields(text ? { "Content-Type": "application/json" } : {});
  const answer = await fetch(`/api/v1/${path}`, { method, headers, body: text, cache: "no-store" });
  const document = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, document.detail ?? `status ${answer.status}`);
  return document;
}

/** Ends when somebody may see this page. */
const seen = () => document.hidden && new Promise((on) => document.addEventListener("visibilitychange", on, { once: true }));

/**
 * Hears events while the page is seen, and takes a broken stream up where it ended. A browser has six
 * connections for all tabs of one origin: those that nobody looks at leave them to the others.
 * `told(kind, data)` is called for each, `state(alive)` when the stream begins or breaks.
 */
export async function listen(told, state) {
  let last = null;
  for (;;) {
    await seen();
    const over = new AbortController();
    const hide = () => document.hidden && over.abort();
    document.addEventListener("visibilitychange", hide);
    try {
      const headers = fields(last === null ? {} : { "Last-Event-ID": last });
      const answer = await fetch("/api/v1/events", { headers, cache: "no-store", signal: over.signal });
      if (!answer.ok) throw new Refused(answer.status, "no stream");
      state(true);
      for await (const event of events(answer.body)) {
        if (event.id !== null) last = event.id;
        told(event.kind, JSON.parse(event.data));
      }
    } catch (error) {
      if (error instanceof Refused && error.status === 401) return state(false);
    } finally {
      document.removeEventListener("visibilitychange", hide);
    }
    state(false);
    await new Promise((again) => setTimeout(again, 2000));
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const event = { id: null, kind: "message", data: "" };
      for (const line of text.slice(0, end).split("\n")) {
        if (line.startsWith("id: ")) event.id = line.slice(4);
        if (line.startsWith("event: ")) event.kind = line.slice(7);
        if (line.startsWith("data: ")) event.data += line.slice(6);
      }
      text = text.slice(end + 2);
      if (event.data) yield event;
    }
  }
}
