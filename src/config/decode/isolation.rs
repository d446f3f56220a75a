//! How far a task is kept from its machine: `isolation` and `volumes`.

use super::fields::{Fields, wrong_type};
use crate::{
    config::{
        diagnostic::Diagnostics,
        table,
        text::node::{Node, Value},
    },
    task::{Isolation, Level, Protection, Volume, VolumeKind},
};

/// Decodes a level, or `{level, without}`.
pub(super) fn isolation(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> Isolation {
    let Some(node) = fields.take("isolation") else {
        return Isolation::default();
    };
    if !matches!(node.value, Value::Map(_)) {
        return Isolation {
            level: level(node, diagnostics),
            without: Vec::new(),
        };
    }
    let Some(mut fields) = Fields::of(node, &table::isolation::ISOLATION, diagnostics) else {
        return Isolation::default();
    };
    let level = match fields.take("level") {
        Some(node) => level(node, diagnostics),
        None => {
            diagnostics.error(&node.span, "isolation needs `level`");
            Level::default()
        }
    };
    let mut without = Vec::new();
    for (name, place) in fields.strings("without", diagnostics).unwrap_or_default() {
        match Protection::ALL.iter().find(|one| one.name() == name) {
            Some(protection) => without.push(*protection),
            None => {
                let names = Protection::ALL.map(Protection::name);
                diagnostics
                    .error(&place, format!("unknown protection `{name}`"))
                    .help(format!("there are: {}", names.join(", ")))
                    .did_you_mean(&name, names.into_iter());
            }
        }
    }
    if level == Level::Directory && !without.is_empty() {
        diagnostics
            .error(
                &fields.place("without"),
                "`without` takes nothing from `directory`",
            )
            .help("it names what a `private` task does without");
    }
    let lacks = |protection| without.contains(&protection);
    let needs = [Protection::Seccomp, Protection::Landlock];
    if lacks(Protection::NoNewPrivs) && !needs.into_iter().all(lacks) {
        diagnostics
            .error(
                &fields.place("without"),
                "seccomp and landlock need `no_new_privs`",
            )
            .help("do without all three: [no_new_privs, seccomp, landlock]");
    }
    fields.finish(diagnostics);
    Isolation { level, without }
}

fn level(node: &Node, diagnostics: &mut Diagnostics) -> Level {
    let text = node.text().unwrap_or_default();
    match text.parse() {
        Ok(level) => level,
        Err(why) => {
            diagnostics
                .error(&node.span, format!("unknown isolation `{text}`"))
                .help(why)
                .did_you_mean(&text, Level::ALL.into_iter().map(Level::name));
            Level::default()
        }
    }
}

/// Decodes the places of the machine that a private task has beside its sandbox.
pub(super) fn volumes(fields: &mut Fields<'_>, diagnostics: &mut Diagnostics) -> Vec<Volume> {
    let Some(node) = fields.take("volumes") else {
        return Vec::new();
    };
    let Value::List(list) = &node.value else {
        wrong_type(node, "volumes", "a list", diagnostics);
        return Vec::new();
    };
    let volumes = list.iter().filter_map(|node| volume(node, diagnostics));
    volumes.collect()
}

fn volume(node: &Node, diagnostics: &mut Diagnostics) -> Option<Volume> {
    let mut fields = Fields::of(node, &table::isolation::VOLUME, diagnostics)?;
    let path = fields.required("container_path", diagnostics);
    let place = fields.place("container_path");
    let host = fields.string("host_path", diagnostics);
    let host_place = fields.place("host_path");
    let mode = fields.string("mode", diagnostics);
    let tmpfs = fields.bytes("tmpfs", diagnostics);
    let mode_place = fields.place("mode");
    fields.finish(diagnostics);
    let writable = match mode.as_deref() {
        None if host.is_some() => false,
        None | Some("RW" | "rw") => true,
        Some("RO" | "ro") => false,
        Some(other) => {
            diagnostics
                .error(&mode_place, format!("unknown mode `{other}`"))
                .help("RW or RO; RO is the default");
            return None;
        }
    };
    let kind = match (host, tmpfs) {
        (Some(host_path), None) => VolumeKind::Host {
            host_path,
            writable,
        },
        (None, Some(size)) if writable && size.0 > 0 => VolumeKind::Tmpfs { size },
        (None, Some(_)) => {
            diagnostics.error(&node.span, "a tmpfs has a size and is writable");
            return None;
        }
        (Some(_), Some(_)) | (None, None) => {
            diagnostics
                .error(&node.span, "a volume has either `host_path` or `tmpfs`")
                .help("`tmpfs` is a size: files in memory, gone with the task");
            return None;
        }
    };
    let container_path = path?;
    let paths = [
        (Some(&container_path), &place),
        (kind.host_path(), &host_place),
    ];
    for (path, place) in paths {
        if let Some(path) = path
            && !is_plain(path)
        {
            diagnostics
                .error(place, format!("bad path {path:?} of a volume"))
                .help("an absolute path without `..`, and not `/`");
        }
    }
    Some(Volume {
        container_path,
        kind,
    })
}

/// Absolute, below the root, and nothing in it that leads elsewhere.
fn is_plain(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let climbs = parts.clone().any(|part| part == ".." || part == ".");
    path.starts_with('/') && parts.next().is_some() && !climbs && !path.contains('\0')
}
