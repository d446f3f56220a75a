//! What this runner's keeper can carry out, which may be of another version.
//!
//! Its first report says so. A keeper of before that field says nothing, and drops what it does not
//! know in silence; but its image holds the definitions of all messages that it knows, and is there
//! also when its file has been replaced. What cannot be found out it cannot do.

use std::{fs::File, io::Read};

use crate::{
    journal::{Feature, Features},
    protocols::dewar::link::Report,
};

/// How much of an image is looked at in one piece, bytes.
const PIECE: usize = 256 << 10;

/// The features of the keeper whose first report is `welcome`.
pub(super) fn features_of_keeper(welcome: &Report) -> Features {
    if !welcome.can.is_empty() {
        return Features::of_numbers(&welcome.can);
    }
    let keeper = nix::unistd::getppid();
    let found = File::open(format!("/proc/{keeper}/exe")).and_then(found_in);
    match found {
        Ok(features) => {
            tracing::info!("the keeper is of an older version; it can enforce: {features}");
            features
        }
        Err(error) => {
            tracing::warn!("cannot read the keeper's image, so it is given no limits: {error}");
            Features::default()
        }
    }
}

/// The type of the messages that a keeper with this feature has the definition of.
fn mark(feature: Feature) -> &'static [u8] {
    match feature {
        // They came together.
        Feature::Resources | Feature::TaskLimits => b".dewar.link.Limits",
        Feature::ProcessLimits => b".dewar.link.Rlimit",
        Feature::Private => b".dewar.link.Private",
        // Every keeper can: it is the runner's to carry out.
        Feature::FinalWait => b".dewar.link.Launch",
    }
}

/// The features whose messages are defined in `image`.
fn found_in(mut image: impl Read) -> std::io::Result<Features> {
    // The end of a piece comes in front of the next one: a mark may be in both.
    const LONGEST: usize = 64;
    let mut bytes = Vec::with_capacity(PIECE + LONGEST);
    let mut found: Vec<Feature> = Vec::new();
    loop {
        let kept = bytes.len().saturating_sub(LONGEST);
        bytes.drain(..kept);
        if image.by_ref().take(PIECE as u64).read_to_end(&mut bytes)? == 0 {
            return Ok(found.into_iter().collect());
        }
        let missing = Feature::ALL.into_iter().filter(|one| !found.contains(one));
        let here: Vec<Feature> = missing
            .filter(|one| memchr::memmem::find(&bytes, mark(*one)).is_some())
            .collect();
        found.extend(here);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_tells_which_messages_it_knows() {
        // Every image has this in it.
        let messages = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
        assert_eq!(found_in(messages.as_slice()).unwrap(), Features::all());
        // A mark of which a part is in one piece and the rest in the next.
        let mut image = vec![b' '; PIECE - 7];
        image.extend(mark(Feature::Private));
        assert_eq!(found_in(image.as_slice()).unwrap().numbers(), [4]);
        let bare = found_in(&b".dewar.link.Launch"[..]).unwrap();
        assert_eq!(bare.numbers(), [Feature::FinalWait.number()]);
    }

    #[test]
    fn what_a_keeper_says_of_itself_is_believed() {
        let welcome = Report {
            can: vec![1, 4, 5000],
            ..Report::default()
        };
        assert_eq!(features_of_keeper(&welcome).numbers(), [1, 4]);
    }
}
