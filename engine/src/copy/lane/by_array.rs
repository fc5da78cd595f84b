//! An extent that the array copies, and the trial before it is trusted.
//!
//! Acts, through the LUN trait and `offload`.
//!
//! The trial comes before the first extent is handed out, where the copy will write anyway: at both ends of what is left, so
//! that an array that does not mind the address, or a part of it, is found out. Each byte of the target is first made to
//! differ from the source's, so that nothing that lay there before can pass for a copy. Then the array copies, and the
//! target must hold the source's bytes. The source is read again: an array that copies the wrong way round would have changed
//! it.
//!
//! What must hold: an array that fails the trial may have written anywhere on the target. A copy from the beginning writes
//! all of it after that; one that goes on from a checkpoint would leave the damage below it, and ends.

use tokio::time::Instant;

use super::{Landed, Lane};
use crate::copy::board::Progress;
use crate::copy::error::{CopyError, Side};
use crate::copy::offload::Offload;
use crate::copy::transfer::WithBuf;
use crate::copy::zeroes::ZeroMode;
use crate::lun::LunIo;
use crate::lun::xcopy::ArrayError;
use crate::units::{Bytes, Span};

/// How many extents are looked at from either end for one that can be read.
const CANDIDATES: u64 = 16;

/// What became of a trial.
enum Tried {
    /// The target held what it should.
    Right,
    /// It did not.
    Wrong,
    /// The extent is no good for a trial.
    Unfit,
    /// The array gave up, or the copy was stopped.
    Over,
}

impl<S: LunIo, T: LunIo<Buf = S::Buf>> Lane<'_, S, T> {
    /// Lets the array copy `span`; nothing where it may not or does not, so that this host must.
    pub(super) async fn by_array(&self, offload: &Offload, span: Span) -> Result<Option<Landed>, CopyError> {
        let Some(commands) = offload.commands(span).filter(|_| offload.is_trusted()) else { return Ok(None) };
        let _turn = offload.turn().await;
        if self.board.is_stopped() {
            return Ok(Some(Landed::Stopped));
        }
        let landed = self.sent(offload, &commands).await?;
        if matches!(landed, Some(Landed::Done)) {
            offload.has_moved(span);
            Progress::add(&self.state.progress.copied, span.len());
        }
        Ok(landed)
    }

    async fn sent(&self, offload: &Offload, commands: &[Span]) -> Result<Option<Landed>, CopyError> {
        for &command in commands {
            if offload.gave_up().is_some() {
                return Ok(None);
            }
            if self.board.has_failed() {
                return Ok(Some(Landed::Stopped));
            }
            let started = Instant::now();
            let done = offload.send(command).await;
            self.latencies.borrow_mut().write(started.elapsed());
            match done {
                Ok(()) => {}
                Err(ArrayError::GaveUp(why)) => {
                    offload.give_up(why);
                    return Ok(None);
                }
                Err(ArrayError::Fatal(error)) => {
                    let (what, block) = ("copying inside the array", self.state.target_block);
                    return Err(CopyError::of_request(what, Side::Target, command, block, error));
                }
            }
        }
        Ok(Some(Landed::Done))
    }

    /// Puts the array to the proof over `rest`, what is left to copy. It is trusted after this, or given up.
    ///
    /// # Errors
    /// Where a LUN fails, and where the array has damaged what was copied before.
    pub async fn try_array(&self, offload: &Offload, rest: Span, mut buf: S::Buf) -> WithBuf<(), S::Buf> {
        if self.state.zero_mode.get() == ZeroMode::Skip {
            offload.give_up("zeroes are left alone on this target, and a trial would write there".into());
            return (Ok(()), buf);
        }
        let mut first = None;
        for candidates in candidates(rest, self.state.extent) {
            let mut unfit = true;
            for span in candidates.into_iter().filter(|span| first != Some(*span)) {
                if self.board.is_stopped() {
                    return (Ok(()), buf);
                }
                let tried;
                (tried, buf) = self.trial(offload, buf, span).await;
                match tried {
                    Ok(Tried::Unfit) => {}
                    Ok(Tried::Right) => {
                        tracing::info!(%span, "the array has copied a trial extent right");
                        (first, unfit) = (Some(span), false);
                        break;
                    }
                    Ok(Tried::Over) => return (Ok(()), buf),
                    Ok(Tried::Wrong) => return (found_out(offload, rest, span), buf),
                    Err(error) => return (Err(error), buf),
                }
            }
            if unfit && first.is_none() {
                offload.give_up("none of the extents at an end of what is left would do for a trial".into());
                return (Ok(()), buf);
            }
        }
        offload.trust();
        (Ok(()), buf)
    }

    async fn trial(&self, offload: &Offload, buf: S::Buf, span: Span) -> WithBuf<Tried, S::Buf> {
        let len = span.len().as_len();
        let Some(commands) = offload.commands(span) else { return (Ok(Tried::Unfit), buf) };
        let (read, mut buf) = self.reader().part(buf, 0..len, span.start).await;
        match read {
            Ok(None) => {}
            // A bad block.
            Ok(Some(_)) => return (Ok(Tried::Unfit), buf),
            Err(error) => return (Err(error), buf),
        }
        let original = buf.as_ref()[..len].to_vec();
        buf.as_mut()[..len].iter_mut().for_each(|byte| *byte = !*byte);
        let written;
        (written, buf) = self.write_all(buf, 0..len, span.start).await;
        match written {
            Ok(Landed::Done) => {}
            Ok(_) => return (Ok(Tried::Over), buf),
            Err(error) => return (Err(error), buf),
        }
        match self.sent(offload, &commands).await {
            Ok(Some(Landed::Done)) => {}
            Ok(_) => return (Ok(Tried::Over), buf),
            Err(error) => return (Err(error), buf),
        }
        let read;
        (read, buf) = self.reader().exactly(buf, span).await;
        if let Err(error) = read {
            return (Err(error), buf);
        }
        if buf.as_ref()[..len] != original {
            let words = format!("the array's EXTENDED COPY wrote to it at {span}: it copies the wrong way round");
            return (Err(CopyError::SourceChanged(words)), buf);
        }
        let read;
        (read, buf) = self.writer().exactly(buf, span).await;
        let right = buf.as_ref()[..len] == original;
        (read.map(|()| if right { Tried::Right } else { Tried::Wrong }), buf)
    }
}

