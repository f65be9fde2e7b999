//! The policies of docs/cookbook.md, played: every row of its tables is a request of a real client through the
//! real proxy to a merchant that asks that price, and ends as the row says.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::curl::{curl, fetch};
use crate::support::http::Answer;
use crate::support::merchant::{After, Merchant, Seen};
use crate::support::proxy::{Proxy, Setup};
use crate::support::{USDC, shop, until};

const HEAD: &str = "| who | asks | price | outcome |";
const PATIENCE: Duration = Duration::from_secs(20);

/// One row of a table.
#[derive(Debug)]
struct Row {
    who: String,
    asks: String,
    price: String,
    outcome: String,
}

/// One chapter of the cookbook: its policy, and what happens under it.
struct Recipe {
    title: String,
    policy: String,
    rows: Vec<Row>,
}

fn recipes() -> Vec<Recipe> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cookbook.md");
    let text = std::fs::read_to_string(file).unwrap();
    text.split("\n## ").skip(1).map(Recipe::read).collect()
}

impl Recipe {
    fn read(chapter: &str) -> Self {
        let title = chapter.lines().next().unwrap().to_owned();
        let fence = chapter.split_once("```yaml run\n");
        let (_, rest) = fence.unwrap_or_else(|| panic!("{title}: no policy"));
        let policy = rest.split("```").next().unwrap().to_owned();
        let below = chapter.split_once(HEAD).map_or("", |(_, rest)| rest);
        let rows = below.lines().skip(2).take_while(|l| l.starts_with('|'));
        Self {
            rows: rows.map(|line| Row::read(line, &title)).collect(),
            title,
            policy,
        }
    }

    /// The policy as it is written, but for where it listens, where its files are and who the merchants are.
    fn setup(&self, merchant: &Merchant) -> Setup {
        let mut setup = Setup::new();
        let mut config: Value = serde_yaml::from_str(&self.policy).unwrap();
        for own in ["listen", "state_dir", "tls", "egress"] {
            config[own] = setup.config[own].clone();
        }
        for wallet in config["wallets"].as_array_mut().unwrap() {
            wallet["key_file"] = setup.config["wallets"][0]["key_file"].clone();
        }
        setup.config = config;
        setup.log = "info";
        setup.root(&merchant.root);
        let hosts = self.rows.iter().filter_map(Row::url);
        for host in hosts.filter_map(|url| url.split('/').nth(2).map(str::to_owned)) {
            setup.resolve(&format!("{host}:443"), merchant.tls.port().into());
        }
        setup
    }
}

impl Row {
    fn read(line: &str, title: &str) -> Self {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [who, asks, price, outcome] = cells[..] else {
            panic!("{title}: not four cells: {line}");
        };
        let plain = |cell: &str| cell.replace('`', "");
        Self {
            who: plain(who),
            asks: plain(asks),
            price: plain(price),
            outcome: plain(outcome),
        }
    }

    fn url(&self) -> Option<&str> {
        let words = self.asks.split(' ').map(|w| w.trim_end_matches(','));
        words.into_iter().find(|w| w.starts_with("https://"))
    }

    /// `POST URL, tool search`.
    fn tool(&self) -> Option<&str> {
        self.asks.split_once(", tool ").map(|(_, tool)| tool)
    }
}

/// What the merchant does with the next request.
#[derive(Clone, Default)]
struct Terms {
    amount: String,
    payee: &'static str,
    /// It takes the money and answers 500.
    fails: bool,
}

impl Terms {
    /// `0.03 USD`, `0.03 USD to B`, `0.03 USD, then 500`.
    fn read(price: &str) -> Self {
        let (usd, rest) = price.split_once(" USD").unwrap();
        let (whole, cents) = usd.split_once('.').unwrap();
        let micro: u64 = format!("{whole}{cents:0<6}").parse().unwrap();
        Self {
            amount: micro.to_string(),
            payee: match rest {
                " to B" => "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
                _ => "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
            },
            fails: rest == ", then 500",
        }
    }

