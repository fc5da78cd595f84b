//! Whether a copy from one LUN to another may begin at all.
//!
//! Pure: facts in, every refusal out.
//!
//! What must hold:
//! - All reasons are listed, not the first alone, so that the operator mends them in one go.
//! - An override lifts exactly the signature type that it names. Nothing lifts "in use" or "the same LUN".
//! - A source that others may write to is refused as well: what an offline copy makes of it is neither its old nor its new
//!   state.

use std::fmt;
use std::path::PathBuf;

use super::facts::{LunInfo, Opener, Role, Signature, SignatureUse, Usage};
use crate::units::Bytes;

/// The largest block that Lunferry can work with: buffers and the metadata area are laid out for it.
pub const LARGEST_BLOCK: Bytes = Bytes::kib(64);

/// What is known when the verdict falls.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The source.
    pub source: &'a LunInfo,
    /// The target.
    pub target: &'a LunInfo,
    /// Who uses the source.
    pub source_usage: &'a Usage,
    /// Who uses the target.
    pub target_usage: &'a Usage,
    /// What lies on the target.
    pub target_signatures: &'a [Signature],
    /// In which way both are the same storage (`topology::same_storage`).
    pub same_storage: Option<&'a str>,
}

/// What the operator lifts, each by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Signature types that may be overwritten (`--overwrite-signature TYPE`), in libblkid's words. One that isn't there
    /// does no harm.
    pub signatures: Vec<String>,
    /// Several agents of one cluster run on this machine, each with a loop device of its own over the file that is the LUN: a
    /// loop device that shows the same bytes from the same place on, and is used by nothing but programs, is theirs.
    pub loop_siblings: bool,
}

/// How a LUN is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A file system on it, or on a relative of it, is mounted.
    Mounted {
        /// Kernel name of what is mounted.
        device: String,
        /// Where.
        at: PathBuf,
    },
    /// It, or a relative, is swap space.
    Swap {
        /// The swap device or file.
        swap: String,
    },
    /// A kernel device is stacked on it.
    Held {
        /// The holder.
        holder: String,
    },
    /// Another loop device shows the same bytes.
    BehindLoop {
        /// `/dev/loopN`.
        device: String,
    },
    /// Another process has it open.
    Open(Opener),
}

/// One reason not to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A LUN is in use.
    InUse {
        /// Which one.
        role: Role,
        /// Its path.
        path: PathBuf,
        /// How.
        by: Use,
    },
    /// Both are the same storage.
    SameStorage {
        /// In which way.
        how: String,
    },
    /// Something is written on the target.
    Signature {
        /// The target's path.
        path: PathBuf,
        /// The first signature of its type.
        found: Signature,
    },
    /// The target has a partition table.
    PartitionTable {
        /// The target's path.
        path: PathBuf,
        /// The first signature of its type.
        found: Signature,
    },
    /// The target is smaller than the source.
    TooSmall {
        /// The source's capacity.
        source: Bytes,
        /// The target's path.
        path: PathBuf,
        /// The target's capacity.
        target: Bytes,
    },
    /// The target can't be written to.
    ReadOnly {
        /// The target's path.
        path: PathBuf,
    },
    /// The source doesn't end where a block of the target ends.
    BlockMismatch {
        /// The source's capacity.
        source: Bytes,
        /// The target's path.
        path: PathBuf,
        /// The target's logical block.
        block: Bytes,
    },
    /// A block is larger than Lunferry can work with.
    BlockTooLarge {
        /// Which LUN.
        role: Role,
        /// Its path.
        path: PathBuf,
        /// `logical` or `physical`.
        kind: &'static str,
        /// The block.
        block: Bytes,
    },
}

