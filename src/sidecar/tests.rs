//! Pods with their sidecar, without it again, and what their annotations say.

use serde_json::{Value, json};

use super::tree::entries;
use super::*;

mod choices;
mod denials;
mod guests;
mod kept;
mod owners;
mod parents;

fn settings() -> Settings {
    Settings {
        image: "example/farepass:1".into(),
        redirect_image: Some("example/nft:1".into()),
        resolvers: vec![],
        config_map: "farepass-config".into(),
        wallet_secret: "farepass-wallet".into(),
        mode: Mode::Explicit,
        form: Form::Native,
    }
}

fn secured() -> Value {
    json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } })
}

fn pod() -> Value {
    json!({
        "metadata": { "labels": { "app": "research" } },
        "spec": {
            "securityContext": { "runAsNonRoot": true, "runAsUser": 1000 },
            "initContainers": [{ "name": "fetch", "image": "x", "securityContext": secured() }],
            "containers": [{
                "name": "agent",
                "image": "y",
                "securityContext": secured(),
                "env": [
                    { "name": "NO_PROXY", "value": "corp.example" },
                    { "name": "NODE_OPTIONS", "value": "--max-old-space-size=200" },
                ],
                "volumeMounts": [{ "name": "tmp", "mountPath": "/tmp" }],
            }],
            "volumes": [{ "name": "tmp", "emptyDir": {} }],
        },
    })
}

fn injected(pod: &Value) -> Value {
    done(pod, &settings()).pod
}

fn done(pod: &Value, settings: &Settings) -> Injected {
    inject(pod, settings, None).unwrap()
}

/// As the filter does it.
fn filtered(pod: &Value, chosen: &Chosen) -> Value {
    let mut pod = uninject(pod);
    chosen.note(&mut pod).unwrap();
    let mode = chosen.mode.unwrap_or(Mode::Explicit);
    let settings = Settings { mode, ..settings() };
    done(&pod, &settings).pod
}

fn denied(pod: &Value, settings: &Settings) -> String {
    inject(pod, settings, None).unwrap_err().to_string()
}

fn env<'a>(container: &'a Value, key: &str) -> Option<&'a str> {
    let entry = entries(container, "env").iter().find(|e| name(e) == key)?;
    text(entry, "value")
}

#[test]
fn the_sidecar_is_first_and_alone_with_its_secrets() {
    let pod = injected(&pod());
    let names: Vec<_> = entries(&pod["spec"], "initContainers")
        .iter()
        .map(name)
        .collect();
    assert_eq!(names, ["farepass", "fetch"]);
    let all = entries(&pod["spec"], "initContainers")
        .iter()
        .chain(entries(&pod["spec"], "containers"));
    for container in all.filter(|c| name(c) != NAME) {
        let mounts: Vec<_> = entries(container, "volumeMounts")
            .iter()
            .map(name)
            .collect();
        assert!(mounts.contains(&"farepass-ca"), "{mounts:?}");
        assert!(!mounts.iter().any(|m| parts::is_secret(m)), "{mounts:?}");
        let ca = entries(container, "volumeMounts")
            .iter()
            .find(|m| name(m) == "farepass-ca")
            .unwrap();
        assert_eq!(ca["readOnly"], true);
        assert_eq!(env(container, "HTTPS_PROXY"), Some("http://127.0.0.1:4020"));
    }
    let agent = &pod["spec"]["containers"][0];
    assert_eq!(
        env(agent, "NO_PROXY"),
        Some("corp.example,localhost,127.0.0.1,::1")
    );
    assert!(
        env(agent, "NODE_OPTIONS")
            .unwrap()
            .starts_with("--max-old-space-size=200 --require=")
    );
    let sidecar = &pod["spec"]["initContainers"][0];
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(env(sidecar, "FAREPASS_AGENT"), Some("research"));
    assert_eq!(pod["spec"]["securityContext"]["fsGroup"], 1337);
    assert_eq!(
        pod["metadata"]["annotations"]["farepass.dev/injected"],
        env!("CARGO_PKG_VERSION")
    );
}

