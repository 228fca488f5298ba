//! What calls do beside being appended: a part of the statement that appends them ([`log::append`](super::log::append)), so
//! that it is known from the moment at which they are.

use uuid::Uuid;

/// A user of a source: the source, and a hash of the user's id.
pub type User = (Uuid, Uuid);

/// Users, column by column.
#[derive(Clone, Debug, Default)]
pub struct Users {
    pub(super) source_ids: Vec<Uuid>,
    pub(super) user_hashes: Vec<Uuid>,
}

impl Users {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.source_ids.is_empty()
    }

    /// Adds a user.
    pub fn push(&mut self, (source, user): User) {
        self.source_ids.push(source);
        self.user_hashes.push(user);
    }
}

impl FromIterator<User> for Users {
    fn from_iter<I: IntoIterator<Item = User>>(users: I) -> Self {
        let (source_ids, user_hashes) = users.into_iter().unzip();
        Self { source_ids, user_hashes }
    }
}

/// What appended calls do beside that.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Whom they identify.
    pub users: Users,
    /// Whose addresses they tell, in the order in which they came.
    pub lessons: Vec<Lesson>,
    /// Which calls wait no longer, being appended.
    pub released: Released,
}

/// Whose email addresses are, column by column.
#[derive(Debug, Default)]
pub struct Learnt {
    pub(super) source_ids: Vec<Uuid>,
    pub(super) account_ids: Vec<Uuid>,
    pub(super) address_hashes: Vec<Uuid>,
    pub(super) user_ids: Vec<Vec<u8>>,
    pub(super) user_hashes: Vec<Uuid>,
}

/// What a call tells: whose an email address is.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns of `identity`, which migrations/0005_calls.sql explains")]
pub struct Lesson {
    pub source_id: Uuid,
    pub event_id: Vec<u8>,
    pub account_id: Uuid,
    pub address_hash: Uuid,
    pub user_id: Vec<u8>,
    pub user_hash: Uuid,
}

impl Learnt {
    /// Of an address, the last that is told: it is the newest. In an order that is the same for all who write them.
    pub(super) fn new(lessons: &[Lesson]) -> Self {
        let mut newest: Vec<&Lesson> = lessons.iter().rev().collect();
        newest.sort_by_key(|lesson| (lesson.account_id, lesson.address_hash));
        newest.dedup_by_key(|lesson| (lesson.account_id, lesson.address_hash));
        let mut learnt = Self::default();
        for lesson in newest {
            learnt.source_ids.push(lesson.source_id);
            learnt.account_ids.push(lesson.account_id);
            learnt.address_hashes.push(lesson.address_hash);
            learnt.user_ids.push(lesson.user_id.clone());
            learnt.user_hashes.push(lesson.user_hash);
        }
        learnt
    }
}

/// Calls that wait no longer, column by column.
#[derive(Clone, Debug, Default)]
pub struct Released {
    pub(super) source_ids: Vec<Uuid>,
    pub(super) event_ids: Vec<Vec<u8>>,
}

impl Released {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.source_ids.is_empty()
    }

    /// Adds a call.
    pub fn push(&mut self, source: Uuid, event_id: Vec<u8>) {
        self.source_ids.push(source);
        self.event_ids.push(event_id);
    }
}
