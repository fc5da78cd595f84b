//! No bytes make a parser panic: each capture cut at every place, each with every byte changed, and random ones.

use lunferry_scsi::category::categorise;
use lunferry_scsi::cdb::{Command, Transfer};
use lunferry_scsi::command::enquiry::PortGroupsFormat;
use lunferry_scsi::command::thin::Unmap;
use lunferry_scsi::command::transfer::{Caching, Read16};
use lunferry_scsi::page::{
    capacity, copy, designator, identity, inquiry, limits, lists, ports, reservation, transport_id,
};
use lunferry_scsi::sense;
use lunferry_scsi::status::{Completion, DriverStatus, HostStatus, Status};
use lunferry_scsi::units::{BlockCount, BlockRange, Lba};
use proptest::prelude::{any, prop};

use crate::capture::{bytes, names};

/// What a parser made of bytes, as text, so that all have one type.
fn show<T: std::fmt::Debug, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.map_or_else(|error| error.to_string(), |value| format!("{value:?}"))
}

type Parser = fn(&[u8]) -> String;

/// Each parser with the beginning of the names of its captures.
const PARSERS: [(&str, Parser); 21] = [
    ("inquiry", |data| show(inquiry::standard(data))),
    ("vpd00", |data| show(inquiry::supported_pages(data))),
    ("vpd80", |data| show(inquiry::serial(data))),
    ("vpd83", |data| {
        show(designator::designators(data).map(|all| (format!("{:?}", identity::best_designator(&all)), all)))
    }),
    ("vpdb0", |data| show(limits::block_limits(data))),
    ("vpdb1", |data| show(limits::characteristics(data))),
    ("vpdb2", |data| show(limits::provisioning(data))),
    ("readcap10", |data| show(capacity::capacity_10(data))),
    ("readcap16", |data| show(capacity::capacity_16(data))),
    ("lbastatus", |data| show(lists::lba_status(data, Lba(100)))),
    ("luns", |data| show(lists::report_luns(data))),
    ("rtpg-two", |data| show(ports::target_port_groups(data, PortGroupsFormat::LengthOnly))),
    ("rtpg-extended", |data| show(ports::target_port_groups(data, PortGroupsFormat::Extended))),
    ("prkeys", |data| show(reservation::read_keys(data))),
    ("prresv", |data| show(reservation::read_reservation(data))),
    ("prcap", |data| show(reservation::capabilities(data))),
    ("prfull", |data| show(reservation::full_status(data))),
    ("rcrparams", |data| show(copy::operating_parameters(data))),
    ("rcrstatus", |data| show(copy::copy_status(data))),
    ("sense", |data| show(sense::sense(data))),
    ("transport", |data| transport_id::transport_id(data).map_or(String::new(), |id| id.to_string())),
];

#[test]
fn every_capture_has_a_parser() {
    for name in names() {
        assert!(PARSERS.iter().any(|(prefix, _)| name.starts_with(prefix)), "{name}");
    }
}

#[test]
fn a_capture_cut_anywhere_is_an_error_or_says_that_it_is_cut() {
    for name in names() {
        let whole = bytes(&name);
        for (prefix, parse) in PARSERS {
            let own = name.starts_with(prefix);
            let parsed = parse(&whole);
            for end in 0..whole.len() {
                let cut = parse(&whole[..end]);
                // Lists of keys, LUNs, designators and registrations must never look whole when they are not.
                if own
                    && ["vpd83", "prkeys", "prfull", "luns", "lbastatus", "rtpg"].iter().any(|p| prefix.starts_with(p))
                {
                    assert!(!cut.contains("Whole") || cut == parsed, "{name} cut at {end}: {cut}");
                }
            }
        }
    }
}

#[test]
fn a_capture_with_any_byte_changed_is_read_or_refused() {
    for name in names() {
        for (_, parse) in PARSERS.iter().filter(|(prefix, _)| name.starts_with(prefix)) {
            let mut changed = bytes(&name);
            for at in 0..changed.len() {
                let kept = changed[at];
                for value in [0, 1, 0x7F, 0x80, 0xFF, kept ^ 1] {
                    changed[at] = value;
                    parse(&changed);
                }
                changed[at] = kept;
            }
        }
    }
}

proptest::proptest! {
    #[test]
    fn random_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..600)) {
        for (_, parse) in PARSERS {
            parse(&data);
        }
    }

    #[test]
    fn random_bytes_behind_a_right_beginning(
        code: u8,
        page: u8,
        length in 0u16..512,
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let [high, low] = length.to_be_bytes();
        let header = [0, page, high, low];
        let vpd: Vec<u8> = header.into_iter().chain(rest.iter().copied()).collect();
        let list: Vec<u8> = [0, 0, 0, 1, 0, 0, high, low].into_iter().chain(rest.iter().copied()).collect();
        let sense: Vec<u8> = std::iter::once(0x70 | code & 3).chain(rest).collect();
        for data in [vpd, list, sense] {
            for (_, parse) in PARSERS {
                parse(&data);
            }
        }
    }

    #[test]
    fn every_completion_has_a_category(
        status: u8,
        host: u16,
        driver: u16,
        sense in prop::collection::vec(any::<u8>(), 0..64),
        requested: u32,
        residual: i32,
    ) {
        let completion = Completion {
            status: Status::from_code(status),
            host: HostStatus::from_code(host),
            driver: DriverStatus::from_code(driver),
            sense,
            requested,
            residual,
        };
        categorise(&completion, &Transfer::In(requested));
        categorise(&completion, &Transfer::BlocksIn(BlockCount(1)));
        assert!(completion.transferred() <= requested);
    }

    /// Encoding and decoding have one fact in common: a range comes back out of the CDB as it went in.
    #[test]
    fn a_range_comes_back_out_of_its_cdb(lba: u64, blocks: u32, fua: bool, dpo: bool) {
        let range = BlockRange::new(lba, u64::from(blocks));
        let caching = Caching { fua, dpo };
        let Ok(request) = (Read16 { range, caching }).request() else {
            assert!(blocks == 0 || lba.checked_add(u64::from(blocks)).is_none());
            return Ok(());
        };
        let cdb = request.cdb.as_bytes();
        assert_eq!(u64::from_be_bytes(cdb[2..10].try_into().unwrap()), lba);
        assert_eq!(u32::from_be_bytes(cdb[10..14].try_into().unwrap()), blocks);
        assert_eq!(cdb[1], u8::from(dpo) << 4 | u8::from(fua) << 3);
    }

    /// The descriptors of UNMAP and of GET LBA STATUS have one layout: what one sends, the other reads.
    #[test]
    fn unmap_descriptors_are_read_back(counts in prop::collection::vec(1u32..5000, 1..40), first in 0u64..1 << 60) {
        let mut at = first;
        let mut ranges = Vec::new();
        for count in counts {
            ranges.push(BlockRange::new(at, u64::from(count)));
            at += u64::from(count);
        }
        let request = Unmap { ranges: ranges.clone(), anchor: false }.request().unwrap();
        let Transfer::Out(list) = request.transfer else { panic!("UNMAP sends a list") };
        let length = u32::try_from(list.len() - 4).unwrap();
        let answer: Vec<u8> = length.to_be_bytes().into_iter().chain([0; 4]).chain(list[8..].iter().copied()).collect();
        let status = lists::lba_status(&answer, Lba(first)).unwrap();
        assert!(status.completeness.is_whole());
        assert_eq!(status.ranges.into_iter().map(|(range, _)| range).collect::<Vec<_>>(), ranges);
    }
}
