//! Random operations against a plain model of a file system, with publishing and restarts in between.

use crate::support::{ROOT, WRITE, World};
use ouro_core::state::Kind;
use ouro_vfs::{Errno, NodeNo, RenameHow, SetAttributes, SetXattr, Stop};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// An operation; names are small numbers so that they meet, directories are picked among those there are.
#[derive(Clone, Debug)]
enum Op {
    Create { at: usize, name: u8, exclusive: bool },
    Mkdir { at: usize, name: u8 },
    Symlink { at: usize, name: u8, target: u8 },
    Link { of: usize, of_name: u8, at: usize, name: u8 },
    Write { at: usize, name: u8, offset: u32, len: u16, byte: u8 },
    Truncate { at: usize, name: u8, size: u32 },
    Chmod { at: usize, name: u8, mode: u16 },
    Xattr { at: usize, name: u8, value: u8 },
    Unlink { at: usize, name: u8 },
    Rmdir { at: usize, name: u8 },
    Rename { at: usize, name: u8, to: usize, to_name: u8, how: u8 },
    Publish,
    Seal,
    Restart,
}

fn ops() -> impl Strategy<Value = Op> {
    let (at, name) = (|| 0..6_usize, || 0..5_u8);
    prop_oneof![
        4 => (at(), name(), any::<bool>()).prop_map(|(at, name, exclusive)| Op::Create { at, name, exclusive }),
        3 => (at(), name()).prop_map(|(at, name)| Op::Mkdir { at, name }),
        1 => (at(), name(), any::<u8>()).prop_map(|(at, name, target)| Op::Symlink { at, name, target }),
        2 => (at(), name(), at(), name()).prop_map(|(of, of_name, at, name)| Op::Link { of, of_name, at, name }),
        5 => (at(), name(), 0..200_000_u32, 0..9000_u16, any::<u8>())
            .prop_map(|(at, name, offset, len, byte)| Op::Write { at, name, offset, len, byte }),
        2 => (at(), name(), 0..200_000_u32).prop_map(|(at, name, size)| Op::Truncate { at, name, size }),
        // Not the set-group bit: what is made in such a directory inherits it.
        1 => (at(), name(), 0..0o10000_u16).prop_map(|(at, name, mode)| Op::Chmod { at, name, mode: mode & !0o2000 }),
        1 => (at(), name(), any::<u8>()).prop_map(|(at, name, value)| Op::Xattr { at, name, value }),
        2 => (at(), name()).prop_map(|(at, name)| Op::Unlink { at, name }),
        1 => (at(), name()).prop_map(|(at, name)| Op::Rmdir { at, name }),
        5 => (at(), name(), at(), name(), 0..3_u8)
            .prop_map(|(at, name, to, to_name, how)| Op::Rename { at, name, to, to_name, how }),
        1 => Just(Op::Publish),
        1 => Just(Op::Seal),
        1 => Just(Op::Restart),
    ]
}

#[derive(Clone, Debug)]
struct Inode {
    kind: Kind,
    mode: u16,
    bytes: Vec<u8>,
    xattr: Option<u8>,
    children: BTreeMap<u8, usize>,
    node: NodeNo,
}

/// The model: inodes by index, 0 is the root.
struct Model {
    inodes: Vec<Inode>,
}

impl Model {
    fn directories(&self) -> Vec<usize> {
        let (mut found, mut next) = (vec![0], 0);
        while next < found.len() {
            let children = self.inodes[found[next]].children.values().copied();
            let sub: Vec<usize> = children.filter(|i| self.inodes[*i].kind == Kind::Directory).collect();
            found.extend(sub);
            next += 1;
        }
        found
    }

    fn directory(&self, at: usize) -> usize {
        let all = self.directories();
        all[at % all.len()]
    }

    fn links(&self, inode: usize) -> usize {
        self.directories().iter().map(|d| self.inodes[*d].children.values().filter(|i| **i == inode).count()).sum()
    }

    fn holds(&self, directory: usize, inode: usize) -> bool {
        directory == inode || self.inodes[directory].children.values().any(|child| self.holds(*child, inode))
    }
}

fn text(name: u8) -> Vec<u8> {
    format!("name{name}").into_bytes()
}

struct Run {
    world: Option<World>,
    model: Model,
}

type Outcome = Result<(), Errno>;

fn plain<T>(reply: ouro_vfs::Reply<T>) -> Result<T, Errno> {
    reply.map_err(|stop| match stop {
        Stop::Errno(errno) => errno,
        Stop::Wait(_) => panic!("everything is here"),
    })
}

