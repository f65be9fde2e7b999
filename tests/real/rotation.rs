//! Credentials that change while payments go on: none is lost, and none is paid twice.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::signers::{Folder, KEY, Scene, cdp, folder, privy, spki};
use crate::support::agent::Ask;
use crate::support::aws::{Account, Kms};
use crate::support::merchant::Merchant;
use crate::support::proxy::Proxy;
use crate::support::shop::{self, HOST};
use crate::support::signer::Signer;
use crate::support::{chain, until};

const LONG: Duration = Duration::from_secs(60);
const PAYERS: usize = 6;
const EACH: usize = 25;

/// A provider that takes one set of credentials, and from some moment on another set only.
struct Provider {
    port: u16,
    forgot: Arc<AtomicBool>,
    signed: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
}

impl Provider {
    fn new(old: u16, new: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let provider = Self {
            port: listener.local_addr().unwrap().port(),
            forgot: Arc::default(),
            signed: Arc::default(),
            refused: Arc::default(),
        };
        let forgot = Arc::clone(&provider.forgot);
        let (signed, refused) = (Arc::clone(&provider.signed), Arc::clone(&provider.refused));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let port = if forgot.load(Ordering::SeqCst) {
                    new
                } else {
                    old
                };
                let answer = pass_on(stream.unwrap(), port);
                match answer.starts_with(b"HTTP/1.1 200") {
                    true => &signed,
                    false => &refused,
                }
                .fetch_add(1, Ordering::SeqCst);
            }
        });
        provider
    }
}

/// One request there, one answer back.
fn pass_on(mut client: TcpStream, port: u16) -> Vec<u8> {
    let mut request = vec![];
    let mut part = [0; 16384];
    while !is_whole(&request) {
        match client.read(&mut part) {
            Ok(0) | Err(_) => return vec![],
            Ok(n) => request.extend_from_slice(&part[..n]),
        }
    }
    let mut signer = TcpStream::connect(("127.0.0.1", port)).unwrap();
    signer.write_all(&request).unwrap();
    let mut answer = vec![];
    while !is_whole(&answer) {
        match signer.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(n) => answer.extend_from_slice(&part[..n]),
        }
    }
    let _ = client.write_all(&answer);
    answer
}

/// A head, and as much body as it says.
fn is_whole(message: &[u8]) -> bool {
    let text = String::from_utf8_lossy(message).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.split("content-length: ").nth(1);
    let length = length.and_then(|l| l.lines().next()?.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn kms_of(id: &str, secret: &str, folder: &Folder) -> (Signer, Value) {
    folder.write(
        "aws",
        &format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"),
    );
    let api = Kms {
        account: Account::of(id, secret),
        key_id: "alias/pay".into(),
        public: spki(KEY),
        edwards: false,
    };
    let signer = Signer::start(api, KEY);
    let keys = json!({
        "kind": "kms", "url": format!("http://127.0.0.1:{}", signer.port), "key_id": "alias/pay",
        "region": "eu-central-1", "address": chain::payer(&KEY),
        "credentials_file": folder.0.path().join("aws"),
    });
    (signer, keys)
}

fn old_kms(_: [u8; 32], folder: &Folder) -> (Signer, Value) {
    kms_of("AKIDOLD", "old/secret", folder)
}

fn new_kms(_: [u8; 32], folder: &Folder) -> (Signer, Value) {
    kms_of("AKIDNEW", "new/secret", folder)
}

/// What goes on while many pay.
struct Load {
    proxy: Proxy,
    merchant: Merchant,
    paid: AtomicUsize,
}

impl Load {
    /// Until so many more are paid.
    fn goes_on(&self, more: usize) {
        let enough = (self.paid.load(Ordering::SeqCst) + more).min(PAYERS * EACH);
        until("payments", LONG, || {
            (self.paid.load(Ordering::SeqCst) >= enough).then_some(())
        });
    }

    /// Until the log says this: payments that are under way have asked already.
    fn says(&self, words: &str) {
        until(words, LONG, || {
            self.proxy.stderr().contains(words).then_some(())
        });
    }

    fn pay(&self, payer: usize) {
        for n in 0..EACH {
            let url = format!("https://{HOST}/{payer}/{n}");
            let answer = self.proxy.agent(LONG).send(&Ask::get(&url)).unwrap();
            assert_eq!(
                answer.status,
                200,
                "{} {}",
                answer.text(),
                self.proxy.stderr()
            );
            self.paid.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn rotate(old: Scene, new: Scene, broken: &str) {
    let (folder, next) = (folder(), folder());
    let ((first, mut wallet), (second, _)) = (old(KEY, &folder), new(KEY, &next));
    let provider = Provider::new(first.port, second.port);
    let url = wallet["url"].as_str().unwrap();
    let url = url.replace(&first.port.to_string(), &provider.port.to_string());
    wallet["url"] = json!(url);
    wallet["name"] = json!("far");
    wallet["networks"] = json!(["eip155:84532"]);
    let (merchant, mut setup) = shop::open(|_, out| shop::sell("goods", out));
    setup.config["wallets"] = json!([wallet]);
    setup.budget("5.00 USD");
    let load = Load {
        proxy: setup.start(),
        merchant,
        paid: AtomicUsize::new(0),
    };
    let told = provider.signed.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        let payers: Vec<_> = (0..PAYERS)
            .map(|payer| {
                scope.spawn({
                    let load = &load;
                    move || load.pay(payer)
                })
            })
            .collect();
        load.goes_on(20);
        folder.write(broken, "not a credential");
        load.says("credentials stay as they were");
        // One after the other, as people and programs change them.
        let mut names: Vec<_> = std::fs::read_dir(next.0.path())
            .unwrap()
            .map(|f| f.unwrap().file_name())
            .collect();
        names.sort();
        for name in names {
            let text = std::fs::read_to_string(next.0.path().join(&name)).unwrap();
            folder.write(name.to_str().unwrap(), &text);
            load.goes_on(5);
        }
        load.says("the new credentials are not accepted; the old ones serve on");
        load.goes_on(20);
        provider.forgot.store(true, Ordering::SeqCst);
        for payer in payers {
            payer.join().unwrap();
        }
    });
    let all = PAYERS * EACH;
    let payments = shop::payments(&load.merchant);
    let different: BTreeSet<_> = payments.iter().collect();
    assert_eq!((payments.len(), different.len()), (all, all));
    let signed = provider.signed.load(Ordering::SeqCst) - told;
    assert_eq!(signed, all, "one signature for each");
    let books = until("the receipts in the books", LONG, || {
        let books = load.proxy.ledger();
        (books.sum(&["settled"]) == 10_000 * all as u128).then_some(books)
    });
    assert_eq!(books.rows.len(), all);
    let refused = provider.refused.load(Ordering::SeqCst);
    assert!(
        refused < all / 2,
        "new ones are not tried for each payment: {refused}"
    );
    assert!(!second.seen().is_empty());
}

#[test]
fn at_coinbase() {
    rotate(cdp, cdp, "wallet.secret");
}

#[test]
fn at_privy() {
    rotate(privy, privy, "owner.key");
}

#[test]
fn at_amazon() {
    rotate(old_kms, new_kms, "aws");
}
