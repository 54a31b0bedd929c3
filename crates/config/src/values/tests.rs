//! What is read as a value, and what is not.

use super::*;
use proptest::prelude::*;

#[test]
fn durations_and_sizes_are_read_as_people_write_them() {
    for (text, milliseconds) in
        [("500ms", 500), ("15s", 15_000), ("2m", 120_000), ("1h", 3_600_000), (" 3 s ", 3000)]
    {
        assert_eq!(text.parse(), Ok(HumanDuration::millis(milliseconds)), "{text}");
    }
    assert_eq!("16MiB".parse(), Ok(Size::mebibytes(16)));
    assert_eq!("7B".parse::<Size>().map(Size::bytes), Ok(7));
}

#[test]
fn a_number_without_unit_is_refused_because_it_could_mean_anything() {
    for text in ["", "5", "s", "-1s", "1.5s", "5 days"] {
        assert_eq!(text.parse::<HumanDuration>(), Err(ValueError::Duration), "{text}");
    }
    for text in ["", "16", "16MB", "MiB"] {
        assert_eq!(text.parse::<Size>(), Err(ValueError::Size), "{text}");
    }
    for (text, part) in [("0", 0.0), ("0.01", 0.01), (" 1 ", 1.0), ("1e-3", 0.001)] {
        assert_eq!(text.parse::<Part>().map(Part::get), Ok(part), "{text}");
    }
    for text in ["", "1.01", "-0.1", "NaN", "inf", "1%"] {
        assert_eq!(text.parse::<Part>(), Err(ValueError::Part), "{text}");
    }
    assert_eq!("99999999999999999999s".parse::<HumanDuration>(), Err(ValueError::TooLarge));
    assert_eq!("18446744073709551615GiB".parse::<Size>(), Err(ValueError::TooLarge));
}

#[test]
fn a_parent_is_a_host_and_a_port() {
    for (text, is_loopback) in [
        ("relay-1.example.net:51000", false),
        ("198.18.0.1:51000", false),
        ("[2001:db8::1]:51000", false),
        ("127.0.0.1:51000", true),
        ("[::1]:51000", true),
        ("localhost:51000", true),
    ] {
        let parent: Parent = text.parse().expect(text);
        assert_eq!((parent.to_string().as_str(), parent.is_loopback()), (text, is_loopback));
    }
    for bad in
        ["", "host", ":1", "host:", "host:0", "host:70000", "2001:db8::1:51000", "http://host:1", "a b:1"]
    {
        assert_eq!(bad.parse::<Parent>(), Err(ValueError::Parent), "{bad}");
    }
}

#[test]
fn a_url_is_plain_http_with_a_host_and_no_password() {
    for (text, origin, is_private) in [
        ("https://a.example/hook?x=1", "https://a.example", true),
        ("http://127.0.0.1:9000/hook", "http://127.0.0.1:9000", true),
        ("http://[::1]:9000", "http://[::1]:9000", true),
        ("http://localhost?x", "http://localhost", true),
        ("http://10.0.0.7/hook", "http://10.0.0.7", false),
        ("http://localhost.example/", "http://localhost.example", false),
    ] {
        let url: HttpUrl = text.parse().expect(text);
        assert_eq!((url.as_str(), url.origin(), url.is_private()), (text, origin, is_private));
        assert_eq!(format!("{url:?}"), format!("{origin}/***"), "paths are not shown");
    }
    for bad in [
        "",
        "https://",
        "http://:80/",
        "ftp://a/",
        "https://u:p@a/",
        "https://a/#b",
        "https://a b/",
        "https:/a",
        "//a",
    ] {
        assert_eq!(bad.parse::<HttpUrl>(), Err(ValueError::HttpUrl), "{bad}");
    }
    assert_eq!("/etc/keys.json".parse(), Ok(KeySource::File("/etc/keys.json".into())));
    assert!(matches!("https://a/keys".parse(), Ok(KeySource::Url(_))));
    assert_eq!("10.0.0.0/33".parse::<Network>(), Err(ValueError::Network));
    for (text, inside, outside) in [
        ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
        ("10.0.0.0/8", "::ffff:10.1.2.3", "11.0.0.1"),
        ("2001:db8::/32", "2001:db8::1", "2001:db9::1"),
    ] {
        let network: Network = text.parse().expect("a network");
        let contains = |address: &str| network.contains(address.parse().expect("an address"));
        assert!(contains(inside) && !contains(outside), "{text}");
        assert_eq!(network.to_string(), text);
    }
    assert!("file:///keys".parse::<KeySource>().is_err() && "".parse::<KeySource>().is_err());
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(milliseconds in 0u64..1 << 50, bytes in 0u64..1 << 60) {
        let duration = HumanDuration::millis(milliseconds);
        prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        let size = Size(bytes);
        prop_assert_eq!(size.to_string().parse(), Ok(size));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,20}") {
        let _ = (text.parse::<HumanDuration>(), text.parse::<Size>(), text.parse::<Parent>());
        let _ = (text.parse::<HttpUrl>(), text.parse::<KeySource>());
    }
}
