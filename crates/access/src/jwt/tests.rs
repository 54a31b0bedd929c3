//! Tests of JSON Web Tokens, signed here by hand.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use aws_lc_rs::{hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: Duration = Duration::from_secs(1_000_000);
const SECRET: &[u8] = b"a shared secret of 32 characters";

/// Whoever signs tokens.
struct Issuer {
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    rsa: RsaKeyPair,
}

impl Issuer {
    fn new() -> Self {
        Self {
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("key"),
            ed: Ed25519KeyPair::generate().expect("key"),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("key"),
        }
    }

    fn sign(&self, algorithm: &str, kid: Option<&str>, claims: &Value) -> String {
        let mut header = json!({ "alg": algorithm, "typ": "JWT" });
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        self.sign_with_header(algorithm, &header, claims)
    }

    fn sign_with_header(&self, algorithm: &str, header: &Value, claims: &Value) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let random = SystemRandom::new();
        let signature = match algorithm {
            "HS256" => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes()).as_ref().to_vec()
            }
            "ES256" => self.ec.sign(&random, message.as_bytes()).expect("sign").as_ref().to_vec(),
            "EdDSA" => self.ed.sign(message.as_bytes()).as_ref().to_vec(),
            "RS256" => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).expect("sign");
                signature
            }
            _ => Vec::new(),
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn jwks(&self) -> Value {
        let ec = self.ec.public_key().as_ref();
        let rsa: signature::RsaPublicKeyComponents<Vec<u8>> = self.rsa.public_key().into();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({ "keys": [
            { "kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig", "x": encode(&ec[1..33]), "y": encode(&ec[33..]) },
            { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "alg": "EdDSA", "x": encode(self.ed.public_key().as_ref()) },
            { "kty": "RSA", "kid": "rsa", "key_ops": ["verify"], "n": encode(&rsa.n), "e": encode(&rsa.e) },
            { "kty": "oct", "kid": "secret", "k": encode(SECRET) },
            { "kty": "future", "kid": "unknown" },
        ] })
    }

    fn keys(&self) -> Keys {
        Keys::of_jwks(self.jwks().to_string().as_bytes()).expect("keys")
    }
}

fn claims() -> Value {
    json!({ "exp": 1_000_060, "broadcast": "demo", "right": "view" })
}

fn open(keys: &[&Keys], token: &str) -> Result<(), Refusal> {
    open_with(&Rules::default(), keys, token, Right::View)
}

fn open_with(rules: &Rules, keys: &[&Keys], token: &str, right: Right) -> Result<(), Refusal> {
    let broadcast = BroadcastId::new("demo").expect("id");
    verify(rules, keys, token, &Ask { right, broadcast: &broadcast, wallclock: NOW })
}

#[test]
fn every_algorithm_verifies_with_and_without_a_key_id() {
    let issuer = Issuer::new();
    let (public, secret) = (issuer.keys(), Keys::of_secret(SECRET).expect("secret"));
    assert_eq!(public.len(), 3, "neither shared secrets nor unknown kinds are taken from a set");
    for (algorithm, kid) in [("ES256", "ec"), ("EdDSA", "ed"), ("RS256", "rsa")] {
        for kid in [Some(kid), None] {
            let token = issuer.sign(algorithm, kid, &claims());
            assert_eq!(open(&[&public], &token), Ok(()), "{algorithm} {kid:?}");
            assert_eq!(open(&[&secret], &token), Err(Refusal::UnknownKey), "{algorithm} {kid:?}");
        }
        assert_eq!(
            open(&[&public], &issuer.sign(algorithm, Some("new"), &claims())),
            Err(Refusal::UnknownKey)
        );
        let stranger = Issuer::new().sign(algorithm, Some(kid), &claims());
        assert_eq!(open(&[&public], &stranger), Err(Refusal::Signature), "{algorithm}");
    }
    let token = issuer.sign("HS256", None, &claims());
    assert_eq!(open(&[&secret, &public], &token), Ok(()));
    assert_eq!(open(&[&public], &token), Err(Refusal::UnknownKey));
}

