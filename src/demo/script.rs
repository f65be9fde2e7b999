//! What happens in the demonstration, scene by scene. Every figure that is printed comes from the
//! answers, from the ledger or from the merchant's till, and each is checked.

use std::io;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use super::DemoError;
use super::page::{Page, dollars};
use super::stage::{BUDGET, CASINO, Stage, WEATHER};
use crate::event::{SpendEvent, State};
use crate::payment::{PaymentId, Reason};
use crate::sidecar::variables;

/// All scenes in order.
pub(super) async fn play(stage: &Stage, page: &mut Page<'_>) -> Result<(), DemoError> {
    introduce(stage, page)?;
    let mut play = Play { stage, page };
    play.free().await?;
    play.first_purchase().await?;
    play.second_purchase().await?;
    play.until_the_budget_is_used_up().await?;
    play.too_dear().await?;
    play.stranger().await?;
    play.books().await?;
    farewell(play.page)?;
    Ok(())
}

fn introduce(stage: &Stage, page: &mut Page<'_>) -> io::Result<()> {
    page.title("Farepass demo: an agent buys from a merchant through a proxy, all on this machine. No real money.")?;
    page.says(
        "merchant",
        &format!("https://{WEATHER} asks for 402 and verifies every signature"),
    )?;
    page.says(
        "proxy",
        &format!(
            "http://{} with a budget of {BUDGET} and one rule",
            stage.proxy()
        ),
    )?;
    page.says("wallet", &format!("{} made for this run", stage.wallet))?;
    page.says(
        "agent",
        "plain HTTPS; all it was told is the proxy's address and its CA certificate",
    )
}

/// How to be the agent oneself.
pub(super) fn invite(stage: &Stage, page: &mut Page<'_>) -> io::Result<()> {
    introduce(stage, page)?;
    page.part("Be the agent: in another terminal, with curl")?;
    let (proxy, roots) = (stage.proxy(), stage.roots().display());
    page.plain(&format!(
        "   export HTTPS_PROXY=http://{proxy} CURL_CA_BUNDLE={roots}"
    ))?;
    for (what, price) in [
        (format!("https://{WEATHER}/"), "free"),
        (format!("https://{WEATHER}/forecast"), "0.01 USD"),
        (
            format!("-d 'some text' https://{WEATHER}/report"),
            "0.02 USD",
        ),
        (
            format!("https://{WEATHER}/luxury"),
            "5.00 USD, more than the rule allows",
        ),
    ] {
        page.plain(&format!("   curl -i {what:<46}  # {price}"))?;
    }
    page.part("Other clients (Python, Node, git, …) read other variables:")?;
    for (names, first) in others() {
        page.plain(&format!(
            "   for name in {names}; do export $name=${first}; done"
        ))?;
    }
    page.plain(&format!(
        "   export {}=1    # Node from 22.21 and 24.5 on; older ones under `farepass run`",
        variables::NODE
    ))?;
    page.part("Ctrl-C ends it and shows the ledger.")
}

