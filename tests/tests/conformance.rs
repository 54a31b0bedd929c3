//! WHIP (RFC 9725) and WHEP, line by line, as `media-tree conformance` sees the real program over HTTP and HTTPS. Each
//! test is named after its line; the suite runs once for all of them.
//!
//! What is not kept, or cannot be seen, stands in [`GAPS`] with the reason: a gap that closes unnoticed fails its test
//! as well as a line that breaks.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, ensure};
use conformance::{LINES, Options, Report};
use tests::installation::{Installation, until_parents};
use tests::program;

type Result = anyhow::Result<()>;

const PUBLISH_TOKEN: &str = "publish-secret-of-tests";
const VIEW_TOKEN: &str = "view-secret-of-tests";
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/conformance.md");
/// With this variable set the table of the document is written, not compared.
const WRITE: &str = "MEDIA_TREE_WRITE_DOCS";

/// Lines that do not pass, how they come out, and why.
const GAPS: &[(&str, &str, &str)] = &[
    ("W36", "skipped", "not to be had from outside; `conformance_operated.rs` sees it"),
    ("E03", "skipped", "viewers may wait by default; where they may not, `conformance_operated.rs` sees it"),
    ("E13", "skipped", "only an operator orders it; `conformance_operated.rs` sees it"),
];

/// One line for each scheme; there is no HTTPS to see where none is spoken.
const PLAIN_ONLY: &[(&str, &str, &str)] = &[("W42", "skipped", "loopback is not the public")];

struct Seen {
    plain: Report,
    tls: Report,
}

/// The two runs, made by whichever test comes first.
fn seen() -> anyhow::Result<&'static Seen> {
    static SEEN: OnceLock<std::result::Result<Seen, String>> = OnceLock::new();
    let seen = SEEN.get_or_init(|| {
        // The first test's runtime ends with it: this one is for the runs alone.
        let runs = std::thread::spawn(|| tokio::runtime::Runtime::new()?.block_on(run_both()));
        let seen = runs.join().map_err(|_| "the run panicked".to_owned())?;
        seen.map_err(|error| format!("{error:#}"))
    });
    seen.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

async fn run_both() -> anyhow::Result<Seen> {
    let (plain, tls) = tokio::try_join!(run(&[], None), over_tls())?;
    println!("{plain}\n{tls}");
    Ok(Seen { plain, tls })
}

async fn over_tls() -> anyhow::Result<Report> {
    let folder = tempfile::tempdir()?;
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(file("chain"), made.cert.pem())?;
    std::fs::write(file("key"), made.signing_key.serialize_pem())?;
    let arguments = ["--tls-certificate", &file("chain"), "--tls-key", &file("key")];
    run(&arguments, Some(made.cert.pem())).await
}

/// One run against a node that asks for tokens and tells of STUN and TURN servers, so that more lines apply.
async fn run(arguments: &[&str], trusted: Option<String>) -> anyhow::Result<Report> {
    let servers = "stun:stun.example.net,turn:turn.example.net";
    let program = program::node("up")
        .environment(&[("MEDIA_TREE_ICE_SERVERS", servers.into())])
        .with(&["--broadcasts", "show", "--turn-secret", "shared-with-the-turn-server"])
        .with(&["--publish-tokens", PUBLISH_TOKEN, "--view-tokens", VIEW_TOKEN])
        .with(arguments)
        .start()
        .await?;
    let scheme = if trusted.is_some() { "https" } else { "http" };
    let options = Options {
        url: Some(format!("{scheme}://{}/whip/show", program.http)),
        token: Some(PUBLISH_TOKEN.into()),
        view_token: Some(VIEW_TOKEN.into()),
        trusted: trusted.map(String::into_bytes),
        ..Options::default()
    };
    let report = conformance::run(options, |_| {}).await?;
    // What the suite made, it has deleted.
    program::until("every session is deleted", || async {
        let left = program.metric("media_tree_whip_sessions{").await?;
        Ok(left + program.metric("media_tree_whep_sessions{").await? == 0.0)
    })
    .await?;
    Ok(report)
}