#[test]
fn twice_is_once_and_out_again_is_as_before() {
    let mut bare = pod();
    bare["spec"]
        .as_object_mut()
        .unwrap()
        .remove("initContainers");
    bare["spec"].as_object_mut().unwrap().remove("volumes");
    bare.as_object_mut().unwrap().remove("metadata");
    for before in [pod(), bare] {
        for (mode, form) in [
            (Mode::Explicit, Form::Native),
            (Mode::Transparent, Form::Native),
            (Mode::Explicit, Form::Container),
        ] {
            let settings = Settings {
                mode,
                form,
                ..settings()
            };
            let once = inject(&before, &settings, None).unwrap().pod;
            assert_ne!(once, before);
            assert_eq!(inject(&once, &settings, None).unwrap().pod, once);
            assert_eq!(uninject(&once), before, "{mode:?} {form:?}");
        }
    }
}

#[test]
fn a_newer_image_takes_the_place_of_an_older() {
    let old = injected(&pod());
    let newer = Settings {
        image: "example/farepass:2".into(),
        ..settings()
    };
    let new = inject(&old, &newer, None).unwrap().pod;
    assert_eq!(
        new["spec"]["initContainers"][0]["image"],
        "example/farepass:2"
    );
    assert_eq!(entries(&new["spec"], "initContainers").len(), 2);
    let edits = patch(&old, &new);
    let [Edit::Replace { path, .. }] = &edits[..] else {
        panic!("{edits:?}")
    };
    assert_eq!(path, "/spec/initContainers/0/image");
}

