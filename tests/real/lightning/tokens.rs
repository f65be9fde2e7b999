//! Tokens that were paid for: where they are used, and where not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::support::shop;

#[test]
fn a_token_opens_other_places_before_another_is_bought() {
    let scene = scene(Face::Lnbits, Ways::of(PRICE));
    for path in ["/a", "/b", "/b", "/a?x=1"] {
        assert_eq!(scene.get(path).status, 200, "{path}");
    }
    assert_eq!(scene.node.paid(), (1, PRICE));
    // Places that are free, or want something else, never see it.
    assert_eq!(scene.get("/free").text(), "free");
    assert_eq!(scene.get("/basic").status, 401);
    let seen = scene.toll.merchant.seen();
    let bare = seen
        .iter()
        .filter(|s| ["/free", "/basic"].contains(&s.path()));
    assert!(bare.clone().count() == 2 && bare.clone().all(|s| s.payment().is_none()));
    // An agent that brings its own credentials is left alone.
    let mut curl = scene.proxy.curl(&format!("https://{HOST}/a"));
    curl.args(["-H", "Authorization: Bearer mine"]);
    assert_eq!(
        curl::fetch(curl).unwrap().reason().as_deref(),
        Some("authorization_conflict")
    );
}

#[test]
fn a_token_that_is_bound_to_its_place_is_kept_for_it() {
    for refusal in [402, 401] {
        let mut ways = Ways::of(PRICE);
        ways.bound = true;
        ways.refusal = refusal;
        let scene = scene(Face::Cln, ways);
        for path in ["/a", "/b", "/a", "/b", "/c"] {
            let answer = scene.get(path);
            assert_eq!(
                (answer.status, answer.text()),
                (200, "goods".into()),
                "{path} {refusal}"
            );
        }
        assert_eq!(scene.node.paid(), (3, 3 * PRICE), "{refusal}");
    }
}

#[test]
fn a_worn_out_token_is_replaced_and_never_the_agents_trouble() {
    for refusal in [402, 401] {
        let mut ways = Ways::of(PRICE);
        ways.refusal = refusal;
        let scene = scene(Face::Lnd, ways);
        assert_eq!(scene.get("/a").status, 200);
        scene.toll.forget();
        let mut curl = scene.proxy.curl(&format!("https://{HOST}/a"));
        curl.args(["--data-binary", "the body", "-X", "POST"]);
        assert_eq!(
            curl::fetch(curl).unwrap().status,
            200,
            "another method has another place"
        );
        scene.toll.forget();
        for _ in 0..2 {
            let mut curl = scene.proxy.curl(&format!("https://{HOST}/a"));
            curl.args(["--data-binary", "the body", "-X", "POST"]);
            let answer = curl::fetch(curl).unwrap();
            assert_eq!(
                (answer.status, answer.text()),
                (200, "goods".into()),
                "{refusal}"
            );
        }
        let whole = scene.toll.merchant.seen();
        let posts = whole.iter().filter(|s| s.method == "POST");
        assert!(
            posts.clone().all(|s| s.body.start == b"the body"),
            "{refusal}"
        );
        assert_eq!(scene.node.paid().0, 3, "{refusal}");
        assert_eq!(scene.rows().len(), 3);
    }
}

#[test]
fn ten_at_once_buy_one_token() {
    let scene = scene(Face::Phoenixd, Ways::of(PRICE));
    std::thread::scope(|all| {
        for n in 0..10 {
            let scene = &scene;
            all.spawn(move || assert_eq!(scene.get(&format!("/{n}")).status, 200));
        }
    });
    assert_eq!(scene.node.paid(), (1, PRICE));
    assert_eq!(scene.rows().len(), 1);
}

/// What a token opens may take long, and who tries one waits for nobody.
#[test]
fn a_token_is_tried_by_several_at_once() {
    let scene = scene(Face::Phoenixd, Ways::of(PRICE));
    assert_eq!(scene.get("/a").status, 200);
    scene.toll.ways.lock().unwrap().together = 1 + 4;
    std::thread::scope(|all| {
        for n in 0..4 {
            let scene = &scene;
            all.spawn(move || assert_eq!(scene.get(&format!("/{n}")).status, 200));
        }
    });
    assert_eq!(scene.node.paid(), (1, PRICE));
}

/// Where the rule takes no tokens, that some are sold makes nobody wait for anybody.
#[test]
fn what_is_paid_otherwise_waits_for_no_sale_of_tokens() {
    let mut ways = Ways::of(PRICE);
    let mut terms = shop::challenge();
    terms["resource"]["url"] = json!(format!("https://{HOST}/"));
    ways.beside = Some(STANDARD.encode(terms.to_string()));
    ways.together = 4;
    let node = Arc::new(Node::start(Face::Lnd));
    let toll = Toll::open(&node, ways);
    let mut setup = toll.setup(&node);
    let key = setup.dir.path().join("wallet.key");
    let usual =
        json!({ "name": "main", "kind": "local", "key_file": key, "networks": ["eip155:84532"] });
    setup.config["wallets"].as_array_mut().unwrap().push(usual);
    setup.config["rules"][0]["pay"]["schemes"] = json!(["exact"]);
    let proxy = setup.start();
    std::thread::scope(|all| {
        for n in 0..4 {
            let proxy = &proxy;
            let url = format!("https://{HOST}/{n}");
            all.spawn(move || assert_eq!(proxy.get(&url).status, 200));
        }
    });
    assert_eq!(node.paid().0, 0);
    assert_eq!(proxy.ledger().rows.len(), 4);
}

