// A headless Chromium over its debugging pipe: no package besides Node.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PATIENCE = 15000;

export class Chromium {
  static async start(binary) {
    const home = mkdtempSync(join(tmpdir(), "farepass-chromium-"));
    // Pages of this machine only; a container has no user namespaces for the sandbox.
    const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage", "--disable-component-update", "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--lang=en-GB"];
    const child = spawn(binary, [...flags, `--user-data-dir=${home}`, "--remote-debugging-pipe", "about:blank"], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    return new Chromium(child, home);
  }

  constructor(child, home) {
    Object.assign(this, { child, home, next: 1, waiting: new Map(), heard: [], rest: "" });
    child.stdio[4].setEncoding("utf8").on("data", (text) => {
      const messages = (this.rest + text).split("\0");
      this.rest = messages.pop();
      for (const message of messages) this.hear(JSON.parse(message));
    });
    this.gone = new Promise((gone) => child.on("exit", gone));
    this.gone.then(() => this.waiting.forEach(({ no }) => no(new Error("Chromium ended"))));
  }

  hear(message) {
    const waiting = this.waiting.get(message.id);
    if (!waiting) return this.heard.push(message);
    this.waiting.delete(message.id);
    if (message.error) waiting.no(new Error(JSON.stringify(message.error)));
    else waiting.yes(message.result);
  }

  send(method, params = {}, sessionId = undefined) {
    const id = this.next++;
    this.child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    const timer = new Promise((_, no) => setTimeout(no, PATIENCE, new Error(`${method}: no answer`)).unref());
    return Promise.race([new Promise((yes, no) => this.waiting.set(id, { yes, no })), timer]);
  }

  async page(url) {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, sessionId);
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await page.send(`${domain}.enable`);
    await page.go(url);
    return page;
  }

  async stop() {
    this.child.kill();
    await this.gone;
    // Processes of its own may still be writing.
    rmSync(this.home, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}

class Page {
  constructor(browser, session) {
    Object.assign(this, { browser, session });
  }

  send(method, params) {
    return this.browser.send(method, params, this.session);
  }

  go(url) {
    return this.send("Page.navigate", { url });
  }

  /** The value of an expression in the page. */
  async run(expression) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return result.value;
  }

  /** Waits until an expression is true. */
  async until(what, expression) {
    const end = Date.now() + PATIENCE;
    for (;;) {
      const found = await this.run(expression).catch(() => null);
      if (found) return found;
      if (Date.now() > end) throw new Error(`waited for ${what}; the page says:\n${await this.run("document.body.innerText")}`);
      await new Promise((again) => setTimeout(again, 50));
    }
  }

  /** A real click, where the element is, once it stands still there. */
  async click(selector) {
    const found = `document.querySelector(${JSON.stringify(selector)})`;
    await this.until(`${selector} to stand still`, `new Promise((told) => { const at = () => { const e = ${found}; e.scrollIntoView({ block: "center", behavior: "instant" }); return e.disabled ? NaN : e.getBoundingClientRect().y + document.body.scrollHeight; }; const before = at(); setTimeout(() => told(before === at()), 700); })`);
    const at = await this.run(`(() => { const e = document.querySelector(${JSON.stringify(selector)}); e.scrollIntoView({ block: "center", behavior: "instant" }); const r = e.getBoundingClientRect(); return { x: r.x + r.width / 2, y: r.y + r.height / 2 }; })()`);
    for (const type of ["mousePressed", "mouseReleased"]) await this.send("Input.dispatchMouseEvent", { type, ...at, button: "left", clickCount: 1 });
  }

  async key(key, code = key) {
    const text = { Enter: "\r", Space: " " }[code];
    await this.send("Input.dispatchKeyEvent", { type: "keyDown", key, code, text, windowsVirtualKeyCode: { Enter: 13, Tab: 9, Space: 32 }[code] });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", key, code });
  }

  look(scheme, width, height, mobile = false) {
    const features = [{ name: "prefers-color-scheme", value: scheme }];
    return Promise.all([
      this.send("Emulation.setEmulatedMedia", { features }),
      this.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile }),
    ]);
  }

  async picture(file) {
    const { data } = await this.send("Page.captureScreenshot", { captureBeyondViewport: true });
    writeFileSync(file, Buffer.from(data, "base64"));
  }

  /** What went wrong in it, and where it asked for something. */
  report() {
    const own = this.browser.heard.filter((m) => m.sessionId === this.session);
    const errors = own.flatMap((m) => {
      if (m.method === "Runtime.exceptionThrown") return [JSON.stringify(m.params.exceptionDetails)];
      if (m.method === "Log.entryAdded" && m.params.entry.level === "error") return [`${m.params.entry.text} ${m.params.entry.url ?? ""}`];
      return [];
    });
    const asked = own.filter((m) => m.method === "Network.requestWillBeSent").map((m) => m.params.request.url);
    return { errors, asked: [...new Set(asked)] };
  }
}
