//! The MCP stand: server and client of the official SDK, priced through the facilitator and the chain of the
//! x402 stand. One for the whole test run.

use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Mutex, OnceLock};

use serde_json::{Value, json};

use super::proxy::{Proxy, Setup};
use super::stand::{Stand, spawn_with, stand};

/// The name that agents know it by.
pub(crate) const HOST: &str = "mcp.stand.test";

pub(crate) struct McpStand {
    ready: Value,
    pub(crate) x402: &'static Stand,
    /// It stops when its stdin closes.
    _child: Mutex<Child>,
}

/// The running stand; the first caller installs and starts it. `None` after saying SKIPPED.
pub(crate) fn mcp_stand() -> Option<&'static McpStand> {
    static STAND: OnceLock<Result<McpStand, String>> = OnceLock::new();
    let x402 = stand()?;
    let start = || {
        let (facilitator, rpc) = (x402.facilitator(), x402.node());
        let args = ["--facilitator", &facilitator, "--rpc", &rpc];
        let (ready, child) = spawn_with("tests/stand-mcp", &args)?;
        let _child = Mutex::new(child);
        Ok(McpStand {
            ready,
            x402,
            _child,
        })
    };
    super::needs(STAND.get_or_init(start).as_ref().map_err(Clone::clone))
}

impl McpStand {
    /// A set-up that pays what bodies ask for here, with a fresh wallet of 1000 USDC.
    pub(crate) fn setup(&self) -> Setup {
        let mut setup = self.x402.setup();
        setup.root(Path::new(self.ready["ca"].as_str().unwrap()));
        setup.resolve(&format!("{HOST}:443"), self.ready["port"].as_u64().unwrap());
        setup.config["rules"][0]["pay"]["mcp"] = json!(true);
        setup
    }

    /// What the official client says to these calls, through this proxy.
    pub(crate) fn client(&self, proxy: &Proxy, path: &str, calls: &[Value]) -> Vec<Value> {
        self.clients("client.mjs", proxy, path, calls)
    }

    /// The same of the official A2A client.
    pub(crate) fn a2a(&self, proxy: &Proxy, calls: &[Value]) -> Vec<Value> {
        self.clients("a2a-client.mjs", proxy, "", calls)
    }

    fn clients(&self, client: &str, proxy: &Proxy, path: &str, calls: &[Value]) -> Vec<Value> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let preload = root.join("src/app/node-preload.cjs");
        let out = Command::new("node")
            .args(["stand.mjs", client, &format!("https://{HOST}{path}")])
            .args(calls.iter().map(Value::to_string))
            .current_dir(root.join("tests/stand-mcp"))
            .env("HTTPS_PROXY", proxy.url())
            .env("NODE_EXTRA_CA_CERTS", proxy.ca())
            .env("NODE_OPTIONS", format!("--require={}", preload.display()))
            .output()
            .unwrap();
        let noise = String::from_utf8_lossy(&out.stderr);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let lines = text.lines().map(serde_json::from_str);
        let said: Result<Vec<Value>, _> = lines.collect();
        let said = said.unwrap_or_else(|e| panic!("{e}: {text}{noise}"));
        assert_eq!(said.len(), calls.len(), "{text}{noise}");
        said
    }

    /// Money on the chain and rows of the ledger are the same, to the unit and to the number of payments.
    pub(crate) fn assert_agreement(&self, proxy: &Proxy) -> u128 {
        let (payer, books) = (proxy.payer(), proxy.ledger());
        let moved = self.x402.transfers(&payer);
        let all = moved.iter().map(|(_, value)| value).sum();
        assert_eq!(books.sum(&["settled"]), all, "{books:?}");
        assert_eq!(books.nonces().len(), moved.len(), "{books:?}");
        assert_eq!(self.x402.balance(&payer), 1_000_000_000 - all);
        let merchant = self.ready["merchant"].as_str().unwrap();
        assert!(
            moved
                .iter()
                .all(|(to, _)| to.eq_ignore_ascii_case(merchant))
        );
        proxy.assert_verifies();
        all
    }
}
