//! The verb of a command line, found without clap.
//!
//! Root and keeper are forked before clap has touched any memory, so something smaller than clap
//! has to tell first whether the verb wants a root. It reads no more than clap does: the options of
//! `dewar` itself and their values come before the verb, and everything behind the verb is the
//! verb's own. It checks nothing; a command line that clap refuses may be given any answer.

use std::ffi::OsString;

/// Options of `dewar` itself that take a value.
const WITH_VALUE: [&str; 1] = ["--root"];

/// The verb in `words`, which begin behind the name of the program.
pub(super) fn early_verb(words: impl IntoIterator<Item = OsString>) -> Option<OsString> {
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if WITH_VALUE.iter().any(|option| word == *option) {
            words.next()?;
        } else if !word.as_encoded_bytes().starts_with(b"-") {
            return Some(word);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use proptest::prelude::*;

    use super::*;
    use crate::cli::args::Cli;

    fn found(line: &str) -> Option<String> {
        let words = line.split_whitespace().map(OsString::from);
        early_verb(words).map(|verb| verb.to_string_lossy().into_owned())
    }

    #[test]
    fn only_the_verb_is_the_verb() {
        for (line, verb) in [
            ("run web.yaml", Some("run")),
            ("status run", Some("status")),
            ("--root run status", Some("status")),
            ("--root=run status run", Some("status")),
            ("--root status run --root x", Some("run")),
            ("status --root run", Some("status")),
            ("job --scheduler run status", Some("job")),
            ("tail scheduler run", Some("tail")),
            ("--root", None),
            ("--root run", None),
            ("--version", None),
            ("", None),
        ] {
            assert_eq!(found(line).as_deref(), verb, "{line:?}");
        }
    }

    /// Whatever may be written: verbs, options and values in any order.
    fn words() -> impl Strategy<Value = Vec<String>> {
        let mut command = Cli::command();
        command.build();
        let mut known = vec![
            "run".to_owned(),
            "run".to_owned(),
            "ID".to_owned(),
            "-".to_owned(),
            "--".to_owned(),
            String::new(),
        ];
        for verb in command.get_subcommands() {
            known.push(verb.get_name().to_owned());
            known.extend(options(verb));
        }
        // Those of `dewar` itself matter most.
        for _ in 0..10 {
            known.extend(options(&command));
        }
        let word =
            prop_oneof![9 => prop::sample::select(known), 1 => "-{0,2}[a-z]{0,3}=?[a-z]{0,3}"];
        prop::collection::vec(word, 0..7)
    }

    /// Every option of a verb, alone and with a value behind a `=`.
    fn options(command: &clap::Command) -> Vec<String> {
        let mut all = Vec::new();
        for argument in command.get_arguments() {
            let long = argument.get_long().map(|name| format!("--{name}"));
            let short = argument.get_short().map(|name| format!("-{name}"));
            for option in long.into_iter().chain(short) {
                all.push(format!("{option}=run"));
                all.push(option);
            }
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 1000,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn the_verb_is_the_one_that_clap_finds(words in words()) {
            let line = std::iter::once("dewar".to_owned()).chain(words.iter().cloned());
            if let Ok(matches) = Cli::command().try_get_matches_from(line) {
                let early = early_verb(words.iter().map(OsString::from));
                let early = early.as_deref().and_then(|verb| verb.to_str());
                prop_assert_eq!(early, matches.subcommand_name(), "{:?}", words);
            }
        }
    }

    #[test]
    fn every_option_with_a_value_is_known() {
        let command = Cli::command();
        let options = command
            .get_arguments()
            .filter(|argument| argument.get_action().takes_values());
        let names: Vec<String> = options
            .filter_map(|option| option.get_long().map(|name| format!("--{name}")))
            .collect();
        assert_eq!(names, WITH_VALUE);
    }
}
