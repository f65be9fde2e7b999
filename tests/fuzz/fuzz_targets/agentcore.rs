//! See `agentcore` in `targets.rs`.
#![no_main]

#[expect(dead_code, reason = "a target uses one function of them")]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::agentcore(data));
