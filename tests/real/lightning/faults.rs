//! What goes wrong at the node, and what is refused before it is asked.

use super::*;
use std::os::unix::process::ExitStatusExt as _;

use crate::support::agent::Ask;
use crate::support::until;

#[test]
fn a_lost_answer_is_looked_up_and_paid_for_once() {
    for face in FACES {
        let scene = scene(face, Ways::of(PRICE));
        scene.node.fail(Fault::PaysAndHangsUp);
        let answer = scene.get("/a");
        assert_eq!(
            (answer.status, answer.text()),
            (200, "goods".into()),
            "{face:?}"
        );
        assert_eq!(
            (scene.node.paid(), scene.node.asked_to_pay()),
            ((1, PRICE), 1)
        );
        assert_eq!(scene.rows()[0]["state"], "settled");
    }
}

#[test]
fn what_certainly_failed_is_given_back() {
    for face in FACES {
        let scene = scene(face, Ways::of(PRICE));
        scene.node.fail(Fault::NoRoute);
        let answer = scene.get("/a");
        assert_eq!(
            answer.reason().as_deref(),
            Some("wallet_unavailable"),
            "{face:?}"
        );
        let rows = scene.rows();
        assert_eq!((rows.len(), &rows[0]["state"]), (1, &json!("released")));
        assert_eq!(scene.node.paid().0, 0);
        // The next one is another invoice.
        scene.node.fail(Fault::None);
        assert_eq!(scene.get("/a").status, 200);
        assert_eq!(scene.node.paid().0, 1);
        assert_eq!(scene.toll.seen(), (1, 2));
    }
}

#[test]
fn a_wrong_preimage_goes_nowhere_and_its_money_counts() {
    for face in FACES {
        let scene = scene(face, Ways::of(PRICE));
        scene.node.fail(Fault::OtherPreimage);
        let answer = scene.get("/a");
        assert_eq!(
            answer.reason().as_deref(),
            Some("wallet_unavailable"),
            "{face:?}"
        );
        let rows = scene.rows();
        assert_eq!(
            (&rows[0]["state"], &rows[0]["charged"]),
            (&json!("unknown"), &json!("0.012 USD"))
        );
        let again = scene.get("/a");
        assert_eq!(
            again.reason().as_deref(),
            Some("outcome_unknown"),
            "{face:?}"
        );
        assert_eq!(scene.node.asked_to_pay(), 1);
        assert_eq!(scene.toll.seen().0, 0, "nothing was sent on");
    }
}

