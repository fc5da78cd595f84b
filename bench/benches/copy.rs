//! What a copy does to every byte or every extent beside the I/O itself.

use std::convert::Infallible;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lunferry_engine::copy::queue::{ExtentQueue, QueueSizes, Take};
use lunferry_engine::copy::zeroes::{ZeroMode, is_zero, parts_to_write};
use lunferry_engine::digest::contribution;
use lunferry_engine::lun::Segment;
use lunferry_engine::units::{Bytes, Span};

const EXTENT: usize = 512 << 10;

/// Zero detection: on zeroes it reads all of the extent, on data it stops at the first page.
fn zeroes(c: &mut Criterion) {
    let (zero, data) = (vec![0u8; EXTENT], vec![0xa5u8; EXTENT]);
    let mut group = c.benchmark_group("zeroes");
    group.throughput(Throughput::Bytes(EXTENT as u64));
    group.bench_function("an extent of zeroes", |b| b.iter(|| is_zero(black_box(&zero))));
    group.bench_function("an extent of data", |b| b.iter(|| is_zero(black_box(&data))));
    group.bench_function("parts of data to write", |b| b.iter(|| parts_to_write(black_box(&data), ZeroMode::Skip)));
    group.finish();
}

/// The digest of an extent.
fn digest(c: &mut Criterion) {
    let data = vec![0xa5u8; EXTENT];
    let mut group = c.benchmark_group("digest");
    group.throughput(Throughput::Bytes(EXTENT as u64));
    group.bench_function("an extent", |b| b.iter(|| contribution(Bytes::ZERO, black_box(&data))));
    group.finish();
}

/// One extent through the queue, with sixteen in flight.
fn queue(c: &mut Criterion) {
    let extent = Bytes::from(EXTENT);
    let sizes = QueueSizes { extent, window: Bytes::mib(256), max_run: Bytes::mib(128), max_hole: Bytes::mib(128) };
    let scout = |_| Ok::<_, Infallible>(Segment { is_hole: false, end: Bytes(u64::MAX) });
    c.bench_function("queue step", |b| {
        let mut queue = ExtentQueue::new(Span::new(Bytes::ZERO, Bytes(1 << 62)), sizes);
        let mut flight = std::collections::VecDeque::new();
        b.iter(|| {
            if let Ok(Take::Extent(span)) = queue.take(scout) {
                flight.push_back(span);
            }
            if flight.len() > 16 {
                flight.pop_front().into_iter().for_each(|span| queue.done(span));
            }
        });
    });
}

criterion_group!(benches, zeroes, digest, queue);
criterion_main!(benches);
