// Starts a chain and a merchant made of the official server package, and prints one JSON line.
import nodeHttp from "node:http";
import { BodyDigest, Challenge, Credential, Receipt } from "mppx";
import { evm, Mppx, Request as NodeRequest } from "mppx/server";
import { parseAbi } from "viem";
import { startChain } from "./chain.mjs";
import * as C from "./config.mjs";
import { PATH_USD, startTempo, TEMPO_ID } from "./tempo.mjs";

const opt = C.options(process.argv.slice(2));
const chain = await startChain({ host: opt.host, blockTime: 0, quiet: opt.quiet });
const onTempo = await startTempo({ host: opt.host, by: chain.by, quiet: opt.quiet, sleep: C.sleep });
const stop = () => Promise.all([chain.stop(), onTempo.stop()]).finally(() => process.exit(0));
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, stop);
process.stdin.on("end", stop).resume();

const secretKey = "a secret of more than 32 bytes, known to everybody";
const merchant = chain.by.merchant.address;
const abi = parseAbi([
  "function transferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce,bytes signature)",
]);

// The merchant takes the money itself.
async function settle({ payload: p, request }) {
  const args = [p.from, p.to, BigInt(p.value), BigInt(p.validAfter), BigInt(p.validBefore), p.nonce, p.signature];
  const hash = await chain.wallet.writeContract({ address: request.currency, abi, functionName: "transferWithAuthorization", args });
  const receipt = await chain.wallet.waitForTransactionReceipt({ hash });
  if (receipt.status !== "success") throw new Error("the transfer reverted");
  return { reference: hash };
}

const method = evm.charge({
  currency: C.USDC, recipient: merchant, chainId: C.CHAIN_ID, decimals: 6, authorization: C.USDC_EXTRA, settle,
});
const usual = Mppx.create({ methods: [method], secretKey });
const [own, sponsored, push] = [onTempo.own, onTempo.sponsored, onTempo.push].map(m => Mppx.create({ methods: [m], secretKey }));
const both = Mppx.create({ methods: [onTempo.sponsored, method], secretKey });

const soon = (seconds = 120) => new Date(Date.now() + seconds * 1000).toISOString();
const told = request => Response.json({ ok: true, path: new URL(request.url).pathname });
async function gate(mppx, request, options = {}, after = told) {
  const result = await mppx.charge({ amount: "0.01", description: "stand", expires: soon(), ...options })(request);
  return result.status === 402 ? result.challenge : result.withReceipt(await after(request));
}

// A challenge by hand, for what the server package does not make.
const declare = (request, rest = {}) => Challenge.from({
  secretKey, realm: new URL(request.url).hostname, method: "evm", intent: "charge", expires: soon(),
  request: { amount: "10000", currency: C.USDC, recipient: merchant, methodDetails: { chainId: C.CHAIN_ID, credentialTypes: ["authorization"], decimals: 6 } },
  ...rest,
});
const onTempoAsks = (request, rest) => declare(request, {
  method: "tempo",
  request: { amount: "10000", currency: PATH_USD, recipient: merchant, methodDetails: { chainId: TEMPO_ID }, ...rest },
});
const required = (...challenges) => {
  const headers = new Headers({ "content-type": "application/problem+json", "cache-control": "no-store" });
  for (const c of challenges) headers.append("www-authenticate", typeof c === "string" ? c : Challenge.serialize(c));
  const body = { type: "https://paymentauth.org/problems/payment-required", title: "Payment Required", status: 402 };
  return new Response(JSON.stringify(body), { status: 402, headers });
};
const credential = request => {
  const header = request.headers.get("authorization");
  return header && Credential.extractPaymentScheme(header);
};
async function settled(paid, response, by = usual) {
  response.headers.set("payment-receipt", Receipt.serialize(await by.verifyCredential(paid)));
  return response;
}

