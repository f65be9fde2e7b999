// An honest merchant: every paid route goes through official server code (v2: @x402/express and the core HTTP server,
// v1: the legacy x402-express), all settled by the stand's facilitator on its chains.
import express from "express";
import { HTTPFacilitatorClient, x402HTTPResourceServer, x402ResourceServer } from "@x402/core/server";
import { ExactSvmScheme } from "@x402/svm/exact/server";
import { ExactEvmScheme } from "@x402/evm/exact/server";
import { UptoEvmScheme } from "@x402/evm/upto/server";
import { paymentMiddleware, setSettlementOverrides } from "@x402/express";
import { declareEip2612GasSponsoringExtension, declarePaymentIdentifierExtension, createSIWxResourceServerExtension, declareSIWxExtension, InMemorySIWxStorage, PAYMENT_IDENTIFIER, paymentIdentifierResourceServerExtension } from "@x402/extensions";
import { paymentMiddleware as paymentMiddlewareV1 } from "x402-express";
import * as C from "./config.mjs";

const data = extra => ({ ok: true, data: "premium", ...extra });

async function sse(res, n, gapMs) {
  res.setHeader("content-type", "text/event-stream");
  res.setHeader("cache-control", "no-cache");
  for (let i = 0; i < n; i++) {
    res.write(`id: ${i}\nevent: tick\ndata: {"i":${i}}\n\n`);
    await C.sleep(gapMs);
  }
  res.write("event: done\ndata: [DONE]\n\n");
  res.end();
}

