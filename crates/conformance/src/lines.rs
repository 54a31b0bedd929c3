//! Every line: what it demands, where that is written, and how it is tried.

use crate::checks::{
    access, browsers, events, interop, layers, life, media, negotiation, patch, restart, sessions, watching,
};
use crate::line::{Check, Group, Level, Line, Stage};
use crate::side::Protocol;

/// The check of a line, by the endpoints that it is tried on.
macro_rules! check {
    (each $check:path) => {
        Check::Each(|side| Box::pin($check(side)))
    };
    (whip $check:path) => {
        Check::One(Protocol::Whip, |side| Box::pin($check(side)))
    };
    (whep $check:path) => {
        Check::One(Protocol::Whep, |side| Box::pin($check(side)))
    };
    (pair $check:path) => {
        Check::Pair(|pair| Box::pin($check(pair)))
    };
    (unseen $why:literal) => {
        Check::Unseen($why)
    };
}

/// Group by group: name, weight, how, when; where it is written, what it demands.
macro_rules! lines {
    ($($group:ident {
        $($id:ident $level:ident $kind:ident($($check:tt)+) $stage:ident, $source:literal: $requires:literal;)+
    })+) => {
        /// Every line, group by group.
        pub const LINES: &[Line] = &[$($(Line {
            id: stringify!($id),
            group: Group::$group,
            level: Level::$level,
            source: $source,
            requires: $requires,
            check: check!($kind $($check)+),
            stage: Stage::$stage,
        }),+),+];
    };
}

