//! One name for one join, in the logs and traces of every process that has to do with it.

use access::tickets;
use model::{JoinName, TraceParent};
use signaling::http::Problem;

/// That of whoever comes with this ticket, or a new one; its parts are children of `span`. Who is sent on to another node
/// keeps the name: it is in the ticket.
///
/// # Errors
/// If there is no randomness.
pub fn of(ticket: Option<&str>, span: Option<TraceParent>) -> Result<JoinName, Problem> {
    let id = match ticket.and_then(tickets::trace) {
        Some(trace) => trace,
        None => u64::from_be_bytes(crate::http::random()?),
    };
    Ok(JoinName { id, span })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_ticket_gets_a_name_of_his_own() {
        let [first, second] = [None, Some("no ticket")].map(|ticket| of(ticket, None).expect("a name"));
        assert_ne!(first, second);
    }
}