/// The names that `run` sets besides, with the one of the same value that is set already. The certificate
/// is all that clients need here, also those that want every root.
fn others() -> [(String, &'static str); 2] {
    let besides = |names: &[&[&'static str]], first: &'static str| {
        let names = names.concat().into_iter().filter(|name| *name != first);
        (names.collect::<Vec<_>>().join(" "), first)
    };
    [
        besides(&[variables::PROXY], "HTTPS_PROXY"),
        besides(&[variables::BUNDLE, variables::CA], "CURL_CA_BUNDLE"),
    ]
}

struct Play<'s, 'p, 'o> {
    stage: &'s Stage,
    page: &'p mut Page<'o>,
}

impl Play<'_, '_, '_> {
    async fn free(&mut self) -> Result<(), DemoError> {
        self.page.scene("A free page")?;
        let answer = self.ask(Method::GET, WEATHER, "/", "").await?;
        expect(answer.status() == StatusCode::OK, "a free page is free")?;
        self.answered(&answer)?;
        let recorded = self.stage.payments().await?;
        expect(recorded.is_empty(), "a free page leaves no record")?;
        self.page.says("ledger", "nothing to record")?;
        Ok(())
    }

    async fn first_purchase(&mut self) -> Result<(), DemoError> {
        self.page.scene("A page that costs money")?;
        let answer = self.ask(Method::GET, WEATHER, "/forecast", "").await?;
        let records = self.bought(&answer).await?;
        self.narrate(&records)?;
        self.answered(&answer)?;
        let (mut name, mut field) = ("header", "Farepass-Payment: ");
        for part in text(&answer, "farepass-payment").split_inclusive("; ") {
            self.page
                .says(name, &format!("{field}{}", part.trim_end()))?;
            (name, field) = ("", "  ");
        }
        Ok(())
    }

    async fn second_purchase(&mut self) -> Result<(), DemoError> {
        self.page
            .scene("A dearer one, asked with a body, in the older version of the protocol")?;
        let body = "Tomorrow it will rain frogs in Utrecht.";
        let answer = self.ask(Method::POST, WEATHER, "/report", body).await?;
        let records = self.bought(&answer).await?;
        self.narrate(&records)?;
        self.answered(&answer)?;
        Ok(())
    }

    async fn until_the_budget_is_used_up(&mut self) -> Result<(), DemoError> {
        self.page
            .scene("Once more, to the last cent of the budget")?;
        let answer = self.ask(Method::GET, WEATHER, "/forecast", "").await?;
        self.bought(&answer).await?;
        self.answered(&answer)?;
        let left = text(&answer, "farepass-payment").contains("remaining=\"0.00 USD\"");
        expect(left, "the last cent is spent")?;
        self.page
            .says("ledger", "the whole budget is spent, and not more")?;
        self.page.scene("And one too many")?;
        let answer = self.ask(Method::GET, WEATHER, "/forecast", "").await?;
        self.refused(&answer, Reason::OverSessionCap)
    }

    async fn too_dear(&mut self) -> Result<(), DemoError> {
        self.page.scene("A price above what one request may cost")?;
        let answer = self.ask(Method::GET, WEATHER, "/luxury", "").await?;
        self.refused(&answer, Reason::OverRequestCap)
    }

    async fn stranger(&mut self) -> Result<(), DemoError> {
        self.page.scene("A merchant that no rule names")?;
        let answer = self.ask(Method::GET, CASINO, "/forecast", "").await?;
        self.refused(&answer, Reason::HostNotAllowed)
    }

    /// The ledger, its own check, and the merchant's till must tell one story.
    async fn books(&mut self) -> Result<(), DemoError> {
        self.page.part("The ledger")?;
        let rows = self.stage.payments().await?;
        self.page.ledger(&rows)?;
        let report = self.stage.ledger().verify().await?;
        expect(report.problems.is_empty(), "the ledger is whole")?;
        let settled = rows.iter().filter(|e| e.state == State::Settled);
        let charged = settled.clone().filter_map(|e| e.charged);
        let spent = charged.map(|usd| u128::from(usd.0)).sum::<u128>();
        let (payments, earned) = self.stage.merchant.takings();
        expect(payments == settled.count(), "as many sales as payments")?;
        expect(
            u128::from(dollars(earned).0) == spent,
            "as much earned as spent",
        )?;
        self.page.plain("")?;
        let chain = format!(
            "{} records in one hash chain, every sum right",
            report.records
        );
        self.page.says("verify", &chain)?;
        let till = format!("took {payments} payments, {}: the same", dollars(earned));
        self.page.says("merchant", &till)?;
        Ok(())
    }

    async fn ask(
        &mut self,
        method: Method,
        host: &str,
        path: &str,
        body: &'static str,
    ) -> Result<Response<Bytes>, DemoError> {
        self.page
            .plain(&format!("   {method} https://{host}{path}"))?;
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| DemoError::Unexpected("a path"))?;
        Ok(self.stage.agent.send(host, request).await?)
    }

    fn answered(&mut self, answer: &Response<Bytes>) -> io::Result<()> {
        let body = String::from_utf8_lossy(answer.body());
        self.page.answer(answer.status().as_u16(), &body)
    }

    /// The first two records of a purchase: its reservation and its settlement.
    async fn bought(
        &mut self,
        answer: &Response<Bytes>,
    ) -> Result<(SpendEvent, SpendEvent), DemoError> {
        expect(answer.status() == StatusCode::OK, "a purchase delivers")?;
        let note = text(answer, "farepass-payment");
        let id = note.split(';').next().unwrap_or_default();
        let id: PaymentId = id
            .parse()
            .map_err(|_| DemoError::Unexpected("a paid answer names its payment"))?;
        // The answer did not wait for the second record's disk.
        self.stage.ledger().flush().await?;
        let history = self.stage.ledger().history(id).await?;
        let mut records = history.into_iter();
        let mut next = |state| records.next().filter(|record| record.state == state);
        next(State::Reserved)
            .zip(next(State::Settled))
            .ok_or(DemoError::Unexpected("it is reserved, then settled"))
    }

    /// What went on behind the agent's back, as the ledger has it.
    fn narrate(&mut self, (reserved, settled): &(SpendEvent, SpendEvent)) -> io::Result<()> {
        let price = reserved.price.unwrap_or_default();
        let units = reserved.amount.unwrap_or_default();
        let asked = format!(
            "402 in {}: {price} ({units} units of {} on {})",
            reserved.protocol, reserved.asset, reserved.network
        );
        self.page.says("merchant", &asked)?;
        let rule = reserved.rule.as_deref().unwrap_or_default();
        self.page
            .says("policy", &format!("rule {rule:?} allows it"))?;
        let kept = format!(
            "{} reserved, on disk, before anything is signed",
            reserved.id
        );
        self.page.says("ledger", &kept)?;
        let until = reserved.valid_before.unwrap_or_default();
        let lives = until.saturating_sub(reserved.time.secs());
        let signed = format!("signed a transfer to {}, valid {lives} s", reserved.pay_to);
        self.page.says("wallet", &signed)?;
        let transaction = settled.transaction.as_deref().unwrap_or_default();
        let short = transaction.get(..18).unwrap_or(transaction);
        let receipt = format!("signature verified, receipt {short}…");
        self.page.says("merchant", &receipt)?;
        self.page.says("ledger", "settled")
    }

    fn refused(&mut self, answer: &Response<Bytes>, reason: Reason) -> Result<(), DemoError> {
        let status = answer.status();
        expect(status == StatusCode::PAYMENT_REQUIRED, "a refusal is a 402")?;
        let kind = text(answer, "content-type");
        expect(
            kind == "application/problem+json",
            "a refusal explains itself",
        )?;
        let document: Value = serde_json::from_slice(answer.body())
            .map_err(|_| DemoError::Unexpected("a refusal is JSON"))?;
        expect(
            document["reason"] == reason.code(),
            "the reason is the right one",
        )?;
        self.page.answer(status.as_u16(), &kind)?;
        self.page.problem(&document)?;
        Ok(())
    }
}

fn farewell(page: &mut Page<'_>) -> io::Result<()> {
    page.part("With your own agent")?;
    for (command, what) in [
        (
            "farepass init",
            "a configuration, a certificate authority, a wallet key",
        ),
        (
            "farepass check",
            "are the configuration and its rules sound?",
        ),
        (
            "farepass run -- python3 agent.py",
            "any program, unchanged, within the rules",
        ),
    ] {
        page.plain(&format!("   {command:<34}  {what}"))?;
    }
    Ok(())
}

fn text(answer: &Response<Bytes>, name: &str) -> String {
    let value = answer.headers().get(name);
    let text = value.and_then(|v| v.to_str().ok());
    text.unwrap_or_default().into()
}

fn expect(is_so: bool, what: &'static str) -> Result<(), DemoError> {
    if is_so {
        Ok(())
    } else {
        Err(DemoError::Unexpected(what))
    }
}
