//! What registrations, reservation and abilities of a LUN look like, for whoever looks and changes nothing.
//!
//! Acts, through `claim` and `paths`.

use std::fmt;
use std::path::PathBuf;

use lunferry_scsi::command::reservation::ReservationType;
use lunferry_scsi::key::{Key, OwnKey};
use lunferry_scsi::page::reservation::HeldType;
use serde::Serialize;

use super::claim::{Paths, has_none};
use super::error::LockError;
use super::node::ThisNode;
use super::paths::{Means, Ways};
use crate::lun::facts::LunInfo;

/// A registered key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownKey {
    /// `0x` and 16 hexadecimal digits.
    pub key: String,
    /// Whose it is, where Lunferry made it.
    pub node: Option<u16>,
    /// Which start of that node.
    pub incarnation: Option<String>,
    /// How many nexuses have it.
    pub nexuses: usize,
}

/// The reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownHolder {
    /// The holder's key; zero where every registrant holds it.
    pub key: String,
    /// Whose it is, where Lunferry made it.
    pub node: Option<u16>,
    /// Its type, in the standard's words.
    #[serde(rename = "type")]
    pub kind: String,
}

/// What the device server can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownAbilities {
    /// Registrations can be made to outlive a loss of power.
    pub aptpl: bool,
    /// They do now.
    pub aptpl_active: bool,
    /// A registration can count for every target port.
    pub all_target_ports: bool,
    /// The types, in the standard's words; empty where the device doesn't tell.
    pub types: Vec<&'static str>,
}

/// One path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownPath {
    /// Its name.
    pub path: String,
    /// Why it doesn't answer.
    pub error: Option<String>,
}

/// Reservations of one LUN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// `scsi`, `emulated` or `none`.
    pub kind: &'static str,
    /// The file of an emulation.
    pub file: Option<PathBuf>,
    /// Why there are none, or why they can't be told.
    pub why: Option<String>,
    /// PRGENERATION.
    pub generation: Option<u32>,
    /// Every registered key, each once.
    pub keys: Vec<ShownKey>,
    /// The reservation.
    pub holder: Option<ShownHolder>,
    /// What the device can do, where it tells.
    pub abilities: Option<ShownAbilities>,
    /// Every path.
    pub paths: Vec<ShownPath>,
}

/// Looks.
pub fn show(info: &LunInfo, node: &ThisNode) -> Shown {
    let nothing = |kind, why| Shown {
        kind,
        file: None,
        why,
        generation: None,
        keys: Vec::new(),
        holder: None,
        abilities: None,
        paths: Vec::new(),
    };
    let ways = Ways::to_look(info, node);
    let (kind, file) = match &ways.means {
        Means::Scsi => ("scsi", None),
        Means::Emulated { file } => ("emulated", Some(file.clone())),
        Means::None { why } => return nothing("none", Some(why.clone())),
    };
    let Some(paths) = &ways.paths else { return nothing(kind, None) };
    let shown = Shown { file, paths: each_path(paths), ..nothing(kind, None) };
    match paths.look() {
        Err(error) if has_none(&error) => nothing("none", Some("the device has no persistent reservations".into())),
        Err(error) => Shown { why: Some(error.to_string()), ..shown },
        Ok(view) => Shown {
            generation: Some(view.generation.0),
            keys: distinct(&view.keys),
            holder: view.held.map(|held| ShownHolder {
                key: held.key.to_string(),
                node: OwnKey::from_key(held.key).map(|own| own.node.0),
                kind: match held.kind {
                    HeldType::Known(kind) => type_in_words(kind).into(),
                    HeldType::Other(code) => format!("type {code:X}h"),
                },
            }),
            abilities: paths.capabilities().ok().map(|able| ShownAbilities {
                aptpl: able.persist_through_power_loss,
                aptpl_active: able.persist_activated,
                all_target_ports: able.all_target_ports,
                types: able.types.unwrap_or_default().into_iter().map(type_in_words).collect(),
            }),
            ..shown
        },
    }
}

fn each_path(paths: &Paths) -> Vec<ShownPath> {
    let error = |looked: Result<_, LockError>| looked.err().map(|error| error.to_string());
    let each = paths.look_at_each().into_iter();
    each.map(|(path, looked)| ShownPath { path, error: error(looked) }).collect()
}

fn distinct(keys: &[Key]) -> Vec<ShownKey> {
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    let runs = sorted.chunk_by(|a, b| a == b);
    runs.map(|same| {
        let own = OwnKey::from_key(same[0]);
        ShownKey {
            key: same[0].to_string(),
            node: own.map(|own| own.node.0),
            incarnation: own.map(|own| format!("{:08x}", own.incarnation.0)),
            nexuses: same.len(),
        }
    })
    .collect()
}

/// SPC-4: persistent reservations type.
fn type_in_words(kind: ReservationType) -> &'static str {
    match kind {
        ReservationType::WriteExclusive => "write exclusive",
        ReservationType::ExclusiveAccess => "exclusive access",
        ReservationType::WriteExclusiveRegistrantsOnly => "write exclusive, registrants only",
        ReservationType::ExclusiveAccessRegistrantsOnly => "exclusive access, registrants only",
        ReservationType::WriteExclusiveAllRegistrants => "write exclusive, all registrants",
        ReservationType::ExclusiveAccessAllRegistrants => "exclusive access, all registrants",
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, &self.why) {
            (Some(file), _) => write!(f, "emulated in {}", file.display())?,
            (None, Some(why)) => return write!(f, "{}: {why}", self.kind),
            (None, None) => f.write_str("SCSI")?,
        }
        if let Some(why) = &self.why {
            return write!(f, "; {why}");
        }
        match &self.holder {
            Some(ShownHolder { key, node, kind }) => {
                write!(f, "; held by {key}{}, {kind}", in_words(*node))?;
            }
            None => f.write_str("; not reserved")?,
        }
        match self.keys.as_slice() {
            [] => f.write_str("; nobody registered")?,
            keys => {
                f.write_str("; registered: ")?;
                let word = |key: &ShownKey| format!("{}{} x {}", key.key, in_words(key.node), key.nexuses);
                f.write_str(&keys.iter().map(word).collect::<Vec<_>>().join(", "))?;
            }
        }
        if let Some(generation) = self.generation {
            write!(f, "; generation {generation}")?;
        }
        if let Some(able) = &self.abilities {
            let aptpl = match (able.aptpl, able.aptpl_active) {
                (false, _) => "no",
                (true, false) => "yes, not active",
                (true, true) => "yes, active",
            };
            write!(f, "; APTPL {aptpl}")?;
        }
        Ok(())
    }
}

fn in_words(node: Option<u16>) -> String {
    node.map_or(String::new(), |node| format!(" (node {node})"))
}
