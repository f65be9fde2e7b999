//! The payment transaction and everything that may stop it, without a wire.
#![cfg(test)]

mod control;
mod loops;
mod restarts;
mod stage;
mod transaction;
mod upto;
