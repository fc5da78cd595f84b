//! Layouts for every kind of pair of lengths: nothing overlaps, nothing is left out.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use proptest::prelude::*;

use super::*;

const SECTOR: u64 = 512;

fn specs() -> impl Strategy<Value = AreaSpec> {
    let odd = (0..6u16, 0..200_000u64, 0..20u64).prop_map(|(nodes, bitmap, spare)| {
        let bitmap = Bytes(bitmap);
        let content = (GRANULE.0 + bitmap.align_up(GRANULE).0) * u64::from(nodes) + 2 * GRANULE.0;
        let size = Bytes(content.max(AreaSpec::COMPACT.size.0) + spare * GRANULE.0);
        AreaSpec { size, nodes, bitmap }
    });
    prop_oneof![Just(AreaSpec::V1), Just(AreaSpec::COMPACT), odd]
}

/// A spec, a target that holds it, and a source: as large as the target, somewhat smaller, or anything below.
fn layouts() -> impl Strategy<Value = Layout> {
    let sectors = |bytes: Bytes| bytes.0 / SECTOR;
    specs().prop_flat_map(move |spec| {
        let least = sectors(spec.size);
        (least..least + 20_000).prop_flat_map(move |target| {
            let source = prop_oneof![Just(target), target.saturating_sub(400)..=target, 0..=target];
            source.prop_map(move |source| Layout::of(spec, Bytes(target * SECTOR), Bytes(source * SECTOR)).unwrap())
        })
    })
}

fn parts(layout: &Layout) -> Vec<Span> {
    let nodes = (0..layout.spec().nodes).map(NodeId);
    let mut parts = vec![layout.slot(SlotId::A), layout.slot(SlotId::B)];
    parts.extend(nodes.clone().map(|node| layout.heartbeat(node).unwrap()));
    parts.extend(nodes.map(|node| layout.bitmap(node).unwrap()).filter(|bitmap| !bitmap.is_empty()));
    parts
}

/// The granules that `span` touches.
fn granules(span: Span) -> Span {
    Span::new(span.start.align_down(GRANULE), span.end.align_up(GRANULE))
}

/// Whether `pieces`, put in order, are exactly `whole` without a gap or an overlap.
fn tile(whole: Span, mut pieces: Vec<Span>) -> bool {
    pieces.retain(|piece| !piece.is_empty());
    pieces.sort();
    let end = pieces.iter().try_fold(whole.start, |at, piece| (piece.start == at).then_some(piece.end));
    end == Some(whole.end)
}

proptest! {
    #[test]
    fn no_two_parts_share_a_granule_and_all_lie_in_the_area(layout in layouts()) {
        let parts = parts(&layout);
        for (at, part) in parts.iter().enumerate() {
            prop_assert!(layout.area().start <= part.start && part.end <= layout.area().end, "{part} outside");
            prop_assert!(part.start.is_multiple_of(GRANULE));
            for other in &parts[at + 1..] {
                prop_assert!(!granules(*part).overlaps(granules(*other)), "{part} and {other}");
            }
        }
        prop_assert!(layout.area().end <= layout.target_len());
        prop_assert!(layout.target_len() - layout.area().end < GRANULE);
        prop_assert!(layout.slot(SlotId::B).start - layout.slot(SlotId::A).start >= SLOT_DISTANCE);
    }

    #[test]
    fn bulk_pieces_and_slots_tile_the_source(layout in layouts(), physical in prop_oneof![Just(512u64), Just(4096), Just(65536)]) {
        let source = Span::new(Bytes::ZERO, layout.source_len());
        prop_assert!(tile(source, vec![Span::new(Bytes::ZERO, layout.bulk_end()), layout.overlay()]));

        let mut pieces = layout.overlay_without_slots();
        prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
        pieces.extend(SlotId::BOTH.map(|slot| layout.slot_source_part(slot)));
        prop_assert!(tile(layout.overlay(), pieces.clone()), "{:?} of {}", pieces, layout.overlay());

        for slot in SlotId::BOTH {
            let (head, rest) = (layout.slot_head(slot, Bytes(physical)), layout.slot_rest(slot, Bytes(physical)));
            prop_assert!(tile(layout.slot_source_part(slot), vec![head, rest]));
            prop_assert!(head.is_empty() || head.start == layout.slot(slot).start);
            prop_assert!(head.len().0 <= physical);
        }
    }

    #[test]
    fn ordinary_copying_never_touches_the_area(layout in layouts()) {
        prop_assert!(layout.bulk_end() <= layout.area().start);
        match layout.kind() {
            LayoutKind::PastEnd => {
                prop_assert!(layout.overlay().is_empty());
                prop_assert_eq!(layout.bulk_end(), layout.source_len());
                prop_assert!(!Span::new(Bytes::ZERO, layout.source_len()).overlaps(layout.area()));
            }
            LayoutKind::Overlay => prop_assert!(!layout.overlay().is_empty()),
        }
    }

    #[test]
    fn slots_are_found_without_the_source(layout in layouts()) {
        for slot in SlotId::BOTH {
            prop_assert_eq!(layout.spec().slot(layout.target_len(), slot), Ok(layout.slot(slot)));
        }
    }

    #[test]
    fn no_numbers_make_it_panic(size: u64, nodes: u16, bitmap: u64, target: u64, source: u64) {
        let spec = AreaSpec { size: Bytes(size), nodes, bitmap: Bytes(bitmap) };
        if let Ok(layout) = Layout::of(spec, Bytes(target), Bytes(source)) {
            prop_assert!(layout.area().end <= layout.target_len());
        }
    }
}

