// An official A2A client that knows nothing of payments: `a2a-client.mjs URL CALL…`, each call as JSON; one line of JSON for each.
import { randomUUID } from "node:crypto";
import { ClientFactory } from "@a2a-js/sdk/client";

const [url, ...calls] = process.argv.slice(2);
const client = await new ClientFactory().createFromUrl(url);
for (const text of calls) {
  const { say, stream, metadata } = JSON.parse(text);
  const message = { kind: "message", role: "user", messageId: randomUUID(), parts: [{ kind: "text", text: say }], metadata };
  const ask = async () => {
    if (!stream) return { result: await client.sendMessage({ message }) };
    const events = [];
    for await (const event of client.sendMessageStream({ message })) events.push(event);
    return { events };
  };
  const told = await ask().catch(e => ({ error: { name: e.constructor.name, message: e.message, data: e.errorResponse ?? e.data } }));
  console.log(JSON.stringify(told));
}
