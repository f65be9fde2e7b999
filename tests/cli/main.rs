//! Journeys of the real binary that need no chain: every command, its output, its exit code, and what
//! it leaves behind.
#![cfg(test)]

mod beside;
mod books;
mod ca;
mod custody;
mod doctor;
mod help;
mod init;
mod inject;
mod ledger;
mod market;
mod reload;
mod run;
mod serve;
mod support;
mod surroundings;
mod top;
