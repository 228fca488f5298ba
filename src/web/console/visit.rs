//! Who asks, and about what: what [`guard`](super::guard) found out before a handler runs.

use std::future::{Ready, ready};
use std::net::IpAddr;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use time::OffsetDateTime;
use uuid::Uuid;

use super::failure::Failure;
use super::terms::Terms;
use crate::admin::audit::{Actor, ActorKind};
use crate::admin::principal::Principal;
use crate::admin::sessions::SignedIn;
use crate::sources::Kind;

/// A request, as a handler sees it.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Who asks; `None`: nobody that is known.
    pub who: Option<Principal>,
    pub address: Option<IpAddr>,
    pub now: OffsetDateTime,
    /// The account that the request is about.
    pub account: Option<AccountRef>,
    /// The source that the request is about.
    pub source: Option<SourceRef>,
    /// Whether who asks may change the account.
    pub may_change: bool,
    /// Whether the script asks, for a part of the page.
    pub is_fragment: bool,
    pub theme: Option<&'static str>,
    pub keys_off: bool,
    /// The code of what was just done.
    pub notice: Option<String>,
}

/// An account, as pages name it.
#[derive(Clone, Debug)]
pub struct AccountRef {
    pub id: Uuid,
    pub name: String,
}

/// A source, as pages name it.
#[derive(Clone, Debug)]
pub struct SourceRef {
    pub id: Uuid,
    pub account_id: Uuid,
    pub name: String,
    /// What sends to it; `None`: a newer version of the program knows.
    pub kind: Option<Kind>,
    /// Whether its account has others.
    pub has_siblings: bool,
}

impl Visit {
    /// Who is signed in.
    pub fn person(&self) -> Option<&SignedIn> {
        match &self.who {
            Some(Principal::Person(person)) => Some(person),
            _ => None,
        }
    }

    /// Whether who asks may see everything.
    pub fn is_operator(&self) -> bool {
        self.who.as_ref().is_some_and(|who| who.operator_role().is_some())
    }

    /// The only account that a token is for.
    pub fn token_account(&self) -> Option<Uuid> {
        match &self.who {
            Some(Principal::Token(token)) => token.account_id,
            _ => None,
        }
    }

    /// Who it is, for the audit log.
    pub fn actor(&self) -> Actor {
        let nobody = || Actor { name: "nobody".to_owned(), kind: ActorKind::System, id: None, address: self.address };
        self.who.as_ref().map_or_else(nobody, |who| who.actor(self.address))
    }

    /// The source that the request is about.
    ///
    /// # Errors
    /// [`Failure::NotFound`] where the route names none.
    pub fn source(&self) -> Result<&SourceRef, Failure> {
        self.source.as_ref().ok_or(Failure::NotFound)
    }

    /// How the pages of the source speak.
    pub fn terms(&self) -> &'static Terms {
        Terms::of(self.source.as_ref().and_then(|source| source.kind))
    }

    /// The account that the request is about.
    ///
    /// # Errors
    /// [`Failure::NotFound`] where the route names none.
    pub fn account(&self) -> Result<&AccountRef, Failure> {
        self.account.as_ref().ok_or(Failure::NotFound)
    }

    /// What is hard to undo is not done by whoever finds a screen unlocked.
    ///
    /// # Errors
    /// [`Failure::PasswordNeeded`] where a person gave the password too long ago.
    pub fn needs_password(&self) -> Result<(), Failure> {
        match self.person() {
            Some(person) if !person.is_password_fresh(self.now) => Err(Failure::PasswordNeeded),
            _ => Ok(()),
        }
    }
}

impl FromRequest for Visit {
    type Error = Failure;
    type Future = Ready<Result<Self, Failure>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(request.extensions().get::<Self>().cloned().ok_or(Failure::NotFound))
    }
}
