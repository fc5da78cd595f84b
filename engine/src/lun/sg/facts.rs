//! What a SCSI device says of itself, asked once when it is opened for a copy.
//!
//! Acts through a transport: sends commands that change nothing. What follows from the answers is decided in `shape`.

use lunferry_scsi::bytes::{Completeness, ParseError};
use lunferry_scsi::command::enquiry::{Inquiry, ReadCapacity16};
use lunferry_scsi::initiator::{CommandError, Initiator};
use lunferry_scsi::page::capacity::{Capacity16, capacity_16};
use lunferry_scsi::page::designator::{Designators, designators};
use lunferry_scsi::page::inquiry::{StandardInquiry, standard, supported_pages};
use lunferry_scsi::page::limits::{BlockLimits, Provisioning, block_limits, provisioning};
use lunferry_scsi::transport::Transport;

/// What fits into one byte of a length field: old devices know no more.
const FIRST_ALLOCATION: u16 = 252;

/// What a device says of itself.
#[derive(Clone, Debug)]
pub struct ScsiFacts {
    /// Standard INQUIRY data.
    pub inquiry: StandardInquiry,
    /// Size and blocks.
    pub capacity: Capacity16,
    /// Page 83h.
    pub designators: Option<Designators>,
    /// Page B0h.
    pub limits: Option<BlockLimits>,
    /// Page B2h.
    pub provisioning: Option<Provisioning>,
}

/// Asks. The unit attentions that wait on this nexus are taken off it first.
///
/// # Errors
/// Where the device can't be asked. A page that it does not have is none.
pub fn ask(transport: &dyn Transport) -> Result<ScsiFacts, CommandError> {
    let initiator = Initiator::new(transport);
    for attention in initiator.clear_attentions()? {
        tracing::debug!(device = transport.name(), %attention, "met when the device was opened");
    }
    let inquiry = initiator.ask(&Inquiry { page: None, allocation: 36 }, standard)?;
    let capacity = initiator.ask(&ReadCapacity16, capacity_16)?;
    let pages = page(&initiator, 0x00, supported_pages, |pages| pages.completeness)?.map(|list| list.pages);
    let has = |code: u8| pages.as_ref().is_some_and(|pages| pages.contains(&code));
    let designators = if has(0x83) { page(&initiator, 0x83, designators, |list| list.completeness)? } else { None };
    let limits = if has(0xB0) { page(&initiator, 0xB0, block_limits, |page| page.completeness)? } else { None };
    let provisioning = if has(0xB2) { page(&initiator, 0xB2, provisioning, |page| page.completeness)? } else { None };
    Ok(ScsiFacts { inquiry, capacity, designators, limits, provisioning })
}

/// One VPD page, asked for again with the length that it has where it is longer; none where the device refuses it or sends
/// something else.
fn page<T>(
    initiator: &Initiator<'_>,
    code: u8,
    parse: impl Fn(&[u8]) -> Result<T, ParseError>,
    completeness: impl Fn(&T) -> Completeness,
) -> Result<Option<T>, CommandError> {
    let ask = |allocation| initiator.ask(&Inquiry { page: Some(code), allocation }, &parse);
    let mut answer = ask(FIRST_ALLOCATION);
    if let Ok(page) = &answer
        && let Completeness::Cut { announced, .. } = completeness(page)
        && let Ok(announced) = u16::try_from(announced)
        && announced > FIRST_ALLOCATION
    {
        answer = ask(announced);
    }
    match answer {
        Ok(page) => Ok(Some(page)),
        Err(error @ CommandError::Parse { .. }) => {
            tracing::warn!(%error, "this page is not believed");
            Ok(None)
        }
        Err(error) if error.is_unsupported() => {
            tracing::debug!(%error, "the device lists a page that it does not give");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