impl Run {
    fn world(&self) -> &World {
        self.world.as_ref().unwrap()
    }

    fn node(&self, inode: usize) -> NodeNo {
        self.model.inodes[inode].node
    }

    fn child(&self, directory: usize, name: u8) -> Option<usize> {
        self.model.inodes[directory].children.get(&name).copied()
    }

    fn add(&mut self, directory: usize, name: u8, kind: Kind, mode: u16, bytes: Vec<u8>, node: NodeNo) {
        let inode = Inode { kind, mode, bytes, xattr: None, children: BTreeMap::new(), node };
        self.model.inodes.push(inode);
        let last = self.model.inodes.len() - 1;
        self.model.inodes[directory].children.insert(name, last);
    }

    /// Does one operation on both; the answers must agree.
    fn step(&mut self, op: &Op) {
        let (expected, got) = match op.clone() {
            Op::Create { at, name, exclusive } => self.create(at, name, exclusive),
            Op::Mkdir { at, name } => self.mkdir(at, name),
            Op::Symlink { at, name, target } => self.symlink(at, name, target),
            Op::Link { of, of_name, at, name } => self.link(of, of_name, at, name),
            Op::Write { at, name, offset, len, byte } => self.write(at, name, offset as usize, len as usize, byte),
            Op::Truncate { at, name, size } => self.truncate(at, name, size as usize),
            Op::Chmod { at, name, mode } => self.chmod(at, name, mode),
            Op::Xattr { at, name, value } => self.xattr(at, name, value),
            Op::Unlink { at, name } => self.remove(at, name, false),
            Op::Rmdir { at, name } => self.remove(at, name, true),
            Op::Rename { at, name, to, to_name, how } => self.rename(at, name, to, to_name, how),
            Op::Publish => {
                self.world().publish();
                self.look_again(0, NodeNo::ROOT);
                (Ok(()), Ok(()))
            }
            Op::Seal => {
                self.world().volume.seal().unwrap();
                self.look_again(0, NodeNo::ROOT);
                (Ok(()), Ok(()))
            }
            Op::Restart => {
                self.world = self.world.take().map(World::restart);
                self.check(0, NodeNo::ROOT);
                (Ok(()), Ok(()))
            }
        };
        assert_eq!(expected, got, "{op:?}");
    }

    fn create(&mut self, at: usize, name: u8, exclusive: bool) -> (Outcome, Outcome) {
        let d = self.model.directory(at);
        let vfs = &self.world().vfs;
        let got = plain(vfs.create(&ROOT, self.node(d), &text(name), 0o644, WRITE, exclusive)).map(|(stat, handle)| {
            vfs.release(stat.node, handle);
            stat
        });
        let expected = match self.child(d, name) {
            Some(_) if exclusive => Err(Errno::Exists),
            Some(i) => match self.model.inodes[i].kind {
                Kind::Directory => Err(Errno::IsDirectory),
                Kind::File => Ok(()),
                _ => Err(Errno::Stale),
            },
            None => {
                if let Ok(stat) = got {
                    self.add(d, name, Kind::File, 0o644, Vec::new(), stat.node);
                }
                Ok(())
            }
        };
        (expected, got.map(|_| ()))
    }

    fn mkdir(&mut self, at: usize, name: u8) -> (Outcome, Outcome) {
        let d = self.model.directory(at);
        let got = plain(self.world().vfs.mkdir(&ROOT, self.node(d), &text(name), 0o755));
        if self.child(d, name).is_some() {
            return (Err(Errno::Exists), got.map(|_| ()));
        }
        if let Ok(stat) = got {
            self.add(d, name, Kind::Directory, 0o755, Vec::new(), stat.node);
        }
        (Ok(()), got.map(|_| ()))
    }

    fn symlink(&mut self, at: usize, name: u8, target: u8) -> (Outcome, Outcome) {
        let d = self.model.directory(at);
        let got = plain(self.world().vfs.symlink(&ROOT, self.node(d), &text(name), &text(target)));
        if self.child(d, name).is_some() {
            return (Err(Errno::Exists), got.map(|_| ()));
        }
        if let Ok(stat) = got {
            self.add(d, name, Kind::Symlink, 0o777, text(target), stat.node);
        }
        (Ok(()), got.map(|_| ()))
    }

