#!/usr/bin/env python3
"""Farepass beside hudsucker on this machine: CPU time, memory and delays, and their ratios. See README.md."""
import argparse, contextlib, json, os, re, signal, socket, statistics, subprocess, sys, tempfile, threading, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SECURE, PLAIN = "https://api.bench.test:8443", "http://api.bench.test:8080"
GIB = 1 << 30

# What is asked of the proxies. The first metric is the one that ratios are made of.
WORKLOADS = {
    "w1": (f"kind=steady url={SECURE}/bytes/1024", "cpu_us per_second p99_us"),
    "w1s": (f"kind=steady connections=1 url={SECURE}/bytes/1024", "p50_us p99_us cpu_us"),
    "w2": (f"kind=fresh connections=8 url={SECURE}/bytes/1024", "cpu_us per_second p99_us"),
    "w2r": (f"kind=fresh connections=8 resume url={SECURE}/bytes/1024", "cpu_us per_second p99_us"),
    "w3": (f"kind=fresh connections=4 strangers requests=8000 url={SECURE}/bytes/1024", "cpu_us per_second memory_mb"),
    "w4": (f"kind=bulk url={SECURE}/bytes/{GIB}", "cpu_ms_per_gb mb_per_second growth_mb"),
    "w5": (f"kind=steady url={PLAIN}/bytes/1024", "cpu_us per_second p99_us"),
    "w6": (f"kind=hold connections=2000 url={SECURE}/bytes/1024", "kb_each open memory_mb"),
    "w7": (f"kind=steady http=2 connections=4 streams=16 url={SECURE}/bytes/1024", "cpu_us per_second p99_us"),
    "w8": (f"kind=events url={SECURE}/events/100", "p99_us p50_us events"),
    "tunnel": (f"kind=bulk url=https://blind.bench.test:8443/bytes/{GIB}", "cpu_ms_per_gb mb_per_second growth_mb"),
    "paid": (f"kind=steady connections=4 url={SECURE}/paid", "cpu_us per_second p99_us"),
    "paid32": (f"kind=steady connections=32 url={SECURE}/paid", "cpu_us per_second p99_us"),
}
ONLY_FAREPASS = {"tunnel", "paid", "paid32"}  # hudsucker neither tunnels by name nor pays

# Everything is on: a rule that could pay at every host, budgets, the ledger, spend events in a file. Only the limits on
# one agent's haste are out of the way, since one agent is all there is.
CONFIG = """
version: 1
listen: {{ proxy: "127.0.0.1:{port}", admin: "127.0.0.1:{admin}" }}
state_dir: state
tls: {{ ca_dir: ca, extra_roots: ["{certs}/upstream-ca.pem"], passthrough: ["blind.bench.test:8443"] }}
egress: {{ allow_private: [127.0.0.1/32], ports: [8443, 8080] }}
wallets:
  - {{ name: main, kind: local, key_file: wallet.key, networks: ["eip155:84532"] }}
sessions: {{ default: {{ budget: "1000000 USD", expires: 24h }} }}
budgets:
  - {{ name: hourly, scope: agent, limit: "1000000 USD", window: 1h }}
  - {{ name: per-host, scope: host, limit: "1000000 USD", window: day, payments: 100000000 }}
rules:
  - name: shop
    match: {{ hosts: ["*.bench.test:8443", "*.bench.test:8080"] }}
    pay: {{ max: "0.05 USD", rate: 1000000/s, budgets: [hourly, per-host], pay_to: first-seen }}
limits: {{ identical_payments: "off", leaves_per_session: 100000, leaves_per_second: 100000, connections_per_second: 100000 }}
"""


def alone():
    """Starts this script again in namespaces of its own: no traffic leaves, and names resolve here."""
    if os.environ.get("COMPARE_ALONE"):
        return
    if os.geteuid() != 0:
        sys.exit("run.py: needs root, for a network namespace and cgroups")
    os.environ["COMPARE_ALONE"] = "1"
    inside = ("ip link set lo up && sysctl -qw net.ipv4.ip_local_port_range='10240 65535' net.ipv4.tcp_tw_reuse=1 && "
              "f=$(mktemp) && echo nameserver 127.0.0.1 >$f && mount --bind $f /etc/resolv.conf && rm $f && exec \"$@\"")
    os.execvp("unshare", ["unshare", "-mn", "sh", "-c", inside, "sh", sys.executable, *sys.argv])


