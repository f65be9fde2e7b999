//! Was it right? What a case expects, and what must hold in every case.

use std::collections::BTreeSet;

use serde_json::Value;

use super::scene::{Scene, Turn};
use crate::support::USDC;
use crate::support::chain::{Domain, Transfer};
use crate::support::http::Answer;
use crate::support::json::Json;
use crate::support::merchant::Seen;

/// A signature that reached the merchant, with the asset that it is for.
struct Signed {
    at: usize,
    transfer: Transfer,
    asset: String,
    network: String,
}

impl Scene<'_> {
    pub(super) fn judge(&self, expect: &Json, wrong: &mut Vec<String>) {
        let signed = self.signed(wrong);
        self.judge_decisions(expect, &signed, wrong);
        self.judge_signed(expect, &signed, wrong);
        self.judge_ledger(expect, &signed, wrong);
        self.judge_agent(expect, wrong);
        self.judge_upstream(expect, wrong);
        self.judge_logs(expect, wrong);
        self.judge_invariants(&signed, wrong);
    }

    /// Every distinct authorization that left the proxy, checked against the wallet's key.
    fn signed(&self, wrong: &mut Vec<String>) -> Vec<Signed> {
        let mut nonces = BTreeSet::new();
        let mut signed = vec![];
        for (at, seen) in self.seen.iter().enumerate() {
            let Some(payment) = seen.payment() else {
                continue;
            };
            let Some(transfer) = Transfer::in_header(payment) else {
                continue;
            };
            if !transfer.from.eq_ignore_ascii_case(&self.payer)
                || !nonces.insert(transfer.nonce.clone())
            {
                continue;
            }
            match self
                .domains()
                .find(|(d, _)| transfer.signer(d).as_ref() == Some(&self.payer))
            {
                Some((domain, network)) => signed.push(Signed {
                    at,
                    transfer,
                    asset: domain.token,
                    network,
                }),
                None => wrong.push(format!(
                    "a signature is for no asset of the policy: {transfer:?}"
                )),
            }
        }
        signed
    }

    fn domains(&self) -> impl Iterator<Item = (Domain, String)> + use<'_> {
        let assets = self
            .case
            .policy
            .get("assets")
            .map(Json::items)
            .unwrap_or_default();
        assets.iter().filter_map(|asset| {
            let text = |key: &str| asset.get(key).and_then(Json::text);
            let eip712 = |key: &str| asset.get("eip712")?.get(key)?.text();
            let network = text("network")?;
            let chain = network.strip_prefix("eip155:")?.parse().ok()?;
            let (name, version) = (eip712("name")?, eip712("version")?);
            Some((
                Domain {
                    name,
                    version,
                    chain,
                    token: text("address")?,
                },
                network,
            ))
        })
    }

    fn judge_decisions(&self, expect: &Json, signed: &[Signed], wrong: &mut Vec<String>) {
        let also: Vec<_> = texts(expect, "also_ok");
        let reasons = texts(expect, "reasons");
        let mut wanted = texts(expect, "decisions");
        let decided: Vec<_> = self.turns.iter().map(|t| self.decided(t, signed)).collect();
        let told = |i: usize| {
            let status = self.turns[i].answer.as_ref().map(|a| {
                (
                    a.status,
                    a.reason(),
                    a.text().chars().take(200).collect::<String>(),
                )
            });
            format!("{status:?}")
        };
        if wanted.is_empty() {
            let last = expect
                .get("decision")
                .and_then(Json::text)
                .unwrap_or_default();
            let (i, found) = (decided.len() - 1, decided.last().unwrap());
            if *found != last && !also.iter().any(|a| a == found) {
                wrong.push(format!(
                    "decision {found}, expected {last} {also:?}: {}",
                    told(i)
                ));
            }
        } else {
            let mut found: Vec<_> = decided.iter().map(|d| (*d).to_owned()).collect();
            if self.case.requests.iter().any(|r| r.concurrency > 1) {
                found.sort();
                wanted.sort();
            }
            if found != wanted {
                wrong.push(format!(
                    "decisions {found:?}, expected {wanted:?}; the last: {}",
                    told(found.len() - 1)
                ));
            }
        }
        let refused = decided.iter().rposition(|d| *d == "refuse");
        if let Some(i) = refused.filter(|_| !reasons.is_empty()) {
            let answer = self.turns[i].answer.as_ref().unwrap();
            let classes = classes(answer);
            if !classes.iter().any(|c| reasons.contains(c)) {
                wrong.push(format!("reason {classes:?}, expected one of {reasons:?}"));
            }
        }
    }

    fn decided(&self, turn: &Turn, signed: &[Signed]) -> &'static str {
        let Ok(answer) = &turn.answer else {
            return "none";
        };
        let paid = signed.iter().any(|s| turn.seen.contains(&s.at));
        let sent = self.play.sent.lock().unwrap();
        match (answer.reason(), paid) {
            (Some(_), _) => "refuse",
            (None, true) => "pay",
            (None, false) if sent.iter().any(|s| s.is(answer)) => "pass-through",
            (None, false) => "changed",
        }
    }

    fn judge_signed(&self, expect: &Json, signed: &[Signed], wrong: &mut Vec<String>) {
        let limit = |key: &str| {
            expect
                .get("signed")
                .and_then(|s| s.get(key))
                .and_then(Json::text)
        };
        let count = signed.len();
        if limit("max")
            .and_then(|m| m.parse::<usize>().ok())
            .is_some_and(|max| count > max)
        {
            wrong.push(format!("{count} signatures, at most {:?}", limit("max")));
        }
        if limit("min")
            .and_then(|m| m.parse::<usize>().ok())
            .is_some_and(|min| count < min)
        {
            wrong.push(format!("{count} signatures, at least {:?}", limit("min")));
        }
        let total: u128 = signed.iter().map(|s| s.transfer.value).sum();
        let most = limit("per_total_max").or_else(|| limit("total_max"));
        if most
            .as_ref()
            .and_then(|m| m.parse::<u128>().ok())
            .is_some_and(|max| total > max)
        {
            wrong.push(format!("signed {total} in all, at most {most:?}"));
        }
        let alternatives: Vec<&Json> = match expect.get("terms") {
            Some(terms) => vec![terms],
            None => expect
                .get("terms_any")
                .map(|t| t.items().iter().collect())
                .unwrap_or_default(),
        };
        let slack = 2;
        let life = expect
            .get("max_validity_s")
            .and_then(Json::int)
            .and_then(|s| u64::try_from(s).ok());
        for s in signed {
            if !alternatives.is_empty() && !alternatives.iter().any(|terms| s.fits(terms)) {
                wrong.push(format!(
                    "signed other terms: {:?} for {} on {}",
                    s.transfer, s.asset, s.network
                ));
            }
            let signed_at = self.seen[s.at].unix;
            if life.is_some_and(|life| s.transfer.valid_before > signed_at + life + slack) {
                wrong.push(format!(
                    "a payload lives {} s, at most {life:?}",
                    s.transfer.valid_before - signed_at
                ));
            }
        }
    }

    fn judge_ledger(&self, expect: &Json, signed: &[Signed], wrong: &mut Vec<String>) {
        let want = |key: &str| {
            expect
                .get("ledger")
                .and_then(|l| l.get(key))
                .and_then(Json::text)
        };
        let (settled, held) = (
            self.books.sum(&["settled"]),
            self.books.sum(&["unknown", "reserved"]),
        );
        for (key, found) in [("settled", settled), ("held", held)] {
            if want(key).is_some_and(|want| want != found.to_string()) {
                wrong.push(format!(
                    "the ledger has {found} {key}, expected {}",
                    want(key).unwrap()
                ));
            }
        }
        let flags = self.books.flags();
        for flag in expect
            .get("ledger")
            .map(|l| texts(l, "flags"))
            .unwrap_or_default()
        {
            if !flags.contains(&flag) {
                wrong.push(format!("the flag {flag} is missing; there are {flags:?}"));
            }
        }
        let nonces = self.books.nonces();
        for s in signed
            .iter()
            .filter(|s| !nonces.contains(&s.transfer.nonce.to_ascii_lowercase()))
        {
            wrong.push(format!(
                "the ledger does not know the nonce {}",
                s.transfer.nonce
            ));
        }
    }

    fn judge_agent(&self, expect: &Json, wrong: &mut Vec<String>) {
        let want = expect.get("agent").cloned().unwrap_or(Json::Null);
        let deadline = want
            .get("deadline_s")
            .and_then(Json::duration)
            .unwrap_or(self.deadline);
        for turn in &self.turns {
            if turn.took > deadline {
                wrong.push(format!("an answer took {:?}", turn.took));
            }
            let Ok(answer) = &turn.answer else {
                wrong.push(format!("no answer: {:?}", turn.answer));
                continue;
            };
            for text in texts(&want, "body_excludes") {
                if answer.text().contains(&text) {
                    wrong.push(format!(
                        "the agent saw {text:?}: {} {}",
                        answer.status,
                        answer.text()
                    ));
                }
            }
            for text in texts(&want, "header_excludes")
                .iter()
                .map(|t| t.to_ascii_lowercase())
            {
                let line = |(n, v): &(String, String)| {
                    format!("{n}: {v}").to_ascii_lowercase().contains(&text)
                };
                if answer.fields.iter().any(line) {
                    wrong.push(format!("the agent saw the header {text:?}"));
                }
            }
        }
        let Some(Ok(last)) = self.turns.last().map(|t| &t.answer) else {
            return;
        };
        let statuses = texts(&want, "status_in");
        if !statuses.is_empty() && !statuses.contains(&last.status.to_string()) {
            wrong.push(format!("status {}, expected {statuses:?}", last.status));
        }
        for text in texts(&want, "body_includes") {
            if !last.text().contains(&text) {
                wrong.push(format!(
                    "the agent did not see {text:?} but {:?}",
                    last.text()
                ));
            }
        }
    }

    fn judge_upstream(&self, expect: &Json, wrong: &mut Vec<String>) {
        let Some(want) = expect.get("upstream") else {
            return;
        };
        for host in texts(want, "never_contacted") {
            if self.seen.iter().any(|s| s.host.eq_ignore_ascii_case(&host)) {
                wrong.push(format!("{host} was contacted"));
            }
        }
        for host in texts(want, "no_payment_header_at") {
            if self
                .seen
                .iter()
                .any(|s| s.host.eq_ignore_ascii_case(&host) && s.payment().is_some())
            {
                wrong.push(format!("{host} got a payment"));
            }
        }
        for name in texts(want, "headers_absent") {
            if self.seen.iter().any(|s| s.head.one(&name).is_some()) {
                wrong.push(format!("the merchant saw the header {name}"));
            }
        }
        let most = want
            .get("max_requests")
            .and_then(Json::int)
            .and_then(|n| usize::try_from(n).ok());
        if most.is_some_and(|most| self.seen.len() > most) {
            wrong.push(format!(
                "{} requests upstream, at most {most:?}",
                self.seen.len()
            ));
        }
        if want.get("same_body") == Some(&Json::Bool(true)) {
            for paid in self.seen.iter().filter(|s| s.payment().is_some()) {
                let first = |s: &&Seen| {
                    s.payment().is_none() && s.target == paid.target && s.method == paid.method
                };
                if !self
                    .seen
                    .iter()
                    .filter(first)
                    .any(|s| s.body.sha256 == paid.body.sha256)
                {
                    wrong.push("the paid request has another body".into());
                }
            }
        }
    }

    fn judge_logs(&self, expect: &Json, wrong: &mut Vec<String>) {
        let has = |text: &str| self.everything.contains(text);
        let logs = expect.get("logs");
        for text in logs.map(|l| texts(l, "excludes")).unwrap_or_default() {
            if has(&text) {
                wrong.push(format!(
                    "{text:?} is in the logs, the ledger or the metrics"
                ));
            }
        }
        let never = logs.map(|l| texts(l, "no_event")).unwrap_or_default();
        for line in self.stdout.lines() {
            let Ok(event) = serde_json::from_str::<Value>(line) else {
                wrong.push(format!("a line of stdout is no record: {line:?}"));
                continue;
            };
            let words = [&event["event"], &event["state"], &event["reason"]];
            let flags = event["flags"].as_array().cloned().unwrap_or_default();
            for class in &never {
                if words.iter().any(|w| *w == class) || flags.iter().any(|f| f == class) {
                    wrong.push(format!("there is an event {class}: {line}"));
                }
            }
        }
    }

    fn judge_invariants(&self, signed: &[Signed], wrong: &mut Vec<String>) {
        if !self.alive {
            wrong.push("the proxy is not well afterwards".into());
        }
        if self.grown_kib > 64 * 1024 {
            wrong.push(format!("memory grew by {} KiB", self.grown_kib));
        }
        let counted = self.books.counted();
        if self
            .domains()
            .all(|(d, _)| d.token.eq_ignore_ascii_case(USDC))
            && counted > self.cap
        {
            wrong.push(format!(
                "{counted} counted, the session may spend {}",
                self.cap
            ));
        }
        if signed.len() > self.turns.len() {
            wrong.push(format!(
                "{} signatures for {} requests",
                signed.len(),
                self.turns.len()
            ));
        }
        let mut secrets: Vec<(&str, String)> = vec![("the wallet's key", self.key.clone())];
        secrets.extend(signed.iter().map(|s| {
            (
                "a signature",
                s.transfer.signature.trim_start_matches("0x").to_owned(),
            )
        }));
        let paid = self
            .seen
            .iter()
            .filter_map(Seen::payment)
            .map(|p| ("a payload", p.to_owned()));
        secrets.extend(paid.filter(|(_, p)| p.len() > 100));
        for (what, secret) in secrets {
            if self.everything.contains(&secret) {
                wrong.push(format!("{what} is in the logs, the ledger or the metrics"));
            }
        }
        if self.stdout.chars().any(|c| c.is_control() && c != '\n') {
            wrong.push("there are control characters in the log".into());
        }
    }
}

impl Signed {
    fn fits(&self, terms: &Json) -> bool {
        let is = |key: &str, found: &str| {
            terms
                .get(key)
                .and_then(Json::text)
                .is_none_or(|want| want.eq_ignore_ascii_case(found))
        };
        is("payTo", &self.transfer.to)
            && is("amount", &self.transfer.value.to_string())
            && is("asset", &self.asset)
            && is("network", &self.network)
    }
}

/// The reason classes that our answer may be filed under.
fn classes(answer: &Answer) -> Vec<String> {
    let reason = answer.reason().unwrap_or_default();
    let class = match reason.as_str() {
        "denied_by_rule" => "host_not_allowed",
        "over_budget" | "session_expired" => "over_session_cap",
        _ if matches!(answer.status, 502 | 504) => "transport_error",
        _ => "",
    };
    [reason, class.to_owned()]
        .into_iter()
        .filter(|c| !c.is_empty())
        .collect()
}

fn texts(json: &Json, key: &str) -> Vec<String> {
    json.get(key)
        .map(Json::items)
        .unwrap_or_default()
        .iter()
        .filter_map(Json::text)
        .collect()
}
