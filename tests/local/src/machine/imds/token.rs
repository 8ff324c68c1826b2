//! Session tokens that need no memory: the time they end at, and its signature under a key that lives as long as the service.

use std::ops::RangeInclusive;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a token may live, in seconds: EC2's bounds.
pub(super) const SECONDS: RangeInclusive<u64> = 1..=21_600;

pub(super) struct Tokens {
    started: Instant,
    key: [u8; 32],
}

impl Tokens {
    #[expect(clippy::disallowed_methods, reason = "the edge: tokens of the real service end by the real clock")]
    pub(super) fn new() -> Tokens {
        Tokens { started: Instant::now(), key: rand::random() }
    }

    pub(super) fn grant(&self, seconds: u64) -> String {
        self.grant_at(self.started.elapsed().as_secs(), seconds)
    }

    pub(super) fn accepts(&self, token: &[u8]) -> bool {
        self.accepts_at(self.started.elapsed().as_secs(), token)
    }

    fn grant_at(&self, now: u64, seconds: u64) -> String {
        let end = (now + seconds).to_be_bytes();
        URL_SAFE_NO_PAD.encode([&end[..], &self.signed(&end).finalize().into_bytes()[..]].concat())
    }

    fn accepts_at(&self, now: u64, token: &[u8]) -> bool {
        let Ok(token) = URL_SAFE_NO_PAD.decode(token) else { return false };
        let Some((end, signature)) = token.split_first_chunk::<8>() else { return false };
        self.signed(end).verify_slice(signature).is_ok() && now <= u64::from_be_bytes(*end)
    }

    fn signed(&self, end: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        mac.update(end);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_and_neither_another_service_s_nor_a_changed_one_is_accepted() {
        let (ours, theirs) = (Tokens::new(), Tokens::new());
        let token = ours.grant_at(100, 60);
        assert!(ours.accepts_at(160, token.as_bytes()));
        assert!(!ours.accepts_at(161, token.as_bytes()), "it has ended");
        assert!(!theirs.accepts_at(100, token.as_bytes()), "another machine's token");
        let mut longer = URL_SAFE_NO_PAD.decode(&token).unwrap();
        longer[0] = 1;
        assert!(!ours.accepts_at(100, URL_SAFE_NO_PAD.encode(longer).as_bytes()), "its end was changed");
        assert!(!ours.accepts_at(100, b""));
    }
}
