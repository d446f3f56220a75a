//! The source files of the crate, parsed, with the module that each of them is.

use std::{collections::BTreeMap, fs, path::Path};

use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, Item, Meta};

/// One file of src/.
pub struct Source {
    pub text: String,
    pub syntax: syn::File,
    /// The names from the crate's root down to this file's module.
    pub module: Vec<String>,
    /// True when the whole file is compiled for tests only.
    pub is_test: bool,
}

/// Files by their paths from the crate's directory: `src/task/mod.rs`.
pub struct Tree {
    pub sources: BTreeMap<String, Source>,
    /// Other files whose comments are read: tests, benches.
    pub others: BTreeMap<String, String>,
}

impl Tree {
    /// Reads and parses everything in the crate's directory.
    pub fn read(root: &Path) -> Tree {
        let mut sources = BTreeMap::new();
        let mut others = BTreeMap::new();
        gather(root, &root.join("src"), &mut sources);
        for folder in ["tests", "benches"] {
            gather(root, &root.join(folder), &mut others);
        }
        Tree::new(sources, others)
    }

    /// A tree of these files only.
    pub fn of(files: &[(&str, &str)]) -> Tree {
        let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        Tree::new(files.iter().map(owned).collect(), BTreeMap::new())
    }

    fn new(texts: BTreeMap<String, String>, others: BTreeMap<String, String>) -> Tree {
        let parse = |(path, text): (String, String)| {
            let syntax = syn::parse_file(&text)
                .unwrap_or_else(|error| panic!("{path} is not Rust: {error}"));
            let source = Source {
                module: module_of(&path),
                text,
                syntax,
                is_test: false,
            };
            (path, source)
        };
        let mut tree = Tree {
            sources: texts.into_iter().map(parse).collect(),
            others,
        };
        tree.mark_tests();
        tree
    }

    /// A module that is declared for tests only makes tests of its file and of all files below it.
    fn mark_tests(&mut self) {
        let mut tests = Vec::new();
        for source in self.sources.values() {
            for item in &source.syntax.items {
                if let Item::Mod(module) = item
                    && is_for_tests(&module.attrs)
                {
                    let mut path = source.module.clone();
                    path.push(module.ident.to_string());
                    tests.push(path);
                }
            }
        }
        for source in self.sources.values_mut() {
            source.is_test = tests.iter().any(|test| source.module.starts_with(test));
        }
    }

    /// The files that are part of the program, with their paths.
    pub fn program(&self) -> impl Iterator<Item = (&String, &Source)> {
        self.sources.iter().filter(|(_, source)| !source.is_test)
    }
}

fn gather(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            gather(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("a file below the root");
            let text = fs::read_to_string(&path).expect("a source file");
            files.insert(name.display().to_string(), text);
        }
    }
}

/// The binary's own module, which no path of the library leads to.
pub const BINARY: &str = "(main)";

fn module_of(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut names: Vec<String> = inner.split('/').map(str::to_owned).collect();
    match names.last().map(String::as_str) {
        Some("mod") => {
            names.pop();
        }
        Some("lib") if names.len() == 1 => names.clear(),
        Some("main") if names.len() == 1 => names = vec![BINARY.to_owned()],
        _ => {}
    }
    names
}

/// True for `cfg(test)`, alone or within `all` and `any`; not within `not`.
pub fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => names_test(list.tokens.clone()),
        _ => false,
    })
}

fn names_test(tokens: TokenStream) -> bool {
    let mut is_negated = false;
    for token in tokens {
        match token {
            TokenTree::Ident(name) if name == "test" => return true,
            TokenTree::Ident(name) => is_negated = name == "not",
            TokenTree::Group(group) if !is_negated && names_test(group.stream()) => return true,
            _ => {}
        }
    }
    false
}

/// The attributes of an item, of whatever kind it is.
pub fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// True for an inline module that only includes what the build script made.
pub fn is_generated(module: &syn::ItemMod) -> bool {
    let items = module.content.as_ref().map(|(_, items)| items.as_slice());
    matches!(items, Some([Item::Macro(only)]) if only.mac.path.is_ident("include"))
}