export async function makeMerchant(ctx) {
  const payTo = ctx.chain.by.merchant.address;
  const exact = (price, more = {}) => ({ scheme: "exact", network: C.NET, payTo, price, maxTimeoutSeconds: 60, ...more });
  const overPermit2 = units => exact({ amount: units, asset: C.USDC, extra: { ...C.USDC_EXTRA, assetTransferMethod: "permit2" } });
  const route = (accepts, description, more = {}) => ({ accepts, description, mimeType: "application/json", ...more });

  const routes = {
    "GET /v2/exact": route(exact("$0.01"), "one fixed price, EIP-3009"),
    "GET /v2/cheap": route(exact("$0.000001"), "smallest unit"),
    "GET /v2/price/[cents]": route(
      exact(c => `$${(Number(c.path.split("/").pop()) / 100).toFixed(2)}`),
      "price in cents from the path",
    ),
    "POST /v2/echo": route(exact("$0.02"), "paid POST, echoes the body"),
    "PUT /v2/echo": route(exact("$0.02"), "paid PUT, echoes the body"),
    "GET /v2/permit2": route(overPermit2("10000"), "fixed price over Permit2"),
    "GET /v2/permit2-gasless": route(overPermit2("10000"), "Permit2 with a sponsored EIP-2612 approval", {
      extensions: declareEip2612GasSponsoringExtension(),
    }),
    "GET /v2/upto": route({ scheme: "upto", network: C.NET, payTo, price: "$0.10", maxTimeoutSeconds: 60 }, "at most $0.10; ?used=<atomic units> is charged"),
    "GET /v2/multi": route([overPermit2("30000"), exact("$0.02"), exact("$0.01")], "three ways to pay, dearest first"),
    "GET /v2/payment-id": route(exact("$0.01"), "needs the payment-identifier extension", {
      extensions: { [PAYMENT_IDENTIFIER]: declarePaymentIdentifierExtension(true) },
    }),
    "GET /v2/siwx": route(exact("$0.01"), "sign in with the paying wallet and later calls are free (at https://merchant.stand.test)", {
      extensions: declareSIWxExtension({ network: C.NET, statement: "Sign in to the stand", expirationSeconds: 300 }),
    }),
    "GET /v2/sse": route(exact("$0.01"), "event stream behind the stock middleware (buffered until settled)", { mimeType: "text/event-stream" }),
    "GET /v2/upfront": route(exact("$0.01", { extra: { paymentFlow: "upfront" } }), "settles before the handler runs"),
    "GET /v2/upfront-500": route(exact("$0.01", { extra: { paymentFlow: "upfront" } }), "settles first, then the handler fails"),
    "GET /v2/handler-500": route(exact("$0.01"), "handler fails after verification: no settlement"),
    "GET /v2/settle-fails": route({ ...exact("$0.01"), payTo: ctx.chain.by.blocked.address }, "verifies, then the transfer reverts on chain"),
    "GET /v2/slow-handler": route(exact("$0.01"), "handler takes ?ms="),
    "GET /v2/short-timeout": route(exact("$0.01", { maxTimeoutSeconds: 8 }), "authorization valid for 8 s only"),
    "GET /v2/big": route(exact("$0.01"), "?kb= of body", { mimeType: "application/octet-stream" }),
    "GET /v2/redirect": route(exact("$0.01"), "paid, then a 303 to /free"),
    "GET /v2/drop-once": route(exact("$0.01"), "the first paid answer per payer is lost after settlement, no idempotency"),
    "GET /v2/idempotent": route(exact("$0.01"), "payment-identifier with stored answers; ?drop=1 loses the first paid answer", {
      extensions: { [PAYMENT_IDENTIFIER]: declarePaymentIdentifierExtension(true) },
    }),
  };

  const svm = { scheme: "exact", network: C.SVM_NET, payTo: ctx.svm.merchant, price: "$0.01", maxTimeoutSeconds: 60 };
  routes["GET /v2/svm"] = route(svm, "fixed price on Solana");
  routes["GET /v2/svm-memo"] = route({ ...svm, extra: { memo: "inv_0001" } }, "fixed price on Solana, memo demanded");
  routes["GET /v2/both"] = route([svm, exact("$0.01")], "Solana or EVM");

  const server = new x402ResourceServer(new HTTPFacilitatorClient({ url: ctx.facilitatorUrl }))
    .register(C.NET, new ExactEvmScheme())
    .register(C.NET, new UptoEvmScheme())
    .register(C.SVM_NET, new ExactSvmScheme({ rpcUrl: ctx.svm.url }))
    .registerExtension(paymentIdentifierResourceServerExtension)
    .registerExtension(createSIWxResourceServerExtension({ origin: ctx.siwxOrigin, storage: new InMemorySIWxStorage() }));

  const app = express();
  app.disable("x-powered-by");
  app.use(express.raw({ type: () => true, limit: "20mb" }));
  app.use((req, _, next) => {
    ctx.hit("merchant", req);
    next();
  });

  app.get("/free", (_, res) => res.json({ ok: true, free: true }));
  app.get("/free-sse", (req, res) => sse(res, Number(req.query.n ?? 5), Number(req.query.ms ?? 100)));
  app.get("/plain-401", (_, res) => res.status(401).json({ error: "no" }));

  // Lost answers, outside the payment middleware (this part is the stand's own, the packages store nothing):
  // /v2/idempotent follows the payment-identifier spec, /v2/drop-once loses an answer and knows nothing afterwards.
  const answers = new Map(); // payment identifier -> { header, status, headers, body }
  const dropped = new Set();
  app.get(["/v2/idempotent", "/v2/drop-once"], (req, res, next) => {
    const header = req.get("payment-signature");
    if (!header) return next();
    const p = C.unb64(header);
    const idem = req.path === "/v2/idempotent";
    const id = p?.extensions?.[PAYMENT_IDENTIFIER]?.info?.id;
    if (idem) {
      if (!id) return res.status(400).json({ error: "payment identifier required" });
      const known = answers.get(id);
      if (known && known.header !== header) return res.status(409).json({ error: "same identifier, other payload" });
      if (known) return res.status(known.status).set(known.headers).end(known.body);
    }
    const end = res.end.bind(res);
    res.end = (chunk, enc, cb) => {
      if (!res.getHeader("payment-response")) return end(chunk, enc, cb);
      const key = `${req.path} ${id ?? p?.payload?.authorization?.from} ${req.query.id ?? ""}`;
      const lose = (!idem || req.query.drop) && !dropped.has(key);
      if (idem) answers.set(id, { header, status: res.statusCode, headers: { ...res.getHeaders() }, body: chunk });
      if (!lose) return end(chunk, enc, cb);
      dropped.add(key);
      req.socket.destroy();
      return res;
    };
    next();
  });

  app.use(paymentMiddleware(routes, server));
  const echo = (req, res) =>
    res.json(data({ method: req.method, bytes: req.body?.length ?? 0, type: req.get("content-type") ?? null, body: Buffer.from(req.body ?? "").toString("utf8").slice(0, 4096) }));
  app.get("/v2/exact", (_, res) => res.json(data()));
  app.get("/v2/cheap", (_, res) => res.json(data()));
  app.get("/v2/price/:cents", (req, res) => res.json(data({ cents: req.params.cents })));
  app.post("/v2/echo", echo);
  app.put("/v2/echo", echo);
  for (const p of ["permit2", "permit2-gasless", "multi", "payment-id", "siwx", "upfront", "svm", "svm-memo", "both", "short-timeout", "drop-once", "idempotent"])
    app.get(`/v2/${p}`, (_, res) => res.json(data({ route: p })));
  app.get("/v2/upto", (req, res) => {
    const used = String(req.query.used ?? "23500");
    setSettlementOverrides(res, { amount: used });
    res.json(data({ used }));
  });
  app.get("/v2/sse", (req, res) => sse(res, Number(req.query.n ?? 5), Number(req.query.ms ?? 100)));
  app.get("/v2/upfront-500", (_, res) => res.status(500).json({ error: "after payment" }));
  app.get("/v2/handler-500", (_, res) => res.status(500).json({ error: "handler failed" }));
  app.get("/v2/slow-handler", async (req, res) => {
    await C.sleep(Number(req.query.ms ?? 1000));
    res.json(data());
  });
  app.get("/v2/big", (req, res) => res.type("application/octet-stream").send(Buffer.alloc(1024 * Number(req.query.kb ?? 1024), 0x61)));
  app.get("/v2/redirect", (_, res) => res.redirect(303, "/free"));
  app.get("/v2/settle-fails", async (_, res) => {
    await ctx.chain.setBlocked(ctx.chain.by.blocked.address, true);
    res.on("close", () => ctx.chain.setBlocked(ctx.chain.by.blocked.address, false).catch(() => {}));
    res.json(data());
  });

  // A live stream cannot go through the buffering middleware: settle first with the same core classes, then stream.
  const live = new x402HTTPResourceServer(server, {
    "GET /v2/sse-live": route(exact("$0.01"), "settled first, then streamed live", { mimeType: "text/event-stream" }),
  });
  const ready = live.initialize();
  app.get("/v2/sse-live", async (req, res) => {
    await ready;
    const adapter = {
      getHeader: n => req.get(n), getMethod: () => req.method, getPath: () => req.path,
      getUrl: () => `${req.protocol}://${req.get("host")}${req.originalUrl}`,
      getAcceptHeader: () => req.get("accept") ?? "", getUserAgent: () => req.get("user-agent") ?? "",
    };
    const r = await live.processHTTPRequest({ adapter, path: req.path, method: req.method });
    if (r.type === "payment-error") return res.status(r.response.status).set(r.response.headers).send(r.response.body ?? {});
    const s = await live.processSettlement(r.paymentPayload, r.paymentRequirements, r.declaredExtensions);
    if (!s.success) return res.status(s.response.status).set(s.response.headers).send(s.response.body ?? {});
    res.set(s.headers);
    await sse(res, Number(req.query.n ?? 5), Number(req.query.ms ?? 100));
  });

  // Version 1, legacy package.
  const v1cfg = (price, config = {}) => ({ price, network: C.NET_V1, config: { mimeType: "application/json", maxTimeoutSeconds: 60, ...config } });
  const v1routes = {
    "GET /v1/exact": v1cfg("$0.01", { description: "v1 fixed price" }),
    "POST /v1/echo": v1cfg("$0.02", { description: "v1 paid POST" }),
    "GET /v1/handler-500": v1cfg("$0.01"),
  };
  app.use(paymentMiddlewareV1(payTo, v1routes, { url: ctx.facilitatorUrl }));
  app.get("/v1/exact", (_, res) => res.json(data({ v: 1 })));
  app.post("/v1/echo", echo);
  app.get("/v1/handler-500", (_, res) => res.status(500).json({ error: "handler failed" }));

  app.use(paymentMiddlewareV1(ctx.svm.merchant, { "GET /v1/svm": { price: "$0.01", network: C.SVM_NET_V1, config: { maxTimeoutSeconds: 60, mimeType: "application/json", description: "v1 Solana" } } }, { url: ctx.facilitatorUrl }));
  app.get("/v1/svm", (_, res) => res.json(data({ v: 1 })));

  app.use((err, _req, res, _next) => res.headersSent ? res.end() : res.status(500).json({ error: String(err?.message ?? err) }));
  ctx.merchantRoutes = { v2: [...Object.keys(routes), "GET /v2/sse-live"], v1: Object.keys(v1routes), free: ["GET /free", "GET /free-sse", "GET /plain-401"] };
  return app;
}
