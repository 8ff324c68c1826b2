//! The one hash that names things here.

use sha2::{Digest, Sha256};

/// SHA-256 in hex, 64 characters.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
