//! A database that changes places: a standby by streaming replication takes over under load, and the old
//! one comes back. No payment without a record that survives, and none twice.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::postgres::{
    SETTLED, assert_nothing_lost, fleet, more, ready, taken, url, while_agents_buy,
};
use crate::support::postgres::Server;
use crate::support::proxy::Proxy;
use crate::support::shop;
use crate::support::{linger, needs, until};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_standby_takes_over_under_load_and_the_old_primary_is_not_paid_from() {
    let Some(primary) = needs(Server::start(&[])) else {
        return;
    };
    let Some(standby) = needs(primary.standby()) else {
        return;
    };
    let either = primary.either(&standby, &primary.place("either"));
    let (merchant, _) = shop::open(|_, out| shop::sell("goods", out));
    let mut proxies = fleet(&merchant, &either, 2, "100 USD");
    let paid = || shop::payments(&merchant).len();
    while_agents_buy(&proxies, || {
        let more = |least| more(&merchant, least);
        more(20);
        primary.crash();
        until("readiness to be told", LONG, || {
            (!proxies.iter().any(ready)).then_some(())
        });
        linger(SETTLED);
        let before = paid();
        linger(SETTLED);
        assert_eq!(paid(), before, "a standby that only reads pays for nothing");
        standby.promote();
        more(40);
    });
    let all = taken(&merchant);
    let different: BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len(), "none twice");
    assert_nothing_lost(&merchant, &proxies[0].setup);
    proxies[1].assert_verifies();
    for proxy in &proxies {
        until("readiness", LONG, || ready(proxy).then_some(()));
    }
    the_old_one_returns(&primary, &standby, &proxies, paid);
    // A proxy that is started anew once only one of them is there goes on with it.
    primary.crash();
    proxies[0].stop();
    proxies[0].start_again();
    assert_eq!(proxies[0].get(&url(9000)).status, 200);
    assert_nothing_lost(&merchant, &proxies[0].setup);
}

/// It can be written to, is named first, and knows nothing of what was paid since.
fn the_old_one_returns(
    primary: &Server,
    standby: &Server,
    proxies: &[Proxy],
    paid: impl Fn() -> usize,
) {
    primary.run();
    let alone = "ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()";
    for set in alone.split("; ") {
        assert!(primary.sql("postgres", set).0, "{set}");
    }
    let before = paid();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'farepass'";
    assert!(standby.sql("postgres", cut).0);
    for proxy in proxies {
        until("the refusal to be paid from it", LONG, || {
            let told = proxy.ask_admin("/readyz").unwrap().text();
            told.contains("record").then_some(())
        });
        let answer = proxy.get(&url(8000));
        assert_eq!(answer.reason().as_deref(), Some("ledger_unavailable"));
    }
    assert_eq!(paid(), before, "nothing is paid from the past");
}
