// An agent of the official A2A SDK that does nothing before it is paid, by x402's A2A transport.
import { randomUUID } from "node:crypto";
import { DefaultRequestHandler, InMemoryTaskStore, JsonRpcTransportHandler } from "@a2a-js/sdk/server";

const card = {
  name: "stand", description: "sells answers", version: "1.0.0", protocolVersion: "0.3.0", url: "https://mcp.stand.test/a2a", preferredTransport: "JSONRPC",
  capabilities: { streaming: true, extensions: [{ uri: "https://github.com/google-a2a/a2a-x402/v0.1", required: false }] },
  defaultInputModes: ["text"], defaultOutputModes: ["text"], skills: [{ id: "answer", name: "answer", description: "answers", tags: [] }],
};

// `take` verifies and settles a payment, or says what is wrong; `required` are the terms.
class Seller {
  constructor(take, required) {
    Object.assign(this, { take, required });
  }

  async execute({ userMessage, task, taskId, contextId }, bus) {
    if (!task) {
      bus.publish({ kind: "task", id: taskId, contextId, status: { state: "submitted", timestamp: new Date().toISOString() }, history: [userMessage] });
    }
    const say = (state, text, metadata, final) => {
      const message = { kind: "message", role: "agent", messageId: randomUUID(), taskId, contextId, parts: [{ kind: "text", text }], metadata };
      bus.publish({ kind: "status-update", taskId, contextId, final, status: { state, message, timestamp: new Date().toISOString() } });
      if (final) bus.finished();
    };
    const payment = userMessage.metadata?.["x402.payment.payload"];
    const text = userMessage.parts[0].text;
    if (text === "free") return say("completed", "for nothing", {}, true);
    const demand = error => say("input-required", "Payment is required.", { "x402.payment.status": "payment-required", "x402.payment.required": this.required("https://mcp.stand.test/a2a", error) }, true);
    if (!payment || userMessage.metadata["x402.payment.status"] !== "payment-submitted") return demand();
    say("working", "Payment is verified.", { "x402.payment.status": "payment-verified" }, false);
    const { receipt, error } = await this.take({ "x402/payment": payment });
    if (!receipt) return say("failed", "Payment failed.", { "x402.payment.status": "payment-failed", "x402.payment.error": "SETTLEMENT_FAILED", "x402.payment.receipts": [{ success: false, errorReason: error, network: "eip155:84532", transaction: "" }] }, true);
    bus.publish({ kind: "artifact-update", taskId, contextId, artifact: { artifactId: randomUUID(), parts: [{ kind: "text", text: `an answer to ${text}` }] } });
    say("completed", "Here you are.", { "x402.payment.status": "payment-completed", "x402.payment.receipts": [receipt] }, true);
  }

  async cancelTask() {}
}

export function agent(take, required) {
  const handler = new JsonRpcTransportHandler(new DefaultRequestHandler(card, new InMemoryTaskStore(), new Seller(take, required)));
  return async (req, res) => {
    if (req.method === "GET") return res.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(card));
    const parts = [];
    for await (const part of req) parts.push(part);
    const answer = await handler.handle(Buffer.concat(parts).toString());
    if (!answer[Symbol.asyncIterator]) return res.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
    res.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
    for await (const event of answer) res.write(`id: ${randomUUID()}\ndata: ${JSON.stringify(event)}\n\n`);
    res.end();
  };
}
