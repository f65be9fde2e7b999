//! One budget over a very large fleet: what the lock of a shared ledger takes here, measured on a real
//! server, and what follows from it for ten thousand sidecars. `cargo test --test scale -- --nocapture`
//! prints the figures.
#![cfg(test)]

mod far;
mod measure;
mod plan;
mod pooled;
mod pooler;
/// Used by the journeys with the real binary too.
#[path = "../real/support/postgres.rs"]
#[expect(dead_code, reason = "the journeys need more of it")]
mod postgres;
