// An official client that knows nothing of payments: `client.mjs URL CALL…`, each call as JSON; one line of JSON for each.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [url, ...calls] = process.argv.slice(2);
const client = new Client({ name: "agent", version: "1.0.0" });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
for (const text of calls) {
  const { tool, resource, prompt, args = {} } = JSON.parse(text);
  const progress = [];
  const options = { onprogress: p => progress.push(p.message ?? "") };
  const ask = () => {
    if (resource) return client.readResource({ uri: resource });
    if (prompt) return client.getPrompt({ name: prompt });
    return client.callTool({ name: tool, arguments: args }, undefined, options);
  };
  const told = await ask().then(result => ({ result }), e => ({ error: { name: e.constructor.name, code: e.code, message: e.message, data: e.data } }));
  console.log(JSON.stringify({ ...told, progress }));
}
await client.close();
