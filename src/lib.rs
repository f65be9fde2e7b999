//! The house, bottom floor first. A room may use rooms on lower floors only; `tests/house.rs` checks it.
//!
//! Read `proxy/exchange.rs` first: it is the whole product in one function. Then `budget.rs`: it is
//! the whole promise.

// Floor 0: values
pub mod clock;
pub mod custody;
pub mod evm;
pub mod failpoint;
pub mod lightning;
pub mod money;
pub mod payment;
pub mod section;
pub mod settings;
pub mod signer;
pub mod solana;
// Floor 1: decisions (no I/O, no clock, no randomness)
pub mod budget;
pub mod policy;
pub mod protocol;
pub mod scheme;
pub mod sidecar;
// Floor 2: connectors
pub mod bazaar;
pub mod chain;
pub mod event;
pub mod fetch;
pub mod ledger;
pub mod wallet;
// Floor 3: the payment
pub mod payer;
// Floor 4: the wire
pub mod proxy;
pub mod tls;
// Floor 5: assembly
pub mod admin;
pub mod admission;
pub mod app;
pub mod cli;
pub mod config;
pub mod demo;
