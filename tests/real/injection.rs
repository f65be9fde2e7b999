//! The sidecar's way into pods: the webhook over TLS with reviews that a real API server sent, patches
//! applied by another library, and every object held against the schemas of three Kubernetes versions.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::support::{linger, python};

pub(crate) const VERSIONS: &[&str] = &["1.29", "1.33", "1.36"];
const SERVICE: &str = "farepass-injector.farepass-system.svc";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn farepass() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farepass"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// A running webhook, which ends with this value.
struct Webhook {
    child: Child,
    at: SocketAddr,
    ca: PathBuf,
    _dir: tempfile::TempDir,
}

impl Drop for Webhook {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Webhook {
    /// Set up as its operator does, and started as its Deployment does.
    fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca");
        let setup = farepass()
            .args(["webhook", "--setup", "--ca-dir"])
            .arg(&ca)
            .output()
            .unwrap();
        assert!(setup.status.success(), "{setup:?}");
        let mut child = farepass()
            .args(["webhook", "--listen", "127.0.0.1:0", "--ca-dir"])
            .arg(&ca)
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let at = line.trim().strip_prefix("farepass: webhook on https://");
        let at = at.and_then(|at| at.strip_suffix("/inject"));
        let at = at.unwrap_or_else(|| panic!("{line}")).parse().unwrap();
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self {
            child,
            at,
            ca: ca.join("ca.pem"),
            _dir: dir,
        }
    }

    /// Its readiness probe: by address, so no name is said, and no certificate is verified.
    fn is_ready(&self) -> bool {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--insecure", "--noproxy", "*"]);
        curl.arg(format!("https://{}/readyz", self.at));
        curl.output().unwrap().stdout == b"ok\n"
    }

    /// What `Allow` of an answer says, whoever is believed to give it.
    fn allowed(&self, method: &str, path: &str) -> String {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--insecure",
            "--noproxy",
            "*",
            "--request",
            method,
        ]);
        curl.args(["--output", "/dev/null", "--write-out", "%header{allow}"]);
        curl.arg(format!("https://{}{path}", self.at));
        String::from_utf8(curl.output().unwrap().stdout).unwrap()
    }

    /// The most memory that it ever had, in KiB, without the program itself, which is a file: of a test it is large.
    fn most(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap();
        let number = |key| {
            let line = status.lines().find_map(|l| l.strip_prefix(key));
            let number = line.unwrap().trim().trim_end_matches(" kB");
            number.parse::<u64>().unwrap()
        };
        number("VmHWM:") - number("RssFile:")
    }

    /// What curl gets, with the status as its last line.
    fn curl(&self, name: &str, path: &str, body: Option<&[u8]>) -> Result<(u16, String), String> {
        let mut curl = self.asking(name, path);
        if body.is_some() {
            curl.args([
                "--header",
                "Content-Type: application/json",
                "--data-binary",
                "@-",
            ]);
        }
        let mut child = curl.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let _ = stdin.write_all(body.unwrap_or_default());
        drop(stdin);
        let out = child.wait_with_output().unwrap();
        if !out.status.success() {
            return Err(String::from_utf8_lossy(&out.stderr).into_owned());
        }
        let text = String::from_utf8(out.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        Ok((status.parse().unwrap(), body.to_owned()))
    }

    /// Somebody who sends so many bytes of a review, and is not done.
    fn begun(&self, bytes: usize) -> Child {
        let mut curl = self.asking(SERVICE, "/inject");
        curl.args(["--request", "POST", "--header", "Expect:"]);
        let mut child = curl.args(["--upload-file", "-"]).spawn().unwrap();
        // It may be refused before.
        let _ = child.stdin.as_mut().unwrap().write_all(&vec![b' '; bytes]);
        child
    }

    fn asking(&self, name: &str, path: &str) -> Command {
        let mut curl = Command::new("curl");
        curl.env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "30",
                "--noproxy",
                "*",
                "--write-out",
                "\n%{http_code}",
                "--cacert",
            ])
            .arg(&self.ca)
            .args(["--connect-to", &format!("{name}:443:{}", self.at)])
            .arg(format!("https://{name}{path}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        curl
    }

    fn review(&self, review: &Value) -> Value {
        let text = review.to_string();
        let (status, body) = self
            .curl(SERVICE, "/inject?timeout=5s", Some(text.as_bytes()))
            .unwrap();
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["kind"], "AdmissionReview");
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        answer["response"].clone()
    }
}

