//! A merchant that sells L402 tokens, and checks them.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::merchant::{After, Merchant, Seen};
use super::node::{Made, Node, Wanted};
use super::proxy::Setup;
use super::sha256;

pub(crate) const HOST: &str = "toll.stand.test";

/// How long whoever pays waits for others.
const TOGETHER: Duration = Duration::from_secs(10);

/// How it sells.
#[derive(Clone)]
pub(crate) struct Ways {
    pub(crate) wanted: Wanted,
    /// Its tokens open only the path they were bought for.
    pub(crate) bound: bool,
    /// What it answers to a token that it does not take.
    pub(crate) refusal: u16,
    /// It takes none.
    pub(crate) never: bool,
    /// Whoever paid gets this status.
    pub(crate) status: u16,
    /// The token is for another payment than the invoice.
    pub(crate) foreign: bool,
    /// The token was good in 1970.
    pub(crate) over: bool,
    /// What it takes beside tokens: `PAYMENT-REQUIRED`.
    pub(crate) beside: Option<String>,
    /// Whoever pays is answered once so many do.
    pub(crate) together: usize,
}

/// Those who pay and are not answered yet.
#[derive(Default)]
struct Crowd {
    count: Mutex<usize>,
    more: Condvar,
}

impl Crowd {
    /// Waits for the others: do so many come?
    fn meets(&self, enough: usize) -> bool {
        let mut count = self.count.lock().unwrap();
        *count += 1;
        self.more.notify_all();
        let fewer = |count: &mut usize| *count < enough;
        let waited = self.more.wait_timeout_while(count, TOGETHER, fewer);
        !waited.unwrap().1.timed_out()
    }
}

impl Ways {
    pub(crate) fn of(msat: u64) -> Self {
        Self {
            wanted: Wanted::of(msat),
            bound: false,
            refusal: 402,
            never: false,
            status: 200,
            foreign: false,
            over: false,
            beside: None,
            together: 1,
        }
    }
}

pub(crate) struct Toll {
    pub(crate) merchant: Merchant,
    pub(crate) ways: Arc<Mutex<Ways>>,
    /// Tokens, and the path that each was sold for.
    sold: Arc<Mutex<HashMap<String, String>>>,
}

impl Toll {
    pub(crate) fn open(node: &Arc<Node>, ways: Ways) -> Self {
        let ways = Arc::new(Mutex::new(ways));
        let sold = Arc::new(Mutex::new(HashMap::new()));
        let (node, w, s) = (Arc::clone(node), Arc::clone(&ways), Arc::clone(&sold));
        let crowd = Crowd::default();
        let merchant = Merchant::start(move |seen, out| {
            let ways = w.lock().unwrap().clone();
            if seen.payment().is_some() && !crowd.meets(ways.together) {
                out.write_all(b"HTTP/1.1 500 Alone\r\nContent-Length: 0\r\n\r\n")?;
                return Ok(After::Keep);
            }
            answer(&node, &ways, &s, seen, out)
        });
        Self {
            merchant,
            ways,
            sold,
        }
    }

    /// Tokens that were sold are worth nothing any more.
    pub(crate) fn forget(&self) {
        self.sold.lock().unwrap().clear();
    }

    /// A policy that buys here, from this node.
    pub(crate) fn setup(&self, node: &Node) -> Setup {
        let mut setup = Setup::new();
        setup
            .root(&self.merchant.root)
            .resolve(&format!("{HOST}:443"), self.merchant.tls.port().into());
        setup.config["wallets"] = serde_json::json!([node.wallet(setup.dir.path())]);
        setup.config["rules"][0]["pay"]["schemes"] = serde_json::json!(["l402"]);
        setup
    }

    /// Requests with a credential, and without.
    pub(crate) fn seen(&self) -> (usize, usize) {
        let seen = self.merchant.seen();
        let with = seen.iter().filter(|s| s.payment().is_some()).count();
        (with, seen.len() - with)
    }
}

fn answer(
    node: &Node,
    ways: &Ways,
    sold: &Mutex<HashMap<String, String>>,
    seen: &Seen,
    out: &mut dyn Write,
) -> io::Result<After> {
    if seen.path() == "/free" {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfree")?;
        return Ok(After::Keep);
    }
    if seen.path() == "/basic" {
        out.write_all(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(After::Keep);
    }
    let credential = seen.payment();
    if ways.beside.is_some() && credential.is_some_and(|c| !c.starts_with("L402 ")) {
        return super::shop::sell("goods", out);
    }
    if credential.is_some_and(|c| !ways.never && takes(ways, &sold.lock().unwrap(), c, seen)) {
        let status = ways.status;
        write!(out, "HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\ngoods")?;
        return Ok(After::Keep);
    }
    if credential.is_some() && ways.refusal == 401 {
        out.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(After::Keep);
    }
    let Made { text, hash } = node.invoice(&ways.wanted);
    let caveats: &[&str] = match ways.over {
        true => &["shop_valid_until=1000"],
        false => &[],
    };
    let token = minted(if ways.foreign { [9; 32] } else { hash }, caveats);
    sold.lock()
        .unwrap()
        .insert(token.clone(), seen.path().into());
    let beside = match &ways.beside {
        Some(terms) => format!("PAYMENT-REQUIRED: {terms}\r\n"),
        None => String::new(),
    };
    write!(
        out,
        "HTTP/1.1 402 Payment Required\r\n{beside}\
         WWW-Authenticate: LSAT macaroon=\"{token}\", invoice=\"{text}\"\r\n\
         WWW-Authenticate: L402 macaroon=\"{token}\", invoice=\"{text}\"\r\nContent-Length: 0\r\n\r\n"
    )?;
    Ok(After::Keep)
}

/// Is it a token of ours, with the preimage of its payment?
fn takes(ways: &Ways, sold: &HashMap<String, String>, credential: &str, seen: &Seen) -> bool {
    let Some((token, preimage)) = credential
        .strip_prefix("L402 ")
        .and_then(|c| c.rsplit_once(':'))
    else {
        return false;
    };
    let lower = preimage.len() == 64
        && preimage
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let hash = sha256(&hex::decode(preimage).unwrap_or_default());
    let for_it = STANDARD
        .decode(token)
        .is_ok_and(|t| t.get(5..37) == Some(&hash[..]));
    let place = sold.get(token);
    lower && for_it && place.is_some_and(|p| !ways.bound || p == seen.path())
}

/// A macaroon in the usual layout, its signature left out: nobody else reads it.
fn minted(hash: [u8; 32], caveats: &[&str]) -> String {
    let mut bytes = vec![2, 2, 66, 0, 0];
    bytes.extend(hash);
    let mut id = [0; 32];
    getrandom::fill(&mut id).unwrap();
    bytes.extend(id);
    bytes.push(0);
    for caveat in caveats {
        bytes.extend([2, u8::try_from(caveat.len()).unwrap()]);
        bytes.extend(caveat.as_bytes());
        bytes.push(0);
    }
    bytes.extend([0, 6, 32]);
    bytes.extend([7; 32]);
    STANDARD.encode(bytes)
}
