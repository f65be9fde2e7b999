//! Ten thousand sidecars on one budget, played through event by event with times of service as parameters:
//! who waits how long for the one lock, what gateways and leases would change. Time in microseconds.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A pause with this mean that remembers nothing: a coin of 64 sides for each 64th of it.
    fn pause(&mut self, mean: u64) -> u64 {
        let step = mean / 64;
        let mut pause = self.below(step);
        while self.below(64) > 0 {
            pause += step;
        }
        pause
    }
}

/// What holds the lock for how long.
#[derive(Clone, Copy)]
pub(crate) struct Service {
    /// There and back between proxy and database.
    pub(crate) round_trip: u64,
    /// The database's disk.
    pub(crate) flush: u64,
    /// What both sides reckon, for the first post of a transaction and for each further one.
    pub(crate) first: u64,
    pub(crate) further: u64,
}

#[derive(Clone, Copy)]
pub(crate) struct Fleet {
    pub(crate) proxies: usize,
    /// Behind each proxy.
    pub(crate) agents: u64,
    /// Of each agent.
    pub(crate) payments_per_hour: u64,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    /// Of the time, how much the lock is held, in percent.
    pub(crate) busy: u64,
    /// How long a reservation waits for its commit.
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    /// In percent of all reservations: those that waited for the lock longer than the server lets them.
    pub(crate) refused: u64,
}

/// `lock_timeout` of a proxy's transactions.
const LOCK_TIMEOUT: u64 = 5_000_000;
/// Posts in one transaction.
const GROUP_MAX: usize = 256;
/// From a reservation to its receipt: the merchant's time.
const MERCHANT: u64 = 300_000;
const LENGTH: u64 = 120_000_000;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wants(usize),
    Settles(usize),
    Committed(usize),
}

/// A post of a proxy that waits: when it was made, and whether it is a reservation.
type Post = (u64, bool);

#[derive(Default, Clone)]
struct Proxy {
    queue: VecDeque<Post>,
    /// In its transaction, or waiting for the lock with it.
    together: Vec<Post>,
}

struct World {
    service: Service,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    proxies: Vec<Proxy>,
    /// Who waits for the lock, and since when.
    line: VecDeque<(usize, u64)>,
    held: bool,
    busy: u64,
    waits: Vec<u64>,
    refused: u64,
}

impl World {
    fn at(&mut self, time: u64, event: Event) {
        self.events.push(Reverse((time, event)));
    }

    fn post(&mut self, now: u64, who: usize, reserves: bool) {
        let proxy = &mut self.proxies[who];
        proxy.queue.push_back((now, reserves));
        if proxy.together.is_empty() {
            self.ask(now, who);
        }
    }

    /// All that waits in a proxy goes into one transaction, which asks for the lock.
    fn ask(&mut self, now: u64, who: usize) {
        let proxy = &mut self.proxies[who];
        let many = proxy.queue.len().min(GROUP_MAX);
        proxy.together.extend(proxy.queue.drain(..many));
        if !proxy.together.is_empty() {
            self.line.push_back((who, now));
            self.grant(now);
        }
    }

    fn grant(&mut self, now: u64) {
        while !self.held {
            let Some((who, since)) = self.line.pop_front() else {
                return;
            };
            if now - since > LOCK_TIMEOUT {
                let given_up = std::mem::take(&mut self.proxies[who].together);
                self.refused += given_up.iter().filter(|(_, r)| *r).count() as u64;
                self.ask(now, who);
                continue;
            }
            let posts = &self.proxies[who].together;
            // What belongs to a payment that is booked already is read once that is known.
            let trips = 1 + u64::from(posts.iter().any(|(_, reserves)| !reserves));
            let Service {
                round_trip,
                flush,
                first,
                further,
            } = self.service;
            let hold = trips * round_trip + flush + first + further * (posts.len() as u64 - 1);
            (self.held, self.busy) = (true, self.busy + hold);
            self.at(now + hold, Event::Committed(who));
        }
    }

    fn committed(&mut self, now: u64, who: usize) {
        self.held = false;
        for (made, reserves) in std::mem::take(&mut self.proxies[who].together) {
            if reserves {
                // Half a trip to ask, half a trip to hear of it.
                self.waits.push(now - made + self.service.round_trip);
                self.at(now + MERCHANT, Event::Settles(who));
            }
        }
        self.ask(now, who);
        self.grant(now);
    }
}