#[test]
fn a_container_that_only_looks_like_the_sidecar_is_replaced() {
    let mut forged = pod();
    forged["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "farepass", "image": "evil" }));
    forged["metadata"]["annotations"] = json!({ "farepass.dev/injected": "9.9.9" });
    assert_eq!(injected(&forged), injected(&pod()));
}

/// It has a ledger and a configuration of its own: with ours in their place its budgets would start anew.
#[test]
fn a_sidecar_written_by_hand_is_not_replaced() {
    for list in ["initContainers", "containers"] {
        let mut written = pod();
        let containers = written["spec"][list].as_array_mut().unwrap();
        containers.push(json!({ "name": "farepass", "image": "example/farepass:1" }));
        let said = denied(&written, &settings());
        assert!(said.contains("farepass.dev/inject=by-hand"), "{said}");
    }
    let mut again = injected(&pod());
    assert_eq!(injected(&again), again, "it is asked a second time");
    let annotations = again["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.remove("farepass.dev/injected");
    assert!(denied(&again, &settings()).contains("by-hand"));
}

#[test]
fn a_proxy_that_was_there_becomes_the_sidecars_own() {
    let mut pod = pod();
    let corp = json!({ "name": "https_proxy", "value": "http://corp:3128" });
    pod["spec"]["containers"][0]["env"] = json!([{ "name": "A", "value": "b" }, corp]);
    let through = inject(&pod, &settings(), None).unwrap();
    let (sidecar, agent) = (
        &through.pod["spec"]["initContainers"][0],
        &through.pod["spec"]["containers"][0],
    );
    assert_eq!(env(sidecar, "HTTPS_PROXY"), Some("http://corp:3128"));
    assert_eq!(env(agent, "https_proxy"), Some("http://127.0.0.1:4020"));
    assert!(
        through
            .warnings
            .iter()
            .any(|w| w.contains("named another proxy"))
    );
    assert_eq!(injected(&through.pod), through.pod);
    assert_eq!(uninject(&through.pod), pod);
    pod["spec"]["initContainers"][0]["env"] =
        json!([{ "name": "HTTPS_PROXY", "value": "http://other:1" }]);
    assert!(denied(&pod, &settings()).contains("different proxies"));
}

#[test]
fn annotations_say_otherwise() {
    let mut asked = pod();
    asked["metadata"]["annotations"] = json!({
        "farepass.dev/agent": "writer", "farepass.dev/session": "team-7", "farepass.dev/budget": "0.5 USD",
        "farepass.dev/config": "own-config", "farepass.dev/wallet": "own-wallet", "farepass.dev/state-claim": "own-state",
        "farepass.dev/mode": "transparent", "other.example/x": "y",
    });
    let pod = injected(&asked);
    let sidecar = &pod["spec"]["initContainers"][1];
    assert_eq!(env(sidecar, "FAREPASS_AGENT"), Some("writer"));
    assert_eq!(env(sidecar, "FAREPASS_SESSION"), Some("team-7"));
    assert_eq!(env(sidecar, "FAREPASS_BUDGET"), Some("0.50 USD"));
    let volume = |of: &str| {
        entries(&pod["spec"], "volumes")
            .iter()
            .find(|v| name(v) == of)
            .unwrap()
            .clone()
    };
    assert_eq!(volume("farepass-config")["configMap"]["name"], "own-config");
    assert_eq!(
        volume("farepass-wallet")["secret"]["secretName"],
        "own-wallet"
    );
    assert_eq!(
        volume("farepass-state")["persistentVolumeClaim"]["claimName"],
        "own-state"
    );
    assert_eq!(uninject(&pod), asked);
    asked["metadata"]["annotations"]["farepass.dev/session"] = "owner".into();
    asked["metadata"]["labels"]["pod-template-hash"] = "6d4cf56db6".into();
    asked["metadata"]["ownerReferences"] =
        json!([{ "kind": "ReplicaSet", "name": "crew-6d4cf56db6", "controller": true }]);
    let owned = injected(&asked);
    assert_eq!(
        env(&owned["spec"]["initContainers"][1], "FAREPASS_SESSION"),
        Some("crew")
    );
}

#[test]
fn every_kind_of_workload_is_found_and_nothing_else() {
    let template = pod();
    let make = |version: &str, kind: &str| match kind {
        "Pod" => {
            let mut pod = template.clone();
            pod["apiVersion"] = version.into();
            pod["kind"] = kind.into();
            pod
        }
        "CronJob" => {
            json!({ "apiVersion": version, "kind": kind, "metadata": { "name": "w" }, "spec": { "jobTemplate": { "spec": { "template": template } } } })
        }
        _ => {
            json!({ "apiVersion": version, "kind": kind, "metadata": { "name": "w" }, "spec": { "template": template } })
        }
    };
    let add = |document: &mut Value, form| {
        each_pod(document, form, &mut |pod, owner| {
            *pod = inject(pod, &Settings { form, ..settings() }, owner)?.pod;
            Ok(())
        })
    };
    let kinds = [
        ("v1", "Pod"),
        ("apps/v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "DaemonSet"),
        ("batch/v1", "Job"),
        ("batch/v1", "CronJob"),
    ];
    for (version, kind) in kinds {
        let mut document = make(version, kind);
        assert_eq!(add(&mut document, Form::Native).unwrap(), 1, "{kind}");
        assert!(document.to_string().contains("farepass-wallet"), "{kind}");
    }
    let all: Vec<_> = kinds
        .iter()
        .map(|(version, kind)| make(version, kind))
        .collect();
    let mut list = json!({ "apiVersion": "v1", "kind": "List", "items": all });
    assert_eq!(add(&mut list, Form::Native).unwrap(), 6);
    for (version, kind) in [
        ("v1", "ConfigMap"),
        ("serving.example/v1", "Deployment"),
        ("v1", "Service"),
    ] {
        let mut other = make(version, kind);
        let before = other.clone();
        assert_eq!(add(&mut other, Form::Native).unwrap(), 0);
        assert_eq!(other, before);
    }
    let refused = add(&mut make("batch/v1", "Job"), Form::Container)
        .unwrap_err()
        .to_string();
    assert!(refused.starts_with("Job/w: a Job would wait"), "{refused}");
}

#[test]
fn the_sidecar_has_the_time_to_finish() {
    let with = |grace: Option<Value>| {
        let mut pod = pod();
        if let Some(grace) = grace {
            pod["spec"]["terminationGracePeriodSeconds"] = grace;
        }
        pod
    };
    for (before, after) in [
        (None, 75),
        (Some(json!(30)), 75),
        (Some(json!(0)), 75),
        (Some(json!(75)), 75),
        (Some(json!(600)), 600),
    ] {
        let pod = with(before);
        let mut done = injected(&pod);
        assert_eq!(done["spec"]["terminationGracePeriodSeconds"], after);
        assert_eq!(uninject(&done), pod, "as it was");
        // Somebody wants more, after the fact.
        done["spec"]["terminationGracePeriodSeconds"] = 90.into();
        let kept = &uninject(&done)["spec"]["terminationGracePeriodSeconds"];
        assert_eq!(*kept, 90);
    }
}
