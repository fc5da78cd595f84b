//! Standard INQUIRY data (SPC-4: standard INQUIRY data), the list of VPD pages (00h, SPC-4: Supported VPD Pages VPD
//! page) and the unit serial number (80h, SPC-4: Unit Serial Number VPD page).
//!
//! Pure: bytes in, values out.

use crate::bytes::{Completeness, Fields, ParseError, bit, text};

/// PERIPHERAL QUALIFIER (SPC-4: PERIPHERAL QUALIFIER field).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qualifier {
    /// 000b: the logical unit is there.
    Connected,
    /// 001b: it could be, and isn't.
    NotConnected,
    /// 011b: this target can't have a logical unit at that number.
    Impossible,
    /// Reserved or vendor specific.
    Other(u8),
}

/// PERIPHERAL DEVICE TYPE of a direct access block device (SBC).
pub const BLOCK_DEVICE: u8 = 0x00;

/// The fields of standard INQUIRY data that Lunferry looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandardInquiry {
    /// Whether there is a logical unit.
    pub qualifier: Qualifier,
    /// What it is: 00h is a block device.
    pub device_type: u8,
    /// VERSION: 06h is SPC-4.
    pub version: u8,
    /// TPGS: 0 no asymmetric access, 1 implicit, 2 explicit, 3 both. Nothing where the device sent no byte 5.
    pub tpgs: Option<u8>,
    /// 3PC: third-party copy commands are there.
    pub third_party_copy: Option<bool>,
    /// PROTECT: protection information is there.
    pub protect: Option<bool>,
    /// CMDQUE: it queues commands.
    pub queues: Option<bool>,
    /// T10 VENDOR IDENTIFICATION, without padding.
    pub vendor: Option<String>,
    /// PRODUCT IDENTIFICATION, without padding.
    pub product: Option<String>,
    /// PRODUCT REVISION LEVEL, without padding.
    pub revision: Option<String>,
    /// Whether all that was announced came. SCSI-2 devices announce 36 bytes, later ones up to 260.
    pub completeness: Completeness,
}

/// Reads standard INQUIRY data.
///
/// # Errors
/// Where there are not even the five bytes of its header.
pub fn standard(bytes: &[u8]) -> Result<StandardInquiry, ParseError> {
    let fields = Fields::new("standard INQUIRY data", bytes);
    let first = fields.u8(0, "PERIPHERAL DEVICE TYPE")?;
    let version = fields.u8(2, "VERSION")?;
    let announced = fields.u8(4, "ADDITIONAL LENGTH")?;
    let (_, completeness) = fields.body(5, u64::from(announced));
    let byte = |at| fields.get(at).map(|[byte]: [u8; 1]| byte);
    Ok(StandardInquiry {
        qualifier: match first >> 5 {
            0b000 => Qualifier::Connected,
            0b001 => Qualifier::NotConnected,
            0b011 => Qualifier::Impossible,
            other => Qualifier::Other(other),
        },
        device_type: first & 0x1F,
        version,
        tpgs: byte(5).map(|byte| byte >> 4 & 0b11),
        third_party_copy: byte(5).map(|byte| bit(byte, 3)),
        protect: byte(5).map(|byte| bit(byte, 0)),
        queues: byte(7).map(|byte| bit(byte, 1)),
        vendor: fields.get::<8>(8).map(|bytes| text(&bytes)),
        product: fields.get::<16>(16).map(|bytes| text(&bytes)),
        revision: fields.get::<4>(32).map(|bytes| text(&bytes)),
        completeness,
    })
}

/// The header that every VPD page has (SPC-4: VPD page format): checks the page code, gives the body.
pub(crate) fn vpd<'a>(
    what: &'static str,
    page: u8,
    bytes: &'a [u8],
) -> Result<(Fields<'a>, &'a [u8], Completeness), ParseError> {
    let fields = Fields::new(what, bytes);
    let code = fields.u8(1, "PAGE CODE")?;
    if code != page {
        let expected = "the device answered with another page; it does not know EVPD, or not this page";
        return Err(ParseError::Wrong { what, field: "PAGE CODE", value: u64::from(code), expected });
    }
    let announced = fields.u16(2, "PAGE LENGTH")?;
    let (body, completeness) = fields.body(4, u64::from(announced));
    // Later fields are read at their offsets from the page's start, and never from behind its announced end.
    let page = Fields::new(what, bytes.get(..body.len() + 4).unwrap_or(bytes));
    Ok((page, body, completeness))
}

/// The VPD pages that a device has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupportedPages {
    /// Page codes, as the device lists them.
    pub pages: Vec<u8>,
    /// Whether that is all of them.
    pub completeness: Completeness,
}

/// Reads VPD page 00h (SPC-4: Supported VPD Pages VPD page).
///
/// # Errors
/// Where it is another page or ends in its header.
pub fn supported_pages(bytes: &[u8]) -> Result<SupportedPages, ParseError> {
    let (_, body, completeness) = vpd("VPD page 00h", 0x00, bytes)?;
    Ok(SupportedPages { pages: body.to_vec(), completeness })
}

/// Reads VPD page 80h (SPC-4: Unit Serial Number VPD page): the serial number without padding, or nothing where the
/// device sends spaces. A serial that was cut is an error: another LUN's may begin with the same characters.
///
/// # Errors
/// Where it is another page, ends in its header, or did not come whole.
pub fn serial(bytes: &[u8]) -> Result<Option<String>, ParseError> {
    let what = "VPD page 80h";
    let (_, body, completeness) = vpd(what, 0x80, bytes)?;
    match completeness {
        Completeness::Whole | Completeness::Ragged { .. } => {}
        Completeness::Cut { announced, .. } => {
            let need = usize::try_from(announced).unwrap_or(usize::MAX);
            return Err(ParseError::Short { what, field: "PRODUCT SERIAL NUMBER", need, have: bytes.len() });
        }
    }
    Ok(Some(text(body)).filter(|serial| !serial.is_empty()))
}
