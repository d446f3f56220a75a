//! A table of fields: what a map of a task or job file may have.
//!
//! The tables are the only list of names. `decode` reads no field that is in none of them, and
//! takes its hints about unknown names from them; the JSON Schemas are made of them. The values
//! that absent fields have are constructed in `task/`: a test compares the two, and the field
//! tables of README.md and docs/ with both. Tables say nothing about what must hold between fields.

/// One field of a map.
pub(crate) struct Row {
    /// As files spell it.
    pub name: &'static str,
    /// Which values it takes.
    pub kind: Kind,
    /// What holds when it is absent.
    pub absent: Absent,
    /// A sentence for people; `{default}` stands for what `absent` says.
    pub words: &'static str,
}

/// The fields of one kind of map.
pub(crate) struct Table {
    /// The map in messages: "a process", "`http`".
    pub what: &'static str,
    /// The map in the JSON Schema.
    pub words: &'static str,
    /// The name of its definition in the JSON Schema; without one it stands where it is used.
    pub definition: Option<&'static str>,
    /// Its fields, in the order in which messages list them. Two maps may share a group.
    pub groups: &'static [&'static [Row]],
    /// Names that Aurora knows and this version does not: refused with a message of their own.
    pub later: &'static [&'static str],
}

/// Which values a field takes.
///
/// Thermos' coercions hold for all of them: a number may be written as a string, and a string as a
/// number or a boolean.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Any string, which may hold templates.
    Text,
    /// A list of strings.
    Texts,
    /// A string, or a list of them.
    TextOrTexts,
    /// A string out of a few.
    Choice(&'static [&'static str]),
    /// A whole number from 0.
    Count,
    /// A whole number from 0, or -1 for no limit.
    CountOrUnlimited,
    /// A number from 0 that may have a fraction.
    Number,
    /// A whole number that may be negative and is not written as a fraction.
    Integer,
    /// A number that may be negative; its fraction is cut.
    Whole,
    /// `true`, `false`, 0 or 1.
    Boolean,
    /// A duration: `500ms`, `5s`, or a number of whole seconds.
    Period,
    /// Seconds with their fraction, or a duration.
    Seconds,
    /// A size: `64MiB`, or a number of bytes.
    Size,
    /// A number of a port.
    Port,
    /// A bound of setrlimit(2): a number, a size or `unlimited`.
    Bound,
    /// A map with a table of its own.
    Map(&'static Table),
    /// A list of maps.
    Maps(&'static Table),
    /// A word, or a map that has that word and says more.
    WordOrMap(&'static Table),
    /// Limits of setrlimit(2) by name, each with one bound or with a map of two.
    Rlimits(&'static Table),
    /// Variables by name.
    Variables,
    /// Conditions by the names of processes.
    Conditions,
    /// Names of protections of a private task.
    Protections,
    /// Rules for agents by the names of their attributes.
    Placements,
    /// A map as Aurora has it, which executors read (`table/wrapper.rs`).
    Aurora,
    /// A task, or the path of a task file.
    TaskOrPath,
}

/// What holds when a field is absent.
#[derive(Clone, Copy)]
pub(crate) enum Absent {
    /// The map is refused.
    Required,
    /// The map is refused unless it has another field with this mark.
    OneOf,
    /// Nothing: no limit, an empty list, no such step.
    Nothing,
    /// The same as if this were written.
    Value(&'static str),
    /// What these words say; it cannot be written, or is not known before the task runs.
    Words(&'static str),
}

impl Table {
    /// All fields of the map.
    pub fn rows(&self) -> impl Iterator<Item = &'static Row> + use<> {
        self.groups.iter().copied().flatten()
    }

    /// The names of all fields.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.rows().map(|row| row.name)
    }
}

impl Row {
    /// The sentence for people, with its default filled in.
    pub fn description(&self) -> String {
        self.words.replace("{default}", self.absent.text())
    }
}

impl Absent {
    /// What stands in the `default` column of the field tables for people.
    pub fn text(self) -> &'static str {
        match self {
            Absent::Value(text) | Absent::Words(text) => text,
            Absent::Required | Absent::OneOf | Absent::Nothing => "",
        }
    }
}
