# One recipe per thing that CI does; `.ci/run` does them in this order.

# What is formatted otherwise than rustfmt does it?
fmt:
    cargo fmt --check

# Clippy with the rules of Cargo.toml; warnings are errors.
lint:
    cargo clippy --locked --all-targets --all-features -- -D warnings

# Dependencies: bans, licences, sources (needs cargo-deny).
deny:
    cargo deny check bans licenses sources

# Everything. With Node 20+ also against real x402 servers; without, those tests say that they were skipped.
test:
    cargo test --locked

# As `test`, but what cannot be tried for real is a failure.
test-real:
    FAREPASS_REQUIRE_INTEROP=1 cargo test --locked --no-fail-fast

# Microbenchmarks.
bench:
    cargo bench --locked

# CPU time, memory and delays beside another proxy (benches/compare/README.md; needs root, not part of CI).
compare *ARGS:
    benches/compare/run.py {{ARGS}}

# A minute of each fuzz target (needs a nightly toolchain and cargo-fuzz).
fuzz:
    #!/usr/bin/env bash
    set -euo pipefail
    for target in $(cargo +nightly fuzz list --fuzz-dir tests/fuzz); do
        cargo +nightly fuzz run --fuzz-dir tests/fuzz "$target" -- -max_total_time=60
    done

# The demonstration of the README.
demo:
    cargo run --release -- demo
