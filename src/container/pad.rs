//! Places from which children take their descriptors.
//!
//! A child that is made with a copy of the supervisor's descriptors has to close all but a
//! handful: with a thousand services up that is thousands, and takes several times as long
//! as all the rest of a start. So it *shares* them for a moment, and takes for itself only
//! those with low numbers, where what it needs was put before. What must hold: a place is
//! left alone until its child has descriptors of its own (it says so by a byte in a pipe)
//! or has ended. Where no place is free, the child gets the copy as ever: nobody waits.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::{DupFlags, Errno};
use rustix::pipe::{PipeFlags, pipe_with};

use super::launch::Stdio;
use crate::sys::{fd, limits};

/// Children that may be on their way at once.
const PLACES: u8 = 24;

/// Descriptors of one place: the status channel, a user namespace, two pipes, and some
/// version 1 groups. The few starts that need more get the copy.
const WIDTH: usize = 7;

/// Numbers from which places are taken, above the few of the supervisor itself.
const LOWEST: RawFd = 16;

/// Descriptors as a child finds them.
#[derive(Debug, Clone)]
pub struct Given<'a> {
    /// The child's end of the status channel.
    pub channel: BorrowedFd<'a>,
    /// Those of its program.
    pub stdio: Stdio<'a>,
    /// `cgroup.procs` of the version 1 groups it joins.
    pub procs: Vec<BorrowedFd<'a>>,
    /// Whose namespaces it enters.
    pub inside: Option<BorrowedFd<'a>>,
    /// The user namespace that it enters before it makes the others.
    pub users: Option<BorrowedFd<'a>>,
}

impl<'a> Given<'a> {
    fn all(&self) -> impl Iterator<Item = BorrowedFd<'a>> {
        let Stdio { stdin, stdout, stderr, .. } = self.stdio;
        let single = [Some(self.channel), stdin, stdout, stderr, self.users];
        single.into_iter().flatten().chain(self.procs.iter().copied())
    }
}

/// How a child comes to have descriptors of its own.
#[derive(Debug, Clone, Copy)]
pub struct Ticket<'a> {
    /// Of the place.
    pub index: u8,
    end: u32,
    done: BorrowedFd<'a>,
}

impl Ticket<'_> {
    /// The child keeps of the shared descriptors only those below.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// Where it says so, by one byte: its index.
    pub fn done(&self) -> BorrowedFd<'_> {
        self.done
    }

    /// In the child, before anything else: own descriptors, only those below the end of
    /// the places.
    ///
    /// # Errors
    /// As `close_range(2)`, write(2).
    pub fn redeem(&self) -> io::Result<()> {
        fd::unshare_below(self.end)?;
        rustix::io::write(self.done, &[self.index])?;
        Ok(())
    }
}

/// One place.
#[derive(Debug)]
struct Place {
    fds: Vec<OwnedFd>,
    /// Whose it is; 0 while nobody's.
    pid: i32,
}

/// All places.
#[derive(Debug)]
pub struct Pad {
    places: Vec<Place>,
    null: OwnedFd,
    said: OwnedFd,
    done: OwnedFd,
    end: u32,
}

impl Pad {
    /// Reserves the numbers; `low` are other descriptors that children use.
    ///
    /// # Errors
    /// As pipe2(2).
    pub fn new(null: OwnedFd, low: &[BorrowedFd<'_>]) -> io::Result<Self> {
        let (said, done) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let most = limits::soft_files().map_or(RawFd::MAX, |limit| {
            RawFd::try_from(limit.checked_div(4).unwrap_or(0)).unwrap_or(RawFd::MAX)
        });
        let low_enough = |fd: &OwnedFd| fd.as_raw_fd() < most;
        let reserve = |_| fd::duplicate_above(null.as_fd(), LOWEST).ok().filter(low_enough);
        let place =
            |_| Some(Place { fds: (0..WIDTH).map(reserve).collect::<Option<_>>()?, pid: 0 });
        // Under a low limit of descriptors there are fewer places, or none.
        let places: Vec<Place> = (0..PLACES).map_while(place).collect();
        let reserved = places.iter().flat_map(|place| &place.fds).map(AsRawFd::as_raw_fd);
        let others = low.iter().map(AsRawFd::as_raw_fd).chain([done.as_raw_fd()]);
        let highest = reserved.chain(others).max().unwrap_or_default();
        let end = highest.unsigned_abs().saturating_add(1);
        Ok(Self { places, null, said, done, end })
    }

    /// Puts descriptors into a free place: the same, as the child finds them there, and how
    /// it takes them. `None`: there is no room, or nothing is to be shared.
    pub fn put<'a>(&'a mut self, given: &Given<'a>) -> Option<(Given<'a>, Ticket<'a>)> {
        // One that joins a unit may be in reach of what runs there.
        let joins = given.inside.is_some();
        if joins || given.all().count() > WIDTH || !given.stdio.named.is_empty() {
            return None;
        }
        let index = self.free()?;
        let place = self.places.get_mut(usize::from(index))?;
        let put = |(from, to)| rustix::io::dup3(from, to, DupFlags::CLOEXEC);
        if given.all().zip(&mut place.fds).try_for_each(put).is_err() {
            self.release(index.into());
            return None;
        }
        let place = self.places.get(usize::from(index))?;
        let mut fds = place.fds.iter().map(AsFd::as_fd);
        let mut moved = |fd: Option<BorrowedFd<'a>>| fd.and_then(|_| fds.next());
        let channel = moved(Some(given.channel))?;
        let Stdio { stdin, stdout, stderr, .. } = given.stdio;
        let stdio =
            Stdio { stdin: moved(stdin), stdout: moved(stdout), stderr: moved(stderr), named: &[] };
        let users = moved(given.users);
        let procs = given.procs.iter().filter_map(|fd| moved(Some(*fd))).collect();
        let ticket = Ticket { index, end: self.end, done: self.done.as_fd() };
        Some((Given { channel, stdio, procs, inside: None, users }, ticket))
    }

