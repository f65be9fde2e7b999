//! The book in memory: tests, demonstrations.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::budget::{Book, Counted, Fact, Frozen, Payment, Stage, judge};
use crate::clock::Timestamp;
use crate::event::SpendEvent;
use crate::event::export::Recorded;
use crate::payment::{Limit, PaymentId, SessionId};

use super::audit::{Audit, Seen};
use super::chain::{Head, Record};
use super::fullest::{Accounts, Fullest};
use super::{
    Backend, Filter, Ledger, OpenError, Post, PostError, Posted, Reader, Report, SessionRow, Then,
    Trail,
};

pub(super) const BACKEND: Backend = Backend {
    kind: "memory",
    open: |_| Ok(Arc::new(Memory::default())),
    read: |opening| Err(OpenError::Missing(opening.state_dir.clone())),
};

/// It has one chain per process and no name to tell it from another.
const ID: &str = "memory";

/// The whole ledger behind one lock, which is never held across an await.
#[derive(Default)]
pub(super) struct Memory {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    book: Book,
    records: Vec<(Record, Option<SpendEvent>)>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, post: Post) -> Result<Posted, PostError> {
        let inner = &mut *self.lock();
        let mut undo = Vec::with_capacity(post.entries.len());
        for entry in &post.entries {
            match judge(&inner.book, entry) {
                Ok(change) => undo.push(inner.book.put(change)),
                Err(reject) => {
                    for change in undo.into_iter().rev() {
                        inner.book.put(change);
                    }
                    return Err(reject.into());
                }
            }
        }
        inner.record(&post)?;
        Ok(Posted::new(inner.head().seq, &inner.book, &post.entries))
    }
}

impl Inner {
    fn head(&self) -> Head {
        self.records.last().map_or_else(
            || Head::genesis(ID),
            |(r, _)| Head {
                seq: r.seq,
                hash: r.hash,
            },
        )
    }

    fn record(&mut self, post: &Post) -> Result<(), PostError> {
        let unreadable = |e: serde_json::Error| PostError::Unavailable(e.to_string());
        let entries = serde_json::to_string(&post.entries).map_err(unreadable)?;
        let event = post.event.as_ref().map(serde_json::to_string);
        let event = event.transpose().map_err(unreadable)?;
        let head = self.head().next(post.time, &entries, event.as_deref());
        let record = Record {
            seq: head.seq,
            time: post.time,
            entries,
            event,
            hash: head.hash,
        };
        self.records.push((record, post.event.clone()));
        Ok(())
    }

    fn row(&self, id: &SessionId) -> Option<SessionRow> {
        let opened = self.book.sessions.get(id)?;
        let account = Limit::session(&opened.session).account;
        let counted = self.book.total(&account, 0).unwrap_or_default();
        Some(SessionRow::new(opened, counted))
    }

    fn newest(&self, filter: &Filter) -> Vec<Recorded> {
        let mut seen = std::collections::BTreeSet::new();
        let mut found: Vec<Recorded> = vec![];
        for (record, event) in self.records.iter().rev() {
            if let Some(event) = event
                && seen.insert(event.id)
                && filter.fits(event)
            {
                found.push(Recorded {
                    event: event.clone(),
                    record_seq: record.seq,
                    record_hash: hex::encode(record.hash),
                });
            }
        }
        found.reverse();
        found
    }

    fn newest_of(&self, id: PaymentId) -> Option<&SpendEvent> {
        let mut events = self.records.iter().rev().filter_map(|(_, e)| e.as_ref());
        events.find(|e| e.id == id)
    }
}

fn recorded((record, event): &(Record, Option<SpendEvent>)) -> Option<Recorded> {
    Some(Recorded {
        event: event.clone()?,
        record_seq: record.seq,
        record_hash: hex::encode(record.hash),
    })
}

#[async_trait]
impl Reader for Memory {
    async fn session(&self, id: &SessionId) -> Result<Option<SessionRow>, PostError> {
        Ok(self.lock().row(id))
    }

    async fn session_by_secret(&self, sha256: &str) -> Result<Option<SessionRow>, PostError> {
        let inner = self.lock();
        let mut sessions = inner.book.sessions.iter();
        let found = sessions.find(|(_, o)| o.secret_sha256.as_deref() == Some(sha256));
        Ok(found.and_then(|(id, _)| inner.row(id)))
    }

