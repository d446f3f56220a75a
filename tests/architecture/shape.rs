//! The shape of files: what a `mod.rs` has, how long files and functions are, and which types stand
//! for errors, states and times.

use std::collections::BTreeSet;

use proc_macro2::Span;
use syn::{
    ImplItem, Item, PathArguments, Type,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::architecture::{
    report::{Report, Rule},
    tree::{Source, Tree, attributes, is_for_tests, is_generated},
};

/// The most lines of a file, and of a function.
pub const FILE_LINES: usize = 600;
pub const FUNCTION_LINES: usize = 80;

/// What may be longer, each with its reason.
pub struct Exceptions {
    /// Files by their paths.
    pub files: &'static [(&'static str, &'static str)],
    /// Functions by `path: name`.
    pub functions: &'static [(&'static str, &'static str)],
}

/// A `mod.rs`, and `lib.rs`, declare and re-export.
pub fn check_mods(tree: &Tree, report: &mut Report) {
    for (path, source) in &tree.sources {
        if !path.ends_with("/mod.rs") && path != "src/lib.rs" {
            continue;
        }
        for item in &source.syntax.items {
            let is_fine = match item {
                Item::Use(_) => true,
                Item::Mod(module) => module.content.is_none() || is_generated(module),
                _ => false,
            };
            if !is_fine {
                let line = item.span().start().line;
                report.add(Rule::Mods, path, line, "this defines something");
            }
        }
    }
}

/// Files and functions that are too long, and exceptions that are no longer needed.
pub fn check_lengths(tree: &Tree, exceptions: &Exceptions, report: &mut Report) {
    let mut used: BTreeSet<String> = BTreeSet::new();
    let is_excepted = |list: &[(&str, &str)], key: &str| list.iter().any(|(one, _)| *one == key);
    for (path, source) in tree.program() {
        let lines = program_lines(source);
        if lines > FILE_LINES {
            if is_excepted(exceptions.files, path) {
                used.insert(path.clone());
            } else {
                let text = format!("{lines} lines without its tests");
                report.add(Rule::Lengths, path, 0, text);
            }
        }
        let mut functions = Functions::default();
        functions.visit_file(&source.syntax);
        for (name, first, lines) in functions.long {
            let key = format!("{path}: {name}");
            if is_excepted(exceptions.functions, &key) {
                used.insert(key);
            } else {
                let text = format!("the function `{name}` has {lines} lines");
                report.add(Rule::Lengths, path, first, text);
            }
        }
    }
    for (key, _) in exceptions.files.iter().chain(exceptions.functions) {
        if !used.contains(*key) {
            let text = format!("the exception for {key} is no longer needed");
            report.add(Rule::Lengths, "tests/architecture.rs", 0, text);
        }
    }
}

/// A file's lines without its modules for tests.
fn program_lines(source: &Source) -> usize {
    let tests = source.syntax.items.iter().filter_map(|item| match item {
        Item::Mod(module) if is_for_tests(&module.attrs) && module.content.is_some() => {
            Some(lines_of(module.span()))
        }
        _ => None,
    });
    source.text.lines().count() - tests.sum::<usize>()
}

fn lines_of(span: Span) -> usize {
    span.end().line - span.start().line + 1
}

/// Functions over the limit: name, first line, lines from the signature to the closing bracket.
#[derive(Default)]
struct Functions {
    long: Vec<(String, usize, usize)>,
}

impl Functions {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        let lines = block.span().end().line - first + 1;
        if lines > FUNCTION_LINES {
            self.long.push((signature.ident.to_string(), first, lines));
        }
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            self.measure(&function.sig, &function.block);
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.measure(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// Errors of keeper and runner are types of their own; states and times are no text.
pub fn check_types(tree: &Tree, report: &mut Report) {
    for (path, source) in &tree.sources {
        for (index, line) in source.text.lines().enumerate() {
            if line.contains("pub state: String") || line.contains("_at: Option<String>") {
                let text = format!("a state or a time as text: `{}`", line.trim());
                report.add(Rule::Types, path, index + 1, text);
            }
        }
        let is_strict = ["src/engine/keeper/", "src/engine/runner/"]
            .iter()
            .any(|room| path.starts_with(room));
        if is_strict && !source.is_test {
            let mut results = Results::default();
            results.visit_file(&source.syntax);
            for line in results.lines {
                report.add(
                    Rule::Types,
                    path,
                    line,
                    "`Result<_, String>`: an error as text",
                );
            }
        }
    }
}

/// Lines with a `Result` whose error is a `String`.
#[derive(Default)]
struct Results {
    lines: Vec<usize>,
}

impl<'ast> Visit<'ast> for Results {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !matches!(item, ImplItem::Fn(function) if is_for_tests(&function.attrs)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_path_segment(&mut self, segment: &'ast syn::PathSegment) {
        if segment.ident == "Result"
            && let PathArguments::AngleBracketed(arguments) = &segment.arguments
            && let Some(syn::GenericArgument::Type(Type::Path(error))) = arguments.args.get(1)
            && error.path.is_ident("String")
        {
            self.lines.push(segment.ident.span().start().line);
        }
        visit::visit_path_segment(self, segment);
    }
}
