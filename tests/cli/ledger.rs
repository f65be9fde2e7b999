//! The ledger for other programs, and chains that cannot be asked.

use serde_json::Value;

use crate::support::{Home, SHOP, Street, there_is, until};

/// One settled payment of 0.01 USD and one refusal, made through the proxy.
fn spent() -> Option<Street> {
    let street = Street::new();
    if !there_is("curl") {
        return None;
    }
    let script = format!("curl -sS {SHOP}/forecast; curl -sS {SHOP}/luxury");
    street.home.run(&["--agent", "bot"], &script).ok();
    Some(street)
}

fn export(home: &Home, options: &[&str]) -> String {
    let args = ["ledger", "export"].iter().chain(options);
    home.farepass(args).ok().out
}

#[test]
fn an_export_has_what_the_list_has() {
    let Some(street) = spent() else { return };
    let home = &street.home;
    let listed = home.farepass(["ledger", "list", "--json"]).ok().json();
    let lines = export(home, &[]);
    assert_eq!(export(home, &["--json"]), lines);
    home.farepass(["ledger", "export", "--json", "--format", "csv"])
        .failed(2, &["cannot be used with"]);
    let session = listed[0]["session"].as_str().unwrap();
    for begins in [session, &session[..10]] {
        let only = ["--session", begins];
        assert_eq!(export(home, &only), lines, "{begins}");
        let rows = home.farepass(["ledger", "list", "--json"].iter().chain(&only));
        assert_eq!(rows.ok().json(), listed, "{begins}");
        let sums = home.farepass(["spend", "--json"].iter().chain(&only));
        assert_eq!(sums.ok().json()["total"]["payments"], 1, "{begins}");
    }
    let [line] = lines.lines().collect::<Vec<_>>()[..] else {
        panic!("{lines}")
    };
    let mut row: Value = serde_json::from_str(line).unwrap();
    let members = row.as_object_mut().unwrap();
    assert!(members.remove("record_seq").unwrap().is_u64());
    assert!(members.remove("made").unwrap().is_string());
    let hash = members.remove("record_hash").unwrap();
    assert_eq!(row, listed[0], "the fields of the list");
    let verified = home.farepass(["ledger", "verify", "--json"]).ok().json();
    assert_eq!(
        hash.as_str().unwrap().len(),
        verified["head"].as_str().unwrap().len()
    );
    assert_eq!(export(home, &["--denied"]).lines().count(), 2);

    let csv = export(home, &["--format", "csv"]);
    assert!(
        csv.starts_with("id,time,state,") && csv.ends_with("\r\n"),
        "{csv}"
    );
    assert_eq!(csv.lines().count(), 2, "{csv}");
    assert!(csv.contains(",0.01,0.01,\"USD\","), "{csv}");
    let column = |line: &str| line.rsplit(',').next().map(str::to_owned);
    let owed: Vec<_> = csv.lines().filter_map(column).collect();
    assert_eq!(owed, ["owed", "false"], "what came later comes last");
    let focus = export(home, &["--format", "focus", "--denied"]);
    assert!(focus.starts_with("BilledCost,"), "{focus}");
    let costs: Vec<&str> = focus
        .lines()
        .skip(1)
        .filter_map(|l| l.split(',').next())
        .collect();
    assert_eq!(costs, ["0.01", "0.00"], "a refusal costs nothing");
}

#[test]
fn an_id_as_it_is_listed_is_that_of_one_payment() {
    let Some(street) = spent() else { return };
    let home = &street.home;
    let listed = home.farepass(["ledger", "list", "--denied"]).ok().out;
    let ids: Vec<_> = (listed.lines().skip(1))
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    assert_eq!(ids.len(), 2, "{listed}");
    for id in ids {
        // More than its millisecond.
        assert!(id.starts_with("pay_") && id.len() == 24, "{listed}");
        let shown = home.farepass(["ledger", "show", id]).ok().out;
        assert!(shown.contains(id), "{shown}");
    }
    for many in ["pay_", "p", "pay_0"] {
        let said = format!("more than one payment id begins with `{many}`");
        home.farepass(["ledger", "show", many]).failed(2, &[&said]);
    }
    for none in [
        "",
        "pay_ff",
        "PAY_0",
        "x",
        &format!("pay_{}", "0".repeat(33)),
    ] {
        let said = format!("there is no payment `{none}`");
        home.farepass(["ledger", "show", none]).failed(1, &[&said]);
    }
}

