//! Keeps the memory of a process with keys in it from other processes of the same user.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// No core dumps, and on Linux no reading of `/proc/PID/mem` or `/proc/PID/environ` by other
/// processes of the same user, nor attaching to this one. Starting a program sets the flag back for it, and
/// only the soft limit is lowered: `farepass run` gives its program the one that was.
///
/// # Errors
/// What the operating system says. The process runs on as it was.
pub fn harden() -> io::Result<()> {
    let limit = getrlimit(Resource::Core);
    let none = Rlimit {
        current: Some(0),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Core, none)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}
