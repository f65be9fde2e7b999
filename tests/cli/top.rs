//! The live view: what it shows, that it fits, and that it goes on.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use crate::support::{Home, SHOP, Street, there_is, until, wait};

/// In a terminal of 100 columns and 20 lines. Its first argument is where everything goes that it shows;
/// what comes on stdin is typed.
const TERMINAL: &str = "
import fcntl, os, pty, select, signal, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    # What runs in the background inherits that it is ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execv(sys.argv[2], sys.argv[2:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', 20, 100, 0, 0))
with open(sys.argv[1], 'wb', 0) as screen:
    while True:
        for ready in select.select([fd, 0], [], [])[0]:
            try:
                seen = os.read(ready, 65536)
            except OSError:
                seen = b''
            if ready == fd and seen:
                screen.write(seen)
            elif seen:
                os.write(fd, seen)
            elif ready != fd:
                os.kill(pid, 9)
            else:
                sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

struct Shown {
    child: Child,
    file: std::path::PathBuf,
}

impl Shown {
    fn start(home: &Home) -> Self {
        let file = home.at("screen");
        let own = home.command(["top", "--every", "200ms"]);
        let mut command = Command::new("python3");
        command.args(["-c", TERMINAL]).arg(&file);
        command.arg(own.get_program()).args(own.get_args());
        for (name, value) in own.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let dir = own.get_current_dir().unwrap_or_else(|| home.path());
        let child = command.current_dir(dir).stdin(Stdio::piped()).spawn();
        Self {
            child: child.unwrap(),
            file,
        }
    }

    /// Every view that was shown to its end.
    fn views(&self) -> Vec<String> {
        let mut bytes = vec![];
        if let Ok(mut file) = std::fs::File::open(&self.file) {
            file.read_to_end(&mut bytes).unwrap();
        }
        let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
        let mut views: Vec<String> = text.split("\x1b[H\x1b[J").map(Into::into).collect();
        views.pop();
        views
    }

    fn shows(&self, words: &[&str]) {
        let there = |view: &String| words.iter().all(|word| view.contains(word));
        until(&words.join(" and "), || {
            self.views().last().filter(|v| there(v)).map(drop)
        });
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        // The terminal ends with what types in it, and what runs in it with the terminal.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn it_is_shown_once_where_there_is_no_terminal() {
    let home = Home::ready();
    let nothing = home.farepass(["top"]).ok();
    assert!(nothing.out.contains("sessions: 0"), "{}", nothing.out);
    let street = Street::new();
    if !there_is("curl") {
        return;
    }
    let home = &street.home;
    let script = format!("curl -sS {SHOP}/forecast; curl -sS {SHOP}/luxury");
    home.run(&["--agent", "bot"], &script).ok();
    let made = ["session", "create", "--agent", "late", "--budget", "2 USD"];
    home.farepass(made).ok();
    let shown = home.farepass(["top"]).ok().out;
    assert!(!shown.contains('\x1b'), "{shown}");
    for words in [
        "late", "2.00 USD", "settled", "0.01 USD", "denied", "/luxury",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let json = home.farepass(["top", "--json"]).ok();
    assert_eq!(json.out.lines().count(), 1, "a line each time");
    let view = json.json();
    assert_eq!(view["newest"].as_array().unwrap().len(), 2, "{view}");
    assert_eq!(view["newest"][1]["state"], "settled");
    let agents = view["sessions"].as_array().unwrap().iter();
    assert!(agents.clone().any(|row| row["agent"] == "late"), "{view}");
    assert_eq!((&view["open"], &view["unknown"]), (&0.into(), &0.into()));
    home.farepass(["top", "--every", "10ms"])
        .failed(2, &["--every", "200ms"]);
}

#[test]
fn it_shows_what_comes_and_fits_the_terminal() {
    if !there_is("curl") || !there_is("python3") {
        return;
    }
    let street = Street::new();
    let home = &street.home;
    // A ledger that is not there yet is no reason to end.
    let mut top = Shown::start(home);
    top.shows(&["sessions: 0"]);
    let bought: String = (0..30)
        .map(|n| format!("curl -sS {SHOP}/forecast?{n}; "))
        .collect();
    home.run(&["--agent", "bot"], &bought).ok();
    top.shows(&["settled", "/forecast", "bot"]);
    home.farepass(["freeze", "--why", "lunch"]).ok();
    top.shows(&["frozen: all", "lunch"]);
    for view in top.views() {
        let lines: Vec<&str> = view.lines().collect();
        assert!(lines.len() < 20, "{view}");
        assert!(lines.iter().all(|l| l.chars().count() <= 100), "{view}");
    }
    let last = top.views().pop().unwrap();
    assert!(last.lines().count() > 15, "it is filled: {last}");
    // However much is frozen.
    for n in 0..30 {
        home.farepass(["freeze", "host", &format!("h{n}.example")])
            .ok();
    }
    top.shows(&["and 26 more: farepass freeze --list"]);
    for view in top.views() {
        assert!(view.lines().count() < 20, "{view}");
    }
    top.child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"\x03")
        .unwrap();
    assert_eq!(wait(&mut top.child), Some(-2 & 255), "ended by SIGINT");
}
