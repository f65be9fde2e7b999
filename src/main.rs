//! The front door: arguments in, exit code out.

use std::process::ExitCode;

use mimalloc::MiMalloc;

// A payment allocates a few hundred times, on threads that free what others made.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    farepass::cli::main()
}
