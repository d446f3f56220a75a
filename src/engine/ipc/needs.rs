//! Which features a launch needs of the keeper that gets it.
//!
//! Invariant: every field of a launch that restricts belongs to a feature, so a runner never hands
//! a restriction to a keeper that would drop it. The test below reads the message definitions: a
//! new field fails it until it is classified. What a task needs is in `engine/history/held.rs`.

use crate::{
    journal::{Feature, Features},
    protocols::dewar::link::Launch,
};

/// The features without which a keeper would drop a part of `launch` that restricts.
pub(crate) fn needs_of(launch: &Launch) -> Features {
    let carries_limits =
        !launch.rlimits.is_empty() || launch.nice.is_some() || launch.oom_score_adj.is_some();
    let all = [
        (Feature::Resources, launch.limits.is_some()),
        (Feature::ProcessLimits, carries_limits),
        (Feature::TaskLimits, launch.task_limits.is_some()),
        (Feature::Private, launch.private.is_some()),
    ];
    let needed = all.into_iter().filter(|(_, is_needed)| *is_needed);
    needed.map(|(feature, _)| feature).collect()
}

/// Takes the parts of `features` out of a launch.
pub(crate) fn drop_needs(launch: &mut Launch, features: Features) {
    for feature in features.each() {
        match feature {
            Feature::Resources => launch.limits = None,
            Feature::ProcessLimits => {
                launch.rlimits.clear();
                (launch.nice, launch.oom_score_adj) = (None, None);
            }
            Feature::TaskLimits => launch.task_limits = None,
            Feature::Private => launch.private = None,
            // The runner's to carry out: no launch has a part of it.
            Feature::FinalWait => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, Value};

    use super::*;

    /// What a reader that does not know a field does to a task by dropping it.
    enum Class {
        /// Every version that ever was knows the field.
        First,
        /// It lifts a restriction of the launch that needs this feature.
        Of(Feature),
        /// It is for people, or an order that is answered when it is not known.
        Harmless,
    }
    use Class::{First, Harmless, Of};

    /// Every field of everything that an order or a header holds. A new field that restricts gets
    /// a new feature: `Of(...)`, and a line in `needs_of`, `drop_needs` and `history::needed`.
    const FIELDS: &[(&str, &str, Class)] = &[
        ("Launch", "process", First),
        ("Launch", "run", First),
        ("Launch", "name", First),
        ("Launch", "argv", First),
        ("Launch", "environment", First),
        ("Launch", "directory", First),
        ("Launch", "sandbox", First),
        ("Launch", "identity", First),
        ("Launch", "umask", First),
        ("Launch", "log", First),
        ("Launch", "refusal", First),
        ("Launch", "limits", Of(Feature::Resources)),
        ("Launch", "task_limits", Of(Feature::TaskLimits)),
        ("Launch", "rlimits", Of(Feature::ProcessLimits)),
        ("Launch", "nice", Of(Feature::ProcessLimits)),
        ("Launch", "oom_score_adj", Of(Feature::ProcessLimits)),
        ("Launch", "private", Of(Feature::Private)),
        ("Launch", "unenforced", Harmless),
        ("Identity", "uid", First),
        ("Identity", "gid", First),
        ("Identity", "groups", First),
        ("Log", "keep", First),
        ("Log", "rotate_bytes", First),
        ("Log", "backups", First),
        ("Log", "echo", First),
        // The output goes into the file itself then.
        ("Log", "pipe", Harmless),
        ("Limits", "cpu", Of(Feature::Resources)),
        ("Limits", "cpu_weight", Of(Feature::Resources)),
        ("Limits", "ram", Of(Feature::Resources)),
        ("Limits", "ram_high", Of(Feature::Resources)),
        ("Limits", "swap", Of(Feature::Resources)),
        ("Limits", "pids", Of(Feature::Resources)),
        ("Limits", "io_weight", Of(Feature::Resources)),
        ("Limits", "best_effort", Of(Feature::Resources)),
        ("Rlimit", "resource", Of(Feature::ProcessLimits)),
        ("Rlimit", "soft", Of(Feature::ProcessLimits)),
        ("Rlimit", "hard", Of(Feature::ProcessLimits)),
        ("Private", "without", Of(Feature::Private)),
        ("Private", "volumes", Of(Feature::Private)),
        ("Volume", "container_path", Of(Feature::Private)),
        ("Volume", "host_path", Of(Feature::Private)),
        ("Volume", "writable", Of(Feature::Private)),
        ("Volume", "size", Of(Feature::Private)),
        ("Probe", "launch", First),
        ("Probe", "timeout_us", First),
        ("Probe", "of_process", First),
        ("Probe", "is_check", First),
        ("Open", "directory", First),
        ("Open", "header", First),
        ("StopAll", "signals", First),
        ("StopSignal", "process", First),
        ("StopSignal", "signal", First),
        ("StopRun", "process", First),
        ("StopRun", "run", First),
        ("StopRun", "signal", First),
        ("SignalRun", "process", First),
        ("SignalRun", "run", First),
        ("SignalRun", "signal", First),
        ("KillRun", "process", First),
        ("KillRun", "run", First),
        ("Abandon", "process", First),
        ("Abandon", "run", First),
        ("Compact", "snapshot", First),
        ("TellLingering", "prospect", Harmless),
        ("Header", "version", First),
        ("Header", "task_id", First),
        ("Header", "task", First),
        ("Header", "sandbox", First),
        ("Header", "sandbox_given", First),
        ("Header", "user", First),
        ("Header", "uid", First),
        ("Header", "gid", First),
        ("Header", "ports", First),
        ("Header", "hostname", First),
        ("Header", "environment", First),
        ("Header", "executor", First),
        // What it is for: an older reader of a task that needs something finds no `live`.
        ("Header", "needs", Harmless),
        ("Executor", "framework_id", First),
        ("Executor", "executor_id", First),
        ("Executor", "json", First),
        ("Executor", "root", First),
        ("Executor", "enforce_task", Of(Feature::TaskLimits)),
        ("Executor", "isolation", Of(Feature::Private)),
    ];

    fn pool() -> DescriptorPool {
        let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
        DescriptorPool::decode(bytes.as_slice()).unwrap()
    }

    fn message(pool: &DescriptorPool, name: &str) -> MessageDescriptor {
        let rooms = ["dewar.link", "dewar.journal"];
        let found = rooms
            .iter()
            .find_map(|room| pool.get_message_by_name(&format!("{room}.{name}")));
        found.unwrap_or_else(|| panic!("there is no message {name}"))
    }

    #[test]
    fn every_field_of_an_order_and_of_a_header_is_classified() {
        let pool = pool();
        // Whatever an order holds, and the header with it.
        let mut open = vec![message(&pool, "Command"), message(&pool, "Header")];
        let mut seen = Vec::new();
        while let Some(message) = open.pop() {
            // Records have kinds, which are refused where they are not known.
            if seen.contains(&message) || message.name() == "Record" {
                continue;
            }
            seen.push(message.clone());
            for field in message.fields() {
                if let Kind::Message(inner) = field.kind()
                    && !field.is_map()
                    && inner.name() != "Need"
                {
                    open.push(inner);
                }
                if message.name() == "Command" {
                    continue;
                }
                let rows = FIELDS
                    .iter()
                    .filter(|(of, name, _)| *of == message.name() && *name == field.name());
                assert_eq!(
                    rows.count(),
                    1,
                    "{}.{} is new: does a reader that drops it lift a restriction? Give it a row here",
                    message.name(),
                    field.name()
                );
            }
        }
        for (of, name, _) in FIELDS {
            let known = message(&pool, of);
            assert!(known.get_field_by_name(name).is_some(), "{of}.{name}");
            assert!(seen.contains(&known), "{of} is part of no order");
        }
    }

    #[test]
    fn a_launch_with_a_field_that_restricts_needs_its_feature() {
        let pool = pool();
        let descriptor = message(&pool, "Launch");
        for (of, name, class) in FIELDS {
            let Of(feature) = class else { continue };
            if *of != "Launch" {
                continue;
            }
            let field = descriptor.get_field_by_name(name).unwrap();
            let mut value = match field.kind() {
                Kind::Message(inner) => Value::Message(DynamicMessage::new(inner)),
                Kind::Sint32 => Value::I32(1),
                kind => panic!("{kind:?}: give it a value that is not the default"),
            };
            if field.is_list() {
                value = Value::List(vec![value]);
            }
            let mut launch = DynamicMessage::new(descriptor.clone());
            launch.set_field(&field, value);
            let bytes = launch.encode_to_vec();
            let mut launch = Launch::decode(bytes.as_slice()).unwrap();
            let needs = needs_of(&launch);
            assert!(needs.has(*feature), "{name} is not in needs_of");
            drop_needs(&mut launch, needs);
            assert_eq!(launch, Launch::default(), "{name} is not in drop_needs");
        }
    }

    #[test]
    fn a_launch_that_restricts_nothing_needs_nothing() {
        assert!(needs_of(&Launch::default()).is_empty());
    }
}
