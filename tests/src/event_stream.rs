//! A player's view of a server's events: as plain and as strict as the WHATWG's text lets a reader be.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;

use crate::program::PATIENCE;

/// Makes an event stream of the session at `session`; what the server answered.
///
/// # Errors
/// If it does not answer.
pub async fn subscribe(session: &str, body: &str) -> anyhow::Result<Response> {
    let request = Client::new().post(format!("{session}/events")).header("Content-Type", "application/json");
    Ok(request.body(body.to_owned()).send().await?)
}

/// The URL of a new stream of these types.
///
/// # Errors
/// If the server makes none.
pub async fn create(session: &str, kinds: &[&str]) -> anyhow::Result<String> {
    let response = subscribe(session, &serde_json::to_string(kinds)?).await?;
    ensure!(response.status() == StatusCode::CREATED, "{}: {}", response.status(), response.text().await?);
    let location = response.headers().get("location").context("a Location")?;
    Ok(location.to_str()?.to_owned())
}

/// What stands in a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// One event: type and data.
    Event(String, Value),
    /// A comment.
    Comment,
    /// The end of the stream.
    End,
}

/// A stream that is being read.
pub struct EventStream {
    response: Response,
    text: String,
}

impl EventStream {
    /// Begins to read.
    ///
    /// # Errors
    /// If there is no such stream.
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        Self::open_with(&Client::new(), url).await
    }

    /// The same with a client that trusts the server.
    ///
    /// # Errors
    /// As [`EventStream::open`].
    pub async fn open_with(client: &Client, url: &str) -> anyhow::Result<Self> {
        let response = client.request(Method::GET, url).send().await?;
        ensure!(response.status() == StatusCode::OK, "{}", response.status());
        let kind = response.headers().get("content-type").context("a content type")?;
        ensure!(kind == "text/event-stream", "{kind:?}");
        Ok(Self { response, text: String::new() })
    }

    /// The next event, or the end; comments are skipped.
    ///
    /// # Errors
    /// If nothing comes within [`PATIENCE`], or what comes is no event.
    pub async fn next(&mut self) -> anyhow::Result<Item> {
        loop {
            match self.next_within(PATIENCE).await?.context("nothing comes")? {
                Item::Comment => {}
                item => return Ok(item),
            }
        }
    }

    /// Whatever comes next within this time.
    ///
    /// # Errors
    /// If what comes is no event.
    pub async fn next_within(&mut self, patience: Duration) -> anyhow::Result<Option<Item>> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let item = parse(block)?;
                self.text = rest.to_owned();
                return Ok(Some(item));
            }
            match tokio::time::timeout_at(deadline, self.response.chunk()).await {
                Err(_elapsed) => return Ok(None),
                Ok(Ok(Some(bytes))) => self.text.push_str(std::str::from_utf8(&bytes)?),
                Ok(Ok(None)) => return Ok(Some(Item::End)),
                Ok(Err(error)) => return Err(error.into()),
            }
        }
    }
}

fn parse(block: &str) -> anyhow::Result<Item> {
    match block.lines().collect::<Vec<_>>()[..] {
        [":"] => Ok(Item::Comment),
        [event, data] => {
            let kind = event.strip_prefix("event: ").with_context(|| format!("no type: {block:?}"))?;
            let data = data.strip_prefix("data: ").with_context(|| format!("no data: {block:?}"))?;
            Ok(Item::Event(kind.to_owned(), serde_json::from_str(data)?))
        }
        _ => bail!("neither comment nor event with one line of data: {block:?}"),
    }
}

/// Orders a node by its operations listener to send its viewers to `to`, spread over so many seconds; its report.
///
/// # Errors
/// If it refuses.
pub async fn move_viewers(ops: std::net::SocketAddr, to: &str, over_seconds: u64) -> anyhow::Result<Value> {
    let order = serde_json::json!({ "to": to, "over_seconds": over_seconds });
    let response = Client::new().post(format!("http://{ops}/viewers/move")).json(&order).send().await?;
    ensure!(response.status() == StatusCode::OK, "{}: {}", response.status(), response.text().await?);
    Ok(response.json().await?)
}
