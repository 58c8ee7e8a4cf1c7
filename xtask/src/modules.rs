//! Checks which module imports which.
//!
//! The modules of a crate import only from their left in the order that `ARCHITECTURE.md` states, and modules side by side
//! never import each other in a circle. Imports are `use` declarations and paths in code that begin with `crate`, `super` or
//! `self`. Re-exports are followed to the module that defines the name, and tests are left out.
//!
//! No crate may have two types of one name, so that the name alone identifies the type.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::command::root;

/// The heading in `ARCHITECTURE.md` above the table of orders.
const HEADING: &str = "## Order of modules";

/// Words that begin a type's definition.
const TYPES: [&str; 5] = ["struct", "enum", "union", "trait", "type"];

/// Names that private types of several benchmarks share.
const SHARED_NAMES: [&str; 3] = ["Bench", "Figure", "Workload"];

/// A module's path from the crate's root. The root itself is the empty path.
type Module = Vec<String>;

/// Fails if a module imports another one that it must not import.
pub(crate) fn check() -> Result<()> {
    let document = std::fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    let mut problems = String::new();
    for (name, order) in orders(&document)? {
        let modules = Crate::read(&root().join(&name).join("src"))?;
        for problem in modules.problems(&order) {
            writeln!(problems, "{name}: {problem}")?;
        }
    }
    if problems.is_empty() { Ok(()) } else { bail!("imports that violate the order of modules:\n{problems}") }
}

/// The crates in the table and the stages of each, from left to right.
fn orders(document: &str) -> Result<Vec<(String, Vec<Vec<String>>)>> {
    let table = document.split(HEADING).nth(1).context("ARCHITECTURE.md has no order of modules")?;
    let table = table.split("\n## ").next().unwrap_or_default();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let orders: Vec<_> = rows
        .map(|(name, order)| {
            let stages = order.trim_matches([' ', '|']).split('→');
            let modules =
                |stage: &str| stage.split(',').map(|name| name.trim_matches([' ', '`']).to_owned()).collect();
            (name.to_owned(), stages.map(modules).collect())
        })
        .collect();
    if orders.is_empty() {
        bail!("the table below {HEADING:?} has no rows");
    }
    Ok(orders)
}

/// The imports of a crate's modules.
#[derive(Debug, Default)]
struct Crate {
    /// The paths in each module.
    modules: BTreeMap<Module, Vec<Vec<String>>>,
    /// The names that a module's `use` declarations introduce, and the paths that they stand for.
    names: BTreeMap<(Module, String), Vec<String>>,
    /// The modules that define a type of this name.
    types: BTreeMap<String, Vec<Module>>,
}

impl Crate {
    /// Reads the module tree below `src/lib.rs`, or `src/main.rs` if there is no library.
    fn read(source: &Path) -> Result<Self> {
        let roots = ["lib.rs", "main.rs"].map(|name| source.join(name));
        let file = roots.iter().find(|file| file.exists()).context("neither lib.rs nor main.rs")?;
        let mut modules = Self::default();
        modules.read_file(file, source, &vec![])?;
        Ok(modules)
    }

