//! Reads what `wipefs --json` prints.
//!
//! Pure: text in, values out.

use serde::Deserialize;

use crate::lun::facts::{Signature, SignatureUse};
use crate::units::Bytes;

#[derive(Deserialize)]
struct Report {
    signatures: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    offset: String,
    #[serde(rename = "type")]
    kind: String,
    usage: Option<String>,
    label: Option<String>,
    uuid: Option<String>,
}

/// The signatures in a report of wipefs. Nothing at all, where it found none, is what util-linux before 2.37 prints.
///
/// # Errors
/// What is wrong with the text.
pub fn wipefs(json: &[u8]) -> Result<Vec<Signature>, String> {
    if json.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let report: Report = serde_json::from_slice(json).map_err(|err| format!("no list of signatures: {err}"))?;
    report.signatures.into_iter().map(signature).collect()
}

fn signature(row: Row) -> Result<Signature, String> {
    let digits = row.offset.strip_prefix("0x").ok_or_else(|| format!("the offset `{}`", row.offset))?;
    let offset = u64::from_str_radix(digits, 16).map_err(|err| format!("the offset `{}`: {err}", row.offset))?;
    let usage = match row.usage.as_deref() {
        Some("filesystem") => SignatureUse::Filesystem,
        Some("raid") => SignatureUse::Raid,
        Some("crypto") => SignatureUse::Crypto,
        Some("partition-table") => SignatureUse::PartitionTable,
        _ => SignatureUse::Other,
    };
    Ok(Signature { kind: row.kind, usage, offset: Bytes(offset), label: row.label, uuid: row.uuid })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_read_as_wipefs_2_38_prints_them() {
        let text = br#"{ "signatures": [
            { "offset": "0x438", "type": "ext4", "usage": "filesystem", "label": "a\"b", "uuid": "e5c9" },
            { "offset": "0x3fffe00", "type": "gpt", "usage": "partition-table", "label": null, "uuid": null } ] }"#;
        let found = wipefs(text).unwrap();
        assert_eq!(found[0].kind, "ext4");
        assert_eq!(found[0].usage, SignatureUse::Filesystem);
        assert_eq!(found[0].offset, Bytes(0x438));
        assert_eq!(found[0].label.as_deref(), Some("a\"b"));
        assert_eq!(found[1].usage, SignatureUse::PartitionTable);
        assert_eq!(found[1].offset, Bytes(0x03ff_fe00));
        assert_eq!(wipefs(br#"{ "signatures": [ ] }"#), Ok(vec![]));
    }

    #[test]
    fn what_is_no_report_is_an_error() {
        let texts: [&[u8]; 4] = [
            b"DEVICE OFFSET TYPE UUID LABEL",
            br#"{ "signatures": "#,
            br#"{ "signatures": [ { "offset": "1080", "type": "ext4" } ] }"#,
            br#"{ "signatures": [ { "offset": "0xzz", "type": "ext4" } ] }"#,
        ];
        for text in texts {
            assert!(wipefs(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
    }
}
