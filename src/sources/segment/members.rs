//! The members of an object that is being put together, their values as they came.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::domain::json::{self, NameIndex, Object, write_string};
use crate::domain::rejection::Rejection;

/// Names and values, each name once.
#[derive(Default)]
pub(super) struct Members<'a> {
    list: Vec<(Cow<'a, str>, &'a RawValue)>,
    index: NameIndex<'a>,
}

impl<'a> Members<'a> {
    /// Adds what has no place yet.
    ///
    /// # Errors
    /// [`Rejection::Unreadable`] where a value means nothing to other parsers.
    pub(super) fn add(&mut self, object: Object<'a>) -> Result<(), Rejection> {
        let is_first = self.list.is_empty();
        for (name, value) in object {
            if !json::is_portable(value) {
                return Err(Rejection::Unreadable(format!("the value of `{name}` cannot be passed on")));
            }
            // An object has each name once.
            if is_first || self.index.position(&self.list, &name).is_none() {
                self.list.push((name, value));
            }
        }
        Ok(())
    }

    /// The members, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.list.iter().map(|(name, value)| (name.as_ref(), *value))
    }
}

/// Writes a JSON object.
pub(super) fn write<'a>(out: &mut String, members: impl Iterator<Item = (&'a str, &'a RawValue)>) {
    out.push('{');
    for (at, (name, value)) in members.enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_string(out, name);
        out.push(':');
        out.push_str(value.get());
    }
    out.push('}');
}
