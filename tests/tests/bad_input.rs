//! Mistakes and malice: taken ports, bad configuration, requests and datagrams that nobody should send.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use reqwest::{Client, Method, Response, StatusCode};
use tests::offers::{self, attributes, crlf};
use tests::program::{self, Program};
use tests::stun;

type Result = anyhow::Result<()>;

/// Runs the program until it ends by itself.
fn run(arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(program::path()?);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("start the program")?;
    let deadline = Instant::now() + program::PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            anyhow::bail!("it goes on: {arguments:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(child.wait_with_output()?)
}

/// Exit code, and all that it said.
fn said(output: &Output) -> (Option<i32>, String) {
    let all = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&all).trim_end().to_owned())
}

#[test]
fn a_taken_port_is_one_clear_line() -> Result {
    let free = ["--http", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--link-port", "0", "--ingest-port", "0"];
    let free = [&free[..], &["--media-port", "0", "--shards", "1"]].concat();
    let (held_tcp, held_udp) = (TcpListener::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let (tcp, udp) = (held_tcp.local_addr()?.to_string(), held_udp.local_addr()?.port().to_string());
    for (flag, value) in [
        ("--http", &tcp),
        ("--ops", &tcp),
        ("--link-port", &udp),
        ("--ingest-port", &udp),
        ("--media-port", &udp),
    ] {
        let mut arguments = vec!["up"];
        for pair in free.chunks(2) {
            arguments.extend([pair[0], if pair[0] == flag { value } else { pair[1] }]);
        }
        let (code, text) = said(&run(&arguments)?);
        assert_eq!(code, Some(1), "{flag}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        let port = value.rsplit(':').next().context("a port")?;
        assert!(text.contains(flag) && text.contains(port), "{flag} {port}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn bad_configuration_is_told_before_any_port_is_bound() -> Result {
    // It holds every port that the bad ones are told to use: had they bound one, they would say so.
    let holder = program::node("up").start().await?;
    let folder = tempfile::tempdir()?;
    let file = |name: &str, text: &str| -> anyhow::Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let unknown_key = file("unknown.toml", "[htpp]\nlisten = \"127.0.0.1:1\"\n")?;
    let wrong_type = file("type.toml", "[limits]\nviewers_max = \"many\"\n")?;
    let absent = folder.path().join("absent.toml").display().to_string();
    let (http, ops) = (holder.http.to_string(), holder.ops.to_string());
    let (link, ingest) = (holder.link_port.to_string(), holder.ingest_port.to_string());
    let media = holder.media_port.to_string();
    let ports = ["--ops", &ops, "--link-port", &link, "--ingest-port", &ingest, "--media-port", &media];
    let cases: [(&[&str], &str); 9] = [
        (&["--http", &http, "--no-such-flag"], "--no-such-flag"),
        (&["--http", "somewhere"], "somewhere"),
        (&["--http", &http, "--grace-period", "soon"], "soon"),
        (&["--http", &http, "--config", &unknown_key], "htpp"),
        (&["--http", &http, "--config", &wrong_type], "viewers_max"),
        (&["--http", &http, "--config", &absent], "absent.toml"),
        (&["--http", &http, "--broadcasts", "No Such Name"], "No Such Name"),
        (&["--http", &http, "--cluster-key", "short"], "16"),
        (&["--http", "0.0.0.0:0"], "--insecure-http"),
    ];
    for (arguments, expected) in cases {
        let (code, text) = said(&run(&[&["up"][..], &ports, arguments].concat())?);
        assert_eq!(code, Some(64), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
        assert!(!text.contains("cannot listen"), "{text}");
        println!("{arguments:?} -> {}", text.lines().next().unwrap_or_default());
    }
    Ok(())
}

async fn post(program: &Program, path: &str, token: Option<&str>, body: String) -> anyhow::Result<Response> {
    let mut request =
        Client::new().post(program.url(path)).header("Content-Type", "application/sdp").body(body);
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    Ok(request.send().await?)
}

#[tokio::test]
async fn names_outside_the_grammar_and_unknown_ones_are_not_found() -> Result {
    let longest = "a".repeat(63);
    let program = program::node("up").with(&["--broadcasts", &longest]).start().await?;
    let watch = crlf(offers::CHROMIUM_VIEWER);
    for (name, expected) in [
        (longest.as_str(), StatusCode::CREATED),
        ("unknown", StatusCode::NOT_FOUND),
        (&"a".repeat(64), StatusCode::NOT_FOUND),
        ("Upper", StatusCode::NOT_FOUND),
        (".hidden", StatusCode::NOT_FOUND),
        ("-flag", StatusCode::NOT_FOUND),
        ("two%20words", StatusCode::NOT_FOUND),
        ("a%2fb", StatusCode::NOT_FOUND),
        ("caf%c3%a9", StatusCode::NOT_FOUND),
        ("a%00", StatusCode::NOT_FOUND),
    ] {
        let response = post(&program, &format!("/whep/{name}"), None, watch.clone()).await?;
        assert_eq!(response.status(), expected, "{name}");
    }
    for (name, expected) in [("0.new_show-1", StatusCode::CREATED), ("New", StatusCode::NOT_FOUND)] {
        let publish = crlf(offers::OBS_PUBLISHER);
        let response = post(&program, &format!("/whip/{name}"), None, publish).await?;
        assert_eq!(response.status(), expected, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn the_wrong_token_is_refused_and_says_which_kind_is_wanted() -> Result {
    let tokens = ["--publish-tokens", "publish-secret-1", "--view-tokens", "show=view-secret-1"];
    let program = program::node("up").with(&["--broadcasts", "show,other"]).with(&tokens).start().await?;
    for (path, offer, right, others) in [
        ("/whip/show", offers::OBS_PUBLISHER, "publish-secret-1", ["view-secret-1", "publish-secret-2"]),
        ("/whep/show", offers::CHROMIUM_VIEWER, "view-secret-1", ["publish-secret-1", "view-secret-"]),
    ] {
        let wrong = [None, Some(""), Some(others[0]), Some(others[1])];
        for token in wrong {
            let response = post(&program, path, token, crlf(offer)).await?;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path} {token:?}");
            let challenge = response.headers().get("WWW-Authenticate").context("WWW-Authenticate")?;
            assert!(challenge.to_str()?.starts_with("Bearer"), "{challenge:?}");
        }
        let created = post(&program, path, Some(right), crlf(offer)).await?;
        assert_eq!(created.status(), StatusCode::CREATED, "{path}");
        // The session asks for the token, too.
        let session = created.headers().get("Location").context("Location")?.to_str()?.to_owned();
        let client = Client::new();
        assert_eq!(client.delete(&session).send().await?.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(client.delete(&session).bearer_auth(right).send().await?.status(), StatusCode::OK);
    }
    let elsewhere =
        post(&program, "/whep/other", Some("view-secret-1"), crlf(offers::CHROMIUM_VIEWER)).await?;
    assert_eq!(elsewhere.status(), StatusCode::UNAUTHORIZED, "a token for one broadcast");
    for secret in ["publish-secret", "view-secret"] {
        assert!(!program.log().contains(secret), "secrets are not logged");
    }
    Ok(())
}

#[tokio::test]
async fn oversized_bodies_are_refused_wherever_a_body_is_read() -> Result {
    let program = program::node("up").with(&["--broadcasts", "show"]).start().await?;
    let quiet = program.resident_bytes();
    let huge = "a=x\r\n".repeat(2 << 20);
    for path in ["/whip/show", "/whep/show"] {
        // The server may stop reading and close while the client still sends.
        match post(&program, path, None, huge.clone()).await {
            Ok(response) => assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE, "{path}"),
            Err(error) => {
                assert!(error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_request))
            }
        }
    }
    let created = post(&program, "/whep/show", None, crlf(offers::CHROMIUM_VIEWER)).await?;
    let tag = created.headers().get("ETag").context("ETag")?.to_str()?.to_owned();
    let session = created.headers().get("Location").context("Location")?.to_str()?.to_owned();
    assert_eq!(patch(&session, Some(&tag), huge[..1 << 20].to_owned()).await?, StatusCode::PAYLOAD_TOO_LARGE);
    let grown = program.resident_bytes().saturating_sub(quiet);
    println!("oversized bodies of {} bytes: memory grew by {grown} bytes", huge.len());
    assert!(grown < 4 << 20, "{grown}");
    Ok(())
}

async fn patch(session: &str, tag: Option<&str>, fragment: String) -> anyhow::Result<StatusCode> {
    let mut request = Client::new().request(Method::PATCH, session).body(fragment);
    request = request.header("Content-Type", "application/trickle-ice-sdpfrag");
    if let Some(tag) = tag {
        request = request.header("If-Match", tag);
    }
    Ok(request.send().await?.status())
}

#[tokio::test]
async fn trickling_and_restarts_are_taken_and_nonsense_does_no_harm() -> Result {
    let program = program::node("up").with(&["--broadcasts", "show"]).start().await?;
    for (path, offer) in [("/whip/show", offers::CHROMIUM_PUBLISHER), ("/whep/show", offers::CHROMIUM_VIEWER)]
    {
        let created = post(&program, path, None, crlf(offer)).await?;
        let tag = created.headers().get("ETag").context("ETag")?.to_str()?.to_owned();
        let session = created.headers().get("Location").context("Location")?.to_str()?.to_owned();
        let media = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n";
        let candidates = "a=candidate:1 1 udp 1 192.0.2.1 5 typ host\r\na=candidate:2 1 udp 1 \
             b5b1f3e0-0000-4000-8000-000000000000.local 5 typ host\r\na=candidate:3 1 tcp 1 192.0.2.1 9 typ host \
             tcptype active\r\n";
        let credentials = |ufrag: &str, pwd: &str| format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n");
        let same = credentials(attributes(offer, "ice-ufrag")[0], attributes(offer, "ice-pwd")[0]);
        let trickle = format!("{same}{media}{candidates}a=end-of-candidates\r\n");
        let restart = |ufrag: &str| format!("{}{media}", credentials(ufrag, "9876543210987654321098"));
        assert_eq!(patch(&session, Some(&tag), trickle.clone()).await?, StatusCode::NO_CONTENT, "{path}");
        assert_eq!(patch(&session, None, trickle.clone()).await?, StatusCode::PRECONDITION_REQUIRED);
        let stale = "\"0000000000000000\"";
        assert_eq!(patch(&session, Some(stale), trickle.clone()).await?, StatusCode::PRECONDITION_FAILED);
        assert_eq!(patch(&session, Some(&tag), "rubbish".to_owned()).await?, StatusCode::BAD_REQUEST);
        // The session is as it was.
        assert_eq!(patch(&session, Some(&tag), trickle.clone()).await?, StatusCode::NO_CONTENT);
        for (star, ufrag) in [("*", "wxyz"), ("\"*\"", "zyxw")] {
            assert_eq!(patch(&session, Some(star), restart(ufrag)).await?, StatusCode::OK, "{path}");
        }
        assert_eq!(patch(&session, Some("*"), restart("zyxw")).await?, StatusCode::NO_CONTENT, "nothing new");
        assert_eq!(
            patch(&session, Some(&tag), trickle).await?,
            StatusCode::PRECONDITION_FAILED,
            "it has ended"
        );
        assert_eq!(
            Client::new().delete(&session).header("If-Match", stale).send().await?.status(),
            StatusCode::OK
        );
    }
    Ok(())
}

/// A DTLS 1.2 ClientHello as a server would answer it: P-256, AES-128-GCM, `use_srtp`.
fn client_hello() -> Vec<u8> {
    let extensions: [&[u8]; 5] = [
        &[0, 10, 0, 4, 0, 2, 0, 23],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 4, 0, 2, 4, 3],
        &[0, 14, 0, 5, 0, 2, 0, 7, 0],
        &[0, 23, 0, 0],
    ];
    let extensions = extensions.concat();
    let mut body = vec![0xfe, 0xfd];
    body.extend_from_slice(&[7; 32]);
    // No session id, no cookie, one cipher suite, no compression.
    body.extend_from_slice(&[0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
    body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
    body.extend_from_slice(&extensions);
    let length = (body.len() as u32).to_be_bytes();
    let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0];
    record.extend_from_slice(&(body.len() as u16 + 12).to_be_bytes());
    record.push(1);
    record.extend_from_slice(&length[1..]);
    record.extend_from_slice(&[0, 0, 0, 0, 0]);
    record.extend_from_slice(&length[1..]);
    record.extend_from_slice(&body);
    record
}

/// Sends a bare check until it is answered, as a client does; the answer.
fn check(socket: &UdpSocket, request: &[u8], transaction: [u8; 12]) -> anyhow::Result<SocketAddr> {
    let mut buffer = [0; 2048];
    socket.set_read_timeout(Some(Duration::from_millis(250)))?;
    for _ in 0..40 {
        socket.send(request)?;
        if let Ok(length) = socket.recv(&mut buffer)
            && let Some(mapped) = stun::mapped_address(&buffer[..length], transaction)
        {
            return Ok(mapped);
        }
    }
    anyhow::bail!("no answer to a bare check")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bare_check_is_answered_and_nothing_unauthenticated_is() -> Result {
    let program = program::node("up").with(&["--broadcasts", "show"]).start().await?;
    for (path, offer) in [("/whip/show", offers::OBS_PUBLISHER), ("/whep/show", offers::CHROMIUM_VIEWER)] {
        let answer = post(&program, path, None, crlf(offer)).await?.text().await?;
        let (ufrag, password) = (attributes(&answer, "ice-ufrag")[0], attributes(&answer, "ice-pwd")[0]);
        let candidate: Vec<&str> = attributes(&answer, "candidate")[0].split(' ').collect();
        let server: SocketAddr = format!("{}:{}", candidate[4], candidate[5]).parse()?;
        let username = format!("{ufrag}:{}", attributes(offer, "ice-ufrag")[0]);
        let connected = || -> anyhow::Result<UdpSocket> {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(server)?;
            Ok(socket)
        };
        let (stranger, peer) = (connected()?, connected()?);
        let forged = [
            stun::bare_request([1; 12], &username, "not the password at all"),
            stun::unsigned_request([2; 12], &username),
            stun::bare_request([3; 12], "unknown:peer", password),
            stun::bare_request([4; 12], ufrag, password),
            client_hello(),
        ];
        for datagram in &forged {
            stranger.send(datagram)?;
        }
        let transaction = [9; 12];
        let request = stun::bare_request(transaction, &username, password);
        let mapped = tokio::task::block_in_place(|| check(&peer, &request, transaction))?;
        assert_eq!(mapped, peer.local_addr()?, "{path}");
        // The very hello that a stranger got no answer to is answered, to a viewer once it has answered a check.
        peer.send(&client_hello())?;
        let mut buffer = [0; 2048];
        let own_password = attributes(offer, "ice-pwd")[0];
        let mut has_answered = false;
        let mut is_done = path != "/whep/show";
        while !is_done {
            let length =
                tokio::task::block_in_place(|| peer.recv(&mut buffer)).context("an answer to DTLS")?;
            if let Some(success) = stun::bare_success(&buffer[..length], own_password) {
                has_answered = true;
                peer.send(&success)?;
            } else if (20..64).contains(&buffer[0]) {
                assert!(has_answered, "DTLS before a proof: {:02x?}", &buffer[..length.min(16)]);
                is_done = true;
            }
        }
        stranger.set_nonblocking(true)?;
        let unanswered = stranger.recv(&mut buffer);
        assert!(unanswered.is_err(), "{path}: a stranger got {:02x?}", &buffer[..16]);
    }
    Ok(())
}