#[test]
fn a_list_that_is_cut_says_so_as_json_too() {
    let Some(street) = spent() else { return };
    let list = |options: &[&str]| {
        let args = ["ledger", "list", "--denied"].iter().chain(options);
        street.home.farepass(args).ok()
    };
    let note = "the newest 1; --limit 0 shows all";
    let table = list(&["--limit", "1"]);
    assert!(table.err.contains(note), "{table:?}");
    let rows = list(&["--limit", "1", "--json"]);
    assert_eq!(rows.json().as_array().unwrap().len(), 1);
    assert!(rows.err.contains(note), "{rows:?}");
    for whole in [&["--json"][..], &["--limit", "0", "--json"]] {
        assert_eq!(list(whole).err, "", "{whole:?}");
    }
}

/// A name that was copied, with capitals, a dot at its end or a port, is that of the same host.
#[test]
fn a_host_is_found_however_it_is_written() {
    let Some(street) = spent() else { return };
    let home = &street.home;
    for (host, found) in [
        ("shop.example", 1),
        ("SHOP.example", 1),
        ("shop.example.", 1),
        ("shop.example:8443", 0),
        ("no host", 0),
    ] {
        let args = ["ledger", "list", "--json", "--host", host];
        let rows = home.farepass(args).ok().json();
        assert_eq!(rows.as_array().unwrap().len(), found, "{host}");
    }
    for host in ["shop.example", "SHOP.example.", "shop.example:8443"] {
        let rows = home.farepass(["merchant", "list", host, "--json"]).ok();
        assert!(rows.out.contains("shop.example"), "{host}: {rows:?}");
    }
    home.farepass(["merchant", "list", "no host"])
        .failed(2, &["write a host"]);
}

/// Rows have hosts with their ports, and who is in a hurry copies one.
#[test]
fn a_freeze_takes_a_host_as_the_ledger_has_it() {
    let home = Home::ready();
    let port = home.farepass(["freeze", "host", "Shop.example:8443"]).ok();
    let line = "frozen: host shop.example since";
    assert!(port.out.contains(line), "{port:?}");
    assert!(port.err.contains("all ports of shop.example"), "{port:?}");
    let port = home.farepass(["unfreeze", "host", "shop.example.:1"]).ok();
    assert!(port.err.contains("all ports of shop.example"), "{port:?}");
    let plain = home.farepass(["freeze", "host", "shop.example"]).ok();
    assert_eq!(plain.err, "", "{plain:?}");
    for wrong in ["*", "a.example:0", "https://a.example", "a..example:1"] {
        home.farepass(["freeze", "host", wrong])
            .failed(2, &["farepass: "]);
    }
}

