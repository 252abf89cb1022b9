//! A secret as it lies on the disk: encrypted and bound to its name.
//!
//! XChaCha20-Poly1305 with a random nonce (192 bits: never used twice, without a counter that
//! somebody would have to keep). The name of the secret and the version of the format are
//! authenticated with it: a file under another name, cut short or changed is found out.

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};

use crate::sys::guarded::Guarded;
use crate::unit::limits::SECRET_BYTES;

/// What a file begins with; the last byte is the version of the format.
pub const MAGIC: &[u8; 8] = b"berthse\x01";

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const HEAD: usize = MAGIC.len() + NONCE_BYTES + TAG_BYTES;

/// Most bytes of a file.
pub const FILE_BYTES: usize = HEAD + SECRET_BYTES;

/// Why a file is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// It does not begin like one, or is of a version that is not known.
    Format,
    /// Another key, another name, or a changed byte.
    Forged,
}

/// The file for a value: magic, nonce, tag, and the value encrypted in place.
pub fn seal(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    name: &str,
    value: &mut Guarded,
) -> Option<[u8; HEAD]> {
    let cipher = XChaCha20Poly1305::new(Key::from_slice(key));
    let nonce = XNonce::from_slice(nonce);
    let tag = cipher.encrypt_in_place_detached(nonce, &bound(name), value.bytes_mut()).ok()?;
    let mut head = [0; HEAD];
    let parts = MAGIC.iter().chain(nonce.iter()).chain(tag.iter());
    head.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
    Some(head)
}

/// The value in a file, as a part of the memory that was given.
///
/// # Errors
/// [`Broken`].
pub fn open<'a>(
    key: &[u8; KEY_BYTES],
    name: &str,
    file: &'a mut Guarded,
) -> Result<&'a [u8], Broken> {
    let bytes = file.bytes_mut();
    let (magic, rest) = bytes.split_first_chunk_mut::<{ MAGIC.len() }>().ok_or(Broken::Format)?;
    if magic != MAGIC {
        return Err(Broken::Format);
    }
    let (nonce, rest) = rest.split_first_chunk_mut::<NONCE_BYTES>().ok_or(Broken::Format)?;
    let (tag, value) = rest.split_first_chunk_mut::<TAG_BYTES>().ok_or(Broken::Format)?;
    let cipher = XChaCha20Poly1305::new(Key::from_slice(key));
    let (nonce, tag) = (XNonce::from_slice(nonce), Tag::from_slice(tag));
    cipher
        .decrypt_in_place_detached(nonce, &bound(name), value, tag)
        .map_err(|_| Broken::Forged)?;
    Ok(value)
}

/// What a value is bound to.
fn bound(name: &str) -> Vec<u8> {
    MAGIC.iter().copied().chain(name.bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; KEY_BYTES] = [7; KEY_BYTES];

    fn sealed(name: &str, value: &[u8]) -> Vec<u8> {
        let mut value = Guarded::copy(value).unwrap();
        let head = seal(&KEY, &[3; NONCE_BYTES], name, &mut value).unwrap();
        [&head, value.bytes()].concat()
    }

    fn opened(key: [u8; KEY_BYTES], name: &str, file: &[u8]) -> Result<Vec<u8>, Broken> {
        open(&key, name, &mut Guarded::copy(file).unwrap()).map(<[u8]>::to_vec)
    }

    #[test]
    fn what_was_sealed_is_opened_again() {
        for value in [b"x".as_slice(), b"correct horse", &[0; 4096]] {
            let file = sealed("db", value);
            assert_eq!(file.len(), HEAD + value.len());
            assert!(value.len() < 4 || !file.windows(value.len()).any(|part| part == value));
            assert_eq!(opened(KEY, "db", &file).unwrap(), value);
        }
    }

    #[test]
    fn every_changed_bit_is_found() {
        let file = sealed("db", b"correct horse");
        for index in 0..file.len() {
            for bit in 0..8 {
                let mut changed = file.clone();
                changed[index] ^= 1 << bit;
                assert!(opened(KEY, "db", &changed).is_err(), "bit {bit} of byte {index}");
            }
        }
        for length in 0..file.len() {
            assert!(opened(KEY, "db", &file[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn another_name_another_key_and_another_version_are_refused() {
        let file = sealed("db", b"correct horse");
        assert_eq!(opened(KEY, "web", &file), Err(Broken::Forged));
        assert_eq!(opened([8; KEY_BYTES], "db", &file), Err(Broken::Forged));
        let mut newer = file.clone();
        newer[7] = 2;
        assert_eq!(opened(KEY, "db", &newer), Err(Broken::Format));
    }
}
