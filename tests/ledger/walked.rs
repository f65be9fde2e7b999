//! Everything that a walk through a ledger gives.

use std::sync::Arc;

use farepass::event::export::Recorded;
use farepass::ledger::{Filter, Ledger};

pub(crate) async fn walked(ledger: &Arc<dyn Ledger>, filter: Filter) -> Vec<Recorded> {
    let (sender, mut rows) = tokio::sync::mpsc::channel(4);
    let collect = async move {
        let mut all = vec![];
        while let Some(row) = rows.recv().await {
            all.push(row);
        }
        all
    };
    let (walked, rows) = tokio::join!(ledger.walk(filter, sender), collect);
    walked.unwrap();
    rows
}