    fn link(&mut self, of: usize, of_name: u8, at: usize, name: u8) -> (Outcome, Outcome) {
        let (source, d) = (self.model.directory(of), self.model.directory(at));
        let Some(inode) = self.child(source, of_name) else { return (Ok(()), Ok(())) };
        let got = plain(self.world().vfs.link(&ROOT, self.node(inode), self.node(d), &text(name)));
        let expected = if self.model.inodes[inode].kind == Kind::Directory {
            Err(Errno::NotPermitted)
        } else if self.child(d, name).is_some() {
            Err(Errno::Exists)
        } else {
            self.model.inodes[d].children.insert(name, inode);
            Ok(())
        };
        (expected, got.map(|_| ()))
    }

    fn write(&mut self, at: usize, name: u8, offset: usize, len: usize, byte: u8) -> (Outcome, Outcome) {
        let d = self.model.directory(at);
        let Some(inode) = self.child(d, name).filter(|i| self.model.inodes[*i].kind == Kind::File) else {
            return (Ok(()), Ok(()));
        };
        let data: Vec<u8> = (0..len).map(|i| byte.wrapping_add((i % 251) as u8)).collect();
        let (vfs, node) = (&self.world().vfs, self.node(inode));
        let handle = vfs.open(&ROOT, node, WRITE).unwrap();
        let got = plain(vfs.write(&ROOT, node, handle, offset as u64, &data)).map(|_| ());
        vfs.release(node, handle);
        let bytes = &mut self.model.inodes[inode].bytes;
        if len > 0 {
            bytes.resize(bytes.len().max(offset + len), 0);
            bytes[offset..offset + len].copy_from_slice(&data);
        }
        (Ok(()), got)
    }

    fn truncate(&mut self, at: usize, name: u8, size: usize) -> (Outcome, Outcome) {
        let d = self.model.directory(at);
        let Some(inode) = self.child(d, name) else { return (Ok(()), Ok(())) };
        let set = SetAttributes { size: Some(size as u64), ..SetAttributes::default() };
        let got = plain(self.world().vfs.setattr(&ROOT, self.node(inode), &set)).map(|_| ());
        let expected = match self.model.inodes[inode].kind {
            Kind::Directory => Err(Errno::IsDirectory),
            Kind::File => {
                self.model.inodes[inode].bytes.resize(size, 0);
                Ok(())
            }
            _ => Err(Errno::Invalid),
        };
        (expected, got)
    }

    fn chmod(&mut self, at: usize, name: u8, mode: u16) -> (Outcome, Outcome) {
        let d = self.model.directory(at);
        let Some(inode) = self.child(d, name) else { return (Ok(()), Ok(())) };
        let set = SetAttributes { mode: Some(mode), ..SetAttributes::default() };
        let got = plain(self.world().vfs.setattr(&ROOT, self.node(inode), &set)).map(|_| ());
        self.model.inodes[inode].mode = mode;
        (Ok(()), got)
    }

    fn xattr(&mut self, at: usize, name: u8, value: u8) -> (Outcome, Outcome) {
        let d = self.model.directory(at);
        let Some(inode) = self.child(d, name) else { return (Ok(()), Ok(())) };
        let vfs = &self.world().vfs;
        let got = plain(vfs.setxattr(&ROOT, self.node(inode), b"user.v", &[value], SetXattr::Any));
        if self.model.inodes[inode].kind == Kind::Symlink {
            return (Err(Errno::NotPermitted), got);
        }
        self.model.inodes[inode].xattr = Some(value);
        (Ok(()), got)
    }

    fn remove(&mut self, at: usize, name: u8, directory: bool) -> (Outcome, Outcome) {
        let d = self.model.directory(at);
        let (vfs, node) = (&self.world().vfs, self.node(d));
        let got =
            plain(if directory { vfs.rmdir(&ROOT, node, &text(name)) } else { vfs.unlink(&ROOT, node, &text(name)) });
        let Some(inode) = self.child(d, name) else { return (Err(Errno::NoEntry), got) };
        let found = &self.model.inodes[inode];
        let expected = match (found.kind == Kind::Directory, directory) {
            (true, false) => Err(Errno::IsDirectory),
            (false, true) => Err(Errno::NotDirectory),
            _ if !found.children.is_empty() => Err(Errno::NotEmpty),
            _ => {
                self.model.inodes[d].children.remove(&name);
                Ok(())
            }
        };
        (expected, got)
    }

