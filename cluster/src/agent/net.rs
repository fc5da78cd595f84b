//! The agent's sockets: one for each of its addresses, with a thread each that lets nothing through without a right MAC.
//!
//! Acts: sockets and threads.
//!
//! What must hold:
//! - A datagram without a right MAC costs this file's thread some microseconds and nobody else anything: it is counted and
//!   forgotten. So a flood delays no heartbeat of a peer.
//! - Nothing is ever sent to an address that isn't in the config.
//! - At most [`QUEUE`] datagrams wait for the loop.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lunferry_scsi::key::NodeId;
use nix::sys::socket::{setsockopt, sockopt};
use tracing::{debug, warn};

use super::settings::Settings;
use crate::wire::{Datagram, Defect, Keys, MAX_LEN};

/// How many datagrams may wait for the loop. What comes on top is dropped, as at a socket.
const QUEUE: usize = 1_024;

/// What the kernel keeps for a socket while its thread is busy: more than a second of a flood of 1 Gbit/s in small datagrams
/// would need, and far above the default. The kernel may give less.
const BUFFER: usize = 4 << 20;

/// How long a receiving thread waits before it looks whether it is to end.
const LONGEST_READ: Duration = Duration::from_secs(1);

/// What came, what went, and what was dropped before anything was parsed.
#[derive(Debug, Default)]
pub(super) struct Counters {
    received: AtomicU64,
    sent: AtomicU64,
    unsent: AtomicU64,
    length: AtomicU64,
    mac: AtomicU64,
    version: AtomicU64,
    malformed: AtomicU64,
    overflow: AtomicU64,
    waiting: AtomicUsize,
}

impl Counters {
    fn count(&self, defect: Defect) {
        let counter = match defect {
            Defect::Length => &self.length,
            Defect::Mac => &self.mac,
            Defect::Version(_) => &self.version,
            Defect::Malformed(_) => &self.malformed,
        };
        // Somebody with the key speaks another version: an operator should know, once.
        if counter.fetch_add(1, Ordering::Relaxed) == 0 && matches!(defect, Defect::Version(_) | Defect::Malformed(_)) {
            warn!("{defect}; it came from somebody who has the cluster's key");
        }
    }

    /// Received, sent.
    pub(super) fn passed(&self) -> (u64, u64) {
        (self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed))
    }

    /// What was dropped, by kind.
    pub(super) fn dropped(&self) -> [(&'static str, u64); 6] {
        let all = [
            ("wrong_length", &self.length),
            ("wrong_mac", &self.mac),
            ("other_version", &self.version),
            ("malformed", &self.malformed),
            ("overflow", &self.overflow),
            ("unsent", &self.unsent),
        ];
        all.map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }

    /// A place in the loop's queue; given back with [`Self::taken`].
    fn may_wait(&self) -> bool {
        let has_room = self.waiting.fetch_add(1, Ordering::Relaxed) < QUEUE;
        if !has_room {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.overflow.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    /// The loop has taken a datagram.
    pub(super) fn taken(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where no socket could be made.
#[derive(Debug, thiserror::Error)]
#[error("address {address}: {source}; it must be one of this host's own, with a port that nobody else uses")]
pub struct BindError {
    /// Which address.
    pub address: SocketAddr,
    /// The kernel's reason.
    pub source: io::Error,
}

/// The sockets.
pub(super) struct Net {
    sockets: Vec<Arc<UdpSocket>>,
    peers: BTreeMap<NodeId, Vec<SocketAddr>>,
    keys: Keys,
    pub(super) counters: Arc<Counters>,
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Net {
    /// Binds this node's addresses. `deliver` gets each datagram with a right MAC, on the thread of its socket, and says
    /// whether anybody still listens.
    pub(super) fn start(
        settings: &Settings,
        keys: &Keys,
        deliver: impl Fn(Datagram) -> bool + Clone + Send + 'static,
    ) -> Result<Self, BindError> {
        let me = settings.this();
        let others = settings.nodes.iter().filter(|node| node.id != settings.me);
        let peers = others.map(|node| (node.id, node.addresses.clone())).collect();
        let (counters, stopped) = (Arc::new(Counters::default()), Arc::new(AtomicBool::new(false)));
        let mut net = Self { sockets: Vec::new(), peers, keys: keys.clone(), counters, stopped, threads: Vec::new() };
        for address in &me.addresses {
            let failed = |source| BindError { address: *address, source };
            let socket = Arc::new(UdpSocket::bind(address).map_err(failed)?);
            // So that its thread ends also where the address was taken from the host, and nothing can wake it.
            socket.set_read_timeout(Some(LONGEST_READ)).map_err(failed)?;
            // Past the kernel's own limit only with CAP_NET_ADMIN; less is no error.
            let enlarged = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER);
            if let Err(error) = enlarged.or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &BUFFER)) {
                debug!("address {address}: no larger buffer: {error}");
            }
            net.sockets.push(Arc::clone(&socket));
            net.listen(socket, deliver.clone()).map_err(failed)?;
        }
        Ok(net)
    }

    fn listen(
        &mut self,
        socket: Arc<UdpSocket>,
        deliver: impl Fn(Datagram) -> bool + Send + 'static,
    ) -> io::Result<()> {
        let (keys, counters, stopped) = (self.keys.clone(), Arc::clone(&self.counters), Arc::clone(&self.stopped));
        let thread = thread::Builder::new().name("receive".into()).spawn(move || {
            // One byte more than a datagram has, so that a longer one is seen to be longer.
            let mut buffer = [0; MAX_LEN + 1];
            loop {
                let received = socket.recv(&mut buffer);
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let Ok(len) = received else {
                    // Nothing came, or an ICMP answer to what was sent before; the next call tells what there is.
                    continue;
                };
                counters.received.fetch_add(1, Ordering::Relaxed);
                match Datagram::decode(&buffer[..len], &keys) {
                    Err(defect) => counters.count(defect),
                    Ok(datagram) => {
                        if counters.may_wait() && !deliver(datagram) {
                            return;
                        }
                    }
                }
            }
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Sends to every address of the receiver, each from the socket in the same network.
    pub(super) fn send(&self, datagram: &Datagram) {
        let bytes = datagram.encode(&self.keys);
        for (socket, address) in self.sockets.iter().zip(self.peers.get(&datagram.receiver).into_iter().flatten()) {
            // A network that is down is a silence like any other.
            let counter =
                if socket.send_to(&bytes, address).is_ok() { &self.counters.sent } else { &self.counters.unsent };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        for socket in &self.sockets {
            // Wakes its thread, which looks at the flag. Where that fails, the next datagram does.
            if let Ok(own) = socket.local_addr() {
                let _ = socket.send_to(&[], own);
            }
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
