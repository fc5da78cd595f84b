//! Reads Rust source as far as the rules of the house need it: code without comments and strings, and the paths in it.
//!
//! Pure: text in, values out. It's no parser. What must hold: nothing that the compiler takes as code is dropped, line
//! numbers stay, and a `use` tree counts as every path that it spells.

/// `source` with each comment, and the inside of each string and character literal, replaced by spaces. Lines stay lines.
pub(crate) fn strip(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skippable(&chars, at);
        match end {
            Some(end) => {
                out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
                at = end;
            }
            None => {
                // A whole word at once, so that the `r` of `for"` isn't taken for a raw string's.
                let end = at + word_len(&chars[at..]).max(1);
                out.extend(&chars[at..end]);
                at = end;
            }
        }
    }
    out
}

/// Where the comment, string or character literal that starts at `at` ends, if one does.
fn skippable(chars: &[char], at: usize) -> Option<usize> {
    let rest = &chars[at..];
    match rest {
        ['/', '/', ..] => Some(at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => Some(at + block_comment(rest)),
        ['"', ..] => Some(at + quoted(rest, '"')),
        ['\'', ..] => character(rest).map(|len| at + len),
        ['b' | 'c', '"', ..] => Some(at + 1 + quoted(&rest[1..], '"')),
        ['b', '\'', ..] => Some(at + 1 + quoted(&rest[1..], '\'')),
        ['b' | 'c', 'r', '"' | '#', ..] => raw(&rest[1..]).map(|len| at + 1 + len),
        ['r', '"' | '#', ..] => raw(rest).map(|len| at + len),
        _ => None,
    }
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// `'a'` and `'\n'` are literals, `'a` in `&'a str` is a lifetime.
fn character(rest: &[char]) -> Option<usize> {
    match rest {
        ['\'', '\\', ..] => Some(quoted(rest, '\'')),
        ['\'', _, '\'', ..] => Some(3),
        _ => None,
    }
}

/// `r"..."` and `r##"..."##`; `r#type` is a name, not a string.
fn raw(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let body = 2 + hashes;
    let end = (body..rest.len())
        .find(|at| rest[*at] == '"' && rest[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes);
    Some(end.map_or(rest.len(), |at| at + 1 + hashes))
}

fn word_len(rest: &[char]) -> usize {
    rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count()
}

/// A path as code spells it, such as `std::fs::File`; one segment for a plain name, with a `!` for a macro's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
}

impl Path {
    /// Whether `banned` stands anywhere in this path, segment by segment, or a glob takes it in.
    pub(crate) fn names(&self, banned: &str) -> bool {
        let banned: Vec<&str> = banned.split("::").collect();
        let has = self.segments.windows(banned.len()).any(|window| window == banned.as_slice());
        let globbed = match self.segments.as_slice() {
            [parents @ .., glob] if glob == "*" => parents == &banned[..banned.len() - 1] && !parents.is_empty(),
            _ => false,
        };
        has || globbed
    }
}

/// Every path of `source`, outside comments and strings.
pub(crate) fn paths(source: &str) -> Vec<Path> {
    let stripped = strip(source);
    let mut reader = Reader { tokens: tokens(&stripped), at: 0, found: Vec::new() };
    while let Some((_, token)) = reader.tokens.get(reader.at) {
        if is_word(token) {
            reader.path(&[]);
        } else {
            reader.at += 1;
        }
    }
    reader.found
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Words, `::`, and single characters of everything else, each with its line.
fn tokens(stripped: &str) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    for (number, line) in stripped.lines().enumerate() {
        let chars: Vec<char> = line.chars().collect();
        let mut at = 0;
        while at < chars.len() {
            let len = match chars[at..] {
                [':', ':', ..] => 2,
                _ => word_len(&chars[at..]).max(1),
            };
            if !chars[at].is_whitespace() {
                all.push((number + 1, chars[at..at + len].iter().collect()));
            }
            at += len;
        }
    }
    all
}

struct Reader {
    tokens: Vec<(usize, String)>,
    at: usize,
    found: Vec<Path>,
}

impl Reader {
    fn token(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |(_, token)| token)
    }

    /// Reads one path from a word on, with the braces of a `use` tree if it has any.
    fn path(&mut self, parents: &[String]) {
        let line = self.tokens[self.at].0;
        let mut segments = parents.to_vec();
        segments.push(self.token(0).to_owned());
        self.at += 1;
        while self.token(0) == "::" && (is_word(self.token(1)) || self.token(1) == "*") {
            segments.push(self.token(1).to_owned());
            self.at += 2;
        }
        if self.token(0) == "::" && self.token(1) == "{" {
            self.at += 2;
            self.group(&segments);
            return;
        }
        if self.token(0) == "!" && self.token(1) != "=" {
            segments.last_mut().expect("a path has a segment").push('!');
        }
        self.found.push(Path { line, segments });
    }

    fn group(&mut self, parents: &[String]) {
        while self.at < self.tokens.len() {
            match self.token(0) {
                "}" => {
                    self.at += 1;
                    return;
                }
                "as" => self.at += 2,
                "self" => {
                    let line = self.tokens[self.at].0;
                    self.found.push(Path { line, segments: parents.to_vec() });
                    self.at += 1;
                }
                "*" => {
                    let line = self.tokens[self.at].0;
                    let segments = parents.iter().cloned().chain(["*".to_owned()]).collect();
                    self.found.push(Path { line, segments });
                    self.at += 1;
                }
                token if is_word(token) => self.path(parents),
                _ => self.at += 1,
            }
        }
    }
}

#[test]
fn comments_and_strings_are_not_code() {
    let source = r##"
        let a = "std::fs"; // std::net
        /* libc /* nested */ nix */ let b = 'x'; let c = '\''; let d = '"';
        fn f<'a>(x: &'a str) -> u8 { b'"' } let e = r#"quote " unsafe"#; let r#type = b"tokio\"";
        real::code();
    "##;
    let stripped = strip(source);
    for hidden in ["std", "libc", "nix", "unsafe", "tokio", "nested"] {
        assert!(!stripped.contains(hidden), "{hidden} is left: {stripped}");
    }
    for code in ["let a", "let b", "let c", "let d", "fn f<'a>", "&'a str", "r#type", "real::code()"] {
        assert!(stripped.contains(code), "{code} is gone: {stripped}");
    }
    assert_eq!(stripped.lines().count(), source.lines().count());
}

#[test]
fn use_trees_spell_out_every_path() {
    let source =
        "use std::{collections::BTreeMap, fs::{self, File as F}, os::*};\nlet x = todo!(); a != b;\nstd :: net::x()";
    let found: Vec<String> =
        paths(source).iter().map(|path| format!("{} {}", path.line, path.segments.join("::"))).collect();
    for path in
        ["1 std::collections::BTreeMap", "1 std::fs", "1 std::fs::File", "1 std::os::*", "2 todo!", "3 std::net::x"]
    {
        assert!(found.iter().any(|found| found == path), "{path} is not in {found:?}");
    }
    assert!(!found.iter().any(|found| found.ends_with("a!")), "a comparison is no macro: {found:?}");
    let glob = Path { line: 1, segments: vec!["std".into(), "*".into()] };
    assert!(glob.names("std::fs") && !glob.names("libc"));
}
