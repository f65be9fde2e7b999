//! What makes a pod: the session that is called after it, and the ledger that its pods cannot share.

use serde_json::{Value, json};

use super::super::tree::entries;
use super::super::*;
use super::{env, pod, settings};

/// A document of a workload whose pods have this annotation.
fn workload(kind: &str, metadata: &Value, spec: &Value, annotation: (&str, &str)) -> Value {
    let mut template = pod();
    template["metadata"]["annotations"] =
        json!({ format!("{PREFIX}{}", annotation.0): annotation.1 });
    let version = match kind {
        "Job" | "CronJob" => "batch/v1",
        "ReplicationController" => "v1",
        _ => "apps/v1",
    };
    let mut document =
        json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec });
    match kind {
        "CronJob" => document["spec"]["jobTemplate"]["spec"]["template"] = template,
        _ => document["spec"]["template"] = template,
    }
    document
}

/// What the filter makes of it: the session, and what it warns of.
fn filtered(document: &Value) -> Result<(String, Vec<String>), Refused> {
    let mut found = (String::new(), vec![]);
    each_pod(&mut document.clone(), Form::Native, &mut |pod, owner| {
        let injected = inject(pod, &settings(), owner)?;
        let sidecar = &injected.pod["spec"]["initContainers"][0];
        let session = env(sidecar, "FAREPASS_SESSION").unwrap_or_default();
        found = (session.to_owned(), injected.warnings);
        Ok(())
    })?;
    Ok(found)
}

/// The pod as its controller makes it.
fn made_by(version: &str, kind: &str, name: &str, annotation: (&str, &str)) -> Value {
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({ format!("{PREFIX}{}", annotation.0): annotation.1 });
    pod["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": version, "kind": kind, "name": name, "controller": true }]);
    pod
}

const OWNER: (&str, &str) = ("session", "owner");
const CLAIM: (&str, &str) = ("state-claim", "ledger");

#[test]
fn the_session_of_a_cron_job_is_one_whoever_puts_the_sidecar_in() {
    let webhook = |version: &str, kind: &str, name: &str| {
        let pod = inject(&made_by(version, kind, name, OWNER), &settings(), None)
            .unwrap()
            .pod;
        let sidecar = &entries(&pod["spec"], "initContainers")[0];
        env(sidecar, "FAREPASS_SESSION").unwrap().to_owned()
    };
    let filter = |kind: &str, name: &str| {
        filtered(&workload(kind, &json!({ "name": name }), &json!({}), OWNER))
            .unwrap()
            .0
    };
    assert_eq!(filter("CronJob", "nightly"), "nightly");
    assert_eq!(webhook("batch/v1", "Job", "nightly-29394000"), "nightly");
    // Once only: this one is called so itself.
    assert_eq!(filter("CronJob", "report-20260115"), "report-20260115");
    assert_eq!(
        webhook("batch/v1", "Job", "report-20260115-29394000"),
        "report-20260115"
    );
    for (name, session) in [
        ("report-20260115", "report"),
        ("report-1768435200", "report"),
        ("report-2026011", "report-2026011"),
        ("report-2026011x", "report-2026011x"),
        ("report20260115", "report20260115"),
        ("20260115", "20260115"),
    ] {
        assert_eq!(webhook("batch/v1", "Job", name), session);
        assert_eq!(filter("Job", name), session, "the same in a file");
    }
    for (version, kind) in [("jobs.example/v1", "Job"), ("apps/v1", "StatefulSet")] {
        assert_eq!(webhook(version, kind, "db-29394000"), "db-29394000");
    }
    assert_eq!(filter("StatefulSet", "db-29394000"), "db-29394000");
}

#[test]
fn an_owner_that_cannot_name_a_session_is_said_to_be_it() {
    let said = |metadata: Value| {
        let refused = filtered(&workload("Job", &metadata, &json!({}), OWNER)).unwrap_err();
        refused.to_string()
    };
    let unnamed = said(json!({ "generateName": "nightly-" }));
    assert!(
        unnamed.starts_with("Job/nightly-: annotation farepass.dev/session is `owner`"),
        "{unnamed}"
    );
    assert!(
        unnamed.contains("no name yet (generateName): name the session"),
        "{unnamed}"
    );
    let long = said(json!({ "name": "x".repeat(65) }));
    assert!(
        long.contains("cannot have the name of its owner, xxx"),
        "{long}"
    );
}