const routes = {
  "/free": told,
  "/charge": request => gate(usual, request),
  "/price": request => gate(usual, request, { amount: new URL(request.url).searchParams.get("amount") }),
  // The API key has Authorization, so the credential goes beside it.
  "/auth": async request => {
    if (request.headers.get("authorization") !== "Bearer key") return new Response("unauthorized\n", { status: 401 });
    const paid = request.headers.get("payment-authorization");
    return paid ? settled(paid, told(request)) : required(declare(request, { header: "Payment-Authorization" }));
  },
  "/digest": async request => {
    const body = await request.text();
    const digest = BodyDigest.compute(body);
    const paid = credential(request);
    if (!paid || !BodyDigest.verify(Credential.deserialize(paid).challenge.digest, body)) return required(declare(request, { digest }));
    return settled(paid, Response.json({ ok: true, bytes: body.length }));
  },
  "/merged": async request => {
    const paid = credential(request);
    if (paid) return settled(paid, told(request));
    const session = Challenge.serialize(declare(request, { method: "tempo", intent: "session" }));
    return required(`Basic realm="a, Payment b", ${session}, ${Challenge.serialize(declare(request))}`);
  },
  // Takes the money and asks again.
  "/always-402": async request => {
    const paid = credential(request);
    if (paid) await usual.verifyCredential(paid).catch(() => {});
    return required(declare(request));
  },
  // Takes the money and fails.
  "/paid-500": async request => {
    const paid = credential(request);
    if (!paid) return required(declare(request));
    await usual.verifyCredential(paid);
    return new Response("broken\n", { status: 500 });
  },
  "/402-on-500": async request => new Response("broken\n", { status: 500, headers: required(declare(request)).headers }),
  "/tempo/own": request => gate(own, request),
  "/tempo/sponsored": request => gate(sponsored, request, { externalId: "order-42" }),
  "/tempo/splits": request => gate(sponsored, request, { amount: "0.05", splits: [{ recipient: onTempo.partner, amount: "0.02" }] }),
  "/tempo/push": request => gate(push, request),
  "/tempo/proof": request => gate(own, request, { amount: "0" }),
  "/tempo/both": async request => {
    const price = { amount: "0.01", expires: soon() };
    const result = await both.compose(["tempo/charge", price], ["evm/charge", price])(request);
    return result.status === 402 ? result.challenge : result.withReceipt(told(request));
  },
  // A challenge by hand: `?ask=` has its request, JSON. Whoever pays gets a receipt.
  "/tempo/ask": async request => {
    const paid = credential(request);
    if (paid) return settled(paid, told(request), own);
    return required(onTempoAsks(request, JSON.parse(new URL(request.url).searchParams.get("ask"))));
  },
  "/tempo/always-402": async request => {
    const paid = credential(request);
    if (paid) await sponsored.verifyCredential(paid).catch(() => {});
    return required(onTempoAsks(request, { methodDetails: { chainId: TEMPO_ID, feePayer: true } }));
  },
  "/tempo/paid-500": async request => {
    const paid = credential(request);
    if (!paid) return required(onTempoAsks(request, { methodDetails: { chainId: TEMPO_ID, feePayer: true } }));
    await sponsored.verifyCredential(paid);
    return new Response("broken\n", { status: 500 });
  },
  "/expired": async request => required(declare(request, { expires: soon(-60) })),
  "/foreign": async request => required(declare(request, { realm: "bank.example" })),
  "/other-body": async request => required(declare(request, { digest: BodyDigest.compute("another body") })),
};

const hits = [];
async function handle(request) {
  const { pathname } = new URL(request.url);
  if (pathname === "/_stand/hits") return Response.json(hits);
  if (pathname.startsWith("/_stand/tempo/")) {
    const [what, who] = pathname.split("/").slice(3);
    return Response.json((await onTempo[what](who)) ?? {});
  }
  if (pathname.startsWith("/_stand/fund/")) return chain.mint(pathname.split("/").pop(), 1_000_000_000n).then(() => Response.json({}));
  if (pathname.startsWith("/_stand/transfers/")) return Response.json(await chain.transfers(pathname.split("/").pop()));
  const { headers } = request;
  const pays = headers.get("payment-authorization") ?? (credential(request) ? headers.get("authorization") : headers.get("payment-signature"));
  hits.push({ path: pathname, pays, authorization: headers.get("authorization") });
  const route = routes[pathname];
  if (!route) return Response.json({ error: "no such route" }, { status: 404 });
  try {
    return await route(request);
  } catch (error) {
    return new Response(String(error), { status: 403 });
  }
}

const server = nodeHttp.createServer({ maxHeaderSize: 65536 }, NodeRequest.toNodeListener(handle));
server.listen(0, opt.host, () => {
  console.log(JSON.stringify({ ready: true, port: server.address().port, rpc: chain.url, merchant, tempo: { rpc: onTempo.url, partner: onTempo.partner }, routes: Object.keys(routes) }));
});
