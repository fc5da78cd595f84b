//! Datagrams of those who have no key, of another cluster, of the past: no reply, counted, and peers are heard in time.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use lunferry_cluster::agent::view::AgentView;
use lunferry_cluster::message::{Body, Message};
use lunferry_cluster::wire::{Boot, Content, Datagram, Entry, Keys, MAX_ENTRIES, MAX_LEN, Said};
use lunferry_engine::units::Epoch;
use lunferry_fixtures::cluster_live::LivePair;
use lunferry_fixtures::stamp::Dice;
use lunferry_scsi::key::{Incarnation, NodeId};
use uuid::Uuid;

use crate::support::{Cluster, KEY};

/// The third node of a cluster, played by the test at its own address, and a stranger's socket.
struct Scene {
    cluster: Cluster,
    third: UdpSocket,
    stranger: UdpSocket,
    uuid: Uuid,
}

/// How long an answer may take; and how long nothing is waited for.
const ANSWER: Duration = Duration::from_secs(20);
const NOTHING: Duration = Duration::from_millis(300);

impl Scene {
    fn new() -> Self {
        let mut cluster = Cluster::new(3, LivePair::new(1_000, Duration::from_millis(20)));
        cluster.start(0);
        cluster.start(1);
        let third = UdpSocket::bind(cluster.addresses[2]).unwrap();
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        let uuid = cluster.settings(0).cluster;
        Self { cluster, third, stranger, uuid }
    }

    fn first(&self) -> SocketAddr {
        self.cluster.addresses[0]
    }

    /// A datagram of node 3 to node 1.
    fn datagram(&self, boot: u64, counter: u64, content: Content) -> Datagram {
        let (sender, receiver) = (NodeId(3), NodeId(1));
        Datagram { cluster: self.uuid, sender, receiver, boot: Boot(boot), counter, content }
    }

    /// The challenge that node 3 is sent next.
    fn challenge(&self) -> u64 {
        let began = Instant::now();
        let mut buffer = [0; MAX_LEN];
        while began.elapsed() < ANSWER {
            self.third.set_read_timeout(Some(ANSWER)).unwrap();
            let len = self.third.recv(&mut buffer).unwrap();
            let datagram = Datagram::decode(&buffer[..len], &keys()).unwrap();
            if datagram.sender == NodeId(1)
                && let Content::Challenge { nonce } = datagram.content
            {
                return nonce;
            }
        }
        panic!("no challenge");
    }

    /// Makes a start of node 3 known; its counter is at 2 then.
    fn acquaint(&self, boot: u64) {
        let empty = self.datagram(boot, 1, Content::Entries(vec![])).encode(&keys());
        self.third.send_to(&empty, self.first()).unwrap();
        let answer = self.datagram(boot, 2, Content::Answer { nonce: self.challenge() });
        self.third.send_to(&answer.encode(&keys()), self.first()).unwrap();
        self.until_heard();
    }

    fn until_heard(&self) {
        self.cluster.until(0, "node 3 is heard", |_| true);
        let began = Instant::now();
        while self.view().nodes[2].heard_ms_ago.is_none() {
            assert!(began.elapsed() < ANSWER, "node 3 isn't heard: {:#?}", self.view());
        }
    }

    fn view(&self) -> AgentView {
        self.cluster.view(0)
    }

    fn dropped(&self, kind: &str) -> u64 {
        self.view().dropped.get(kind).copied().unwrap_or_default()
    }

    /// Sends as a stranger, and waits until it is counted as this kind.
    fn refused(&self, bytes: &[u8], kind: &str) {
        let before = self.dropped(kind);
        self.stranger.send_to(bytes, self.first()).unwrap();
        let began = Instant::now();
        while self.dropped(kind) == before {
            assert!(began.elapsed() < ANSWER, "not counted as {kind}: {:?}", self.view().dropped);
        }
        assert_eq!(self.dropped(kind), before + 1, "{kind}");
    }