#[test]
fn the_key_and_not_the_token_decides_the_algorithm() {
    let issuer = Issuer::new();
    let public = issuer.keys();
    for algorithm in ["none", "HS384", "RS512", "ES384", "PS256"] {
        let token = issuer.sign(algorithm, None, &claims());
        let refusal = open(&[&public], &token).expect_err(algorithm);
        assert!(matches!(refusal, Refusal::Algorithm | Refusal::Malformed), "{algorithm}: {refusal:?}");
    }
    // The public key, known to everybody, used as if it were a shared secret.
    let modulus =
        issuer.jwks()["keys"][2]["n"].as_str().map(|n| URL_SAFE_NO_PAD.decode(n).expect("n")).expect("n");
    let message = issuer.sign("none", None, &claims());
    let (_, payload) = message.split_once('.').expect("parts");
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let message = format!("{header}.{}", payload.trim_end_matches('.'));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &modulus), message.as_bytes());
    let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
    assert_eq!(open(&[&public], &forged), Err(Refusal::UnknownKey));
}

#[test]
fn a_token_opens_the_broadcasts_and_rights_that_it_lists() {
    let keys = Keys::of_secret(SECRET).expect("secret");
    let issuer = Issuer::new();
    let try_claims = |broadcast: Value, right: Value| {
        let token =
            issuer.sign("HS256", None, &json!({ "exp": 1_000_060, "broadcast": broadcast, "right": right }));
        open(&[&keys], &token)
    };
    for (broadcast, right) in [
        (json!("demo"), json!("view")),
        (json!("*"), json!(["publish", "view"])),
        (json!(["other", "d*o"]), json!(["view"])),
    ] {
        assert_eq!(try_claims(broadcast.clone(), right), Ok(()), "{broadcast}");
    }
    for (broadcast, right) in [
        (json!("other"), json!("view")),
        (json!("demo"), json!("publish")),
        (json!("DEMO"), json!("view")),
        (json!([]), json!("view")),
        (json!("demo"), json!([])),
        (Value::Null, json!("view")),
        (json!("demo"), Value::Null),
    ] {
        assert_eq!(try_claims(broadcast.clone(), right), Err(Refusal::Insufficient), "{broadcast}");
    }
    assert_eq!(try_claims(json!(7), json!("view")), Err(Refusal::Malformed));
}

#[test]
fn a_token_is_good_from_its_beginning_to_its_end_give_or_take_the_leeway() {
    let keys = Keys::of_secret(SECRET).expect("secret");
    let issuer = Issuer::new();
    let rules = |leeway| Rules { leeway: Duration::from_secs(leeway), ..Rules::default() };
    let try_times = |times: Value, leeway: u64| {
        let mut claims = claims();
        claims["exp"] = times["exp"].clone();
        claims["nbf"] = times["nbf"].clone();
        open_with(&rules(leeway), &[&keys], &issuer.sign("HS256", None, &claims), Right::View)
    };
    for (times, leeway, outcome) in [
        (json!({ "exp": 1_000_001 }), 0, Ok(())),
        (json!({ "exp": 1_000_000 }), 0, Err(Refusal::Expired)),
        (json!({ "exp": 999_990.5 }), 10, Ok(())),
        (json!({ "exp": 999_990 }), 10, Err(Refusal::Expired)),
        (json!({}), 10, Err(Refusal::NoExpiry)),
        (json!({ "exp": 2_000_000, "nbf": 1_000_000 }), 0, Ok(())),
        (json!({ "exp": 2_000_000, "nbf": 1_000_010 }), 10, Ok(())),
        (json!({ "exp": 2_000_000, "nbf": 1_000_011 }), 10, Err(Refusal::NotYet)),
        (json!({ "exp": "tomorrow" }), 0, Err(Refusal::Malformed)),
    ] {
        assert_eq!(try_times(times.clone(), leeway), outcome, "{times}");
    }
}

