//! What a task may be held to, by number: features that a version before them drops in silence.
//!
//! Invariants: a number is never used for anything else; a header lists all that its task needs, so
//! a reader that does not know one of them refuses the task instead of running it bare. A refusal
//! is no distrust: nothing is killed for it. What enforces a feature is not here.

use std::fmt;

use thiserror::Error;

use super::records::{Header, Need, Record};

/// The version of a header's layout that this version reads.
pub const HEADER_VERSION: u32 = 1;

/// Something that restricts a task. Numbers are for ever; a new feature is a new number, in `ALL`
/// too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Feature {
    /// What a run may use, by a cgroup of its own.
    Resources = 1,
    /// Limits that a process carries itself: rlimits, nice, oom_score_adj.
    ProcessLimits = 2,
    /// What the task as a whole may use.
    TaskLimits = 3,
    /// Namespaces and a file system of its own, with its volumes.
    Private = 4,
    /// Time that is kept for final processes.
    FinalWait = 5,
}

impl Feature {
    /// Every feature that this version understands and can carry out.
    pub const ALL: [Feature; 5] = [
        Feature::Resources,
        Feature::ProcessLimits,
        Feature::TaskLimits,
        Feature::Private,
        Feature::FinalWait,
    ];

    /// Its number, in journals and on the link.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// What users know it by.
    pub const fn name(self) -> &'static str {
        match self {
            Feature::Resources => "`resources` of a process",
            Feature::ProcessLimits => "`rlimits`, `nice` or `oom_score_adj`",
            Feature::TaskLimits => "`--enforce-task`",
            Feature::Private => "`isolation: private`",
            Feature::FinalWait => "`final_wait`",
        }
    }

    /// The first version of dewar that enforces it.
    const fn since(self) -> &'static str {
        match self {
            Feature::Resources
            | Feature::ProcessLimits
            | Feature::TaskLimits
            | Feature::Private
            | Feature::FinalWait => "0.1.0",
        }
    }

    /// The entry of a header that needs it.
    pub fn need(self) -> Need {
        Need {
            feature: self.number(),
            name: self.name().to_owned(),
            since: self.since().to_owned(),
        }
    }
}

/// Features by number: what one end of a link can do, or what a task needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(u64);

impl Features {
    /// All that this version knows.
    pub fn all() -> Features {
        Feature::ALL.into_iter().collect()
    }

    /// Their numbers, as they are sent.
    pub fn numbers(self) -> Vec<u32> {
        let known = Feature::ALL.into_iter();
        known
            .filter(|feature| self.has(*feature))
            .map(Feature::number)
            .collect()
    }

    /// Those of `numbers` that this version knows.
    pub fn of_numbers(numbers: &[u32]) -> Features {
        let known = Feature::ALL.into_iter();
        known
            .filter(|feature| numbers.contains(&feature.number()))
            .collect()
    }

    /// True when `feature` is among them.
    pub fn has(self, feature: Feature) -> bool {
        self.0 & 1 << feature.number() != 0
    }

    /// Those that are not in `others`.
    pub fn without(self, others: Features) -> Features {
        Features(self.0 & !others.0)
    }

    /// True when there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The features one by one.
    pub fn each(self) -> impl Iterator<Item = Feature> {
        Feature::ALL
            .into_iter()
            .filter(move |feature| self.has(*feature))
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Features {
        let bits = features.into_iter();
        Features(bits.fold(0, |all, feature| all | 1 << feature.number()))
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.each().map(Feature::name).collect();
        f.write_str(&names.join(" and "))
    }
}

/// Why this version must not look after a task. Another version can, so nothing of it is ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Beyond {
    /// The header has a layout of a later version.
    #[error(
        "the header of task {task:?} has version {version}, and this dewar ({}) reads up to \
         {HEADER_VERSION}: a later dewar can look after it",
        env!("CARGO_PKG_VERSION")
    )]
    Header {
        /// The task's id.
        task: String,
        /// The version that the header has.
        version: u32,
    },
    /// The task is held to something that this version does not know.
    #[error(
        "task {task:?} needs {what}, which this dewar ({}) does not know: dewar {since} or later \
         can look after it",
        env!("CARGO_PKG_VERSION")
    )]
    Need {
        /// The task's id.
        task: String,
        /// The features, as their version calls them.
        what: String,
        /// The first version that understands them all.
        since: String,
    },
    /// The journal has a record that this version does not know and must not pass over.
    #[error(
        "the journal of task {task:?} has a record of a kind that this dewar ({}) does not know: \
         the later dewar that wrote it can look after it",
        env!("CARGO_PKG_VERSION")
    )]
    Kind {
        /// The task's id.
        task: String,
    },
}

