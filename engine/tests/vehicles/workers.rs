//! Workers that can't be set up: one of the helpers is left out, the first one is the copy's end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lunferry_engine::copy::error::CopyError;
use lunferry_engine::copy::vehicle::{BufOf, SgPair, Vehicle};
use lunferry_engine::lun::sg::SgLun;
use lunferry_engine::lun::sizing::Sizing;
use lunferry_engine::units::{Bytes, Span};
use lunferry_engine::verify::run::{Pass, Verified};

use crate::compare::equal;
use crate::support::{Luns, Opened};

/// A vehicle whose target can be had so many times alone, as where the process is out of descriptors.
struct Scarce {
    pair: SgPair,
    left: AtomicUsize,
}

impl Vehicle for Scarce {
    type Lun = SgLun;

    fn run<F: Future>(&self, requests: usize, future: F) -> io::Result<F::Output> {
        self.pair.run(requests, future)
    }

    fn buffers(&self, count: usize, len: Bytes) -> io::Result<Vec<BufOf<Self>>> {
        self.pair.buffers(count, len)
    }

    fn source(&self) -> io::Result<SgLun> {
        self.pair.source()
    }

    fn target(&self) -> io::Result<SgLun> {
        let take = |left: usize| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .map_err(|_| io::Error::from_raw_os_error(libc::EMFILE))?;
        self.pair.target()
    }

    fn set_up_error(&self, sizing: Sizing, error: io::Error) -> CopyError {
        self.pair.set_up_error(sizing, error)
    }
}

fn read_with(targets: usize, opened: &Opened) -> Result<Verified, CopyError> {
    let pass = Pass {
        block: Bytes(512),
        grain: Bytes(512),
        sizing: Sizing { extent: Bytes(8192), depth: 3, workers: 3 },
        controls: &Arc::default(),
        progress: &Arc::default(),
    };
    let pair = SgPair::new(Arc::clone(&opened.source), Arc::clone(&opened.target));
    let scarce = Scarce { pair, left: AtomicUsize::new(targets) };
    pass.reading(&scarce, &[Span::new(Bytes::ZERO, Bytes(300_032))])
}

#[test]
fn a_helper_without_a_view_of_a_lun_is_left_out_and_the_first_worker_without_one_is_an_error() {
    let luns = Luns::new(equal(), |_| {});
    let opened = luns.open();
    let found = read_with(1, &opened).expect("the first worker does it alone");
    assert!(found.is_equal() && found.by_reading_bytes == Bytes(300_032));
    let error = read_with(0, &opened).unwrap_err();
    assert!(matches!(error, CopyError::Memory { .. }), "{error}");
}
