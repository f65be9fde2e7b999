//! The program itself: started, sent our signals, waited for.

use std::ffi::OsString;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::task::Poll;

use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Incoming, SignalKind, signal};

use super::environment::Setting;
use super::limits::Limits;
use crate::cli::{Exit, Failure};

/// The shell's codes for a program that was not found, or could not be started.
const NOT_FOUND: u8 = 127;
const NOT_STARTED: u8 = 126;

/// Runs the program to its end, and gives its exit code; 128 + n when signal n ended it.
///
/// # Errors
/// When it cannot be started.
pub(super) async fn run(
    command: &[OsString],
    environment: &[Setting],
    limits: &Limits,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| Failure::new(Exit::Usage, "which program?"))?;
    let terminal = File::open("/dev/tty").ok();
    let mut start = Command::new(program);
    start.args(arguments);
    for (name, value) in environment {
        match value {
            Some(value) => start.env(&**name, value),
            None => start.env_remove(&**name),
        };
    }
    if terminal.is_none() {
        // So that a signal reaches its children too. At a terminal it stays in our group: only the
        // group in front may read the keyboard, and Ctrl-C goes to all of it.
        start.process_group(0);
    }
    let mut child = limits
        .lend(|| start.spawn())
        .map_err(|e| not_started(program, &e))?;
    let status = loop {
        tokio::select! {
            biased;
            (kind, number) = signals.next() => forward(&child, kind, number, terminal.as_ref()),
            status = child.wait() => break status?,
        }
    };
    Ok(Exit::Child(code(status)))
}

fn not_started(program: &OsString, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_STARTED,
    };
    let program = program.display();
    Failure::new(Exit::Child(code), format_args!("{program}: {error}"))
}

fn code(status: ExitStatus) -> u8 {
    let number = status
        .code()
        .or_else(|| Some(128 + status.signal()?))
        .unwrap_or(1);
    u8::try_from(number).unwrap_or(1)
}

/// A signal that a terminal sends to its whole group has reached the program already.
fn forward(child: &Child, kind: SignalKind, number: Signal, terminal: Option<&File>) {
    let from_keyboard = kind == SignalKind::interrupt() || kind == SignalKind::quit();
    if from_keyboard && terminal.is_some_and(in_front) {
        return;
    }
    let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) else {
        return;
    };
    // It may just have ended: then there is nobody to tell.
    let _ = match terminal {
        Some(_) => rustix::process::kill_process(pid, number),
        None => rustix::process::kill_process_group(pid, number),
    };
}

/// Does this terminal send what is typed to our group?
fn in_front(terminal: &File) -> bool {
    rustix::termios::tcgetpgrp(terminal).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Every signal that a person or a supervisor sends to end, reload or ask something of a program.
pub(super) struct Signals {
    each: Vec<(SignalKind, Signal, Incoming)>,
}

impl Signals {
    /// From now on a signal does not end this process: it is for the program. One that is ignored
    /// (`nohup`) stays so, and the program inherits that.
    pub(super) fn catch() -> io::Result<Self> {
        let all = [
            (SignalKind::interrupt(), Signal::INT),
            (SignalKind::terminate(), Signal::TERM),
            (SignalKind::hangup(), Signal::HUP),
            (SignalKind::quit(), Signal::QUIT),
            (SignalKind::user_defined1(), Signal::USR1),
            (SignalKind::user_defined2(), Signal::USR2),
        ];
        let mut each = vec![];
        for (kind, number) in all {
            if !ignores(number) {
                each.push((kind, number, signal(kind)?));
            }
        }
        Ok(Self { each })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> (SignalKind, Signal) {
        let each = &mut self.each;
        poll_fn(|context| {
            for (kind, number, incoming) in each.iter_mut() {
                if incoming.poll_recv(context).is_ready() {
                    return Poll::Ready((*kind, *number));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// One that has come already.
    pub(super) async fn come(&mut self) -> Option<Signal> {
        // The runtime hands out signals between two turns.
        tokio::task::yield_now().await;
        tokio::select! {
            biased;
            (_, number) = self.next() => Some(number),
            () = std::future::ready(()) => None,
        }
    }
}

/// The exit code of what a signal ended.
pub(super) fn ended_by(number: Signal) -> Exit {
    Exit::Child(u8::try_from(128 + number.as_raw()).unwrap_or(1))
}

/// Does this process ignore it? Then so do the programs that it starts.
pub(in crate::cli) fn ignores(number: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status");
    ignored(&status.unwrap_or_default()) & bit(number) != 0
}

/// The signals that a process ignores, a bit each, as `/proc/self/status` has them. None where that is
/// not there.
fn ignored(status: &str) -> u64 {
    let mut lines = status.lines();
    let digits = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let bits = digits.map(|digits| u64::from_str_radix(digits.trim(), 16));
    bits.and_then(Result::ok).unwrap_or_default()
}

fn bit(number: Signal) -> u64 {
    let place = number.as_raw().checked_sub(1);
    let place = place.and_then(|place| u32::try_from(place).ok());
    place
        .and_then(|place| 1u64.checked_shl(place))
        .unwrap_or_default()
}