/// Held as long as nobody knows; then the node's own word decides, for good.
fn pends(face: Face, paid: bool) {
    let mut scene = scene(face, Ways::of(PRICE));
    scene.node.fail(Fault::Pending);
    let answer = scene.get("/a");
    assert_eq!(
        answer.reason().as_deref(),
        Some("wallet_unavailable"),
        "{face:?}"
    );
    assert_eq!(scene.rows()[0]["state"], "unknown");
    for path in ["/a", "/b"] {
        // Another place is of the same seller, and his token may be good for both.
        let answer = scene.get(path);
        let reason = answer.reason();
        assert_eq!(
            reason.as_deref(),
            Some("outcome_unknown"),
            "{face:?} {path}"
        );
        assert!(answer.json()["payment"].is_string());
    }
    // A restart forgets no hold, and pays nothing anew.
    scene.proxy.kill();
    scene.proxy.start_again();
    for path in ["/a", "/b"] {
        let reason = scene.get(path).reason();
        assert_eq!(
            reason.as_deref(),
            Some("outcome_unknown"),
            "{face:?} {path}"
        );
    }
    assert_eq!(scene.node.asked_to_pay(), 1);
    linger(Duration::from_secs(6));
    let out = scene.proxy.setup.run(&["ledger", "reconcile", "--json"]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(said.contains("it is still on its way"), "{face:?}: {said}");
    assert_eq!(out.status.code(), Some(4), "{face:?}: {said}");
    scene.node.conclude(paid);
    let out = scene.proxy.setup.run(&["ledger", "reconcile", "--json"]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let (outcome, state) = match (paid, face) {
        (true, _) => ("confirmed", "settled"),
        // Its list says the same between two attempts of one payment.
        (false, Face::Cln) => ("its wallet does not know it", "unknown"),
        (false, _) => ("released", "released"),
    };
    let code = if state == "unknown" { 4 } else { 0 };
    assert!(
        out.status.code() == Some(code) && said.contains(outcome),
        "{face:?}: {said} {out:?}"
    );
    let rows = scene.rows();
    assert_eq!(
        (rows.len(), &rows[0]["state"]),
        (1, &json!(state)),
        "{face:?}"
    );
    assert_eq!(rows[0]["confirmed"], paid);
    scene.proxy.assert_verifies();
}

#[test]
fn what_is_on_its_way_is_held_until_the_node_says_that_it_arrived() {
    std::thread::scope(|all| {
        for face in FACES {
            all.spawn(move || pends(face, true));
        }
    });
}

#[test]
fn what_is_on_its_way_is_held_until_the_node_says_that_it_failed() {
    std::thread::scope(|all| {
        for face in FACES {
            all.spawn(move || pends(face, false));
        }
    });
}

#[test]
fn a_wrong_secret_pays_nothing_and_holds_nothing() {
    for face in FACES {
        let node = Arc::new(Node::start(face));
        let toll = Toll::open(&node, Ways::of(PRICE));
        let setup = toll.setup(&node);
        std::fs::write(setup.dir.path().join("node.secret"), "canary").unwrap();
        let scene = Scene {
            proxy: setup.start(),
            node,
            toll,
        };
        assert_eq!(
            scene.get("/a").reason().as_deref(),
            Some("wallet_unavailable")
        );
        assert_eq!(scene.rows()[0]["state"], "released", "{face:?}");
        assert!(!scene.proxy.stderr().contains("canary"));
        // A file that is written anew is read anew.
        scene.node.wallet(scene.proxy.setup.dir.path());
        assert_eq!(scene.get("/a").status, 200, "{face:?}");
    }
}

#[test]
fn what_should_not_be_paid_is_refused_before_the_node_is_asked() {
    let with = |change: fn(&mut Ways)| {
        let mut ways = Ways::of(PRICE);
        change(&mut ways);
        ways
    };
    let cases: [(Ways, &str); 8] = [
        (with(|w| w.wanted.msat = None), "amount_invalid"),
        (
            with(|w| w.wanted.made = unix_now() - 3600),
            "challenge_expired",
        ),
        (with(|w| w.foreign = true), "token_mismatch"),
        (with(|w| w.over = true), "challenge_expired"),
        // 155 satoshi and 10 of fee are 0.099 USD; one more is not within 0.10 USD.
        (with(|w| w.wanted.msat = Some(157_000)), "over_request_cap"),
        (
            with(|w| w.wanted.msat = Some(50_000_000_000)),
            "over_request_cap",
        ),
        (
            with(|w| w.wanted.currency = lightning_invoice::Currency::Bitcoin),
            "network_not_allowed",
        ),
        (
            with(|w| w.wanted.currency = lightning_invoice::Currency::Simnet),
            "network_not_allowed",
        ),
    ];
    let scene = scene(Face::Lnbits, Ways::of(PRICE));
    for (ways, reason) in cases {
        *scene.toll.ways.lock().unwrap() = ways;
        assert_eq!(scene.get("/a").reason().as_deref(), Some(reason));
    }
    *scene.toll.ways.lock().unwrap() = Ways::of(PRICE);
    let mut curl = scene.proxy.curl(&format!("https://{HOST}/a"));
    curl.args(["-H", "Authorization: Bearer the-agents-own"]);
    let answer = curl::fetch(curl).unwrap();
    assert_eq!(answer.reason().as_deref(), Some("authorization_conflict"));
    assert_eq!((scene.node.asked_to_pay(), scene.rows().len()), (0, 0));
    let seen = scene.toll.merchant.seen();
    let own = seen.last().unwrap().head.one("authorization");
    assert_eq!(
        own,
        Some("Bearer the-agents-own"),
        "the agent's own is not dropped"
    );
    // Sub-satoshi amounts count to the millisatoshi, rounded up in dollars.
    *scene.toll.ways.lock().unwrap() = with(|w| w.wanted.msat = Some(155_001));
    assert_eq!(scene.get("/a").status, 200);
    let row = &scene.rows()[0];
    assert_eq!(
        (&row["amount"], &row["charged"]),
        (&json!("155001"), &json!("0.0942006 USD"))
    );
}

/// Killed when the node has proved the payment and nothing was sent on: the ledger holds it in full, and
/// nobody pays for it again.
fn killed_at(point: &str) {
    for face in FACES {
        let mut scene = scene(face, Ways::of(PRICE));
        assert!(scene.proxy.stop().success());
        assert!(scene.proxy.start_to_die(&format!("{point}:1")));
        let agent = scene.proxy.agent(Duration::from_secs(20));
        let answer = agent.send(&Ask::get(&format!("https://{HOST}/a")));
        assert!(answer.is_err(), "{face:?}");
        let gone = Duration::from_secs(30);
        let ended = until("the fail point", gone, || scene.proxy.ended());
        assert_eq!(ended.signal(), Some(9), "{face:?}");
        assert_eq!(scene.node.paid(), (1, PRICE), "{face:?}");
        assert_eq!(scene.toll.seen().0, 0, "nothing was sent on");
        scene.proxy.start_again();
        let again = scene.get("/a");
        assert_eq!(
            again.reason().as_deref(),
            Some("outcome_unknown"),
            "{face:?}"
        );
        let rows = scene.rows();
        assert_eq!(rows.len(), 1, "{face:?}");
        // As its proof reached the disk before the kill, or did not.
        let charged = match rows[0]["state"].as_str() {
            Some("settled") => "0.0072 USD",
            _ => "0.012 USD",
        };
        assert_eq!(rows[0]["charged"], charged, "{face:?}");
        assert_eq!(scene.node.asked_to_pay(), 1, "{face:?}");
        scene.proxy.assert_verifies();
    }
}

#[test]
fn a_kill_after_the_proof_loses_no_payment() {
    killed_at("after-proof");
}
