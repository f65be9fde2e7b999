// The server: priced tools, a priced resource and a priced prompt.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { McpError } from "@modelcontextprotocol/sdk/types.js";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { Challenge, Credential } from "mppx";
import { evm, Mppx } from "mppx/server";
import { createWalletClient, defineChain, http, parseAbi, publicActions } from "viem";
import { mnemonicToAccount } from "viem/accounts";
import { z } from "zod";
import { agent } from "./a2a.mjs";

const argument = name => process.argv[process.argv.indexOf(`--${name}`) + 1];
const USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const CHAIN_ID = 84532;
// The public test keys that every local EVM node ships with.
const MNEMONIC = "test test test test test test test test test test test junk";
const account = index => mnemonicToAccount(MNEMONIC, { addressIndex: index });
const merchant = account(2).address;

// ---- x402
const facilitator = new HTTPFacilitatorClient({ url: argument("facilitator") });
const accepts = [{ scheme: "exact", network: `eip155:${CHAIN_ID}`, amount: "10000", asset: USDC, payTo: merchant, maxTimeoutSeconds: 60, extra: { name: "USDC", version: "2" } }];
const required = (url, error = "Payment required") => ({ x402Version: 2, error, resource: { url, description: "stand", mimeType: "application/json" }, accepts });
const seen = [];

// What the payment in `_meta` bought: a receipt, or what is wrong.
async function take(meta) {
  const payment = meta?.["x402/payment"];
  if (!payment) return { error: "Payment required" };
  seen.push(payment);
  const verified = await facilitator.verify(payment, accepts[0]);
  if (!verified.isValid) return { error: verified.invalidReason };
  const settled = await facilitator.settle(payment, accepts[0]);
  return settled.success ? { receipt: settled } : { error: settled.errorReason };
}
function demand(url, error) {
  const terms = required(url, error);
  return { isError: true, structuredContent: terms, content: [{ type: "text", text: JSON.stringify(terms) }] };
}
const sold = (text, receipt) => ({ content: [{ type: "text", text }], _meta: { "x402/payment-response": receipt } });

// ---- MPP: the merchant takes the money itself.
const chain = defineChain({ id: CHAIN_ID, name: "stand", nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 }, rpcUrls: { default: { http: [argument("rpc")] } } });
const wallet = createWalletClient({ account: account(6), chain, transport: http() }).extend(publicActions);
const abi = parseAbi(["function transferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce,bytes signature)"]);
async function settle({ payload: p, request }) {
  seen.push(p);
  const args = [p.from, p.to, BigInt(p.value), BigInt(p.validAfter), BigInt(p.validBefore), p.nonce, p.signature];
  const hash = await wallet.writeContract({ address: request.currency, abi, functionName: "transferWithAuthorization", args });
  const receipt = await wallet.waitForTransactionReceipt({ hash, pollingInterval: 50 });
  if (receipt.status !== "success") throw new Error("the transfer reverted");
  return { reference: hash };
}
const [secretKey, realm] = ["a secret of more than 32 bytes, known to everybody", "mcp.stand.test"];
const mpp = Mppx.create({
  methods: [evm.charge({ currency: USDC, recipient: merchant, chainId: CHAIN_ID, decimals: 6, authorization: { name: "USDC", version: "2" }, settle })],
  secretKey, realm,
});
const mppDemand = () => Challenge.from({
  secretKey, realm, method: "evm", intent: "charge", expires: new Date(Date.now() + 120_000).toISOString(), meta: { tool: "mpp" },
  request: { amount: "10000", currency: USDC, recipient: merchant, methodDetails: { chainId: CHAIN_ID, credentialTypes: ["authorization"], decimals: 6 } },
});

