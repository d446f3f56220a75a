//! What the rules found, sorted by rule and place.

use std::{collections::BTreeMap, fmt};

/// The rules, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    Tables,
    Arrows,
    Circles,
    Mods,
    Names,
    Lengths,
    Words,
    Docs,
    Columns,
    Types,
}

impl Rule {
    fn title(self) -> &'static str {
        match self {
            Rule::Tables => "the tables of ARCHITECTURE.md can be read",
            Rule::Arrows => "imports point downwards, and a room imports nothing that it never may",
            Rule::Circles => "no file imports itself by way of others",
            Rule::Mods => "a `mod.rs` declares and re-exports, nothing else",
            Rule::Names => "ARCHITECTURE.md names every source file, and only those that exist",
            Rule::Lengths => "files have at most 600 lines, functions at most 80",
            Rule::Words => "who acts is named",
            Rule::Docs => "a doc comment has at least three words",
            Rule::Columns => "comments have at most 100 columns",
            Rule::Types => "errors, states and times have types",
        }
    }
}

/// One breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub rule: Rule,
    pub path: String,
    /// 0 where the finding is about the whole file.
    pub line: usize,
    pub text: String,
}

/// Everything that was found.
#[derive(Default)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub fn add(&mut self, rule: Rule, path: &str, line: usize, text: impl Into<String>) {
        self.findings.push(Finding {
            rule,
            path: path.to_owned(),
            line,
            text: text.into(),
        });
    }

    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut by_rule: BTreeMap<Rule, Vec<&Finding>> = BTreeMap::new();
        for finding in &self.findings {
            by_rule.entry(finding.rule).or_default().push(finding);
        }
        for (rule, mut findings) in by_rule {
            findings.sort();
            findings.dedup();
            writeln!(f, "\n{} ({} broken)", rule.title(), findings.len())?;
            for finding in findings {
                match finding.line {
                    0 => writeln!(f, "  {}: {}", finding.path, finding.text)?,
                    line => writeln!(f, "  {}:{line}: {}", finding.path, finding.text)?,
                }
            }
        }
        Ok(())
    }
}
