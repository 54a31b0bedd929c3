//! Server-sent events (WHATWG HTML, "Server-sent events") as a player reads them.

use std::time::Duration;

use reqwest::Response;
use serde_json::Value;

use crate::checks::Trouble;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) data: Value,
    /// How many `data` lines it took.
    pub(crate) data_lines: usize,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Next {
    Event(Event),
    /// The server has ended the stream.
    End,
    /// Nothing came in time.
    Nothing,
}

/// A stream that is being read.
pub(crate) struct EventStream {
    response: Response,
    text: String,
}

impl EventStream {
    pub(crate) const fn new(response: Response) -> Self {
        Self { response, text: String::new() }
    }

    /// The next event within this time; comments are skipped.
    pub(crate) async fn next_within(&mut self, patience: Duration) -> Result<Next, Trouble> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let event = parse(block);
                self.text = rest.to_owned();
                if let Some(event) = event? {
                    return Ok(Next::Event(event));
                }
            }
            match tokio::time::timeout_at(deadline, self.response.chunk()).await {
                Err(_elapsed) => return Ok(Next::Nothing),
                Ok(Ok(Some(bytes))) => self.text += &String::from_utf8_lossy(&bytes).replace("\r\n", "\n"),
                // A server may cut what it ends.
                Ok(Ok(None) | Err(_)) => return Ok(Next::End),
            }
        }
    }
}

fn parse(block: &str) -> Result<Option<Event>, Trouble> {
    let (mut kind, mut data) = ("message".to_owned(), Vec::new());
    for line in block.lines() {
        match line.split_once(':') {
            Some(("event", value)) => kind = value.trim().to_owned(),
            Some(("data", value)) => data.push(value.strip_prefix(' ').unwrap_or(value).to_owned()),
            // A comment, an id, a retry time.
            Some(_) | None => {}
        }
    }
    if data.is_empty() {
        return Ok(None);
    }
    let text = data.join("\n");
    let value = serde_json::from_str(&text)
        .map_err(|_| Trouble::Failed(format!("the data of {kind:?} is not JSON: {text:?}")))?;
    Ok(Some(Event { kind, data: value, data_lines: data.len() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_comments_are_not() {
        let event = parse("event: viewercount\ndata: {\"viewercount\":3}").ok().flatten().expect("an event");
        assert_eq!((event.kind.as_str(), event.data_lines), ("viewercount", 1));
        assert_eq!(event.data["viewercount"], 3);
        assert!(matches!(parse(":"), Ok(None)));
        assert!(matches!(parse("event: active\ndata: {"), Err(Trouble::Failed(_))));
    }
}
