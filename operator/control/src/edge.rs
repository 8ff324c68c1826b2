//! Where time and randomness enter (law 12). Everything else in this crate asks these two traits, so that a simulator can
//! drive a whole operator with virtual time and a seed.

use std::{sync::Mutex, time::Duration};

use drover_api::{Incarnation, Millis, WriteId};
use nix::time::{ClockId, clock_gettime};
use rand::{Rng, SeedableRng, rngs::StdRng};

/// Reads the time.
pub trait Clock: Send + Sync {
    /// The wall clock: for people, certificates and what other machines compare.
    fn now(&self) -> Millis;

    /// From any fixed origin, never backwards, and counting while this process is stopped or the host is suspended: what a
    /// lease is measured with.
    fn monotonic(&self) -> Duration;
}

/// Gives fresh random bytes.
pub trait Entropy: Send + Sync {
    fn fill(&self, bytes: &mut [u8]);
}

/// The host's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// The host's randomness.
#[derive(Debug)]
pub struct SystemEntropy {
    generator: Mutex<StdRng>,
}

/// What is minted from randomness.
impl dyn Entropy + '_ {
    /// 128 bits in hex.
    pub fn write_id(&self) -> WriteId {
        WriteId::new(self.hex(16)).expect("32 hex digits are a write id")
    }

    /// 64 bits in hex: short enough for host names, and minted once per life of a set.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation::new(self.hex(8)).expect("16 hex digits are an incarnation")
    }

    pub fn hex(&self, count: usize) -> String {
        let mut bytes = vec![0; count];
        self.fill(&mut bytes);
        hex::encode(bytes)
    }
}

// === impl SystemClock ===

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the edge: the one reader of the wall clock")]
    fn now(&self) -> Millis {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let millis = since.unwrap_or_default().as_millis();
        Millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has CLOCK_BOOTTIME since 2.6.39");
        Duration::from(time)
    }
}

// === impl SystemEntropy ===

impl Default for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "the operator's one source of it")]
    fn default() -> Self {
        Self { generator: Mutex::new(StdRng::from_rng(&mut rand::rng())) }
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut generator = self.generator.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        generator.fill_bytes(bytes);
    }
}

#[cfg(test)]
pub mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A clock that goes when its test says so: seconds since it was made, at a day in 2023.
    #[derive(Debug, Default)]
    pub struct At(pub AtomicU64);

    impl Clock for At {
        fn now(&self) -> Millis {
            Millis(1_700_000_000_000 + 1000 * self.0.load(Ordering::SeqCst))
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::SeqCst))
        }
    }
}