/// What an array that copied a trial wrong means.
fn found_out(offload: &Offload, rest: Span, span: Span) -> Result<(), CopyError> {
    offload.give_up(format!(
        "the array said that it had copied {span}, and the target does not hold that: it wrote nothing, or elsewhere; look \
         which other LUNs bear the target's designator"
    ));
    if rest.start > Bytes::ZERO { Err(CopyError::ArrayLied { span, watermark: rest.start }) } else { Ok(()) }
}

/// Where a trial may be made: whole extents from the start of `rest` on, and from its end down. A rest of less than one is
/// its own.
fn candidates(rest: Span, extent: Bytes) -> [Vec<Span>; 2] {
    let whole = rest.len().0 / extent.0;
    let nth = |i: u64| Span::at(rest.start + Bytes(i * extent.0), extent);
    if whole == 0 {
        return [vec![rest], Vec::new()];
    }
    let up = (0..whole.min(CANDIDATES)).map(nth).collect();
    let down = (0..whole).rev().take(Bytes(CANDIDATES).as_len()).map(nth).collect();
    [up, down]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_are_at_both_ends() {
        let span = |start, end| Span::new(Bytes(start), Bytes(end));
        let [up, down] = candidates(span(5, 1000), Bytes(10));
        assert_eq!((up.len(), up[0], down.len(), down[0]), (16, span(5, 15), 16, span(985, 995)));
        assert_eq!(candidates(span(5, 17), Bytes(10)), [vec![span(5, 15)], vec![span(5, 15)]]);
        assert_eq!(candidates(span(5, 9), Bytes(10)), [vec![span(5, 9)], vec![]]);
    }
}
