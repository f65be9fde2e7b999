//! Network namespaces as pods: what `inject` writes for a pod is done here as the kubelet does it, with the
//! users, capabilities and rules of the manifest, and the agent tries to get around it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::injection::{documents, injected};
use crate::support::curl::fetch;
use crate::support::lab::{Lab, PROXY_USER, users};
use crate::support::stand;

const SHOP: &str = "https://merchant.stand.test";
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: { name: research, namespace: agents }
spec:
  securityContext: { runAsNonRoot: true, runAsUser: 1000 }
  containers:
    - { name: agent, image: x/agent:1, securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: [ALL] } } }
";

fn pod() -> Value {
    let mut args = vec!["--mode", "transparent", "--redirect-image", "x/nft:1"];
    // Inside of what is open anyway, and beyond.
    for resolver in ["10.96.0.0/12", "198.51.100.21", "2001:db8:b::21"] {
        args.extend(["--resolver", resolver]);
    }
    documents(&injected(&args, POD)).remove(0)
}

fn container<'a>(pod: &'a Value, list: &str, name: &str) -> &'a Value {
    let all = pod["spec"][list].as_array().unwrap();
    let found = all.iter().find(|c| c["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {all:?}"))
}

/// Its first process, as the runtime starts it: user, capabilities, no way to more of either.
fn inside(lab: &Lab, pod: &Value, container: &Value, program: &str) -> Command {
    let (whole, own) = (
        &pod["spec"]["securityContext"],
        &container["securityContext"],
    );
    let user = own["runAsUser"].as_u64().or(whole["runAsUser"].as_u64());
    let user = user.unwrap().to_string();
    assert_eq!(own["capabilities"]["drop"], json!(["ALL"]));
    let mut kept = String::from("-all");
    for added in own["capabilities"]["add"].as_array().into_iter().flatten() {
        kept += &format!(",+{}", added.as_str().unwrap().to_lowercase());
    }
    let mut command = lab.on("agent", "setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
    command.args(["--bounding-set", &kept, "--inh-caps", "-all"]);
    if own["allowPrivilegeEscalation"] == false {
        command.arg("--no-new-privs");
    }
    command.arg(program);
    command
}

fn told(out: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&out.stdout) + &text(&out.stderr)
}

/// A datagram to an address of the far host: whether it was heard there.
fn is_heard(lab: &Lab, mut sender: Command, to: (&str, u16)) -> bool {
    const HEAR: &str = "import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((sys.argv[1], int(sys.argv[2]))); s.settimeout(3)
print('listens', flush=True)
try: print(s.recv(99).decode())
except TimeoutError: print('nothing')";
    let (address, port) = (to.0, to.1.to_string());
    let mut ear = lab.on("upstream", "python3");
    let mut ear = ear
        .args(["-c", HEAR, address, &port])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut heard = std::io::BufReader::new(ear.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut heard, &mut line).unwrap();
    assert_eq!(line, "listens\n");
    // That it says no is as good as that it says nothing.
    let say = format!("printf hello > /dev/udp/{address}/{port}");
    let _ = sender.args(["-c", &say]).output().unwrap();
    line.clear();
    std::io::BufRead::read_line(&mut heard, &mut line).unwrap();
    ear.wait().unwrap();
    line == "hello\n"
}

