//! The instructions of a filter: classic BPF, of which a filter needs five.
//!
//! Only those with which the kernel can tell beforehand that a call is always allowed
//! (it keeps a bitmap of them, and does not run the filter for these at all): loads of
//! fixed places, comparisons with constants, jumps, and `and`.

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// Instructions to skip if the comparison holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// The constant.
    pub k: u32,
}

/// A program; the kernel takes at most [`Instruction::MOST`] instructions.
pub type Program = Vec<Instruction>;

/// `struct seccomp_data`: where the number of the call is.
pub(super) const NUMBER: u32 = 0;
/// Where the architecture is.
pub(super) const ARCHITECTURE: u32 = 4;

impl Instruction {
    /// `BPF_MAXINSNS`.
    pub const MOST: usize = 4096;

    const fn plain(code: u16, k: u32) -> Self {
        Self { code, jt: 0, jf: 0, k }
    }

    /// Loads 32 bits of `seccomp_data`.
    pub(super) const fn load(offset: u32) -> Self {
        Self::plain(0x20, offset)
    }

    /// Keeps these bits.
    pub(super) const fn and(mask: u32) -> Self {
        Self::plain(0x54, mask)
    }

    /// Ends with this answer.
    pub(super) const fn answer(code: u32) -> Self {
        Self::plain(0x06, code)
    }

    /// Skips instructions.
    pub(super) const fn skip(count: u32) -> Self {
        Self::plain(0x05, count)
    }

    /// Compares: `==`.
    pub(super) const fn equal(value: u32, jt: u8, jf: u8) -> Self {
        Self { code: 0x15, jt, jf, k: value }
    }

    /// Compares: `>`.
    pub(super) const fn greater(value: u32, jt: u8, jf: u8) -> Self {
        Self { code: 0x25, jt, jf, k: value }
    }

    /// Compares: `>=`.
    pub(super) const fn at_least(value: u32, jt: u8, jf: u8) -> Self {
        Self { code: 0x35, jt, jf, k: value }
    }
}

/// The lower and the upper half of an argument: where it is.
pub(super) fn argument(number: u8) -> (u32, u32) {
    let low = u32::from(number).saturating_mul(8).saturating_add(16);
    (low, low.saturating_add(4))
}
