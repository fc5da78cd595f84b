//! Values out of a parsed config file, each with its place, and the list of what is wrong.
//!
//! Pure: part of `settings.rs`.

use core::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use uuid::Uuid;

use super::Mistake;

/// Where something stands: its first byte.
pub(super) type Place = usize;

/// A file, and what is wrong with it so far.
pub(super) struct Reader<'t> {
    text: &'t str,
    mistakes: Vec<(Place, String)>,
}

/// The whole file.
pub(super) struct Document<'t>(Spanned<DeTable<'t>>);

impl<'t> Document<'t> {
    pub(super) fn table(&self) -> Table<'_> {
        Table { map: self.0.get_ref(), at: 0 }
    }
}

/// One table of it.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    map: &'a DeTable<'a>,
    pub(super) at: Place,
}

impl<'a> Table<'a> {
    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.map.iter().find(|(name, _)| name.get_ref().as_ref() == key).map(|(_, value)| value)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Where the value of `key` stands; where it is missing, the table itself.
    pub(super) fn place(&self, key: &str) -> Place {
        self.get(key).map_or(self.at, |value| value.span().start)
    }

    /// Every key with its place.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&'a str, Place)> {
        self.map.keys().map(|key| (key.get_ref().as_ref(), key.span().start))
    }
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, mistakes: Vec::new() }
    }

    /// The file as far as it is TOML; what isn't is a mistake.
    pub(super) fn document(&mut self) -> Document<'t> {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let at = error.span().map_or(0, |span: Range<usize>| span.start);
            self.mistake(at, format!("this is no TOML: {}", error.message().trim()));
        }
        Document(document)
    }

    pub(super) fn mistake(&mut self, at: Place, what: String) {
        self.mistakes.push((at, what));
    }

    /// Every mistake, in the order of the lines.
    pub(super) fn mistakes(mut self) -> Vec<Mistake> {
        self.mistakes.sort_by_key(|(at, _)| *at);
        let place = |(at, what): (Place, String)| {
            let before = self.text.get(..at).unwrap_or(self.text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            Mistake { line, column, what }
        };
        std::mem::take(&mut self.mistakes).into_iter().map(place).collect()
    }

    pub(super) fn missing(&mut self, table: &Table<'_>, key: &str, mend: &str) {
        self.mistake(table.at, format!("`{key}` is missing; {mend}"));
    }

    /// Every key of the table must be one of these.
    pub(super) fn only(&mut self, table: &Table<'_>, known: &[&str]) {
        for (key, at) in table.keys().filter(|(key, _)| !known.contains(key)) {
            self.mistake(at, format!("`{key}` is no setting here; there are: {}", known.join(", ")));
        }
    }

    fn wrong_kind(&mut self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let kind = value.get_ref().type_str();
        self.mistake(value.span().start, format!("`{key}` is of the type {kind}; write {wanted}"));
    }

    /// A text that isn't empty.
    pub(super) fn text<'a>(&mut self, table: &Table<'a>, key: &str) -> Option<&'a str> {
        let value = table.get(key)?;
        match value.get_ref().as_str() {
            Some("") => {
                self.mistake(value.span().start, format!("`{key}` is empty; write what is meant, or leave it out"))
            }
            Some(text) => return Some(text),
            None => self.wrong_kind(key, value, "it in quotes"),
        }
        None
    }

    /// A text that means something.
    pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(&mut self, table: &Table<'_>, key: &str) -> Option<T> {
        let text = self.text(table, key)?;
        let read = text.parse();
        read.map_err(|why| self.mistake(table.place(key), format!("`{key}`: {why}"))).ok()
    }

    /// A UUID that must be there.
    pub(super) fn uuid(&mut self, table: &Table<'_>, key: &str) -> Option<Uuid> {
        if !table.has(key) {
            self.missing(table, key, "write a UUID, such as `uuidgen` prints one");
        }
        let text = self.text(table, key)?;
        let uuid = Uuid::parse_str(text).ok().filter(|uuid| !uuid.is_nil());
        if uuid.is_none() {
            self.mistake(table.place(key), format!("`{key}` is `{text}`, which is no UUID; `uuidgen` prints one"));
        }
        uuid
    }

    /// A path from the root.
    pub(super) fn path(&mut self, table: &Table<'_>, key: &str) -> Option<PathBuf> {
        let text = self.text(table, key)?;
        if !text.starts_with('/') {
            self.mistake(table.place(key), format!("`{key}` is `{text}`; write the whole path, from `/` on"));
            return None;
        }
        Some(text.into())
    }

    /// A whole number within `range`.
    pub(super) fn number(&mut self, table: &Table<'_>, key: &str, range: Range<u64>) -> Option<u64> {
        let value = table.get(key)?;
        let Some(written) = value.get_ref().as_integer() else {
            self.wrong_kind(key, value, "a whole number");
            return None;
        };
        let number = u64::from_str_radix(written.as_str(), written.radix()).ok().filter(|n| range.contains(n));
        if number.is_none() {
            let (from, to) = (range.start, range.end - 1);
            let what = format!("`{key}` is {}; write a number from {from} to {to}", written.as_str());
            self.mistake(value.span().start, what);
        }
        number
    }

    /// True or false.
    pub(super) fn flag(&mut self, table: &Table<'_>, key: &str) -> Option<bool> {
        let value = table.get(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong_kind(key, value, "true or false");
        }
        flag
    }

    /// A list of texts, each with its place.
    pub(super) fn texts<'a>(&mut self, table: &Table<'a>, key: &str) -> Vec<(&'a str, Place)> {
        let Some(value) = table.get(key) else {
            return Vec::new();
        };
        let Some(list) = value.get_ref().as_array() else {
            self.wrong_kind(key, value, "a list of texts in brackets");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in list.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push((text, item.span().start)),
                None => self.wrong_kind(key, item, "each of them in quotes"),
            }
        }
        texts
    }

    /// One table.
    pub(super) fn table<'a>(&mut self, table: &Table<'a>, key: &str) -> Option<Table<'a>> {
        let value = table.get(key)?;
        let inner = value.get_ref().as_table().map(|map| Table { map, at: value.span().start });
        if inner.is_none() {
            self.wrong_kind(key, value, &format!("a table, [{key}]"));
        }
        inner
    }

    /// Every table of a list of tables.
    pub(super) fn tables<'a>(&mut self, table: &Table<'a>, key: &str) -> Vec<Table<'a>> {
        let Some(value) = table.get(key) else {
            return Vec::new();
        };
        let Some(list) = value.get_ref().as_array() else {
            self.wrong_kind(key, value, &format!("tables, [[{key}]]"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in list.iter() {
            match item.get_ref().as_table() {
                Some(map) => tables.push(Table { map, at: item.span().start }),
                None => self.wrong_kind(key, item, &format!("tables, [[{key}]]")),
            }
        }
        tables
    }

    /// A text for all of `nodes`, or a table with one for each: the text, and the place among them where it is for one.
    /// Other names in that table are mistakes where `complete`.
    pub(super) fn text_for<'a>(
        &mut self,
        table: &Table<'a>,
        key: &str,
        nodes: &[&str],
        complete: bool,
    ) -> Vec<(&'a str, Option<usize>)> {
        if !table.get(key).is_some_and(|value| value.get_ref().is_table()) {
            return self.text(table, key).map(|text| (text, None)).into_iter().collect();
        }
        let Some(inner) = self.table(table, key) else {
            return Vec::new();
        };
        if complete {
            self.only(&inner, nodes);
        }
        let mut found = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            if !inner.has(node) {
                self.missing(&inner, node, &format!("`{key}` is given for each node, so write it for this one too"));
            }
            found.extend(self.text(&inner, node).map(|text| (text, Some(index))));
        }
        found
    }
}
