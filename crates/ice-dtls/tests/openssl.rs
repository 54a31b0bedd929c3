//! Handshakes with OpenSSL, which is what GStreamer and FFmpeg speak, over loopback UDP: suites, keys, refusals.

#[allow(dead_code)]
mod pair;

use ice_dtls::{
    Certificate, DtlsRole, FailureReason, Fingerprint, Handshake, HandshakeConfig, HashFunction, Output, Path,
};
use pair::{answer, check, config};
use srtp::{MasterKey, Profile};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longer than any of these takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate that OpenSSL made, with its key, in files.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    fingerprint: Fingerprint,
}

impl Identity {
    /// `None`, with a message, where there is no OpenSSL.
    fn new(test: &str, algorithm: &[&str]) -> Option<Self> {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let [certificate, key] = ["pem", "key"].map(|kind| directory.join(format!("ice-dtls-{test}.{kind}")));
        let mut request = Command::new("openssl");
        request
            .args(["req", "-x509", "-nodes", "-subj", "/CN=peer", "-days", "2", "-newkey"])
            .args(algorithm);
        let made =
            request.arg("-keyout").arg(&key).arg("-out").arg(&certificate).stderr(Stdio::null()).status();
        let Ok(status) = made else {
            eprintln!("skipped: there is no openssl command");
            return None;
        };
        assert!(status.success());
        let der = Command::new("openssl").args(["x509", "-outform", "DER", "-in"]).arg(&certificate).output();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der.expect("openssl x509").stdout);
        let fingerprint = Fingerprint::new(HashFunction::Sha256, hash.as_ref()).expect("a SHA-256 hash");
        Some(Self { certificate, key, fingerprint })
    }

    fn ecdsa(test: &str) -> Option<Self> {
        Self::new(test, &["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
    }

    fn rsa(test: &str, bits: u32) -> Option<Self> {
        Self::new(test, &[&format!("rsa:{bits}")])
    }
}

/// `openssl s_client` or `s_server`; ends with its test.
struct Foreign {
    process: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Foreign {
    fn start(program: &str, identity: &Identity, arguments: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command.args([program, "-dtls1_2"]).args(arguments);
        command.arg("-cert").arg(&identity.certificate).arg("-key").arg(&identity.key);
        command.args(["-keymatexport", "EXTRACTOR-dtls_srtp", "-keymatexportlen", "88"]);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl");
        let stdin = process.stdin.take();
        let stdout = BufReader::new(process.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { process, stdin, lines }
    }

    /// What follows `label` in its output.
    fn says(&self, label: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self.lines.recv_timeout(deadline - Instant::now()).expect("openssl says it in time");
            if let Some((_, rest)) = line.split_once(label) {
                return rest.trim().to_owned();
            }
        }
    }

    fn keying_material(&self, profile: Profile) -> String {
        self.says("Keying material: ").to_lowercase()[..2 * profile.keying_material_len()].to_owned()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Our end on a real socket.
struct Local {
    socket: UdpSocket,
    handshake: Handshake,
    path: Path,
}

#[derive(Debug)]
enum End {
    Keys(Profile, String),
    Failed(FailureReason),
    Closed,
}

impl Local {
    /// As DTLS server: waits for the first datagram of `foreign`'s, which stands for a peer whose checks succeeded.
    fn server(foreign_fingerprint: &Fingerprint, start: impl FnOnce(&str) -> Foreign) -> (Self, Foreign) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let local = socket.local_addr().expect("an address");
        let foreign = start(&local.to_string());
        let remote = socket.peek_from(&mut [0; 2048]).expect("a hello").1;
        (Self::new(socket, Path { local, remote }, foreign_fingerprint, DtlsRole::Server), foreign)
    }

    /// As DTLS client of `foreign`.
    fn client(foreign: &Foreign, foreign_fingerprint: &Fingerprint) -> Self {
        let remote: SocketAddr = foreign.says("ACCEPT").parse().expect("an address");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let local = socket.local_addr().expect("an address");
        Self::new(socket, Path { local, remote }, foreign_fingerprint, DtlsRole::Client)
    }

    fn new(socket: UdpSocket, path: Path, fingerprint: &Fingerprint, role: DtlsRole) -> Self {
        let certificate = Arc::new(Certificate::generate().expect("a certificate"));
        let config = HandshakeConfig {
            remote_fingerprint: fingerprint.clone(),
            ..config(&certificate, &certificate, role, 1)
        };
        let check = check(&config.ice.local, true);
        let mut handshake = Handshake::new(config, Instant::now());
        handshake.handle_datagram(Instant::now(), path, &check).expect("an authentic check");
        Self { socket, handshake, path }
    }

    /// Runs until there are keys, or none will be, or the peer closed.
    fn run(&mut self) -> End {
        let deadline = Instant::now() + PATIENCE;
        let mut datagram = [0; 2048];
        let mut end = None;
        loop {
            while let Some(output) = self.handshake.poll_output() {
                match output {
                    Output::Transmit { path, bytes } if ice_dtls::stun::is_stun(&bytes) => {
                        if let Some(answer) = answer(path, &bytes) {
                            self.datagram(&answer);
                        }
                    }
                    Output::Transmit { path, bytes } => {
                        self.socket.send_to(&bytes, path.remote).expect("loopback takes all");
                    }
                    Output::PathSelected(path) => assert_eq!(path, self.path),
                    Output::Established { profile, receive, send, .. } => {
                        end = Some(End::Keys(profile, format!("{} {}", hex(&receive), hex(&send))));
                    }
                    Output::Failed(reason) => end = Some(End::Failed(reason)),
                    Output::Closed => end = Some(End::Closed),
                }
            }
            if let Some(end) = end {
                return end;
            }
            assert!(Instant::now() < deadline, "nothing happens");
            let wait =
                self.handshake.poll_timeout().unwrap_or(deadline).saturating_duration_since(Instant::now());
            self.socket.set_read_timeout(Some(wait.max(Duration::from_millis(1)))).expect("a time-out");
            match self.socket.recv_from(&mut datagram) {
                Ok((length, _)) => self.datagram(&datagram[..length]),
                Err(_) => self.handshake.handle_timeout(Instant::now()),
            }
        }
    }

    fn datagram(&mut self, bytes: &[u8]) {
        // A failed session drops what still comes.
        let _ = self.handshake.handle_datagram(Instant::now(), self.path, bytes);
    }
}

fn hex(key: &MasterKey) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{}-{}", hex(key.key()), hex(key.salt()))
}

/// What OpenSSL exported, in the order of [`End::Keys`]: RFC 5764, section 4.2 puts the client first.
fn expected(profile: Profile, material: &str, role: DtlsRole) -> String {
    let (keys, salts) = material.split_at(4 * profile.key_len());
    let (client_key, server_key) = keys.split_at(2 * profile.key_len());
    let (client_salt, server_salt) = salts.split_at(2 * profile.salt_len());
    let (client, server) = (format!("{client_key}-{client_salt}"), format!("{server_key}-{server_salt}"));
    match role {
        DtlsRole::Client => format!("{server} {client}"),
        DtlsRole::Server => format!("{client} {server}"),
    }
}

fn client_gets(test: &str, offered: &str, profile: Profile) {
    let Some(identity) = Identity::ecdsa(test) else { return };
    let (mut local, mut foreign) = Local::server(&identity.fingerprint, |address| {
        Foreign::start("s_client", &identity, &["-connect", address, "-use_srtp", offered])
    });
    let End::Keys(got, keys) = local.run() else { panic!("no keys for {offered}") };
    assert_eq!(got, profile);
    assert_eq!(keys, expected(profile, &foreign.keying_material(profile), DtlsRole::Server));
    drop(foreign.stdin.take());
    assert!(matches!(local.run(), End::Closed), "OpenSSL says goodbye at the end of its input");
}

#[test]
fn gcm_is_picked_though_the_client_lists_aes_cm_first() {
    client_gets("gcm", "SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_128_GCM", Profile::AeadAes128Gcm);
}

#[test]
fn the_profiles_of_chromium_give_gcm() {
    let offered = "SRTP_AES128_CM_SHA1_80:SRTP_AEAD_AES_256_GCM:SRTP_AEAD_AES_128_GCM";
    client_gets("chromium", offered, Profile::AeadAes256Gcm);
}

#[test]
fn a_client_without_gcm_gets_aes_cm() {
    client_gets("cm", "SRTP_AES128_CM_SHA1_80", Profile::AesCm128HmacSha1_80);
}

#[test]
fn a_client_without_srtp_is_refused() {
    let Some(identity) = Identity::ecdsa("no-srtp") else { return };
    let (mut local, _foreign) = Local::server(&identity.fingerprint, |address| {
        Foreign::start("s_client", &identity, &["-connect", address])
    });
    assert!(matches!(local.run(), End::Failed(FailureReason::NoSrtpProfile)));
}

#[test]
fn an_rsa_client_agrees_with_us() {
    let Some(identity) = Identity::rsa("rsa-client", 2048) else { return };
    for hash in ["SHA256", "SHA384"] {
        let (mut local, foreign) = Local::server(&identity.fingerprint, |address| {
            let algorithms = format!("RSA+{hash}:ECDSA+SHA256");
            let arguments =
                ["-connect", address, "-use_srtp", "SRTP_AEAD_AES_128_GCM", "-sigalgs", &algorithms];
            Foreign::start("s_client", &identity, &arguments)
        });
        let End::Keys(got, keys) = local.run() else { panic!("no keys with {hash}") };
        assert_eq!(got, Profile::AeadAes128Gcm);
        assert_eq!(keys, expected(got, &foreign.keying_material(got), DtlsRole::Server));
    }
}

#[test]
fn an_rsa_key_that_is_too_short_is_refused() {
    let Some(identity) = Identity::rsa("rsa-short", 1024) else { return };
    let (mut local, _foreign) = Local::server(&identity.fingerprint, |address| {
        // OpenSSL itself would show no such certificate.
        let arguments = ["-connect", address, "-use_srtp", "SRTP_AEAD_AES_128_GCM", "-cipher"];
        Foreign::start("s_client", &identity, &[&arguments[..], &["DEFAULT:@SECLEVEL=0"]].concat())
    });
    let End::Failed(reason) = local.run() else { panic!("1024 bits are too few") };
    assert_eq!(reason, FailureReason::UnsupportedCertificate);
    assert!(reason.to_string().contains("use an ECDSA P-256 one"));
}

const SERVER: [&str; 5] = ["-4", "-accept", "127.0.0.1:0", "-Verify", "1"];

#[test]
fn as_dtls_client_we_agree_with_an_openssl_server() {
    let Some(identity) = Identity::ecdsa("server") else { return };
    for (name, profile) in [
        ("SRTP_AES128_CM_SHA1_80", Profile::AesCm128HmacSha1_80),
        ("SRTP_AEAD_AES_128_GCM", Profile::AeadAes128Gcm),
        ("SRTP_AEAD_AES_256_GCM", Profile::AeadAes256Gcm),
    ] {
        let arguments = [&SERVER[..], &["-use_srtp", name]].concat();
        let foreign = Foreign::start("s_server", &identity, &arguments);
        let mut local = Local::client(&foreign, &identity.fingerprint);
        let End::Keys(got, keys) = local.run() else { panic!("no keys for {name}") };
        assert_eq!(got, profile);
        assert_eq!(keys, expected(profile, &foreign.keying_material(profile), DtlsRole::Client));
    }
}

#[test]
fn an_rsa_server_is_refused_with_the_remedy() {
    let Some(identity) = Identity::rsa("rsa-server", 2048) else { return };
    let arguments = [&SERVER[..], &["-use_srtp", "SRTP_AEAD_AES_128_GCM"]].concat();
    let foreign = Foreign::start("s_server", &identity, &arguments);
    let mut local = Local::client(&foreign, &identity.fingerprint);
    assert!(matches!(local.run(), End::Failed(FailureReason::UnsupportedCertificate)));
}
