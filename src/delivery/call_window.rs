//! The next calls of a source's log, and which of them may be sent now.
//!
//! Several are on their way at a time, but one of each user, so that each user's calls keep their order. What is done beyond
//! one that is not, is remembered: it is not sent again.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::plan::{LogBlock, Unreadable, user_of};
use crate::domain::event::Kind;
use crate::store::block::Record;
use crate::store::lease::Lease;
use crate::store::settlement::NewDeadLetter;

/// How many calls are looked at in a step. Those that are done in it are done again where the program is killed before it
/// settles.
pub const MAX_CALLS: usize = 128;
/// How many calls of a source may be on their way.
pub const MAX_CONCURRENT_CALLS: usize = 16;

/// A call that waits.
#[derive(Debug)]
pub struct WindowCall {
    /// Its number.
    pub seq: i64,
    /// What it is.
    pub kind: Kind,
    /// Its id.
    pub event_id: Vec<u8>,
    /// When it came.
    pub received_at: OffsetDateTime,
    /// The body of its request.
    pub body: Vec<u8>,
}

impl WindowCall {
    /// The call as it is given up.
    pub fn dead(&self, reason: String) -> NewDeadLetter {
        NewDeadLetter {
            seq: self.seq,
            kind: self.kind,
            event_id: self.event_id.clone(),
            received_at: self.received_at,
            track: String::from_utf8_lossy(&self.body).into_owned(),
            reason,
        }
    }
}

/// The next calls of a source.
#[derive(Default)]
pub struct CallWindow {
    calls: Vec<WindowCall>,
    /// By user, the calls that are not done, in order, by their places.
    queues: HashMap<Uuid, VecDeque<usize>>,
    users: Vec<Uuid>,
    /// The first of each queue that is not on its way.
    ready: BTreeSet<usize>,
    /// The numbers that are done, or have nothing to do, beyond the cursor.
    done: BTreeSet<i64>,
    cursor: i64,
    /// Since when the first waits.
    pub since: Option<OffsetDateTime>,
    /// Those that are too old.
    pub expired: Vec<NewDeadLetter>,
    /// How many were erased, or are about a user who is forgotten.
    pub n_erased: i64,
    /// Why there is nothing: the block after the cursor cannot be read.
    pub unreadable: Option<Unreadable>,
}

impl CallWindow {
    /// Reads the next calls; stops where a number is missing, or a block cannot be read.
    pub fn read(
        lease: &Lease,
        blocks: &[LogBlock],
        forgotten: &HashMap<Uuid, i64>,
        max_age: Duration,
        now: OffsetDateTime,
    ) -> Self {
        let mut window = Self {
            cursor: lease.cursor,
            done: lease.done_ahead.iter().copied().filter(|seq| *seq > lease.cursor).collect(),
            ..Self::default()
        };
        let mut next = lease.cursor + 1;
        for stored in blocks {
            if stored.first_seq() > next {
                return window;
            }
            let block = match stored.read() {
                Ok(block) => block,
                Err(why) => {
                    window.unreadable =
                        (next == lease.cursor + 1).then_some(Unreadable { first: next, last: stored.last_seq(), why });
                    return window;
                }
            };
            for (seq, call) in (stored.first_seq()..).zip(block.records()).filter(|(seq, _)| *seq > lease.cursor) {
                if seq - lease.cursor > i64::try_from(MAX_CALLS).unwrap_or(i64::MAX) {
                    return window;
                }
                window.add(seq, call, stored.since(), forgotten, (max_age, now));
                next = seq + 1;
            }
        }
        window
    }

    fn add(
        &mut self,
        seq: i64,
        call: Record<'_>,
        since: OffsetDateTime,
        forgotten: &HashMap<Uuid, i64>,
        (max_age, now): (Duration, OffsetDateTime),
    ) {
        if self.done.contains(&seq) {
            return;
        }
        // A call without a user is none of ours: it stands for itself.
        let user = user_of(call).unwrap_or_else(|| Uuid::from_u128(seq.unsigned_abs().into()));
        if call.is_erased() || forgotten.get(&user).is_some_and(|up_to| seq <= *up_to) {
            self.n_erased += 1;
            self.done.insert(seq);
            return;
        }
        let call = WindowCall {
            seq,
            kind: call.kind,
            event_id: call.event_id.to_vec(),
            received_at: call.received_at,
            body: call.track.to_vec(),
        };
        if since <= now - max_age {
            self.expired.push(call.dead(format!("expired: not delivered in {} s", max_age.as_secs())));
            self.done.insert(seq);
            return;
        }
        self.since.get_or_insert(since);
        let place = self.calls.len();
        let queue = self.queues.entry(user).or_default();
        if queue.is_empty() {
            self.ready.insert(place);
        }
        queue.push_back(place);
        self.calls.push(call);
        self.users.push(user);
    }