/// The edges, by hand: a target of 8 MiB with the standard area, the source's end moved across it.
#[test]
fn the_source_end_moves_across_the_area() {
    let target = Bytes::mib(8);
    let start = Bytes::mib(4);
    let of = |source: u64| Layout::of(AreaSpec::V1, target, Bytes(source)).unwrap();

    assert_eq!(of(start.0).kind(), LayoutKind::PastEnd);
    assert_eq!(of(start.0 + SECTOR).kind(), LayoutKind::Overlay);
    assert_eq!(of(start.0 + SECTOR).slot_source_part(SlotId::A), Span::at(start, Bytes(SECTOR)));
    assert!(of(start.0 + SECTOR).slot_source_part(SlotId::B).is_empty());
    assert_eq!(of(start.0 + SECTOR).overlay_without_slots(), []);

    let b = Bytes(target.0 - GRANULE.0);
    let whole = of(target.0);
    assert_eq!(whole.overlay(), Span::new(start, target));
    assert_eq!(whole.slot_source_part(SlotId::B), Span::new(b, target));
    assert_eq!(whole.overlay_without_slots(), [Span::new(start + GRANULE, b)]);
    assert_eq!(whole.heartbeat(NodeId(0)), Some(Span::at(start + GRANULE, GRANULE)));
    assert_eq!(whole.heartbeat(NodeId(16)), None);
    assert_eq!(whole.bitmap(NodeId(15)).map(|span| span.len()), Some(Bytes::kib(128)));
    assert_eq!(whole.bitmap(NodeId(16)), None);
}

/// A target that is no multiple of 64 KiB has bytes behind slot B; they belong to the overlay range.
#[test]
fn the_tail_behind_slot_b_is_an_overlay_piece() {
    let target = Bytes(Bytes::mib(8).0 + 3 * SECTOR);
    let layout = Layout::of(AreaSpec::V1, target, target).unwrap();
    assert_eq!(layout.overlay_without_slots().last(), Some(&Span::new(Bytes::mib(8), target)));
}

#[test]
fn what_has_no_layout_is_refused_by_name() {
    let mib = Bytes::mib;
    let error = |spec, target, source| Layout::of(spec, target, source).unwrap_err();
    assert_eq!(
        error(AreaSpec::V1, Bytes(mib(4).0 - 1), mib(1)),
        LayoutError::TooSmall { target_len: Bytes(mib(4).0 - 1), size: mib(4) }
    );
    assert_eq!(
        error(AreaSpec::V1, mib(8), mib(9)),
        LayoutError::SourceLarger { target_len: mib(8), source_len: mib(9) }
    );
    assert_eq!(error(AreaSpec::V1, Bytes(1 << 63), mib(9)), LayoutError::TooLarge { target_len: Bytes(1 << 63) });

    let size = |size| AreaSpec { size, ..AreaSpec::COMPACT };
    for bad in [mib(1), Bytes(AreaSpec::COMPACT.size.0 + 1), Bytes::ZERO] {
        assert!(matches!(error(size(bad), mib(8), mib(8)), LayoutError::Spec { field: "area size", .. }), "{bad:?}");
    }
    let crowded = AreaSpec { nodes: 22, ..AreaSpec::V1 };
    assert!(matches!(error(crowded, mib(8), mib(8)), LayoutError::Spec { field: "area size", .. }));
    let bitmap = AreaSpec { bitmap: Bytes(1 << 32), ..AreaSpec::V1 };
    assert!(matches!(error(bitmap, mib(8), mib(8)), LayoutError::Spec { field: "bitmap size", .. }));
    assert!(Layout::of(AreaSpec::COMPACT, AreaSpec::COMPACT.size, AreaSpec::COMPACT.size).is_ok());
}