#[test]
fn a_token_belongs_to_its_session_and_to_no_file() {
    let mut scene = scene(Face::Lnbits, Ways::of(PRICE));
    assert_eq!(scene.get("/a").status, 200);
    let out = scene
        .proxy
        .setup
        .run(&["session", "create", "--agent", "other"]);
    let url = String::from_utf8(out.stdout).unwrap().trim().to_owned();
    let get = |url: &str, ca| {
        let mut curl = curl::curl(url, ca);
        curl.arg(format!("https://{HOST}/a"));
        curl::fetch(curl).unwrap().status
    };
    assert_eq!(get(&url, &scene.proxy.ca()), 200);
    assert_eq!(scene.node.paid().0, 2, "the other's own money");
    // A restart forgets tokens, and says so by buying.
    assert!(scene.proxy.stop().success());
    scene.proxy.start_again();
    assert_eq!(scene.get("/a").status, 200);
    assert_eq!(scene.get("/a").status, 200);
    assert_eq!(scene.node.paid().0, 3);
    assert_eq!(scene.rows().len(), 3);
    scene.assert_secrets_are_kept();
}

#[test]
fn a_merchant_that_never_takes_its_own_token_is_paid_once_for_one_request() {
    for refusal in [402, 401] {
        let mut ways = Ways::of(PRICE);
        ways.never = true;
        ways.refusal = refusal;
        let scene = scene(Face::Lnd, ways);
        let answer = scene.get("/a");
        let told = (answer.status, answer.reason());
        assert_eq!(told, (402, Some("already_paid".into())));
        assert_eq!(scene.node.paid().0, 1);
        assert_eq!(scene.rows()[0]["state"], "settled", "the money is gone");
    }
}

#[test]
fn a_paid_failure_keeps_its_token() {
    let mut ways = Ways::of(PRICE);
    ways.status = 500;
    let scene = scene(Face::Lnbits, ways);
    assert_eq!(scene.get("/a").status, 500);
    scene.toll.ways.lock().unwrap().status = 200;
    assert_eq!(scene.get("/a").status, 200);
    assert_eq!(scene.node.paid(), (1, PRICE));
    assert_eq!(scene.rows()[0]["flags"], json!(["paid_not_delivered"]));
}

/// It delivered what it was bought for, if not at once: when it is worn out, another is bought.
#[test]
fn a_token_that_delivered_after_a_failure_is_replaced_as_any_other() {
    for refusal in [402, 401] {
        let mut ways = Ways::of(PRICE);
        (ways.status, ways.refusal) = (503, refusal);
        let mut scene = scene(Face::Lnbits, ways);
        assert_eq!(scene.get("/a").status, 503);
        scene.toll.ways.lock().unwrap().status = 200;
        assert_eq!(scene.get("/a").status, 200);
        scene.toll.forget();
        let answer = scene.get("/a");
        assert_eq!((answer.status, answer.reason()), (200, None), "{refusal}");
        assert_eq!(scene.node.paid(), (2, 2 * PRICE), "{refusal}");
        // Nor is anything owed for it after a restart.
        assert!(scene.proxy.stop().success());
        scene.proxy.start_again();
        let answer = scene.get("/a");
        assert_eq!((answer.status, answer.reason()), (200, None), "{refusal}");
        scene.proxy.assert_verifies();
    }
}

/// Nor does it matter how it is lost: nobody asks it for more.
#[test]
fn a_token_that_delivered_after_a_failure_owes_nothing_while_it_is_good() {
    let mut ways = Ways::of(PRICE);
    ways.status = 503;
    let mut scene = scene(Face::Lnbits, ways);
    assert_eq!(scene.get("/a").status, 503);
    scene.toll.ways.lock().unwrap().status = 200;
    assert_eq!(scene.get("/a").status, 200);
    assert_eq!(scene.node.paid(), (1, PRICE));
    assert!(scene.proxy.stop().success());
    scene.proxy.start_again();
    let answer = scene.get("/a");
    assert_eq!((answer.status, answer.reason()), (200, None));
    assert_eq!(scene.node.paid(), (2, 2 * PRICE));
    scene.proxy.assert_verifies();
}

/// What it brings elsewhere is not what was lost.
#[test]
fn a_token_that_delivered_elsewhere_only_is_still_owed_for() {
    let mut ways = Ways::of(PRICE);
    ways.status = 503;
    let mut scene = scene(Face::Lnbits, ways);
    assert_eq!(scene.get("/a").status, 503);
    scene.toll.ways.lock().unwrap().status = 200;
    assert_eq!(scene.get("/b").status, 200);
    assert_eq!(scene.node.paid(), (1, PRICE));
    assert!(scene.proxy.stop().success());
    scene.proxy.start_again();
    assert_ne!(scene.get("/a").status, 200);
    assert_eq!(scene.node.paid(), (1, PRICE));
}

/// One that never delivered is what it was: the request that it was bought for is not paid again.
#[test]
fn a_token_that_never_delivered_is_not_replaced() {
    let mut ways = Ways::of(PRICE);
    ways.status = 503;
    let scene = scene(Face::Lnbits, ways);
    assert_eq!(scene.get("/a").status, 503);
    scene.toll.forget();
    assert_eq!(scene.get("/a").reason().as_deref(), Some("already_paid"));
    assert_eq!(scene.node.paid(), (1, PRICE));
}
