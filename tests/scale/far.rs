//! A wire of a certain length before the database: every byte arrives so much later, however many are on
//! their way.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// The URL of the same place, seen from there. `way` is the time of one way.
pub(crate) fn seen_from_afar(url: &str, way: Duration) -> String {
    let (before, after) = url.split_once("@127.0.0.1:").unwrap();
    let (port, rest) = after.split_once('/').unwrap();
    let to: u16 = port.parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else {
                continue;
            };
            for (from, into) in [
                (client.try_clone().unwrap(), server.try_clone().unwrap()),
                (server, client),
            ] {
                let (sender, receiver) = channel();
                std::thread::spawn(move || receive(from, way, sender));
                std::thread::spawn(move || deliver(receiver, into));
            }
        }
    });
    format!("{before}@127.0.0.1:{here}/{rest}")
}

type Letter = (Instant, Vec<u8>);

fn receive(mut from: TcpStream, way: Duration, line: Sender<Letter>) {
    let mut bytes = [0; 65536];
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        if line
            .send((Instant::now() + way, bytes[..n].to_vec()))
            .is_err()
        {
            return;
        }
    }
}

fn deliver(line: Receiver<Letter>, mut into: TcpStream) {
    let _ = into.set_nodelay(true);
    for (due, bytes) in line {
        while let left @ 1.. = due.saturating_duration_since(Instant::now()).as_micros() as u64 {
            std::thread::park_timeout(Duration::from_micros(left));
        }
        if into.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = into.shutdown(Shutdown::Both);
}