    fn read_file(&mut self, file: &Path, directory: &Path, module: &Module) -> Result<()> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let tokens: TokenStream =
            text.parse().map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
        self.read_module(tokens, directory, module)
    }

    fn read_module(&mut self, tokens: TokenStream, directory: &Path, module: &Module) -> Result<()> {
        self.modules.insert(module.clone(), vec![]);
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if is_test(&tokens[at..]) {
                at += item_length(&tokens[at..]);
                continue;
            }
            match tokens[at..].first_chunk() {
                Some([TokenTree::Ident(word), TokenTree::Ident(name), rest]) if word == "mod" => {
                    let name = name.to_string();
                    let child = [module.as_slice(), std::slice::from_ref(&name)].concat();
                    let below = directory.join(&name);
                    if let TokenTree::Group(body) = rest {
                        self.read_module(body.stream(), &below, &child)?;
                    } else {
                        let files = [below.with_extension("rs"), below.join("mod.rs")];
                        let file = files.iter().find(|file| file.exists());
                        let file =
                            file.with_context(|| format!("module {} has no file", child.join("::")))?;
                        self.read_file(file, &below, &child)?;
                    }
                    at += 3;
                }
                Some([TokenTree::Ident(word), TokenTree::Ident(name), _])
                    if TYPES.contains(&word.to_string().as_str()) =>
                {
                    self.types.entry(name.to_string()).or_default().push(module.clone());
                    at += 2;
                }
                _ => at += 1,
            }
        }
        let mut paths = vec![];
        collect(&tokens, &mut paths);
        for Import { path, alias } in paths {
            if let Some(alias) = alias {
                self.names.insert((module.clone(), alias), path.clone());
            }
            self.modules.entry(module.clone()).or_default().push(path);
        }
        Ok(())
    }

    /// The module that defines the target of a path in `module`; `None` if that is in another crate.
    fn resolve(&self, module: &Module, path: &[String], depth: usize) -> Option<Module> {
        let (first, mut rest) = path.split_first()?;
        let mut found: Module = match first.as_str() {
            "crate" => vec![],
            "self" => module.clone(),
            "super" => module.split_last()?.1.to_vec(),
            child => {
                rest = path;
                let child = [module.as_slice(), &[child.to_owned()]].concat();
                self.modules.contains_key(&child).then(|| module.clone())?
            }
        };
        for (at, name) in rest.iter().enumerate() {
            let child = [found.as_slice(), std::slice::from_ref(name)].concat();
            if name == "super" {
                found.pop()?;
            } else if self.modules.contains_key(&child) {
                found = child;
            } else {
                let named = self.names.get(&(found.clone(), name.clone())).filter(|_| depth > 0);
                let target = named.and_then(|path| {
                    let path = [path.as_slice(), &rest[at + 1..]].concat();
                    self.resolve(&found, &path, depth - 1)
                });
                return Some(target.unwrap_or(found));
            }
        }
        Some(found)
    }

    /// The imports between sibling modules, by their parent: the importing child and the imported child.
    fn imports(&self) -> BTreeMap<Module, BTreeSet<(String, String)>> {
        let mut imports: BTreeMap<Module, BTreeSet<(String, String)>> = BTreeMap::new();
        for (module, paths) in &self.modules {
            for target in paths.iter().filter_map(|path| self.resolve(module, path, 8)) {
                let common = module.iter().zip(&target).take_while(|(one, other)| one == other).count();
                if let (Some(from), Some(to)) = (module.get(common), target.get(common)) {
                    let edges = imports.entry(module[..common].to_vec()).or_default();
                    edges.insert((from.clone(), to.clone()));
                }
            }
        }
        imports
    }

    fn problems(&self, order: &[Vec<String>]) -> Vec<String> {
        let mut problems = vec![];
        let stage = |name: &str| order.iter().position(|stage| stage.iter().any(|one| one == name));
        let top = self
            .modules
            .keys()
            .filter_map(|module| if let [name] = module.as_slice() { Some(name) } else { None });
        for name in top.filter(|name| stage(name).is_none()) {
            problems.push(format!("{name} is not in the order of ARCHITECTURE.md"));
        }
        for name in order.iter().flatten().filter(|name| !self.modules.contains_key(&vec![(*name).clone()])) {
            problems.push(format!("there is no {name}, which is in the order of ARCHITECTURE.md"));
        }
        let shared = |name: &String| SHARED_NAMES.contains(&name.as_str());
        for (name, modules) in self.types.iter().filter(|(name, all)| all.len() > 1 && !shared(name)) {
            let modules: Vec<_> = modules.iter().map(|module| module.join("::")).collect();
            problems.push(format!("{name} names several types: in {}", modules.join(" and in ")));
        }
        for (parent, imports) in self.imports() {
            if parent.is_empty() {
                let wrong = imports.iter().filter(|(from, to)| stage(from) <= stage(to));
                problems
                    .extend(wrong.map(|(from, to)| format!("{from} imports {to}, which is not on its left")));
            } else if let Some(circle) = circle(&imports) {
                problems.push(format!("in {}: {} is a cycle", parent.join("::"), circle.join(" → ")));
            }
        }
        problems
    }
}

/// A path, and the name that a `use` declaration gives to its last part.
struct Import {
    path: Vec<String>,
    alias: Option<String>,
}

/// Collects all paths of `use` declarations, and paths in code that begin with `crate`, `super` or `self`.
fn collect(tokens: &[TokenTree], found: &mut Vec<Import>) {
    let mut at = 0;
    while at < tokens.len() {
        if is_test(&tokens[at..]) {
            at += item_length(&tokens[at..]);
            continue;
        }
        match &tokens[at] {
            TokenTree::Ident(word) if word == "mod" => {
                // The paths in a module's body belong to that module.
                at += 2;
            }
            TokenTree::Ident(word) if word == "use" => {
                at += 1;
                let mut imports = vec![];
                at += tree(&tokens[at..], &[], &mut imports);
                found.extend(imports);
                continue;
            }
            TokenTree::Ident(word) if word == "crate" || word == "super" || word == "self" => {
                let mut imports = vec![];
                at += tree(&tokens[at..], &[], &mut imports).max(1);
                found.extend(imports.into_iter().map(|import| Import { alias: None, ..import }));
                continue;
            }
            TokenTree::Group(group) => collect(&group.stream().into_iter().collect::<Vec<_>>(), found),
            _ => {}
        }
        at += 1;
    }
}

