//! `logger` of a process: where its output goes and how the files grow.

use super::fields::Fields;
use crate::{
    config::{diagnostic::Diagnostics, table, text::node::Node},
    task::{Destination, LogMode, Logger, Rotate},
};

/// Decodes where output goes; what is wrong or missing has its default.
pub(super) fn logger(node: &Node, diagnostics: &mut Diagnostics) -> Logger {
    let Some(mut fields) = Fields::of(node, &table::task::LOGGER, diagnostics) else {
        return Logger::default();
    };
    let destinations = [
        ("file", Destination::File),
        ("console", Destination::Console),
        ("both", Destination::Both),
        ("none", Destination::None),
    ];
    let modes = [("standard", LogMode::Standard), ("rotate", LogMode::Rotate)];
    let logger = Logger {
        destination: choice(&mut fields, "destination", &destinations, diagnostics),
        mode: choice(&mut fields, "mode", &modes, diagnostics),
        rotate: fields
            .take("rotate")
            .map_or_else(Rotate::default, |node| rotate(node, diagnostics)),
    };
    fields.finish(diagnostics);
    logger
}

fn choice<T: Copy + Default>(
    fields: &mut Fields<'_>,
    name: &'static str,
    choices: &[(&str, T)],
    diagnostics: &mut Diagnostics,
) -> T {
    let span = fields.place(name);
    let Some(text) = fields.string(name, diagnostics) else {
        return T::default();
    };
    let known = || choices.iter().map(|(name, _)| *name);
    match choices.iter().find(|(name, _)| *name == text) {
        Some((_, value)) => *value,
        None => {
            let all: Vec<&str> = known().collect();
            diagnostics
                .error(&span, format!("`{text}` is no {name}"))
                .help(format!("expected one of {}", all.join(", ")))
                .did_you_mean(&text, known());
            T::default()
        }
    }
}

fn rotate(node: &Node, diagnostics: &mut Diagnostics) -> Rotate {
    let mut policy = Rotate::default();
    let Some(mut fields) = Fields::of(node, &table::task::ROTATE, diagnostics) else {
        return policy;
    };
    if let Some(size) = fields.bytes("log_size", diagnostics) {
        policy.log_size = size;
    }
    if let Some(backups) = fields.count("backups", diagnostics) {
        policy.backups = backups;
    }
    const MOST_BACKUPS: u32 = 1000;
    if policy.backups > MOST_BACKUPS {
        let span = fields.place("backups");
        diagnostics
            .error(&span, "`backups` is absurdly large")
            .label(format!("at most {MOST_BACKUPS}"));
    }
    for (name, is_zero) in [
        ("log_size", policy.log_size.0 == 0),
        ("backups", policy.backups == 0),
    ] {
        if is_zero {
            let span = fields.place(name);
            diagnostics.error(&span, format!("`{name}` must be more than 0"));
        }
    }
    fields.finish(diagnostics);
    policy
}
