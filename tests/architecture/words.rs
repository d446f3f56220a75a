//! The words of comments: who acts is named, docs say something, lines are short.

use syn::{
    Attribute, Expr, Item, Lit, Meta,
    visit::{self, Visit},
};

use crate::architecture::{
    report::{Report, Rule},
    tree::{Tree, attributes, is_for_tests},
};

/// Words for an actor that is not named, and how many of them all of src/ may have.
const VAGUE: [&str; 4] = ["somebody", "nobody", "whoever", "everybody"];
pub const MOST_VAGUE: usize = 50;

/// The widest line of a comment.
const COLUMNS: usize = 100;

/// The least words of a doc comment.
const DOC_WORDS: usize = 3;

/// Counts words for an actor that is not named.
pub fn check_vague(tree: &Tree, report: &mut Report) {
    let mut found = Vec::new();
    for (path, source) in &tree.sources {
        for (index, line) in source.text.lines().enumerate() {
            for word in vague(line) {
                found.push((path, index + 1, word));
            }
        }
    }
    if found.len() > MOST_VAGUE {
        for (path, line, word) in found {
            report.add(Rule::Words, path, line, format!("\"{word}\""));
        }
    }
}

/// The vague words of a line. `nobody` in quotes is the name of a user.
fn vague(line: &str) -> Vec<String> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut found = Vec::new();
    let mut rest = line;
    let mut before = None;
    while let Some(start) = rest.find(is_part) {
        before = rest[..start].chars().next_back().or(before);
        let tail = &rest[start..];
        let end = tail.find(|letter| !is_part(letter)).unwrap_or(tail.len());
        let (word, after) = tail.split_at(end);
        let quotes = ['`', '"', '\''];
        let is_quoted =
            before.is_some_and(|mark| quotes.contains(&mark)) && after.starts_with(quotes);
        let word = word.to_lowercase();
        if VAGUE.contains(&word.as_str()) && !(word == "nobody" && is_quoted) {
            found.push(word);
        }
        before = None;
        rest = after;
    }
    found
}

/// Finds docs that are too short to say anything.
pub fn check_docs(tree: &Tree, report: &mut Report) {
    for (path, source) in tree.program() {
        let mut docs = Docs::default();
        docs.look(&source.syntax.attrs);
        docs.visit_file(&source.syntax);
        for (line, text) in docs.short {
            report.add(Rule::Docs, path, line, format!("\"{text}\""));
        }
    }
}

/// Short docs, with their lines.
#[derive(Default)]
struct Docs {
    short: Vec<(usize, String)>,
}

impl Docs {
    fn look(&mut self, attributes: &[Attribute]) {
        let mut text = String::new();
        let mut line = None;
        for attribute in attributes {
            if let Meta::NameValue(pair) = &attribute.meta
                && pair.path.is_ident("doc")
                && let Expr::Lit(literal) = &pair.value
                && let Lit::Str(part) = &literal.lit
            {
                line.get_or_insert(attribute.pound_token.span.start().line);
                text.push_str(&part.value());
                text.push(' ');
            }
        }
        let is_word = |word: &&str| word.chars().any(char::is_alphanumeric);
        let words = text.split_whitespace().filter(is_word).count();
        if let Some(line) = line
            && words < DOC_WORDS
        {
            self.short.push((line, text.trim().to_owned()));
        }
    }
}

impl<'ast> Visit<'ast> for Docs {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            self.look(attributes(item));
            visit::visit_item(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        self.look(&field.attrs);
        visit::visit_field(self, field);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.look(&variant.attrs);
        visit::visit_variant(self, variant);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.look(&function.attrs);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_impl_item_const(&mut self, constant: &'ast syn::ImplItemConst) {
        self.look(&constant.attrs);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        self.look(&function.attrs);
        visit::visit_trait_item_fn(self, function);
    }
}

/// Finds lines of comments that are too wide.
pub fn check_columns(tree: &Tree, report: &mut Report) {
    let sources = tree
        .sources
        .iter()
        .map(|(path, source)| (path, &source.text));
    for (path, text) in sources.chain(&tree.others) {
        for (index, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            if line.trim_start().starts_with("//") && columns > COLUMNS {
                report.add(Rule::Columns, path, index + 1, format!("{columns} columns"));
            }
        }
    }
}