fn recorded(name: &str) -> Value {
    let path = root().join("tests/admission").join(format!("{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn patch(response: &Value) -> Value {
    assert_eq!(response["allowed"], true, "{response}");
    assert_eq!(response["patchType"], "JSONPatch", "{response}");
    let text = STANDARD
        .decode(response["patch"].as_str().unwrap())
        .unwrap();
    serde_json::from_slice(&text).unwrap()
}

const PODS: &[&str] = &["annotated", "bare", "busy", "deployment", "dry-run", "job"];

#[test]
fn reviews_of_a_real_api_server_are_answered() {
    let webhook = Webhook::start(&[]);
    let mut patches = BTreeMap::new();
    for name in PODS {
        let review = recorded(name);
        let patch = patch(&webhook.review(&review));
        patches.insert(
            (*name).to_owned(),
            json!([review["request"]["object"], patch]),
        );
    }
    let question = json!({ "versions": VERSIONS, "objects": {}, "patches": patches });
    let Some(judged) = python::judged("kubernetes.py", &question) else {
        return;
    };
    for name in PODS {
        assert_eq!(judged["wrong"][*name], json!([]), "{name}");
        let pod = &judged["patched"][*name];
        let init = pod["spec"]["initContainers"].as_array().unwrap();
        assert_eq!(init[0]["name"], "farepass", "{name}");
        assert_eq!(init[0]["restartPolicy"], "Always", "{name}");
        let others = init[1..]
            .iter()
            .chain(pod["spec"]["containers"].as_array().unwrap());
        for container in others {
            let mounts = container["volumeMounts"].as_array().unwrap();
            assert!(
                mounts
                    .iter()
                    .any(|m| m["name"] == "farepass-ca" && m["readOnly"] == true),
                "{name}"
            );
            assert!(
                !mounts.iter().any(|m| m["name"] == "farepass-wallet"),
                "{name}"
            );
        }
        // Another webhook changed the pod, and the API server asks again.
        let mut again = recorded(name);
        again["request"]["object"] = pod.clone();
        let second = webhook.review(&again);
        assert_eq!(
            (&second["allowed"], second.get("patch")),
            (&json!(true), None),
            "{name}"
        );
        // As AlwaysPullImages, LimitRanger and Amazon's webhook change it.
        let object = &mut again["request"]["object"];
        let sidecar = &mut object["spec"]["initContainers"][0];
        sidecar["imagePullPolicy"] = "Always".into();
        sidecar["resources"]["limits"]["cpu"] = "500m".into();
        let at = "/var/run/secrets/eks.amazonaws.com/serviceaccount";
        let mounts = sidecar["volumeMounts"].as_array_mut().unwrap();
        mounts.push(json!({ "name": "aws-iam-token", "mountPath": at, "readOnly": true }));
        let env = sidecar["env"].as_array_mut().unwrap();
        env.push(json!({ "name": "AWS_ROLE_ARN", "value": "arn:aws:iam::123456789012:role/r" }));
        env.push(json!({ "name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": format!("{at}/token") }));
        let token =
            json!({ "serviceAccountToken": { "path": "token", "audience": "sts.amazonaws.com" } });
        let token = json!({ "name": "aws-iam-token", "projected": { "sources": [token] } });
        object["spec"]["volumes"]
            .as_array_mut()
            .unwrap()
            .push(token);
        let third = webhook.review(&again);
        let edits = third.get("patch").map(|_| self::patch(&third).to_string());
        let edits = edits.unwrap_or_default();
        assert!(!edits.contains("Containers"), "{name}: {edits}");
    }
    let busy = &judged["patched"]["busy"]["spec"];
    let env = busy["initContainers"][0]["env"].as_array().unwrap();
    let corp = json!({ "name": "HTTPS_PROXY", "value": "http://corp:3128" });
    assert!(
        env.contains(&corp),
        "the proxy that was there is the sidecar's own: {env:?}"
    );
}

#[test]
fn what_is_refused_is_refused_with_a_sentence_and_the_rest_is_left_alone() {
    let webhook = Webhook::start(&[]);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut review = recorded("bare");
        change(&mut review["request"]);
        webhook.review(&review)
    };
    let told = |response: &Value, words: &str| {
        assert_eq!(response["allowed"], false, "{response}");
        let said = response["status"]["message"].as_str().unwrap();
        assert!(
            said.starts_with("farepass: ") && said.contains(words),
            "{said}"
        );
    };
    let left = |response: &Value| {
        assert_eq!(
            (&response["allowed"], response.get("patch")),
            (&json!(true), None),
            "{response}"
        );
    };
    told(
        &with(&|r| r["object"]["spec"]["hostNetwork"] = true.into()),
        "hostNetwork",
    );
    told(&with(&|r| r["object"] = json!(null)), "no pod");
    left(&with(&|r| r["namespace"] = "kube-system".into()));
    left(&with(&|r| r["namespace"] = "farepass-system".into()));
    left(&with(&|r| {
        r["object"]["metadata"]["annotations"] = json!({ "farepass.dev/inject": "disabled" })
    }));
    left(&with(&|r| r["operation"] = "DELETE".into()));
    left(&webhook.review(&recorded("exec")));
    left(&webhook.review(&recorded("debug")));
    let mut debug = recorded("debug");
    debug["request"]["object"]["spec"]["initContainers"] =
        json!([{ "name": "farepass", "image": "x" }]);
    told(&webhook.review(&debug), "may run as root");
    let mut older = recorded("bare");
    older["apiVersion"] = "admission.k8s.io/v1beta1".into();
    told(&webhook.review(&older), "v1beta1");
    let mut half = recorded("bare");
    half["request"].as_object_mut().unwrap().remove("operation");
    told(&webhook.review(&half), "missing field `operation`");
    for nonsense in ["", "{", "[]", "null", "\u{0}"] {
        let (status, body) = webhook
            .curl(SERVICE, "/inject", Some(nonsense.as_bytes()))
            .unwrap();
        assert_eq!(status, 400, "{body}");
        assert!(body.contains("\"allowed\":false"), "{body}");
    }
    let huge = vec![b' '; 4 * 1024 * 1024];
    assert_eq!(
        webhook.curl(SERVICE, "/inject", Some(&huge)).unwrap().0,
        413
    );
    assert_eq!(
        webhook.curl(SERVICE, "/readyz", None).unwrap(),
        (200, "ok\n".into())
    );
    assert!(webhook.is_ready(), "a kubelet says no name");
    assert_eq!(webhook.curl(SERVICE, "/inject", None).unwrap().0, 405);
    assert_eq!(webhook.allowed("GET", "/inject"), "POST");
    assert_eq!(webhook.allowed("POST", "/readyz"), "GET, HEAD");
    assert_eq!(webhook.curl(SERVICE, "/other", None).unwrap().0, 404);
    let stranger = webhook.curl("evil.example", "/readyz", None).unwrap_err();
    assert!(
        stranger.contains("curl:"),
        "no certificate for other names: {stranger}"
    );
}

/// What `deploy/k8s/injector` lets it have, in KiB.
fn limit() -> u64 {
    let text = std::fs::read_to_string(root().join("deploy/k8s/injector/injector.yaml")).unwrap();
    let deployment = documents(&text);
    let deployment = deployment.iter().find(|d| d["kind"] == "Deployment");
    let limit = deployment
        .unwrap()
        .pointer("/spec/template/spec/containers/0/resources/limits/memory");
    let megabytes = limit.unwrap().as_str().unwrap().trim_end_matches("Mi");
    megabytes.parse::<u64>().unwrap() * 1024
}

#[test]
fn no_number_of_reviews_takes_more_memory_than_there_is() {
    const LARGEST: usize = 3 * 1024 * 1024;
    let webhook = Webhook::start(&[]);
    let begun: Vec<Child> = (0..20).map(|_| webhook.begun(LARGEST - 1024)).collect();
    // Whoever is slow keeps nobody out.
    patch(&webhook.review(&recorded("bare")));
    let with = |env: Value| {
        let mut review = recorded("bare");
        review["request"]["object"]["spec"]["containers"][0]["env"] = env;
        review.to_string()
    };
    let named = |n| json!({ "name": format!("A{n}") });
    let small: Value = (0..28_000).map(named).collect();
    let large = json!([{ "name": "A", "value": "x".repeat(LARGEST - 64 * 1024) }]);
    let ended: Vec<_> = begun
        .into_iter()
        .map(|mut child| (child.kill(), child.wait()))
        .collect();
    assert!(ended.iter().all(|(_, waited)| waited.is_ok()));
    for text in [with(small), with(large)] {
        let ask = || {
            webhook
                .curl(SERVICE, "/inject", Some(text.as_bytes()))
                .unwrap()
        };
        let (status, body) = ask();
        assert_eq!(status, 200, "{body}");
        assert!(body.contains("\"allowed\":true"), "{}", &body[..200]);
        // Who is refused while it still writes may not get to read why.
        let ask = || {
            let answer = webhook.curl(SERVICE, "/inject", Some(text.as_bytes()));
            answer.map_or(503, |(status, _)| status)
        };
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(statuses.contains(&200), "{statuses:?}");
        assert!(
            statuses.iter().all(|s| [200, 503].contains(s)),
            "{statuses:?}"
        );
    }
    patch(&webhook.review(&recorded("bare")));
    let most = webhook.most();
    assert!(most < limit() / 8 * 7, "{most} KiB");
}

/// Connects so often, asks each time whether it is ready, says `full`, and goes on asking until its input ends.
const IDLERS: &str = "
import select, socket, ssl, sys
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
address = sys.argv[1].rsplit(':', 1)
guests = []
def ask(guest):
    try:
        guest.sendall(b'GET /healthz HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
        guest.recv(4096)
    except OSError:
        pass
for _ in range(int(sys.argv[2])):
    plain = socket.create_connection((address[0], int(address[1])), 20)
    guests.append(context.wrap_socket(plain))
    ask(guests[-1])
print('full', flush=True)
while not select.select([sys.stdin], [], [], 1)[0]:
    for guest in guests:
        ask(guest)
";

/// Whoever reaches the port can connect and ask for `/healthz`.
#[test]
fn idle_connections_keep_no_review_out() {
    let webhook = Webhook::start(&[]);
    let mut idlers = Command::new("python3")
        .args(["-c", IDLERS, &webhook.at.to_string(), "256"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut told = BufReader::new(idlers.stdout.take().unwrap());
    told.read_line(&mut said).unwrap();
    assert_eq!(said, "full\n");
    for _ in 0..3 {
        let began = std::time::Instant::now();
        patch(&webhook.review(&recorded("bare")));
        // What `--setup` says that an API server waits.
        let took = began.elapsed();
        assert!(took < std::time::Duration::from_secs(5), "{took:?}");
        assert!(webhook.is_ready());
    }
    drop(idlers.stdin.take());
    idlers.wait().unwrap();
}

#[test]
fn a_webhook_that_is_told_to_end_goes_on_until_its_address_is_gone() {
    let mut webhook = Webhook::start(&[]);
    let terminate = |pid: u32| {
        let killed = Command::new("kill").arg(pid.to_string()).status();
        assert!(killed.unwrap().success());
    };
    let begun = std::time::Instant::now();
    terminate(webhook.child.id());
    linger(std::time::Duration::from_millis(500));
    patch(&webhook.review(&recorded("bare")));
    assert!(webhook.is_ready());
    assert_eq!(webhook.child.try_wait().unwrap(), None);
    assert!(webhook.child.wait().unwrap().success());
    let took = begun.elapsed();
    assert!(took.as_secs() >= 5, "{took:?}");
    // Twice means now.
    let mut webhook = Webhook::start(&[]);
    let begun = std::time::Instant::now();
    terminate(webhook.child.id());
    linger(std::time::Duration::from_millis(500));
    terminate(webhook.child.id());
    assert!(webhook.child.wait().unwrap().success());
    assert!(begun.elapsed().as_secs() < 4, "{:?}", begun.elapsed());
}

#[test]
fn a_renewed_certificate_is_shown_without_a_restart() {
    // The authority's own files stand for what somebody else renews.
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["one", "two"] {
        let made = farepass()
            .args(["webhook", "--setup", "--ca-dir"])
            .arg(at(name))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    let put = |from: &str| {
        for file in ["ca-key.pem", "ca.pem"] {
            std::fs::copy(at(from).join(file), at("now.new")).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(at("now.new"), mode).unwrap();
            std::fs::rename(at("now.new"), at(file)).unwrap();
        }
    };
    put("one");
    let serving = farepass::tls::Serving::files(at("ca.pem"), at("ca-key.pem")).unwrap();
    assert!(!serving.refresh().unwrap(), "nothing changed");
    std::fs::copy(at("two").join("ca.pem"), at("ca.pem")).unwrap();
    assert!(serving.refresh().is_err(), "half of a pair is not taken");
    put("two");
    assert!(serving.refresh().unwrap());
    assert!(!serving.refresh().unwrap());
}

pub(crate) fn documents(text: &str) -> Vec<Value> {
    let all = serde_yaml::Deserializer::from_str(text);
    all.map(|d| Value::deserialize(d).unwrap())
        .filter(|v| !v.is_null())
        .collect()
}

/// What `inject` makes of a text.
pub(crate) fn injected(args: &[&str], workloads: &str) -> String {
    let mut command = farepass();
    let child = command.arg("inject").args(args).stdin(Stdio::piped());
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(workloads.as_bytes()).unwrap();
    drop(stdin);
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap()
}

/// The first version that knows a kind.
pub(crate) fn since(kind: &str) -> &'static str {
    match kind {
        "MutatingAdmissionPolicy" | "MutatingAdmissionPolicyBinding" => "1.36",
        "ValidatingAdmissionPolicy" | "ValidatingAdmissionPolicyBinding" => "1.30",
        _ => "1.29",
    }
}

/// Every object of `deploy/k8s` that stands for itself, and what the commands print.
#[test]
fn every_manifest_is_one() {
    let mut objects = BTreeMap::new();
    let mut add = |from: &str, text: &str| {
        for (index, object) in documents(text).into_iter().enumerate() {
            if object["kind"] != "Kustomization" {
                objects.insert(format!("{from} {index}"), object);
            }
        }
    };
    for folder in std::fs::read_dir(root().join("deploy/k8s")).unwrap() {
        let folder = folder.unwrap().path();
        for file in std::fs::read_dir(&folder).unwrap() {
            let file = file.unwrap().path();
            let name = file.strip_prefix(root()).unwrap().display().to_string();
            // Farepass's own file, and a patch.
            let other = name.ends_with("farepass.yaml") || name.ends_with("transparent/pod.yaml");
            if name.ends_with(".yaml") && !other {
                add(&name, &std::fs::read_to_string(&file).unwrap());
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let setup = farepass()
        .args(["webhook", "--setup", "--ca-dir"])
        .arg(dir.path().join("ca"))
        .output()
        .unwrap();
    add("webhook --setup", &String::from_utf8(setup.stdout).unwrap());
    for args in [
        &["--mode", "explicit"][..],
        &["--mode", "transparent", "--redirect-image", "x/nft:1"],
        &["--form", "container"],
    ] {
        let text = injected(args, WORKLOADS);
        add(&args.join(" "), &text);
    }
    assert!(objects.len() > 20, "{:?}", objects.keys());
    let question = json!({ "versions": VERSIONS, "objects": objects, "patches": {} });
    let Some(judged) = python::judged("kubernetes.py", &question) else {
        return;
    };
    for (name, object) in &objects {
        let kind = object["kind"].as_str().unwrap();
        let wrong: Vec<&str> = judged["wrong"][name]
            .as_array()
            .unwrap()
            .iter()
            .map(|w| w.as_str().unwrap())
            .collect();
        // Of the Prometheus operator, whose schema is not Kubernetes's.
        if kind == "PodMonitor" {
            continue;
        }
        let since = since(kind);
        let wrong: Vec<_> = wrong
            .into_iter()
            .filter(|w| w.split(':').next().unwrap() >= since)
            .collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
    }
}

/// What the kernel makes of a rule set, in a network of its own. The last argument of `nft`.
fn loaded(rules: &[&str]) -> Result<String, String> {
    let out = Command::new("unshare")
        .args(["-Urn", "sh", "-c", "nft \"$@\" && nft list ruleset", "nft"])
        .args(rules)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .map_err(|e| e.to_string())?;
    match out.status.success() {
        true => Ok(String::from_utf8(out.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
    }
}

#[test]
fn the_redirection_is_the_one_of_the_overlay() {
    let file = root().join("deploy/k8s/transparent/redirect.nft");
    let written = loaded(&["-f", file.to_str().unwrap()]);
    let Some(written) = super::support::needs(written) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pod.yaml");
    std::fs::write(&file, WORKLOADS).unwrap();
    let out = farepass()
        .args([
            "inject",
            "--mode",
            "transparent",
            "--redirect-image",
            "x/nft:1",
        ])
        .arg(&file)
        .output()
        .unwrap();
    let pods = documents(&String::from_utf8(out.stdout).unwrap());
    let first = &pods[0]["spec"]["template"]["spec"]["initContainers"][0];
    let command: Vec<&str> = first["command"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w.as_str().unwrap())
        .collect();
    let ["nft", rules] = command[..] else {
        panic!("{command:?}")
    };
    assert_eq!(loaded(&[rules]).unwrap(), written);
}

const WORKLOADS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: d }
spec:
  selector: { matchLabels: { app: a } }
  template:
    metadata: { labels: { app: a }, annotations: { farepass.dev/budget: \"0.50 USD\" } }
    spec:
      securityContext: { runAsNonRoot: true, runAsUser: 1000 }
      containers: [{ name: agent, image: x/agent:1, securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: [ALL] } } }]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: s }
spec:
  serviceName: s
  selector: { matchLabels: { app: a } }
  template:
    metadata: { labels: { app: a }, annotations: { farepass.dev/state-claim: mine, farepass.dev/session: owner } }
    spec:
      securityContext: { runAsNonRoot: true, runAsUser: 1000 }
      containers: [{ name: agent, image: x/agent:1, securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: [ALL] } } }]
";