impl Refusal {
    /// Its stable name for JSON and scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InUse { role: Role::Source, by, .. } => match by {
                Use::Mounted { .. } => "source_mounted",
                Use::Swap { .. } => "source_is_swap",
                Use::Held { .. } => "source_held",
                Use::BehindLoop { .. } => "source_behind_loop_device",
                Use::Open(_) => "source_open_elsewhere",
            },
            Self::InUse { role: Role::Target, by, .. } => match by {
                Use::Mounted { .. } => "target_mounted",
                Use::Swap { .. } => "target_is_swap",
                Use::Held { .. } => "target_held",
                Use::BehindLoop { .. } => "target_behind_loop_device",
                Use::Open(_) => "target_open_elsewhere",
            },
            Self::SameStorage { .. } => "same_storage",
            Self::Signature { .. } => "target_has_signature",
            Self::PartitionTable { .. } => "target_has_partition_table",
            Self::TooSmall { .. } => "target_too_small",
            Self::ReadOnly { .. } => "target_read_only",
            Self::BlockMismatch { .. } => "block_mismatch",
            Self::BlockTooLarge { .. } => "block_too_large",
        }
    }

    /// The flag that lifts it; `None` where nothing does.
    pub fn lifted_by(&self) -> Option<String> {
        match self {
            Self::Signature { found, .. } | Self::PartitionTable { found, .. } => {
                Some(format!("--overwrite-signature {}", found.kind))
            }
            Self::InUse { .. }
            | Self::SameStorage { .. }
            | Self::TooSmall { .. }
            | Self::ReadOnly { .. }
            | Self::BlockMismatch { .. }
            | Self::BlockTooLarge { .. } => None,
        }
    }
}

/// What it is, with its value, and what to do about it.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { role, path, by } => write!(f, "the {role} {} {by}", path.display()),
            Self::SameStorage { how } => {
                write!(f, "source and target are the same storage: {how}; choose another target")
            }
            Self::Signature { path, found } => {
                write!(f, "the target {} holds {}; ", path.display(), in_words(found))?;
                write!(f, "check that it is the right LUN; to overwrite it, say --overwrite-signature {}", found.kind)
            }
            Self::PartitionTable { path, found } => {
                write!(f, "the target {} has a partition table, {}; ", path.display(), in_words(found))?;
                write!(f, "check that it is the right LUN; to overwrite it, say --overwrite-signature {}", found.kind)
            }
            Self::TooSmall { source, path, target } => {
                let (missing, path) = (source.0.saturating_sub(target.0), path.display());
                write!(
                    f,
                    "the target {path} is smaller than the source: {} bytes against {} bytes, ",
                    target.0, source.0
                )?;
                write!(f, "{missing} are missing; enlarge it to {} bytes at least, or choose another", source.0)
            }
            Self::ReadOnly { path } => {
                write!(f, "the target {} is read-only; make it writable ", path.display())?;
                write!(f, "(`blockdev --setrw DEV`, `chmod u+w FILE`), or choose another")
            }
            Self::BlockMismatch { source, path, block } => {
                let (path, rest) = (path.display(), source.0 % block.0.max(1));
                write!(f, "the source's {} bytes are no multiple of the {}-byte block of the ", source.0, block.0)?;
                write!(f, "target {path} ({rest} bytes too many); choose a target with the source's block size, ")?;
                write!(f, "or enlarge the source to whole blocks")
            }
            Self::BlockTooLarge { role, path, kind, block } => {
                write!(f, "the {role} {} has a {kind} block of {} bytes; ", path.display(), block.0)?;
                write!(f, "Lunferry works with up to {} bytes; choose another LUN", LARGEST_BLOCK.0)
            }
        }
    }
}

/// How it is used, and how that is ended.
impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted { device, at } => {
                let at = at.display();
                write!(f, "is in use: {device} is mounted at {at}; `umount {at}` first")
            }
            Self::Swap { swap } => write!(f, "is in use: {swap} is swap space; `swapoff {swap}` first"),
            Self::Held { holder } => write!(
                f,
                "is in use: held by {holder}; take that device down first (`dmsetup remove`, `vgchange -an`, `mdadm --stop`)"
            ),
            Self::BehindLoop { device } => {
                write!(
                    f,
                    "is in use: {device} shows the same bytes; `losetup --detach {device}` first, or copy that device"
                )
            }
            Self::Open(Opener { pid, command, writes }) => {
                let how = if *writes { " for writing" } else { "" };
                write!(f, "is in use: process {pid} ({command}) has it open{how}; end that process first")
            }
        }
    }
}

