//! The world around one payer: agents, clocks, a wallet, and what must hold after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use farepass::chain::Chains;
use farepass::clock::{Clock, Timestamp, Window};
use farepass::event::{SpendEvent, State};
use farepass::ledger::sessions::{self, Wanted};
use farepass::ledger::{self, Filter, Ledger, Reader as _};
use farepass::money::{Network, Usd, canonical_assets};
use farepass::payer::{Parts, Payer, Received};
use farepass::payment::{
    Asked, Instruction, Nonce, PaymentId, RequestKey, Session, SessionId, Signature, Tool,
};
use farepass::policy::{Catalog, Policy};
use farepass::section::{Problems, Section};
use farepass::settings::Unproven;
use farepass::wallet::{Wallet, WalletError};
use tempfile::TempDir;

use crate::chance::{Chance, now, pause};
use crate::disk::{Disk, Told};
use crate::merchant::{self, Chain, KINDS, Kind, NETWORK};
use crate::{AGENTS, PURCHASES, Tally};

const PAYER: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
const SESSIONS: usize = 4;
const HOSTS: u64 = 6;
/// A cent; a page costs one to three.
const CENT: Usd = Usd(10_000_000);
const POLICY: &str = "
budgets:
  - { name: hourly, scope: agent, limit: \"0.60 USD\", window: 1h }
  - { name: daily, scope: all, limit: \"1.40 USD\", window: day }
  - { name: often, scope: host, payments: 25, window: 30m }
rules:
  - name: holding
    match: { hosts: [m0.example.com, m1.example.com] }
    pay: { max: \"0.03 USD\", on_unknown: hold }
  - name: resending
    match: { hosts: [\"*.example.com\"] }
    pay: { max: \"0.03 USD\" }
";

/// The process's clock, the wall, and the time that it truly is, in milliseconds.
#[derive(Default)]
pub(crate) struct Clocks {
    now: AtomicU64,
    wall: AtomicU64,
    truth: AtomicU64,
    /// The latest time that has ever come by both `now` and `wall`: what was dead then stays dead.
    surely: AtomicU64,
}

impl Clock for Clocks {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }
    fn wall(&self) -> Timestamp {
        Timestamp(self.wall.load(Ordering::Relaxed))
    }
}

impl Clocks {
    fn pass(&self, ms: u64) {
        for clock in [&self.now, &self.wall, &self.truth] {
            clock.fetch_add(ms, Ordering::Relaxed);
        }
        self.moved();
    }

    fn truly(&self) -> u64 {
        self.truth.load(Ordering::Relaxed) / 1000
    }

    /// Called whenever a clock was moved.
    fn moved(&self) {
        let surely = self.now().min(self.wall());
        self.surely.fetch_max(surely.0, Ordering::Relaxed);
    }
}

/// Something that an agent wants, once.
#[derive(Clone)]
struct Purchase {
    session: usize,
    host: String,
    path: String,
    kind: Kind,
    amount: u64,
    valid_for: u64,
    key: RequestKey,
    attempts: u64,
    over: bool,
}

/// One process: gone with a crash.
struct Process {
    disk: Arc<Disk>,
    payer: Arc<Payer>,
}

pub(crate) struct World {
    pub(crate) chance: Arc<Chance>,
    clocks: Arc<Clocks>,
    told: Arc<Mutex<Told>>,
    chain: Arc<Mutex<Chain>>,
    wallet: Arc<Purse>,
    dir: Option<TempDir>,
    memory: Arc<dyn Ledger>,
    process: Mutex<Option<Process>>,
    sessions: Vec<Arc<Session>>,
    purchases: Mutex<Vec<Purchase>>,
    refused: Mutex<BTreeMap<String, usize>>,
    unproven: Unproven,
    busy: AtomicUsize,
    swept: AtomicUsize,
    /// Changes when the invariants were checked last.
    checked: AtomicUsize,
    ids: Arc<AtomicU64>,
}

/// A wallet that sometimes declines, and sometimes signs without an answer.
struct Purse {
    chance: Arc<Chance>,
    clocks: Arc<Clocks>,
    told: Arc<Mutex<Told>>,
    chain: Arc<Mutex<Chain>>,
    networks: Vec<Network>,
    signed: Mutex<BTreeMap<String, PaymentId>>,
    declined: Mutex<BTreeSet<PaymentId>>,
    /// Is there somebody who sees the chain?
    sees: bool,
}

#[async_trait]
impl Wallet for Purse {
    fn name(&self) -> &str {
        "main"
    }
    fn kind(&self) -> &'static str {
        "simulated"
    }
    fn address(&self, network: &Network) -> Option<String> {
        self.networks.contains(network).then(|| PAYER.into())
    }
    fn networks(&self) -> &[Network] {
        &self.networks
    }

    /// Nothing is signed that was not reserved, and no request is signed twice.
    async fn sign(&self, instruction: &Instruction) -> Result<Signature, WalletError> {
        pause().await;
        let Instruction::Transfer(transfer) = instruction else {
            panic!("nothing else is offered: {instruction:?}");
        };
        let nonce = format!("0x{}", hex::encode(transfer.nonce));
        let event = {
            let told = self.told.lock().unwrap();
            let id = told
                .reserved
                .get(&nonce)
                .expect("reserved before it is signed");
            told.events[id].clone()
        };
        // Whoever sleeps between the two signs what is dead already, by the clocks that the process has.
        let surely = self.clocks.surely.load(Ordering::Relaxed) / 1000;
        let dead = self.clocks.truly().max(surely) >= transfer.valid_before;
        assert!(event.state == State::Reserved || dead, "{event:?}");
        assert_eq!(
            event.amount.map(|a| a.to_string()),
            Some(transfer.value.to_string())
        );
        assert_eq!(event.valid_before, Some(transfer.valid_before));
        if self.chance.one_in(20) {
            self.declined.lock().unwrap().insert(event.id);
            return Err(WalletError::Declined("not today".into()));
        }
        let told = self.told.lock().unwrap();
        let mut signed = self.signed.lock().unwrap();
        for other in signed.values().map(|id| &told.events[id]) {
            assert!(
                other.request != event.request,
                "{:?} is signed twice",
                event.request
            );
        }
        assert!(
            signed.insert(nonce, event.id).is_none(),
            "a nonce is signed twice"
        );
        match self.chance.one_in(25) {
            true => Err(WalletError::Unknown("the line went dead".into())),
            false => Ok(Signature::Evm([7; 65])),
        }
    }

    async fn settled(&self, id: PaymentId) -> Option<bool> {
        pause().await;
        let told = self.told.lock().unwrap();
        let event = told.events.get(&id).filter(|_| self.sees)?;
        let taken = self
            .chain
            .lock()
            .unwrap()
            .taken
            .contains_key(event.nonce.as_ref()?);
        match taken {
            true => Some(true),
            false => (self.clocks.truly() >= event.valid_before?).then_some(false),
        }
    }
}

impl World {
    pub(crate) fn new(seed: u64, on_disk: bool) -> Arc<Self> {
        let chance = Arc::new(Chance::new(seed));
        let clocks = Arc::new(Clocks::default());
        // Some minutes before a midnight.
        clocks.pass((20_833 * 86_400 - chance.below(1200)) * 1000);
        let (told, chain) = (Arc::new(Mutex::default()), Arc::new(Mutex::default()));
        let wallet = Arc::new(Purse {
            chance: Arc::clone(&chance),
            clocks: Arc::clone(&clocks),
            told: Arc::clone(&told),
            chain: Arc::clone(&chain),
            networks: vec![NETWORK.parse().unwrap()],
            signed: Mutex::default(),
            declined: Mutex::default(),
            sees: chance.one_in(2),
        });
        let unproven = *chance.of(&[Unproven::Count, Unproven::Count, Unproven::Release]);
        let mut world = Self {
            dir: on_disk.then(folder),
            memory: ledger::in_memory(),
            process: Mutex::default(),
            sessions: vec![],
            purchases: Mutex::default(),
            refused: Mutex::default(),
            busy: AtomicUsize::new(0),
            swept: AtomicUsize::new(0),
            checked: AtomicUsize::new(0),
            ids: Arc::new(AtomicU64::new(1)),
            chance,
            clocks,
            told,
            chain,
            wallet,
            unproven,
        };
        world.open_sessions();
        world.plan_purchases();
        *world.process.get_mut().unwrap() = Some(world.start());
        Arc::new(world)
    }

    fn ledger(&self) -> Arc<dyn Ledger> {
        match &self.dir {
            Some(dir) => ledger::open(&dir.path().join("state")).unwrap(),
            None => Arc::clone(&self.memory),
        }
    }

    fn open_sessions(&mut self) {
        let ledger = self.ledger();
        for n in 0..SESSIONS {
            let wanted = Wanted {
                agent: format!("agent-{}", n / 2),
                budget: Usd(CENT.0 * (20 + self.chance.below(40))),
                expires: Duration::from_secs(30 * 86_400),
            };
            let (draft, _) = sessions::Draft::new(wanted, &*self.clocks).unwrap();
            now(draft.open(&*ledger)).unwrap();
            self.sessions.push(Arc::new(draft.session));
        }
    }

    fn plan_purchases(&mut self) {
        for n in 0..AGENTS * PURCHASES {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&(n as u64).to_be_bytes());
            self.purchases.get_mut().unwrap().push(Purchase {
                session: n % SESSIONS,
                host: format!("m{}.example.com", self.chance.below(HOSTS)),
                path: format!("/{}", self.chance.below(20)),
                kind: *self.chance.of(KINDS),
                amount: 10_000 * (1 + self.chance.below(3)),
                valid_for: *self.chance.of(&[10, 60, 300]),
                key: RequestKey(key),
                attempts: 0,
                over: false,
            });
        }
    }

    /// As a program starts: the clock is at the wall, or at the newest record when that is later; what a
    /// crash left is swept and remembered.
    fn start(&self) -> Process {
        let ledger = self.ledger();
        let newest = now(ledger.newest()).unwrap();
        let wall = self.clocks.wall();
        self.clocks.now.store(wall.max(newest).0, Ordering::Relaxed);
        self.clocks.moved();
        let disk = Arc::new(Disk::new(
            ledger,
            Arc::clone(&self.chance),
            Arc::clone(&self.told),
        ));
        let ids = Arc::clone(&self.ids);
        let payer = Payer::new(Parts {
            policy: Arc::new(policy()),
            ledger: Arc::clone(&disk) as Arc<dyn Ledger>,
            wallets: vec![Arc::clone(&self.wallet) as Arc<dyn Wallet>],
            clock: Arc::clone(&self.clocks) as Arc<dyn Clock>,
            fresh: Box::new(move || {
                let n = ids.fetch_add(1, Ordering::Relaxed);
                let mut nonce = [0; 32];
                nonce[24..].copy_from_slice(&n.to_be_bytes());
                Some((PaymentId(n.into()), Nonce(nonce)))
            }),
            sinks: vec![],
            unproven: self.unproven,
            admin_url: String::new(),
            stopped: Box::new(|| false),
            chains: Chains::default(),
        });
        let payer = Arc::new(payer);
        now(async {
            let swept = payer.sweep().await.unwrap();
            self.swept.fetch_add(swept, Ordering::Relaxed);
            payer.recall().await.unwrap();
        });
        Process { disk, payer }
    }

    fn payer(&self) -> Arc<Payer> {
        Arc::clone(&self.process.lock().unwrap().as_ref().unwrap().payer)
    }

    fn disk(&self) -> Arc<Disk> {
        Arc::clone(&self.process.lock().unwrap().as_ref().unwrap().disk)
    }

    /// Time goes on, and sometimes somebody sets the wall clock.
    fn pass(&self) {
        self.clocks.pass(self.chance.below(400));
        if self.chance.one_in(200) {
            self.clocks
                .pass(1000 * *self.chance.of(&[30, 300, 1900, 3700]));
        }
        if self.chance.one_in(300) {
            let ahead = 1000 * *self.chance.of(&[1, 90, 4000, 90_000]);
            match self.chance.one_in(2) {
                true => self.clocks.wall.fetch_add(ahead, Ordering::Relaxed),
                false => self.clocks.wall.fetch_sub(ahead, Ordering::Relaxed),
            };
            self.clocks.moved();
        }
    }

    /// Buys what it wants, one after the other, and asks again when it gets no answer.
    pub(crate) async fn agent(self: Arc<Self>, agent: usize) {
        self.busy.fetch_add(1, Ordering::Relaxed);
        let payer = self.payer();
        for n in (0..PURCHASES).map(|p| p * AGENTS + agent) {
            pause().await;
            while !self.purchases.lock().unwrap()[n].over {
                let delivered = self.buy(&payer, n).await;
                let mut purchases = self.purchases.lock().unwrap();
                let purchase = &mut purchases[n];
                purchase.attempts += 1;
                purchase.over |= delivered || purchase.attempts > 3;
            }
        }
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }

    /// One request: did the agent get something?
    async fn buy(&self, payer: &Payer, n: usize) -> bool {
        self.pass();
        let purchase = self.purchases.lock().unwrap()[n].clone();
        let asked = Asked {
            session: Arc::clone(&self.sessions[purchase.session]),
            method: http::Method::GET,
            secure: true,
            host: purchase.host.as_str().into(),
            port: 443,
            path: purchase.path.as_str().into(),
            tool: Tool::None,
            request: Some(purchase.key),
            trace: None,
        };
        let challenge = merchant::challenge(&purchase.host, purchase.amount, purchase.valid_for);
        pause().await;
        // What can no longer be charged may be paid for again; here an agent is not that patient.
        if self.may_be_over(&purchase) {
            return true;
        }
        let signed = match payer.authorize(&asked, &challenge).await {
            Ok(signed) => signed,
            Err(refusal) => {
                let mut refused = self.refused.lock().unwrap();
                *refused.entry(refusal.reason.to_string()).or_default() += 1;
                return false;
            }
        };
        pause().await;
        let slip = merchant::slip(&signed.payload);
        assert_eq!(slip.value, purchase.amount);
        let answer = self.sell(&purchase, &slip);
        if purchase.kind.claims() {
            // Settled: with the process gone, nobody would know that the agent is still waiting.
            self.purchases.lock().unwrap()[n].over = true;
        }
        pause().await;
        let head = answer.as_ref().map(|(status, headers)| (*status, headers));
        let mut settled = payer.settle(signed, head).await;
        if let Some(recourse) = settled.record.recourse.take() {
            payer.hung_up(recourse, 4);
        }
        if answer.is_some() && self.chance.one_in(2) {
            pause().await;
            let received = Received {
                broken_off: false,
                length: 4,
                digest: None,
                echoed: false,
            };
            payer.received(*settled.record.event, received).await;
        }
        answer.is_some_and(|(status, _)| status.is_success())
    }

    fn may_be_over(&self, purchase: &Purchase) -> bool {
        let told = self.told.lock().unwrap();
        let declined = self.wallet.declined.lock().unwrap();
        let key = Some(purchase.key.to_string());
        let mine = |e: &&SpendEvent| e.request == key && !declined.contains(&e.id);
        let mut untils = told
            .events
            .values()
            .filter(mine)
            .filter_map(|e| told.until.get(&e.id));
        let surely = self.clocks.surely.load(Ordering::Relaxed);
        untils.any(|until| until.0 <= surely)
    }

    fn sell(
        &self,
        purchase: &Purchase,
        slip: &merchant::Slip,
    ) -> Option<(http::StatusCode, http::HeaderMap)> {
        let mut chain = self.chain.lock().unwrap();
        if purchase.kind.takes_at_once() {
            chain.take(slip, self.clocks.truly());
        }
        if purchase.kind.takes_later() && self.chance.one_in(2) {
            chain.later.push(slip.clone());
        }
        purchase.kind.answer(slip, self.chance.below(4))
    }

    /// Closes what is dead, every now and then.
    pub(crate) async fn sweeper(self: Arc<Self>) {
        let payer = self.payer();
        while self.busy.load(Ordering::Relaxed) > 0 {
            for _ in 0..self.chance.below(8) {
                pause().await;
            }
            self.pass();
            let swept = payer.sweep().await.unwrap();
            self.swept.fetch_add(swept, Ordering::Relaxed);
            pause().await;
        }
    }

    /// Merchants that take the money when nobody expects it any more.
    pub(crate) async fn late_charges(self: Arc<Self>) {
        while self.busy.load(Ordering::Relaxed) > 0 {
            pause().await;
            self.charge_one();
        }
    }

    fn charge_one(&self) {
        let mut chain = self.chain.lock().unwrap();
        if chain.later.is_empty() || !self.chance.one_in(4) {
            return;
        }
        let picked = self.chance.below(chain.later.len() as u64) as usize;
        let slip = chain.later.swap_remove(picked);
        chain.take(&slip, self.clocks.truly());
    }

    /// After each step that stored or took something; a file has to be asked, so less often.
    pub(crate) fn check_changes(&self) {
        let taken = self.chain.lock().unwrap().taken.len();
        let changes = self.told.lock().unwrap().stored + taken;
        let before = self.checked.load(Ordering::Relaxed);
        if changes >= before + if self.dir.is_some() { 20 } else { 1 } {
            self.checked.store(changes, Ordering::Relaxed);
            self.check();
        }
    }

    /// The invariants.
    fn check(&self) {
        let disk = self.disk();
        let told = disk.told();
        // No lower than any clock that a reservation was made by.
        let now_at = self.clocks.now().max(told.latest);
        for session in &self.sessions {
            let row = now(disk.session(&session.id)).unwrap().unwrap();
            let mine = told.events.values().filter(|e| e.session == session.id);
            let counting: Vec<_> = mine.filter_map(|e| e.charged).collect();
            let sum = counting.iter().fold(Usd(0), |sum, c| sum.plus(*c).unwrap());
            assert!(
                row.spent <= session.budget,
                "{} of {}",
                row.spent,
                session.budget
            );
            assert_eq!(
                (row.spent, row.payments as usize),
                (sum, counting.len()),
                "{}",
                session.id
            );
        }
        let hour = Window::Rolling { seconds: 3600 }.buckets(now_at).0;
        let half = Window::Rolling { seconds: 1800 }.buckets(now_at).0;
        let counted = |account: String, first| now(disk.counted(&account, first)).unwrap();
        for agent in 0..SESSIONS / 2 {
            let hourly = counted(format!("budget:hourly:agent-{agent}"), hour);
            assert!(hourly.amount.0 <= 60 * CENT.0, "{hourly:?}");
        }
        let daily = counted("budget:daily:".into(), Window::Day.buckets(now_at).0);
        assert!(daily.amount.0 <= 140 * CENT.0, "{daily:?}");
        for host in 0..HOSTS {
            let often = counted(format!("budget:often:m{host}.example.com"), half);
            assert!(often.payments <= 25, "{often:?}");
        }
        self.check_truth(&told);
    }

    /// What the chain moved is in the books, and within the budgets.
    fn check_truth(&self, told: &Told) {
        let chain = self.chain.lock().unwrap();
        let mut sums = BTreeMap::<&SessionId, u64>::new();
        for (nonce, value) in &chain.taken {
            let event = &told.events[&told.reserved[nonce]];
            *sums.entry(&event.session).or_default() += value * 1000;
            let excused = self.unproven == Unproven::Release;
            assert!(event.state != State::Released || excused, "{event:?}");
        }
        for session in self
            .sessions
            .iter()
            .filter(|_| self.unproven == Unproven::Count)
        {
            let taken = sums.get(&session.id).copied().unwrap_or_default();
            assert!(
                Usd(taken) <= session.budget,
                "{taken} taken of {}",
                session.budget
            );
        }
        let declined = self.wallet.declined.lock().unwrap();
        for event in told.events.values().filter(|e| e.state == State::Released) {
            let reason = event.reason.as_deref();
            let proved = match reason {
                Some("unused_on_chain") => self.wallet.sees,
                Some("expired_unproven") => self.unproven == Unproven::Release,
                _ => declined.contains(&event.id),
            };
            assert!(proved, "{event:?}");
        }
    }

    /// The process ends, in the middle or in order, and another begins. Nothing is different then.
    pub(crate) fn restart(&self, crashed: bool) {
        let old = self.process.lock().unwrap().take().unwrap();
        if !crashed {
            old.disk.finish();
        }
        self.busy.store(0, Ordering::Relaxed);
        drop(old);
        self.check_stored();
        let new = self.start();
        *self.process.lock().unwrap() = Some(new);
        self.check();
    }

    /// Opened anew, before anything is swept.
    fn check_stored(&self) {
        let ledger = self.ledger();
        let told = self.told.lock().unwrap();
        let stored = now(ledger.payments(Filter {
            denied: true,
            ..Filter::default()
        }))
        .unwrap();
        let stored: BTreeMap<PaymentId, SpendEvent> =
            stored.into_iter().map(|e| (e.id, e)).collect();
        assert!(
            stored == told.events,
            "the events are not those that were stored"
        );
        let sum = |e: &&SpendEvent, s: &Session| (e.session == s.id).then_some(e.charged).flatten();
        for session in &self.sessions {
            let row = now(ledger.session(&session.id)).unwrap().unwrap();
            let charged: u64 = stored
                .values()
                .filter_map(|e| sum(&e, session))
                .map(|c| c.0)
                .sum();
            assert_eq!(row.spent, Usd(charged), "{}", session.id);
        }
        for (nonce, id) in &*self.wallet.signed.lock().unwrap() {
            assert_eq!(
                stored[id].nonce.as_ref(),
                Some(nonce),
                "signed and not stored"
            );
        }
        let report = now(ledger.verify()).unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
    }

    /// Long after: every payload is dead, and every payment is closed.
    pub(crate) fn close_the_books(&self) {
        while !self.chain.lock().unwrap().later.is_empty() {
            self.charge_one();
        }
        let wall = self.clocks.wall.load(Ordering::Relaxed);
        let now_is = self.clocks.now.load(Ordering::Relaxed);
        self.clocks.wall.store(wall.max(now_is), Ordering::Relaxed);
        self.clocks.pass(10 * 86_400_000);
        let (payer, disk) = (self.payer(), self.disk());
        // A failing disk may lose a closing; the next sweep makes it again.
        for _ in 0..100 {
            self.swept
                .fetch_add(now(payer.sweep()).unwrap(), Ordering::Relaxed);
            disk.finish();
            self.check();
            if now(disk.open()).unwrap().is_empty() {
                drop((payer, disk));
                self.restart(false);
                self.check_once_each();
                return;
            }
        }
        panic!("payments stay open");
    }

    /// No request was charged twice.
    fn check_once_each(&self) {
        let told = self.told.lock().unwrap();
        let mut charged = BTreeSet::new();
        for nonce in self.chain.lock().unwrap().taken.keys() {
            let event = &told.events[&told.reserved[nonce]];
            assert!(
                charged.insert(event.request.clone()),
                "charged twice: {event:?}"
            );
        }
    }

    pub(crate) fn tell(&self, tally: &mut Tally) {
        tally.signed = self.wallet.signed.lock().unwrap().len();
        tally.taken = self.chain.lock().unwrap().taken.len();
        tally.refused = self.refused.lock().unwrap().clone();
        tally.faults = self.told.lock().unwrap().faults;
        tally.swept = self.swept.load(Ordering::Relaxed);
    }
}

/// In memory where that is to be had: what a real disk does to a ledger is tried elsewhere.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn policy() -> Policy {
    let mut file = Section::file("simulator.yaml", POLICY).unwrap();
    let catalog = Catalog {
        assets: canonical_assets(),
        validity: 300,
        requirements: 32,
        ..Catalog::default()
    };
    let mut problems = Problems::default();
    let policy = Policy::read(&mut file, catalog, &mut problems);
    assert!(problems.is_empty(), "{:?}", problems.into_sorted());
    policy
}
