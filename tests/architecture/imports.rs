//! Every import of the program: which file uses what of which other file.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, Block, ImplItem, Item, ItemMod, Stmt, TraitItem, visit::Visit};

use crate::architecture::{
    names::{Module, Names, Scope, Target, imports},
    tree::{Tree, attributes, is_for_tests},
};

/// One use of another file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub from: String,
    pub line: usize,
    /// The file that defines what is used, or a `mod.rs` for the module itself.
    pub to: String,
    /// The path as it is written.
    pub path: String,
    /// The item that it leads to, and what follows that in the path: a function of a type.
    pub item: String,
    pub member: Option<String>,
}

/// One use of another crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outer {
    pub line: usize,
    /// In full, with the names of `use` declarations put in.
    pub path: String,
    /// The item that it is used in: `function`, `Type`, or `Type::function`.
    pub item: String,
}

/// What the program's files use.
#[derive(Default)]
pub struct Imports {
    pub inner: BTreeSet<Import>,
    /// Uses of other crates, by file.
    pub outer: BTreeMap<String, BTreeSet<Outer>>,
}

impl Imports {
    pub fn of(tree: &Tree) -> Imports {
        let names = Names::new(tree);
        let mut found = Imports::default();
        for (path, source) in tree.program() {
            let mut walk = Walk {
                names: &names,
                file: path,
                module: source.module.clone(),
                scopes: Vec::new(),
                item: String::new(),
                found: &mut found,
            };
            walk.visit_file(&source.syntax);
        }
        found
    }
}

struct Walk<'a> {
    names: &'a Names,
    file: &'a str,
    module: Module,
    scopes: Vec<Scope>,
    /// The item that is being walked through, as [`Outer::item`].
    item: String,
    found: &'a mut Imports,
}

impl Walk<'_> {
    /// A path of several names, wherever it is written.
    fn note(&mut self, path: &[String], line: usize) {
        let (targets, passed) = self.names.resolve(&self.module, &self.scopes, path);
        if targets.is_empty() && passed.is_empty() {
            self.note_outer(path, line);
        }
        for target in passed.into_iter().map(Target::Module).chain(targets) {
            self.arrive(&target, path, line);
        }
    }

    fn note_outer(&mut self, path: &[String], line: usize) {
        let whole = self.names.expand(&self.module, &self.scopes, path);
        let outer = self.found.outer.entry(self.file.to_owned()).or_default();
        outer.insert(Outer {
            line,
            path: whole.join("::"),
            item: self.item.clone(),
        });
    }

    fn arrive(&mut self, target: &Target, path: &[String], line: usize) {
        let (to, item) = match target {
            Target::Item { file, name } => (file.as_str(), name.as_str()),
            Target::Module(module) => match self.names.file_of(module) {
                Some(file) => (file, ""),
                None => return,
            },
            Target::Generated => return,
        };
        if to == self.file {
            return;
        }
        let is_item = |name: &String| name == item;
        let member = path.iter().skip_while(|name| !is_item(name)).nth(1);
        self.found.inner.insert(Import {
            from: self.file.to_owned(),
            line,
            to: to.to_owned(),
            path: path.join("::"),
            item: item.to_owned(),
            member: member.cloned(),
        });
    }

    /// A single name: its declaration is an import already, unless a glob brought it.
    fn note_name(&mut self, name: &str, line: usize) {
        let path = [name.to_owned()];
        let targets = self.names.through_globs(&self.module, &self.scopes, name);
        for target in targets {
            self.arrive(&target, &path, line);
        }
        let whole = self.names.expand(&self.module, &self.scopes, &path);
        let (inner, _) = self.names.resolve(&self.module, &self.scopes, &whole);
        if whole.len() > 1 && inner.is_empty() {
            self.note_outer(&path, line);
        }
    }

    /// The paths among the tokens of a macro, which nobody but the macro can parse.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        // One dot before a name makes it a field or a method, two are a range.
        let mut dots = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 || path.is_empty() {
                        self.scanned(&path, line);
                        path.clear();
                        line = name.span().start().line;
                    }
                    if dots != 1 {
                        path.push(name.to_string());
                    }
                    (colons, dots) = (0, 0);
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                TokenTree::Punct(mark) => {
                    colons = 0;
                    dots = if mark.as_char() == '.' { dots + 1 } else { 0 };
                    self.scanned(&path, line);
                    path.clear();
                }
                TokenTree::Group(group) => {
                    colons = 0;
                    self.scanned(&path, line);
                    path.clear();
                    self.scan(group.stream());
                }
                TokenTree::Literal(_) => {}
            }
        }
        self.scanned(&path, line);
    }

    fn scanned(&mut self, path: &[String], line: usize) {
        match path {
            [] => {}
            [name] => self.note_name(name, line),
            path => self.note(path, line),
        }
    }

    /// Paths that serde's attributes carry as text: `with = "crate::task::units"`.
    fn scan_texts(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Literal(literal) => {
                    let line = literal.span().start().line;
                    let text = literal.to_string();
                    let Ok(path) = syn::parse_str::<syn::Path>(text.trim_matches('"')) else {
                        continue;
                    };
                    if path.segments.len() > 1 {
                        self.note(&idents(&path), line);
                    }
                }
                TokenTree::Group(group) => self.scan_texts(group.stream()),
                _ => {}
            }
        }
    }
}

