//! The time spans, checked against each other.
//!
//! Pure: part of `settings.rs`. What each span means is in [`Timing`]. The rules keep what the protocol's proofs rest on: a
//! beat is shorter than the silence that others act on, and a mover gives up a silent member before a tie is broken.

use super::read::{Reader, Table};
use crate::config::{Ms, Timing};
use crate::node::TICK;

/// Nothing in here may take longer than an hour.
const LONGEST: u64 = 3_600_000;

/// A span's name in the file, and its place in [`Timing`].
type Span = (&'static str, fn(&mut Timing) -> &mut Ms);

const SPANS: [Span; 13] = [
    ("beat_ms", |timing| &mut timing.beat),
    ("act_after_ms", |timing| &mut timing.act_after),
    ("stale_after_ms", |timing| &mut timing.stale_after),
    ("rank_delay_ms", |timing| &mut timing.rank_delay),
    ("stood_ms", |timing| &mut timing.stood),
    ("resend_ms", |timing| &mut timing.resend),
    ("checkpoint_every_ms", |timing| &mut timing.checkpoint_every),
    ("max_pause_ms", |timing| &mut timing.max_pause),
    ("evict_after_ms", |timing| &mut timing.evict_after),
    ("look_every_ms", |timing| &mut timing.look_every),
    ("hand_over_ms", |timing| &mut timing.hand_over),
    ("stuck_after_ms", |timing| &mut timing.stuck_after),
    ("retry_ms", |timing| &mut timing.retry),
];

/// The table `[timing]`; what it doesn't name has its default.
pub(super) fn read(reader: &mut Reader<'_>, top: &Table<'_>) -> Timing {
    let mut timing = Timing::DEFAULT;
    let Some(table) = reader.table(top, "timing") else {
        return timing;
    };
    let known: Vec<&str> = SPANS.iter().map(|(name, _)| *name).chain(["missed", "tries"]).collect();
    reader.only(&table, &known);
    for (name, field) in SPANS {
        // Time passes for the protocol in ticks; less than one can't be kept.
        if let Some(span) = reader.number(&table, name, TICK.0..LONGEST + 1) {
            *field(&mut timing) = Ms(span);
        }
    }
    if let Some(missed) = reader.number(&table, "missed", 1..101) {
        timing.missed = missed;
    }
    if let Some(tries) = reader.number(&table, "tries", 1..1_001).and_then(|tries| u32::try_from(tries).ok()) {
        timing.tries = tries;
    }
    check(reader, &table, &timing);
    timing
}

/// One rule: the longer span, and what it must be above, with the reason.
struct Rule {
    name: &'static str,
    span: Ms,
    above: Ms,
    what: &'static str,
    why: &'static str,
}

fn rules(timing: &Timing) -> [Rule; 7] {
    let rule = |name, span, above, what, why| Rule { name, span, above, what, why };
    let two_beats = Ms(timing.beat.0 * 2);
    let suspected = Ms(timing.beat.0 * timing.missed);
    let two_resends = Ms(timing.resend.0 * 2);
    [
        rule(
            "act_after_ms",
            timing.act_after,
            suspected,
            "`beat_ms` times `missed`",
            "a node is suspected before others act",
        ),
        rule(
            "stale_after_ms",
            timing.stale_after,
            two_beats,
            "two beats",
            "a sector that beats would seem to stand still",
        ),
        rule("stale_after_ms", timing.stale_after, timing.look_every, "`look_every_ms`", "it is judged by looks"),
        rule(
            "evict_after_ms",
            timing.evict_after,
            suspected,
            "`beat_ms` times `missed`",
            "a node is suspected before it is evicted",
        ),
        rule("rank_delay_ms", timing.rank_delay, timing.beat, "`beat_ms`", "who comes next must hear who came first"),
        rule("max_pause_ms", timing.max_pause, two_resends, "twice `resend_ms`", "a lost message must not end a step"),
        rule(
            "hand_over_ms",
            timing.hand_over,
            timing.max_pause,
            "`max_pause_ms`",
            "a take-over takes longer than a step",
        ),
    ]
}

fn check(reader: &mut Reader<'_>, table: &Table<'_>, timing: &Timing) {
    for Rule { name, span, above, what, why } in rules(timing) {
        if span <= above {
            let (is, least) = (span.0, above.0 + 1);
            let text =
                format!("`{name}` is {is}, which must be above {what} ({}): {why}; write {least} or more", above.0);
            reader.mistake(table.place(name), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_keep_their_own_rules() {
        for rule in rules(&Timing::DEFAULT) {
            assert!(rule.span > rule.above, "{}: {:?} is not above {:?}", rule.name, rule.span, rule.above);
        }
        let mut timing = Timing::DEFAULT;
        let spans: std::collections::BTreeSet<Ms> =
            SPANS.map(|(_, field)| std::mem::replace(field(&mut timing), Ms(0))).into();
        assert!(spans.len() > 1 && !spans.contains(&Ms(0)), "a span is named twice: {spans:?}");
    }
}
