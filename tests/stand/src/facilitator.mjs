// HTTP face of the official x402 facilitator class, for protocol versions 1 and 2, with a switch for faults.
import express from "express";
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { ExactEvmScheme } from "@x402/evm/exact/facilitator";
import { ExactEvmSchemeV1 } from "@x402/evm/exact/v1/facilitator";
import { UptoEvmScheme } from "@x402/evm/upto/facilitator";
import { EIP2612_GAS_SPONSORING } from "@x402/extensions";
import { toFacilitatorSvmSigner } from "@x402/svm";
import { ExactSvmScheme } from "@x402/svm/exact/facilitator";
import { ExactSvmSchemeV1 } from "@x402/svm/exact/v1/facilitator";
import * as C from "./config.mjs";

export async function makeFacilitator(ctx) {
  const { wallet } = ctx.chain;
  const evm = toFacilitatorEvmSigner(
    {
      address: wallet.account.address,
      getCode: a => wallet.getCode(a),
      readContract: a => wallet.readContract(a),
      verifyTypedData: a => wallet.verifyTypedData(a),
      writeContract: a => wallet.writeContract(a),
      sendTransaction: a => wallet.sendTransaction(a),
      waitForTransactionReceipt: a => wallet.waitForTransactionReceipt(a),
    },
    { confirmationTimeoutMs: 20_000 },
  );
  const f = new x402Facilitator();
  f.register(C.NET, new ExactEvmScheme(evm));
  f.register(C.NET, new UptoEvmScheme(evm));
  f.registerV1(C.NET_V1, new ExactEvmSchemeV1(evm));
  if (EIP2612_GAS_SPONSORING) f.registerExtension(EIP2612_GAS_SPONSORING);
  const svm = toFacilitatorSvmSigner(ctx.svm.facilitatorSigner, { defaultRpcUrl: ctx.svm.url });
  f.register(C.SVM_NET, new ExactSvmScheme(svm));
  f.registerV1(C.SVM_NET_V1, new ExactSvmSchemeV1(svm));

  const log = (ctx.facilitatorLog = []);
  ctx.faults = []; // [{ op: "verify"|"settle", kind: "fail"|"pending"|"delay"|"http500"|"hang"|"settle-then-500", ms, reason, times, from }]; `from` limits it to one payer
  const app = express();
  app.use(express.json({ limit: "1mb" }));
  app.get("/supported", (_, res) => res.json(f.getSupported()));
  for (const op of ["verify", "settle"]) {
    app.post(`/${op}`, async (req, res) => {
      const { paymentPayload, paymentRequirements } = req.body;
      const t0 = performance.now();
      const entry = { op, at: Date.now(), version: paymentPayload?.x402Version, payload: paymentPayload?.payload, requirements: paymentRequirements };
      log.push(entry);
      const from = (paymentPayload?.payload?.authorization ?? paymentPayload?.payload?.permit2Authorization)?.from?.toLowerCase();
      const fault = ctx.faults.find(x => x.op === op && x.times > 0 && (!x.from || x.from.toLowerCase() === from));
      if (fault) fault.times--;
      try {
        if (op === "settle" && ctx.opt.settleDelay) await C.sleep(ctx.opt.settleDelay);
        if (fault?.kind === "delay") await C.sleep(fault.ms ?? 1000);
        if (fault?.kind === "hang") return;
        if (fault?.kind === "http500") return res.status(500).json({ error: "injected" });
        let out;
        if (fault?.kind === "fail" || fault?.kind === "pending")
          out =
            op === "verify"
              ? { isValid: false, invalidReason: fault.reason ?? "insufficient_funds" }
              : {
                  success: false,
                  errorReason: fault.kind === "pending" ? "settlement_pending" : (fault.reason ?? "insufficient_funds"),
                  transaction: fault.kind === "pending" ? `0x${"ab".repeat(32)}` : "",
                  network: paymentRequirements.network,
                };
        else out = await f[op](paymentPayload, paymentRequirements);
        entry.result = out;
        if (fault?.kind === "settle-then-500") return res.status(500).json({ error: "injected after settling" });
        res.json(out);
      } catch (e) {
        entry.result = { error: String(e?.message ?? e) };
        res.status(400).json(op === "verify" ? { isValid: false, invalidReason: String(e?.message ?? e) } : { success: false, errorReason: String(e?.message ?? e), transaction: "", network: paymentRequirements?.network });
      } finally {
        entry.ms = Math.round((performance.now() - t0) * 10) / 10;
      }
    });
  }
  return app;
}