    fn challenge(&self, seen: &Seen) -> Value {
        json!({
            "x402Version": 2, "error": "Payment required",
            "resource": { "url": format!("https://{}{}", seen.host, seen.target), "mimeType": "text/plain" },
            "accepts": [{
                "scheme": "exact", "network": "eip155:84532", "amount": self.amount, "asset": USDC,
                "payTo": self.payee, "maxTimeoutSeconds": 60, "extra": { "name": "USDC", "version": "2" },
            }],
        })
    }

    fn answer(&self, seen: &Seen, out: &mut dyn Write) -> io::Result<After> {
        let call: Value = serde_json::from_slice(&seen.body.start).unwrap_or_default();
        let paid = seen.payment().is_some() || !call["params"]["_meta"]["x402/payment"].is_null();
        match (paid, call["id"].is_null()) {
            (true, true) if self.fails => {
                out.write_all(b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n")?;
                Ok(After::Keep)
            }
            (true, true) => shop::sell("sold", out),
            (false, true) => shop::ask(&self.challenge(seen), out),
            (true, false) => {
                let receipt: Value =
                    serde_json::from_slice(&STANDARD.decode(shop::receipt()).unwrap()).unwrap();
                let goods = json!({ "content": [], "_meta": { "x402/payment-response": receipt } });
                result(&call, &goods, out)
            }
            (false, false) => {
                let demand = json!({ "isError": true, "structuredContent": self.challenge(seen), "content": [] });
                result(&call, &demand, out)
            }
        }
    }
}

fn result(call: &Value, result: &Value, out: &mut dyn Write) -> io::Result<After> {
    let body = json!({ "jsonrpc": "2.0", "id": call["id"], "result": result }).to_string();
    write!(
        out,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    Ok(After::Keep)
}

/// A running proxy under a recipe's policy.
struct Play {
    merchant: Merchant,
    proxy: Proxy,
    terms: Arc<Mutex<Terms>>,
    /// The proxy URLs of agents that have a session.
    agents: BTreeMap<String, String>,
    /// Payments that the merchant saw, in their order.
    payments: Vec<String>,
}

impl Play {
    fn of(recipe: &Recipe) -> Self {
        let terms = Arc::new(Mutex::new(Terms::default()));
        let kept = Arc::clone(&terms);
        let merchant = Merchant::start(move |seen, out| {
            let terms = kept.lock().unwrap().clone();
            terms.answer(seen, out)
        });
        let proxy = recipe.setup(&merchant).start();
        Self {
            merchant,
            proxy,
            terms,
            agents: BTreeMap::new(),
            payments: vec![],
        }
    }

    /// What became of it, in the words of the outcome.
    fn row(&mut self, row: &Row) -> String {
        match row.who.as_str() {
            "operator" => self.operator(&row.asks),
            who => self.agent(who, row),
        }
    }

    /// A command, a signal or a change to the file.
    fn operator(&self, asks: &str) -> String {
        if let Some(change) = asks.strip_prefix("sed -i s/") {
            let words: Vec<_> = change.split('/').collect();
            return self.changed(words[0], words[1]).to_owned();
        }
        let words = asks.strip_prefix("farepass ").unwrap();
        let question = || {
            let open = self.proxy.setup.run(&["approve", "--json"]).stdout;
            let open: Value = serde_json::from_slice(&open).unwrap();
            open[0]["id"].as_str().unwrap().to_owned()
        };
        let words: Vec<_> = words
            .split(' ')
            .map(|w| if w == "ID" { question() } else { w.to_owned() })
            .collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let out = self.proxy.setup.run(&words);
        assert!(out.status.success(), "{asks}: {out:?}");
        "done".to_owned()
    }

    /// The policy with another word in it, and SIGHUP.
    fn changed(&self, from: &str, to: &str) -> &'static str {
        let setup = &self.proxy.setup;
        let written = serde_json::to_string_pretty(&setup.config).unwrap();
        assert_eq!(written.matches(from).count(), 1, "{from} in {written}");
        std::fs::write(setup.file(), written.replace(from, to)).unwrap();
        let before = self.proxy.stderr().len();
        self.proxy.reload();
        until("an answer to SIGHUP", PATIENCE, || {
            let said = self.proxy.stderr().split_off(before);
            match (said.contains("is weaker"), said.contains("was read again")) {
                (true, _) => Some("not taken"),
                (_, true) => Some("taken"),
                (false, false) => None,
            }
        })
    }

    fn entrance(&mut self, who: &str) -> String {
        if who == "anybody" {
            return self.proxy.url();
        }
        let setup = &self.proxy.setup;
        let made = self.agents.entry(who.to_owned()).or_insert_with(|| {
            let out = setup.run(&["session", "create", "--agent", who]);
            String::from_utf8(out.stdout).unwrap().trim().to_owned()
        });
        made.clone()
    }

    fn agent(&mut self, who: &str, row: &Row) -> String {
        *self.terms.lock().unwrap() = Terms::read(&row.price);
        let mut client = curl(&self.entrance(who), &self.proxy.ca());
        let method = row.asks.split(' ').next().unwrap();
        client.arg(row.url().unwrap()).args(["--request", method]);
        if let Some(tool) = row.tool() {
            let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool } });
            client.args(["--header", "content-type: application/json"]);
            client.args(["--data", &call.to_string()]);
        }
        let before = self.merchant.seen().len();
        let answer = match fetch(client) {
            Ok(answer) => answer,
            Err(said) if said.contains("407") => return "407".to_owned(),
            Err(said) => return said,
        };
        let seen = self.merchant.seen().split_off(before);
        self.outcome(&answer, &seen)
    }

    fn outcome(&mut self, answer: &Answer, seen: &[Seen]) -> String {
        let paying = |seen: &Seen| {
            let call: Value = serde_json::from_slice(&seen.body.start).unwrap_or_default();
            let inside = call["params"]["_meta"]["x402/payment"].clone();
            let inside = (!inside.is_null()).then(|| inside.to_string());
            seen.payment().map(str::to_owned).or(inside)
        };
        let paid: Vec<_> = seen.iter().filter_map(paying).collect();
        // What observes sends the merchant's own 402, and says so in a header.
        let decision = answer.one("farepass-decision").unwrap_or_default();
        let observed = decision.contains("observe_mode");
        let observed = observed.then(|| "observe_mode".to_owned());
        let refusal = answer.reason().or(observed);
        let inside = serde_json::from_slice::<Value>(&answer.body.start).unwrap_or_default();
        let inside = inside["error"]["data"]["reason"]
            .as_str()
            .map(str::to_owned);
        let outcome = match (&paid[..], refusal.or(inside)) {
            ([], Some(reason)) => reason,
            ([one], None) => match (answer.status, self.payments.contains(one), seen.len()) {
                (500, _, _) => "not delivered".to_owned(),
                (200, true, _) => "paid with the same payment".to_owned(),
                (200, false, 1) => "paid at once".to_owned(),
                (200, false, _) => "paid".to_owned(),
                other => format!("{other:?}"),
            },
            (many, reason) => format!(
                "{} payments, {reason:?}, {}: {:?} {}",
                many.len(),
                answer.status,
                answer.fields,
                answer.text()
            ),
        };
        self.payments.extend(paid);
        outcome
    }
}

#[test]
fn what_the_cookbook_says_happens() {
    let recipes = recipes();
    let played: Vec<_> = recipes.iter().filter(|r| !r.rows.is_empty()).collect();
    assert!(played.len() >= 15, "{} recipes with a table", played.len());
    let mut wrong = vec![];
    for recipe in played {
        let mut play = Play::of(recipe);
        for (number, row) in recipe.rows.iter().enumerate() {
            let became = play.row(row);
            if became != row.outcome {
                wrong.push(format!(
                    "{}, row {}: {became}, not {}\n{row:?}",
                    recipe.title,
                    number + 1,
                    row.outcome
                ));
            }
        }
        play.proxy.assert_verifies();
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Every recipe is shown by a table, or by commands with their output (tests/docs).
#[test]
fn no_recipe_is_without_evidence() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cookbook.md");
    let text = std::fs::read_to_string(file).unwrap();
    let chapters: Vec<_> = text.split("\n## ").skip(1).collect();
    assert!(chapters.len() >= 18, "{}", chapters.len());
    for chapter in chapters {
        let shown = chapter.contains(HEAD) || chapter.contains("```console");
        assert!(shown, "{}", chapter.lines().next().unwrap());
    }
}
