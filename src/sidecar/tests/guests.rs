//! What is the sidecar's alone stays so: beside pods that are made, and in pods that run. And reviews that are
//! too large to be read.

use serde_json::{Value, json};

use super::super::*;
use super::{denied, injected, pod, secured, settings};

pub(super) fn review(operation: &str, sub: Option<&str>, object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "subResource": sub,
            "operation": operation,
            "object": object,
        },
    })
}

/// What the webhook says to a review; nothing when it allows it.
pub(super) fn said(review: &Value, settings: &Settings) -> String {
    let answer = answer(review.to_string().as_bytes(), settings, None);
    assert_eq!(answer.uid(), "1");
    let message = answer.body.pointer("/response/status/message");
    message.and_then(Value::as_str).unwrap_or_default().into()
}

/// A running pod with a debugging container, which has this besides.
fn debugged(pod: &Value, more: &Value) -> String {
    let mut guest = json!({ "name": "debug", "image": "x", "securityContext": secured() });
    for (key, value) in more.as_object().into_iter().flatten() {
        guest[key] = value.clone();
    }
    let mut pod = pod.clone();
    pod["spec"]["ephemeralContainers"] = json!([guest]);
    said(
        &review("UPDATE", Some("ephemeralcontainers"), &pod),
        &settings(),
    )
}

fn mount(volume: &str) -> Value {
    json!({ "volumeMounts": [{ "name": volume, "mountPath": "/x" }] })
}

fn read_only(volume: &str) -> Value {
    json!({ "volumeMounts": [{ "name": volume, "mountPath": "/x", "readOnly": true }] })
}

fn env(secret: &str) -> Value {
    json!({ "env": [{ "name": "K", "valueFrom": { "secretKeyRef": { "name": secret, "key": "k" } } }] })
}

fn from(secret: &str) -> Value {
    json!({ "envFrom": [{ "secretRef": { "name": secret } }] })
}

#[test]
fn a_debugging_container_gets_at_no_wallet_by_any_name() {
    let mut asked = pod();
    asked["metadata"]["annotations"] =
        json!({ "farepass.dev/wallet": "own", "farepass.dev/state-claim": "ledger" });
    let mut running = injected(&asked);
    let volumes = running["spec"]["volumes"].as_array_mut().unwrap();
    volumes.extend([
        json!({ "name": "same", "secret": { "secretName": "own" } }),
        json!({ "name": "usual", "secret": { "secretName": "farepass-wallet" } }),
        json!({ "name": "part", "projected": { "sources": [{ "secret": { "name": "own" } }] } }),
        json!({ "name": "again", "persistentVolumeClaim": { "claimName": "ledger" } }),
        json!({ "name": "other", "secret": { "secretName": "other" } }),
    ]);
    let alone = "the sidecar's alone";
    for volume in ["farepass-wallet", "farepass-state", "farepass-config"] {
        let said = debugged(&running, &mount(volume));
        assert!(said.contains(alone), "{volume}: {said}");
    }
    for volume in ["same", "usual", "part", "again"] {
        let said = debugged(&running, &mount(volume));
        assert!(said.contains(alone), "{volume}: {said}");
    }
    for secret in ["own", "farepass-wallet"] {
        for more in [env(secret), from(secret)] {
            let said = debugged(&running, &more);
            assert!(said.contains(alone), "{more}: {said}");
        }
    }
    for more in [
        mount("tmp"),
        mount("other"),
        read_only("farepass-ca"),
        env("other"),
        from("other"),
    ] {
        assert_eq!(debugged(&running, &more), "", "{more}");
    }
}

/// A pod from before may have it, or its sidecar, which shares it with nobody.
#[test]
fn a_debugging_container_sees_no_path_of_the_node() {
    let mut running = injected(&pod());
    let volumes = running["spec"]["volumes"].as_array_mut().unwrap();
    volumes.push(json!({ "name": "node", "hostPath": { "path": "/var/lib/kubelet" } }));
    for more in [mount("node"), read_only("node")] {
        let said = debugged(&running, &more);
        assert!(said.contains("a path of the node (hostPath)"), "{said}");
    }
    assert_eq!(debugged(&running, &mount("tmp")), "");
}