    fn assert_no_reply(&self) {
        self.stranger.set_read_timeout(Some(NOTHING)).unwrap();
        let mut buffer = [0; MAX_LEN];
        let received = self.stranger.recv(&mut buffer).map_err(|error| error.kind());
        assert!(matches!(received, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "a reply of {received:?} bytes");
    }
}

fn keys() -> Keys {
    Keys::new(KEY, None)
}

#[test]
fn what_is_forged_recorded_or_foreign_is_counted_and_never_answered() {
    let scene = Scene::new();
    scene.acquaint(7);
    let empty = || Content::Entries(vec![]);

    // The control: node 3 itself is believed, and the very same bytes are not believed again.
    let heartbeat = scene.datagram(7, 10, empty()).encode(&keys());
    let before = scene.view().dropped;
    scene.third.send_to(&heartbeat, scene.first()).unwrap();
    scene.refused(&heartbeat, "replayed");
    scene.refused(&scene.datagram(7, 9, empty()).encode(&keys()), "replayed");
    assert_eq!(before.get("replayed"), None);

    let forged = scene.datagram(7, 11, empty());
    scene.refused(&forged.encode(&Keys::new([43; 32], None)), "wrong_mac");
    let foreign = Datagram { cluster: Uuid::from_u128(9), ..forged.clone() };
    scene.refused(&foreign.encode(&keys()), "other_cluster");
    let stray = Datagram { receiver: NodeId(2), ..forged.clone() };
    scene.refused(&stray.encode(&keys()), "wrong_address");
    let outsider = Datagram { sender: NodeId(4), ..forged.clone() };
    scene.refused(&outsider.encode(&keys()), "wrong_address");
    scene.refused(&forged.encode(&keys())[1..], "wrong_length");
    scene.refused(&scene.datagram(7, 12, Content::Answer { nonce: 1 }).encode(&keys()), "unasked_answer");

    // A new start of node 3 takes the place of the old one, whose recordings are then worth one challenge, to node 3.
    scene.acquaint(8);
    scene.stranger.send_to(&scene.datagram(7, 1_000, empty()).encode(&keys()), scene.first()).unwrap();
    scene.challenge();
    scene.refused(&scene.datagram(7, 1_001, empty()).encode(&keys()), "unproven");
    scene.assert_no_reply();
}

/// Ten MB/s of what `next` gives, for `seconds`, to everybody at these addresses; how many datagrams each was sent. A machine
/// that can't send as much sends what it can.
fn flood(socket: &UdpSocket, to: &[SocketAddr], seconds: u64, mut next: impl FnMut() -> Vec<u8>) -> u64 {
    const RATE: u64 = 10_000_000;
    let (began, mut sent, mut datagrams) = (Instant::now(), 0, 0);
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let elapsed = || u64::try_from(began.elapsed().as_millis()).unwrap();
    while elapsed() < seconds * 1_000 {
        while sent < RATE * elapsed() / 1_000 && elapsed() < seconds * 1_000 {
            let bytes = next();
            for address in to {
                socket.send_to(&bytes, address).unwrap();
            }
            sent += bytes.len() as u64;
            datagrams += 1;
        }
        // Paces the flood, and sees that nobody answers it.
        let received = socket.recv(&mut [0; 1]);
        assert!(received.is_err(), "somebody has answered");
    }
    datagrams
}

/// Runs a flood at both agents, and looks all the while whether they hear each other.
fn stays_calm_under(mut next: impl FnMut(&mut Dice) -> Vec<u8> + Send + 'static) -> (Scene, u64) {
    let scene = Scene::new();
    scene.cluster.begun();
    let epoch = scene.cluster.until(0, "it copies", |_| true).epoch;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = scene.cluster.addresses[..2].to_vec();
    let (done, flooding) = channel();
    let thread = thread::spawn(move || {
        let mut dice = Dice::new(1);
        let sent = flood(&socket, &to, 4, || next(&mut dice));
        done.send(sent).unwrap();
    });
    let sent = loop {
        match flooding.recv_timeout(Duration::from_millis(50)) {
            Ok(sent) => break sent,
            Err(RecvTimeoutError::Disconnected) => panic!("the flood has ended early"),
            Err(RecvTimeoutError::Timeout) => {}
        }
        for (here, there) in [(0, 1), (1, 0)] {
            let peer = &scene.cluster.view(here).nodes[there];
            assert_eq!(peer.colour, "green", "agent {here} hears its peer late: {:?} ms", peer.heard_ms_ago);
        }
    };
    thread.join().unwrap();
    let view = scene.cluster.until(0, "it copies on", |view| view.mover.is_some());
    assert_eq!(view.epoch, epoch, "somebody took over");
    (scene, sent)
}

/// At least so many of what was sent must have been counted: the kernel may drop some at the socket.
fn most(sent: u64) -> u64 {
    sent / 4
}

#[test]
fn ten_megabytes_a_second_of_random_bytes_delay_no_heartbeat() {
    let (scene, sent) = stays_calm_under(|dice| {
        let len = 1 + dice.below(1_400);
        (0..len).map(|_| u8::try_from(dice.below(256)).unwrap()).collect()
    });
    assert!(sent > 10_000, "only {sent} datagrams were sent");
    let dropped = scene.dropped("wrong_length") + scene.dropped("wrong_mac");
    assert!(dropped > most(sent), "{dropped} of {sent} counted");
}

#[test]
fn a_flood_of_forged_datagrams_delays_no_heartbeat() {
    let (sender, receiver) = (NodeId(2), NodeId(1));
    let said = Said::Message(Message { epoch: Epoch(1), body: Body::HandOver });
    let entry = Entry { migration: Uuid::from_u128(1), incarnation: Incarnation(1), said };
    let datagram = Datagram {
        cluster: "6f0c1d9e-6a0e-4e0e-9a4b-0d6f1a2b3c4d".parse().unwrap(),
        sender,
        receiver,
        boot: Boot(7),
        counter: 1,
        content: Content::Entries(vec![entry; MAX_ENTRIES]),
    };
    let bytes = datagram.encode(&Keys::new([43; 32], None));
    let (scene, sent) = stays_calm_under(move |_| bytes.clone());
    let dropped = scene.dropped("wrong_mac");
    assert!(dropped > most(sent), "{dropped} of {sent} counted");
    assert_eq!(scene.dropped("overflow"), 0);
}