#[test]
fn an_agent_that_ignores_everything_is_governed_and_reaches_nothing_else() {
    let Some(stand) = stand::stand() else { return };
    let Some(mut lab) = Lab::up(stand) else {
        return;
    };
    let Some(()) = users() else { return };
    lab.rules("none");
    let pod = pod();
    // In the order of the manifest: the rules first, by a container that ends, then the sidecar.
    let first = &pod["spec"]["initContainers"][0];
    let words = first["command"].as_array().unwrap();
    let words: Vec<&str> = words.iter().map(|w| w.as_str().unwrap()).collect();
    let done = inside(&lab, &pod, first, words[0])
        .args(&words[1..])
        .output();
    let done = done.unwrap();
    assert!(done.status.success(), "{}", told(&done));
    let sidecar = container(&pod, "initContainers", "farepass");
    assert_eq!(sidecar["securityContext"]["runAsUser"], PROXY_USER);
    let mut setup = lab.setup(stand, "agent", "-all");
    // As in deploy/k8s: all addresses, for the kubelet's probes.
    setup.config["listen"]["admin"] = json!("[::]:4022");
    let mut proxy = setup.start();
    let agent = container(&pod, "containers", "agent");
    let run = |program: &str| inside(&lab, &pod, agent, program);
    // The volume that both have: certificates alone.
    let volume = tempfile::tempdir().unwrap();
    let ca = volume.path().join("ca.pem");
    std::fs::copy(proxy.ca(), &ca).unwrap();
    // What keeps the agent out of the rest is its own mode, not that of the folder above.
    for (path, mode) in [
        (volume.path(), 0o755),
        (&ca, 0o644),
        (proxy.setup.dir.path(), 0o755),
    ] {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let curl = |url: &str| {
        let mut curl = run("curl");
        curl.args(["--silent", "--show-error", "--include", "--max-time", "20"]);
        curl.arg("--cacert").arg(&ca).arg(url);
        curl
    };

    // It was told of no proxy, and its purchase is paid for and in the books.
    let bought = fetch(curl(&format!("{SHOP}/v2/exact"))).unwrap();
    assert_eq!(bought.status, 200, "{}", bought.text());
    assert!(bought.one("farepass-payment").is_some());
    assert_eq!(proxy.ledger().rows.len(), 1);

    // Nothing else leaves: other ports, addresses instead of names, QUIC.
    let mut other = curl("http://198.51.100.20:8443/");
    assert!(fetch(other).is_err());
    other = curl("https://198.51.100.20/free");
    other.args(["--insecure"]);
    assert!(
        !fetch(other).is_ok_and(|a| a.status == 200),
        "no name, no rule"
    );
    let sidecars = || inside(&lab, &pod, sidecar, "bash");
    for port in [443, 53] {
        let far = ("198.51.100.20", port);
        assert!(!is_heard(&lab, run("bash"), far), "UDP {port}");
        assert!(is_heard(&lab, sidecars(), far), "the far host does listen");
    }
    asks_resolvers_of_its_own_network_only(&lab, &run);

    cannot_get_at_the_sidecar(&lab, &proxy, &run, &curl);

    // Without the sidecar there is no way at all.
    proxy.kill();
    let lost = curl(&format!("{SHOP}/free"));
    assert!(fetch(lost).is_err());
}

/// As in a cluster of IPv4 alone: `[::1]` cannot be listened on, and `[::]` is what there is.
#[test]
fn a_pod_without_ipv6_is_led_all_the_same() {
    let Some(stand) = stand::stand() else { return };
    let Some(mut lab) = Lab::up(stand) else {
        return;
    };
    let Some(()) = users() else { return };
    let mut off = lab.on("agent", "sh");
    off.args(["-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"]);
    assert!(off.status().unwrap().success());
    lab.rules("sidecar-deployed");
    let mut setup = lab.setup(stand, "agent", "-all");
    setup.config["listen"]["admin"] = json!("[::]:4022");
    let proxy = setup.start();
    let bought = fetch(lab.curl(&proxy, &format!("{SHOP}/v2/exact"))).unwrap();
    assert_eq!(bought.status, 200, "{}", bought.text());
    let probed = fetch(lab.curl(&proxy, "http://127.0.0.1:4022/readyz")).unwrap();
    assert_eq!(probed.status, 200, "{}", probed.text());
}

/// Port 53 leads to private addresses, where resolvers are, and is no way out by TCP either.
fn asks_resolvers_of_its_own_network_only(lab: &Lab, run: &dyn Fn(&str) -> Command) {
    const RESOLVER: &str = "10.96.0.10";
    for (host, words) in [
        ("upstream", &["addr", "add", RESOLVER, "dev", "eth0"][..]),
        ("proxy", &["route", "add", RESOLVER, "via", "198.51.100.20"]),
    ] {
        let out = lab.on(host, "ip").args(words).output().unwrap();
        assert!(out.status.success(), "{words:?}: {}", told(&out));
    }
    assert!(is_heard(lab, run("bash"), (RESOLVER, 53)));
    let named = "198.51.100.21";
    assert!(is_heard(lab, run("bash"), (named, 53)), "--resolver");
    assert!(!is_heard(lab, run("bash"), (named, 443)));
    assert!(!is_heard(lab, run("bash"), (RESOLVER, 443)));
    const LISTEN: &str = "import socket, time
s = socket.create_server(('', 53)); print('listens', flush=True); time.sleep(60)";
    let mut listener = lab.on("upstream", "python3");
    listener.args(["-c", LISTEN]).stdout(Stdio::piped());
    let mut listener = listener.spawn().unwrap();
    let mut said = [0; 8];
    std::io::Read::read_exact(listener.stdout.as_mut().unwrap(), &mut said).unwrap();
    for (to, reached) in [(RESOLVER, true), ("198.51.100.20", false)] {
        let dial = format!("> /dev/tcp/{to}/53");
        let out = run("timeout").args(["5", "bash", "-c", &dial]).output();
        let out = out.unwrap();
        assert_eq!(out.status.success(), reached, "{to}: {}", told(&out));
    }
    listener.kill().unwrap();
    listener.wait().unwrap();
}

/// Its operator's surface, its rules, its user and its secrets, although here it sees its processes.
fn cannot_get_at_the_sidecar(
    lab: &Lab,
    proxy: &crate::support::proxy::Proxy,
    run: &dyn Fn(&str) -> Command,
    curl: &dyn Fn(&str) -> Command,
) {
    let probe = fetch(curl("http://127.0.0.1:4022/healthz")).unwrap();
    assert_eq!(probe.status, 200, "what probes ask, anybody may");
    for path in ["/api/v1/payments", "/api/v1/freeze", "/api/v1/sessions"] {
        let asked = fetch(curl(&format!("http://127.0.0.1:4022{path}"))).unwrap();
        assert!(
            matches!(asked.status, 401 | 405),
            "{path}: {}",
            asked.status
        );
        let mut through = curl(&format!("http://127.0.0.1:4022{path}"));
        through.args(["--proxy", "http://127.0.0.1:4020"]);
        let through = fetch(through).unwrap();
        assert!(through.status >= 400, "{path}: {}", through.status);
    }
    let state = proxy.setup.state();
    let key = proxy.setup.dir.path().join("wallet.key");
    let token = state.join("admin.token");
    for file in [&key, &token] {
        assert!(file.exists(), "{}", file.display());
    }
    let pids = lab
        .on("agent", "pgrep")
        .args(["-u", "1337", "farepass"])
        .output();
    let pids = String::from_utf8(pids.unwrap().stdout).unwrap();
    let pid = pids.lines().next().unwrap();
    let nothing: &[&[&str]] = &[
        &["cat", key.to_str().unwrap()],
        &["cat", token.to_str().unwrap()],
        &["ls", state.to_str().unwrap()],
        &["cat", &format!("/proc/{pid}/environ")],
        &["ls", &format!("/proc/{pid}/root/")],
        &["kill", "-0", pid],
        &["setpriv", "--reuid", "1337", "true"],
        &["nft", "flush", "ruleset"],
        &["ip", "link", "set", "lo", "down"],
    ];
    for words in nothing {
        let out = run(words[0]).args(&words[1..]).output().unwrap();
        assert!(!out.status.success(), "{words:?}: {}", told(&out));
        let said = told(&out).to_lowercase();
        let refused = said.contains("permitted") || said.contains("denied");
        assert!(refused, "{words:?}: {said}");
    }
}
