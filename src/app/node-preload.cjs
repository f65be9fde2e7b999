// Lets Node versions that ignore proxy variables (18, 20, 22 before 22.21) use them: `fetch`, and `http` and `https`, which is
// what most clients are built on. Later versions do it by themselves, but not for agents that a program makes itself, so
// these are led everywhere. Loaded by NODE_OPTIONS=--require=…; standard library only. Does nothing where no proxy is set.
"use strict";
const http = require("node:http");
const https = require("node:https");
const net = require("node:net");
const { Duplex } = require("node:stream");
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

// Programs that read the proxy's variables themselves (axios) ask it by these agents as well: it is reached directly.
const portOf = (url) => Number(url.port) || (url.protocol === "https:" ? 443 : 80);
const isProxy = (host, port) => Object.values(proxies).some((p) => p && bare(p.hostname) === host && portOf(p) === Number(port));

// The proxy for this destination, or null when it is reached directly.
const route = (protocol, host, port) =>
  proxies[protocol] && !excepted(bare(host), port) && !isProxy(bare(host), port) ? proxies[protocol] : null;

// How the proxy itself is reached: not by the agents below, which would ask the proxy for a way to the proxy.
const direct = { http: new http.Agent(), https: new https.Agent() };

// A tunnel through the proxy, as a socket. Returns what can be destroyed until then.
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
    port: portOf(proxy),
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
  return asking;
}

// TLS inside a tunnel, from its first word on. An address is no name that is sent, and still what the certificate must be for.
function begun(socket, options) {
  const host = bare(options.host || options.hostname);
  const servername = options.servername || (net.isIP(host) ? "" : host);
  return tls.connect({ ...options, host, port: undefined, path: undefined, socket, servername });
}

// TLS inside a tunnel, once it is agreed on.
function secured(socket, options, done) {
  const inside = begun(socket, options);
  const failed = (error) => done(error);
  inside.once("error", failed);
  inside.once("secureConnect", () => {
    inside.off("error", failed);
    done(null, inside);
  });
}

// A tunnel that is asked for, as a socket that there is at once. What is written waits.
class Coming extends Duplex {
  // `closes`: by itself, at its end. Inside TLS that would be too early: what came before may not have been read yet.
  constructor(proxy, host, port, closes) {
    super({ allowHalfOpen: false, autoDestroy: closes });
    this.socket = null;
    this.waiting = [];
    this.alone = false;
    this.asking = tunnel(proxy, host, port, (error, socket) => this.came(error, socket));
  }

  came(error, socket) {
    if (this.destroyed || error) {
      if (socket) socket.destroy();
      this.destroy(error);
      return;
    }
    let ended = false;
    this.socket = socket;
    socket.on("data", (piece) => {
      this.touch();
      if (!this.push(piece)) socket.pause();
    });
    socket.once("end", () => {
      ended = true;
      this.push(null);
    });
    socket.on("error", (failed) => this.destroy(failed));
    // What was read before is still read by whoever asked.
    socket.once("close", () => (ended ? this.end() : this.destroy()));
    socket.setNoDelay(true);
    if (this.alone) socket.unref();
    for (const next of this.waiting.splice(0)) next(socket);
  }

  arrived(next) {
    if (this.socket) next(this.socket);
    else this.waiting.push(next);
  }

  _read() {
    if (this.socket) this.socket.resume();
  }

  _write(piece, encoding, done) {
    this.touch();
    this.arrived((socket) => socket.write(piece, encoding, done));
  }

  _final(done) {
    // It may have ended by itself, which is no error.
    this.arrived((socket) => socket.end(() => done()));
  }

  _destroy(error, done) {
    clearTimeout(this.timer);
    this.asking.destroy();
    if (this.socket) this.socket.destroy();
    done(error);
  }

  // The rest is what `http` asks of a socket besides.
  touch() {
    if (this.timer) this.timer.refresh();
  }

  setTimeout(time, heard) {
    clearTimeout(this.timer);
    this.timeout = time;
    this.timer = time ? setTimeout(() => this.emit("timeout"), time).unref() : undefined;
    if (heard) this[time ? "once" : "off"]("timeout", heard);
    return this;
  }

  setNoDelay() {
    return this;
  }

  setKeepAlive(...how) {
    this.arrived((socket) => socket.setKeepAlive(...how));
    return this;
  }

  ref() {
    this.alone = false;
    if (this.socket) this.socket.ref();
    return this;
  }

  unref() {
    this.alone = true;
    if (this.socket) this.socket.unref();
    return this;
  }

  destroySoon() {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once("finish", this.destroy);
  }

  get remoteAddress() {
    return this.socket ? this.socket.remoteAddress : undefined;
  }

  get remotePort() {
    return this.socket ? this.socket.remotePort : undefined;
  }
}

// A connection for an agent that a program made. These count their sockets, and some set them up, before there is a
// connection, so they get one at once.
function promised(protocol, proxy, options) {
  const secure = protocol === "https:";
  const tunnelled = new Coming(proxy, options.host, options.port, !secure);
  let socket = tunnelled;
  if (secure) {
    socket = begun(tunnelled, options);
    tunnelled.on("error", (error) => socket.destroy(error));
    socket.once("close", () => tunnelled.destroy());
    // A connection that waits for its next request must not keep the program alive.
    for (const name of ["ref", "unref"]) {
      socket[name] = () => {
        tunnelled[name]();
        return tls.TLSSocket.prototype[name].call(socket);
      };
    }
  }
  if (options.timeout) socket.setTimeout(options.timeout);
  return socket;
}

// Agents with a way of their own to connect are left alone, as they have replaced this.
function lead(module, protocol) {
  const { globalAgent, Agent: { prototype } } = module;
  const itself = prototype.createConnection;
  // Node's own agent, and those that were told to, find the way where Node does it by itself.
  const finds = (agent) => builtIn && agent && (agent === globalAgent || (agent.options && agent.options.proxyEnv));
  prototype.createConnection = function createConnection(options, ...more) {
    const named = options && options.host && options.port && !options.socketPath && !options.path && !options.socket;
    const proxy = named && !finds(this) ? route(protocol, options.host, options.port) : null;
    return proxy ? promised(protocol, proxy, options) : itself.call(this, options, ...more);
  };
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

if (proxies["https:"] || proxies["http:"]) {
  lead(http, "http:");
  lead(https, "https:");
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
