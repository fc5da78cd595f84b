//! Captures: text files of hexadecimal bytes, `#` up to the line's end for remarks. The first line says whether a file
//! was captured from a device or constructed from a standard.

use std::path::PathBuf;

/// The bytes of a text, or what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<u8>, String> {
    let code = text.lines().flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace());
    code.map(|word| {
        let digits = word.len() == 2 && word.chars().all(|c| c.is_ascii_hexdigit());
        let byte = digits.then(|| u8::from_str_radix(word, 16).ok()).flatten();
        byte.ok_or_else(|| format!("`{word}` is no byte of two hexadecimal digits"))
    })
    .collect()
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/captures")
}

/// The bytes of a capture.
pub fn bytes(name: &str) -> Vec<u8> {
    let path = directory().join(format!("{name}.hex"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of all captures.
pub fn names() -> Vec<String> {
    let entries = std::fs::read_dir(directory()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.map(|name| name.strip_suffix(".hex").expect(&name).to_owned()).collect();
    names.sort();
    names
}

#[test]
fn remarks_and_spaces_are_no_bytes() {
    assert_eq!(parse("# 00 11\n 0a  FF # 22\n\n7f").unwrap(), [0x0A, 0xFF, 0x7F]);
    for wrong in ["1", "123", "0x1", "zz", "+1"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn every_capture_says_where_it_is_from() {
    assert!(names().len() > 30);
    for name in names() {
        let text = std::fs::read_to_string(directory().join(format!("{name}.hex"))).unwrap();
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("# Constructed, not captured: ") || first.starts_with("# Captured: "), "{name}");
        assert!(!bytes(&name).is_empty(), "{name}");
    }
}
