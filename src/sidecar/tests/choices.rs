//! What the filter's flags chose, when somebody else puts a sidecar in after it; and lists of one kind.

use serde_json::{Value, json};

use super::super::tree::entries;
use super::super::*;
use super::guests::{review, said};
use super::{filtered, pod, settings};

fn chosen() -> Chosen {
    Chosen {
        mode: Some(Mode::Transparent),
        config_map: Some("strict-policy".into()),
        wallet_secret: Some("small-wallet".into()),
    }
}

/// Redirection, ConfigMap and Secret.
fn what(pod: &Value) -> (bool, String, String) {
    let named = |volume: &str, at: &str| {
        let mut volumes = entries(&pod["spec"], "volumes").iter();
        let volume = volumes.find(|v| name(v) == volume);
        let named = volume.and_then(|v| v.pointer(at)?.as_str());
        named.unwrap_or_default().to_owned()
    };
    let mut init = entries(&pod["spec"], "initContainers").iter();
    (
        init.any(|c| name(c) == REDIRECT),
        named("farepass-config", "/configMap/name"),
        named("farepass-wallet", "/secret/secretName"),
    )
}

#[test]
fn what_flags_chose_outlives_a_webhook_with_other_flags() {
    let first = filtered(&pod(), &chosen());
    let expected = (true, "strict-policy".into(), "small-wallet".into());
    assert_eq!(what(&first), expected);
    let again = inject(&first, &settings(), None).unwrap().pod;
    assert_eq!(what(&again), expected, "the webhook's own are others");
    assert_eq!(uninject(&again), pod());
    let without = Settings {
        redirect_image: None,
        ..settings()
    };
    let said = said(&review("CREATE", None, &first), &without);
    assert!(said.contains("--redirect-image"), "{said}");
}

#[test]
fn flags_of_a_second_time_replace_those_of_the_first() {
    let once = filtered(&pod(), &chosen());
    assert_eq!(filtered(&once, &chosen()), once);
    assert_eq!(filtered(&once, &Chosen::default()), super::injected(&pod()));
    // What somebody wrote since is theirs.
    let mut own = once;
    own["metadata"]["annotations"]["farepass.dev/wallet"] = "large-wallet".into();
    let again = filtered(&own, &chosen());
    assert_eq!(what(&again).2, "large-wallet");
    let back = uninject(&again);
    let left = json!({ "farepass.dev/wallet": "large-wallet" });
    assert_eq!(back["metadata"]["annotations"], left);
}

#[test]
fn a_redirection_is_not_taken_away_for_want_of_a_word() {
    let transparent = Settings {
        mode: Mode::Transparent,
        ..settings()
    };
    let mut led = inject(&pod(), &transparent, None).unwrap().pod;
    let again = inject(&led, &settings(), None).unwrap().pod;
    assert!(what(&again).0);
    led["metadata"]["annotations"]["farepass.dev/mode"] = "explicit".into();
    let again = inject(&led, &settings(), None).unwrap().pod;
    assert!(!what(&again).0, "here somebody said so");
}

#[test]
fn items_of_a_typed_list_are_what_the_list_says() {
    let add = |document: &mut Value| {
        each_pod(document, Form::Native, &mut |pod, owner| {
            *pod = inject(pod, &settings(), owner)?.pod;
            Ok(())
        })
    };
    let mut pods = json!({ "apiVersion": "v1", "kind": "PodList", "items": [pod(), pod()] });
    assert_eq!(add(&mut pods), Ok(2));
    let first = &pods["items"][0];
    assert_eq!(
        (&first["kind"], &first["apiVersion"]),
        (&json!("Pod"), &json!("v1"))
    );
    assert!(first.to_string().contains("farepass-wallet"));
    let deployment = json!({ "metadata": { "name": "d" }, "spec": { "template": pod() } });
    let mut all =
        json!({ "apiVersion": "apps/v1", "kind": "DeploymentList", "items": [deployment] });
    assert_eq!(add(&mut all), Ok(1));
    assert_eq!(all["items"][0]["apiVersion"], "apps/v1");
    let mut others =
        json!({ "apiVersion": "v1", "kind": "ConfigMapList", "items": [{ "data": {} }, 1] });
    let before = others.clone();
    assert_eq!(add(&mut others), Ok(0));
    assert_eq!(others, before, "nothing is added to what is not changed");
    let mut list = json!({ "apiVersion": "v1", "kind": "List", "items": [deployment] });
    let said = add(&mut list).unwrap_err().to_string();
    assert_eq!(said, "List/d: an item of the list says no kind");
}
