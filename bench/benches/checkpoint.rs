//! What one checkpoint costs besides its I/O: encoding a record (which reads it back) and decoding one.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use lunferry_engine::checkpoint::record::{RECORD_LEN, Record};

static GOLDEN: &[u8; RECORD_LEN] = include_bytes!("../../fixtures/golden/checkpoint-v1.bin");

fn checkpoint(criterion: &mut Criterion) {
    let placed = Record::decode(GOLDEN).expect("the golden image is a record");
    criterion.bench_function("checkpoint/encode", |bencher| {
        bencher.iter(|| black_box(&placed.record).encode(placed.slot));
    });
    criterion.bench_function("checkpoint/decode", |bencher| bencher.iter(|| Record::decode(black_box(GOLDEN))));
}

criterion_group!(benches, checkpoint);
criterion_main!(benches);
