//! A migration's status, in words for people.
//!
//! Pure: values to lines.

use lunferry_cluster::agent::told::Happened;
use lunferry_cluster::agent::view::{MigrationView, PartView};
use lunferry_engine::units::{Bytes, BytesPerSecond};

/// Above [`row`]s.
pub const LIST_HEAD: &str = "migration         state            mover             durable                 rate";

/// One migration in a list.
pub fn row(view: &MigrationView) -> String {
    let state = view.state.as_deref().unwrap_or("-");
    format!("{:<17} {state:<16} {:<17} {:<23} {}", view.name, mover(view), progress(view), rate(view))
        .trim_end()
        .to_owned()
}

fn mover(view: &MigrationView) -> &str {
    view.mover.as_ref().map_or("-", |node| &node.name)
}

/// `1.5 GiB of 4.0 GiB`.
fn progress(view: &MigrationView) -> String {
    let shown = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), |bytes| Bytes(bytes).to_string());
    format!("{} of {}", shown(view.durable_bytes), shown(view.length_bytes))
}

fn rate(view: &MigrationView) -> String {
    view.rate_bytes_per_s.map_or_else(|| "-".to_owned(), |rate| BytesPerSecond(rate).to_string())
}

/// How long ago, in words.
fn ago(ms: Option<u64>) -> String {
    match ms {
        None => "never heard".into(),
        Some(0) => "now".into(),
        Some(ms @ ..10_000) => format!("{ms} ms ago"),
        Some(ms) => format!("{} s ago", ms / 1_000),
    }
}

/// All that is known of one.
pub fn status(view: &MigrationView) -> Vec<String> {
    let state = view.state.as_deref().unwrap_or("not begun, or nobody is heard");
    let by = view
        .according_to
        .as_ref()
        .map_or_else(String::new, |node| format!(", says {} ({})", node.name, ago(view.said_ms_ago)));
    let limit = view
        .limit_bytes_per_s
        .map_or_else(|| "no limit".to_owned(), |limit| format!("at most {}", BytesPerSecond(limit)));
    let here = match (&view.here.why, view.here.again_in_ms) {
        (Some(why), Some(again)) => format!("{}: {why}; tried again in {again} ms", view.here.luns),
        _ => view.here.luns.clone(),
    };
    let mut lines = vec![
        format!("{}: {state}, epoch {}, step {}{by}", view.name, view.epoch, view.step),
        format!("  uuid     {}", view.uuid),
        format!("  source   {}", view.source),
        format!("  target   {}", view.target),
        format!("  mover    {}", mover(view)),
        format!("  durable  {}, {}, {limit}", progress(view), rate(view)),
        format!("  LUNs     {here}"),
        format!("  {:<16} {:<10} {:<7} {:<16} {:>6}  heard", "node", "role", "colour", "state", "epoch"),
    ];
    lines.extend(view.nodes.iter().map(part));
    lines
}

fn part(part: &PartView) -> String {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let name = if part.me { format!("{} *", part.node.name) } else { part.node.name.clone() };
    let epoch = part.epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
    format!(
        "  {name:<16} {:<10} {:<7} {:<16} {epoch:>6}  {}",
        or_none(&part.role),
        part.colour,
        or_none(&part.state),
        ago(part.heard_ms_ago)
    )
}

/// One event. The time of day is that of UTC.
pub fn event(happened: &Happened) -> String {
    let seconds = happened.unix_ms / 1_000 % 86_400;
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let clock = format!("{hours:02}:{minutes:02}:{:02}.{:03}Z", seconds % 60, happened.unix_ms % 1_000);
    format!("{clock} {} {}: {}", happened.node, happened.migration, happened.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_read_them() {
        assert_eq!(
            [None, Some(0), Some(9_999), Some(10_000)].map(ago),
            ["never heard", "now", "9999 ms ago", "10 s ago"]
        );
        let [node, migration, event_name, text] = ["alpha", "db01", "left", "is gone"].map(str::to_owned);
        let happened = Happened { unix_ms: 86_400_000 + 3_723_004, node, migration, event: event_name, text };
        assert_eq!(event(&happened), "01:02:03.004Z alpha db01: is gone");
    }
}
