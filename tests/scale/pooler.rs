//! A PgBouncer of one's own, which gives each transaction whatever connection is free.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::postgres::Server;

pub(crate) struct Pooler {
    child: Child,
    /// Of the database behind it.
    pub(crate) url: String,
}

const PROGRAM: &str = "/usr/sbin/pgbouncer";

impl Pooler {
    /// Before this server, with so many connections to it.
    pub(crate) fn start(server: &Server, size: usize) -> Result<Self, String> {
        if !Path::new(PROGRAM).exists() {
            return Err("there is no PgBouncer".into());
        }
        let direct = server.url("127.0.0.1", Server::password(), "");
        let (before, after) = direct.split_once("@127.0.0.1:").unwrap();
        let (port, rest) = after.split_once('/').unwrap();
        let here = crate::postgres::port()?;
        let users = format!("\"farepass\" \"{}\"\n", Server::password());
        let users = server.file("users.txt", users.as_bytes());
        let settings = format!(
            "[databases]\npostgres = host=127.0.0.1 port={port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {here}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = {size}\nmax_client_conn = 2000\n\
             server_login_retry = 1\n",
            users.display()
        );
        let settings = server.file("pgbouncer.ini", settings.as_bytes());
        let mut command = match rustix::process::geteuid().is_root() {
            false => Command::new(PROGRAM),
            true => {
                // It refuses to be root; it ends with us, whatever becomes of us.
                let mut command = Command::new("setpriv");
                let user = ["--reuid=65534", "--regid=65534", "--clear-groups"];
                command.args(user).args(["--pdeathsig", "KILL", PROGRAM]);
                command
            }
        };
        let child = command
            .arg("-q")
            .arg(settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", here)).is_err() {
            assert!(Instant::now() < end, "PgBouncer does not start");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let url = format!("{before}@127.0.0.1:{here}/{rest}");
        Ok(Self { child, url })
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