    fn free(&mut self) -> Option<u8> {
        let nobodys = |pad: &Self| pad.places.iter().position(|place| place.pid == 0);
        let index = nobodys(self).or_else(|| {
            self.collect();
            nobodys(self)
        });
        u8::try_from(index?).ok()
    }

    /// The place is this child's until it has what it needs from there.
    pub fn taken(&mut self, index: u8, pid: i32) {
        if let Some(place) = self.places.get_mut(usize::from(index)) {
            place.pid = pid;
        }
    }

    /// Takes back the places of children that have descriptors of their own by now.
    pub fn collect(&mut self) {
        let mut indices = [0; PLACES as usize];
        loop {
            match rustix::io::read(&self.said, &mut indices) {
                Ok(0) | Err(Errno::AGAIN) => return,
                Ok(count) => {
                    for index in indices.iter().take(count) {
                        self.release(usize::from(*index));
                    }
                }
                Err(Errno::INTR) => {}
                // A pipe of one's own has no other error. Places are then not used again.
                Err(_) => return,
            }
        }
    }

    /// A child has ended, perhaps without a word.
    pub fn ended(&mut self, pid: i32) {
        self.collect();
        let held = self.places.iter().position(|place| place.pid == pid);
        if let Some(index) = held {
            self.release(index);
        }
    }

    /// Lets go of what was put there: pipes and channels must be able to end.
    pub fn release(&mut self, index: usize) {
        let Some(place) = self.places.get_mut(index) else { return };
        for fd in &mut place.fds {
            // Both are open, and the number is there already: nothing that could fail.
            let _ = rustix::io::dup3(&self.null, fd, DupFlags::CLOEXEC);
        }
        place.pid = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;

    fn pad() -> Pad {
        Pad::new(std::fs::File::open("/dev/null").unwrap().into(), &[]).unwrap()
    }

    fn given(channel: &OwnedFd) -> Given<'_> {
        let stdio = Stdio::default();
        Given { channel: channel.as_fd(), stdio, procs: Vec::new(), inside: None, users: None }
    }

    /// Whether the other end has heard that this one is closed everywhere.
    fn is_closed(fd: &OwnedFd) -> bool {
        crate::sys::fd::readable_within(fd.as_fd(), 0).unwrap()
    }

    #[test]
    fn a_place_is_held_until_its_child_has_spoken() {
        let mut pad = pad();
        let (ours, theirs) = socket::seqpacket_pair().unwrap();
        let (_, ticket) = pad.put(&given(&theirs)).unwrap();
        let (index, done) = (ticket.index, ticket.done.try_clone_to_owned().unwrap());
        pad.taken(index, 7);
        drop(theirs);
        pad.collect();
        assert!(!is_closed(&ours));
        rustix::io::write(&done, &[index]).unwrap();
        pad.collect();
        assert!(is_closed(&ours));
    }

    #[test]
    fn a_place_whose_child_has_ended_without_a_word_is_free() {
        let mut pad = pad();
        let (ours, theirs) = socket::seqpacket_pair().unwrap();
        let index = pad.put(&given(&theirs)).unwrap().1.index;
        pad.taken(index, 7);
        drop(theirs);
        pad.ended(8);
        assert!(!is_closed(&ours));
        pad.ended(7);
        assert!(is_closed(&ours));
    }

    #[test]
    fn without_room_and_among_others_nothing_is_shared() {
        let mut pad = pad();
        let (_ours, theirs) = socket::seqpacket_pair().unwrap();
        let joins = Given { inside: Some(theirs.as_fd()), ..given(&theirs) };
        assert!(pad.put(&joins).is_none());
        for pid in 1..=i32::from(PLACES) {
            let index = pad.put(&given(&theirs)).unwrap().1.index;
            pad.taken(index, pid);
        }
        assert!(pad.put(&given(&theirs)).is_none());
        pad.ended(3);
        assert!(pad.put(&given(&theirs)).is_some());
    }
}
