//! Decides whether two stacks of devices have bytes in common.
//!
//! Pure: the stacks come as values.
//!
//! Each LUN is traced down to everything that it lies on: its disk, the file behind a loop device, the devices below a
//! device-mapper device, and the lasting identity of a disk, which stands for all paths to it. For every one of them it
//! is known which bytes the LUN covers there: exactly these, or some unknown ones in a range (a logical volume on a
//! disk). Two LUNs are the same storage where they meet on one thing:
//!
//! - exactly known on both sides: where the ranges overlap;
//! - exactly known on one side, somewhere in a range on the other: where the two overlap, since one is then below the other
//!   (a volume and its disk). A piece of a disk that only borders on a volume's range may be refused in vain so;
//! - somewhere on both sides: no. Two volumes of one group are neighbours, and device-mapper keeps them apart.

use crate::lun::facts::{DeviceNumber, FileId};
use crate::lun::identity::Identity;
use crate::units::{Bytes, Span};

/// All of a thing, however large it is.
pub const WHOLE: Span = Span { start: Bytes(0), end: Bytes(u64::MAX) };

/// Something that bytes lie on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A block device of this host.
    Device(DeviceNumber),
    /// A file.
    File(FileId),
    /// A disk by its lasting name: every path to it has this.
    Identity(Identity),
}

/// Which bytes of a thing are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of these, in their order.
    Exactly(Span),
    /// Some of these; which ones, and in which order, is not known.
    SomewhereIn(Span),
}

/// One thing directly below a device, and where on it the device lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Below {
    /// What.
    pub key: Key,
    /// Where.
    pub part: Part,
}

/// One block device of a stack.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Which one.
    pub key: Key,
    /// Its kernel name.
    pub name: String,
    /// What lies directly below it.
    pub below: Vec<Below>,
}

/// A LUN and the devices that it lies on.
#[derive(Clone, Debug)]
pub struct Stack {
    /// The LUN as the operator calls it.
    pub name: String,
    /// The LUN itself.
    pub top: Key,
    /// Its devices, in any order.
    pub layers: Vec<Layer>,
}

/// How deep a stack can be. The kernel refuses rings and far lower towers; this ends the walk should it ever show one.
const DEEPEST: usize = 32;

/// Everything that the LUN lies on, itself first.
fn pieces(stack: &Stack) -> Vec<(Key, Part)> {
    let mut found: Vec<(Key, Part)> = Vec::new();
    let mut level = vec![(stack.top.clone(), Part::Exactly(WHOLE))];
    for _ in 0..DEEPEST {
        let mut below: Vec<(Key, Part)> = Vec::new();
        for (key, part) in &level {
            let layers = stack.layers.iter().filter(|layer| layer.key == *key);
            below.extend(
                layers.flat_map(|layer| &layer.below).map(|next| (next.key.clone(), through(*part, next.part))),
            );
        }
        found.append(&mut level);
        for piece in below {
            if !found.contains(&piece) && !level.contains(&piece) {
                level.push(piece);
            }
        }
    }
    found
}

/// Where `part` of a device lies on the thing below it, when the device lies there at `below`.
fn through(part: Part, below: Part) -> Part {
    let shift = |part: Span, place: Span| {
        let clamp = |at: Bytes| Bytes(place.start.0.saturating_add(at.0).min(place.end.0));
        Span::new(clamp(part.start), clamp(part.end))
    };
    match (part, below) {
        (_, Part::SomewhereIn(range)) => Part::SomewhereIn(range),
        (Part::Exactly(part), Part::Exactly(place)) => Part::Exactly(shift(part, place)),
        (Part::SomewhereIn(part), Part::Exactly(place)) => Part::SomewhereIn(shift(part, place)),
    }
}

