//! Proxies that containers named themselves, and the group of their volumes.

use serde_json::{Value, json};

use super::super::tree::entries;
use super::super::*;
use super::{denied, done, env, injected, pod, settings};

/// The sidecar and the agent of a pod whose agent has these variables.
fn with(list: &Value) -> (Value, Value) {
    let mut before = pod();
    before["spec"]["containers"][0]["env"] = list.clone();
    let after = injected(&before);
    assert_eq!(uninject(&after), before, "out again");
    assert_eq!(injected(&after), after, "twice is once");
    let spec = &after["spec"];
    (
        spec["initContainers"][0].clone(),
        spec["containers"][0].clone(),
    )
}

/// What a program finds: of two entries the last.
fn found<'a>(container: &'a Value, key: &str) -> Option<&'a str> {
    let entry = entries(container, "env").iter().rfind(|e| name(e) == key)?;
    text(entry, "value")
}

#[test]
fn of_two_entries_the_last_counts_and_both_are_replaced() {
    let (sidecar, agent) = with(&json!([
        { "name": "HTTPS_PROXY", "value": "http://one:1" },
        { "name": "NO_PROXY", "value": "first.example" },
        { "name": "HTTPS_PROXY", "value": "http://two:2" },
        { "name": "NO_PROXY", "value": "last.example" },
    ]));
    assert_eq!(env(&sidecar, "HTTPS_PROXY"), Some("http://two:2"));
    assert_eq!(env(&sidecar, "NO_PROXY"), Some("last.example"));
    assert_eq!(found(&agent, "HTTPS_PROXY"), Some("http://127.0.0.1:4020"));
    let direct = found(&agent, "NO_PROXY");
    assert_eq!(direct, Some("last.example,localhost,127.0.0.1,::1"));
}

#[test]
fn what_was_reached_without_the_proxy_goes_along_with_it() {
    let corp = json!({ "name": "HTTPS_PROXY", "value": "http://corp:3128" });
    let (sidecar, _) = with(&json!([corp, { "name": "no_proxy", "value": "intranet.example" }]));
    assert_eq!(env(&sidecar, "NO_PROXY"), Some("intranet.example"));
    let (sidecar, _) = with(&json!([{ "name": "NO_PROXY", "value": "intranet.example" }]));
    assert_eq!(env(&sidecar, "NO_PROXY"), None, "there is no proxy");
    let mut other = pod();
    other["spec"]["containers"][0]["env"] = json!([corp, { "name": "NO_PROXY", "value": "a" }]);
    other["spec"]["initContainers"][0]["env"] = json!([corp]);
    let sidecar = injected(&other)["spec"]["initContainers"][0].clone();
    assert_eq!(env(&sidecar, "NO_PROXY"), Some("a"), "one of them says it");
    other["spec"]["initContainers"][0]["env"] = json!([corp, { "name": "NO_PROXY", "value": "b" }]);
    assert!(denied(&other, &settings()).contains("different proxies (NO_PROXY)"));
}

#[test]
fn a_proxy_that_refers_to_other_variables_is_refused() {
    let proxy = |value: &str| {
        let mut pod = pod();
        pod["spec"]["containers"][0]["env"] = json!([
            { "name": "PASS", "valueFrom": { "secretKeyRef": { "name": "corp", "key": "password" } } },
            { "name": "HTTPS_PROXY", "value": value },
        ]);
        inject(&pod, &settings(), None)
    };
    for refers in ["http://me:$(PASS)@corp:3128", "http://me:$$$(PASS)@corp"] {
        let said = proxy(refers).unwrap_err().to_string();
        assert!(
            said.contains("`agent`: HTTPS_PROXY goes to the sidecar"),
            "{refers}: {said}"
        );
    }
    // Two dollar signs are one, also for the sidecar.
    assert!(proxy("http://me:$$(PASS)@corp:3128").is_ok());
    let whole = json!({ "secretKeyRef": { "name": "corp", "key": "url" } });
    let (sidecar, _) = with(&json!([{ "name": "HTTPS_PROXY", "valueFrom": whole }]));
    let env = entries(&sidecar, "env").iter();
    let given = env.clone().find(|e| name(e) == "HTTPS_PROXY").unwrap();
    assert_eq!(given["valueFrom"], whole);
}

