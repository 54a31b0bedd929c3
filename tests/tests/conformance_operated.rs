//! The lines of the conformance suite that nobody sees from outside without an operator's hand: a server that is full, one
//! whose viewers may not wait, one that sends its viewers elsewhere. Over HTTP and HTTPS.

use anyhow::{Context as _, ensure};
use conformance::Options;
use reqwest::{Certificate, Client, Response, StatusCode};
use serde_json::json;
use tempfile::TempDir;
use tests::event_stream::{self, EventStream, Item};
use tests::offers;
use tests::program::{self, Program};

type Result = anyhow::Result<()>;

/// No machine of tests has more.
const SHARDS_MAX: usize = 128;

/// A node that speaks one of the two, and who trusts it.
struct Server {
    program: Program,
    scheme: &'static str,
    client: Client,
    /// PEM.
    trusted: Option<String>,
    _folder: TempDir,
}

impl Server {
    /// One for each scheme, with these arguments.
    async fn both(arguments: &[&str]) -> anyhow::Result<[Self; 2]> {
        Ok([Self::start(arguments, false).await?, Self::start(arguments, true).await?])
    }

    async fn start(arguments: &[&str], has_tls: bool) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let node = program::node("up").with(&["--broadcasts", "show"]).with(arguments);
        if !has_tls {
            let (program, client) = (node.start().await?, Client::new());
            return Ok(Self { program, scheme: "http", client, trusted: None, _folder: folder });
        }
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let file = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(file("chain"), made.cert.pem())?;
        std::fs::write(file("key"), made.signing_key.serialize_pem())?;
        let tls = ["--tls-certificate", &file("chain"), "--tls-key", &file("key")];
        let program = node.with(&tls).start().await?;
        let certificate = Certificate::from_pem(made.cert.pem().as_bytes())?;
        let client = Client::builder().tls_certs_only([certificate]).build()?;
        Ok(Self { program, scheme: "https", client, trusted: Some(made.cert.pem()), _folder: folder })
    }

    fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.program.http)
    }

    async fn offer(&self) -> anyhow::Result<Response> {
        let request = self.client.post(self.url("/whep/show")).header("Content-Type", "application/sdp");
        Ok(request.body(offers::crlf(offers::CHROMIUM_VIEWER)).send().await?)
    }
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[tokio::test]
async fn w36_a_full_server_answers_503_and_says_when_to_come_back() -> Result {
    for server in Server::both(&["--viewers-max", "1"]).await? {
        // One place on each shard, of which there are as many as cores.
        let mut sessions = Vec::new();
        let refused = loop {
            let answer = server.offer().await?;
            if answer.status() != StatusCode::CREATED {
                break answer;
            }
            sessions.push(header(&answer, "location").to_owned());
            ensure!(sessions.len() <= SHARDS_MAX, "{}: everybody is let in", server.scheme);
        };
        ensure!(
            refused.status() == StatusCode::SERVICE_UNAVAILABLE,
            "{}: {}",
            server.scheme,
            refused.status()
        );
        let retry_after: u32 = header(&refused, "retry-after").parse().context("Retry-After")?;
        ensure!(retry_after > 0, "{}", server.scheme);
        ensure!(header(&refused, "content-type").starts_with("application/problem+json"), "{refused:?}");
        // Who leaves makes room.
        let session = sessions.pop().context("somebody was let in")?;
        ensure!(server.client.delete(&session).send().await?.status() == StatusCode::OK, "{session}");
        program::until("there is room again", async || {
            Ok(server.offer().await?.status() == StatusCode::CREATED)
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn e03_viewers_that_may_not_wait_are_told_when_to_come_back() -> Result {
    for server in Server::both(&["--viewers-wait=false"]).await? {
        let options = Options {
            url: Some(server.url("/whep/show")),
            only: vec!["E03".into()],
            trusted: server.trusted.clone().map(String::into_bytes),
            ..Options::default()
        };
        let report = conformance::run(options, |_| {}).await?;
        let line = report.line("E03").context("E03")?;
        ensure!(line.outcome.word() == "passed", "{}: {report}", server.scheme);
    }
    Ok(())
}

#[tokio::test]
async fn e13_a_viewer_is_told_to_go_elsewhere() -> Result {
    for server in Server::both(&[]).await? {
        let session = server.offer().await?;
        let session = header(&session, "location").to_owned();
        let request =
            server.client.post(format!("{session}/events")).header("Content-Type", "application/json");
        let made = request.body(r#"["reconnect"]"#).send().await?;
        ensure!(made.status() == StatusCode::CREATED, "{}: {}", server.scheme, made.status());
        let stream = header(&made, "location").to_owned();
        let mut reader = EventStream::open_with(&server.client, &stream).await?;
        event_stream::move_viewers(server.program.ops, "https://b.example", 0).await?;
        let told = Item::Event("reconnect".into(), json!({ "url": "https://b.example/whep/show" }));
        assert_eq!(reader.next().await?, told, "{}", server.scheme);
    }
    Ok(())
}
