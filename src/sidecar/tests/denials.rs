//! Pods that get no sidecar, and pods whose author is told something.

use serde_json::{Value, json};

use super::super::tree::entries;
use super::super::*;
use super::{denied, pod, secured, settings};

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
            "/spec/volumes/0".to_owned(),
            json!({ "name": "tmp", "csi": { "driver": "d", "nodePublishSecretRef": { "name": "farepass-wallet" } } }),
            "the sidecar's alone",
        ),
        (
            "/spec/volumes/0".to_owned(),
            json!({ "name": "tmp", "hostPath": { "path": "/var/lib/kubelet/pods" } }),
            "container `agent` mounts volume `tmp`, a path of the node (hostPath)",
        ),
        (
            "/spec/volumes/0".to_owned(),
            json!({ "name": "tmp", "flexVolume": { "driver": "d" } }),
            "(flexVolume)",
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

/// The redirection lets the sidecar's user out: nobody else may be it, not by an image's `USER` and not by
/// a set-uid program.
#[test]
fn behind_a_redirection_everybody_has_a_user_and_keeps_it() {
    let transparent = Settings {
        mode: Mode::Transparent,
        ..settings()
    };
    for list in ["initContainers", "containers"] {
        let with = |context: Value| {
            let mut pod = pod();
            pod["spec"]["securityContext"] = json!({});
            for list in ["initContainers", "containers"] {
                let mut own = secured();
                own["runAsUser"] = 1000.into();
                own["runAsNonRoot"] = true.into();
                pod["spec"][list][0]["securityContext"] = own;
            }
            let own = &mut pod["spec"][list][0]["securityContext"];
            for (key, value) in context.as_object().unwrap() {
                own[key] = value.clone();
            }
            pod
        };
        assert!(inject(&with(json!({})), &transparent, None).is_ok());
        for (context, expected) in [
            (json!({ "runAsUser": null }), "no securityContext.runAsUser"),
            (json!({ "runAsUser": 1337 }), "runs as user 1337"),
            (json!({ "runAsUser": 0 }), "go around the redirection"),
            (
                json!({ "allowPrivilegeEscalation": null }),
                "lacks securityContext.allowPrivilegeEscalation: false",
            ),
            (
                json!({ "allowPrivilegeEscalation": true }),
                "lacks securityContext.allowPrivilegeEscalation: false",
            ),
        ] {
            let said = denied(&with(context.clone()), &transparent);
            assert!(said.contains(expected), "{list} {context}: {said}");
        }
        // The pod may name the user for all.
        let mut whole = with(json!({ "runAsUser": null }));
        whole["spec"]["securityContext"]["runAsUser"] = 1000.into();
        assert!(inject(&whole, &transparent, None).is_ok());
        whole["spec"]["securityContext"]["runAsUser"] = 1337.into();
        assert!(denied(&whole, &transparent).contains("runs as user 1337"));
        // Beside variables nothing is lost by it: there is no redirection to go around.
        let lax = with(json!({ "runAsUser": null, "allowPrivilegeEscalation": null }));
        assert!(inject(&lax, &settings(), None).is_ok());
    }
}

#[test]
fn a_debugging_container_behind_a_redirection_has_a_user_and_keeps_it() {
    let transparent = Settings {
        mode: Mode::Transparent,
        ..settings()
    };
    let allowed = |settings: &Settings, context: Value| {
        let mut pod = inject(&pod(), settings, None).unwrap().pod;
        pod["spec"]["securityContext"] = json!({ "runAsNonRoot": true });
        pod["spec"]["ephemeralContainers"] =
            json!([{ "name": "debug", "image": "x", "securityContext": context }]);
        let review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "1",
                "kind": { "group": "", "version": "v1", "kind": "Pod" },
                "subResource": "ephemeralcontainers",
                "operation": "UPDATE",
                "object": pod,
            },
        });
        let answer = answer(review.to_string().as_bytes(), settings, None);
        answer.body["response"]["allowed"] == true
    };
    let mut kept = secured();
    assert!(allowed(&settings(), kept.clone()));
    assert!(!allowed(&transparent, kept.clone()), "the image's user");
    kept["runAsUser"] = 1000.into();
    assert!(allowed(&transparent, kept.clone()));
    kept["allowPrivilegeEscalation"] = true.into();
    assert!(allowed(&settings(), kept.clone()));
    assert!(!allowed(&transparent, kept), "a set-uid program");
}

/// Port 53 is a way out wherever it leads to: it leads to where resolvers are, and `deploy/k8s` agrees.
#[test]
fn the_rules_are_those_of_the_manifest() {
    let written = |resolvers: &[&str]| {
        let settings = Settings {
            mode: Mode::Transparent,
            resolvers: resolvers.iter().map(|r| r.parse().unwrap()).collect(),
            ..settings()
        };
        let pod = inject(&pod(), &settings, None).unwrap().pod;
        let rules = pod["spec"]["initContainers"][0]["command"][1].as_str();
        rules.unwrap().to_owned()
    };
    let words = |text: &str| {
        let plain = text.lines().filter(|l| !l.trim_start().starts_with('#'));
        let plain: Vec<_> = plain.collect();
        let words = plain.join(" ").replace(';', " ");
        let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
        words.join(" ")
    };
    let manifest = include_str!("../../../deploy/k8s/transparent/redirect.nft");
    assert_eq!(words(&written(&[])), words(manifest));
    let more = written(&["192.0.2.53", "2001:db8::/64"]);
    for rule in [
        "accept; ip daddr 192.0.2.53/32 meta l4proto { tcp, udp } th dport 53 accept;",
        "accept; ip6 daddr 2001:db8::/64 meta l4proto { tcp, udp } th dport 53 accept;",
    ] {
        assert!(more.contains(rule), "{more}");
    }
    for line in manifest.lines().filter(|line| line.contains("dport 53")) {
        assert!(line.trim_start().starts_with("ip"), "to anybody: {line}");
    }
}
