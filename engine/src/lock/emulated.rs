//! Reservations for what has none of its own: a file beside the LUN, under the same rules and behind the same trait.
//!
//! Acts: reads and replaces one small file. What must hold:
//! - The file is changed only by whoever has its flock, and only as a whole: written beside, synced, renamed. A reader
//!   needs no lock and never sees half of it.
//! - A lock on a file that was replaced meanwhile counts for nothing: who gets it opens the name again.
//! - Where nobody is registered there is no file.
//! - A file that can't be read is an error, and never "nobody is registered".
//!
//! It keeps off those who look there: copiers on this host, and on others that share the file system. The storage refuses
//! nobody's writes, so that a fence here holds only because a copier looks before each checkpoint, and an agent before each
//! write ([`super::gate`]).

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lunferry_scsi::cdb::Cdb;
use lunferry_scsi::command::enquiry::ReservationQuestion;
use lunferry_scsi::command::reservation::ReservationType;
use lunferry_scsi::key::Key;
use lunferry_scsi::rules::answers::{encode_capabilities, encode_full_status, encode_keys, encode_reservation};
use lunferry_scsi::rules::wire::{decode_in, decode_out};
use lunferry_scsi::rules::{Abilities, Holding, Parts, Refusal, Reservations};
use lunferry_scsi::sense::Code;
use lunferry_scsi::status::{Completion, DriverStatus, HostStatus, Status};
use lunferry_scsi::transport::{Data, Transport};
use lunferry_scsi::units::{Generation, RelativePort};
use rustix::fs::{Access, FlockOperation};
use serde::{Deserialize, Serialize};

use super::inflight;
use crate::lun::facts::{DeviceNumber, FileId};
use crate::lun::sysfs;

/// What the file's name ends with.
pub const SUFFIX: &str = ".lunferry-reservations";

const FORMAT: &str = "lunferry reservations";
const VERSION: u32 = 1;