/// What `spend` adds up is what the rows of the list say, to the billionth and to the atom.
#[test]
fn spend_adds_up_what_the_list_has() {
    let Some(street) = spent() else { return };
    let home = &street.home;
    let script = format!("curl -sS {SHOP}/forecast; curl -sS {SHOP}/forecast?again");
    home.run(&["--agent", "other"], &script).ok();
    let rows = home
        .farepass(["ledger", "list", "--denied", "--limit", "0", "--json"])
        .ok()
        .json();
    let rows = rows.as_array().unwrap();
    let paid = |row: &&Value| row["state"] != "denied" && row["state"] != "released";
    let atoms = |row: &Value| row["amount"].as_str().unwrap().parse::<u128>().unwrap();
    let page = home
        .farepass(["spend", "--by", "agent,host", "--json"])
        .ok()
        .json();
    let total = &page["total"];
    assert_eq!(total["payments"], rows.iter().filter(paid).count());
    assert_eq!(
        (&total["payments"], &total["spent"]),
        (&3.into(), &"0.03 USD".into())
    );
    assert_eq!(
        (&total["claimed"], &total["confirmed"]),
        (&"0.03 USD".into(), &"0.00 USD".into())
    );
    assert_eq!(total["refused"], 1);
    let units = &total["assets"][0];
    let sum: u128 = rows.iter().filter(paid).map(atoms).sum();
    assert_eq!(units["spent"], sum.to_string());
    assert_eq!(
        (&units["asset"], &units["network"]),
        (&rows[0]["asset"], &rows[0]["network"])
    );
    let groups = page["groups"].as_array().unwrap();
    let agents: Vec<_> = groups
        .iter()
        .map(|g| (&g["agent"], &g["payments"]))
        .collect();
    assert_eq!(
        agents,
        [(&"other".into(), &2.into()), (&"bot".into(), &1.into())]
    );

    let table = home.farepass(["spend"]).ok().out;
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("HOST") && lines[0].ends_with("REFUSED"),
        "{table}"
    );
    assert!(
        lines[1].starts_with("shop.example") && lines[1].contains("$0.03"),
        "{table}"
    );
    assert!(lines[2].starts_with("total"), "{table}");
    assert!(
        table.contains("USDC") && table.contains("eip155:84532"),
        "{table}"
    );

    let counted = |options: &[&str]| {
        let args = ["spend", "--json"].iter().chain(options);
        home.farepass(args).ok().json()["total"]["payments"].clone()
    };
    assert_eq!(counted(&["--since", "1h"]), 3);
    assert_eq!(counted(&["--until", "2026-01-01"]), 0);
    assert_eq!(counted(&["--agent", "bot"]), 1);
    let session = rows[0]["session"].as_str().unwrap();
    assert_eq!(counted(&["--session", session]), 2);
    for (option, value, word) in [("--since", "yesterday", "7d"), ("--by", "mood", "session")] {
        home.farepass(["spend", option, value]).failed(2, &[word]);
    }
    let empty = Home::ready();
    assert_eq!(empty.farepass(["spend"]).ok().out, "");
    assert_eq!(
        empty.farepass(["spend", "--json"]).ok().json()["groups"],
        Value::Array(vec![])
    );
}

#[test]
fn an_export_is_of_a_period_or_a_session() {
    let Some(street) = spent() else { return };
    let home = &street.home;
    let rows = |options: &[&str]| export(home, options).lines().count();
    assert_eq!(rows(&["--from", "2020-01-01"]), 1);
    assert_eq!(rows(&["--to", "2020-01-01T00:00:00Z"]), 0);
    let other = home.farepass(["session", "create", "--json"]).ok().json();
    assert_eq!(rows(&["--session", other["id"].as_str().unwrap()]), 0);
    for (option, value, word) in [
        ("--from", "yesterday", "2026-01-31"),
        ("--format", "xml", "jsonl, csv or focus"),
    ] {
        home.farepass(["ledger", "export", option, value])
            .failed(2, &[word]);
    }
    for (command, from, to) in [
        (&["ledger", "export"][..], "--from", "--to"),
        (&["spend"], "--since", "--until"),
    ] {
        let period = [from, "2026-02-01", to, "2026-01-01"];
        home.farepass([command, &period].concat())
            .failed(2, &[from, "is after", to]);
    }
    let of = |agent: &str| home.farepass(["ledger", "list", "--json", "--agent", agent]);
    let agent = home.farepass(["ledger", "list", "--json"]).ok().json()[0]["agent"].clone();
    let rows = |agent| of(agent).ok().json().as_array().unwrap().len();
    assert_eq!((rows(agent.as_str().unwrap()), rows("nobody")), (1, 0));
    let empty = Home::ready();
    assert_eq!(export(&empty, &["--format", "jsonl"]), "");
    assert_eq!(
        export(&empty, &["--format", "csv"]).lines().count(),
        1,
        "the head"
    );
}

