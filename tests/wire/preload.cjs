// Agents that a program makes itself, as SDKs do, with the preload and a proxy in the environment. Says `done` when all is as
// it would be without.
"use strict";
const assert = require("node:assert");
const http = require("node:http");
const https = require("node:https");
const path = require("node:path");

const HOST = "free.wire.test";
const PLACES = [[https, `https://${HOST}`], [http, `http://${HOST}`]];

// One request: what came, and on which socket.
const ask = (module, url, options = {}, body = undefined) => new Promise((done) => {
  const request = module.request(url, { method: body ? "POST" : "GET", ...options });
  request.on("response", (answer) => {
    let [length, text] = [0, ""];
    answer.on("data", (piece) => {
      length += piece.length;
      if (length < 10000) text += piece;
      // Slower than what comes.
      answer.pause();
      setImmediate(() => answer.resume());
    });
    answer.on("end", () => done({ status: answer.statusCode, text, length, socket: request.socket }));
    answer.on("error", (error) => done({ error }));
  });
  request.on("upgrade", (answer, socket, early) => {
    if (early.length) socket.unshift(early);
    socket.once("data", (piece) => {
      socket.destroy();
      done({ status: answer.statusCode, text: String(piece) });
    });
  });
  if (options.patience) request.setTimeout(options.patience, () => request.destroy(new Error("too late")));
  request.on("error", (error) => done({ error }));
  request.end(body);
});

const many = async (module, url, agent, count) => {
  const answers = await Promise.all(Array.from({ length: count }, () => ask(module, url, { agent })));
  assert(answers.every((a) => a.status === 200), answers.map((a) => a.error).join());
  return new Set(answers.map((a) => a.socket)).size;
};

async function led(module, at) {
  const { Agent } = module;
  // One that is kept is used again, and there are as many as were asked for.
  const kept = new Agent({ keepAlive: true });
  const first = await ask(module, `${at}/x`, { agent: kept });
  assert.equal(first.status, 200, first.error);
  for (let n = 0; n < 3; n += 1) assert.equal((await ask(module, `${at}/x`, { agent: kept })).socket, first.socket);
  assert(await many(module, `${at}/x`, new Agent({ keepAlive: true, maxSockets: 2 }), 20) <= 2);
  assert.equal((await ask(module, `${at}/x`, { agent: new Agent() })).status, 200);
  assert.equal((await ask(module, `${at}/x`, { agent: false })).status, 200);
  // As agentkeepalive does it: a socket must be there at once.
  class Marked extends Agent {
    createConnection(options, done) {
      const socket = super.createConnection(options, done);
      socket.marked = true;
      return socket;
    }
  }
  assert((await ask(module, `${at}/x`, { agent: new Marked({ keepAlive: true }) })).socket.marked);
  // Much, both ways; an answer that ends with its connection is whole.
  const much = await ask(module, `${at}/x`, { agent: kept }, Buffer.alloc(3_000_000, "x"));
  assert(much.text.includes("content-length: 3000000"), much.text);
  assert.equal((await ask(module, `${at}/big`, { agent: kept })).length, 5_000_000);
  const upgrade = { agent: kept, headers: { connection: "upgrade", upgrade: "websocket" } };
  assert.equal((await ask(module, `${at}/101`, upgrade)).text, "hello");
}

async function broken(module, at) {
  const { Agent } = module;
  const late = await ask(module, `${at}/slow`, { agent: new Agent(), patience: 200 });
  assert.equal(late.error.message, "too late");
  const timed = module.get(`${at}/slow`, { agent: new Agent({ timeout: 200 }) });
  await new Promise((done) => timed.once("timeout", done));
  timed.on("error", () => {}).destroy();
  const stopped = await ask(module, `${at}/slow`, { agent: new Agent(), signal: AbortSignal.timeout(200) });
  assert.equal(stopped.error.name, "AbortError");
  const cut = await ask(module, `${at}/cut`, { agent: new Agent({ keepAlive: true }) });
  assert(cut.error, "a body that broke off is whole");
  // Of a tunnel that was refused.
  const refused = await ask(https, "https://blind.wire.test:444/", { agent: new https.Agent() });
  assert.deepEqual([refused.error.code, refused.error.statusCode], ["ERR_PROXY_TUNNEL", 403]);
}

// What stays on this machine.
async function direct() {
  const server = http.createServer((request, answer) => answer.end("near"));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const near = await ask(http, `http://127.0.0.1:${server.address().port}/`, { agent: new http.Agent() });
  assert.equal(near.text, "near");
  server.close();
  const socketPath = path.join(process.env.HERE, "near.sock");
  const beside = http.createServer((request, answer) => answer.end("beside"));
  await new Promise((done) => beside.listen(socketPath, done));
  const answer = await ask(http, `http://${HOST}/`, { agent: new http.Agent(), socketPath });
  assert.equal(answer.text, "beside");
  beside.close();
}

// An address is no name, and still what the certificate must be for.
async function addresses() {
  for (const agent of [undefined, new https.Agent(), new https.Agent({ keepAlive: true })]) {
    const answer = await ask(https, "https://[2001:db8::1]/x", { agent });
    assert.equal(answer.status, 200, answer.error);
    const other = await ask(https, `https://${HOST}/x`, { agent, checkServerIdentity: (name) => new Error(name) });
    assert.equal(other.error.message, HOST);
  }
  assert.equal((await fetch("https://[2001:db8::1]/x")).status, 200);
  assert.equal((await fetch(`https://${HOST}/x`)).status, 200);
}

(async () => {
  for (const [module, at] of PLACES) {
    await led(module, at);
    await broken(module, at);
  }
  await direct();
  await addresses();
  // Connections that are kept keep no program alive.
  const ended = Date.now();
  process.on("exit", () => console.log(Date.now() - ended < 3000 ? "done" : "late"));
})();
