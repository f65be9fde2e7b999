//! The admission policies of `deploy/k8s`, their expressions evaluated over pods: what they let through,
//! what they refuse, and with which sentence. Only an API server compiles them for good.
#![cfg(test)]

use std::path::Path;

use farepass::sidecar::{Form, Mode, Settings, inject};
use serde::Deserialize as _;
use serde_json::{Value, json};

mod cel;

use cel::{Names, evaluate};

fn document(file: &str, index: usize) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/k8s");
    let text = std::fs::read_to_string(path.join(file)).unwrap();
    let mut all = serde_yaml::Deserializer::from_str(&text);
    Value::deserialize(all.nth(index).unwrap()).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

/// Does the policy look at this at all?
fn concerns(spec: &Value, operation: &str, resource: &str, pod: &Value) -> bool {
    let rules = list(&spec["matchConstraints"], "resourceRules");
    let names = Names::from([
        ("object".into(), pod.clone()),
        ("request".into(), json!({ "operation": operation })),
    ]);
    rules.iter().any(|rule| {
        list(rule, "operations").contains(&operation.into())
            && list(rule, "resources").contains(&resource.into())
    }) && list(spec, "matchConditions")
        .iter()
        .all(|c| evaluate(text(c, "expression"), &names) == true)
}

/// What the guard says to it: a sentence for each refusal.
fn refusals(operation: &str, resource: &str, pod: &Value) -> Vec<String> {
    let spec = &document("guard/guard.yaml", 0)["spec"];
    if !concerns(spec, operation, resource, pod) {
        return vec![];
    }
    let mut names = Names::from([("object".into(), pod.clone())]);
    names.insert("variables".into(), json!({}));
    for variable in list(spec, "variables") {
        let value = evaluate(text(variable, "expression"), &names);
        names.get_mut("variables").unwrap()[text(variable, "name")] = value;
    }
    let failed = list(spec, "validations").iter();
    failed
        .filter(|v| evaluate(text(v, "expression"), &names) == false)
        .map(|v| text(v, "message").to_owned())
        .collect()
}

fn made(pod: &Value) -> Vec<String> {
    refusals("CREATE", "pods", pod)
}

const DEBUG: &str = "pods/ephemeralcontainers";

/// A pod with its sidecar, and no fault.
fn pod(mode: Mode) -> Value {
    let settings = Settings {
        image: "x/farepass:1".into(),
        redirect_image: Some("x/nft:1".into()),
        resolvers: vec![],
        config_map: "farepass-config".into(),
        wallet_secret: "farepass-wallet".into(),
        mode,
        form: Form::Native,
    };
    let own = json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    let bare = json!({
        "metadata": { "labels": { "app": "research" } },
        "spec": {
            "securityContext": { "runAsNonRoot": true, "runAsUser": 1000 },
            "initContainers": [{ "name": "fetch", "image": "x", "securityContext": own.clone() }],
            "containers": [{ "name": "agent", "image": "y", "securityContext": own }],
            "volumes": [{ "name": "tmp", "emptyDir": {} }],
        },
    });
    inject(&bare, &settings, None).unwrap().pod
}

/// A change of a pod at a pointer; objects and list entries on the way are there.
fn with(pod: &Value, at: &str, value: Value) -> Value {
    let mut pod = pod.clone();
    let (parent, key) = at.rsplit_once('/').unwrap();
    pod.pointer_mut(parent).unwrap()[key] = value;
    pod
}

#[test]
fn pods_as_they_are_shipped_and_injected_are_let_through() {
    let none: Vec<String> = vec![];
    for mode in [Mode::Explicit, Mode::Transparent] {
        assert_eq!(made(&pod(mode)), none, "{mode:?}");
    }
    for file in ["base/agent.yaml", "fleet/agent.yaml"] {
        let template = document(file, 0)["spec"]["template"].clone();
        assert_eq!(made(&template), none, "{file}");
    }
    // The patch puts its container in front.
    let mut led = document("base/agent.yaml", 0)["spec"]["template"].clone();
    let patch = document("transparent/pod.yaml", 0)["spec"]["template"]["spec"].clone();
    let front = list(&patch, "initContainers").iter();
    let all = front.chain(list(&led["spec"], "initContainers"));
    led["spec"]["initContainers"] = all.cloned().collect();
    let volumes = list(&led["spec"], "volumes").iter();
    led["spec"]["volumes"] = volumes.chain(list(&patch, "volumes")).cloned().collect();
    assert_eq!(made(&led), none, "transparent");
}

#[test]
fn a_pod_from_before_the_label_goes_its_way() {
    let older = json!({ "metadata": { "name": "j" }, "spec": { "containers": [{ "name": "a" }] } });
    assert_eq!(made(&older).len(), 2, "{:?}", made(&older));
    for resource in ["pods", "pods/status", DEBUG] {
        let said = refusals("UPDATE", resource, &older);
        assert!(said.is_empty(), "{resource}: {said:?}");
    }
    // In a pod with a sidecar a guest is looked at, whatever the pod says of itself since.
    let guest = json!([{ "name": "debug", "targetContainerName": "farepass" }]);
    let mut watched = with(&pod(Mode::Explicit), "/spec/ephemeralContainers", guest);
    watched["metadata"]["annotations"]["farepass.dev/inject"] = "disabled".into();
    assert_eq!(refusals("UPDATE", "pods", &watched), Vec::<String>::new());
    let said = refusals("UPDATE", DEBUG, &watched).join("\n");
    assert!(said.contains("no debugging container may see"), "{said}");
}

