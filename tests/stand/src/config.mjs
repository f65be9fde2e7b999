// Constants shared by the parts of the stand. The keys are the public test keys every local EVM node ships with.
export const MNEMONIC = "test test test test test test test test test test test junk";
export const CHAIN_ID = 84532; // Base Sepolia's id, so the SDK tables of default assets apply unchanged
export const NET = `eip155:${CHAIN_ID}`;
export const NET_V1 = "base-sepolia";
export const SVM_NET = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"; // devnet genesis
export const SVM_NET_V1 = "solana-devnet";
export const SVM_MINT = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"; // devnet USDC
export const USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
export const USDC_EXTRA = { name: "USDC", version: "2" };
export const PERMIT2 = "0x000000000022D473030F116dDEE9F6B43aC78BA3";
export const EXACT_PROXY = "0x402085c248EeA27D92E8b30b2C58ed07f9E20001";
export const UPTO_PROXY = "0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002";
export const MULTICALL3 = "0xcA11bde05977b3631167028862bE2a173976CA11";
export const NAMES = ["localhost", "merchant.stand.test", "hostile.stand.test", "other.stand.test"];

// index in the mnemonic -> role
export const ROLES = ["facilitator", "buyer", "merchant", "hostile", "poor", "noapproval", "buyer2", "buyer3", "buyer4", "blocked"];

export function options(argv) {
  const get = (name, dflt) => {
    const i = argv.indexOf(`--${name}`);
    return i < 0 ? dflt : argv[i + 1];
  };
  return {
    host: "127.0.0.1",
    blockTime: Number(get("block-time", 0)),
    settleDelay: Number(get("settle-delay", 0)),
    quiet: argv.includes("--quiet"),
  };
}

export const sleep = ms => new Promise(r => setTimeout(r, ms));
export const b64 = v => Buffer.from(typeof v === "string" ? v : JSON.stringify(v), "utf8").toString("base64");
export const unb64 = s => {
  try {
    return JSON.parse(Buffer.from(s, "base64").toString("utf8"));
  } catch {
    return undefined;
  }
};
// JSON with bigints as decimal strings
export const json = v => JSON.stringify(v, (_, x) => (typeof x === "bigint" ? x.toString() : x));
