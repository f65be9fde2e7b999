//! The running proxy: does it answer on its admin listener?

use http::Method;
use serde_json::Value;

use super::finding::Finding;
use crate::admin::client::{Client, ClientError};
use crate::config::Config;

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let client = match Client::beside(&config.state_dir) {
        Ok(client) => client,
        Err(ClientError::NoBeacon(_)) => {
            let said = "no proxy runs on this state directory; `farepass serve` starts one";
            return vec![Finding::unknown("admin", said)];
        }
        Err(error) => {
            let mend = format!(
                "chmod 600 {}",
                config.state_dir.join("admin.token").display()
            );
            return vec![Finding::wrong("admin", error, mend)];
        }
    };
    let at = client.beacon().admin;
    vec![
        match client.ask(Method::GET, "health", &Value::Null).await {
            Ok(health) if health.get("ready") == Some(&Value::Bool(false)) => {
                let why = health.get("why_not").and_then(Value::as_str);
                let said = format!(
                    "the proxy pays nothing: {}",
                    why.unwrap_or("it does not say why")
                );
                let look = format!("df -h {}; farepass ready", config.state_dir.display());
                Finding::wrong("admin", said, look)
            }
            Ok(_) => Finding::ok("admin", format!("the proxy answers at {at}")),
            Err(error) => {
                let mend = format!("kill {}; farepass serve", client.beacon().pid);
                Finding::wrong("admin", error, mend)
            }
        },
    ]
}
