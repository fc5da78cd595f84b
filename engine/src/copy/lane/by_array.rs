//! An extent that the array copies, and the trial before it is trusted.
//!
//! Acts, through the LUN trait and `offload`.
//!
//! The trial is made where the copy will write anyway, the first extents of what is left. Each byte of the target is first
//! made to differ from the source's, so that nothing that lay there before can pass for a copy; on a target that is known to
//! hold zeroes that must stay, an extent with data is taken instead. Then the array copies, and the target must hold the
//! source's bytes. An extent at the LUN's start does not prove that the array minds the address, so one further up is tried
//! as well. The source is read again: an array that copies the wrong way round would have changed it.

use tokio::time::Instant;

use super::{Landed, Lane};
use crate::copy::board::Progress;
use crate::copy::error::{CopyError, Side};
use crate::copy::offload::{Offload, Trust};
use crate::copy::transfer::WithBuf;
use crate::copy::zeroes::{ZeroMode, is_zero};
use crate::lun::LunIo;
use crate::lun::xcopy::ArrayError;
use crate::units::{Bytes, Span};

/// What became of an extent that the array was asked to copy.
pub(super) enum Carried {
    /// The array did it, or it was stopped.
    ByArray(Landed),
    /// This host must.
    ByHand {
        /// Whether the target may hold anything there now.
        touched: bool,
    },
}

impl<S: LunIo, T: LunIo<Buf = S::Buf>> Lane<'_, S, T> {
    /// Lets the array copy `span`, if it may and does.
    pub(super) async fn by_array(&self, offload: &Offload, buf: S::Buf, span: Span) -> WithBuf<Carried, S::Buf> {
        let Some(commands) = offload.commands(span) else {
            return (Ok(Carried::ByHand { touched: false }), buf);
        };
        let _turn = offload.turn().await;
        let mut trust = offload.trust().await;
        if offload.gave_up().is_some() {
            return (Ok(Carried::ByHand { touched: false }), buf);
        }
        if self.board.is_stopped() {
            return (Ok(Carried::ByArray(Landed::Stopped)), buf);
        }
        if *trust == Trust::OnTrial {
            let (tried, buf) = self.trial(offload, &commands, buf, span).await;
            let tried = tried.inspect(|carried| self.count(offload, carried, span));
            if matches!(tried, Ok(Carried::ByArray(Landed::Done))) && span.start > Bytes::ZERO {
                tracing::info!(%span, "the array has copied a trial segment right, and is trusted");
                *trust = Trust::Trusted;
            }
            return (tried, buf);
        }
        drop(trust);
        let sent = self.sent(offload, &commands).await;
        (sent.inspect(|carried| self.count(offload, carried, span)), buf)
    }

    fn count(&self, offload: &Offload, carried: &Carried, span: Span) {
        if matches!(carried, Carried::ByArray(Landed::Done)) {
            offload.has_moved(span);
            Progress::add(&self.state.progress.copied, span.len());
        }
    }

    async fn sent(&self, offload: &Offload, commands: &[Span]) -> Result<Carried, CopyError> {
        for &command in commands {
            if self.board.has_failed() {
                return Ok(Carried::ByArray(Landed::Stopped));
            }
            let started = Instant::now();
            let done = offload.send(command).await;
            self.latencies.borrow_mut().write(started.elapsed());
            match done {
                Ok(()) => {}
                Err(ArrayError::GaveUp(why)) => {
                    offload.give_up(why);
                    return Ok(Carried::ByHand { touched: true });
                }
                Err(ArrayError::Fatal(error)) => {
                    let (what, block) = ("copying inside the array", self.state.target_block);
                    return Err(CopyError::of_request(what, Side::Target, command, block, error));
                }
            }
        }
        Ok(Carried::ByArray(Landed::Done))
    }

    async fn trial(&self, offload: &Offload, commands: &[Span], buf: S::Buf, span: Span) -> WithBuf<Carried, S::Buf> {
        let len = span.len().as_len();
        let by_hand = |touched| Ok(Carried::ByHand { touched });
        let (read, mut buf) = self.reader().part(buf, 0..len, span.start).await;
        match read {
            Ok(None) => {}
            // A bad block: another extent will do for a trial.
            Ok(Some(_)) => return (by_hand(false), buf),
            Err(error) => return (Err(error), buf),
        }
        let original = buf.as_ref()[..len].to_vec();
        if self.state.zero_mode.get() == ZeroMode::Skip {
            if is_zero(&original) {
                return (by_hand(false), buf);
            }
        } else {
            buf.as_mut()[..len].iter_mut().for_each(|byte| *byte = !*byte);
            let written;
            (written, buf) = self.write_all(buf, 0..len, span.start).await;
            match written {
                Ok(Landed::Done) => {}
                other => return (other.map(Carried::ByArray), buf),
            }
        }
        match self.sent(offload, commands).await {
            Ok(Carried::ByArray(Landed::Done)) => {}
            other => return (other, buf),
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
        if let Err(error) = read {
            return (Err(error), buf);
        }
        if buf.as_ref()[..len] != original {
            offload.give_up(format!(
                "the array said that it had copied {span}, and the target does not hold that: it wrote nothing, or to another \
                 LUN; look which others bear the target's designator"
            ));
            return (by_hand(true), buf);
        }
        (Ok(Carried::ByArray(Landed::Done)), buf)
    }
}
