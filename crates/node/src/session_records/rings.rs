//! The file in which one process leaves its rings to the next: sealed packets, each with its length (two bytes,
//! big-endian) in front.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bytes::{Buf as _, Bytes};
use link::exchange::HANDOVER_BYTES_MAX;

/// The most that is read: what an exchange leaves, and the lengths.
const FILE_BYTES_MAX: u64 = 2 * HANDOVER_BYTES_MAX as u64;

/// Writes the file anew, readable by nobody else.
pub fn write(path: &Path, packets: &[Bytes]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    for packet in packets {
        let length = u16::try_from(packet.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        out.write_all(&length.to_be_bytes())?;
        out.write_all(packet)?;
    }
    out.flush()
}

/// Reads the file and removes it.
pub fn take(path: &Path) -> io::Result<Vec<Bytes>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    std::fs::remove_file(path)?;
    let mut rest = Bytes::from(bytes);
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let length = if rest.len() < 2 { usize::MAX } else { usize::from(rest.get_u16()) };
        if length > rest.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        packets.push(rest.split_to(length));
    }
    Ok(packets)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn packets_come_back_once_and_a_cut_file_gives_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rings");
        let packets: Vec<Bytes> = [&b"one"[..], &[], &[7; 1400]].map(Bytes::copy_from_slice).to_vec();
        write(&path, &packets).expect("written");
        assert_eq!(path.metadata().expect("a file").permissions().mode() & 0o777, 0o600);
        let content = std::fs::read(&path).expect("read");
        assert_eq!(take(&path).expect("taken"), packets);
        assert!(take(&path).is_err(), "it is gone");
        assert!(write(Path::new("/dev/full"), &packets).is_err(), "a full disk is noticed");
        for length in [1, content.len() - 1] {
            std::fs::write(&path, &content[..length]).expect("written");
            assert!(take(&path).is_err());
        }
    }
}
