//! The command line of `dewar run`, read without clap's description of all other verbs.
//!
//! Describing every verb takes a twentieth of a short task's time, and most command lines are
//! `run`'s and right. What this does not accept is read again with all verbs, which say what is
//! wrong. It accepts nothing that they do not.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use super::{
    args::{Cli, OwnArgs, Verb},
    verbs::run::RunArgs,
};

#[derive(Debug, Parser)]
#[command(name = "dewar", version, max_term_width = 100)]
struct RunAlone {
    #[command(flatten)]
    own: OwnArgs,
    #[command(subcommand)]
    verb: Only,
}

#[derive(Debug, Subcommand)]
enum Only {
    Run(RunArgs),
}

/// What `words` say, the name of the program first, if they are a whole command line of `run`.
pub(super) fn run_alone(words: impl IntoIterator<Item = OsString>) -> Option<Cli> {
    let RunAlone {
        own,
        verb: Only::Run(args),
    } = RunAlone::try_parse_from(words).ok()?;
    Some(Cli {
        own,
        verb: Verb::Run(args),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Options of `run` and of `dewar`, values, and what is neither.
    fn words() -> impl Strategy<Value = Vec<String>> {
        let word = prop::sample::select(vec![
            "run",
            "status",
            "--root",
            "--root=x",
            "web.yaml",
            "--id",
            "t",
            "--detach",
            "--set",
            "a=b",
            "--port",
            "http=80",
            "--format",
            "json",
            "--help",
            "--version",
            "--",
            "--unknown",
            "help",
        ]);
        prop::collection::vec(word.prop_map(str::to_owned), 0..6)
    }

    proptest! {
        #[test]
        fn it_accepts_nothing_else_and_reads_it_as_all_verbs_do(words in words()) {
            let line = || ["dewar", "run"].map(str::to_owned).into_iter().chain(words.clone());
            let alone = run_alone(line().map(OsString::from));
            let all = Cli::try_parse_from(line()).ok();
            prop_assert_eq!(
                alone.map(|cli| format!("{cli:?}")),
                all.map(|cli| format!("{cli:?}"))
            );
        }
    }
}
