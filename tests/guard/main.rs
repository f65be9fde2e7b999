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

/// The object, and what a policy calls things of it.
fn names(spec: &Value, pod: &Value) -> Names {
    let mut names = Names::from([("object".into(), pod.clone())]);
    names.insert("variables".into(), json!({}));
    for variable in list(spec, "variables") {
        let value = evaluate(text(variable, "expression"), &names);
        names.get_mut("variables").unwrap()[text(variable, "name")] = value;
    }
    names
}

/// What the guard says to it: a sentence for each refusal.
fn refusals(operation: &str, resource: &str, pod: &Value) -> Vec<String> {
    said("guard/guard.yaml", operation, resource, pod)
}

/// What a policy says to it.
fn said(file: &str, operation: &str, resource: &str, pod: &Value) -> Vec<String> {
    let spec = &document(file, 0)["spec"];
    if !concerns(spec, operation, resource, pod) {
        return vec![];
    }
    let names = names(spec, pod);
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
    inject(&bare(), &settings(mode), None).unwrap().pod
}

fn settings(mode: Mode) -> Settings {
    Settings {
        image: "registry.example/farepass:0.1.0".into(),
        redirect_image: Some("x/nft:1".into()),
        resolvers: vec![],
        config_map: "farepass-config".into(),
        wallet_secret: "farepass-wallet".into(),
        mode,
        form: Form::Native,
    }
}