/// Plays a fleet for two minutes.
pub(crate) fn play(fleet: Fleet, service: Service, mut chance: Chance) -> Outcome {
    let mut world = World {
        service,
        events: BinaryHeap::new(),
        proxies: vec![Proxy::default(); fleet.proxies],
        line: VecDeque::new(),
        held: false,
        busy: 0,
        waits: vec![],
        refused: 0,
    };
    let mean = 3_600_000_000 / (fleet.agents * fleet.payments_per_hour);
    for who in 0..fleet.proxies {
        let first = chance.pause(mean);
        world.at(first, Event::Wants(who));
    }
    while let Some(Reverse((now, event))) = world.events.pop() {
        if now > LENGTH {
            break;
        }
        match event {
            Event::Wants(who) => {
                let next = now + chance.pause(mean);
                world.at(next, Event::Wants(who));
                world.post(now, who, true);
            }
            Event::Settles(who) => world.post(now, who, false),
            Event::Committed(who) => world.committed(now, who),
        }
    }
    // Who still waits has waited for so long at least.
    let waiting = world.proxies.iter();
    let waiting = waiting.flat_map(|p| p.queue.iter().chain(&p.together));
    let waiting = waiting.filter(|(_, reserves)| *reserves);
    world.waits.extend(waiting.map(|(made, _)| LENGTH - made));
    world.waits.sort_unstable();
    let at = |percent: usize| world.waits[(world.waits.len() - 1) * percent / 100];
    Outcome {
        busy: world.busy.min(LENGTH) * 100 / LENGTH,
        p50: at(50),
        p99: at(99),
        refused: world.refused * 100 / (world.refused + world.waits.len() as u64),
    }
}

/// What leases would bring: a pod takes a part of the budget at once and spends it by itself.
#[derive(Debug)]
pub(crate) struct Leases {
    /// Transactions that lease, for each hundred payments.
    pub(crate) leases: u64,
    /// Of the budget, in percent: unspent in other pods when the first pod is refused.
    pub(crate) stranded: u64,
    /// Of the budget, in thousandths: held by pods that died, one in a hundred of them by then.
    pub(crate) dead: u64,
}

/// A budget of so many payments over so many pods; a lease takes at most `most` payments, and at most its
/// pod's share of half of what is left, where `fair`. Pods buy in no order.
pub(crate) fn lease(payments: u64, pods: u64, most: u64, fair: bool, mut chance: Chance) -> Leases {
    let (mut left, mut leases, mut paid, mut dead) = (payments, 0u64, 0u64, 0u64);
    let mut held = vec![0u64; pods as usize];
    let mortality = payments / (pods / 100).max(1);
    loop {
        let who = chance.below(pods) as usize;
        if held[who] == 0 {
            let share = match fair {
                true => (left / (2 * pods)).max(1),
                false => most,
            };
            let part = share.min(most).min(left);
            if part == 0 {
                break;
            }
            (held[who], left, leases) = (part, left - part, leases + 1);
        }
        (held[who], paid) = (held[who] - 1, paid + 1);
        if paid % mortality == 0 {
            // Another pod takes its place, with nothing; what it held is not proven to be unspent.
            let who = chance.below(pods) as usize;
            dead += std::mem::take(&mut held[who]);
        }
    }
    let stranded = held.iter().sum::<u64>();
    Leases {
        leases: leases * 100 / paid,
        stranded: stranded * 100 / payments,
        dead: dead * 1000 / payments,
    }
}

/// A database in the same zone, on a disk of its own.
const USUAL: Service = Service {
    round_trip: 500,
    flush: 1000,
    first: 700,
    further: 100,
};

#[test]
fn ten_thousand_sidecars_wait_for_one_lock() {
    let mut rows = vec![];
    for (proxies, agents) in [(1_000, 1), (10_000, 1), (50, 200)] {
        for payments_per_hour in [6, 30, 60, 180] {
            let fleet = Fleet {
                proxies,
                agents,
                payments_per_hour,
            };
            let outcome = play(fleet, USUAL, Chance(7));
            let Outcome {
                busy,
                p50,
                p99,
                refused,
            } = outcome;
            println!(
                "{proxies:>6} proxies of {agents:>3} agents, {payments_per_hour:>3} payments an hour each: \
                 lock held {busy:>3} %, wait p50 {p50:>8} µs, p99 {p99:>8} µs, refused {refused} %"
            );
            rows.push((proxies, payments_per_hour, outcome));
        }
    }
    let of = |proxies, per_hour| {
        let found = rows
            .iter()
            .find(|(p, r, _)| (*p, *r) == (proxies, per_hour));
        &found.unwrap().2
    };
    // What the documentation says of it.
    assert!(of(10_000, 30).p99 < 20_000 && of(10_000, 30).refused == 0);
    assert!(of(10_000, 60).busy > 80);
    assert!(of(10_000, 180).refused > 10, "more than one lock carries");
    assert!(of(50, 180).p99 < 500_000, "gateways carry it in groups");
    assert_eq!(of(50, 180).refused, 0);
}

#[test]
fn what_leases_would_bring_and_cost() {
    const PODS: u64 = 10_000;
    let mut rows = vec![];
    for payments in [100_000, 1_000_000] {
        for (most, fair) in [(1, false), (5, false), (20, false), (20, true)] {
            let outcome = lease(payments, PODS, most, fair, Chance(7));
            let rule = if fair { "and its share of half" } else { "" };
            println!(
                "a budget of {payments} payments over {PODS} pods, leases of {most} {rule}: {outcome:?}"
            );
            rows.push(outcome);
        }
    }
    let [none, five, twenty, fair, .., rich] = &rows[..] else {
        panic!("{rows:?}");
    };
    assert_eq!((none.leases, none.stranded, none.dead), (100, 0, 0));
    assert!(five.stranded > 10, "refused while much of it is left");
    assert!(twenty.stranded > 50);
    assert!(fair.stranded < twenty.stranded && fair.leases > 30);
    assert!(rich.leases < 20 && rich.stranded < 20);
}
