//! Who asks: a person with a session, or a program with a token.

use std::net::IpAddr;

use uuid::Uuid;

use super::audit::{Actor, ActorKind};
use super::people::Role;
use super::sessions::SignedIn;
use super::tokens::TokenIdentity;

/// Who asks.
#[derive(Clone, Debug)]
pub enum Principal {
    /// A person in the console.
    Person(SignedIn),
    /// A program that uses the API.
    Token(TokenIdentity),
}

impl Principal {
    /// What it may do in an account; `None`: it must not even learn whether there is such an account.
    #[must_use]
    pub fn role_in(&self, account: Uuid) -> Option<Role> {
        match self {
            Self::Person(signed_in) => signed_in.role_in(account),
            Self::Token(token) if token.account_id.is_none_or(|own| own == account) => Some(token_role(token)),
            Self::Token(_) => None,
        }
    }

    /// What it may do with all accounts, as an operator; `None`: it is none.
    #[must_use]
    pub fn operator_role(&self) -> Option<Role> {
        match self {
            Self::Person(signed_in) => signed_in.is_operator.then_some(Role::Admin),
            Self::Token(token) => token.account_id.is_none().then(|| token_role(token)),
        }
    }

    /// As whom it is recorded.
    #[must_use]
    pub fn actor(&self, address: Option<IpAddr>) -> Actor {
        match self {
            Self::Person(signed_in) => {
                Actor { name: signed_in.email.clone(), kind: ActorKind::Person, id: Some(signed_in.person_id), address }
            }
            Self::Token(token) => {
                Actor { name: token.name.clone(), kind: ActorKind::Token, id: Some(token.token_id), address }
            }
        }
    }
}

fn token_role(token: &TokenIdentity) -> Role {
    if token.may_write { Role::Admin } else { Role::Viewer }
}