#[test]
fn pods_that_run_at_once_are_told_that_they_cannot_share_a_ledger() {
    let told = |kind: &str, spec: &Value| {
        let named = json!({ "name": "w" });
        let warnings = |annotation| {
            filtered(&workload(kind, &named, spec, annotation))
                .unwrap()
                .1
        };
        assert_eq!(
            warnings(("agent", "w")),
            [""; 0],
            "{kind} {spec}: it has no claim"
        );
        warnings(CLAIM).join("\n")
    };
    let recreate = json!({ "strategy": { "type": "Recreate" } });
    for (kind, spec, words) in [
        ("Deployment", json!({}), "strategy Recreate"),
        (
            "Deployment",
            json!({ "strategy": { "type": "RollingUpdate" } }),
            "strategy Recreate",
        ),
        (
            "Deployment",
            json!({ "replicas": 2, "strategy": { "type": "Recreate" } }),
            "replicas",
        ),
        ("StatefulSet", json!({ "replicas": 2 }), "replicas"),
        ("ReplicaSet", json!({ "replicas": 2 }), "replicas"),
        (
            "ReplicationController",
            json!({ "replicas": 2 }),
            "replicas",
        ),
        ("DaemonSet", json!({}), "each node"),
        ("Job", json!({ "parallelism": 2 }), "parallelism"),
        (
            "CronJob",
            json!({ "jobTemplate": { "spec": { "parallelism": 2 } } }),
            "parallelism",
        ),
        ("CronJob", json!({}), "concurrencyPolicy: Forbid"),
        (
            "CronJob",
            json!({ "concurrencyPolicy": "Allow" }),
            "concurrencyPolicy: Forbid",
        ),
    ] {
        let told = told(kind, &spec);
        assert!(
            told.starts_with("farepass.dev/state-claim: "),
            "{kind} {spec}: {told}"
        );
        assert!(told.contains(words), "{kind} {spec}: {told}");
    }
    for (kind, spec) in [
        ("Deployment", recreate),
        ("StatefulSet", json!({})),
        ("StatefulSet", json!({ "replicas": 1 })),
        ("Job", json!({})),
        ("CronJob", json!({ "concurrencyPolicy": "Forbid" })),
        ("CronJob", json!({ "concurrencyPolicy": "Replace" })),
    ] {
        assert_eq!(told(kind, &spec), "", "{kind} {spec}");
    }
}

/// Five pods of a Deployment with a budget of one dollar have five, and five more after a rollout.
#[test]
fn a_session_of_several_pods_is_told_that_it_wants_one_ledger() {
    let named = json!({ "name": "crew" });
    let warnings = |annotation| {
        let document = workload("Deployment", &named, &json!({ "replicas": 5 }), annotation);
        filtered(&document).unwrap().1
    };
    for session in [OWNER, ("session", "team-7")] {
        let told = warnings(session).join("\n");
        assert!(told.starts_with("farepass.dev/session: "), "{told}");
        assert!(told.contains("unless the ledger is PostgreSQL"), "{told}");
        let pod = made_by("apps/v1", "ReplicaSet", "crew", session);
        assert_eq!(
            inject(&pod, &settings(), None).unwrap().warnings.join("\n"),
            told
        );
        // What an API server passes on whole.
        assert!(told.len() + "farepass: ".len() <= 120, "{told}");
    }
    assert_eq!(warnings(("session", "pod")), [""; 0], "new with every pod");
    let mut kept = made_by("apps/v1", "StatefulSet", "crew", OWNER);
    kept["metadata"]["annotations"]["farepass.dev/state-claim"] = "ledger".into();
    let told = inject(&kept, &settings(), None).unwrap().warnings;
    assert_eq!(told, [""; 0], "the ledger outlives the pod");
}

#[test]
fn a_pod_says_of_its_daemon_set_alone_that_there_are_several() {
    for (version, kind, several) in [
        ("apps/v1", "DaemonSet", true),
        ("apps/v1", "ReplicaSet", false),
        ("batch/v1", "Job", false),
        ("apps.example/v1", "DaemonSet", false),
    ] {
        let pod = made_by(version, kind, "w", CLAIM);
        let warnings = inject(&pod, &settings(), None).unwrap().warnings;
        assert_eq!(
            !warnings.is_empty(),
            several,
            "{version} {kind}: {warnings:?}"
        );
        // What an API server passes on whole.
        assert!(
            warnings.iter().all(|w| w.len() + "farepass: ".len() <= 120),
            "{warnings:?}"
        );
    }
}
