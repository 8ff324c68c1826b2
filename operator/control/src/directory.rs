//! A directory of manifests as the source of what is wanted: which files say what, and what stays in force when one of them
//! is broken. Pure; [`crate::watching`] reads the files.

use std::collections::BTreeMap;

use drover_api::{
    ResourceKey,
    defaults::Terms,
    manifest::{self, Manifest},
};
use drover_plan::observed::Intent;

/// The texts of a directory's files by name, or why one could not be read.
pub type Scan = BTreeMap<String, Result<String, String>>;

/// What a directory declares.
#[derive(Debug, Default)]
pub struct Directory {
    files: BTreeMap<String, File>,
    generations: BTreeMap<ResourceKey, (i64, Manifest)>,
    /// Sets that more than one file declares: the first file by name keeps them.
    doubles: Vec<String>,
}

#[derive(Debug)]
struct File {
    text: Result<String, String>,
    /// The last good version of each of its sets.
    good: Vec<Manifest>,
    problems: Vec<String>,
}

// === impl Directory ===

impl Directory {
    /// Takes in a complete scan. Answers whether anything changed.
    pub fn absorb(&mut self, scan: Scan) -> bool {
        let before = self.files.len();
        self.files.retain(|name, _| scan.contains_key(name));
        let mut has_changed = self.files.len() != before;
        for (name, text) in scan {
            if self.files.get(&name).is_some_and(|known| known.text == text) {
                continue;
            }
            has_changed = true;
            let old = self.files.remove(&name).map(|file| file.good).unwrap_or_default();
            self.files.insert(name.clone(), read(&name, text, old));
        }
        if has_changed {
            self.count();
        }
        has_changed
    }

    /// What is wanted, with the operator's defaults filled in.
    pub fn intents(&self, terms: &Terms) -> BTreeMap<ResourceKey, Intent> {
        let intent = |(key, (generation, manifest)): (&ResourceKey, &(i64, Manifest))| {
            (key.clone(), Intent { set: manifest.resolve(terms), generation: *generation, requests: Vec::new() })
        };
        self.generations.iter().map(intent).collect()
    }

    /// What could not be read, a line each: file, line, field, and what is allowed.
    pub fn problems(&self) -> Vec<String> {
        let files = self.files.values().flat_map(|file| &file.problems);
        files.chain(&self.doubles).cloned().collect()
    }

    /// Counts the changes of each set, and forgets sets that no file declares any more.
    fn count(&mut self) {
        let mut declared: BTreeMap<ResourceKey, &Manifest> = BTreeMap::new();
        self.doubles.clear();
        for manifest in self.files.values().flat_map(|file| &file.good) {
            match declared.get(&manifest.key) {
                None => {
                    declared.insert(manifest.key.clone(), manifest);
                }
                Some(first) => self.doubles.push(manifest.declared_already(first).to_string()),
            }
        }
        let counted = declared.into_iter().map(|(key, manifest)| {
            let generation = match self.generations.get(&key) {
                None => 1,
                Some((generation, known)) if known.spec == manifest.spec => *generation,
                Some((generation, _)) => generation + 1,
            };
            (key, (generation, manifest.clone()))
        });
        self.generations = counted.collect();
    }
}

