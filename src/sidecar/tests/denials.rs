//! Pods that get no sidecar, and pods whose author is told something.

use serde_json::{Value, json};

use super::super::*;
use super::{denied, pod, settings};

#[test]
fn nothing_that_gets_around_it_is_injected() {
    let change = |at: &str, value: Value| {
        let mut pod = pod();
        let (parent, key) = at.rsplit_once('/').unwrap();
        match pod.pointer_mut(parent).unwrap() {
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
            other => other[key] = value,
        }
        pod
    };
    let agent = "/spec/containers/0";
    let cases = [
        ("/spec/hostNetwork".to_owned(), json!(true), "hostNetwork"),
        ("/spec/hostPID".to_owned(), json!(true), "hostPID"),
        ("/spec/hostIPC".to_owned(), json!(true), "hostIPC"),
        (
            "/spec/shareProcessNamespace".to_owned(),
            json!(true),
            "shareProcessNamespace",
        ),
        (
            "/spec/securityContext/runAsUser".to_owned(),
            json!(1337),
            "runs as user 1337",
        ),
        (
            format!("{agent}/securityContext/runAsUser"),
            json!(1337),
            "runs as user 1337",
        ),
        (
            format!("{agent}/securityContext/privileged"),
            json!(true),
            "is privileged",
        ),
        (
            format!("{agent}/securityContext/capabilities"),
            json!({ "add": ["CAP_SYS_PTRACE"] }),
            "SYS_PTRACE",
        ),
        (
            format!("{agent}/ports"),
            json!([{ "containerPort": 4020 }]),
            "port 4020",
        ),
        (
            format!("{agent}/volumeMounts"),
            json!([{ "name": "tmp", "mountPath": "/run/farepass/ca" }]),
            "where the certificates go",
        ),
        (
            format!("{agent}/env"),
            json!([{ "name": "K", "valueFrom": { "secretKeyRef": { "name": "farepass-wallet", "key": "wallet.key" } } }]),
            "farepass-wallet",
        ),
        (
            format!("{agent}/envFrom"),
            json!([{ "secretRef": { "name": "farepass-wallet" } }]),
            "farepass-wallet",
        ),
        (
            "/spec/volumes/0".to_owned(),
            json!({ "name": "tmp", "secret": { "secretName": "farepass-wallet" } }),
            "the sidecar's alone",
        ),
        (
            "/spec/volumes/0".to_owned(),
            json!({ "name": "tmp", "projected": { "sources": [{ "secret": { "name": "farepass-wallet" } }] } }),
            "the sidecar's alone",
        ),
        (
            "/metadata/annotations".to_owned(),
            json!({ "farepass.dev/bugdet": "1 USD" }),
            "did you mean farepass.dev/budget",
        ),
        (
            "/metadata/annotations".to_owned(),
            json!({ "farepass.dev/budget": "much" }),
            "0.50 USD",
        ),
        (
            "/metadata/annotations".to_owned(),
            json!({ "farepass.dev/session": "owner" }),
            "nothing owns this pod",
        ),
        (
            "/metadata/annotations".to_owned(),
            json!({ "farepass.dev/agent": "a:b" }),
            "farepass.dev/agent",
        ),
        ("/spec/containers".to_owned(), json!([]), "no containers"),
        ("/spec/containers".to_owned(), json!(["x"]), "no container"),
    ];
    for (at, value, expected) in cases {
        let said = denied(&change(&at, value.clone()), &settings());
        assert!(said.contains(expected), "{at} = {value}: {said}");
    }
    for nothing in [json!(null), json!([]), json!({}), json!({ "spec": 1 })] {
        assert!(inject(&nothing, &settings(), None).is_err(), "{nothing}");
    }
}

#[test]
fn root_is_told_beside_variables_and_refused_behind_a_redirection() {
    let mut root = pod();
    root["spec"]["securityContext"] = json!({ "runAsUser": 0 });
    let warned = inject(&root, &settings(), None).unwrap().warnings;
    assert!(
        warned.iter().any(|w| w.contains("may run as root")),
        "{warned:?}"
    );
    let transparent = Settings {
        mode: Mode::Transparent,
        ..settings()
    };
    assert!(denied(&root, &transparent).contains("go around the redirection"));
    let mut able = pod();
    able["spec"]["containers"][0]["securityContext"] = json!({});
    assert!(denied(&able, &transparent).contains("drop ALL"));
    let names: Vec<String> = entries(
        &inject(&pod(), &transparent, None).unwrap().pod["spec"],
        "initContainers",
    )
    .iter()
    .map(|c| name(c).to_owned())
    .collect();
    assert_eq!(names, ["farepass-redirect", "farepass", "fetch"]);
    let without = Settings {
        redirect_image: None,
        ..transparent
    };
    assert!(denied(&pod(), &without).contains("--redirect-image"));
}
