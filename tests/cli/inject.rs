//! `farepass inject`, as a filter in a pipe.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::support::{Ended, Home};

const DEPLOYMENT: &str = "\
# comments are lost
apiVersion: apps/v1
kind: Deployment
metadata:
  name: research
spec:
  selector:
    matchLabels: { app: research }
  template:
    metadata:
      labels: { app: research }
      annotations: { build: \"1e3\", restart: \"yes\" }
    spec:
      containers:
        - name: agent
          image: registry.example/agent:1
          args: [\"on\", \"0o7\", \"12:30\"]
          securityContext: { runAsUser: 1000, runAsNonRoot: true, allowPrivilegeEscalation: false, capabilities: { drop: [ALL] } }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: other }
data: { script: \"a\\n\\n  b\\n\" }
";

fn filter(home: &Home, args: &[&str], given: &str) -> Ended {
    let mut child = Command::new(env!("CARGO_BIN_EXE_farepass"))
        .arg("inject")
        .args(args)
        .current_dir(home.at("."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(given.as_bytes()).unwrap();
    drop(pipe);
    Ended::of(child.wait_with_output().unwrap())
}

#[test]
fn a_deployment_gets_its_sidecar() {
    let home = Home::new();
    let once = filter(&home, &[], DEPLOYMENT).ok();
    assert_eq!(once.err, "");
    insta::with_settings!({ filters => [(env!("CARGO_PKG_VERSION"), "[version]")] }, {
        insta::assert_snapshot!(once.out);
    });
    let twice = filter(&home, &["-"], &once.out).ok();
    assert_eq!(twice.out, once.out, "injecting twice is injecting once");
    let back = filter(&home, &["--uninject"], &once.out).ok();
    let plain = filter(&home, &["--uninject"], DEPLOYMENT).ok();
    assert_eq!(back.out, plain.out, "and out again is as before");
}

#[test]
fn kinds_that_make_pods_and_are_not_known_are_named() {
    let home = Home::new();
    let pod = "spec: { containers: [{ name: a, image: i }] }";
    let rollout = |metadata: &str| {
        format!(
            "kind: Rollout\napiVersion: argoproj.io/v1alpha1\nmetadata: {{ name: r }}\nspec: {{ template: {{ {metadata} {pod} }} }}\n"
        )
    };
    let template = format!(
        "kind: PodTemplate\napiVersion: v1\nmetadata: {{ name: t }}\ntemplate: {{ {pod} }}\n"
    );
    let given = format!("{}---\n{template}---\n{DEPLOYMENT}", rollout(""));
    let told = filter(&home, &[], &given).ok();
    let lines: Vec<&str> = told.err.lines().collect();
    let begins = |line: &str, with: &str| line.starts_with(&format!("farepass: {with} makes pods"));
    assert_eq!(lines.len(), 2, "{}", told.err);
    assert!(begins(lines[0], "Rollout/r") && begins(lines[1], "PodTemplate/t"));
    let items = r#"{"kind": "RolloutList", "items": [{"metadata": {"name": "x"}, "spec": {"containers": [{"image": "i"}]}}]}"#;
    let listed = filter(&home, &[], items).ok();
    assert!(begins(&listed.err, "Rollout/x"), "{}", listed.err);
    let out = rollout("metadata: { annotations: { farepass.dev/inject: disabled } },");
    for (args, given) in [(&[][..], out.as_str()), (&["--uninject"], &given)] {
        assert_eq!(filter(&home, args, given).ok().err, "");
    }
}

#[test]
fn files_and_json_and_other_settings() {
    let home = Home::new();
    std::fs::write(home.at("a.yaml"), DEPLOYMENT).unwrap();
    let args = [
        "--mode",
        "transparent",
        "--redirect-image",
        "example/nft:1",
        "--image",
        "example/farepass:9",
    ];
    let ended = filter(&home, &[&args[..], &["a.yaml"]].concat(), "").ok();
    assert!(
        ended.out.contains("image: example/farepass:9"),
        "{}",
        ended.out
    );
    assert!(
        ended.out.contains("name: farepass-redirect"),
        "{}",
        ended.out
    );
    let pod = r#"{ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "a", "image": "b" }] } }"#;
    let ended = filter(&home, &[], pod).ok();
    assert_eq!(
        ended.json()["spec"]["initContainers"][0]["name"],
        "farepass"
    );
    assert!(
        ended.err.contains("container `a` may run as root"),
        "{}",
        ended.err
    );
}

/// A webhook behind the filter has other flags, and finds those of the filter in the pod.
#[test]
fn what_flags_chose_is_written_into_the_pod() {
    let home = Home::new();
    let args = [
        "--mode=transparent",
        "--redirect-image=example/nft:1",
        "--config-map=strict-policy",
    ];
    let once = filter(&home, &args, DEPLOYMENT).ok().out;
    for line in [
        "farepass.dev/mode: transparent\n",
        "farepass.dev/config: strict-policy\n",
    ] {
        assert!(once.contains(line), "{line}: {once}");
    }
    assert!(!once.contains("farepass.dev/wallet"), "{once}");
    assert_eq!(filter(&home, &args, &once).ok().out, once);
    let plain = filter(&home, &[], DEPLOYMENT).ok().out;
    assert!(!plain.contains("farepass.dev/mode"), "{plain}");
    assert_eq!(filter(&home, &[], &once).ok().out, plain);
    let back = filter(&home, &["--uninject"], &once).ok().out;
    let bare = filter(&home, &["--uninject"], DEPLOYMENT).ok().out;
    assert_eq!(back, bare);
}

/// As `jq '.items[]'` writes them, and some editors of Windows.
#[test]
fn json_comes_one_after_another_and_behind_a_byte_order_mark() {
    let home = Home::new();
    let pod = r#"{ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "a", "image": "b" }] } }"#;
    let one = filter(&home, &[], pod).ok().out;
    let two = filter(&home, &[], &format!("{pod}\n{pod}\n")).ok().out;
    assert_eq!(two, format!("{one}{one}"));
    assert_eq!(filter(&home, &[], &two).ok().out, two, "its own");
    let marked = filter(&home, &[], &format!("\u{feff}{pod}")).ok().out;
    assert_eq!(marked, one);
    let marked = filter(&home, &["--uninject"], &format!("\u{feff}{DEPLOYMENT}"));
    let bare = filter(&home, &["--uninject"], DEPLOYMENT).ok().out;
    assert_eq!(marked.ok().out, bare);
}

/// Whoever reads YAML reads JSON in it, and not the other way round.
#[test]
fn files_of_both_forms_come_out_as_one_stream_of_yaml() {
    let home = Home::new();
    let pod = r#"{ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "a", "image": "b" }] } }"#;
    std::fs::write(home.at("dep.yaml"), DEPLOYMENT).unwrap();
    std::fs::write(home.at("pod.json"), pod).unwrap();
    let one = |file: &str| filter(&home, &[file], "").ok().out;
    let yaml = filter(&home, &["-"], &format!("---\n{pod}")).ok().out;
    assert!(yaml.starts_with("apiVersion: v1\n"), "{yaml}");
    let both = filter(&home, &["dep.yaml", "pod.json"], "").ok().out;
    assert_eq!(both, format!("{}---\n{yaml}", one("dep.yaml")));
    let turned = filter(&home, &["pod.json", "dep.yaml"], "").ok().out;
    assert_eq!(turned, format!("{yaml}---\n{}", one("dep.yaml")));
    let json = filter(&home, &["pod.json", "pod.json"], "").ok().out;
    assert_eq!(json, one("pod.json").repeat(2), "all of it is JSON");
}

/// What an API server reads as YAML 1.1 must mean the same behind the filter.
#[test]
fn modes_and_merge_keys_mean_what_they_did() {
    let home = Home::new();
    let given = DEPLOYMENT
        .replace("kind: Deployment\n", "kind: Deployment\nx-usual: &usual { tty: true, stdin: true }\n")
        .replace("          args:", "          <<: *usual\n          args:")
        .replace(
            "      containers:",
            "      volumes: [{ name: keys, secret: { secretName: keys, defaultMode: 0400 } }]\n      containers:",
        );
    let out = filter(&home, &[], &given).ok().out;
    for line in ["defaultMode: 256\n", "  tty: true\n", "  stdin: true\n"] {
        assert!(out.contains(line), "{line:?}: {out}");
    }
    assert!(!out.contains("<<"), "{out}");
    filter(&home, &[], "<<: 7\n").failed(2, &["standard input:", "merge key `<<`"]);
}

/// Its budgets would start anew with another ledger, and its policy would be another.
#[test]
fn a_sidecar_written_by_hand_is_not_replaced() {
    let home = Home::new();
    let base = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/k8s/base/agent.yaml");
    let words = &["StatefulSet/agent: ", "was written by hand"];
    let refused = filter(&home, &[base], "").failed(1, words);
    assert_eq!(refused.out, "");
}

#[test]
fn what_cannot_be_injected_is_named_and_nothing_is_written() {
    let home = Home::new();
    let host = DEPLOYMENT.replace(
        "      containers:",
        "      hostNetwork: true\n      containers:",
    );
    let both = format!("{DEPLOYMENT}---\n{host}");
    let refused = filter(&home, &[], &both).failed(
        1,
        &["standard input: Deployment/research: spec.hostNetwork is set"],
    );
    assert_eq!(refused.out, "");
    filter(&home, &[], "a: [").failed(2, &["standard input:", "not YAML"]);
    filter(&home, &["missing.yaml"], "").failed(1, &["missing.yaml: cannot be read"]);
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: { name: j }\nspec: { template: { spec: { containers: [{ name: a, image: b }] } } }\n";
    filter(&home, &["--form", "container"], job).failed(1, &["Job/j: a Job would wait"]);
    filter(&home, &[], job).ok();
}
