//! Whether a sender keeps up a minimum pace, so that one that trickles is bounded as one that pauses is.

use std::time::Duration;

use crate::wire::{Code, Fault, Side};

/// How far a body has come since it was last looked at.
pub struct Pace {
    /// How long its sender was waited for, and what it brought. Time in which nothing was asked of the sender is not
    /// its own.
    waited: Duration,
    bytes: usize,
    pause: Duration,
    /// What it must bring in this time.
    least: usize,
}

impl Pace {
    /// For a sender that may pause for `pause`, of a body of `announced` bytes, if that is known.
    pub fn new(pause: Duration, announced: Option<u64>) -> Self {
        let quarter = announced.map_or(u64::MAX, |bytes| bytes.div_ceil(4));
        let least = usize::try_from(quarter).unwrap_or(usize::MAX).min(LEAST);
        Pace { waited: Duration::ZERO, bytes: 0, pause, least }
    }

    /// Counts `bytes` that took so long.
    ///
    /// # Errors
    /// A fault when the last `pause` brought less than [`LEAST`] of them, and less than a quarter of the body.
    pub fn keeps(&mut self, bytes: usize, waited: Duration) -> Result<(), Fault> {
        self.bytes += bytes;
        self.waited += waited;
        if self.waited < self.pause {
            return Ok(());
        }
        let enough = self.bytes >= self.least;
        self.bytes = 0;
        self.waited = Duration::ZERO;
        if enough { Ok(()) } else { Err(trickled(self.least, self.pause)) }
    }
}

/// The fault of a request's body that stopped arriving.
pub fn paused(pause: Duration) -> Fault {
    let pause = humantime::format_duration(pause);
    let detail = format!("nothing of the request's body came for {pause} (--body-timeout)");
    Fault::new(Code::BodyTimeout, Side::Client, detail)
}

/// The fault of a request's body that arrives too slowly.
fn trickled(least: usize, pause: Duration) -> Fault {
    let pause = humantime::format_duration(pause);
    let detail = format!("less than {least} bytes of the request's body came in {pause} (--body-timeout)");
    Fault::new(Code::BodyTimeout, Side::Client, detail)
}

/// Bytes that a body must bring within `--body-timeout`; a small one, a quarter of itself.
pub const LEAST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_not_slow_while_nothing_is_let_through() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(second, None);
        assert!(pace.keeps(LEAST, second).is_ok(), "it brings enough");
        // However long the agent took: what counts is how long the caller was waited for.
        assert!((0..100).all(|_| pace.keeps(1, Duration::from_millis(1)).is_ok()));
        assert!(
            pace.keeps(1, second).unwrap_err().detail.contains("--body-timeout"),
            "it brings next to nothing"
        );
        assert!(pace.keeps(1, Duration::ZERO).is_ok(), "each time anew");
    }

    #[test]
    fn a_small_body_may_be_slow_but_not_for_ever() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(second, Some(6));
        assert!((0..3).all(|_| pace.keeps(2, second).is_ok()));
        assert!(pace.keeps(1, second).is_err());
        assert!(Pace::new(second, Some(0)).keeps(0, second).is_ok(), "nothing is missing");
        assert!(Pace::new(second, Some(u64::MAX)).keeps(LEAST - 1, second).is_err());
    }
}
