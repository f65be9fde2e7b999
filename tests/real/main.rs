//! Journeys with the real binary: real clients, real and lying merchants, crashes.
//!
//! One test program, so that one stand serves them all and it is linked once.
#![cfg(test)]

mod a2a;
mod adversarial;
mod agentcore;
mod api;
mod balances;
mod bodies;
mod budget_tools;
mod certificates;
mod circles;
mod clients;
mod config_schema;
mod cookbook;
mod crash;
mod dashboard;
mod disk;
mod dispute;
mod doors;
mod fail_points;
mod faq;
mod faults;
mod handshakes;
mod hostile;
mod injection;
mod interop;
mod kms;
mod lightning;
mod lnbits;
mod loops;
mod lost;
mod mcp;
mod mcp_sdk;
mod metrics;
mod mpp;
mod netns;
mod operator;
mod parent;
mod permits;
mod permits_chain;
mod postgres;
mod prepay;
mod reconcile;
mod retries;
mod reuse;
mod rotation;
mod secrets;
mod sign_in;
mod signers;
mod signers_solana;
mod solana;
mod strangers;
mod support;
mod telemetry;
mod tempo;
