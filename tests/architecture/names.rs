//! What a path means: from the module that it is written in to the file that defines what it names.
//!
//! `use` declarations are followed through every re-export, so a room's `mod.rs` hides no file.
//! Methods are not resolved: that needs types.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Item, UseTree};

use crate::architecture::tree::{BINARY, Tree, attributes, is_for_tests, is_generated};

/// A module's names, from the crate's root down.
pub type Module = Vec<String>;

/// What a name stands for where it is declared.
#[derive(Clone, Debug)]
pub enum Binding {
    /// Something that is defined in the module itself.
    Item,
    /// A child module.
    Child,
    /// A `use` of this path.
    Import(Vec<String>),
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// An item of the module in this file.
    Item {
        file: String,
        name: String,
    },
    Module(Module),
    /// Something that the build script made.
    Generated,
}

/// The names of a module or of a block.
#[derive(Default)]
pub struct Scope {
    pub names: BTreeMap<String, Vec<Binding>>,
    pub globs: Vec<Vec<String>>,
}

struct Known {
    file: String,
    is_generated: bool,
    scope: Scope,
}

/// All modules of the crate.
pub struct Names {
    modules: BTreeMap<Module, Known>,
}

impl Names {
    pub fn new(tree: &Tree) -> Names {
        let mut names = Names {
            modules: BTreeMap::new(),
        };
        for (path, source) in tree.program() {
            names.add(path, &source.module, &source.syntax.items);
        }
        names
    }

    fn add(&mut self, file: &str, module: &Module, items: &[Item]) {
        for item in items {
            if let Item::Mod(inner) = item
                && !is_for_tests(&inner.attrs)
                && let Some((_, content)) = &inner.content
            {
                let mut path = module.clone();
                path.push(inner.ident.to_string());
                self.add(file, &path, content);
                if let Some(known) = self.modules.get_mut(&path) {
                    known.is_generated = is_generated(inner);
                }
            }
        }
        let known = Known {
            file: file.to_owned(),
            is_generated: false,
            scope: Scope::of(items.iter()),
        };
        self.modules.insert(module.clone(), known);
    }

    /// The file that a module is written in.
    pub fn file_of(&self, module: &Module) -> Option<&str> {
        self.modules.get(module).map(|known| known.file.as_str())
    }

    /// Everything that a path may mean, and the modules that it names on its way. `scopes` are the
    /// blocks around it, innermost last. A path of other crates means nothing here.
    pub fn resolve(
        &self,
        module: &Module,
        scopes: &[Scope],
        path: &[String],
    ) -> (BTreeSet<Target>, BTreeSet<Module>) {
        let mut passed = BTreeSet::new();
        let found = self.walk(module, scopes, path, &mut passed, &mut BTreeSet::new());
        (found, passed)
    }

    /// A path of another crate in full: what a `use` stands for in the place of its name.
    pub fn expand(&self, module: &Module, scopes: &[Scope], path: &[String]) -> Vec<String> {
        let known = self.modules.get(module).map(|known| &known.scope);
        let mut all = scopes.iter().rev().chain(known);
        let bindings = all.find_map(|scope| scope.names.get(&path[0]));
        let import = bindings
            .into_iter()
            .flatten()
            .find_map(|binding| match binding {
                Binding::Import(import) => Some(import),
                _ => None,
            });
        match import {
            Some(import) => [import, &path[1..]].concat(),
            None => path.to_vec(),
        }
    }

    /// What a glob import brings for a name.
    pub fn through_globs(&self, module: &Module, scopes: &[Scope], name: &str) -> BTreeSet<Target> {
        let is_known = |scope: &Scope| scope.names.contains_key(name);
        let known = self.modules.get(module);
        if scopes.iter().any(is_known) || known.is_some_and(|known| is_known(&known.scope)) {
            return BTreeSet::new();
        }
        self.lookup(module, scopes, name, &mut BTreeSet::new())
    }

    fn walk(
        &self,
        module: &Module,
        scopes: &[Scope],
        path: &[String],
        passed: &mut BTreeSet<Module>,
        seen: &mut BTreeSet<(Module, String)>,
    ) -> BTreeSet<Target> {
        let mut rest = path;
        let mut start = module.clone();
        let is_binary = module.first().is_some_and(|first| first == BINARY);
        let mut is_absolute = false;
        while let Some((first, further)) = rest.split_first() {
            match first.as_str() {
                "crate" => start.clear(),
                "dewar" if is_binary => start.clear(),
                "super" => {
                    start.pop();
                }
                "self" => {}
                _ => break,
            }
            is_absolute = true;
            rest = further;
        }
        let mut found = BTreeSet::from([Target::Module(start.clone())]);
        for (index, name) in rest.iter().enumerate() {
            // Only a module or a type leads on, and no two of them have one name.
            let is_module = |target: &Target| matches!(target, Target::Module(_));
            if found.iter().any(is_module) {
                found.retain(is_module);
            }
            let mut next = BTreeSet::new();
            for target in found {
                match target {
                    Target::Module(at) => {
                        let around = if index == 0 && !is_absolute {
                            scopes
                        } else {
                            &[]
                        };
                        next.extend(self.lookup(&at, around, name, seen));
                    }
                    // An enum's variant, an associated function.
                    item => {
                        next.insert(item);
                    }
                }
            }
            if index + 1 < rest.len() {
                passed.extend(next.iter().filter_map(|target| match target {
                    Target::Module(module) => Some(module.clone()),
                    _ => None,
                }));
            }
            found = next;
        }
        found
    }

