//! Logs that nobody reads: the pipe is full, and money obeys the operator all the same.

use std::io::{ErrorKind, PipeReader, PipeWriter, Write as _, pipe};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::support::merchant::{After, Merchant};
use crate::support::proxy::{Proxy, Setup};
use crate::support::{linger, shop, until};

const PATIENCE: Duration = Duration::from_secs(20);
const PAGE: &str = "https://shop.stand.test/x";

/// A pipe that takes nothing more.
fn full() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    let usual = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, usual | OFlags::NONBLOCK).unwrap();
    for bytes in [&[b'\n'; 4096][..], b"\n"] {
        let refused = loop {
            if let Err(error) = writer.write_all(bytes) {
                break error;
            }
        };
        assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    }
    fcntl_setfl(&writer, usual).unwrap();
    (reader, writer)
}

fn open() -> (Merchant, Setup) {
    shop::open(|_, out| shop::sell("goods", out))
}

fn buys(proxy: &Proxy) {
    assert_eq!(proxy.get(PAGE).text(), "goods");
}

#[test]
fn whoever_reads_no_stderr_keeps_no_signal_away() {
    let (_merchant, mut setup) = open();
    let (_reader, writer) = full();
    setup.stderr = Some(writer);
    let mut proxy = setup.start();
    buys(&proxy);
    proxy.freeze();
    until("the freeze", PATIENCE, || {
        let reason = proxy.get(PAGE).reason();
        (reason.as_deref() == Some("frozen")).then_some(())
    });
    assert!(proxy.stop().success());
    proxy.assert_verifies();
}

#[test]
fn whoever_reads_no_stderr_hears_no_failure_and_sees_the_end() {
    let (merchant, mut setup) = shop::open(|_, _| {
        linger(Duration::from_secs(15));
        Ok(After::Close)
    });
    let (_reader, writer) = full();
    setup.stderr = Some(writer);
    let mut proxy = setup.start();
    let mut open = proxy.curl(PAGE).stdout(Stdio::null()).spawn().unwrap();
    until("the payment to reach the merchant", PATIENCE, || {
        (!shop::payments(&merchant).is_empty()).then_some(())
    });
    proxy.terminate();
    until("no more payments", PATIENCE, || {
        let answer = proxy.ask_admin("/readyz").unwrap();
        (answer.status == 503).then_some(())
    });
    // The second one: what is open is not waited for.
    assert_eq!(proxy.stop().code(), Some(1));
    open.wait().unwrap();
}

#[test]
fn whoever_reads_no_spend_events_keeps_no_process_alive() {
    let (_merchant, mut setup) = open();
    let (_reader, writer) = full();
    setup.stdout = Some(writer);
    let mut proxy = setup.start();
    buys(&proxy);
    assert!(proxy.stop().success());
    assert_eq!(proxy.ledger().sum(&["settled"]), 10_000);
    proxy.assert_verifies();
}