    fn rename(&mut self, at: usize, name: u8, to: usize, to_name: u8, how: u8) -> (Outcome, Outcome) {
        let (d, t) = (self.model.directory(at), self.model.directory(to));
        let how = [RenameHow::Replace, RenameHow::NoReplace, RenameHow::Exchange][how as usize];
        let (from_node, to_node) = (self.node(d), self.node(t));
        let got = plain(self.world().vfs.rename(&ROOT, from_node, &text(name), to_node, &text(to_name), how));
        (self.rename_model(d, name, t, to_name, how), got)
    }

    fn rename_model(&mut self, d: usize, name: u8, t: usize, to_name: u8, how: RenameHow) -> Outcome {
        let source = self.child(d, name).ok_or(Errno::NoEntry)?;
        let target = self.child(t, to_name);
        let is_directory = |i: usize| self.model.inodes[i].kind == Kind::Directory;
        if how == RenameHow::NoReplace && target.is_some() {
            return Err(Errno::Exists);
        }
        if target == Some(source) {
            return Ok(());
        }
        if how == RenameHow::Exchange {
            let target = target.ok_or(Errno::NoEntry)?;
            let closes = (is_directory(source) && self.model.holds(source, t))
                || (is_directory(target) && self.model.holds(target, d));
            if closes {
                return Err(Errno::Invalid);
            }
            self.model.inodes[d].children.insert(name, target);
            self.model.inodes[t].children.insert(to_name, source);
            return Ok(());
        }
        if let Some(target) = target {
            match (is_directory(source), is_directory(target)) {
                (true, false) => return Err(Errno::NotDirectory),
                (false, true) => return Err(Errno::IsDirectory),
                _ => {}
            }
        }
        if is_directory(source) && self.model.holds(source, t) {
            return Err(Errno::Invalid);
        }
        if target.is_some_and(|target| !self.model.inodes[target].children.is_empty()) {
            return Err(Errno::NotEmpty);
        }
        self.model.inodes[d].children.remove(&name);
        self.model.inodes[t].children.insert(to_name, source);
        Ok(())
    }

    /// Notes the numbers below a directory anew, as the kernel does when it is told of changes: a file that was saved by way of a new one
    /// has its old number again once it is sealed.
    fn look_again(&mut self, directory: usize, node: NodeNo) {
        self.model.inodes[directory].node = node;
        for (name, inode) in self.model.inodes[directory].children.clone() {
            let stat = self.world().vfs.lookup(&ROOT, node, &text(name)).unwrap();
            if stat.kind == Kind::Directory {
                self.look_again(inode, stat.node);
            } else {
                self.model.inodes[inode].node = stat.node;
            }
        }
    }

    /// Compares everything below a directory, and notes the numbers anew.
    fn check(&mut self, directory: usize, node: NodeNo) {
        self.model.inodes[directory].node = node;
        let world = self.world();
        let mut names: Vec<String> =
            self.model.inodes[directory].children.keys().map(|n| String::from_utf8(text(*n)).unwrap()).collect();
        names.sort();
        assert_eq!(world.names(node), names);
        for (name, inode) in self.model.inodes[directory].children.clone() {
            let world = self.world();
            let stat = world.vfs.lookup(&ROOT, node, &text(name)).unwrap();
            let expected = &self.model.inodes[inode];
            assert_eq!((stat.kind, stat.mode), (expected.kind, expected.mode), "name{name}");
            let xattr = world.vfs.getxattr(&ROOT, stat.node, b"user.v").ok();
            assert_eq!(xattr, expected.xattr.map(|v| vec![v]));
            match stat.kind {
                Kind::Directory => self.check(inode, stat.node),
                Kind::Symlink => assert_eq!(world.vfs.readlink(stat.node).unwrap(), expected.bytes),
                _ => {
                    assert_eq!(stat.size, expected.bytes.len() as u64);
                    assert!(world.read_file(stat.node) == expected.bytes, "the bytes of name{name} differ");
                }
            }
            if stat.kind != Kind::Directory {
                assert_eq!(stat.links as usize, self.model.links(inode));
                self.model.inodes[inode].node = stat.node;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_box_behaves_as_a_plain_file_system_whatever_is_done_to_it(ops in prop::collection::vec(ops(), 1..45)) {
        let root = Inode {
            kind: Kind::Directory,
            mode: 0o755,
            bytes: Vec::new(),
            xattr: None,
            children: BTreeMap::new(),
            node: NodeNo::ROOT,
        };
        let mut run = Run { world: Some(World::new()), model: Model { inodes: vec![root] } };
        for op in &ops {
            run.step(op);
        }
        run.check(0, NodeNo::ROOT);
        run.step(&Op::Restart);
    }
}
