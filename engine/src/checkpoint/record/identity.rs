//! The identity of a LUN as a record holds it: enough of the text to show, and a digest of all of it to compare.
//!
//! Pure: an identity in, 64 bytes out, and back.

use std::fmt;

use xxhash_rust::xxh3::xxh3_128;

use super::Defect;
use super::fields::{DIGEST, IDENTITY_LEN, KIND, TEXT, TEXT_LENGTH};
use crate::lun::identity::{Identity, IdentityKind};

/// What a record keeps of an [`Identity`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredIdentity {
    kind: IdentityKind,
    /// Bytes of the full text, capped at 255.
    text_length: u8,
    /// The full text where it fits, else its end.
    text: String,
    /// XXH3-128 of the full text.
    digest: u128,
}

impl StoredIdentity {
    /// What a record keeps of `identity`.
    pub fn of(identity: &Identity) -> Self {
        let full = identity.text.as_str();
        Self {
            kind: identity.kind,
            text_length: u8::try_from(full.len()).unwrap_or(u8::MAX),
            text: shown_part(full).to_owned(),
            digest: xxh3_128(full.as_bytes()),
        }
    }

    /// Whether both name the same LUN: kind and digest of the full text are equal.
    pub fn is_same_lun(&self, other: &Self) -> bool {
        self.kind == other.kind && self.digest == other.digest
    }

    /// Where the identity comes from.
    pub fn kind(&self) -> IdentityKind {
        self.kind
    }

    /// The text to show: the full one, or the end of one of more than 46 bytes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether [`StoredIdentity::text`] is the full text.
    pub fn is_whole(&self) -> bool {
        usize::from(self.text_length) <= TEXT.len
    }

    /// XXH3-128 of the full text.
    pub fn digest(&self) -> u128 {
        self.digest
    }

    pub(super) fn encode(&self) -> [u8; IDENTITY_LEN] {
        let mut bytes = [0; IDENTITY_LEN];
        KIND.put(&mut bytes, [self.kind as u8]);
        TEXT_LENGTH.put(&mut bytes, [self.text_length]);
        bytes[TEXT.range()][..self.text.len()].copy_from_slice(self.text.as_bytes());
        DIGEST.put(&mut bytes, self.digest.to_le_bytes());
        bytes
    }

    /// # Errors
    /// [`Defect::Malformed`] with the name `field`, where the bytes are none that [`StoredIdentity::encode`] makes.
    pub(super) fn decode(bytes: &[u8; IDENTITY_LEN], field: &'static str) -> Result<Self, Defect> {
        let wrong = |value: String, want| Defect::Malformed { field, value, want };
        let kind = KIND.u8(bytes);
        let kind = kind_of(kind).ok_or_else(|| wrong(format!("kind {kind}"), "a known kind of identity"))?;
        let text_length = TEXT_LENGTH.u8(bytes);
        let (shown, padding) = split_text(&bytes[TEXT.range()], text_length);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(wrong(format!("{padding:02x?} behind the text"), "zeroes"));
        }
        let text = match std::str::from_utf8(shown) {
            Ok(text) => text.to_owned(),
            Err(_) => return Err(wrong(format!("{shown:02x?}"), "UTF-8")),
        };
        let identity = Self { kind, text_length, text, digest: u128::from_le_bytes(DIGEST.bytes(bytes)) };
        if identity.is_whole() && identity.digest != xxh3_128(identity.text.as_bytes()) {
            return Err(wrong(format!("digest {:032x}", identity.digest), "the digest of its text"));
        }
        Ok(identity)
    }
}

/// The text, with an ellipsis where its beginning was cut off.
impl fmt::Display for StoredIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_whole() {
            f.write_str("...")?;
        }
        f.write_str(&self.text)
    }
}

/// The end of `full` that fits. A path differs most at its end. NULs at the very end would look like padding.
fn shown_part(full: &str) -> &str {
    if full.len() <= TEXT.len {
        return full;
    }
    let mut start = full.len() - TEXT.len;
    while !full.is_char_boundary(start) {
        start += 1;
    }
    full[start..].trim_end_matches('\0')
}

/// Divides the field into text and padding. A whole text has its length; of a cut one the padding is not counted, since
/// up to three bytes of a character may be missing.
fn split_text(field: &[u8], text_length: u8) -> (&[u8], &[u8]) {
    let whole = usize::from(text_length);
    let len = if whole <= TEXT.len { whole } else { field.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1) };
    field.split_at(len)
}

fn kind_of(number: u8) -> Option<IdentityKind> {
    match number {
        1 => Some(IdentityKind::Naa),
        2 => Some(IdentityKind::Eui),
        3 => Some(IdentityKind::NvmeUuid),
        4 => Some(IdentityKind::Serial),
        5 => Some(IdentityKind::DmUuid),
        6 => Some(IdentityKind::File),
        7 => Some(IdentityKind::KernelName),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

    use proptest::prelude::*;

    use super::*;

    fn stored(text: &str) -> StoredIdentity {
        StoredIdentity::of(&Identity::new(IdentityKind::File, text))
    }

    #[test]
    fn every_kind_has_its_number_back() {
        for number in 0..=u8::MAX {
            assert_eq!(kind_of(number).map(|kind| kind as u8), (1..=7).contains(&number).then_some(number));
        }
    }

    #[test]
    fn a_long_text_keeps_its_end_in_whole_characters() {
        let long = stored(&format!("/{}/disk.img", "ä".repeat(40)));
        assert!(long.text().ends_with("ä/disk.img") && long.text().len() == 45, "{long}");
        assert!(!long.is_whole());
        assert!(long.to_string().starts_with("...ä"));
        assert_eq!(stored(&"x".repeat(46)).to_string(), "x".repeat(46));
        assert_eq!(stored(&"x".repeat(300)).text_length, 255);
    }

    #[test]
    fn texts_that_differ_only_in_what_is_not_shown_are_different_luns() {
        let end = "x".repeat(60);
        let (one, two) = (stored(&format!("/a/{end}")), stored(&format!("/b/{end}")));
        assert_eq!(one.text(), two.text());
        assert!(!one.is_same_lun(&two));
        let naa = |kind| StoredIdentity::of(&Identity::new(kind, "600"));
        assert!(!naa(IdentityKind::Naa).is_same_lun(&naa(IdentityKind::Eui)));
    }

    #[test]
    fn bytes_that_nobody_wrote_are_named() {
        let good = stored("/disk").encode();
        for (at, value, part) in
            [(0, 0, "kind 0"), (0, 8, "kind 8"), (1, 4, "behind the text"), (2, 0xff, "ff"), (2, b'x', "digest")]
        {
            let mut bad = good;
            bad[at] = value;
            match StoredIdentity::decode(&bad, "source_identity") {
                Err(Defect::Malformed { field: "source_identity", value, .. }) => {
                    assert!(value.contains(part), "{value} without {part}");
                }
                other => panic!("byte {at} = {value:#x}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_stored_comes_back(text in "(\\PC|\0){0,80}") {
            let identity = stored(&text);
            prop_assert_eq!(StoredIdentity::decode(&identity.encode(), "source_identity"), Ok(identity));
        }
    }
}