    async fn sessions(&self) -> Result<Vec<SessionRow>, PostError> {
        let inner = self.lock();
        let ids = inner.book.sessions.keys();
        let mut rows: Vec<_> = ids.filter_map(|id| inner.row(id)).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.session.created));
        Ok(rows)
    }

    async fn counted(&self, account: &str, first: u64) -> Result<Counted, PostError> {
        Ok(self.lock().book.total(account, first).unwrap_or_default())
    }

    async fn accounts(&self, prefix: &str, first: u64, most: usize) -> Result<Accounts, PostError> {
        let inner = self.lock();
        let here = inner.book.counted.range((prefix.to_owned(), 0)..);
        let here = here.take_while(|((account, _), _)| account.starts_with(prefix));
        let names: std::collections::BTreeSet<_> = here.map(|((account, _), _)| account).collect();
        let sum = |account: &String| inner.book.total(account, first).unwrap_or_default();
        let mut fullest = Fullest::new(most);
        for account in names {
            fullest.put(account.clone(), sum(account));
        }
        Ok(fullest.done())
    }

    async fn open(&self) -> Result<Vec<(Payment, SpendEvent)>, PostError> {
        let inner = self.lock();
        let open = inner.book.payments.iter();
        let open = open.filter(|(_, p)| p.stage == Stage::Reserved);
        let with_event = |(id, p): (&PaymentId, &Payment)| {
            let event = inner.newest_of(*id).cloned().unwrap_or_default();
            (p.clone(), event)
        };
        Ok(open.map(with_event).collect())
    }

    async fn booked(&self, id: PaymentId) -> Result<Option<(Payment, SpendEvent)>, PostError> {
        let inner = self.lock();
        let booked = inner.book.payments.get(&id);
        Ok(booked.and_then(|p| Some((p.clone(), inner.newest_of(id)?.clone()))))
    }

    async fn payment(&self, id: PaymentId) -> Result<Option<SpendEvent>, PostError> {
        Ok(self.lock().newest_of(id).cloned())
    }

    async fn ids(
        &self,
        range: RangeInclusive<PaymentId>,
        most: usize,
    ) -> Result<Vec<PaymentId>, PostError> {
        let inner = self.lock();
        let events = inner.records.iter().filter_map(|(_, e)| e.as_ref());
        let ids: std::collections::BTreeSet<_> = events.map(|e| e.id).collect();
        Ok(ids.range(range).take(most).copied().collect())
    }

    async fn payments(&self, filter: Filter) -> Result<Vec<SpendEvent>, PostError> {
        let inner = self.lock();
        let mut seen = std::collections::BTreeSet::new();
        let events = inner.records.iter().rev().filter_map(|(_, e)| e.as_ref());
        let newest = events.filter(|e| seen.insert(e.id));
        let fitting = newest.filter(|e| filter.fits(e));
        Ok(fitting.take(filter.most()).cloned().collect())
    }

    async fn trail(&self, id: PaymentId) -> Result<Trail, PostError> {
        let inner = self.lock();
        let records = inner.records.iter().filter_map(recorded);
        let head = inner.head();
        Ok(Trail {
            records: records.filter(|r| r.event.id == id).collect(),
            head_seq: head.seq,
            head_hash: head.hex(),
        })
    }

    async fn events(&self, after: u64, limit: usize) -> Result<Vec<(u64, SpendEvent)>, PostError> {
        let inner = self.lock();
        let records = inner.records.iter().filter(|(r, _)| r.seq > after);
        let events = records.filter_map(|(r, e)| Some((r.seq, e.clone()?)));
        Ok(events.take(limit).collect())
    }

    async fn walk(&self, filter: Filter, rows: mpsc::Sender<Recorded>) -> Result<(), PostError> {
        let found = self.lock().newest(&filter);
        for row in found.into_iter().take(filter.most()) {
            if rows.send(row).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn fact(&self, key: &str) -> Result<Option<Fact>, PostError> {
        Ok(self.lock().book.facts.get(key).cloned())
    }

    async fn facts(&self, prefix: &str) -> Result<Vec<(String, Fact)>, PostError> {
        let inner = self.lock();
        let here = inner.book.facts.range(prefix.to_owned()..);
        let here = here.take_while(|(key, _)| key.starts_with(prefix));
        Ok(here
            .map(|(key, fact)| (key.clone(), fact.clone()))
            .collect())
    }

    async fn verify(&self) -> Result<Report, PostError> {
        let inner = self.lock();
        let mut audit = Audit::new(ID);
        let mut last = std::collections::BTreeMap::new();
        for (record, event) in &inner.records {
            audit.record(record);
            if let Some(event) = event {
                last.insert(event.id, record.seq);
            }
        }
        audit.check_head(inner.head());
        audit.check_counted(inner.book.counted.iter().map(|(m, c)| (m.clone(), *c)));
        let payments = last.iter().map(|(id, seq)| {
            let payment = inner.book.payments.get(id);
            (*id, Seen::new(*seq, payment))
        });
        audit.check_payments(payments);
        let sessions = inner.book.sessions.iter();
        audit.check_sessions(sessions.map(|(id, o)| (id.clone(), o.clone())));
        let facts = inner.book.facts.iter();
        audit.check_facts(facts.map(|(key, fact)| (key.clone(), fact.clone())));
        Ok(audit.report())
    }

    async fn newest(&self) -> Result<Timestamp, PostError> {
        let inner = self.lock();
        Ok(inner.records.last().map_or(Timestamp(0), |(r, _)| r.time))
    }
}

#[async_trait]
impl Ledger for Memory {
    async fn post(&self, post: Post) -> Result<Posted, PostError> {
        self.enter(post)
    }

    async fn post_soon(&self, post: Post, then: Then) {
        then(self.enter(post));
    }

    async fn flush(&self) -> Result<(), PostError> {
        Ok(())
    }

    fn frozen(&self, host: &str, agent: &str) -> Option<Frozen> {
        Frozen::among(&self.lock().book.facts, host, agent)
    }

    fn healthy(&self) -> Result<(), PostError> {
        Ok(())
    }
}