/// Its volumes have other names, and the annotation says nothing.
#[test]
fn what_a_sidecar_written_by_hand_mounts_is_its_own() {
    let sidecar = json!({
        "name": "farepass",
        "volumeMounts": [
            { "name": "wallet", "mountPath": "/run/farepass/wallet" },
            { "name": "database", "mountPath": "/run/farepass/database" },
            { "name": "vault", "mountPath": "/run/farepass/vault" },
            { "name": "state", "mountPath": "/var/lib/farepass" },
            { "name": "ca", "mountPath": "/run/farepass/ca" },
            { "name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" },
        ],
    });
    let mut running = pod();
    running["spec"]["initContainers"] = json!([sidecar]);
    running["spec"]["volumes"] = json!([
        { "name": "wallet", "secret": { "secretName": "key" } },
        { "name": "database", "secret": { "secretName": "url" } },
        { "name": "state", "persistentVolumeClaim": { "claimName": "state-agent-0" } },
        { "name": "again", "persistentVolumeClaim": { "claimName": "state-agent-0" } },
        { "name": "vault", "csi": { "driver": "secrets-store.csi.k8s.io", "volumeAttributes": { "secretProviderClass": "vaults" } } },
        { "name": "vaults", "csi": { "driver": "secrets-store.csi.k8s.io", "volumeAttributes": { "secretProviderClass": "vaults" } } },
        { "name": "ca", "emptyDir": {} },
        { "name": "token", "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }] } },
    ]);
    for more in [
        mount("wallet"),
        mount("database"),
        mount("state"),
        mount("again"),
        mount("vaults"),
        env("url"),
        from("key"),
    ] {
        let said = debugged(&running, &more);
        assert!(said.contains("the sidecar's alone"), "{more}: {said}");
    }
    // Certificates cross over, and every container of a pod has the account's token.
    for volume in ["ca", "token"] {
        assert_eq!(debugged(&running, &read_only(volume)), "", "{volume}");
    }
    // Who may write there makes links for the sidecar to follow.
    let said = debugged(&running, &mount("ca"));
    assert!(said.contains("mount it readOnly"), "{said}");
}

#[test]
fn the_usual_wallet_is_nobodys_else_in_a_pod_that_names_another() {
    let mut named = pod();
    named["metadata"]["annotations"] = json!({ "farepass.dev/wallet": "other" });
    for secret in ["farepass-wallet", "other"] {
        for more in [env(secret), from(secret)] {
            let mut pod = named.clone();
            for (key, value) in more.as_object().unwrap() {
                pod["spec"]["containers"][0][key] = value.clone();
            }
            let said = denied(&pod, &settings());
            assert!(said.contains("the sidecar's alone"), "{more}: {said}");
        }
        let mut pod = named.clone();
        pod["spec"]["volumes"][0] = json!({ "name": "tmp", "secret": { "secretName": secret } });
        assert!(denied(&pod, &settings()).contains("the sidecar's alone"));
    }
}

#[test]
fn capabilities_are_read_in_any_case() {
    for capability in ["all", "sys_admin", "cap_sys_admin", "Cap_Net_Raw", "BPF"] {
        let mut able = pod();
        able["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] =
            json!([capability]);
        let said = denied(&able, &settings());
        assert!(said.contains(capability), "{capability}: {said}");
    }
    let mut able = pod();
    able["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] =
        json!(["net_bind_service"]);
    assert!(inject(&able, &settings(), None).is_ok());
}

#[test]
fn a_job_gets_no_sidecar_that_it_would_wait_for() {
    let older = Settings {
        form: Form::Container,
        ..settings()
    };
    let mut made = pod();
    for (version, kind, fine) in [
        ("batch/v1", "Job", false),
        ("jobs.example/v1", "Job", true),
        ("apps/v1", "ReplicaSet", true),
    ] {
        made["metadata"]["ownerReferences"] =
            json!([{ "apiVersion": version, "kind": kind, "name": "j", "controller": true }]);
        let told = said(&review("CREATE", None, &made), &older);
        assert_eq!(told.is_empty(), fine, "{version} {kind}: {told}");
        assert!(fine || told.contains("a Job would wait"), "{told}");
        assert_eq!(said(&review("CREATE", None, &made), &settings()), "");
    }
    // In a file: the one that wants none is let through.
    let mut job = json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "j" }, "spec": { "template": pod() } });
    let before = job.clone();
    let mut leave = |_: &mut Value, _: Option<Owner<'_>>| Ok(());
    assert!(each_pod(&mut job, Form::Container, &mut leave).is_err());
    job["spec"]["template"]["metadata"]["annotations"] =
        json!({ "farepass.dev/inject": "disabled" });
    assert_eq!(each_pod(&mut job, Form::Container, &mut leave), Ok(1));
    assert_ne!(job, before);
}

/// A tree takes a hundred times the text that it is of.
#[test]
fn a_review_with_more_entries_than_a_pod_is_not_read() {
    let many = |count: usize| {
        let mut pod = pod();
        let env = (0..count).map(|n| json!({ "name": format!("A{n}"), "value": "\\\"{[,,\"" }));
        pod["spec"]["containers"][0]["env"] = env.collect();
        said(&review("CREATE", None, &pod), &settings())
    };
    assert_eq!(many(10_000), "");
    assert!(many(30_000).contains("more entries than Farepass reads"));
    let mut lists = pod();
    lists["spec"]["x"] = json!(vec![json!([]); 300_000]);
    let told = said(&review("CREATE", None, &lists), &settings());
    assert!(told.contains("more entries"), "{told}");
}
