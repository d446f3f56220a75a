//! Which job or host was probably meant by a name that is not there.

use std::sync::Arc;

/// The name of `known` that is closest to `written`, if one is close enough to be a typing mistake.
pub(super) fn near_key<'k>(
    written: &str,
    known: impl Iterator<Item = &'k Arc<str>>,
) -> Option<&'k Arc<str>> {
    let last = |key: &str| key.rsplit('/').next().unwrap_or_default().to_owned();
    let distance = |key: &str| {
        let whole = strsim::damerau_levenshtein(written, key);
        // A name without role and environment means the job of that name.
        whole.min(strsim::damerau_levenshtein(&last(written), &last(key)))
    };
    let close = known.map(|key| (distance(key), key));
    let most = last(written).chars().count().max(3) / 3;
    close
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, key)| key)
}