    fn lookup(
        &self,
        module: &Module,
        scopes: &[Scope],
        name: &str,
        seen: &mut BTreeSet<(Module, String)>,
    ) -> BTreeSet<Target> {
        let Some(known) = self.modules.get(module) else {
            return BTreeSet::new();
        };
        if known.is_generated {
            return BTreeSet::from([Target::Generated]);
        }
        // In `use agent::agent` the first name stands for what is declared: while a name's imports
        // are followed, it does not stand for them.
        let is_new = seen.insert((module.clone(), name.to_owned()));
        let mut found = BTreeSet::new();
        let all = || scopes.iter().rev().chain([&known.scope]);
        let bindings = all().find_map(|scope| scope.names.get(name));
        for binding in bindings.into_iter().flatten() {
            match binding {
                Binding::Item => {
                    found.insert(Target::Item {
                        file: known.file.clone(),
                        name: name.to_owned(),
                    });
                }
                Binding::Child => {
                    let mut path = module.clone();
                    path.push(name.to_owned());
                    found.insert(Target::Module(path));
                }
                Binding::Import(path) if is_new => {
                    found.extend(self.walk(module, &[], path, &mut BTreeSet::new(), seen));
                }
                Binding::Import(_) => {}
            }
        }
        if bindings.is_none() && is_new {
            for glob in all().flat_map(|scope| &scope.globs) {
                for target in self.walk(module, &[], glob, &mut BTreeSet::new(), seen) {
                    if let Target::Module(from) = target
                        && from != *module
                    {
                        found.extend(self.lookup(&from, &[], name, seen));
                    }
                }
            }
        }
        if is_new {
            seen.remove(&(module.clone(), name.to_owned()));
        }
        found
    }
}

impl Scope {
    /// The names that these items declare.
    pub fn of<'a>(items: impl Iterator<Item = &'a Item>) -> Scope {
        let mut scope = Scope::default();
        for item in items {
            if is_for_tests(attributes(item)) {
                continue;
            }
            let (name, binding) = match item {
                Item::Const(item) => (&item.ident, Binding::Item),
                Item::Enum(item) => (&item.ident, Binding::Item),
                Item::Fn(item) => (&item.sig.ident, Binding::Item),
                Item::Static(item) => (&item.ident, Binding::Item),
                Item::Struct(item) => (&item.ident, Binding::Item),
                Item::Trait(item) => (&item.ident, Binding::Item),
                Item::Type(item) => (&item.ident, Binding::Item),
                Item::Union(item) => (&item.ident, Binding::Item),
                Item::Mod(item) => (&item.ident, Binding::Child),
                Item::Macro(item) => match &item.ident {
                    Some(name) => (name, Binding::Item),
                    None => continue,
                },
                Item::Use(item) => {
                    for import in imports(&item.tree) {
                        scope.import(import);
                    }
                    continue;
                }
                _ => continue,
            };
            scope.bind(name.to_string(), binding);
        }
        scope
    }

    fn import(&mut self, import: Import) {
        match import.name {
            Some(name) if name == "_" => {}
            Some(name) => self.bind(name, Binding::Import(import.path)),
            None => self.globs.push(import.path),
        }
    }

    fn bind(&mut self, name: String, binding: Binding) {
        self.names.entry(name).or_default().push(binding);
    }
}

/// One path of a `use` declaration, and the name that it gets; a glob has none.
pub struct Import {
    pub path: Vec<String>,
    pub name: Option<String>,
}

/// Every path of a `use` declaration.
pub fn imports(tree: &UseTree) -> Vec<Import> {
    let mut found = Vec::new();
    flatten(tree, &mut Vec::new(), &mut found);
    found
}

fn flatten(tree: &UseTree, path: &mut Vec<String>, found: &mut Vec<Import>) {
    let mut add = |path: Vec<String>, name: Option<String>| found.push(Import { path, name });
    match tree {
        UseTree::Path(part) => {
            path.push(part.ident.to_string());
            flatten(&part.tree, path, found);
            path.pop();
        }
        UseTree::Name(part) if part.ident == "self" => add(path.clone(), path.last().cloned()),
        UseTree::Name(part) => {
            let name = part.ident.to_string();
            path.push(name.clone());
            add(path.clone(), Some(name));
            path.pop();
        }
        UseTree::Rename(part) => {
            let mut whole = path.clone();
            if part.ident != "self" {
                whole.push(part.ident.to_string());
            }
            add(whole, Some(part.rename.to_string()));
        }
        UseTree::Glob(_) => add(path.clone(), None),
        UseTree::Group(group) => {
            for one in &group.items {
                flatten(one, path, found);
            }
        }
    }
}
