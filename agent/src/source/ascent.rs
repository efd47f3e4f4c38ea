//! The time of a stream's samples, which does not go back; but a clock that was set right must not end the stream.

use super::message::MessageError;

/// Samples in a row that are refused because they are earlier than the one before them; the next one is taken: that is no
/// straggler, the sender's clock was set back.
pub const BACKWARDS_MAX: u32 = 16;

/// How far a stream's time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ascent {
    last_ms: i64,
    refused: u32,
}

impl Ascent {
    /// Before the first sample.
    #[must_use]
    pub fn new() -> Self {
        Self { last_ms: i64::MIN, refused: 0 }
    }

    /// Takes the time of the next sample, Unix ms. One that has the time of its arrival is taken always: then it was our own
    /// clock that was set back.
    ///
    /// # Errors
    /// When it goes back, [`BACKWARDS_MAX`] times in a row.
    pub fn take(&mut self, at_ms: i64, arrived_ms: i64) -> Result<(), MessageError> {
        if at_ms < self.last_ms && at_ms != arrived_ms && self.refused < BACKWARDS_MAX {
            self.refused += 1;
            return Err(MessageError::Backwards { at_ms, last_ms: self.last_ms });
        }
        *self = Self { last_ms: at_ms, refused: 0 };
        Ok(())
    }

    /// A whole message was refused because of this: nothing of it counts but the refusal.
    pub fn refuse(&mut self) {
        self.refused = self.refused.saturating_add(1);
    }
}

impl Default for Ascent {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_straggler_is_refused_and_the_stream_goes_on() {
        let mut ascent = Ascent::new();
        ascent.take(10, 99).unwrap();
        assert_eq!(ascent.take(9, 99), Err(MessageError::Backwards { at_ms: 9, last_ms: 10 }));
        ascent.take(10, 99).unwrap();
        for _ in 0..3 * BACKWARDS_MAX {
            ascent.take(9, 99).unwrap_err();
            ascent.take(11, 99).unwrap();
        }
    }

    #[test]
    fn a_senders_clock_that_was_set_back_ends_no_stream() {
        let mut ascent = Ascent::new();
        ascent.take(i64::MAX, 99).unwrap();
        let refused = (0..1000).take_while(|at| ascent.take(*at, 99).is_err()).count();
        assert_eq!(refused, BACKWARDS_MAX as usize);
        ascent.take(1000, 99).unwrap();
    }

    #[test]
    fn our_own_clock_that_was_set_back_refuses_nobody() {
        let mut ascent = Ascent::new();
        ascent.take(1_000_000, 1_000_000).unwrap();
        ascent.take(5, 5).unwrap();
        ascent.take(6, 6).unwrap();
    }
}