/// Not `null`, which is what is not there: the sidecar could not read its Secret.
#[test]
fn a_group_that_is_null_is_none() {
    for context in [
        json!({ "fsGroup": null, "runAsNonRoot": true }),
        json!({ "fsGroup": null, "fsGroupChangePolicy": null, "runAsNonRoot": true }),
    ] {
        let mut pod = pod();
        pod["spec"]["securityContext"] = context;
        let given = &injected(&pod)["spec"]["securityContext"];
        assert_eq!(given["fsGroup"], 1337);
        assert_eq!(given["fsGroupChangePolicy"], "OnRootMismatch");
    }
    let mut pod = pod();
    pod["spec"]["securityContext"]["fsGroup"] = 2000.into();
    let given = &injected(&pod)["spec"]["securityContext"];
    assert_eq!(given["fsGroup"], 2000);
    assert_eq!(given.get("fsGroupChangePolicy"), None);
}

/// The kubelet gives a volume to the group whenever it mounts it, and makes 0600 files 0660 each time: the
/// ledger of a claim would be opened once.
#[test]
fn a_ledger_on_a_claim_is_given_to_its_group_once() {
    for context in [
        json!({ "fsGroup": 2000 }),
        json!({ "fsGroup": 2000, "fsGroupChangePolicy": "Always" }),
        json!({ "fsGroup": 2000, "fsGroupChangePolicy": "OnRootMismatch" }),
        json!({ "fsGroup": 1337 }),
        json!({ "fsGroupChangePolicy": "Always" }),
        json!({ "fsGroupChangePolicy": "OnRootMismatch" }),
        json!({ "runAsNonRoot": true }),
    ] {
        for annotations in [
            json!({ "farepass.dev/state-claim": "ledger" }),
            json!({ "other.example/x": "y" }),
        ] {
            let mut pod = pod();
            pod["metadata"]["annotations"] = annotations;
            pod["spec"]["securityContext"] = context.clone();
            let claim = pod["metadata"]["annotations"].get("farepass.dev/state-claim");
            let after = injected(&pod);
            let given = &after["spec"]["securityContext"];
            if claim.is_some() {
                assert_eq!(given["fsGroupChangePolicy"], "OnRootMismatch", "{context}");
            }
            let own = context.get("fsGroup").cloned();
            assert_eq!(given["fsGroup"], own.unwrap_or(1337.into()), "{context}");
            assert_eq!(uninject(&after), pod, "as it was: {context}");
            assert_eq!(injected(&after), after, "twice is once: {context}");
        }
    }
}

fn warned(list: Value) -> (Value, String) {
    let mut pod = pod();
    pod["spec"]["containers"][0]["env"] = list;
    let injected = done(&pod, &settings());
    let sidecar = injected.pod["spec"]["initContainers"][0].clone();
    (sidecar, injected.warnings.join("\n"))
}

#[test]
fn a_proxy_that_is_not_gone_through_is_not_said_to_be() {
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        let list = json!([{ "name": variable, "value": "http://corp:3128" }]);
        let (sidecar, agent) = with(&list);
        assert_eq!(env(&sidecar, "HTTPS_PROXY"), None, "{variable}");
        assert_eq!(found(&agent, variable), Some("http://127.0.0.1:4020"));
        let (_, said) = warned(list);
        let expected = format!("in {variable}: Farepass takes its place, and does not go through");
        assert!(said.contains(&expected), "{variable}: {said}");
    }
    let (sidecar, said) = warned(json!([
        { "name": "HTTPS_PROXY", "value": "http://corp:3128" },
        { "name": "ALL_PROXY", "valueFrom": { "secretKeyRef": { "name": "corp", "key": "url" } } },
    ]));
    assert_eq!(env(&sidecar, "HTTPS_PROXY"), Some("http://corp:3128"));
    assert!(said.contains("goes through it with `egress"), "{said}");
    assert!(!said.contains("does not go"), "{said}");
}