fn in_words(found: &Signature) -> String {
    let named =
        |what: &str, name: &Option<String>| name.as_ref().map_or_else(String::new, |name| format!(", {what} {name}"));
    format!("{} at byte {}{}{}", found.kind, found.offset.0, named("label", &found.label), named("UUID", &found.uuid))
}

/// Every reason not to copy; none where the copy may begin.
pub fn verdict(facts: &Facts<'_>, overrides: &Overrides) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    refusals.extend(facts.same_storage.map(|how| Refusal::SameStorage { how: how.to_owned() }));
    refusals.extend(in_use(Role::Target, facts.target, facts.target_usage));
    refusals.extend(in_use(Role::Source, facts.source, facts.source_usage));
    refusals.extend(sizes(facts));
    if facts.target.read_only {
        refusals.push(Refusal::ReadOnly { path: facts.target.path.clone() });
    }
    refusals.extend(signatures(&facts.target.path, facts.target_signatures, overrides));
    refusals
}

fn in_use(role: Role, info: &LunInfo, usage: &Usage) -> Vec<Refusal> {
    let mut uses: Vec<Use> = Vec::new();
    let mounted = |mount: &super::facts::MountUse| Use::Mounted { device: mount.device.clone(), at: mount.at.clone() };
    uses.extend(usage.mounts.iter().map(mounted));
    uses.extend(usage.swaps.iter().map(|swap| Use::Swap { swap: swap.clone() }));
    uses.extend(usage.holders.iter().map(|holder| Use::Held { holder: holder.clone() }));
    uses.extend(usage.loop_devices.iter().map(|device| Use::BehindLoop { device: device.clone() }));
    let open = usage.open_elsewhere.by.iter().filter(|opener| forbids(role, info, opener));
    uses.extend(open.map(|opener| Use::Open(opener.clone())));
    uses.into_iter().map(|by| Refusal::InUse { role, path: info.path.clone(), by }).collect()
}

/// Whether an opener stands against the copy. A writer always does, and so does any reader of a file that is to be
/// overwritten. Readers of a block device don't: health monitors and multipathd hold theirs open for ever, and who uses it
/// in earnest either writes or has it exclusively.
fn forbids(role: Role, info: &LunInfo, opener: &Opener) -> bool {
    opener.writes || (role == Role::Target && !info.device.is_block())
}

fn sizes(facts: &Facts<'_>) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let (source, target) = (facts.source, facts.target);
    for (role, info) in [(Role::Source, source), (Role::Target, target)] {
        for (kind, block) in [("logical", info.logical_block), ("physical", info.physical_block)] {
            if block > LARGEST_BLOCK {
                refusals.push(Refusal::BlockTooLarge { role, path: info.path.clone(), kind, block });
            }
        }
    }
    let path = target.path.clone();
    if target.capacity < source.capacity {
        refusals.push(Refusal::TooSmall { source: source.capacity, path, target: target.capacity });
    } else if !source.capacity.is_multiple_of(target.logical_block) {
        refusals.push(Refusal::BlockMismatch { source: source.capacity, path, block: target.logical_block });
    }
    refusals
}

/// One refusal for each type of signature, however often it is there (a GPT has a copy at the end). The protective MBR is a
/// part of a GPT: who has named `gpt` has named it too.
fn signatures(path: &std::path::Path, found: &[Signature], overrides: &Overrides) -> Vec<Refusal> {
    let has_gpt = found.iter().any(|signature| signature.kind == "gpt");
    let mut seen: Vec<&str> = Vec::new();
    let mut refusals = Vec::new();
    for signature in found {
        let kind = signature.kind.as_str();
        let is_part_of_gpt = kind == "PMBR" && has_gpt;
        if seen.contains(&kind) || is_part_of_gpt || overrides.signatures.iter().any(|name| name == kind) {
            continue;
        }
        seen.push(kind);
        let (path, found) = (path.to_path_buf(), signature.clone());
        refusals.push(match signature.usage {
            SignatureUse::PartitionTable => Refusal::PartitionTable { path, found },
            _ => Refusal::Signature { path, found },
        });
    }
    refusals
}

#[cfg(test)]
pub(in crate::lun) mod tests;