fn idents(path: &syn::Path) -> Vec<String> {
    let name = |segment: &syn::PathSegment| segment.ident.to_string();
    path.segments.iter().map(name).collect()
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        let name = match item {
            Item::Const(item) => item.ident.to_string(),
            Item::Enum(item) => item.ident.to_string(),
            Item::Fn(item) => item.sig.ident.to_string(),
            Item::Impl(item) => match &*item.self_ty {
                syn::Type::Path(path) => idents(&path.path).pop().unwrap_or_default(),
                _ => String::new(),
            },
            Item::Static(item) => item.ident.to_string(),
            Item::Struct(item) => item.ident.to_string(),
            Item::Trait(item) => item.ident.to_string(),
            _ => String::new(),
        };
        // An item within a function is part of that.
        let is_outermost = self.item.is_empty();
        if is_outermost {
            self.item = name;
        }
        syn::visit::visit_item(self, item);
        if is_outermost {
            self.item.clear();
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        let of_type = self.item.clone();
        self.item = format!("{of_type}::{}", function.sig.ident);
        syn::visit::visit_impl_item_fn(self, function);
        self.item = of_type;
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            _ => return,
        };
        if !is_for_tests(attributes) {
            syn::visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !matches!(item, TraitItem::Fn(function) if is_for_tests(&function.attrs)) {
            syn::visit::visit_trait_item(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_for_tests(&field.attrs) {
            syn::visit::visit_field(self, field);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !is_for_tests(&local.attrs) {
            syn::visit::visit_local(self, local);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let scopes = std::mem::take(&mut self.scopes);
        self.module.push(item.ident.to_string());
        syn::visit::visit_item_mod(self, item);
        self.module.pop();
        self.scopes = scopes;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let line = item.use_token.span.start().line;
        for import in imports(&item.tree) {
            self.note(&import.path, line);
        }
    }

    fn visit_block(&mut self, block: &'ast Block) {
        let items = block.stmts.iter().filter_map(|statement| match statement {
            Stmt::Item(item) => Some(item),
            _ => None,
        });
        self.scopes.push(Scope::of(items));
        syn::visit::visit_block(self, block);
        self.scopes.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let line = path.segments[0].ident.span().start().line;
        match &idents(path)[..] {
            [name] => self.note_name(name, line),
            names => self.note(names, line),
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        syn::visit::visit_macro(self, call);
        self.scan(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.scan(list.tokens.clone());
            self.scan_texts(list.tokens.clone());
        }
    }

    /// `pub(in path)` imports nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}
