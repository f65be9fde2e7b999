// Starts everything, prints one JSON line, stops on SIGTERM / SIGINT or when the parent goes away.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import express from "express";
import * as C from "./config.mjs";
import { startChain } from "./chain.mjs";
import { makeFacilitator } from "./facilitator.mjs";
import { makeHostile } from "./hostile.mjs";
import { makeMerchant } from "./merchant.mjs";
import { startSvm } from "./svm.mjs";

const t0 = performance.now();
const opt = C.options(process.argv.slice(2));
const host = opt.host;
const stops = [];
let stopping = false;
async function stop(code = 0) {
  if (stopping) return;
  stopping = true;
  setTimeout(() => process.exit(code), 4000).unref();
  await Promise.allSettled(stops.reverse().map(f => f()));
  process.exit(code);
}
for (const s of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(s, () => stop(0));
process.on("unhandledRejection", e => console.error("stand: unhandled", e));

// stdin is a pipe held by stand.mjs: when that process is gone, so are we
process.stdin.on("end", () => stop(0)).resume();

// Ports come from the system; handlers follow later, because some need to know the others' ports.
const listen = server => new Promise((ok, no) => {
  server.on("error", no);
  server.listen(0, host, () => ok(server.address().port));
  stops.push(() => new Promise(r => (server.closeAllConnections?.(), server.close(r), setTimeout(r, 300).unref())));
});

try {
  const [chain, svm, tls] = await Promise.all([startChain({ host, blockTime: opt.blockTime, quiet: opt.quiet }), startSvm({ host }), makeTls()]);
  stops.push(chain.stop, svm.stop, () => rmSync(tls.dir, { recursive: true, force: true }));
  const servers = {
    facilitator: http.createServer(),
    merchant: http.createServer({ maxHeaderSize: 65536 }),
    merchantTls: https.createServer({ ...tls.leaf, maxHeaderSize: 65536 }),
    hostile: http.createServer({ maxHeaderSize: 65536 }),
    // HTTP/2 and 1.1
    hostileTls: http2.createSecureServer({ ...tls.leaf, allowHTTP1: true, maxHeaderSize: 65536, maxSendHeaderBlockLength: 1 << 20 }),
    admin: http.createServer(),
  };
  const ports = {};
  for (const [name, server] of Object.entries(servers)) ports[name] = await listen(server);
  const at = port => `http://${host}:${port}`;

  const ctx = { opt, chain, svm, faults: [], facilitatorLog: [], hits: [] };
  ctx.facilitatorUrl = at(ports.facilitator);
  ctx.siwxOrigin = "https://merchant.stand.test";
  ctx.hostilePort = ports.hostile;
  ctx.hit = (server, req) => {
    const h = req.headers;
    const raw = h["payment-signature"] ?? h["x-payment"];
    ctx.hits.push({
      server, at: Date.now(), method: req.method, url: req.originalUrl ?? req.url, host: h.host ?? h[":authority"], http: req.httpVersion,
      tls: Boolean(req.socket.encrypted), paymentHeader: h["payment-signature"] ? "PAYMENT-SIGNATURE" : h["x-payment"] ? "X-PAYMENT" : null,
      payment: raw ? (C.unb64(raw) ?? raw) : undefined, siwx: h["sign-in-with-x"] ? true : undefined, headers: Object.keys(h),
    });
    if (ctx.hits.length > 20000) ctx.hits.splice(0, 5000);
  };
  servers.facilitator.on("request", await makeFacilitator(ctx));
  const merchant = await makeMerchant(ctx);
  for (const s of [servers.merchant, servers.merchantTls]) s.on("request", merchant);
  const hostile = makeHostile(ctx);
  for (const s of [servers.hostile, servers.hostileTls]) s.on("request", hostile);
  servers.admin.on("request", makeAdmin(ctx));

  // The middleware asks the facilitator for its kinds on the first paid request; do that now.
  for (const path of ["/v2/exact", "/v1/exact", "/v2/svm", "/v1/svm"]) {
    const r = await fetch(at(ports.merchant) + path);
    if (r.status !== 402) throw new Error(`${path} answered ${r.status}: ${await r.text()}`);
  }
  ctx.hits.length = 0;

  console.log(C.json({
    ready: true, pid: process.pid, startMs: Math.round(performance.now() - t0),
    chain: { rpc: chain.url, chainId: C.CHAIN_ID, network: C.NET, v1Network: C.NET_V1, usdc: C.USDC },
    svm: { rpc: svm.url, network: C.SVM_NET, mint: C.SVM_MINT, merchant: svm.merchant, facilitator: svm.facilitatorSigner.address },
    facilitator: { url: ctx.facilitatorUrl, address: chain.by.facilitator.address },
    merchant: { port: ports.merchant, tlsPort: ports.merchantTls, routes: ctx.merchantRoutes },
    hostile: { port: ports.hostile, tlsPort: ports.hostileTls, routes: ctx.hostileRoutes },
    admin: { port: ports.admin },
    tls: { ca: tls.caFile, names: C.NAMES },
    accounts: chain.accounts.map(({ role, address, privateKey }) => ({ role, address, privateKey })),
    versions: versions(),
  }));
} catch (e) {
  console.error("stand: failed to start:", e);
  await stop(1);
}

function makeAdmin(ctx) {
  const { chain } = ctx;
  const admin = express().use(express.json());
  admin.get("/state", async (_, res) => {
    const balances = Object.fromEntries(await Promise.all(chain.accounts.map(async a => [a.role, (await chain.balance(a.address)).toString()])));
    const settles = ctx.facilitatorLog.filter(e => e.op === "settle").map(e => ({ at: e.at, version: e.version, ms: e.ms, scheme: e.requirements?.scheme, network: e.requirements?.network, payTo: e.requirements?.payTo, amount: e.requirements?.amount ?? e.requirements?.maxAmountRequired, result: e.result }));
    res.type("json").send(C.json({ balances, transfers: await chain.transfers(), settles, verifies: ctx.facilitatorLog.filter(e => e.op === "verify").length, faults: ctx.faults }));
  });
  admin.get("/hits", (req, res) => res.type("json").send(C.json(ctx.hits.filter(h => !req.query.path || h.url.split("?")[0] === req.query.path).filter(h => !req.query.id || h.url.includes(`id=${req.query.id}`)).filter(h => !req.query.from || (h.payment?.payload?.authorization ?? h.payment?.payload?.permit2Authorization)?.from?.toLowerCase() === req.query.from.toLowerCase()))));
  admin.get("/facilitator-log", (_, res) => res.type("json").send(C.json(ctx.facilitatorLog)));
  admin.get("/balance/:address", async (req, res) => res.json({ balance: (await chain.balance(req.params.address)).toString() }));
  admin.get("/transfers/:from", async (req, res) => res.type("json").send(C.json(await chain.transfers(req.params.from))));
  admin.post("/reset", (_, res) => {
    ctx.hits.length = 0;
    ctx.facilitatorLog.length = 0;
    ctx.faults.length = 0;
    ctx.hostileReset();
    res.json({ ok: true });
  });
  admin.post("/fault", (req, res) => {
    ctx.faults.push({ op: "settle", kind: "fail", times: 1, ...req.body });
    res.json({ faults: ctx.faults });
  });
  admin.post("/fund", async (req, res) => {
    try {
      await chain.mint(req.body.address, req.body.amount);
      res.json({ balance: (await chain.balance(req.body.address)).toString() });
    } catch (e) {
      res.status(500).json({ error: String(e?.message ?? e) });
    }
  });
  admin.post("/svm/fund", async (req, res) => res.json({ balance: await ctx.svm.fund(req.body.address, BigInt(req.body.amount)) }));
  admin.get("/svm/balance/:address", async (req, res) => res.json({ balance: await ctx.svm.balance(req.params.address) }));
  admin.get("/svm/transfers/:address", (req, res) => res.type("json").send(C.json(ctx.svm.sent(req.params.address))));
  admin.post("/svm/pass", (req, res) => (ctx.svm.pass(Number(req.body.slots ?? 1), Number(req.body.seconds ?? 0)), res.json({ ok: true })));
  return admin;
}

function versions() {
  const require = createRequire(import.meta.url);
  const version = p => {
    try {
      return JSON.parse(readFileSync(require.resolve(p).replace(/(node_modules\/(?:@[^/]+\/)?[^/]+)\/.*/, "$1/package.json"))).version;
    } catch {
      return null;
    }
  };
  return Object.fromEntries(["@x402/core", "@x402/evm", "@x402/svm", "@x402/express", "@x402/fetch", "x402-express", "viem", "litesvm"].map(p => [p, version(p)]));
}

async function makeTls() {
  const { generate } = await import("selfsigned").then(m => m.default ?? m);
  const day = 86_400_000;
  const dates = { notBeforeDate: new Date(Date.now() - day), notAfterDate: new Date(Date.now() + 30 * day) };
  const ec = { keyType: "ec", curve: "P-256", algorithm: "sha256", ...dates };
  const ca = await generate([{ name: "commonName", value: "x402 stand test CA" }], {
    ...ec,
    extensions: [{ name: "basicConstraints", cA: true, critical: true }, { name: "keyUsage", keyCertSign: true, cRLSign: true, critical: true }],
  });
  const leaf = await generate([{ name: "commonName", value: "merchant.stand.test" }], {
    ...ec, ca: { key: ca.private, cert: ca.cert },
    extensions: [
      { name: "basicConstraints", cA: false, critical: true },
      { name: "keyUsage", digitalSignature: true, critical: true },
      { name: "extKeyUsage", serverAuth: true },
      { name: "subjectAltName", altNames: [...C.NAMES.map(value => ({ type: 2, value })), { type: 7, ip: "127.0.0.1" }] },
    ],
  });
  const dir = mkdtempSync(join(tmpdir(), "farepass-stand-"));
  const caFile = join(dir, "ca.pem");
  writeFileSync(caFile, ca.cert);
  return { dir, caFile, leaf: { key: leaf.private, cert: leaf.cert } };
}