#[test]
fn without_a_node_nothing_is_reconciled() {
    let Some(street) = spent() else { return };
    let home = &street.home;
    home.farepass(["ledger", "reconcile"])
        .failed(2, &["no `rpc`", "hint: rpc:"]);
    home.configure("rpc: { \"eip155:1\": \"http://127.0.0.1:1/sesame\" }");
    let none = home.farepass(["ledger", "reconcile", "--json"]).ok();
    assert_eq!(none.out, "[]\n", "of that chain there is no payment");
    let listed = home.farepass(["ledger", "list", "--json"]).ok().json();
    let id = listed[0]["id"].as_str().unwrap();
    let found = || {
        let named = ["ledger", "reconcile", "--json", &id[..20]];
        let ended = home.farepass(named);
        let found = ended.json();
        let why = found[0]["detail"].as_str().unwrap_or_default().to_owned();
        let fresh = why.contains("under way");
        assert_eq!(ended.code, Some(if fresh { 4 } else { 0 }), "{found}");
        (!fresh).then(|| (found[0]["outcome"].clone(), why))
    };
    let (outcome, why) = until("an old enough payment", found);
    assert_eq!(outcome, "not_asked");
    assert!(why.contains("no node for eip155:84532"), "{why}");
    home.farepass(["ledger", "reconcile", "pay_ff"])
        .failed(1, &["no payment"]);
}

/// The same words beside a running proxy, which is asked.
#[test]
fn a_running_proxy_asks_for_us() {
    let Some(street) = spent() else { return };
    let home = &street.home;
    home.configure("rpc: { \"eip155:84532\": \"http://u:sesame@127.0.0.1:1/sesame\" }");
    let service = home.serve(&[]);
    let found = || {
        let ended = home.farepass(["ledger", "reconcile", "--json"]);
        assert!(!ended.err.contains("sesame"), "{ended:?}");
        let found = ended.json();
        let why = found[0]["detail"].as_str().unwrap_or_default().to_owned();
        (!why.contains("under way")).then_some((ended.code, found, why))
    };
    let (code, found, why) = until("an old enough payment", found);
    assert_eq!(code, Some(1), "nobody answered");
    assert_eq!(
        (&found[0]["outcome"], &found[0]["state"]),
        (&"unanswered".into(), &"settled".into())
    );
    assert!(
        why.contains("127.0.0.1:1") && !why.contains("sesame"),
        "{why}"
    );
    let table = home.farepass(["ledger", "reconcile"]);
    assert_eq!(table.code, Some(1));
    assert!(table.out.contains("unanswered"), "{table:?}");
    assert_eq!(service.stop(), Some(0));
    for log in ["serve.out", "serve.err"] {
        assert!(!home.read(log).contains("sesame"), "{log}");
    }
    home.farepass(["ledger", "verify"]).ok();
}

/// Bought with a secret in the query: the evidence has everything but that, and is never overwritten.
#[test]
fn a_dispute_has_evidence() {
    let street = Street::new();
    if !there_is("curl") {
        return;
    }
    let home = &street.home;
    let script = format!("curl -sS '{SHOP}/forecast?key=canary'; curl -sS {SHOP}/luxury");
    home.run(&["--agent", "bot"], &script).ok();
    let rows = home
        .farepass(["ledger", "list", "--denied", "--json"])
        .ok()
        .json();
    let id_of = |denied: bool| {
        let rows = rows.as_array().unwrap();
        let row = rows.iter().find(|r| (r["state"] == "denied") == denied);
        row.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let id = id_of(false);
    let printed = home.farepass(["dispute", &id[..24]]).ok();
    let asked = home.farepass(["dispute", &id[..24], "--json"]).ok();
    assert_eq!(asked.out, printed.out, "it is JSON in any case");
    let file = printed.json();
    assert_eq!(file["payment"], id.as_str());
    assert_eq!(file["agent"], "bot");
    assert_eq!(file["request"]["path"], "/forecast");
    assert_eq!(file["signed"]["message"]["value"], file["offer"]["amount"]);
    assert!(!printed.out.contains("canary"), "{}", printed.out);

    let out = home.path().join("evidence.json");
    let named = ["dispute", &id, "--out", out.to_str().unwrap()];
    assert_eq!(home.farepass(named).ok().out, "");
    assert_eq!(home.read("evidence.json"), printed.out);
    home.farepass(named).failed(1, &["not overwritten"]);
    assert_eq!(home.read("evidence.json"), printed.out);
    home.farepass(["dispute", &id_of(true)])
        .failed(1, &["refusal"]);
    home.farepass(["dispute", "pay_ff"])
        .failed(1, &["no payment"]);
}