#[test]
fn issuer_and_audience_matter_where_they_are_configured() {
    let keys = Keys::of_secret(SECRET).expect("secret");
    let issuer = Issuer::new();
    let rules = Rules { issuer: Some("shop".into()), audience: Some("tree".into()), ..Rules::default() };
    let try_claims = |iss: Value, aud: Value| {
        let mut claims = claims();
        (claims["iss"], claims["aud"]) = (iss, aud);
        open_with(&rules, &[&keys], &issuer.sign("HS256", None, &claims), Right::View)
    };
    assert_eq!(try_claims(json!("shop"), json!("tree")), Ok(()));
    assert_eq!(try_claims(json!("shop"), json!(["mail", "tree"])), Ok(()));
    assert_eq!(try_claims(json!("other"), json!("tree")), Err(Refusal::Issuer));
    assert_eq!(try_claims(Value::Null, json!("tree")), Err(Refusal::Issuer));
    assert_eq!(try_claims(json!("shop"), json!("mail")), Err(Refusal::Audience));
    assert_eq!(try_claims(json!("shop"), Value::Null), Err(Refusal::Audience));
}

#[test]
fn a_header_that_must_be_understood_and_is_not_is_refused() {
    let keys = Keys::of_secret(SECRET).expect("secret");
    let header = json!({ "alg": "HS256", "crit": ["exp2"], "exp2": 1 });
    let token = Issuer::new().sign_with_header("HS256", &header, &claims());
    assert_eq!(open(&[&keys], &token), Err(Refusal::Malformed), "RFC 7515, section 4.1.11");
}

#[test]
fn a_set_without_a_usable_key_is_refused() {
    use crate::keys::{JWKS_BYTES_MAX, KeysError};
    let read = |text: &str| Keys::of_jwks(text.as_bytes()).expect_err("refused");
    assert!(matches!(read("{"), KeysError::Format(_)));
    assert!(matches!(read(r#"{"keys": 1}"#), KeysError::Format(_)));
    assert_eq!(read(r#"{"keys": []}"#), KeysError::NoneUsable);
    let set = |key: Value| json!({ "keys": [key] }).to_string();
    let mut key = Issuer::new().jwks()["keys"][0].clone();
    key["use"] = "enc".into();
    assert_eq!(read(&set(key.clone())), KeysError::NoneUsable, "for encryption");
    key["use"] = "sig".into();
    key["alg"] = "ES384".into();
    assert_eq!(read(&set(key.clone())), KeysError::NoneUsable, "for another algorithm");
    key["alg"] = "ES256".into();
    assert_eq!(Keys::of_jwks(set(key.clone()).as_bytes()).expect("keys").len(), 1);
    let many = json!({ "keys": vec![key; 33] }).to_string();
    assert_eq!(read(&many), KeysError::TooMany);
    assert_eq!(read(&" ".repeat(JWKS_BYTES_MAX + 1)), KeysError::TooLong);
}

#[test]
fn keys_show_themselves_to_nobody() {
    let keys = Keys::of_secret(SECRET).expect("secret");
    assert_eq!(format!("{keys:?}"), "Keys(1)");
    assert!(Keys::of_secret(b"").is_none());
}

proptest! {
    #[test]
    fn no_text_panics_and_none_that_was_not_signed_opens(text in "[A-Za-z0-9_.-]{0,200}|.{0,60}") {
        let keys = Keys::of_secret(SECRET).expect("secret");
        prop_assert!(open(&[&keys], &text).is_err());
    }

    #[test]
    fn a_changed_token_opens_nothing(place in 0usize..120, digit in "[A-Za-z0-9_-]") {
        let keys = Keys::of_secret(SECRET).expect("secret");
        let token = Issuer::hs256(&claims());
        let mut changed = token.clone();
        let place = place % token.len();
        changed.replace_range(place..=place, &digit);
        prop_assert_eq!(open(&[&keys], &changed).is_ok(), changed == token);
    }
}

impl Issuer {
    /// Without keys that take long to make.
    fn hs256(claims: &Value) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encode(&json!({ "alg": "HS256" })), encode(claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    }
}
