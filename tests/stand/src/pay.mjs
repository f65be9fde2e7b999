// The official clients against any URL, as a check of the stand and as a yardstick for another client.
//   node stand.mjs pay.mjs URL [--method POST] [--body TEXT] [--client v2|legacy] [--key 0x..]
//                          [--rpc URL] [--repeat N] [--any-asset] [--payment-id]
// Prints one JSON object per request: status, decoded messages and times.
import { x402Client, x402HTTPClient } from "@x402/core/client";
import { toClientEvmSigner } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/client";
import { ExactEvmSchemeV1 } from "@x402/evm/exact/v1/client";
import { UptoEvmScheme } from "@x402/evm/upto/client";
import { wrapFetchWithPayment } from "@x402/fetch";
import { createPublicClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { baseSepolia } from "viem/chains";
import * as C from "./config.mjs";

const argv = process.argv.slice(2);
const opt = (n, d) => (argv.includes(`--${n}`) ? argv[argv.indexOf(`--${n}`) + 1] : d);
const url = argv[0];
const key = opt("key", "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d");
const account = privateKeyToAccount(key);

export function officialClient({ account, rpc, anyAsset, paymentId } = {}) {
  const signer = rpc ? toClientEvmSigner(account, createPublicClient({ chain: baseSepolia, transport: http(rpc) })) : account;
  const c = new x402Client()
    .register("eip155:*", new ExactEvmScheme(signer))
    .register("eip155:*", new UptoEvmScheme(signer))
    .registerV1(C.NET_V1, new ExactEvmSchemeV1(signer));
  if (anyAsset) c.setSpendControls(false);
  if (paymentId) c.registerExtension({ key: "payment-identifier", enrichPaymentPayload: async p => ({ ...p, extensions: paymentId(structuredClone(p.extensions)) }) });
  return c;
}

// A fetch that keeps what went over the wire.
export function recorder() {
  const log = [];
  const f = async (input, init) => {
    const r = new Request(input, init);
    const t0 = performance.now();
    const e = { method: r.method, url: r.url, request: Object.fromEntries(r.headers) };
    log.push(e);
    const res = await fetch(r);
    Object.assign(e, { status: res.status, response: Object.fromEntries(res.headers), ms: +(performance.now() - t0).toFixed(2), t0, t1: performance.now() });
    return res;
  };
  return { f, log };
}

if (process.argv[1]?.endsWith("pay.mjs")) {
  const init = { method: opt("method", "GET"), headers: {} };
  if (opt("body")) Object.assign(init, { body: opt("body"), headers: { "content-type": "application/json" } });
  const { appendPaymentIdentifierToExtensions } = argv.includes("--payment-id") ? await import("@x402/extensions/payment-identifier") : {};
  const client = officialClient({ account, rpc: opt("rpc"), anyAsset: argv.includes("--any-asset"), paymentId: appendPaymentIdentifierToExtensions });
  for (let i = 0; i < Number(opt("repeat", 1)); i++) {
    const { f, log } = recorder();
    const pay = opt("client", "v2") === "legacy" ? (await import("x402-fetch")).wrapFetchWithPayment(f, account, 10n ** 12n) : wrapFetchWithPayment(f, new x402HTTPClient(client));
    const t0 = performance.now();
    let out;
    try {
      const res = await pay(url, init);
      const text = await res.text();
      const head = res.headers.get("payment-response") ?? res.headers.get("x-payment-response");
      out = { status: res.status, settlement: head ? C.unb64(head) : null, body: text.slice(0, 300) };
    } catch (e) {
      out = { error: String(e?.message ?? e).slice(0, 400) };
    }
    const ms = +(performance.now() - t0).toFixed(2);
    const sent = log.find(e => e.request["payment-signature"] ?? e.request["x-payment"]);
    const payment = sent ? C.unb64(sent.request["payment-signature"] ?? sent.request["x-payment"]) : null;
    console.log(C.json({ ...out, requests: log.length, payment, times: { total: ms, first402: log[0]?.ms, sign: log.length > 1 ? +(log.at(-1).t0 - log[0].t1).toFixed(2) : null, paid: log.length > 1 ? log.at(-1).ms : null } }));
  }
}
