//! What a client says of itself in `User-Agent` (RFC 9110, section 10.1.5).

use model::ObsVersion;

/// Of what is longer nothing is believed: OBS's has some 60 bytes.
const BYTES_MAX: usize = 300;
const PRODUCT: &str = "OBS-Studio/";

/// The version of OBS that stands there, as OBS writes it: `Mozilla/5.0 (OBS-Studio/30.0.2; Linux x86_64; en-US)`. What
/// follows the numbers, as in `32.1.0-rc1`, does not count.
#[must_use]
pub fn obs(user_agent: &str) -> Option<ObsVersion> {
    let (_, version) = Some(user_agent).filter(|text| text.len() <= BYTES_MAX)?.split_once(PRODUCT)?;
    let end = version.find(|character: char| !character.is_ascii_digit() && character != '.');
    let mut numbers = version[..end.unwrap_or(version.len())].split('.').map(str::parse::<u16>);
    let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let patch = numbers.next().and_then(Result::ok).unwrap_or(0);
    Some(ObsVersion { major, minor, patch })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_version_of_obs_is_read_and_nothing_else_is_taken_for_it() {
        let read = |text: &str| obs(text).map(|version| version.to_string());
        for (text, version) in [
            ("Mozilla/5.0 (OBS-Studio/30.0.2; Linux x86_64; en-US)", "30.0.2"),
            ("Mozilla/5.0 (OBS-Studio/32.1.0-rc1; Windows x86_64; de-DE)", "32.1.0"),
            ("Mozilla/5.0 (OBS-Studio/30.2.0-beta2-14-g0123abcd4; Mac OS X; it-IT)", "30.2.0"),
            ("OBS-Studio/31.1", "31.1.0"),
        ] {
            assert_eq!(read(text).as_deref(), Some(version), "{text}");
        }
        let long = format!("{}OBS-Studio/30.0.2", "x".repeat(BYTES_MAX));
        for text in [
            "",
            "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            "OBS-Studio/",
            "OBS-Studio/30",
            "OBS-Studio/.2.1",
            "OBS-Studio/99999.0.0",
            "OBS-Studio/thirty.0.2",
            &long,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn versions_are_compared_by_number() {
        let version = |text: &str| obs(&format!("OBS-Studio/{text}"));
        assert!(version("30.1.2") < version("30.2.0") && version("30.2.0") < version("30.10.0"));
        assert!(version("30.10.0") < version("31.0.0"));
    }

    proptest! {
        #[test]
        fn what_is_read_is_read_again(text in "(OBS-Studio/)?[0-9.;a-z -]{0,40}") {
            if let Some(version) = obs(&text) {
                prop_assert_eq!(obs(&format!("OBS-Studio/{version}")), Some(version));
            }
        }
    }
}