    /// The call at a place.
    pub fn call(&self, place: usize) -> &WindowCall {
        &self.calls[place]
    }

    /// The place of the next call that may be sent.
    pub fn start_next(&mut self) -> Option<usize> {
        self.ready.pop_first()
    }

    /// A call that was on its way is done: its user's next may go.
    pub fn finish(&mut self, place: usize) {
        self.done.insert(self.calls[place].seq);
        let Some(queue) = self.queues.get_mut(&self.users[place]) else { return };
        queue.pop_front();
        self.ready.extend(queue.front());
    }

    /// How far all is done, and what is done beyond that.
    pub fn progress(&self) -> (i64, Vec<i64>) {
        let mut cursor = self.cursor;
        let mut ahead = self.done.iter().copied();
        let beyond = ahead.by_ref().find(|seq| {
            let is_next = *seq == cursor + 1;
            cursor += i64::from(is_next);
            !is_next
        });
        (cursor, beyond.into_iter().chain(ahead).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::call::user_hash;
    use crate::store::block::{Block, StoredBlock};

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn lease(cursor: i64, done_ahead: Vec<i64>) -> Lease {
        Lease { done_ahead, ..Lease::flowing(Uuid::nil(), 1, cursor, cursor) }
    }

    /// A block of calls of these users, numbered from 1.
    fn block(users: &[u8]) -> LogBlock {
        let mut block = Block::default();
        for (n, user) in users.iter().enumerate() {
            let body = format!(r#"{{"subscriber":{{"uid":"{user}"}}}}"#);
            let event_id = n.to_string();
            let (event_id, track) = (event_id.as_bytes(), body.as_bytes());
            block.push(Record { kind: Kind::Identify, received_at: NOW, event_id, track, keys: None });
        }
        let n = i32::try_from(users.len()).expect("few");
        LogBlock::Stored(StoredBlock { last_seq: n.into(), n_events: n, since: NOW, events: block.compress() })
    }

    fn window(users: &[u8], cursor: i64, done_ahead: Vec<i64>) -> CallWindow {
        let day = Duration::from_hours(24);
        CallWindow::read(&lease(cursor, done_ahead), &[block(users)], &HashMap::new(), day, NOW)
    }

    proptest! {
        #[test]
        fn each_users_calls_go_one_after_the_other_and_what_is_done_is_done_once(
            users in proptest::collection::vec(0u8..4, 1..40),
            choices in proptest::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let mut window = window(&users, 0, vec![]);
            let (mut on_their_way, mut sent): (Vec<usize>, Vec<i64>) = (Vec::new(), Vec::new());
            for choice in choices {
                while let Some(place) = window.start_next() {
                    let user = window.users[place];
                    prop_assert!(on_their_way.iter().all(|other| window.users[*other] != user), "one of a user");
                    on_their_way.push(place);
                    sent.push(window.call(place).seq);
                }
                if on_their_way.is_empty() {
                    break;
                }
                let place = on_their_way.swap_remove(choice.index(on_their_way.len()));
                window.finish(place);
            }
            for user in 0..4 {
                let of_user: Vec<i64> =
                    sent.iter().copied().filter(|seq| users[usize::try_from(*seq - 1).expect("small")] == user).collect();
                prop_assert!(of_user.is_sorted_by(|a, b| a < b), "in order, each once");
            }
            let (cursor, ahead) = window.progress();
            prop_assert!(ahead.iter().all(|seq| *seq > cursor + 1) && ahead.is_sorted());
            // What is read again is what was not done.
            let again = super::tests::window(&users, cursor, ahead.clone());
            let rest: Vec<i64> = again.calls.iter().map(|call| call.seq).collect();
            let n = i64::try_from(users.len()).expect("small");
            prop_assert_eq!(rest, (cursor + 1..=n).filter(|seq| !ahead.contains(seq)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn calls_of_a_user_who_is_forgotten_are_passed() {
        let forgotten = HashMap::from([(user_hash("7"), 2)]);
        let day = Duration::from_hours(24);
        let window = CallWindow::read(&lease(0, vec![]), &[block(&[7, 8, 7])], &forgotten, day, NOW);
        assert_eq!(window.calls.iter().map(|call| call.seq).collect::<Vec<_>>(), [2, 3]);
        assert_eq!((window.n_erased, window.progress()), (1, (1, vec![])));
    }

    #[test]
    fn calls_that_are_too_old_are_given_up() {
        let window = CallWindow::read(&lease(0, vec![1]), &[block(&[1, 1])], &HashMap::new(), Duration::ZERO, NOW);
        assert!(window.calls.is_empty());
        assert_eq!((window.expired.len(), window.progress()), (1, (2, vec![])), "but not what is done");
    }
}