#[test]
fn opting_out_is_read_from_labels_as_from_annotations() {
    let bare = json!({ "metadata": {}, "spec": { "containers": [{ "name": "a" }] } });
    let inject = &document("policy/policy.yaml", 0)["spec"];
    assert!(!made(&bare).is_empty() && concerns(inject, "CREATE", "pods", &bare));
    for place in ["annotations", "labels"] {
        for (word, out) in [("disabled", true), ("false", true), ("enabled", false)] {
            let mut pod = bare.clone();
            pod["metadata"][place] = json!({ "farepass.dev/inject": word });
            assert_eq!(made(&pod).is_empty(), out, "{place} {word}");
            let wanted = concerns(inject, "CREATE", "pods", &pod);
            assert_eq!(wanted, !out, "{place} {word}");
            assert_eq!(farepass::sidecar::is_opted_out(&pod), out, "{place} {word}");
        }
    }
}

#[test]
fn the_name_of_the_redirection_buys_nothing_else() {
    let fine = pod(Mode::Transparent);
    let first = "/spec/initContainers/0";
    assert_eq!(fine.pointer(first).unwrap()["name"], "farepass-redirect");
    let secret = |name: &str| json!([{ "name": "k", "secret": { "secretName": name } }]);
    let mut named = with(&fine, "/spec/volumes", secret("another"));
    named["metadata"]["annotations"]["farepass.dev/wallet"] = "another".into();
    let mounts = json!([{ "name": "k", "mountPath": "/k" }]);
    let env = json!([{ "name": "K", "valueFrom": { "secretKeyRef": { "name": "farepass-wallet", "key": "k" } } }]);
    let from = json!([{ "secretRef": { "name": "farepass-wallet" } }]);
    let add = json!({ "drop": ["ALL"], "add": ["NET_ADMIN", "SYS_PTRACE"] });
    let wallet = "wallet and ledger may be mounted by the Farepass sidecar only";
    let rights = "the container farepass-redirect is unprivileged";
    let taken = with(&fine, "/spec/volumes", secret("farepass-wallet"));
    for (pod, at, value, expected) in [
        (&taken, "volumeMounts", mounts.clone(), wallet),
        (&named, "volumeMounts", mounts, wallet),
        (&fine, "env", env, wallet),
        (&fine, "envFrom", from, wallet),
        (&fine, "securityContext/privileged", json!(true), rights),
        (&fine, "securityContext/capabilities", add, rights),
        (&fine, "restartPolicy", json!("Always"), rights),
        (
            &fine,
            "securityContext/runAsUser",
            json!(1337),
            "only the Farepass sidecar may run as user 1337",
        ),
    ] {
        let said = made(&with(pod, &format!("{first}/{at}"), value.clone()));
        assert!(
            said.len() == 1 && said[0].contains(expected),
            "{at} {value}: {said:?}"
        );
    }
    // The agent's own container is nobody else by that name.
    let mut agent = with(&fine, "/spec/containers/0/name", "farepass-redirect".into());
    agent["spec"]["containers"][0]["securityContext"]["runAsUser"] = 0.into();
    assert!(!made(&agent).is_empty());
}

#[test]
fn behind_a_redirection_everybody_has_a_user_and_keeps_it() {
    let expected = "behind a redirection each container names a runAsUser";
    for (list, index) in [("initContainers", 2), ("containers", 0)] {
        let own = format!("/spec/{list}/{index}/securityContext");
        let led = with(
            &pod(Mode::Transparent),
            "/spec/securityContext/runAsUser",
            Value::Null,
        );
        let led = with(&led, &format!("{own}/runAsUser"), 1000.into());
        let others = made(&led);
        assert_eq!(others.len(), 1, "the other one names none: {others:?}");
        let whole = pod(Mode::Transparent);
        for (key, value) in [
            ("allowPrivilegeEscalation", json!(null)),
            ("allowPrivilegeEscalation", json!(true)),
            ("runAsUser", json!(0)),
            ("runAsUser", json!(1337)),
        ] {
            let said = made(&with(&whole, &format!("{own}/{key}"), value.clone()));
            assert!(
                said.iter().any(|s| s.contains(expected)),
                "{key} {value}: {said:?}"
            );
        }
        // Beside variables there is no redirection to go around.
        let lax = with(
            &pod(Mode::Explicit),
            "/spec/securityContext/runAsUser",
            Value::Null,
        );
        assert_eq!(made(&lax), Vec::<String>::new());
    }
    let guest = json!([{ "name": "debug", "securityContext": {
        "runAsNonRoot": true, "runAsUser": 1000, "capabilities": { "drop": ["ALL"] },
    } }]);
    let led = with(&pod(Mode::Transparent), "/spec/ephemeralContainers", guest);
    let said = refusals("UPDATE", DEBUG, &led);
    assert!(said.len() == 1 && said[0].contains(expected), "{said:?}");
}
