//! The server: which tools there are, and whom each call is answered for.

use std::sync::Arc;

use rmcp::handler::server::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData,
    Implementation, JsonObject, ListToolsResult, PaginatedRequestParams, ServerCapabilities,
    ServerConfig,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::Value;

use super::File;
use super::market;
use super::tools;
use super::view::Silent;
use super::whose::Whose;
use crate::admin::Beacon;
use crate::budget::Asking;
use crate::clock::{self, Timestamp};
use crate::config::Config;
use crate::ledger::{OpenError, Reader, SessionRow};
use crate::money::Network;
use crate::settings::here;

/// What a model is told about all of it.
const INSTRUCTIONS: &str = "The budget of this session for paid web requests, read only. A proxy pays \
sites that answer 402 Payment Required, as far as the operator's policy allows.";

/// Answers one client.
pub(super) struct Server {
    pub(super) whose: Whose,
    /// Who would pay where. Wallets are opened once.
    pub(super) payers: Vec<(Network, String)>,
    pub(super) file: File,
}

/// One call: everything as it is now.
pub(super) struct Asker {
    pub(super) config: Arc<Config>,
    pub(super) payers: Vec<(Network, String)>,
    pub(super) book: Option<Arc<dyn Reader>>,
    pub(super) row: SessionRow,
    pub(super) now: Timestamp,
}

impl Asker {
    /// Where a person answers, when a proxy runs.
    pub(super) fn approve_url(&self, asking: &Asking) -> Option<String> {
        let beacon = Beacon::seen(&self.config.state_dir)?;
        let admin = here(beacon.admin);
        Some(format!("http://{admin}/approvals/{}", asking.id))
    }
}

impl Server {
    async fn asker(&self) -> Result<Asker, Silent> {
        let config = Arc::new(Config::load(Some(&self.file))?);
        let book = match config.read_ledger() {
            Ok(book) => Some(book),
            Err(OpenError::Missing(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let now = clock::wall();
        let row = self.whose.row(&config, book.as_deref(), now).await?;
        Ok(Asker {
            config,
            payers: self.payers.clone(),
            book,
            row,
            now,
        })
    }

    async fn answer(&self, name: &str, arguments: JsonObject) -> Option<Result<Value, Silent>> {
        let asker = match self.asker().await {
            Ok(asker) => asker,
            Err(silent) => return Some(Err(silent)),
        };
        Some(match name {
            tools::GET_BUDGET => asker.get_budget(arguments).await,
            tools::QUOTE => asker.quote(arguments).await,
            tools::RECENT_SPEND => asker.recent_spend(arguments).await,
            market::DISCOVER => asker.discover(arguments).await,
            tools::REQUEST_APPROVAL => asker.request_approval(arguments).await,
            _ => return None,
        })
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let can = ServerCapabilities::builder().enable_tools().build();
        let us = Implementation::new("farepass", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(can)
            .with_server_info(us)
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::all()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let result = match self.answer(&request.name, arguments).await {
            Some(Ok(told)) => CallToolResult::structured(told),
            Some(Err(silent)) => {
                // The operator reads why on stderr.
                tracing::warn!(error = ?silent, tool = %request.name, "a question was not answered");
                CallToolResult::error(vec![ContentBlock::text(silent.to_string())])
            }
            None => return Err(ErrorData::invalid_params("there is no such tool", None)),
        };
        Ok(result.into())
    }
}
