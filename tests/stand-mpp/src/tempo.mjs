// A Tempo chain (anvil has its tokens, its transactions and its fees) and what a merchant does there.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import net from "node:net";
import { dirname, join } from "node:path";
import { tempo } from "mppx/server";
import { createClient, createPublicClient, createTestClient, createWalletClient, http, parseAbi, parseAbiItem } from "viem";
import { tempoLocalnet } from "viem/chains";

const require = createRequire(import.meta.url);
export const PATH_USD = "0x20c0000000000000000000000000000000000000";
export const TEMPO_ID = 1337;
const abi = parseAbi([
  "function transfer(address to, uint256 amount) returns (bool)",
  "function balanceOf(address) view returns (uint256)",
]);
const moved = parseAbiItem("event Transfer(address indexed from, address indexed to, uint256 amount)");
const noted = parseAbiItem("event TransferWithMemo(address indexed from, address indexed to, uint256 amount, bytes32 indexed memo)");

const freePort = host => new Promise((ok, no) => {
  const s = net.createServer().on("error", no).listen(0, host, () => {
    const { port } = s.address();
    s.close(() => ok(port));
  });
});

// `by`: the accounts of the other chain, which every local node endows with money of its own.
export async function startTempo({ host, by, quiet, sleep }) {
  const port = await freePort(host);
  const bin = join(dirname(require.resolve("@foundry-rs/anvil-linux-amd64/package.json")), "bin", "anvil");
  // A block a second keeps the clock of the chain: it takes no transaction that may wait for more than 30 s. What is sent is mined at once.
  const args = ["--host", host, "--port", String(port), "--quiet", "--network", "tempo", "--hardfork", "T4",
    "--chain-id", String(TEMPO_ID), "--block-time", "1", "--mixed-mining",
    // Else it keeps the state of each old block in a file of its user's home, nearly 2 MB each, and leaves them there.
    "--max-persisted-states", "8"];
  const child = spawn(bin, args, { stdio: ["ignore", "ignore", quiet ? "ignore" : "inherit"] });
  const url = `http://${host}:${port}`;
  const transport = http(url);
  const chain = { ...tempoLocalnet, id: TEMPO_ID, rpcUrls: { default: { http: [url] } } };
  const pub = createPublicClient({ chain, transport, pollingInterval: 15 });
  for (let i = 0; ; i++) {
    if (child.exitCode !== null) throw new Error(`anvil exited with ${child.exitCode}`);
    try {
      await pub.getChainId();
      break;
    } catch (e) {
      if (i > 1500) throw e;
      await sleep(20);
    }
  }
  const test = createTestClient({ chain, mode: "anvil", transport });
  await test.mine({ blocks: 1 }); // the first block is of 1970

  const bank = createWalletClient({ account: by.facilitator.account, chain, transport });
  let last = Promise.resolve();
  const fund = to => (last = last.catch(() => {}).then(async () => {
    const hash = await bank.writeContract({ address: PATH_USD, abi, functionName: "transfer", args: [to, 10_000_000n] });
    await pub.waitForTransactionReceipt({ hash });
  }));
  const base = { getClient: () => createClient({ chain, transport }), chainId: TEMPO_ID, currency: PATH_USD, recipient: by.merchant.address };
  const ofToken = (event, from) => pub.getLogs({ address: PATH_USD, event, args: { from }, fromBlock: 0n });
  return {
    url, fund,
    partner: by.buyer4.address,
    own: tempo.charge(base),
    sponsored: tempo.charge({ ...base, account: by.buyer3.account, feePayer: true }),
    push: tempo.charge({ ...base, supportedModes: ["push"] }),
    mine: blocks => test.mine({ blocks }),
    balance: async who => (await pub.readContract({ address: PATH_USD, abi, functionName: "balanceOf", args: [who] })).toString(),
    transfers: async from => {
      const memos = new Map((await ofToken(noted, from)).map(l => [`${l.transactionHash} ${l.args.to} ${l.args.amount}`, l.args.memo]));
      return (await ofToken(moved, from)).map(l => ({
        tx: l.transactionHash, to: l.args.to, value: l.args.amount.toString(),
        memo: memos.get(`${l.transactionHash} ${l.args.to} ${l.args.amount}`) ?? null,
      }));
    },
    stop: () => new Promise(done => {
      if (child.exitCode !== null) return done();
      child.on("exit", done);
      child.kill("SIGTERM");
      setTimeout(() => child.kill("SIGKILL"), 2000).unref();
    }),
  };
}