fn expected<'a>(id: &str, gaps: &[&'a [(&'a str, &'a str, &'a str)]]) -> (&'a str, &'a str) {
    let gap = gaps.iter().copied().flatten().find(|(gap, _, _)| *gap == id);
    gap.map_or(("passed", "a conforming server"), |(_, outcome, why)| (*outcome, *why))
}

fn check(id: &str) -> Result {
    let Seen { plain, tls } = seen()?;
    for (scheme, report, gaps) in [("HTTP", plain, &[GAPS, PLAIN_ONLY][..]), ("HTTPS", tls, &[GAPS][..])] {
        let line = report.line(id).with_context(|| format!("the suite has no line {id}"))?;
        let (outcome, why) = expected(id, gaps);
        ensure!(
            line.outcome.word() == outcome,
            "{id} over {scheme} is to be {outcome} ({why}), and it {}: {}",
            line.outcome.word(),
            line.outcome.seen()
        );
    }
    Ok(())
}

macro_rules! lines {
    ($($name:ident $id:literal)+) => {
        $(
            #[test]
            fn $name() -> Result {
                check($id)
            }
        )+

        #[test]
        fn every_line_has_its_test() {
            let named = [$($id),+];
            let without: Vec<&str> =
                LINES.iter().map(|line| line.id).filter(|id| !named.contains(id)).collect();
            assert_eq!((without, named.len()), (Vec::new(), LINES.len()));
        }
    };
}

lines! {
    w01_a_post_makes_a_session "W01"
    w02_other_content_types_are_refused "W02"
    w03_malformed_offers_are_refused "W03"
    w04_the_answer_follows_the_offer_section_by_section "W04"
    w05_a_publisher_may_offer_sendonly_or_sendrecv "W05"
    w06_the_wrong_direction_is_refused "W06"
    w07_get_answers_without_content "W07"
    w08_a_silent_peer_is_freed "W08"
    w09_delete_ends_a_session_with_200 "W09"
    w10_the_server_says_goodbye_over_dtls "W10"
    w11_preflight_works_for_pages_of_other_origins "W11"
    w12_options_names_the_media_type "W12"
    w13_preflights_carry_no_ice_servers "W13"
    w14_trickling_and_restarts_are_supported "W14"
    w15_other_content_types_and_malformed_fragments_are_refused "W15"
    w16_what_is_not_supported_is_422 "W16"
    w17_an_ice_session_has_a_strong_tag "W17"
    w18_if_match_is_required "W18"
    w19_a_stale_tag_is_refused "W19"
    w20_trickled_candidates_are_accepted "W20"
    w21_what_cannot_be_used_is_skipped_and_the_rest_is_taken "W21"
    w22_the_answer_has_all_candidates "W22"
    w23_a_restart_brings_new_credentials "W23"
    w24_new_credentials_are_a_restart_even_with_the_tag_of_the_session "W24"
    w25_old_candidates_are_dropped_by_a_restart_and_new_ones_heard "W25"
    w26_the_fragment_of_a_restart_repeats_the_answer "W26"
    w27_a_failed_restart_leaves_the_session_alive "W27"
    w28_the_last_restart_wins "W28"
    w29_if_match_does_not_matter_for_delete "W29"
    w30_everything_shares_one_transport "W30"
    w31_one_audio_and_one_video_are_the_most "W31"
    w32_there_is_no_partial_success "W32"
    w33_the_dtls_role_is_the_one_that_the_offer_leaves "W33"
    w34_a_lite_server_can_be_reached "W34"
    w35_nothing_is_answered_with_301_or_302 "W35"
    w36_overload_is_told_with_503 "W36"
    w37_ice_servers_come_with_the_session "W37"
    w38_a_token_opens_endpoints_and_sessions "W38"
    w39_preflight_works_without_a_token "W39"
    w40_simulcast_is_answered_with_its_layers "W40"
    w41_an_extension_is_one_link_with_its_urn "W41"
    w42_https_is_spoken "W42"
    w43_a_flood_is_refused "W43"
    w44_session_urls_cannot_be_guessed "W44"
    w45_errors_are_told_in_plain_language "W45"
    w46_sessions_that_never_connect_are_gone "W46"
    e01_a_viewer_may_offer_recvonly_or_sendrecv "E01"
    e02_a_viewers_malformed_offer_is_refused "E02"
    e03_where_viewers_may_not_wait_they_are_told_when_to_come_back "E03"
    e04_head_says_what_the_endpoint_is_for "E04"
    e05_a_counter_offer_can_be_answered "E05"
    e06_audio_and_video_are_one_stream "E06"
    e07_the_answer_names_the_entry_of_the_extension_and_its_events "E07"
    e08_a_stream_is_made_for_known_events_only "E08"
    e09_only_what_was_asked_for_is_told "E09"
    e10_a_stream_follows_the_publisher_and_begins_with_no_inactive "E10"
    e11_a_layer_can_be_chosen "E11"
    e12_layers_are_described "E12"
    e13_viewers_are_sent_elsewhere "E13"
    t01_a_peer_without_candidates_connects "T01"
    t02_the_location_is_absolute_and_has_no_query "T02"
    t03_the_answer_is_short_and_begins_with_a_reachable_ipv4_candidate "T03"
    t04_a_passive_offer_makes_the_server_the_dtls_client "T04"
    t05_checks_without_priority_are_answered "T05"
    t06_attributes_that_clients_leave_out_are_not_missed "T06"
    t07_lines_end_with_crlf_and_layers_stand_on_one_line "T07"
}

/// What a line leaves open for other servers is there, so that no line passes by its easier half.
#[test]
fn nothing_is_kept_by_its_easier_half() -> Result {
    for (id, words) in [
        ("W27", "ends with consent"),
        ("W28", "of two at once one holds"),
        ("W40", "layers 0, 1; layers 0, 1, 2; layers 0, 1, 2, 3"),
        ("W43", "another client was not"),
        ("W43", "of DELETE"),
        ("E05", "leads to a connection"),
        ("E12", "has no bitrate once it has stopped"),
    ] {
        let Seen { plain, tls } = seen()?;
        for report in [plain, tls] {
            let line = report.line(id).with_context(|| format!("the suite has no line {id}"))?;
            ensure!(line.outcome.seen().contains(words), "{id}: {}", line.outcome.seen());
        }
    }
    Ok(())
}

/// The table of `docs/conformance.md` is what the program says over HTTPS.
#[test]
fn the_documents_table_is_true() -> Result {
    const MARKS: [&str; 2] = ["<!-- table -->\n", "<!-- end of table -->\n"];
    let document = std::fs::read_to_string(Path::new(DOCUMENT))?;
    let (before, rest) = document.split_once(MARKS[0]).context("the mark before the table")?;
    let (table, after) = rest.split_once(MARKS[1]).context("the mark behind the table")?;
    let true_table = seen()?.tls.markdown();
    if std::env::var_os(WRITE).is_some() {
        let written = [before, MARKS[0], &true_table, MARKS[1], after].concat();
        return Ok(std::fs::write(Path::new(DOCUMENT), written)?);
    }
    ensure!(
        table == true_table,
        "write it anew: {WRITE}=1 cargo test -p tests --test conformance\n{true_table}"
    );
    Ok(())
}

/// Both endpoints of a controller send everybody on, to nodes whose Locations are good as they stand.
#[tokio::test]
async fn t02_the_location_is_absolute_after_a_redirect_too() -> Result {
    let tokens = ["--publish-tokens", PUBLISH_TOKEN, "--view-tokens", VIEW_TOKEN];
    let controller = program::node("controller").with(&tokens).start().await?;
    let installation = Installation::of(&controller);
    let _injection = installation.node("injection", "in").with(&tokens).start().await?;
    let _egress = installation.node("egress", "out").with(&tokens).start().await?;
    until_parents(&controller, "out", &["in"]).await?;
    let options = Options {
        url: Some(controller.url("/whip/show")),
        token: Some(PUBLISH_TOKEN.into()),
        view_token: Some(VIEW_TOKEN.into()),
        only: ["W01", "W35", "T02"].map(str::to_owned).to_vec(),
        ..Options::default()
    };
    let report = conformance::run(options, |_| {}).await?;
    ensure!(report.lines.iter().all(|line| line.outcome.word() == "passed"), "{report}");
    let seen = report.line("T02").context("T02")?.outcome.seen();
    ensure!(seen.contains("after 1 redirects"), "{report}");
    Ok(())
}

/// The same from the outside: the program asks itself.
#[tokio::test]
async fn the_program_reports_and_its_exit_code_is_that_of_the_musts() -> Result {
    let server = program::node("up").with(&["--broadcasts", "show"]).start().await?;
    let folder = tempfile::tempdir()?;
    let json = folder.path().join("report.json");
    let run = |arguments: Vec<String>| async move {
        let mut command = tokio::process::Command::new(program::path()?);
        let output =
            command.arg("conformance").args(arguments).stdin(std::process::Stdio::null()).output().await?;
        let said = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        anyhow::Ok((output.status.code(), said(output.stdout), said(output.stderr)))
    };
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let url = server.url("/whep/show");
    let arguments = words(&[&url, "--only", "W01,w12", "W14", "--json", &json.display().to_string()]);
    let (code, out, err) = run(arguments).await?;
    assert_eq!(code, Some(0), "{out}{err}");
    for said in ["W01 passed", "W14 passed", "3 of 3 lines passed"] {
        assert!(out.contains(said), "{said}: {out}");
    }
    let document: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&json)?)?;
    assert_eq!(document["lines"].as_array().map(Vec::len), Some(3));
    // A server that closes its doors to the suite keeps no must.
    let closed = program::node("up")
        .with(&["--broadcasts", "show", "--publish-tokens", PUBLISH_TOKEN])
        .start()
        .await?;
    let (code, out, _) = run(words(&[&closed.url("/whip/show"), "--only", "W01"])).await?;
    assert_eq!(code, Some(1), "{out}");
    let (code, _, err) = run(words(&["http://127.0.0.1:9/whip/show"])).await?;
    assert_eq!(
        (code, err.contains("http://127.0.0.1:9/whip/show does not answer")),
        (Some(1), true),
        "{err}"
    );
    Ok(())
}
