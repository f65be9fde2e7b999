// Lets Node versions that ignore proxy variables (18, 20, 22 before 22.21) use them: `fetch`, and `http` and `https` with
// their default agents, which is what most clients are built on. Loaded by NODE_OPTIONS=--require=…; standard library only.
// Does nothing where Node does it by itself, or where no proxy is set.
"use strict";
const http = require("node:http");
const https = require("node:https");
const net = require("node:net");
const tls = require("node:tls");

const setting = (name) => process.env[name.toLowerCase()] || process.env[name.toUpperCase()] || "";
const proxyOf = (text) => {
  try {
    return text ? new URL(text.includes("://") ? text : `http://${text}`) : null;
  } catch {
    return null;
  }
};
const proxies = { "https:": proxyOf(setting("https_proxy")), "http:": proxyOf(setting("http_proxy")) };
const builtIn = process.env.NODE_USE_ENV_PROXY === "1" && process.allowedNodeEnvironmentFlags.has("--use-env-proxy");

const bare = (host) => String(host).toLowerCase().replace(/^\[|\]$/g, "").replace(/\.$/, "");

// NO_PROXY: names with all names below them, addresses, each perhaps with a port; `*` is everything.
const exceptions = setting("no_proxy").split(/[\s,]+/).filter(Boolean).map((entry) => {
  const [, host, port] = /^(\[[^\]]*\]|[^:]*|.*:.*:.*?)(?::(\d+))?$/.exec(entry) || [null, entry];
  return { host: bare(host).replace(/^\*?\./, ""), port };
});
const excepted = (host, port) => exceptions.some((e) => {
  if (e.port && e.port !== String(port)) return false;
  return e.host === "*" || e.host === host || (!net.isIP(e.host) && host.endsWith(`.${e.host}`));
});

// The proxy for this destination, or null when it is reached directly.
const route = (protocol, host, port) => (proxies[protocol] && !excepted(bare(host), port) ? proxies[protocol] : null);

// How the proxy itself is reached: not by the agents below, which would ask the proxy for a way to the proxy.
const direct = { http: new http.Agent(), https: new https.Agent() };

// A tunnel through the proxy, as a socket.
function tunnel(proxy, host, port, done) {
  const name = bare(host);
  const authority = `${net.isIPv6(name) ? `[${name}]` : name}:${port}`;
  const headers = { host: authority };
  if (proxy.username) {
    const credentials = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
    headers["proxy-authorization"] = `Basic ${Buffer.from(credentials).toString("base64")}`;
  }
  const secure = proxy.protocol === "https:";
  const asking = (secure ? https : http).request({
    method: "CONNECT",
    path: authority,
    host: bare(proxy.hostname),
    port: proxy.port || (secure ? 443 : 80),
    agent: secure ? direct.https : direct.http,
    headers,
  });
  asking.once("connect", (answer, socket, early) => {
    if (answer.statusCode !== 200) {
      socket.destroy();
      const error = new Error(`the proxy answered CONNECT ${authority} with ${answer.statusCode}`);
      done(Object.assign(error, { code: "ERR_PROXY_TUNNEL", statusCode: answer.statusCode }));
      return;
    }
    if (early.length) socket.unshift(early);
    done(null, socket);
  });
  asking.once("response", (answer) => {
    answer.resume();
    done(new Error(`the proxy answered CONNECT ${authority} with ${answer.statusCode}`));
  });
  asking.once("error", done);
  asking.end();
}

// TLS inside a tunnel.
function secured(socket, options, done) {
  const host = bare(options.host || options.hostname);
  const servername = options.servername || (net.isIP(host) ? "" : host);
  const inside = tls.connect({ ...options, host: undefined, port: undefined, path: undefined, socket, servername });
  const failed = (error) => done(error);
  inside.once("error", failed);
  inside.once("secureConnect", () => {
    inside.off("error", failed);
    done(null, inside);
  });
}

const kept = { keepAlive: true, scheduling: "lifo", timeout: 5000 };

class HttpsAgent extends https.Agent {
  createConnection(options, done) {
    const proxy = options.socketPath ? null : route("https:", options.host, options.port);
    if (!proxy) return super.createConnection(options, done);
    tunnel(proxy, options.host, options.port, (error, socket) => (error ? done(error) : secured(socket, options, done)));
    return undefined;
  }
}

class HttpAgent extends http.Agent {
  createConnection(options, done) {
    const proxy = options.socketPath ? null : route("http:", options.host, options.port);
    if (!proxy) return super.createConnection(options, done);
    tunnel(proxy, options.host, options.port, done);
    return undefined;
  }
}

// What `fetch` asks for a connection: undici's connector.
function connect(options, done) {
  const secure = options.protocol === "https:";
  const host = bare(options.hostname);
  const port = Number(options.port) || (secure ? 443 : 80);
  const proxy = route(options.protocol, host, port);
  const wrap = { host, servername: options.servername, ALPNProtocols: ["http/1.1"] };
  if (proxy) {
    tunnel(proxy, host, port, (error, socket) => {
      if (error) done(error, null);
      else if (secure) secured(socket, wrap, done);
      else done(null, socket);
    });
    return;
  }
  const socket = secure
    ? tls.connect({ ...wrap, port, servername: wrap.servername || (net.isIP(host) ? "" : host) })
    : net.connect({ host, port });
  socket.once("error", done);
  socket.once(secure ? "secureConnect" : "connect", () => {
    socket.off("error", done);
    done(null, socket);
  });
}

// undici is part of Node but not a module one could require: its Agent is the class of the dispatcher that the first `fetch` installs.
function replaceDispatcher() {
  const key = Symbol.for("undici.globalDispatcher.1");
  if (!globalThis[key] && typeof fetch === "function") fetch("data:,").catch(() => {});
  const Agent = globalThis[key] && globalThis[key].constructor;
  if (Agent) globalThis[key] = new Agent({ connect });
}

if (!builtIn && (proxies["https:"] || proxies["http:"])) {
  https.globalAgent = new HttpsAgent(kept);
  http.globalAgent = new HttpAgent(kept);
  try {
    replaceDispatcher();
  } catch {
    // An unknown undici: `fetch` stays as it is.
  }
}
