//! A running proxy, merchants that record every byte, and agents that send exactly what a case says.

use std::future::Future;
use std::time::Duration;

pub(crate) mod agent;
pub(crate) mod fed;
pub(crate) mod h2;
pub(crate) mod message;
pub(crate) mod origin;
pub(crate) mod proxy;
pub(crate) mod wire;

/// Longer than anything takes, also on a busy machine: a test that hangs fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The outcome, or a panic that says what did not come.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// Runs one future per case, a few at a time, and collects what each complains about.
pub(crate) async fn each<C, F>(cases: Vec<C>, run: impl Fn(C) -> F) -> Vec<String>
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    const AT_ONCE: usize = 24;
    let mut running = tokio::task::JoinSet::<Result<(), String>>::new();
    let mut wrong = vec![];
    for case in cases {
        if running.len() >= AT_ONCE {
            wrong.extend(running.join_next().await.unwrap().unwrap().err());
        }
        running.spawn(run(case));
    }
    while let Some(done) = running.join_next().await {
        wrong.extend(done.unwrap().err());
    }
    wrong
}
