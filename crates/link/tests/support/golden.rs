//! Bytes that must never change within a major version: hex files in `tests/golden`.

use std::path::PathBuf;

/// The bytes of a golden file. White space is ignored, `#` starts a comment.
pub fn read(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let digits: String = lines.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("hex digits"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex digits")).collect()
}

/// Fails with the actual bytes as hex, ready to be compared.
pub fn check(name: &str, actual: &[u8]) {
    let hex: Vec<_> =
        actual.chunks(32).map(|row| row.iter().map(|b| format!("{b:02x}")).collect::<String>()).collect();
    assert!(read(name) == actual, "the bytes differ from tests/golden/{name}; they are\n{}", hex.join("\n"));
}