/// The file's content, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    format: String,
    version: u32,
    generation: u32,
    aptpl: bool,
    registrations: Vec<StoredRegistration>,
    reservation: Option<StoredReservation>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredRegistration {
    nexus: String,
    key: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredReservation {
    #[serde(rename = "type")]
    kind: u8,
    holder: Option<String>,
}

/// The emulated reservations of one file.
#[derive(Debug)]
pub struct Emulated {
    /// The file that is the LUN, or lies behind it, and which one that was when it was found.
    lun: PathBuf,
    id: FileId,
    /// This nexus' own loop device over it.
    own: Option<DeviceNumber>,
    file: PathBuf,
    name: String,
    nexus: String,
}

impl Emulated {
    /// Those of the LUN in `lun`, or of a part of it by that name, for the nexus of this name, which has the LUN open as `own`
    /// where that is a loop device. Nothing is made before somebody registers.
    ///
    /// # Errors
    /// Where its directory can't be written to.
    pub fn beside(lun: &Path, part: &str, own: Option<DeviceNumber>, nexus: String) -> io::Result<Self> {
        let lun = fs::canonicalize(lun)?;
        let mut file = lun.clone().into_os_string();
        file.push(part);
        file.push(SUFFIX);
        let file = PathBuf::from(file);
        let directory = lun.parent().unwrap_or(Path::new("/"));
        rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK)?;
        let id = sysfs::file_id(&fs::metadata(&lun)?);
        Ok(Self { lun, id, own, name: file.display().to_string(), file, nexus })
    }

    /// Where they are kept.
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn load(&self) -> io::Result<Reservations<String>> {
        match File::open(&self.file) {
            Ok(file) => read(&file),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Reservations::new(Abilities::default())),
            Err(error) => Err(error),
        }
    }

    /// Opens and locks the file, making it where it is missing.
    fn lock(&self) -> io::Result<File> {
        loop {
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.file)?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            let (locked, named) = (file.metadata()?, fs::metadata(&self.file));
            // Whoever had the lock before may have replaced or removed the file.
            if named.is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino())) {
                return Ok(file);
            }
        }
    }

    /// Changes the state under the lock.
    fn change(&self, cdb: &[u8], list: &[u8]) -> io::Result<Result<(), Refusal>> {
        let action = match decode_out(cdb, list) {
            Ok(action) => action,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let locked = self.lock()?;
        let mut state = read(&locked)?;
        let applied = state.apply(&self.nexus, action);
        let parts = state.parts();
        if parts.registrations.is_empty() {
            fs::remove_file(&self.file)?;
        } else if applied.is_ok() {
            self.replace(&parts)?;
        }
        Ok(applied.map(|_| ()))
    }

    /// Puts a new file in the old one's place. The caller has the old one's lock, and whoever waits for it finds that the
    /// name leads elsewhere.
    fn replace(&self, parts: &Parts<String>) -> io::Result<()> {
        let stored = Stored {
            format: FORMAT.into(),
            version: VERSION,
            generation: parts.generation.0,
            aptpl: parts.aptpl,
            registrations: parts
                .registrations
                .iter()
                .map(|(nexus, key)| StoredRegistration { nexus: nexus.clone(), key: key.0 })
                .collect(),
            reservation: parts
                .reservation
                .as_ref()
                .map(|held| StoredReservation { kind: held.kind.code(), holder: held.holder.clone() }),
        };
        let mut beside = self.file.clone().into_os_string();
        beside.push(".new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        serde_json::to_writer_pretty(&mut file, &stored)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&beside, &self.file)?;
        if let Some(directory) = self.file.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }

    fn answer(&self, cdb: &[u8]) -> io::Result<Result<Vec<u8>, Refusal>> {
        let (question, allocation) = match decode_in(cdb) {
            Ok(asked) => asked,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let state = self.load()?;
        let mut answer = match question {
            ReservationQuestion::ReadKeys => encode_keys(&state.keys()),
            ReservationQuestion::ReadReservation => encode_reservation(&state.holder()),
            ReservationQuestion::ReportCapabilities => encode_capabilities(&state.capabilities()).to_vec(),
            ReservationQuestion::ReadFullStatus => encode_full_status(&state.full_status(|_| (RelativePort(1), None))),
        };
        answer.truncate(usize::from(allocation));
        Ok(Ok(answer))
    }
}

/// An empty file is one that somebody has just made to lock it.
pub(super) fn read(mut file: &File) -> io::Result<Reservations<String>> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    if text.is_empty() {
        return Ok(Reservations::new(Abilities::default()));
    }
    parse(&text)
        .map_err(|why| io::Error::new(ErrorKind::InvalidData, format!("{why}; where no copier runs, remove it")))
}

fn parse(text: &str) -> Result<Reservations<String>, String> {
    let stored: Stored =
        serde_json::from_str(text).map_err(|error| format!("it is no file of reservations: {error}"))?;
    if stored.format != FORMAT {
        return Err(format!("its format is `{}`, not `{FORMAT}`", stored.format));
    }
    if stored.version != VERSION {
        return Err(format!("its version is {}, and this program knows {VERSION}", stored.version));
    }
    let reservation = match stored.reservation {
        None => None,
        Some(StoredReservation { kind, holder }) => {
            let kind = ReservationType::from_code(kind).ok_or(format!("its reservation's type is {kind}"))?;
            Some(Holding { kind, holder })
        }
    };
    let parts = Parts {
        registrations: stored.registrations.into_iter().map(|each| (each.nexus, Key(each.key))).collect(),
        reservation,
        generation: Generation(stored.generation),
        aptpl: stored.aptpl,
    };
    Reservations::from_parts(parts, Abilities::default()).map_err(|error| error.to_string())
}

impl Transport for Emulated {
    fn name(&self) -> &str {
        &self.name
    }

    fn send(&self, cdb: &Cdb, data: Data<'_>, _: Duration) -> io::Result<Completion> {
        let bytes = cdb.as_bytes();
        let requested = u32::try_from(data.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let (ended, moved) = match (bytes[0], data) {
            // TEST UNIT READY.
            (0x00, _) => (Ok(()), 0),
            (0x5E, Data::In(buffer)) => match self.answer(bytes)? {
                Ok(answer) => {
                    let len = answer.len().min(buffer.len());
                    buffer[..len].copy_from_slice(&answer[..len]);
                    (Ok(()), len)
                }
                Err(refusal) => (Err(refusal.code()), 0),
            },
            (0x5F, Data::Out(list)) => (self.change(bytes, list)?.map_err(Refusal::code), list.len()),
            _ => (Err(Some(Code { asc: 0x20, ascq: 0x00 })), 0),
        };
        let moved = u32::try_from(moved).expect("not more than was requested");
        Ok(completion(ended, requested, moved))
    }

    fn reset_logical_unit(&self) -> io::Result<()> {
        // Whoever gets this far has the exclusive open or the flock, and what a dead holder had in flight ended before. Other loop
        // devices over the same file have exclusive opens of their own. On this one's own device nothing is a victim's, and it
        // may never be idle: this nexus may be copying.
        let others = inflight::over(self.id, self.own, sysfs::loop_devices(&self.lun).map_err(io::Error::other)?)?;
        inflight::drain(others, |time| self.wait(time))
    }
}

/// `Err(None)` is a reservation conflict, and every other error an illegal request with this code.
fn completion(ended: Result<(), Option<Code>>, requested: u32, moved: u32) -> Completion {
    let (status, sense) = match ended {
        Ok(()) => (Status::Good, Vec::new()),
        Err(None) => (Status::ReservationConflict, Vec::new()),
        Err(Some(code)) => (Status::CheckCondition, fixed_sense(code)),
    };
    let residual = i32::try_from(requested - moved).unwrap_or(i32::MAX);
    Completion { status, host: HostStatus::Ok, driver: DriverStatus::Ok, sense, requested, residual }
}

/// Fixed format sense data with the key ILLEGAL REQUEST (SPC-4: fixed format sense data).
fn fixed_sense(code: Code) -> Vec<u8> {
    let mut sense = vec![0; 18];
    (sense[0], sense[2], sense[7], sense[12], sense[13]) = (0x70, 0x05, 10, code.asc, code.ascq);
    sense
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::lock::claim::{Drained, Paths};
    use crate::lock::error::LockError;
    use lunferry_scsi::key::{Incarnation, NodeId, OwnKey};

    fn own(node: u16, incarnation: u32) -> OwnKey {
        OwnKey { node: NodeId(node), incarnation: Incarnation(incarnation), target_outdated: false }
    }

    fn paths(lun: &Path, nexus: &str) -> Paths {
        let emulated = Emulated::beside(lun, "", None, nexus.into()).unwrap();
        Paths { device: lun.display().to_string(), paths: vec![Box::new(emulated)], later: None }
    }

    fn a_lun() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let lun = dir.path().join("lun");
        fs::write(&lun, [0; 512]).unwrap();
        let file = dir.path().join(format!("lun{SUFFIX}"));
        (dir, lun, file)
    }

    #[test]
    fn a_lock_comes_and_goes_and_leaves_nothing() {
        let (dir, lun, file) = a_lun();
        let (one, two) = (paths(&lun, "one"), paths(&lun, "two"));
        one.look().unwrap();
        assert!(!file.exists(), "a look makes no file");
        one.claim(own(1, 1), None).unwrap();
        let refused = two.claim(own(2, 1), None).unwrap_err();
        assert!(matches!(refused, LockError::HeldElsewhere { by, .. } if by == own(1, 1)), "{refused}");
        one.holds(own(1, 1)).unwrap();
        assert_eq!(one.look().unwrap().keys, [own(1, 1).key()], "the refused one has left nothing");
        one.withdraw(own(1, 1), true);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_take_over_fences_and_the_fenced_one_knows() {
        let (_dir, lun, _) = a_lun();
        let (one, two) = (paths(&lun, "one"), paths(&lun, "two"));
        one.claim(own(1, 1), None).unwrap();
        let claim = two.claim(own(2, 1), Some(Duration::from_millis(1))).unwrap();
        assert_eq!((claim.fenced, claim.drained), (vec![own(1, 1).key()], Some(Drained::Reset)));
        let lost = one.holds(own(1, 1)).unwrap_err();
        assert!(matches!(lost, LockError::Lost { by: Some(by), .. } if by == own(2, 1).key()), "{lost}");
        one.withdraw(own(1, 1), true);
        two.holds(own(2, 1)).unwrap();
    }

    #[test]
    fn an_earlier_start_of_the_same_nexus_is_replaced() {
        let (_dir, lun, _) = a_lun();
        let one = paths(&lun, "one");
        one.claim(own(1, 1), None).unwrap();
        let claim = one.claim(own(1, 2), None).unwrap();
        assert_eq!((claim.fenced, claim.drained), (vec![], Some(Drained::OwnAndReset)));
        assert_eq!(one.look().unwrap().keys, [own(1, 2).key()]);
        // The same node id behind another nexus is another host.
        let refused = paths(&lun, "two").claim(own(1, 3), None).unwrap_err();
        assert!(matches!(refused, LockError::HeldElsewhere { by, .. } if by == own(1, 2)), "{refused}");
    }

    #[test]
    fn two_who_start_at_once_come_to_one_holder() {
        for round in 0..20 {
            let (_dir, lun, _) = a_lun();
            let claimed: Vec<bool> = std::thread::scope(|scope| {
                let starts = [1, 2, 3].map(|node| {
                    let lun = &lun;
                    scope.spawn(move || paths(lun, &node.to_string()).claim(own(node, round), None).is_ok())
                });
                starts.map(|start| start.join().unwrap()).into()
            });
            assert_eq!(claimed.iter().filter(|won| **won).count(), 1, "{claimed:?}");
        }
    }

    #[test]
    fn a_file_that_is_not_understood_is_an_error() {
        let (_dir, lun, file) = a_lun();
        let later = r#"{"format":"lunferry reservations","version":2,"generation":0,"aptpl":false,"registrations":[],"reservation":null}"#;
        for text in [
            "{",
            "[]",
            later,
            &later.replace("lunferry", "another"),
            &later.replace("null", r#"{"type":5,"holder":"x"}"#),
        ] {
            fs::write(&file, text).unwrap();
            paths(&lun, "one").look().unwrap_err();
            paths(&lun, "one").claim(own(1, 1), Some(Duration::from_millis(1))).unwrap_err();
            assert_eq!(fs::read_to_string(&file).unwrap(), text, "it is left as it is");
        }
    }
}
