//! What a block is passed over by: the search keys of its events, each once, in order, two bytes each.
//!
//! A search reads only the blocks whose filter holds the key. Keys are 16 bits, so of full blocks some percent are read in
//! vain; of small ones, next to none.

use crate::domain::search_key::SearchKey;

/// From so many keys on, marking them in a bitmap is faster than sorting them.
const MANY_KEYS: usize = 256;

/// The filter of these keys.
#[must_use]
pub fn of_keys(keys: impl Iterator<Item = SearchKey>) -> Vec<u8> {
    let mut keys: Vec<u16> = keys.map(|key| u16::from_be_bytes(key.to_bytes())).collect();
    if keys.len() < MANY_KEYS {
        keys.sort_unstable();
        keys.dedup();
        return keys.into_iter().flat_map(u16::to_be_bytes).collect();
    }
    let mut seen = vec![0_u64; 1 << 10];
    for key in &keys {
        seen[usize::from(key >> 6)] |= 1 << (key & 63);
    }
    let mut filter = Vec::with_capacity(2 * keys.len());
    for (high, mut word) in (0_u16..).zip(seen) {
        while word != 0 {
            let low = u16::try_from(word.trailing_zeros()).unwrap_or_default();
            filter.extend_from_slice(&(high << 6 | low).to_be_bytes());
            word &= word - 1;
        }
    }
    filter
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::search_key::SearchField;

    proptest! {
        #[test]
        fn a_filter_holds_each_key_once_in_order(texts in proptest::collection::vec(0u32..100_000, 0..3_000)) {
            let keys: Vec<_> = texts.iter().map(|n| SearchKey::new(SearchField::Recipient, &n.to_string())).collect();
            let mut expected: Vec<_> = keys.iter().map(|key| key.to_bytes()).collect();
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(of_keys(keys.into_iter()), expected.concat());
        }
    }
}
