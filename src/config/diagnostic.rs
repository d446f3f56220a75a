//! Mistakes in a file, each with its place and a hint, and how people are shown them.
//!
//! Every stage adds to one list; nothing stops at the first mistake. What is a mistake is
//! decided elsewhere.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// The most mistakes that are shown; the number of the others is added.
const SHOWN: usize = 100;

/// How bad a mistake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The task is refused.
    Error,
    /// The task runs; this is ignored or not what it seems.
    Warning,
    /// The task runs as it says; another field would make it better.
    Hint,
}

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, as one line.
    pub message: String,
    /// The place of the mistake, in bytes of the source.
    pub span: Range<usize>,
    /// What is wrong right there, short; may be empty.
    pub label: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// All mistakes of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    forgives_unknown: bool,
}

impl Diagnostics {
    /// Adds an error; [`Entry::label`] and [`Entry::help`] say more.
    pub(super) fn error(&mut self, span: &Range<usize>, message: impl Into<String>) -> Entry<'_> {
        self.add(Severity::Error, span, message.into())
    }

    pub(super) fn warning(&mut self, span: &Range<usize>, message: impl Into<String>) -> Entry<'_> {
        self.add(Severity::Warning, span, message.into())
    }

    pub(super) fn hint(&mut self, span: &Range<usize>, message: impl Into<String>) -> Entry<'_> {
        self.add(Severity::Hint, span, message.into())
    }

    /// From here on an unknown field is only warned about: what a scheduler sends may be meant for
    /// a newer executor.
    pub(super) fn forgive_unknown(&mut self) {
        self.forgives_unknown = true;
    }

    /// Adds what is to be said of an unknown field.
    pub(super) fn unknown(&mut self, span: &Range<usize>, message: impl Into<String>) -> Entry<'_> {
        let severity = match self.forgives_unknown {
            true => Severity::Warning,
            false => Severity::Error,
        };
        self.add(severity, span, message.into())
    }

    fn add(&mut self, severity: Severity, span: &Range<usize>, message: String) -> Entry<'_> {
        let index = self.list.len();
        self.list.push(Diagnostic {
            severity,
            message,
            span: span.clone(),
            label: String::new(),
            help: None,
        });
        Entry(&mut self.list[index])
    }

    /// True when the task must be refused.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|one| one.severity == Severity::Error)
    }

    /// The number of errors; warnings do not count.
    pub fn errors(&self) -> usize {
        let errors = self.list.iter();
        errors.filter(|one| one.severity == Severity::Error).count()
    }

    /// All mistakes, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    pub(super) fn sort(&mut self) {
        self.list.sort_by_key(|one| (one.span.start, one.span.end));
        self.list.dedup();
    }

    /// The mistakes as text for people: message, place with a caret, hint. `path` names the file.
    pub fn render(&self, source: &str, path: &str, colours: bool) -> String {
        let renderer = match colours {
            true => Renderer::styled(),
            false => Renderer::plain(),
        };
        let mut text = String::new();
        for one in self.list.iter().take(SHOWN) {
            let level = match one.severity {
                Severity::Error => Level::ERROR,
                Severity::Warning => Level::WARNING,
                Severity::Hint => Level::NOTE,
            };
            let mut annotation = AnnotationKind::Primary.span(clamp(&one.span, source));
            if !one.label.is_empty() {
                annotation = annotation.label(&one.label);
            }
            let snippet = Snippet::source(source).path(path).annotation(annotation);
            let mut group = level.primary_title(&one.message).element(snippet);
            if let Some(help) = &one.help {
                group = group.element(Level::HELP.message(help));
            }
            text += &renderer.render(&[group]);
            text += "\n\n";
        }
        text.truncate(text.trim_end().len());
        if self.list.len() > SHOWN {
            text += &format!("\n\n… and {} more", self.list.len() - SHOWN);
        }
        text
    }
}

/// A mistake that was just added.
pub(super) struct Entry<'a>(&'a mut Diagnostic);

impl Entry<'_> {
    pub fn label(self, label: impl Into<String>) -> Self {
        self.0.label = label.into();
        self
    }

    pub fn help(self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// "did you mean", if one of `known` is close to `written`.
    pub fn did_you_mean<'k>(self, written: &str, known: impl Iterator<Item = &'k str>) -> Self {
        match near_name(written, known) {
            Some(name) => self.help(format!("did you mean `{name}`?")),
            None => self,
        }
    }
}

/// The name of `known` that is closest to `written`, if one is close enough to be a typing mistake.
pub fn near_name<'k>(written: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    known
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|(distance, name)| *distance <= name.chars().count().max(3) / 3)
        .min()
        .map(|(_, name)| name)
}

/// A span that the renderer can show: within the source, on character boundaries, and only up to
/// the end of its first line.
fn clamp(span: &Range<usize>, source: &str) -> Range<usize> {
    let boundary = |mut at: usize| {
        at = at.min(source.len());
        while !source.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = boundary(span.start);
    let line = source[start..]
        .find('\n')
        .map_or(source.len(), |n| start + n);
    let end = boundary(span.end).min(line).max(start);
    start..end
}
