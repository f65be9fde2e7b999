// A real EVM node (anvil) made to look like Base Sepolia: same chain id, a token with EIP-3009 at the real USDC
// address, Permit2 and the two x402 proxies at their canonical addresses.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import net from "node:net";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { createPublicClient, createWalletClient, encodeFunctionData, http, nonceManager, parseAbi, publicActions } from "viem";
import { mnemonicToAccount } from "viem/accounts";
import { baseSepolia } from "viem/chains";
import * as C from "./config.mjs";

const require = createRequire(import.meta.url);
export const TOKEN_ABI = parseAbi([
  "function mint(address to, uint256 value)",
  "function setBlocked(address who, bool on)",
  "function approve(address spender, uint256 value) returns (bool)",
  "function balanceOf(address) view returns (uint256)",
  "function allowance(address, address) view returns (uint256)",
  "function authorizationState(address, bytes32) view returns (bool)",
  "event Transfer(address indexed from, address indexed to, uint256 value)",
  "event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce)",
]);

// anvil takes a port only as a number, so ask the system for a free one first.
const freePort = host => new Promise((ok, no) => {
  const s = net.createServer().on("error", no).listen(0, host, () => {
    const { port } = s.address();
    s.close(() => ok(port));
  });
});

export async function startChain({ host, blockTime, quiet }) {
  const port = await freePort(host);
  const bin = join(dirname(require.resolve("@foundry-rs/anvil-linux-amd64/package.json")), "bin", "anvil");
  const args = ["--host", host, "--port", String(port), "--chain-id", String(C.CHAIN_ID), "--mnemonic", C.MNEMONIC, "--silent",
    // Files of old states in its user's home, which stay there when it is killed.
    "--max-persisted-states", "8"];
  if (blockTime > 0) args.push("--block-time", String(blockTime));
  const child = spawn(bin, args, { stdio: ["ignore", "ignore", quiet ? "ignore" : "inherit"] });
  const url = `http://${host}:${port}`;

  let id = 0;
  const rpc = async (method, ...params) => {
    const r = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", id: ++id, method, params }),
    });
    const j = await r.json();
    if (j.error) throw new Error(`${method}: ${j.error.message}`);
    return j.result;
  };
  for (let i = 0; ; i++) {
    if (child.exitCode !== null) throw new Error(`anvil exited with ${child.exitCode}`);
    try {
      await rpc("eth_chainId");
      break;
    } catch (e) {
      if (i > 3000) throw e;
      await C.sleep(20);
    }
  }

  const accounts = C.ROLES.map((role, addressIndex) => {
    const a = mnemonicToAccount(C.MNEMONIC, { addressIndex });
    return { role, address: a.address, privateKey: `0x${Buffer.from(a.getHdKey().privateKey).toString("hex")}`, account: a };
  });
  const by = Object.fromEntries(accounts.map(a => [a.role, a]));

  const { code } = JSON.parse(readFileSync(new URL("../contracts/artifacts.json", import.meta.url)));
  const viemDir = join(dirname(require.resolve("viem/package.json")), "_esm/constants/contracts.js");
  const { multicall3Bytecode } = await import(pathToFileURL(viemDir));
  const multicall = await rpc("eth_call", { data: multicall3Bytecode }, "latest"); // creation code returns the runtime
  await Promise.all([
    rpc("anvil_setCode", C.USDC, code.StandUSDC),
    rpc("anvil_setCode", C.PERMIT2, code.StandPermit2),
    rpc("anvil_setCode", C.EXACT_PROXY, code.StandExactProxy),
    rpc("anvil_setCode", C.UPTO_PROXY, code.StandUptoProxy),
    rpc("anvil_setCode", C.MULTICALL3, multicall),
  ]);

  const transport = http(url);
  const chain = { ...baseSepolia, rpcUrls: { default: { http: [url] } } };
  const pub = createPublicClient({ chain, transport, pollingInterval: 15 });
  const call = (from, to, functionName, args) =>
    rpc("eth_sendTransaction", { from, to, data: encodeFunctionData({ abi: TOKEN_ABI, functionName, args }) });
  // Not from the facilitator, whose settlements count their own transaction nonces; and one after the other.
  let last = Promise.resolve();
  const inTurn = send => (last = last.catch(() => {}).then(async () => wait(await send())));
  const wait = hash => pub.waitForTransactionReceipt({ hash });

  const rich = ["buyer", "noapproval", "buyer2", "buyer3", "buyer4"];
  const approved = ["buyer", "buyer2", "buyer3", "buyer4"];
  const txs = [];
  for (const r of rich) txs.push(await call(by.facilitator.address, C.USDC, "mint", [by[r].address, 1_000_000_000n]));
  for (const r of approved) txs.push(await call(by[r].address, C.USDC, "approve", [C.PERMIT2, 2n ** 256n - 1n]));
  if (blockTime > 0) await rpc("evm_mine");
  await Promise.all(txs.map(wait));

  const signerAccount = mnemonicToAccount(C.MNEMONIC, { addressIndex: 0 });
  signerAccount.nonceManager = nonceManager; // parallel settlements must not reuse a transaction nonce
  const wallet = createWalletClient({ account: signerAccount, chain, transport, pollingInterval: 15 }).extend(publicActions);

  return {
    url, rpc, pub, wallet, accounts, by, chain,
    balance: address => pub.readContract({ address: C.USDC, abi: TOKEN_ABI, functionName: "balanceOf", args: [address] }),
    mint: (to, value) => inTurn(() => call(by.poor.address, C.USDC, "mint", [to, BigInt(value)])),
    setBlocked: (who, on) => inTurn(() => call(by.poor.address, C.USDC, "setBlocked", [who, on])),
    transfers: async from =>
      (await pub.getContractEvents({ address: C.USDC, abi: TOKEN_ABI, eventName: "Transfer", args: from ? { from } : undefined, fromBlock: 0n }))
        .filter(l => l.args.from !== "0x0000000000000000000000000000000000000000")
        .map(l => ({ tx: l.transactionHash, block: Number(l.blockNumber), from: l.args.from, to: l.args.to, value: l.args.value.toString() })),
    stop: () => new Promise(done => {
      if (child.exitCode !== null) return done();
      child.on("exit", done);
      child.kill("SIGTERM");
      setTimeout(() => child.kill("SIGKILL"), 2000).unref();
    }),
  };
}
