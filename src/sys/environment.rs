//! The environment of this process itself, in the memory where the kernel has put it: what
//! `/proc/PID/environ` shows, and every fork copies.
//!
//! What must hold: the caller has one thread.

use std::ffi::{CStr, c_char};
use std::io;

use zeroize::Zeroize;

use super::guarded::Guarded;

unsafe extern "C" {
    /// environ(7).
    static mut environ: *mut *mut c_char;
}

/// Whether a variable is set.
pub fn has(name: &str) -> bool {
    entries().any(|entry| value_of(entry, name).is_some())
}

/// Takes a variable out: its value, if there was one. Nothing of it is left in memory, also
/// where it was given more than once (the first counts).
///
/// # Errors
/// As [`Guarded::copy`]: then it is left where it was.
pub fn take(name: &str) -> io::Result<Option<Guarded>> {
    let is_named = |entry: &[u8]| value_of(entry, name).is_some();
    let mut value = None;
    if let Some(entry) = entries().find(|entry| is_named(entry)) {
        value = value_of(entry, name).map(Guarded::copy).transpose()?;
    }
    forget(|entry| is_named(entry));
    Ok(value)
}

/// Forgets every variable but these.
pub fn keep_only(names: &[&str]) {
    forget(|entry| !names.iter().any(|name| value_of(entry, name).is_some()));
}

/// Forgets these variables.
pub fn remove(names: &[&str]) {
    forget(|entry| names.iter().any(|name| value_of(entry, name).is_some()));
}

/// What follows `NAME=`.
fn value_of<'a>(entry: &'a [u8], name: &str) -> Option<&'a [u8]> {
    entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

/// The entries as they are now.
fn entries() -> impl Iterator<Item = &'static [u8]> {
    let mut index = 0_usize;
    std::iter::from_fn(move || {
        // SAFETY: one thread; `environ` is null or a list of C strings that ends with a null
        // pointer, and the iterator stops there for good.
        let entry = unsafe {
            if environ.is_null() {
                return None;
            }
            let entry = *environ.add(index);
            if entry.is_null() {
                return None;
            }
            CStr::from_ptr(entry).to_bytes()
        };
        index = index.wrapping_add(1);
        Some(entry)
    })
}

/// Takes out and overwrites the entries for which `is_wanted` says so.
fn forget(is_wanted: impl Fn(&[u8]) -> bool) {
    let (mut from, mut to) = (0_usize, 0_usize);
    // SAFETY: one thread, so nobody reads the list meanwhile, and nobody holds a string of it:
    // std copies what it is asked for. `environ` is a list of writable C strings that ends
    // with a null pointer (environ(7)); `to` never passes `from`, which stops there. Only
    // bytes before a string's own end are overwritten.
    unsafe {
        if environ.is_null() {
            return;
        }
        loop {
            let entry = *environ.add(from);
            if !entry.is_null() && is_wanted(CStr::from_ptr(entry).to_bytes()) {
                let length = CStr::from_ptr(entry).count_bytes();
                std::slice::from_raw_parts_mut(entry.cast::<u8>(), length).zeroize();
            } else {
                *environ.add(to) = entry;
                to = to.wrapping_add(1);
            }
            if entry.is_null() {
                return;
            }
            from = from.wrapping_add(1);
        }
    }
}
