//! Whether an array can copy between two LUNs, and in which pieces.
//!
//! Pure: what both LUNs and the copy manager say in, values out.
//!
//! What must hold: two LUNs that share a designator are refused, always. The copy manager would take one of them for the
//! other, and say that all went well (LIO builds the NAA from a part of the serial number; measured).

use lunferry_scsi::command::copy::CopyPlace;
use lunferry_scsi::page::copy::OperatingParameters;
use lunferry_scsi::page::designator::{Association, Designator};

use crate::lun::sg::facts::ScsiFacts;
use crate::units::Bytes;

/// NUMBER OF BLOCKS is two bytes (SPC-4: block device to block device segment descriptor).
const MOST_BLOCKS: u64 = u16::MAX as u64;

/// Two CSCD descriptors of 32 bytes.
const PLACES_BYTES: u32 = 64;

/// One segment descriptor.
const SEGMENT_BYTES: u32 = 28;

/// What one command copies at most. Above this nothing is won, and Ctrl-C has to wait.
const LARGEST_COMMAND: Bytes = Bytes::mib(64);

/// What a copy manager takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyLimits {
    /// The most that one segment copies.
    pub segment: Bytes,
    /// The most segments of one command.
    pub segments: u64,
    /// Every segment starts and ends on a multiple of this.
    pub grain: Bytes,
    /// How many commands may run at once.
    pub at_once: usize,
    /// It takes copies without a list identifier.
    pub unnamed: bool,
}

impl CopyLimits {
    /// The most that one command copies.
    pub fn command(&self) -> Bytes {
        let most = Bytes(self.segment.0.saturating_mul(self.segments)).min(LARGEST_COMMAND);
        most.max(self.segment).align_down(self.segment)
    }
}

/// What the copy manager's answer allows, for LUNs with blocks of `block`.
///
/// # Errors
/// What it lacks.
pub fn limits(parameters: &OperatingParameters, block: Bytes) -> Result<CopyLimits, String> {
    if !parameters.copies_between_blocks() {
        return Err("the copy manager does not list copies from block device to block device by designator".into());
    }
    if parameters.max_places < 2 || parameters.max_segments == 0 {
        return Err("the copy manager takes less than two places and one segment".into());
    }
    let exponent = u32::from(parameters.granularity_exponent.unwrap_or(0));
    let grain = 1u64.checked_shl(exponent).map_or(Bytes(u64::MAX), Bytes).max(block);
    let most = Bytes(MOST_BLOCKS.saturating_mul(block.0));
    let most = parameters.max_segment_bytes.map_or(most, |bytes| most.min(Bytes(u64::from(bytes))));
    let segment = most.align_down(grain);
    let by_list = parameters.max_list_bytes.saturating_sub(PLACES_BYTES) / SEGMENT_BYTES;
    let segments = u64::from(by_list.min(u32::from(parameters.max_segments)));
    if segment == Bytes::ZERO || segments == 0 || !grain.is_multiple_of(block) {
        return Err(format!("the copy manager's limits leave no room for a segment: {parameters:?}"));
    }
    let at_once = parameters.max_concurrent.map_or(1, |most| usize::from(most.max(1)));
    Ok(CopyLimits { segment, segments, grain, at_once, unnamed: parameters.unnamed_lists })
}

/// Both LUNs as the copy manager names them.
///
/// # Errors
/// Why it can't copy between them.
pub fn places(from: &ScsiFacts, to: &ScsiFacts) -> Result<(CopyPlace, CopyPlace), String> {
    let (mut names, mut all) = (Vec::new(), Vec::new());
    for (side, facts) in [("source", from), ("target", to)] {
        if facts.inquiry.third_party_copy != Some(true) {
            return Err(format!("the {side} does not say that it knows third-party copies (3PC)"));
        }
        let listed: Vec<&Designator> = facts.designators.iter().flat_map(|all| &all.list).filter(names_a_lun).collect();
        let whole = facts.designators.as_ref().is_some_and(|all| all.completeness.is_whole());
        let best = listed.iter().copied().max_by_key(|designator| designator.naa()).filter(|_| whole);
        names.push(best.cloned().ok_or_else(|| format!("the {side} has no NAA designator to name it by"))?);
        all.push(listed);
    }
    if let Some(shared) = all[0].iter().find(|one| all[1].iter().any(|other| one.names_same_as(other))) {
        return Err(format!(
            "source and target have the same designator, naa.{}: the array can't tell them apart and would copy the wrong \
             data without an error; give the LUNs serial numbers that differ",
            shared.shown()
        ));
    }
    if from.capacity.block != to.capacity.block {
        return Err("source and target have different block sizes".into());
    }
    let mut place = |facts: &ScsiFacts| CopyPlace { designator: names.remove(0), block: facts.capacity.block };
    Ok((place(from), place(to)))
}

/// NAA designators of the logical unit: what LIO and the arrays take.
fn names_a_lun(designator: &&Designator) -> bool {
    designator.association == Association::LogicalUnit && designator.naa().is_some()
}

#[cfg(test)]
mod tests {
    use lunferry_scsi::bytes::Completeness;

    use super::*;

    fn parameters() -> OperatingParameters {
        OperatingParameters {
            unnamed_lists: true,
            max_places: 2,
            max_segments: 1,
            max_list_bytes: 1024,
            max_segment_bytes: Some(256 << 20),
            max_concurrent: Some(1),
            granularity_exponent: Some(9),
            descriptor_types: Some(vec![0x02, 0xE4]),
            completeness: Completeness::Whole,
        }
    }

    #[test]
    fn what_lio_says_is_one_segment_of_65535_blocks() {
        for (block, segment) in [(512, 65535 * 512), (4096, 65535 * 4096)] {
            let limits = limits(&parameters(), Bytes(block)).expect("it copies");
            assert_eq!((limits.segment, limits.segments, limits.at_once), (Bytes(segment), 1, 1));
            assert_eq!((limits.grain, limits.command()), (Bytes(block), Bytes(segment)));
        }
    }

    #[test]
    fn several_segments_and_a_coarse_grain() {
        let many = OperatingParameters {
            max_segments: 16,
            max_list_bytes: 64 + 5 * 28 + 27,
            max_segment_bytes: Some((1 << 20) + 1),
            granularity_exponent: Some(16),
            max_concurrent: None,
            ..parameters()
        };
        let limits = limits(&many, Bytes(512)).expect("it copies");
        assert_eq!((limits.segment, limits.segments), (Bytes::mib(1), 5), "as many as fit the list");
        assert_eq!((limits.grain, limits.command(), limits.at_once), (Bytes::kib(64), Bytes::mib(5), 1));
    }

    #[test]
    fn limits_that_leave_nothing_are_none() {
        for lacking in [
            OperatingParameters { descriptor_types: None, ..parameters() },
            OperatingParameters { max_places: 1, ..parameters() },
            OperatingParameters { max_segments: 0, ..parameters() },
            OperatingParameters { max_list_bytes: 64, ..parameters() },
            OperatingParameters { max_segment_bytes: Some(511), ..parameters() },
            OperatingParameters { granularity_exponent: Some(200), ..parameters() },
        ] {
            assert!(limits(&lacking, Bytes(512)).is_err(), "{lacking:?}");
        }
    }
}
