//! The file under crashes: cut at every byte, damaged at every byte, no room, two owners.

use proptest::prelude::*;

use super::*;

fn key(id: &str) -> Key {
    Key::new(Collection::Broadcasts, id).expect("good id")
}

fn put(id: &str, counter: u64, value: &str) -> Change {
    let version = Version { counter, writer: counter * 7 };
    Change::Put(Record { key: key(id), value: Bytes::copy_from_slice(value.as_bytes()), version })
}

fn values(records: &[Record]) -> Vec<(String, String)> {
    let text = |record: &Record| String::from_utf8_lossy(&record.value).into_owned();
    records.iter().map(|record| (record.key.id.to_string(), text(record))).collect()
}

/// What a model says after `changes`.
fn model(changes: &[Change]) -> Vec<(String, String)> {
    let mut there = BTreeMap::new();
    for change in changes {
        match change {
            Change::Put(record) => {
                there.insert(record.key.id.to_string(), String::from_utf8_lossy(&record.value).into_owned());
            }
            Change::Gone(key) => {
                there.remove(key.id.as_str());
            }
        }
    }
    there.into_iter().collect()
}

fn changes() -> Vec<Change> {
    vec![
        put("a", 1, "one"),
        put("b", 2, "two"),
        put("a", 3, "three"),
        Change::Gone(key("b")),
        put("c", 5, ""),
    ]
}

#[test]
fn a_file_cut_at_any_byte_holds_the_writes_before_the_cut_and_takes_new_ones() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("whole");
    let (mut log, _) = Log::open(&path).expect("new");
    let mut ends = vec![MAGIC.len()];
    for change in changes() {
        log.append(&[change]).expect("write");
        ends.push(log.file_bytes as usize);
    }
    drop(log);
    let whole = std::fs::read(&path).expect("read");
    assert_eq!(whole.len(), *ends.last().expect("some"));
    for length in 0..=whole.len() {
        let path = folder.path().join(format!("cut-{length}"));
        std::fs::write(&path, &whole[..length]).expect("cut");
        let (mut log, records) = Log::open(&path).unwrap_or_else(|error| panic!("cut at {length}: {error}"));
        let complete = ends.iter().filter(|end| **end <= length).count().saturating_sub(1);
        assert_eq!(values(&records), model(&changes()[..complete]), "cut at {length}");
        assert!(!beside(&path, "damaged").exists(), "a torn end is no damage");
        log.append(&[put("d", 9, "new")]).expect("write");
        drop(log);
        let (_, records) = Log::open(&path).expect("open again");
        assert!(values(&records).contains(&("d".into(), "new".into())), "cut at {length}");
    }
}

#[test]
fn any_damaged_byte_is_noticed_and_what_stands_before_it_is_kept() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("whole");
    let (mut log, _) = Log::open(&path).expect("new");
    let mut ends = vec![MAGIC.len()];
    for change in changes() {
        log.append(&[change]).expect("write");
        ends.push(log.file_bytes as usize);
    }
    drop(log);
    let whole = std::fs::read(&path).expect("read");
    for place in 0..whole.len() {
        let path = folder.path().join(format!("damaged-{place}"));
        let mut content = whole.clone();
        content[place] ^= 0x20;
        std::fs::write(&path, &content).expect("damage");
        if place < MAGIC.len() {
            assert!(matches!(Log::open(&path), Err(FileError::Foreign { .. })), "{place}");
            continue;
        }
        let (_, records) = Log::open(&path).unwrap_or_else(|error| panic!("damaged at {place}: {error}"));
        let before = ends.iter().filter(|end| **end <= place).count() - 1;
        assert_eq!(values(&records), model(&changes()[..before]), "damaged at {place}");
    }
}

#[test]
fn a_damaged_file_is_kept_beside_the_new_one() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("store");
    let (mut log, _) = Log::open(&path).expect("new");
    log.append(&[put("a", 1, "one"), put("b", 2, "two")]).expect("write");
    drop(log);
    let mut content = std::fs::read(&path).expect("read");
    content[MAGIC.len() + HEAD_BYTES] ^= 1;
    std::fs::write(&path, &content).expect("damage");
    let (_, records) = Log::open(&path).expect("open");
    assert_eq!(records, []);
    assert_eq!(std::fs::read(beside(&path, "damaged")).expect("copy"), content);
}

