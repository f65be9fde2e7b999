//! What the demonstration plays on: a merchant, a configuration, a wallet, a running proxy, an agent.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::DemoError;
use super::agent::Agent;
use super::merchant::Merchant;
use super::scratch::Scratch;
use crate::app::{self, Options, Running};
use crate::config::Config;
use crate::event::SpendEvent;
use crate::evm::Address;
use crate::ledger::{Filter, Ledger};
use crate::wallet::local;

/// The merchant that a rule names.
pub(super) const WEATHER: &str = "weather.example";

/// The one that none names.
pub(super) const CASINO: &str = "casino.example";

/// What the whole run may spend: one forecast, one report, one more forecast, and no cent more.
pub(super) const BUDGET: &str = "0.04 USD";

/// Everything, running. The folder below it goes last.
pub(super) struct Stage {
    pub(super) merchant: Merchant,
    pub(super) agent: Agent,
    pub(super) wallet: Address,
    house: Running,
    proxy: SocketAddr,
    _folder: Scratch,
}

impl Stage {
    pub(super) async fn set() -> Result<Self, DemoError> {
        let folder = Scratch::new().map_err(DemoError::Folder)?;
        let base = folder.path();
        let merchant = Merchant::start(&base.join("merchant"), &[WEATHER, CASINO]).await?;
        let wallet = local::create_key(&base.join("wallet.key"), None)?;
        let file = base.join("farepass.yaml");
        write(&file, &configuration(merchant.address()))?;
        let mut config = Config::load(Some(&file))?;
        // `OTEL_*` variables of whoever tries it send nothing off the machine.
        config.telemetry.no_traces = true;
        config.telemetry.no_logs = true;
        let house = app::start(config, Options::default()).await?;
        let proxy = house.proxy.address();
        let proxy = proxy.ok_or(DemoError::Unexpected("the proxy has no address"))?;
        let agent = Agent::new(proxy, house.authority.certificate_pem())?;
        Ok(Self {
            merchant,
            agent,
            wallet,
            house,
            proxy,
            _folder: folder,
        })
    }

    pub(super) fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// The certificate that agents trust.
    pub(super) fn roots(&self) -> &Path {
        self.house.authority.certificate_path()
    }

    pub(super) fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.house.ledger
    }

    /// Payments and refusals, oldest first; also those whose record an answer did not wait for.
    pub(super) async fn payments(&self) -> Result<Vec<SpendEvent>, DemoError> {
        self.house.ledger.flush().await?;
        let filter = Filter {
            denied: true,
            ..Filter::default()
        };
        let mut rows = self.house.ledger.payments(filter).await?;
        rows.reverse();
        Ok(rows)
    }

    pub(super) async fn clear(self) {
        self.house.stop().await;
        self.merchant.close().await;
    }
}

fn write(file: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    file.write_all(text.as_bytes())
}

/// As an operator would write it, but for the ports and the pinned names.
fn configuration(merchant: SocketAddr) -> String {
    format!(
        r#"version: 1
listen: {{ proxy: "127.0.0.1:0", admin: "127.0.0.1:0" }}
tls: {{ extra_roots: [merchant/ca.pem] }}
egress:
  resolve: {{ "{WEATHER}:443": "{merchant}", "{CASINO}:443": "{merchant}" }}
wallets:
  - {{ name: main, kind: local, key_file: wallet.key, networks: ["eip155:84532"] }}
sessions:
  default: {{ budget: "{BUDGET}", expires: 10m }}
rules:
  - name: weather
    match: {{ hosts: ["{WEATHER}"] }}
    pay: {{ max: "0.05 USD" }}
"#
    )
}
