//! The choice between the two slots of a checkpoint: nothing that stands in them makes it panic, and what is gone on from
//! is a record that was valid in its slot, for these two LUNs, with the next write to the other slot.
#![no_main]

mod image;

use libfuzzer_sys::fuzz_target;
use lunferry_engine::checkpoint::layout::SlotId;
use lunferry_engine::checkpoint::record::Record;
use lunferry_engine::checkpoint::slots::{Choice, Expected, SlotView, choose, inspect};

fuzz_target!(|input: (&[u8], &[u8])| {
    let (a, b) = (image::from(input.0), image::from(input.1));
    // The LUNs at hand are those that the first good record speaks of; the other slot's may speak of others.
    let Some(placed) = [&a, &b].into_iter().find_map(|bytes| Record::decode(bytes).ok()) else {
        choose(inspect(&a, SlotId::A, 0.into(), None), inspect(&b, SlotId::B, 0.into(), None));
        return;
    };
    let record = placed.record;
    let expected = Expected {
        source: record.source.clone(),
        target: record.target.clone(),
        source_len: record.layout.source_len(),
        target_len: record.layout.target_len(),
        target_block: record.target_block,
    };
    let view = |bytes, slot| inspect(bytes, slot, record.layout.slot(slot).start, Some(&expected));
    let views = (view(&a, SlotId::A), view(&b, SlotId::B));
    let choice = choose(views.0.clone(), views.1.clone());
    if let Choice::Use { record: chosen, from, next_write, .. } = choice {
        let stood_there = if from == SlotId::A { views.0 } else { views.1 };
        assert_eq!(stood_there, SlotView::Valid(chosen.clone()), "chosen, and not what stood in slot {from}");
        assert_eq!(next_write, from.other(), "the chosen record would be overwritten first");
        assert!(chosen.source.is_same_lun(&expected.source) && chosen.target.is_same_lun(&expected.target));
        assert!(chosen.watermark <= chosen.layout.source_len());
    }
});
