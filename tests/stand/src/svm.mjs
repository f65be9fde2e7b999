// A Solana JSON-RPC face over litesvm (the real SVM and SPL programs in-process, no validator): enough methods for the
// official client and facilitator. Devnet's USDC mint is recreated at its real address with a mint authority we own.
import http from "node:http";
import {
  address, createKeyPairSignerFromPrivateKeyBytes, getBase58Decoder, getBase64Encoder, getCompiledTransactionMessageDecoder, getTransactionDecoder,
} from "@solana/kit";
import { findAssociatedTokenPda, getMintEncoder, getTokenEncoder, TOKEN_PROGRAM_ADDRESS } from "@solana-program/token";
import { FailedTransactionMetadata, LiteSVM } from "litesvm";
import * as C from "./config.mjs";

const seed = n => new Uint8Array(32).fill(n);

export async function startSvm({ host }) {
  const svm = new LiteSVM();
  const [facilitatorSigner, merchantKey] = await Promise.all([11, 14].map(n => createKeyPairSignerFromPrivateKeyBytes(seed(n))));
  const mint = address(C.SVM_MINT);
  svm.airdrop(facilitatorSigner.address, 10_000_000_000n);

  const put = (addr, data) =>
    svm.setAccount({ address: addr, data: new Uint8Array(data), executable: false, lamports: svm.minimumBalanceForRentExemption(BigInt(data.length)), programAddress: TOKEN_PROGRAM_ADDRESS, space: BigInt(data.length) });
  put(mint, getMintEncoder().encode({ mintAuthority: facilitatorSigner.address, supply: 1_000_000_000n, decimals: 6, isInitialized: true, freezeAuthority: null }));
  const ata = async owner => (await findAssociatedTokenPda({ mint, owner, tokenProgram: TOKEN_PROGRAM_ADDRESS }))[0];
  // Units out of nothing, in the token account of this owner.
  const fund = async (owner, amount) => {
    put(await ata(address(owner)), getTokenEncoder().encode({ mint, owner: address(owner), amount, delegate: null, state: 1, isNative: null, delegatedAmount: 0n, closeAuthority: null }));
    return amount.toString();
  };
  await fund(merchantKey.address, 0n);
  const amountOf = a => {
    const acc = svm.getAccount(address(a));
    return acc.exists ? Buffer.from(acc.data).readBigUInt64LE(64) : null;
  };

  const statuses = new Map(); // signature -> { err, slot, blockTime, wire, accounts }, in the order of sending
  let ahead = 0; // seconds that this cluster's clock is ahead of ours
  const slot = () => Number(svm.getClock().slot);
  const now = () => Math.floor(Date.now() / 1000) + ahead;
  const ctxv = value => ({ context: { slot: slot(), apiVersion: "2.0.0" }, value });
  const decode = b64 => getTransactionDecoder().decode(getBase64Encoder().encode(b64));
  const methods = {
    getLatestBlockhash: () => ctxv({ blockhash: svm.latestBlockhash(), lastValidBlockHeight: slot() + 150 }),
    getSlot: () => slot(),
    getBlockHeight: () => slot(),
    getGenesisHash: () => "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG",
    getVersion: () => ({ "solana-core": "2.0.0", "feature-set": 0 }),
    getHealth: () => "ok",
    getBalance: a => ctxv(Number(svm.getBalance(address(a)) ?? 0n)),
    getMinimumBalanceForRentExemption: n => Number(svm.minimumBalanceForRentExemption(BigInt(n))),
    getTokenAccountBalance: a => {
      const v = amountOf(a);
      if (v === null) throw Object.assign(new Error("could not find account"), { code: -32602 });
      return ctxv({ amount: v.toString(), decimals: 6, uiAmount: Number(v) / 1e6, uiAmountString: String(Number(v) / 1e6) });
    },
    getAccountInfo: (a, cfg = {}) => {
      const acc = svm.getAccount(address(a));
      if (!acc.exists) return ctxv(null);
      const base = { lamports: Number(acc.lamports), owner: acc.programAddress, executable: acc.executable, rentEpoch: 0, space: acc.data.length };
      if (cfg.encoding === "jsonParsed" && acc.data.length === 165)
        return ctxv({ ...base, data: { program: "spl-token", space: 165, parsed: { type: "account", info: { mint: C.SVM_MINT, tokenAmount: { amount: amountOf(a).toString(), decimals: 6 } } } } });
      return ctxv({ ...base, data: [Buffer.from(acc.data).toString("base64"), "base64"] });
    },
    getMultipleAccounts: (list, cfg) => ctxv(list.map(a => methods.getAccountInfo(a, cfg).value)),
    simulateTransaction: b64 => {
      const sig0 = svm.withSigverify(false);
      try {
        const r = svm.simulateTransaction(decode(b64));
        const bad = r instanceof FailedTransactionMetadata;
        const meta = r.meta();
        return ctxv({ err: bad ? String(r.err()) : null, logs: meta.logs(), unitsConsumed: Number(meta.computeUnitsConsumed()), accounts: null, returnData: null, innerInstructions: null });
      } finally {
        sig0.withSigverify(true);
      }
    },
    sendTransaction: b64 => {
      const tx = decode(b64);
      const sig = getBase58Decoder().decode(Object.values(tx.signatures)[0]);
      const r = svm.sendTransaction(tx);
      const bad = r instanceof FailedTransactionMetadata;
      svm.warpToSlot(svm.getClock().slot + 1n);
      const accounts = getCompiledTransactionMessageDecoder().decode(tx.messageBytes).staticAccounts;
      statuses.set(sig, { err: bad ? String(r.err()) : null, slot: slot(), blockTime: now(), wire: b64, accounts });
      return sig;
    },
    getBlockTime: s => now() - (slot() - s),
    getFirstAvailableBlock: () => 0,
    getSignaturesForAddress: (a, { limit = 1000, before, minContextSlot = 0 } = {}) => {
      if (minContextSlot > slot()) throw Object.assign(new Error("minimum context slot has not been reached"), { code: -32016 });
      let all = [...statuses].filter(([, v]) => v.accounts.includes(a)).reverse();
      if (before) all = all.slice(all.findIndex(([signature]) => signature === before) + 1);
      return all.slice(0, limit).map(([signature, v]) => ({ signature, slot: v.slot, err: v.err, memo: null, blockTime: v.blockTime, confirmationStatus: "finalized" }));
    },
    getTransaction: signature => {
      const v = statuses.get(signature);
      return v ? { slot: v.slot, blockTime: v.blockTime, transaction: [v.wire, "base64"], meta: { err: v.err, fee: 10000 }, version: 0 } : null;
    },
    getSignatureStatuses: list =>
      ctxv(list.map(s => {
        const v = statuses.get(s);
        return v ? { slot: v.slot, confirmations: null, err: v.err, status: v.err ? { Err: v.err } : { Ok: null }, confirmationStatus: "finalized" } : null;
      })),
  };

  const server = http.createServer(async (req, res) => {
    let body = "";
    for await (const c of req) body += c;
    const one = m => {
      try {
        if (!methods[m.method]) return { jsonrpc: "2.0", id: m.id, error: { code: -32601, message: `method ${m.method} not in the stand` } };
        return { jsonrpc: "2.0", id: m.id, result: methods[m.method](...(m.params ?? [])) };
      } catch (e) {
        return { jsonrpc: "2.0", id: m.id, error: { code: e.code ?? -32603, message: String(e?.message ?? e) } };
      }
    };
    let out;
    try {
      const m = JSON.parse(body);
      out = Array.isArray(m) ? m.map(one) : one(m);
    } catch {
      out = { jsonrpc: "2.0", id: null, error: { code: -32700, message: "parse error" } };
    }
    res.writeHead(200, { "content-type": "application/json" });
    res.end(C.json(out));
  });
  await new Promise(r => server.listen(0, host, r));
  return {
    url: `http://${host}:${server.address().port}`, server, facilitatorSigner, merchant: merchantKey.address,
    fund, balance: async owner => amountOf(await ata(address(owner)))?.toString() ?? "0",
    sent: owner => [...statuses].filter(([, v]) => v.accounts.includes(owner)).map(([signature, v]) => ({ signature, err: v.err, slot: v.slot, wire: v.wire })),
    // Slots and seconds pass, and the blocks that transactions could name are too old.
    pass: (slots, seconds) => {
      ahead += seconds;
      svm.warpToSlot(svm.getClock().slot + BigInt(slots));
      svm.expireBlockhash();
    },
    stop: () => new Promise(r => (server.closeAllConnections(), server.close(r))),
  };
}