/// One file's new text. Where a part of it is broken, the last good version of the sets it declared stays in force: a typing
/// error must not look like a wish.
fn read(name: &str, text: Result<String, String>, old: Vec<Manifest>) -> File {
    let mut problems = Vec::new();
    let parsed = match &text {
        Ok(text) => {
            let (manifests, errors) = manifest::parse(name, text);
            problems.extend(errors.iter().map(ToString::to_string));
            manifests
        }
        Err(why) => {
            problems.push(format!("{name}: cannot be read: {why}"));
            Vec::new()
        }
    };
    let is_whole = problems.is_empty();
    let mut good = Vec::new();
    for manifest in parsed {
        let known = old.iter().find(|known| known.key == manifest.key);
        let refused = known.map(|known| manifest.refused_changes(&known.spec)).unwrap_or_default();
        match known.filter(|_| !refused.is_empty()) {
            Some(known) => {
                problems.extend(refused.iter().map(ToString::to_string));
                good.push(known.clone());
            }
            None => good.push(manifest),
        }
    }
    if !is_whole {
        let dropped: Vec<Manifest> =
            old.into_iter().filter(|known| !good.iter().any(|manifest| manifest.key == known.key)).collect();
        good.extend(dropped);
    }
    if !problems.is_empty() && !good.is_empty() {
        let kept: Vec<String> = good.iter().map(|manifest| manifest.key.to_string()).collect();
        problems.push(format!("{name}: until it is mended the last good version is in force for {}", kept.join(", ")));
    }
    File { text, good, problems }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(members: u8, readers: u16) -> String {
        format!(
            "apiVersion: drover.dev/v1alpha1\nkind: MySQLReplicaSet\nmetadata: {{name: orders}}\n\
             spec: {{members: {members}, readReplicas: {readers}, version: \"9.7\"}}\n"
        )
    }

    fn scan(files: &[(&str, &str)]) -> Scan {
        files.iter().map(|(name, text)| ((*name).to_owned(), Ok((*text).to_owned()))).collect()
    }

    /// The sets that are in force: name, read replicas, generation.
    fn wanted(directory: &Directory) -> Vec<(String, u16, i64)> {
        let of = |(key, (generation, manifest)): (&ResourceKey, &(i64, Manifest))| {
            (key.name.to_string(), manifest.spec.read_replicas, *generation)
        };
        directory.generations.iter().map(of).collect()
    }

    #[test]
    fn a_change_counts_and_the_same_text_does_not() {
        let mut directory = Directory::default();
        assert!(directory.absorb(scan(&[("a.yaml", &orders(3, 1))])));
        assert_eq!(wanted(&directory), [("orders".into(), 1, 1)]);
        assert!(!directory.absorb(scan(&[("a.yaml", &orders(3, 1))])));
        assert!(directory.absorb(scan(&[("a.yaml", &orders(3, 2))])));
        assert_eq!(wanted(&directory), [("orders".into(), 2, 2)]);
        assert_eq!(directory.problems(), Vec::<String>::new());
    }

    #[test]
    fn a_malformed_file_stops_nothing_else_and_is_named_with_line_and_field() {
        let mut directory = Directory::default();
        let other = orders(1, 0).replace("orders", "carts");
        directory.absorb(scan(&[("a.yaml", &orders(3, 1)), ("b.yaml", &other)]));
        directory.absorb(scan(&[("a.yaml", &orders(4, 1)), ("b.yaml", &other.replace("Replicas: 0", "Replicas: 2"))]));
        assert_eq!(wanted(&directory), [("carts".into(), 2, 2), ("orders".into(), 1, 1)]);
        let problems = directory.problems();
        assert!(problems[0].starts_with("a.yaml:4:") && problems[0].contains("spec.members"), "{problems:?}");
        assert!(problems.last().is_some_and(|last| last.contains("default/orders")), "{problems:?}");
        directory.absorb(scan(&[("a.yaml", &orders(3, 3)), ("b.yaml", &other)]));
        assert_eq!(directory.problems(), Vec::<String>::new());
        assert_eq!(wanted(&directory), [("carts".into(), 0, 3), ("orders".into(), 3, 2)]);
    }

    #[test]
    fn an_immutable_field_keeps_its_value_and_says_so() {
        let mut directory = Directory::default();
        directory.absorb(scan(&[("a.yaml", &orders(3, 1))]));
        directory.absorb(scan(&[("a.yaml", &orders(5, 1))]));
        assert_eq!(wanted(&directory), [("orders".into(), 1, 1)]);
        assert!(directory.problems()[0].contains("spec.members"), "{:?}", directory.problems());
        // The text of the file is compared with what is in force, not with the refused text before it.
        directory.absorb(scan(&[("a.yaml", &orders(1, 1))]));
        assert!(directory.problems()[0].contains("spec.members"), "{:?}", directory.problems());
    }

    #[test]
    fn a_removed_file_takes_its_intent_along_and_an_unreadable_one_does_not() {
        let mut directory = Directory::default();
        directory.absorb(scan(&[("a.yaml", &orders(3, 1))]));
        directory.absorb(Scan::from([("a.yaml".into(), Err("permission denied".into()))]));
        assert_eq!(wanted(&directory), [("orders".into(), 1, 1)]);
        assert!(directory.problems()[0].contains("permission denied"));
        assert!(directory.absorb(Scan::new()));
        assert_eq!(wanted(&directory), []);
    }

    #[test]
    fn of_two_declarations_the_first_file_counts() {
        let mut directory = Directory::default();
        directory.absorb(scan(&[("b.yaml", &orders(3, 2)), ("a.yaml", &orders(3, 1))]));
        assert_eq!(wanted(&directory), [("orders".into(), 1, 1)]);
        assert!(directory.problems()[0].starts_with("b.yaml:"), "{:?}", directory.problems());
    }
}