def build():
    """Both packages, each in its own target folder."""
    own = {k: v for k, v in os.environ.items() if k != "CARGO_TARGET_DIR"}
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=HERE, env=own, check=True)
    subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "farepass"], cwd=ROOT, env=own, check=True)


def make_certificates(folder):
    def make(name, subject, *more):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "30", "-subj", f"/CN={subject}", "-keyout", f"{name}-key.pem", "-out", f"{name}.pem",
                        *more], cwd=folder, check=True, stderr=subprocess.DEVNULL)
    ca = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    make("upstream-ca", "merchants", *ca)
    make("ca", "hudsucker", *ca)
    make("upstream", "bench.test", "-CA", "upstream-ca.pem", "-CAkey", "upstream-ca-key.pem",
         "-addext", "subjectAltName=DNS:*.bench.test", "-addext", "basicConstraints=critical,CA:FALSE",
         "-addext", "extendedKeyUsage=serverAuth")


class Server:
    """A process in a cgroup of its own, which counts its CPU time."""

    def __init__(self, name, command, port, folder, env=None):
        v1 = Path("/sys/fs/cgroup/cpuacct")
        root = v1 if v1.is_dir() else Path("/sys/fs/cgroup")
        self.port = port
        self.group = root / f"compare-{os.getpid()}-{name}"
        self.group.mkdir()
        self.cpu = self.group / ("cpuacct.usage" if v1.is_dir() else "cpu.stat")
        out, err = open(folder / "spend.jsonl", "w"), open(folder / "log", "w")
        enter = f'echo $$ > {self.group}/cgroup.procs; ulimit -n 20000; exec "$@"'
        self.process = subprocess.Popen(["sh", "-c", enter, "sh", *map(str, command)], cwd=folder, stdout=out, stderr=err,
                                        env={**os.environ, **(env or {})})
        for _ in range(300):
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", port), 0.2).close()
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"{name} did not start: {(folder / 'log').read_text()[-500:]}")

    def memory(self):
        """Bytes that are its own."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1]) * 1024

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for _ in range(50):
            with contextlib.suppress(OSError):
                return self.group.rmdir()
            time.sleep(0.02)


def start(name, bench, port):
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=bench.folder))
    if name != "farepass":
        env = {"hudsucker-tuned": {}, "hudsucker-h2": {"PEER_H2": "1"}, "hudsucker-plain": {"PEER_NAGLE": "1"}}[name]
        return Server(name, [bench.programs / "peer", port, bench.certs], port, folder, env)
    config, key = folder / "farepass.yaml", folder / "wallet.key"
    config.write_text(CONFIG.format(port=port, admin=port + 1000, certs=bench.certs))
    key.touch(0o600)
    key.write_text("7" * 64)
    server = Server(name, [bench.farepass, "serve", "--config", config], port, folder)
    (bench.certs / "farepass-ca.pem").write_bytes((folder / "ca/ca.pem").read_bytes())
    return server


def trusted(name, bench):
    """A folder whose `ca.pem` is that of the proxy."""
    folder = bench.folder / f"trust-{name}"
    folder.mkdir(exist_ok=True)
    ca = "farepass-ca.pem" if name == "farepass" else "ca.pem"
    (folder / "ca.pem").write_bytes((bench.certs / ca).read_bytes())
    (folder / "upstream-ca.pem").write_bytes((bench.certs / "upstream-ca.pem").read_bytes())
    return folder


def measure(workload, name, server, bench):
    """One workload through one proxy."""
    line = WORKLOADS[workload][0].split() + [f"secs={bench.secs}", f"certs={trusted(name, bench)}",
                                             f"proxy=127.0.0.1:{server.port}", f"cpu={server.cpu}"]
    before = peak = server.memory()
    agent = subprocess.Popen([bench.programs / "agent", *line], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    guard = threading.Timer(bench.patience, agent.kill)
    guard.start()
    try:
        if "kind=bulk" in line:
            while agent.poll() is None:
                peak = max(peak, server.memory())
                time.sleep(0.05)
        told = agent.stdout.readline()
        if "kind=hold" in line:
            time.sleep(1)
        after = server.memory()
        agent.communicate("\n")
    finally:
        guard.cancel()
    result = json.loads(told or '{"error": "no answer in time"}')
    result |= {"memory_mb": after / 1e6, "growth_mb": (peak - before) / 1e6}
    if result.get("open"):
        result["kb_each"] = (after - before) / 1e3 / result["open"]
    return result


def middle(results, key):
    values = [r[key] for r in results if r.get(key) is not None]
    return statistics.median(values) if values else None


def show(workload, rounds, base):
    metrics = WORKLOADS[workload][1].split()
    text = lambda v: "-" if v is None else f"{v:.3g}" if v < 1000 else f"{v:.0f}"
    for name, results in rounds.items():
        pairs = zip(results, rounds.get(base, []))
        ratios = [a[metrics[0]] / b[metrics[0]] for a, b in pairs if a.get(metrics[0]) and b.get(metrics[0])]
        columns = [f"{m}={text(middle(results, m))}" for m in metrics]
        if ratios:
            columns.append(f"ratio={statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        errors = {r["error"] for r in results if r.get("error")}
        print(f"{workload:7}{name:17}", "  ".join(columns), *errors, flush=True)


def compare(bench, options):
    port, everything = 6000, {}
    for workload in options.workloads:
        names = [n for n in options.proxies if n == "farepass" or workload not in ONLY_FAREPASS]
        rounds, servers = {n: [] for n in names}, {}
        # Memory is that of a process that has done nothing else.
        fresh = workload in ("w3", "w6")
        try:
            for turn in range(options.rounds):
                first = turn % max(1, len(names))
                for name in names[first:] + names[:first]:
                    if name not in servers:
                        port += 1
                        servers[name] = start(name, bench, port)
                    rounds[name].append(measure(workload, name, servers[name], bench))
                    if fresh:
                        servers.pop(name).stop()
        finally:
            for server in servers.values():
                server.stop()
        show(workload, rounds, options.base)
        everything[workload] = rounds
        if options.out:
            Path(options.out).write_text(json.dumps(everything, indent=1))


def main():
    words = lambda text: text.split(",")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", type=words, default=list(WORKLOADS))
    parser.add_argument("--proxies", type=words, default=["farepass", "hudsucker-tuned"])
    parser.add_argument("--base", default="hudsucker-tuned")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--secs", type=int, default=2, help="length of a workload that has no other end")
    parser.add_argument("--patience", type=int, default=120, help="seconds after which a workload is given up")
    parser.add_argument("--farepass", type=Path, help="compare this program, build nothing")
    parser.add_argument("--programs", type=Path, default=HERE / "target/release", help="where the others are then")
    parser.add_argument("--out", help="every round's numbers, as JSON")
    options = parser.parse_args()
    for workload in options.workloads:
        if workload not in WORKLOADS:
            parser.error(f"{workload} is none of {', '.join(WORKLOADS)}")
    if not os.environ.get("COMPARE_ALONE") and not options.farepass:
        build()
    alone()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        bench = argparse.Namespace(folder=Path(folder), certs=Path(folder, "certs"), secs=options.secs,
                                   patience=options.patience)
        bench.programs = options.programs.resolve()
        bench.farepass = (options.farepass or ROOT / "target/release/farepass").resolve()
        bench.certs.mkdir()
        make_certificates(bench.certs)
        merchant = Server("merchant", [bench.programs / "merchant", bench.certs], 8443, bench.folder)
        try:
            compare(bench, options)
        finally:
            merchant.stop()


if __name__ == "__main__":
    main()
