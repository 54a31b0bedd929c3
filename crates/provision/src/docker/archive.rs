//! The files of a node as an archive (POSIX ustar), which is how an engine takes them.

use super::File;

/// Of headers, and of the blocks that content is padded to.
const BLOCK_BYTES: usize = 512;
/// Only its owner lists the directory and reads the files.
const DIRECTORY_MODE: u64 = 0o700;
const FILE_MODE: u64 = 0o600;

/// A directory with these files, all of one owner, to be unpacked at the root.
pub(super) fn of(directory: &str, files: &[File], owner: u32) -> Vec<u8> {
    let mut archive = Vec::new();
    archive.extend(header(&format!("{directory}/"), (b'5', DIRECTORY_MODE), 0, owner));
    for file in files {
        let name = format!("{directory}/{}", file.name);
        archive.extend(header(&name, (b'0', FILE_MODE), file.bytes.len() as u64, owner));
        archive.extend(&file.bytes);
        archive.resize(archive.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    // Two empty blocks end it.
    archive.resize(archive.len() + 2 * BLOCK_BYTES, 0);
    archive
}

fn header(name: &str, (kind, mode): (u8, u64), bytes: u64, owner: u32) -> [u8; BLOCK_BYTES] {
    let mut header = [0; BLOCK_BYTES];
    let length = name.len().min(100);
    header[..length].copy_from_slice(&name.as_bytes()[..length]);
    octal(&mut header[100..108], mode);
    octal(&mut header[108..116], owner.into());
    octal(&mut header[116..124], owner.into());
    octal(&mut header[124..136], bytes);
    octal(&mut header[136..148], 0);
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    // The sum is made with blanks in its own place.
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut header[148..155], sum);
    header
}

/// Digits up to the last byte, which is zero.
fn octal(field: &mut [u8], number: u64) {
    let digits = field.len() - 1;
    let text = format!("{number:0digits$o}");
    field[..digits].copy_from_slice(&text.as_bytes()[text.len() - digits..]);
    field[digits] = 0;
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn tar_unpacks_what_was_put_in_and_others_cannot_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let long = "x".repeat(BLOCK_BYTES + 1);
        let files = [
            File { name: "node.toml", bytes: b"a secret".to_vec() },
            File { name: "tls.key", bytes: long.clone().into_bytes() },
            File { name: "empty", bytes: Vec::new() },
        ];
        let path = folder.path().join("archive.tar");
        std::fs::write(&path, of("home", &files, 65_534)).expect("written");
        let tar = |arguments: &[&str]| {
            let mut command = Command::new("tar");
            let output = command.current_dir(folder.path()).args(arguments).output().expect("tar runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("text")
        };
        let list = tar(&["--list", "--verbose", "--numeric-owner", "--file=archive.tar"]);
        assert_eq!(list.lines().filter(|line| line.contains(" 65534/65534 ")).count(), 4, "{list}");
        tar(&["--extract", "--no-same-owner", "--same-permissions", "--file=archive.tar"]);
        let read =
            |name: &str| std::fs::read_to_string(folder.path().join("home").join(name)).expect("there");
        assert_eq!(
            [read("node.toml"), read("tls.key"), read("empty")],
            ["a secret".into(), long, String::new()]
        );
        let mode =
            |name: &str| folder.path().join(name).metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!((mode("home"), mode("home/node.toml")), (0o700, 0o600));
    }
}