/// Finds what in a journal is beyond this version.
///
/// # Errors
/// The first thing that must not be dropped and is not understood.
pub fn check_understood<'r>(
    header: &Header,
    records: impl IntoIterator<Item = &'r Record>,
) -> Result<(), Beyond> {
    let task = || header.task_id.clone();
    if header.version > HEADER_VERSION {
        let version = header.version;
        return Err(Beyond::Header {
            task: task(),
            version,
        });
    }
    let numbers = Feature::ALL.map(Feature::number);
    let needs = header.needs.iter();
    let unknown: Vec<&Need> = needs
        .filter(|need| !numbers.contains(&need.feature))
        .collect();
    if !unknown.is_empty() {
        let named = unknown.iter().map(|need| match need.name.is_empty() {
            true => format!("feature {}", need.feature),
            false => format!("{} (feature {})", need.name, need.feature),
        });
        let latest = unknown.iter().max_by_key(|need| version_of(&need.since));
        return Err(Beyond::Need {
            task: task(),
            what: named.collect::<Vec<_>>().join(" and "),
            since: latest.map_or_else(String::new, |need| need.since.clone()),
        });
    }
    match records.into_iter().all(is_understood) {
        true => Ok(()),
        false => Err(Beyond::Kind { task: task() }),
    }
}

/// False for a record that must be understood and is not.
pub fn is_understood(record: &Record) -> bool {
    record.kind.is_some() || record.passable
}

/// A version's numbers, to be compared.
fn version_of(text: &str) -> Vec<u64> {
    let parts = text.split('.');
    parts.map(|part| part.parse().unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::{
        journal::{Kind, Notice},
        sys::clock::Moment,
    };

    fn header(needs: Vec<Need>) -> Header {
        Header {
            version: HEADER_VERSION,
            task_id: "t".to_owned(),
            needs,
            ..Header::default()
        }
    }

    #[test]
    fn numbers_are_for_ever_and_none_is_given_twice() {
        let numbers: Vec<u32> = Features::all().numbers();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
        assert_eq!(Features::of_numbers(&[4, 2, 77]).numbers(), [2, 4]);
        let left = Features::all().without(Features::of_numbers(&[1, 2, 3, 5]));
        assert_eq!(left.each().collect::<Vec<_>>(), [Feature::Private]);
    }

    #[test]
    fn a_need_that_is_not_known_is_refused_with_its_name_and_version() {
        let known = Feature::ALL.map(Feature::need).to_vec();
        check_understood(&header(known.clone()), &[]).unwrap();
        let need = |feature, name: &str, since: &str| Need {
            feature,
            name: name.to_owned(),
            since: since.to_owned(),
        };
        let mut needs = known;
        needs.push(need(1000, "`gpu`", "0.9.2"));
        needs.push(need(1001, "", "0.10.0"));
        let error = check_understood(&header(needs), &[])
            .unwrap_err()
            .to_string();
        for part in ["`gpu` (feature 1000)", "feature 1001", "dewar 0.10.0"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_header_of_a_later_layout_is_refused() {
        let mut later = header(Vec::new());
        later.version += 1;
        let error = check_understood(&later, &[]).unwrap_err();
        assert!(matches!(error, Beyond::Header { .. }), "{error}");
    }

    #[test]
    fn a_kind_that_is_not_known_is_refused_unless_it_may_be_passed_over() {
        // Field 2000 is of no kind yet.
        let mut unknown = Record::new(Moment::default(), Kind::Notice(Notice::default()));
        unknown.kind = None;
        let mut bytes = unknown.encode_to_vec();
        bytes.extend([0x82, 0x7d, 0]);
        let decoded = Record::decode(bytes.as_slice()).unwrap();
        assert_eq!(decoded.kind, None);
        let error = check_understood(&header(Vec::new()), [&decoded]).unwrap_err();
        assert!(matches!(error, Beyond::Kind { .. }), "{error}");
        unknown.passable = true;
        check_understood(&header(Vec::new()), [&unknown]).unwrap();
    }
}
