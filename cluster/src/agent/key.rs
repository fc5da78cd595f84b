//! The files with the cluster's keys: who has one can speak as an agent, so nobody else may read it.
//!
//! Acts: reads and writes key files, and reads the kernel's random numbers.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// Bytes of a key.
pub const KEY_LEN: usize = 32;

/// The most that a key file may hold: the key as text and a line's end.
const LONGEST: u64 = 128;

/// The permission bits that nobody but the owner may have.
const OTHERS: u32 = 0o077;

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It can't be read or written.
    #[error("key file {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Others may read or change it.
    #[error(
        "key file {path} has the mode {mode:04o}: others may use it; run `chmod 600 {path}`, and make a new key if they could have read it"
    )]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("key file {path} belongs to the user {owner}, and this process runs as {me}; run `chown {me} {path}`")]
    Owner {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whom it must belong to.
        me: u32,
    },
    /// It holds no key.
    #[error(
        "key file {path} holds no key: write 32 random bytes as 64 hexadecimal digits; `lunferry agent key --out FILE` does"
    )]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
}

/// Reads a key: 64 hexadecimal digits, in a file that only its owner, who runs this process, may read.
///
/// # Errors
/// See [`KeyError`].
pub fn read(path: &Path) -> Result<[u8; KEY_LEN], KeyError> {
    let failed = |source| KeyError::Io { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    // Of the file that is open, not of whatever has its name by now.
    let mode = meta.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(KeyError::Open { path: path.into(), mode });
    }
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me {
        return Err(KeyError::Owner { path: path.into(), owner: meta.uid(), me });
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).map_err(failed)?;
    parse(text.trim()).ok_or_else(|| KeyError::NoKey { path: path.into() })
}

/// A key of 64 hexadecimal digits. One whose bytes are all the same was never random.
fn parse(text: &str) -> Option<[u8; KEY_LEN]> {
    if text.len() != KEY_LEN * 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; KEY_LEN];
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    key.iter().any(|byte| *byte != key[0]).then_some(key)
}

/// Makes a key and writes it to a new file that only its owner may read.
///
/// # Errors
/// Where there is a file of that name already, or it can't be written.
pub fn make(path: &Path) -> Result<(), KeyError> {
    let failed = |source| KeyError::Io { path: path.into(), source };
    let mut text = String::with_capacity(KEY_LEN * 2 + 1);
    for byte in random_key().map_err(failed)? {
        text.push_str(&format!("{byte:02x}"));
    }
    text.push('\n');
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// From the kernel, all 256 bits of it.
fn random_key() -> io::Result<[u8; KEY_LEN]> {
    let mut key = [0; KEY_LEN];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(key)
}

/// A random number for a nonce or the like.
pub(super) fn random() -> u64 {
    // A random UUID has fixed bits in both halves; they stand in different places, so that each one's is covered.
    let (high, low) = Uuid::new_v4().as_u64_pair();
    low ^ high.rotate_left(32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_that_was_made_is_read_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.key");
        make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let key = read(&path).unwrap();
        assert_eq!(key, read(&path).unwrap());
        assert!(matches!(make(&path), Err(KeyError::Io { .. })), "a key was written over");
        assert_eq!(read(&path).unwrap(), key);
        let other = dir.path().join("other.key");
        make(&other).unwrap();
        assert_ne!(read(&other).unwrap(), key);

        for mode in [0o640, 0o604, 0o622, 0o610] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = read(&path).unwrap_err().to_string();
            assert!(refused.contains(&format!("has the mode {mode:04o}")), "{refused}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(read(&path).unwrap(), key);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.key");
        make(&path).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let long = format!("{}{}", good.trim(), "0".repeat(200));
        for bad in ["", "00", &"0".repeat(64), &"g".repeat(64), &good[1..], &long, &format!("+{}", &good[1..])] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(read(&path), Err(KeyError::NoKey { .. })), "`{bad}` is a key");
        }
    }
}
