//! One name for one join, in the log of every process that has to do with it.

use std::fmt;

use access::tickets;
use signaling::http::Problem;

/// Names one publisher's or viewer's way in, from the front door to its end. Who is sent on to another node keeps it: it
/// is in the ticket. It opens nothing, and a client that makes up a ticket makes up no more than a name in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinId(u64);

impl JoinId {
    /// That of whoever comes with this ticket, or a new one.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn of(ticket: Option<&str>) -> Result<Self, Problem> {
        match ticket.and_then(tickets::trace) {
            Some(trace) => Ok(Self(trace)),
            None => Ok(Self(u64::from_be_bytes(crate::http::random()?))),
        }
    }
}

impl JoinId {
    /// The number, for other nodes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for JoinId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for JoinId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_ticket_gets_a_name_of_his_own() {
        let [first, second] = [None, Some("no ticket")].map(|ticket| JoinId::of(ticket).expect("a name"));
        assert_ne!(first, second);
        assert_eq!(first.to_string().len(), 16);
    }
}
