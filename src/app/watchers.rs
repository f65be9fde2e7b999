//! Everybody who watches spend events: logs, metrics, the feed, services of the operator's.

use std::sync::Arc;

use super::ground::Ground;
use super::{StartError, telemetry, webhook};
use crate::admin::Feed;
use crate::config::Config;
use crate::event::Sink;
use crate::event::log::EventFile;
use crate::event::metrics::Metrics;
use crate::event::otel::{Couriers, Otel};
use crate::event::webhook::Courier;

/// Everybody who watches spend events.
pub(super) struct Watch {
    pub(super) sinks: Vec<Arc<dyn Sink>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) feed: Arc<Feed>,
    pub(super) courier: Option<Courier>,
    pub(super) otel: Option<Arc<Otel>>,
    pub(super) couriers: Option<Couriers>,
    /// Of collectors on this machine.
    pub(super) ports: Vec<u16>,
}

impl Watch {
    pub(super) fn new(
        mut sinks: Vec<Arc<dyn Sink>>,
        config: &Config,
        ground: &Ground,
    ) -> Result<Self, StartError> {
        let (metrics, feed) = (Arc::new(Metrics::default()), Arc::new(Feed::default()));
        metrics.name_hosts(config.policy.paid_patterns().cloned());
        sinks.push(Arc::clone(&metrics) as Arc<dyn Sink>);
        sinks.push(Arc::clone(&feed) as Arc<dyn Sink>);
        if let Some(path) = &config.events {
            let file = EventFile::open(path).map_err(|source| StartError::File {
                path: path.clone(),
                source,
            })?;
            sinks.push(Arc::new(file));
        }
        let courier = webhook::open(config.webhook.as_ref(), ground.upstream_tls.roots())?;
        let courier = courier.map(|(sink, courier)| {
            sinks.push(sink);
            courier
        });
        let given = |name: &str| std::env::var(name).ok();
        let roots = ground.upstream_tls.roots();
        let exporting = telemetry::open(&config.telemetry, roots, &given)?;
        let (otel, couriers, ports) = match exporting {
            Some(on) => (Some(on.otel), Some(on.couriers), on.ports),
            None => (None, None, vec![]),
        };
        sinks.extend(otel.clone().map(|otel| otel as Arc<dyn Sink>));
        Ok(Self {
            sinks,
            metrics,
            feed,
            courier,
            otel,
            couriers,
            ports,
        })
    }
}