function makeServer() {
  const server = new McpServer({ name: "stand", version: "1.0.0" });
  const inputSchema = { query: z.string().optional(), n: z.number().optional() };
  server.registerTool("free", { inputSchema }, async () => ({ content: [{ type: "text", text: "free" }] }));
  server.registerTool("search", { inputSchema }, async ({ query }, { _meta }) => {
    const { receipt, error } = await take(_meta);
    return receipt ? sold(`found ${query}`, receipt) : demand("mcp://tool/search", error);
  });
  server.registerTool("slow", { inputSchema }, async ({ query }, extra) => {
    const paid = Boolean(extra._meta?.["x402/payment"]);
    for (let progress = 1; progress <= 3; progress++) {
      const params = { progressToken: extra._meta?.progressToken ?? 0, progress, total: 3, message: paid ? "paid" : "unpaid" };
      await extra.sendNotification({ method: "notifications/progress", params });
      await new Promise(r => setTimeout(r, 30));
    }
    const { receipt, error } = await take(extra._meta);
    return receipt ? sold(`slowly ${query}`, receipt) : demand("mcp://tool/slow", error);
  });
  // A prompt, as tools turn errors into results.
  server.registerPrompt("mpp", {}, async ({ _meta }) => {
    const credential = _meta?.["org.paymentauth/credential"];
    if (!credential) throw new McpError(-32042, "Payment Required", { httpStatus: 402, challenges: [mppDemand()] });
    const receipt = await mpp.verifyCredential(Credential.serialize(Credential.from(credential)));
    const told = { ...receipt, challengeId: credential.challenge.id };
    return { messages: [{ role: "user", content: { type: "text", text: "by mpp" } }], _meta: { "org.paymentauth/receipt": told } };
  });
  server.registerResource("paid", "docs://paid", {}, async (uri, { _meta }) => {
    const { receipt, error } = await take(_meta);
    if (!receipt) throw new McpError(402, "Payment required", required("mcp://resource/paid", error));
    return { contents: [{ uri: uri.href, text: "a paid document" }], _meta: { "x402/payment-response": receipt } };
  });
  server.registerPrompt("paid", {}, async ({ _meta }) => {
    const { receipt, error } = await take(_meta);
    if (!receipt) throw new McpError(402, "Payment required", required("mcp://prompt/paid", error));
    return { messages: [{ role: "user", content: { type: "text", text: "a paid prompt" } }], _meta: { "x402/payment-response": receipt } };
  });
  return server;
}

async function certificate() {
  const { generate } = await import("selfsigned").then(m => m.default ?? m);
  const day = 86_400_000;
  const ec = { keyType: "ec", curve: "P-256", algorithm: "sha256", notBeforeDate: new Date(Date.now() - day), notAfterDate: new Date(Date.now() + 30 * day) };
  const ca = await generate([{ name: "commonName", value: "mcp stand test CA" }], {
    ...ec, extensions: [{ name: "basicConstraints", cA: true, critical: true }, { name: "keyUsage", keyCertSign: true, cRLSign: true, critical: true }],
  });
  const leaf = await generate([{ name: "commonName", value: "mcp.stand.test" }], {
    ...ec, ca: { key: ca.private, cert: ca.cert },
    extensions: [
      { name: "basicConstraints", cA: false, critical: true }, { name: "keyUsage", digitalSignature: true, critical: true },
      { name: "extKeyUsage", serverAuth: true }, { name: "subjectAltName", altNames: [{ type: 2, value: "mcp.stand.test" }] },
    ],
  });
  const dir = mkdtempSync(join(tmpdir(), "farepass-stand-mcp-"));
  writeFileSync(join(dir, "ca.pem"), ca.cert);
  return { dir, ca: join(dir, "ca.pem"), leaf: { key: leaf.private, cert: leaf.cert } };
}

const tls = await certificate();
const stop = () => {
  rmSync(tls.dir, { recursive: true, force: true });
  process.exit(0);
};
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, stop);
process.stdin.on("end", stop).resume();

const a2a = agent(take, required);

// Stateless: a server and a transport for each request, as the SDK's examples have it.
const web = https.createServer(tls.leaf, async (req, res) => {
  const path = new URL(req.url, "https://mcp.stand.test").pathname;
  if (path === "/_stand/seen") return res.end(JSON.stringify(seen));
  if (path === "/a2a" || path === "/.well-known/agent-card.json") return a2a(req, res);
  if (req.method !== "POST") return res.writeHead(405).end();
  const server = makeServer();
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: path === "/json" });
  res.on("close", () => (transport.close(), server.close()));
  await server.connect(transport);
  await transport.handleRequest(req, res);
});
web.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ ready: true, port: web.address().port, ca: tls.ca, merchant })));