lines! {
    Sessions {
        W01 Must each(sessions::a_post_makes_a_session) Usual,
            "RFC 9725, section 4.2": "answers an offer with 201, an SDP answer and the Location of the session";
        W02 Must each(sessions::other_content_types_are_refused) Usual,
            "RFC 9725, section 4.2; RFC 9110, section 8.3":
                "refuses offers of another content type, or of none, with 4xx";
        W03 Must each(sessions::malformed_offers_are_refused) Usual,
            "RFC 9725, section 4.2": "refuses malformed, cut and huge offers with 4xx and goes on serving";
        W07 Must each(sessions::get_answers_without_content) Usual,
            "RFC 9725, section 4.1": "answers GET on endpoint and session with success and no content";
        W09 Must each(sessions::delete_ends_a_session) Usual,
            "RFC 9725, section 4.2": "answers DELETE with 200 (OBS expects no other), and ends ICE and URL with it";
        W29 Must each(sessions::if_match_does_not_matter_for_delete) Usual,
            "RFC 9725, section 4.3.1": "does not look at If-Match of a DELETE";
        W35 Must each(sessions::no_answer_is_301_or_302) Last,
            "RFC 9725, section 4.5": "answers nothing with 301 or 302, which would make a GET of a POST";
    }
    Negotiation {
        W04 Must each(negotiation::the_answer_follows_the_offer) Usual,
            "RFC 9725, section 4.2; RFC 9429, section 5.3.1":
                "answers section by section: same order, kinds, mids, one BUNDLE";
        W05 Must whip(negotiation::both_directions_may_be_offered) Usual,
            "RFC 9725, section 4.2": "takes publishers that offer sendonly or sendrecv, and answers recvonly";
        W06 Must each(negotiation::wrong_directions_are_refused) Usual,
            "RFC 9725, section 4.2; draft-ietf-wish-whep, Playback session set up":
                "refuses offers of the wrong direction and inactive ones";
        W30 Must each(negotiation::everything_shares_one_transport) Usual,
            "RFC 9725, section 4.4 (SDP BUNDLE); RFC 8858, section 3":
                "has one transport, with rtcp-mux and rtcp-mux-only in each section";
        W31 Must each(negotiation::one_audio_and_one_video_are_the_most) Usual,
            "RFC 9725, section 4.4 (single MediaStream)":
                "refuses offers with two videos or two audios with 400 or 422";
        W32 Should whip(negotiation::there_is_no_partial_success) Usual,
            "RFC 9725, section 4.4 (no partially successful answers)":
                "refuses a publisher's whole offer if one section cannot be used";
        W33 Should each(negotiation::the_dtls_role_is_one_that_the_offer_leaves) Usual,
            "RFC 9725, section 4.4 (DTLS setup role); RFC 8842":
                "answers actpass with one DTLS role, and active with passive or a refusal";
        W34 Should each(media::a_lite_server_can_be_reached) Usual,
            "draft-ietf-wish-whep, Trickle ICE and ICE restarts; RFC 8445":
                "is a full ICE agent, or a lite one that clients can reach";
        W40 Must whip(negotiation::simulcast_is_answered_with_its_layers) Usual,
            "RFC 9725, section 4.8; RFC 8853, section 5.3.2":
                "answers simulcast that it takes, of two to four layers, with the layers that it receives";
    }
    Patch {
        W14 Should each(patch::trickling_and_restarts_are_supported) Usual,
            "RFC 9725, section 4.3": "supports trickled candidates and ICE restarts";
        W15 Must each(patch::other_bodies_are_refused) Usual,
            "RFC 9725, section 4.3.1": "refuses a PATCH of another content type, or a malformed fragment, with 4xx";
        W16 Must each(patch::what_is_not_supported_is_422) Usual,
            "RFC 9725, section 4.3.1": "answers 422 to the one of trickling and restarts that it does not support";
        W17 Must each(patch::an_ice_session_has_a_strong_tag) Usual,
            "RFC 9725, section 4.3.1; RFC 9110, section 8.8.3":
                "names each ICE session with a strong ETag of its own, if it restarts ICE";
        W18 Must each(patch::if_match_is_required) Usual,
            "RFC 9725, section 4.3.1; RFC 6585, section 3": "answers a PATCH without If-Match with 428";
        W19 Must each(patch::a_stale_tag_is_refused) Usual,
            "RFC 9725, section 4.3.1; RFC 9110, section 13.1.1":
                "answers a PATCH with another ETag than the present one with 412";
        W20 Must each(patch::trickled_candidates_are_taken) Usual,
            "RFC 9725, section 4.3.2": "answers trickled candidates with 204, without body and ETag";
        W21 Must each(patch::unusable_candidates_are_skipped) Usual,
            "RFC 9725, section 4.3.2": "skips candidates that it cannot use, and takes the others";
        W22 Must each(media::the_answer_has_all_candidates) Usual,
            "RFC 9725, section 4.3.2": "lists all of its candidates in the answer";
        W23 Must each(restart::a_restart_brings_new_credentials) Usual,
            "RFC 9725, section 4.3.3": "answers a restart with 200, new credentials and a new ETag, and connects again";
        W24 Must each(patch::new_credentials_are_a_restart) Usual,
            "draft-ietf-wish-whep, ICE Restarts; RFC 9725, section 4.3.3":
                "takes new credentials for a restart, whatever If-Match says";
        W25 Must each(restart::old_candidates_are_dropped) Usual,
            "draft-ietf-wish-whep, ICE Restarts; RFC 8839, section 4.4.1.1.1":
                "forgets the candidates from before a restart, and hears the new ones";
        W26 Must each(restart::the_fragment_repeats_the_answer) Usual,
            "draft-ietf-wish-whep, ICE Restarts; RFC 8840, section 4.4":
                "repeats ice-options, ice-pacing and ice-lite of the answer after a restart";
        W27 Must each(restart::a_failed_restart_leaves_the_session_alive) Slow,
            "RFC 9725, section 4.3.3":
                "refuses a restart that cannot work, and keeps the session as it is until consent expires";
        W28 Must each(restart::the_last_restart_wins) Usual,
            "RFC 9725, section 4.3.3": "holds to the last of several restarts, in whatever order they come";
    }
    Life {
        W08 Must each(life::a_silent_peer_is_freed) Slow,
            "RFC 9725, section 4.2; RFC 7675, section 5.1":
                "frees a session whose peer has fallen silent, once consent has expired";
        W10 Must each(media::the_server_says_goodbye) Usual,
            "RFC 9725, section 4.2; RFC 7675, section 5.2":
                "revokes consent at once when it ends a session, and closes DTLS";
        W46 Must each(life::an_unconnected_session_expires) Slow,
            "RFC 9725, section 5 (POST flooding); the limit of 20 s is this suite's":
                "frees a session that nobody connects to";
    }
    Browsers {
        W11 Must each(browsers::pages_of_other_origins_may_come) Usual,
            "RFC 9725, section 4.2; WHATWG Fetch, CORS protocol":
                "lets pages of other origins use endpoint and session, and read the headers they need";
        W12 Should each(browsers::options_name_the_media_type) Usual,
            "RFC 9725, section 4.2": "answers OPTIONS with 200 and Accept-Post: application/sdp";
        W13 Should each(browsers::preflights_carry_no_ice_servers) Usual,
            "RFC 9725, section 4.6": "sends no STUN or TURN servers with preflights";
        W37 May each(browsers::ice_servers_come_with_the_session) Usual,
            "RFC 9725, section 4.6; RFC 8288":
                "tells STUN and TURN servers in Link headers of the 201, TURN with credentials";
        W45 May each(sessions::errors_are_told_in_words) Usual,
            "RFC 9725, section 4.1; RFC 9457, section 3": "tells errors in words, as problem documents";
    }
    Access {
        W36 May unseen("a server cannot be overloaded from outside without harm") Usual,
            "RFC 9725, section 4.5; RFC 9110, section 15.6.4": "answers 503 with Retry-After under too much load";
        W38 Must each(access::a_token_opens_what_is_closed) Usual,
            "RFC 9725, section 4.7; RFC 6750, section 3":
                "lets in who shows the token, on endpoint and session, and refuses others with 401 and Bearer, or 403";
        W39 Must each(access::preflights_need_no_token) Usual,
            "RFC 9725, section 4.7; WHATWG Fetch, CORS protocol": "answers preflights that carry no token";
        W42 Must each(access::https_is_spoken) Usual,
            "RFC 9725, section 5": "is asked over HTTPS where the public reaches it";
        W43 Should each(access::a_flood_is_refused) Last,
            "RFC 9725, section 5": "refuses a flood of POST, PATCH or DELETE of one client with 429 or 503, and nobody else";
        W44 Should each(sessions::session_urls_cannot_be_guessed) Usual,
            "RFC 9725, section 5; RFC 9562, section 6": "names sessions so that nobody guesses one";
    }
    Viewers {
        E01 Must whep(negotiation::both_directions_may_be_offered) Usual,
            "draft-ietf-wish-whep, Playback session set up":
                "takes viewers that offer recvonly or sendrecv, and answers sendonly";
        E02 Must whep(watching::bad_offers_are_refused) Usual,
            "draft-ietf-wish-whep, Playback session set up": "refuses a viewer's offer that is not SDP";
        E03 Must pair(watching::who_may_not_wait_is_told_when_to_come_back) Idle,
            "draft-ietf-wish-whep, Playback session set up":
                "answers 409 with Retry-After if viewers may not wait for the publisher";
        E04 Should whep(watching::head_says_what_the_endpoint_is_for) Usual,
            "draft-ietf-wish-whep; RFC 9110, section 9.3.2":
                "answers HEAD with 200, application/sdp and the headers of GET";
        E05 May whep(watching::a_counter_offer_can_be_answered) Usual,
            "draft-ietf-wish-whep, counter-offers; RFC 9110, section 15.5.7":
                "may answer an offer that it cannot take with 406 and an offer of its own";
        E06 Must whep(watching::all_sections_are_one_stream) Usual,
            "draft-ietf-wish-whep, Single MediaStream; RFC 8830": "puts audio and video into one MediaStream";
    }
    Extensions {
        W41 Must each(browsers::extensions_are_one_link_each) Usual,
            "RFC 9725, section 4.9; draft-ietf-wish-whep, Protocol extensions":
                "tells each extension in a Link header of its own, under the URN of its protocol";
        E07 Must whep(events::the_answer_names_the_entry) Usual,
            "draft-ietf-wish-whep, Server Sent Events extension": "tells where events are to be had, and which";
        E08 Must whep(events::streams_are_made_for_known_types) Usual,
            "draft-ietf-wish-whep, Server Sent Events extension":
                "makes event streams of known types, and refuses others with 400";
        E09 Must whep(events::only_what_was_asked_for_is_told) Usual,
            "draft-ietf-wish-whep, Server Sent Events extension":
                "sends only what was asked for, one data line each, and ends streams by DELETE and with the session";
        E10 Must pair(events::a_stream_follows_the_publisher) Idle,
            "draft-ietf-wish-whep, active event, inactive event":
                "tells active and inactive as publishers come and go, and no inactive first";
        E11 Must pair(layers::a_layer_can_be_chosen) Usual,
            "draft-ietf-wish-whep, Video Layer Selection extension":
                "lets a viewer choose a layer, and choose none again";
        E12 Must pair(layers::layers_are_described) Usual,
            "draft-ietf-wish-whep, layers event": "names each layer that it tells of, and tells of no bitrate where a layer has stopped";
        E13 May unseen("only who operates the server can have it sent") Usual,
            "draft-ietf-wish-whep, reconnect event": "sends viewers elsewhere with a reconnect event and a URL";
    }
    Interop {
        T01 Should each(interop::no_candidates_are_needed) Usual,
            "OBS 30.2 and later; RFC 8445, section 7.3.1.3": "connects a peer that names no candidate, then or later";
        T02 Should each(interop::the_location_is_absolute) Usual,
            "OBS": "gives an absolute Location without a query, good as it stands, after redirects, too";
        T03 Should each(interop::the_answer_is_short_and_ipv4_comes_first) Usual,
            "ffmpeg": "answers in less than 8 KB, and names an IPv4 host candidate first that can be reached";
        T04 Should each(interop::a_passive_client_is_served) Usual,
            "ffmpeg; RFC 8842, section 5.2": "begins the DTLS handshake with a client that is passive";
        T05 Should each(interop::bare_checks_are_answered) Usual,
            "ffmpeg; RFC 8445, section 7.1": "answers checks without PRIORITY, ICE-CONTROLLING and FINGERPRINT";
        T06 Should each(interop::dispensable_lines_are_not_missed) Usual,
            "older WebRTC stacks": "takes offers without rtcp-mux-only, msid, extmap and rtcp-rsize";
        T07 Should each(negotiation::lines_are_whole_and_layers_stand_on_one) Usual,
            "OBS; RFC 8866, section 5": "ends every line with CRLF, and names all layers on one a=simulcast line";
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_line_is_there_once_and_groups_stand_together() {
        let names: BTreeSet<&str> = LINES.iter().map(|line| line.id).collect();
        let wanted = (1..=46).map(|count| format!("W{count:02}"));
        let wanted = wanted.chain((1..=13).map(|count| format!("E{count:02}")));
        let wanted: BTreeSet<String> = wanted.chain((1..=7).map(|count| format!("T{count:02}"))).collect();
        assert!(wanted.iter().map(String::as_str).eq(names.iter().copied()), "{names:?}");
        assert_eq!(names.len(), LINES.len());
        let mut groups: Vec<Group> = LINES.iter().map(|line| line.group).collect();
        groups.dedup();
        assert_eq!(groups.len(), 9);
    }
}