fn meet(one: Part, other: Part) -> bool {
    match (one, other) {
        (Part::SomewhereIn(_), Part::SomewhereIn(_)) => false,
        (Part::Exactly(one) | Part::SomewhereIn(one), Part::Exactly(other) | Part::SomewhereIn(other)) => {
            one.overlaps(other)
        }
    }
}

/// In which way both are the same storage; `None` where they are not.
pub fn same_storage(source: &Stack, target: &Stack) -> Option<String> {
    let targets = pieces(target);
    for (key, part) in pieces(source) {
        if let Some((key, _)) = targets.iter().find(|(other, place)| *other == key && meet(part, *place)) {
            return Some(words(source, target, key));
        }
    }
    None
}

fn words(source: &Stack, target: &Stack, key: &Key) -> String {
    let thing = thing(source, target, key);
    match (source.top == *key, target.top == *key) {
        (true, true) => format!("both are {thing}"),
        (true, false) => format!("the target {} lies on the source {} ({thing})", target.name, source.name),
        (false, true) => format!("the source {} lies on the target {} ({thing})", source.name, target.name),
        (false, false) => format!("both lie on the same bytes of {thing}"),
    }
}

fn thing(source: &Stack, target: &Stack, key: &Key) -> String {
    match key {
        Key::Device((major, minor)) => {
            let name = source.layers.iter().chain(&target.layers).find(|layer| layer.key == *key);
            format!("block device {} ({major}:{minor})", name.map_or("", |layer| &layer.name))
        }
        Key::File(id) => format!("the file with inode {} on device {}:{}", id.inode, id.device.0, id.device.1),
        Key::Identity(identity) => format!("the disk {identity}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lun::identity::IdentityKind;

    const SDA: DeviceNumber = (8, 0);
    const SDB: DeviceNumber = (8, 16);

    fn file(inode: u64) -> Key {
        Key::File(FileId { device: (254, 0), inode })
    }

    fn naa(text: &str) -> Key {
        Key::Identity(Identity::new(IdentityKind::Naa, text))
    }

    fn layer(number: DeviceNumber, below: &[(Key, Part)]) -> Layer {
        let below = below.iter().map(|(key, part)| Below { key: key.clone(), part: *part }).collect();
        Layer { key: Key::Device(number), name: format!("dev{}", number.1), below }
    }

    /// A stack whose first layer is the LUN.
    fn device(layers: &[Layer]) -> Stack {
        Stack { name: format!("/dev/{}", layers[0].name), top: layers[0].key.clone(), layers: layers.to_vec() }
    }

    fn plain_file(inode: u64) -> Stack {
        Stack { name: format!("file{inode}"), top: file(inode), layers: Vec::new() }
    }

    fn exactly(start: u64, end: u64) -> Part {
        Part::Exactly(Span::new(Bytes(start), Bytes(end)))
    }

    fn somewhere() -> Part {
        Part::SomewhereIn(WHOLE)
    }

    fn disk(number: DeviceNumber) -> Layer {
        layer(number, &[])
    }

    fn partition(minor: u32, start: u64, end: u64) -> Stack {
        device(&[layer((8, minor), &[(Key::Device(SDA), exactly(start, end))]), disk(SDA)])
    }

    fn volume(minor: u32, on: &Stack) -> Stack {
        let mut layers = vec![layer((253, minor), &[(on.top.clone(), somewhere())])];
        layers.extend(on.layers.iter().cloned());
        device(&layers)
    }

    fn loop_over(minor: u32, inode: u64, place: Part) -> Stack {
        device(&[layer((7, minor), &[(file(inode), place)])])
    }

    fn check(one: &Stack, other: &Stack, same: bool) {
        assert_eq!(same_storage(one, other).is_some(), same, "{one:?}\n{other:?}");
        assert_eq!(same_storage(other, one).is_some(), same, "the other way round: {one:?}\n{other:?}");
    }

    #[test]
    fn one_device_by_two_nodes_is_one() {
        check(&device(&[disk(SDA)]), &device(&[disk(SDA)]), true);
        check(&device(&[disk(SDA)]), &device(&[disk(SDB)]), false);
    }

    #[test]
    fn one_inode_by_two_names_is_one() {
        check(&plain_file(12), &plain_file(12), true);
        check(&plain_file(12), &plain_file(13), false);
    }

    #[test]
    fn a_disk_is_its_partition_and_siblings_are_not() {
        let (one, two) = (partition(1, 1 << 20, 2 << 20), partition(2, 2 << 20, 3 << 20));
        check(&device(&[disk(SDA)]), &one, true);
        check(&one, &two, false);
        check(&one, &partition(3, (2 << 20) - 512, 3 << 20), true);
    }

    #[test]
    fn a_volume_is_what_lies_below_it_and_siblings_are_not() {
        let pv = partition(1, 1 << 20, 9 << 20);
        let (one, two) = (volume(0, &pv), volume(1, &pv));
        check(&one, &pv, true);
        check(&one, &device(&[disk(SDA)]), true);
        check(&one, &partition(2, 9 << 20, 10 << 20), false);
        check(&one, &two, false);
        check(&volume(5, &one), &one, true);
    }

    #[test]
    fn a_loop_device_is_the_file_behind_it() {
        check(&loop_over(0, 12, exactly(0, u64::MAX)), &plain_file(12), true);
        check(&loop_over(0, 12, exactly(4096, 8192)), &plain_file(12), true);
        check(&loop_over(0, 12, exactly(0, u64::MAX)), &plain_file(13), false);
    }

    #[test]
    fn two_loop_devices_over_one_file_are_the_same_where_they_overlap() {
        let low = loop_over(0, 12, exactly(0, 8192));
        check(&low, &loop_over(1, 12, exactly(4096, u64::MAX)), true);
        check(&low, &loop_over(1, 12, exactly(8192, u64::MAX)), false);
    }

    #[test]
    fn partitions_of_two_loop_devices_are_compared_in_the_file() {
        let part = |minor, number, start: u64| {
            let place = exactly(start, start + 4096);
            device(&[
                layer((259, minor), &[(Key::Device((7, number)), place)]),
                layer((7, number), &[(file(12), exactly(0, u64::MAX))]),
            ])
        };
        check(&part(0, 0, 4096), &part(1, 1, 4096), true);
        check(&part(0, 0, 4096), &part(1, 1, 8192), false);
    }

    #[test]
    fn two_paths_with_one_identity_are_one_disk() {
        let path = |number, name| layer(number, &[(naa(name), Part::Exactly(WHOLE))]);
        let (sda, sdb) = (device(&[path(SDA, "naa.6001")]), device(&[path(SDB, "naa.6001")]));
        check(&sda, &sdb, true);
        check(&sda, &device(&[path(SDB, "naa.6002")]), false);
        let words = same_storage(&sda, &sdb);
        assert_eq!(words.as_deref(), Some("both lie on the same bytes of the disk naa.6001"));
        // A partition on the one path against the disk, and against a neighbour, on the other path.
        let part = |minor, disk: DeviceNumber, start: u64| {
            let place = exactly(start, start + 4096);
            device(&[layer((8, minor), &[(Key::Device(disk), place)]), path(disk, "naa.6001")])
        };
        check(&part(1, SDA, 4096), &sdb, true);
        check(&part(1, SDA, 4096), &part(17, SDB, 4096), true);
        check(&part(1, SDA, 4096), &part(18, SDB, 8192), false);
        // A multipath device over the one path against the other.
        check(&volume(0, &sda), &sdb, true);
    }

    #[test]
    fn a_ring_ends() {
        let ring = device(&[
            layer((7, 0), &[(Key::Device((7, 1)), exactly(512, u64::MAX))]),
            layer((7, 1), &[(Key::Device((7, 0)), exactly(512, u64::MAX))]),
        ]);
        check(&ring, &device(&[disk(SDA)]), false);
    }
}
