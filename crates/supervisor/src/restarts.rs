//! When a child that died is started again: pure policy.

use std::time::Duration;

/// A child that served for so long has nothing to do with the deaths before it.
const WELL_AFTER: Duration = Duration::from_secs(10);
/// Before the second restart in a row; the first one comes at once. Doubles from death to death.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// After so many deaths in a row the sessions are suspected to be what kills the process.
const SESSIONS_GIVEN_UP_AFTER: u32 = 5;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// Its exit code, if it was not killed.
    pub code: Option<i32>,
    /// Whether it ever served.
    pub was_ready: bool,
    /// How long it lived.
    pub lived: Duration,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Start the next one after so long, and let it go on with the sessions or not.
    Restart {
        /// The pause.
        after: Duration,
        /// Whether sessions are gone on with.
        resumes: bool,
    },
    /// End with this exit code.
    End(u8),
}

/// The deaths so far.
#[derive(Debug, Default)]
pub struct Restarts {
    /// Whether any child ever served.
    has_served: bool,
    /// Deaths in a row.
    deaths: u32,
    /// Deaths in all.
    all_deaths: u64,
}

impl Restarts {
    /// A child serves.
    pub const fn ready(&mut self) {
        self.has_served = true;
    }

    /// How many children have died and were to be followed by another one.
    pub const fn deaths(&self) -> u64 {
        self.all_deaths
    }

    /// A child has ended that nobody told to.
    pub fn died(&mut self, death: Death, bad_configuration: u8) -> Decision {
        match death.code {
            Some(0) => return Decision::End(0),
            Some(code) if code == i32::from(bad_configuration) => return Decision::End(bad_configuration),
            // It cannot start here at all, and has said why.
            code if !self.has_served => {
                return Decision::End(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
            }
            Some(_) | None => {}
        }
        if death.was_ready && death.lived >= WELL_AFTER {
            self.deaths = 0;
        }
        self.deaths += 1;
        self.all_deaths += 1;
        let doublings = self.deaths.saturating_sub(2).min(16);
        let pause = PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX);
        let after = if self.deaths == 1 { Duration::ZERO } else { pause };
        Decision::Restart { after, resumes: self.deaths <= SESSIONS_GIVEN_UP_AFTER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD_CONFIGURATION: u8 = 64;

    fn killed(lived: Duration) -> Death {
        Death { code: None, was_ready: true, lived }
    }

    fn pauses(restarts: &mut Restarts, count: usize) -> Vec<(u64, bool)> {
        let next = |_| match restarts.died(killed(Duration::from_millis(50)), BAD_CONFIGURATION) {
            Decision::Restart { after, resumes } => (after.as_millis() as u64, resumes),
            Decision::End(code) => panic!("ended with {code}"),
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn the_first_restart_comes_at_once_and_the_next_ones_later_and_later() {
        let mut restarts = Restarts::default();
        restarts.ready();
        let expected =
            [(0, true), (100, true), (200, true), (400, true), (800, true), (1600, false), (3200, false)];
        assert_eq!(pauses(&mut restarts, 7), expected);
        assert_eq!(pauses(&mut restarts, 30)[29], (5000, false));
        let well = restarts.died(killed(WELL_AFTER), BAD_CONFIGURATION);
        assert_eq!(well, Decision::Restart { after: Duration::ZERO, resumes: true });
        assert_eq!(restarts.deaths(), 38, "all of them count");
    }

    #[test]
    fn a_program_that_cannot_start_is_not_started_again() {
        let died = |code| Death { code, was_ready: false, lived: Duration::from_millis(5) };
        let end = |code| Restarts::default().died(died(code), BAD_CONFIGURATION);
        assert_eq!(end(Some(1)), Decision::End(1));
        assert_eq!(end(Some(101)), Decision::End(101));
        assert_eq!(end(None), Decision::End(1));
    }

    #[test]
    fn a_clean_end_and_a_bad_configuration_are_final() {
        let mut restarts = Restarts::default();
        restarts.ready();
        let death = |code| Death { code: Some(code), was_ready: true, lived: WELL_AFTER };
        assert_eq!(restarts.died(death(0), BAD_CONFIGURATION), Decision::End(0));
        assert_eq!(restarts.died(death(64), BAD_CONFIGURATION), Decision::End(64));
        assert_eq!(restarts.deaths(), 0, "nobody follows");
        assert!(matches!(restarts.died(death(1), BAD_CONFIGURATION), Decision::Restart { .. }));
    }
}