/// A pod without one.
fn bare() -> Value {
    let own = json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    json!({
        "metadata": { "labels": { "app": "research" } },
        "spec": {
            "securityContext": { "runAsNonRoot": true, "runAsUser": 1000 },
            "initContainers": [{ "name": "fetch", "image": "x", "securityContext": own.clone() }],
            "containers": [{ "name": "agent", "image": "y", "securityContext": own }],
            "volumes": [{ "name": "tmp", "emptyDir": {} }],
        },
    })
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
    let wallet =
        "wallet and ledger, and whatever else the Farepass sidecar mounts, are for it only";
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

/// There lie the files of every pod, and among them the wallet's.
#[test]
fn no_container_beside_the_sidecar_sees_a_path_of_the_node() {
    let expected = "containers beside the Farepass sidecar mount no path of the node";
    let node = json!({ "name": "node", "hostPath": { "path": "/var/lib/kubelet/pods" } });
    let driven = json!({ "name": "node", "flexVolume": { "driver": "x/y" } });
    let mount = json!({ "name": "node", "mountPath": "/x", "readOnly": true });
    for volume in [node, driven] {
        let mut whole = pod(Mode::Transparent);
        let volumes = whole["spec"]["volumes"].as_array_mut().unwrap();
        volumes.push(volume.clone());
        let gets = |list: &str, index: usize| {
            let mut pod = whole.clone();
            pod["spec"][list][index]["volumeMounts"] = json!([mount]);
            made(&pod)
        };
        // The redirection, the sidecar, the others.
        for (list, index) in [
            ("initContainers", 0),
            ("initContainers", 2),
            ("containers", 0),
        ] {
            assert_eq!(gets(list, index), [expected], "{list} {index} {volume}");
        }
        let none: Vec<String> = vec![];
        assert_eq!(gets("initContainers", 1), none, "it has every key already");
        let mut guest = whole["spec"]["containers"][0].clone();
        guest["name"] = "debug".into();
        guest["volumeMounts"] = json!([mount]);
        guest["securityContext"]["runAsUser"] = 1000.into();
        let running = with(&whole, "/spec/ephemeralContainers", json!([guest]));
        assert_eq!(refusals("UPDATE", DEBUG, &running), [expected], "{volume}");
    }
}

/// Which namespaces a policy is for, by their label.
fn namespaces(file: &str) -> Vec<String> {
    let selector = document(file, 0)["spec"]["matchConstraints"]["namespaceSelector"].clone();
    let label = "farepass.dev/inject";
    if let Some(value) = selector["matchLabels"][label].as_str() {
        return vec![value.to_owned()];
    }
    let [all] = list(&selector, "matchExpressions") else {
        panic!("{selector}")
    };
    assert_eq!(
        (&all["key"], &all["operator"]),
        (&json!(label), &json!("In"))
    );
    let values = list(all, "values").iter();
    values
        .map(|value| value.as_str().unwrap().to_owned())
        .collect()
}

/// A webhook beside pods written by hand refuses them: nothing is put into these, and what they are is judged.
#[test]
fn pods_written_by_hand_are_judged_and_nothing_is_put_in() {
    let both = ["enabled", "by-hand"];
    assert_eq!(namespaces("guard/guard.yaml"), both);
    assert_eq!(namespaces("policy/annotations.yaml"), both);
    assert_eq!(namespaces("policy/policy.yaml"), ["enabled"]);
    let base = document("base/namespace.yaml", 0);
    // An apply would overwrite what the namespace was labelled with.
    assert!(base["metadata"]["labels"]["farepass.dev/inject"].is_null());
    for file in ["base/agent.yaml", "fleet/agent.yaml"] {
        let template = document(file, 0)["spec"]["template"].clone();
        let said = inject(&template, &settings(Mode::Explicit), None).unwrap_err();
        assert!(said.to_string().contains("by-hand"), "{file}: {said}");
        let put_in = &document("policy/policy.yaml", 0)["spec"];
        assert!(!concerns(put_in, "CREATE", "pods", &template), "{file}");
        let judged = said_of_annotations(&template);
        assert_eq!(judged, Vec::<String>::new(), "{file}");
    }
}

fn said_of_annotations(pod: &Value) -> Vec<String> {
    said("policy/annotations.yaml", "CREATE", "pods", pod)
}

/// The base keeps its ledger on a claim and the fleet has a Secret for its database, by names of their own.
#[test]
fn whatever_the_sidecar_mounts_is_its_own() {
    let expected =
        "wallet and ledger, and whatever else the Farepass sidecar mounts, are for it only";
    let mut base = document("base/agent.yaml", 0)["spec"]["template"].clone();
    let volumes = base["spec"]["volumes"].as_array_mut().unwrap();
    // The controller of StatefulSets adds the claim, the account's admission its token.
    volumes.push(
        json!({ "name": "state", "persistentVolumeClaim": { "claimName": "state-agent-0" } }),
    );
    volumes.push(json!({ "name": "token", "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }] } }));
    let token =
        json!({ "name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" });
    let sidecar = base["spec"]["initContainers"][0]["volumeMounts"].as_array_mut();
    sidecar.unwrap().push(token);
    let fleet = document("fleet/agent.yaml", 0)["spec"]["template"].clone();
    let gets = |pod: &Value, volume: &str, source: Value| {
        let mut pod = pod.clone();
        if !source.is_null() {
            pod["spec"]["volumes"].as_array_mut().unwrap().push(source);
        }
        let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array_mut();
        mounts
            .unwrap()
            .push(json!({ "name": volume, "mountPath": "/x" }));
        made(&pod)
    };
    let claim =
        json!({ "name": "more", "persistentVolumeClaim": { "claimName": "state-agent-0" } });
    let secret = |name: &str| json!({ "name": "more", "secret": { "secretName": name } });
    let part = json!({ "name": "more", "projected": { "sources": [{ "secret": { "name": "farepass-database" } }] } });
    let class = |name: &str| json!({ "name": name, "csi": { "driver": "secrets-store.csi.k8s.io", "volumeAttributes": { "secretProviderClass": "vault" } } });
    let published = json!({ "name": "more", "csi": { "driver": "d", "nodePublishSecretRef": { "name": "farepass-wallet" } } });
    let mut kept = base.clone();
    kept["spec"]["volumes"]
        .as_array_mut()
        .unwrap()
        .push(class("vault"));
    let sidecar = kept["spec"]["initContainers"][0]["volumeMounts"].as_array_mut();
    let mount = json!({ "name": "vault", "mountPath": "/run/farepass/vault" });
    sidecar.unwrap().push(mount);
    for (pod, volume, source) in [
        (&kept, "vault", json!(null)),
        (&kept, "more", class("more")),
        (&base, "more", published),
        (&base, "state", json!(null)),
        (&base, "wallet", json!(null)),
        (&base, "config", json!(null)),
        (&base, "more", claim),
        (&fleet, "database", json!(null)),
        (&fleet, "more", secret("farepass-database")),
        (&fleet, "more", part),
    ] {
        let said = gets(pod, volume, source.clone());
        assert_eq!(said, [expected], "{volume} {source}");
    }
    let none: Vec<String> = vec![];
    assert_eq!(gets(&base, "token", json!(null)), none);
    let readable = "the certificates of the Farepass sidecar are mounted readOnly";
    assert_eq!(gets(&base, "ca", json!(null)), [readable], "it could write");
    assert_eq!(gets(&fleet, "more", secret("another")), none);
    let mut from = fleet;
    from["spec"]["containers"][0]["envFrom"] =
        json!([{ "secretRef": { "name": "farepass-database" } }]);
    assert_eq!(made(&from), [expected]);
}

/// The sidecar that the API server itself puts in.
fn put_in(pod: &Value) -> Value {
    let spec = &document("policy/policy.yaml", 0)["spec"];
    let mutation = &list(spec, "mutations")[0]["jsonPatch"];
    let patch = evaluate(text(mutation, "expression"), &names(spec, pod));
    let first = list(&json!({ "all": patch }), "all")
        .iter()
        .find(|edit| edit["path"] == "/spec/initContainers/0")
        .map(|edit| edit["value"].clone());
    first.unwrap()
}

#[test]
fn the_api_server_puts_in_what_the_filter_does() {
    let settings = settings(Mode::Explicit);
    let mut owned = bare();
    owned["metadata"]["labels"] =
        json!({ "pod-template-hash": "6d4cf56db6", "app.kubernetes.io/name": "n", "app": "m" });
    owned["metadata"]["ownerReferences"] = json!([
        { "kind": "Other", "name": "other" },
        { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "crew-6d4cf56db6", "controller": true },
    ]);
    let timed = |version: &str, name: &str| {
        let mut pod = bare();
        pod["metadata"]["annotations"] = json!({ "farepass.dev/session": "owner" });
        pod["metadata"]["ownerReferences"] =
            json!([{ "apiVersion": version, "kind": "Job", "name": name, "controller": true }]);
        pod
    };
    let mut job = owned.clone();
    job["metadata"]["labels"] = json!({});
    let annotated = |pod: &Value, annotations: Value| {
        let mut pod = pod.clone();
        pod["metadata"]["annotations"] = annotations;
        pod
    };
    let limits = json!({ "farepass.dev/budget": "0.50 USD", "farepass.dev/session": "team-7", "farepass.dev/agent": "writer" });
    let owner = json!({ "farepass.dev/session": "owner" });
    for pod in [
        bare(),
        owned.clone(),
        job.clone(),
        annotated(&bare(), limits),
        annotated(&bare(), json!({ "farepass.dev/session": "pod" })),
        annotated(&owned, owner.clone()),
        annotated(&job, owner),
        timed("batch/v1", "nightly-29394000"),
        timed("batch/v1", "nightly-2939400"),
        timed("batch/v1", "29394000"),
        timed("jobs.example/v1", "nightly-29394000"),
    ] {
        let injected = inject(&pod, &settings, None).unwrap().pod;
        let mut filters = injected["spec"]["initContainers"][0].clone();
        let mut servers = put_in(&pod);
        for sidecar in [&mut filters, &mut servers] {
            let env = sidecar["env"].as_array_mut().unwrap();
            env.sort_by_key(|entry| text(entry, "name").to_owned());
        }
        assert_eq!(servers, filters, "{}", pod["metadata"]);
    }
}

#[test]
fn an_annotation_that_the_sidecar_does_not_follow_is_refused() {
    let judged = said_of_annotations;
    let mut all = vec![];
    for (key, value, expected) in [
        ("inject", "enabled", ""),
        ("mode", "explicit", ""),
        ("agent", "writer", ""),
        ("session", "team-7", ""),
        ("session", "pod", ""),
        ("budget", "0.50 USD", ""),
        ("mode", "transparent", "mode can only be explicit"),
        ("config", "own", "config is not followed"),
        ("wallet", "own", "wallet is not followed"),
        ("state-claim", "own", "state-claim is not followed"),
        ("session", "owner", "nothing owns this pod"),
        ("bugdet", "1 USD", "no such annotation"),
    ] {
        let key = format!("farepass.dev/{key}");
        let mut pod = bare();
        pod["metadata"]["annotations"] = json!({ key.clone(): value, "other.example/x": "y" });
        let mut servers = pod.clone();
        servers["spec"]["initContainers"] = json!([put_in(&pod)]);
        let volumes = self::pod(Mode::Explicit)["spec"]["volumes"].clone();
        servers["spec"]["volumes"] = volumes;
        let refused = judged(&servers);
        match expected.is_empty() {
            true => assert_eq!(refused, Vec::<String>::new(), "{key}: {value}"),
            false => assert!(
                refused.len() == 1 && refused[0].contains(expected),
                "{key}: {value}: {refused:?}"
            ),
        }
        // The filter follows them all, and refuses what is none.
        if let Ok(injected) = inject(&pod, &settings(Mode::Explicit), None) {
            assert_eq!(
                judged(&injected.pod),
                Vec::<String>::new(),
                "{key}: {value}"
            );
            all.push(key);
        }
    }
    assert_eq!(all.len(), 10, "{all:?}");
    let mut lost = pod(Mode::Explicit);
    lost["metadata"]["annotations"]["farepass.dev/budget"] = "1 USD".into();
    assert!(judged(&lost)[0].contains("budget did not reach"));
    lost["metadata"]["annotations"]["farepass.dev/inject"] = "disabled".into();
    assert_eq!(judged(&lost), Vec::<String>::new());
}
