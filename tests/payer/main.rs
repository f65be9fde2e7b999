//! The payment transaction and everything that may stop it, without a wire.
#![cfg(test)]

mod barred;
mod control;
mod gate;
mod loops;
mod questions;
mod races;
mod restarts;
mod stage;
mod statements;
mod tools;
mod transaction;
mod unmet;
mod upto;
