//! Rules about documents and every other text: a link leads somewhere, a script that is named exists, and no text names a
//! place on somebody's own machine.

use std::path::{Component, Path, PathBuf};

use crate::{File, caught, files, hold, root};

/// `base/link` with its `.` and `..` resolved, below the repository's root.
fn resolve(document: &str, link: &str) -> PathBuf {
    let joined = Path::new(document).parent().unwrap_or(Path::new("")).join(link);
    let mut resolved = PathBuf::new();
    for part in joined.components() {
        match part {
            Component::ParentDir => {
                resolved.pop();
            }
            Component::Normal(part) => resolved.push(part),
            _ => {}
        }
    }
    resolved
}

/// The targets of `[text](target)` and of `[text]: target` that lead to a file of the repository.
fn links(line: &str) -> Vec<&str> {
    let inline = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let reference = line.strip_prefix('[').and_then(|rest| Some(rest.split_once("]: ")?.1.trim()));
    let all = inline.chain(reference).map(|target| target.split('#').next().unwrap_or_default());
    all.filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:")).collect()
}

/// Each `scripts/NAME` on a line.
fn scripts(line: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    line.match_indices("scripts/")
        .filter(|(at, _)| !line[..*at].ends_with(|c: char| c.is_ascii_alphanumeric()))
        .map(|(at, _)| line[at..].chars().take_while(|c| is_name(*c)).collect::<String>())
        .map(|name| name.trim_end_matches(['.', '/']).to_owned())
        .collect()
}

fn document_faults(document: &File, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in document.text.lines().enumerate() {
        let linked = links(line).into_iter().map(|link| (link.to_owned(), resolve(&document.name, link)));
        let named = scripts(line).into_iter().map(|name| (name.clone(), PathBuf::from(name)));
        let missing = linked.chain(named).filter(|(_, path)| !exists(path));
        faults.extend(missing.map(|(text, _)| format!("{}:{}: {text} is not there", document.name, number + 1)));
    }
    faults
}

#[test]
fn documents_name_only_what_exists() {
    let documents: Vec<File> = files().into_iter().filter(|file| file.name.ends_with(".md")).collect();
    assert!(documents.iter().any(|file| file.name.starts_with("docs/")), "the walk missed docs/");
    let exists = |path: &Path| root().join(path).exists();
    hold(&documents.iter().flat_map(|file| document_faults(file, exists)).collect::<Vec<_>>());
}

#[test]
fn a_dead_link_and_a_missing_script_are_caught() {
    let there = ["docs/format.md", "scripts/demo", "scripts", "README.md", "docs"];
    let sample = |name: &str, text: &str| {
        let document = File { name: name.into(), text: text.into() };
        document_faults(&document, |path| there.iter().any(|there| Path::new(there) == path))
    };
    caught(&sample("README.md", "see [it](docs/gone.md#part)"), "docs/gone.md");
    caught(&sample("docs/format.md", "first\n[up](README.md)"), "docs/format.md:2");
    caught(&sample("README.md", "[it]: docs/gone.md"), "docs/gone.md");
    caught(&sample("README.md", "run `scripts/gone`, then rest"), "scripts/gone");
    hold(&sample("docs/format.md", "[up](../README.md), [here](#part), [far](https://example.org/scripts)"));
    hold(&sample("README.md", "Run `scripts/demo`. All are in scripts/."));
}

/// Directories of one person's machine. Put together here, so that this file doesn't break its own rule.
const PRIVATE: &[&str] = &[concat!("/", "work"), concat!("/", "home"), concat!("/", "root")];

fn names_private(line: &str, dir: &str) -> bool {
    // Part of a longer path, of a URL, or of a word like "and/or".
    let joins = |c: char| c.is_alphanumeric() || "._-/}~".contains(c);
    line.match_indices(dir).any(|(at, _)| {
        let rest = &line[at + dir.len()..];
        !line[..at].ends_with(joins) && !rest.starts_with(|c: char| c.is_alphanumeric() || "_-".contains(c))
    })
}

fn path_faults(file: &File) -> Vec<String> {
    let lines = file.text.lines().enumerate();
    let hits = lines.flat_map(|(number, line)| {
        PRIVATE.iter().filter(move |dir| names_private(line, dir)).map(move |dir| (number + 1, dir))
    });
    hits.map(|(line, dir)| format!("{}:{line}: {dir} is a place on one machine", file.name)).collect()
}

#[test]
fn no_text_names_a_place_on_one_machine() {
    hold(&files().iter().flat_map(path_faults).collect::<Vec<_>>());
}

#[test]
fn a_private_path_is_caught() {
    let sample = |text: &str| path_faults(&File { name: "README.md".into(), text: text.into() });
    for dir in PRIVATE {
        caught(&sample(&format!("first\nsee `{dir}/notes`")), "README.md:2");
        caught(&sample(&format!("cd {dir}")), dir);
        hold(&sample(&format!("https://example.org{dir}/x, target{dir}, {dir}bench/x, $TMP{dir}")));
    }
}