/// Reads a path that may end in braces; returns its number of tokens.
fn tree(tokens: &[TokenTree], prefix: &[String], found: &mut Vec<Import>) -> usize {
    let mut path = prefix.to_vec();
    let mut at = 0;
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(name)) => path.push(name.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for part in inner.split(|token| is_punctuation(token, ',')) {
                    tree(part, &path, found);
                }
                return at + 1;
            }
            // `*`, or the generic arguments of a type.
            _ => break,
        }
        at += 1;
        if !(tokens.get(at..at + 2).is_some_and(|two| two.iter().all(|token| is_punctuation(token, ':')))) {
            break;
        }
        at += 2;
    }
    let renamed = match tokens.get(at..at + 2) {
        Some([TokenTree::Ident(word), TokenTree::Ident(name)]) if word == "as" => Some(name.to_string()),
        _ => None,
    };
    if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
        path.pop();
    }
    let alias = renamed.or_else(|| path.last().cloned());
    if path.len() > 1 {
        found.push(Import { path, alias });
    }
    at
}

fn is_punctuation(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punctuation) if punctuation.as_char() == character)
}

/// Whether a test-only item begins here.
fn is_test(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [TokenTree::Punct(hash), TokenTree::Group(attribute), ..]
        if hash.as_char() == '#' && attribute.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// The number of tokens up to its body or its semicolon.
fn item_length(tokens: &[TokenTree]) -> usize {
    let ends = |token: &TokenTree| {
        is_punctuation(token, ';')
            || matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
    };
    tokens.iter().position(ends).map_or(tokens.len(), |end| end + 1)
}

/// A circle among imports, with its first module repeated at the end.
fn circle(imports: &BTreeSet<(String, String)>) -> Option<Vec<String>> {
    let starts: BTreeSet<_> = imports.iter().map(|(from, _)| from).collect();
    starts.into_iter().find_map(|start| {
        let mut reached = BTreeSet::new();
        let mut paths = vec![vec![start.clone()]];
        while let Some(path) = paths.pop() {
            let last = path.last()?;
            for (_, to) in imports.iter().filter(|(from, _)| from == last) {
                let longer = [path.as_slice(), std::slice::from_ref(to)].concat();
                if to == start {
                    return Some(longer);
                }
                if reached.insert(to.clone()) {
                    paths.push(longer);
                }
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Crate {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = directory.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        Crate::read(directory.path()).unwrap()
    }

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let order = orders("## Order of modules\n\n| `x` | `a`, `b` → `c` |\n").unwrap();
        of(files).problems(&order[0].1)
    }

    const ROOT: (&str, &str) = ("lib.rs", "mod a; mod b; pub(crate) mod c;");

    #[test]
    fn this_workspace_is_in_order() {
        check().unwrap();
    }

    #[test]
    fn imports_from_the_left_are_fine() {
        let c = "use crate::{a::One, b}; #[cfg(test)] mod tests { use crate::c; }";
        assert_eq!(problems(&[ROOT, ("a.rs", ""), ("b.rs", ""), ("c.rs", c)]), Vec::<String>::new());
    }

    #[test]
    fn imports_from_the_right_are_found_wherever_they_are_written() {
        let wrong = ["a imports c, which is not on its left"];
        for text in [
            "use crate::c;",
            "use super::{c::{One, Two}};",
            "fn one() { let two = crate::c::two(); }",
            "fn one() { matches!(two, crate::c::Two) }",
            "mod inner { use super::super::c as d; }",
        ] {
            assert_eq!(problems(&[ROOT, ("a.rs", text), ("b.rs", ""), ("c.rs", "")]), wrong, "{text}");
        }
        let siblings = problems(&[ROOT, ("a.rs", "use crate::b;"), ("b.rs", ""), ("c.rs", "")]);
        assert_eq!(siblings, ["a imports b, which is not on its left"]);
    }

    #[test]
    fn circles_are_found_through_re_exports() {
        let files = [
            ROOT,
            ("a.rs", ""),
            ("b.rs", ""),
            ("c/mod.rs", "mod one; mod two; pub use self::two::Two; pub use one::One;"),
            ("c/one.rs", "use super::Two;"),
            ("c/two.rs", "use crate::c::One as Other;"),
        ];
        assert_eq!(problems(&files), ["in c: one → two → one is a cycle"]);
    }

    #[test]
    fn a_name_of_a_type_is_found_twice_outside_of_tests_and_functions() {
        let a = "pub(crate) struct One(u8); enum Two {} fn f() { struct Three; } impl Z for One { type Four = u8; }";
        let b = "trait One {} struct Three; type Four = u8; #[cfg(test)] mod tests { enum Two {} }";
        let found = problems(&[ROOT, ("a.rs", a), ("b.rs", b), ("c.rs", "")]);
        assert_eq!(found, ["One names several types: in a and in b"]);
    }

    #[test]
    fn modules_and_order_name_the_same() {
        assert_eq!(
            problems(&[("lib.rs", "mod a; mod c; mod d;"), ("a.rs", ""), ("c.rs", ""), ("d.rs", "")]),
            [
                "d is not in the order of ARCHITECTURE.md",
                "there is no b, which is in the order of ARCHITECTURE.md"
            ]
        );
    }
}