#[test]
fn a_file_is_rewritten_when_most_of_it_is_old() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("store");
    let (mut log, _) = Log::open(&path).expect("new");
    let large = "x".repeat(VALUE_BYTES_MAX);
    for counter in 0..100 {
        log.append(&[put("a", counter, &large)]).expect("write");
        assert!(log.file_bytes < REWRITE_BYTES_MIN + 2 * PAYLOAD_BYTES_MAX as u64);
        assert_eq!(std::fs::metadata(&path).expect("there").len(), log.file_bytes);
    }
    drop(log);
    let (_, records) = Log::open(&path).expect("open again");
    assert_eq!(records[0].version.counter, 99);
}

#[test]
fn after_a_failed_write_the_next_good_one_has_everything() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("store");
    let (mut log, _) = Log::open(&path).expect("new");
    let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let good = std::mem::replace(&mut log.file, full);
    assert_eq!(
        log.append(&[put("a", 1, "one")]).map_err(|error| error.kind()),
        Err(io::ErrorKind::StorageFull)
    );
    drop(good);
    log.append(&[put("b", 2, "two")]).expect("write");
    drop(log);
    let (_, records) = Log::open(&path).expect("open again");
    assert_eq!(values(&records), [("a".into(), "one".into()), ("b".into(), "two".into())]);
}

#[test]
fn once_there_is_room_again_what_could_not_be_written_is_written_where_the_file_ends() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("store");
    let (mut log, _) = Log::open(&path).expect("new");
    log.append(&[put("a", 1, "one"), put("b", 2, "two")]).expect("write");
    let whole = std::fs::read(&path).expect("read");
    let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let good = std::mem::replace(&mut log.file, full);
    assert!(log.append(&[put("a", 3, "three")]).is_err());
    // A part of it went out before the disk was full.
    good.write_all_at(&[0xee; 500], log.file_bytes).expect("write");
    log.file = good;
    log.append(&[Change::Gone(key("b"))]).expect("write");
    assert!(std::fs::read(&path).expect("read").starts_with(&whole), "no second file was needed");
    assert_eq!(std::fs::metadata(&path).expect("there").len(), log.file_bytes);
    drop(log);
    let (_, records) = Log::open(&path).expect("open again");
    assert_eq!(values(&records), [("a".into(), "three".into())]);
}

#[test]
fn an_attempt_without_changes_writes_what_is_left_over() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("store");
    let (mut log, _) = Log::open(&path).expect("new");
    let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let good = std::mem::replace(&mut log.file, full);
    assert!(log.append(&[put("a", 1, "one")]).is_err());
    log.file = good;
    log.append(&[]).expect("write");
    drop(log);
    let (_, records) = Log::open(&path).expect("open again");
    assert_eq!(values(&records), [("a".into(), "one".into())]);
}

#[test]
fn what_is_at_the_end_being_unknown_the_next_success_is_a_new_file() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("store");
    let (mut log, _) = Log::open(&path).expect("new");
    log.append(&[put("a", 1, "one")]).expect("write");
    // In the way of the new file.
    let new = beside(&path, "new");
    std::fs::create_dir(&new).expect("folder");
    log.end = End::Unknown;
    assert!(log.append(&[put("b", 2, "two")]).is_err());
    std::fs::remove_dir(&new).expect("empty");
    log.append(&[]).expect("write");
    assert!(!new.exists());
    drop(log);
    let (_, records) = Log::open(&path).expect("open again");
    assert_eq!(values(&records), [("a".into(), "one".into()), ("b".into(), "two".into())]);
}

#[test]
fn one_file_has_one_owner() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("store");
    let first = Log::open(&path).expect("new");
    assert!(matches!(Log::open(&path), Err(FileError::InUse { .. })));
    drop(first);
    assert!(Log::open(&path).is_ok());
}

#[test]
fn records_of_a_newer_program_stay_in_the_file() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("store");
    let (_, frame) = encode(&put("a", 1, "one"));
    // The same length: "broadcasts" becomes a collection that this version does not know.
    let mut payload = frame[HEAD_BYTES..].to_vec();
    payload[2..12].copy_from_slice(b"hologramme");
    let mut content = MAGIC.to_vec();
    content.put_u32(payload.len() as u32);
    content.put_u64(sum_of(&payload));
    content.put_slice(&payload);
    std::fs::write(&path, &content).expect("write");
    let (mut log, records) = Log::open(&path).expect("open");
    assert_eq!(records, []);
    log.rewrite().expect("rewrite");
    let rewritten = std::fs::read(&path).expect("read");
    assert!(rewritten.windows(10).any(|window| window == b"hologramme"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_content_panics(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("store");
        let mut content = MAGIC.to_vec();
        content.extend(tail);
        std::fs::write(&path, &content).expect("write");
        prop_assert!(Log::open(&path).is_ok());
    }
}
