//! The store as its user meets it: what is put survives, what is bad is refused alone.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use records::{OpenError, PutError, RECORD_BYTES_MAX, Record, RecordError, RecordId, SealingKey, Store};

const AGE_MAX: Duration = Duration::from_secs(30);
/// A slot of the smallest file: two halves of 1 KiB.
const SLOT: usize = 2048;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn key(byte: u8) -> SealingKey {
    SealingKey::generate([byte; 32])
}

const fn id(number: u64) -> RecordId {
    RecordId { kind: 1, number }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("state")
    }

    fn open(&self) -> Store {
        Store::open(&self.path(), &key(1)).expect("opened")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The small records' file.
    fn small(&self) -> PathBuf {
        self.file("records-1k")
    }
}

fn put(store: &mut Store, number: u64, bytes: &[u8]) {
    store.put(now(), id(number), bytes).expect("written");
}

/// Opens the store again and loads all: what is good, by number, and what is refused.
fn reload(folder: &Folder) -> (BTreeMap<u64, Vec<u8>>, Vec<RecordError>) {
    split(folder.open().load_all(now(), AGE_MAX))
}

fn split(loaded: Vec<Result<Record, RecordError>>) -> (BTreeMap<u64, Vec<u8>>, Vec<RecordError>) {
    let (mut good, mut refused) = (BTreeMap::new(), Vec::new());
    for record in loaded {
        match record {
            Ok(record) => {
                assert!(good.insert(record.id.number, record.bytes.to_vec()).is_none(), "an id came twice")
            }
            Err(error) => refused.push(error),
        }
    }
    (good, refused)
}

#[test]
fn records_survive_the_process_in_their_newest_version() {
    let folder = Folder::new();
    let mut store = folder.open();
    for version in 0..5u8 {
        put(&mut store, 1, &[version; 100]);
    }
    put(&mut store, 2, b"");
    store.put(now(), RecordId { kind: 2, number: 1 }, b"another kind").expect("written");
    assert_eq!(store.len(), 3);
    drop(store);
    let loaded = folder.open().load_all(now(), AGE_MAX);
    let mut loaded: Vec<Record> = loaded.into_iter().map(|record| record.expect("good")).collect();
    loaded.sort_by_key(|record| record.id);
    assert_eq!((loaded[0].id, &loaded[0].bytes[..], loaded[0].written_at), (id(1), &[4; 100][..], now()));
    assert_eq!((loaded[1].id, loaded[1].bytes.len()), (id(2), 0));
    assert_eq!(&loaded[2].bytes[..], b"another kind");
}

#[test]
fn a_loaded_record_goes_on_and_is_told_once() {
    let folder = Folder::new();
    put(&mut folder.open(), 1, b"old");
    let mut store = folder.open();
    assert_eq!(store.load_all(now(), AGE_MAX).len(), 1);
    assert_eq!(store.load_all(now(), AGE_MAX).len(), 0);
    put(&mut store, 1, b"new");
    drop(store);
    assert_eq!(reload(&folder).0, BTreeMap::from([(1, b"new".to_vec())]));
}

#[test]
fn a_removed_record_is_gone_and_its_place_is_given_back() {
    let folder = Folder::new();
    let mut store = folder.open();
    for number in 0..10 {
        put(&mut store, number, b"x");
    }
    assert_eq!(fs::metadata(folder.small()).expect("file").len() as usize, 9 * SLOT + half_used());
    for number in [3, 9, 8] {
        store.remove(id(number)).expect("removed");
    }
    assert_eq!(fs::metadata(folder.small()).expect("file").len() as usize, 8 * SLOT);
    put(&mut store, 20, b"y");
    assert_eq!(
        fs::metadata(folder.small()).expect("file").len() as usize,
        8 * SLOT,
        "the free slot is used again"
    );
    store.remove(id(99)).expect("nothing to do");
    drop(store);
    let numbers: Vec<u64> = reload(&folder).0.into_keys().collect();
    assert_eq!(numbers, [0, 1, 2, 4, 5, 6, 7, 20]);
}

#[test]
fn a_record_is_wiped_though_the_disk_has_no_room() {
    let folder = Folder::new();
    let mut store = folder.open();
    for number in 1..=3 {
        put(&mut store, number, &[7; 9000]);
    }
    let file = folder.file("records-16k");
    let blocks = || fs::metadata(&file).expect("file").blocks();
    let before = blocks();
    store.remove(id(1)).expect("removed");
    assert!(blocks() <= before, "{} blocks more, in halves that nothing was written in", blocks() - before);
    drop(store);
    assert!(fs::read(&file).expect("file")[..32 << 10].iter().all(|byte| *byte == 0), "wiped");
    assert_eq!(reload(&folder).0.into_keys().collect::<Vec<u64>>(), [2, 3]);
}

/// What one record of one byte takes in the last, half-written slot of the file.
const fn half_used() -> usize {
    64 + 1 + 16
}

#[test]
fn a_record_that_grows_moves_and_its_old_place_is_wiped() {
    let folder = Folder::new();
    let mut store = folder.open();
    let sizes = [10, 2000, 9000, 60_000, RECORD_BYTES_MAX];
    for size in sizes {
        put(&mut store, 1, &vec![7; size]);
    }
    for name in ["records-1k", "records-4k", "records-16k"] {
        assert_eq!(fs::metadata(folder.file(name)).expect("file").len(), 0, "{name}");
    }
    let error = store.put(now(), id(1), &vec![0; RECORD_BYTES_MAX + 1]).expect_err("too long");
    assert!(matches!(error, PutError::TooLong { .. }));
    drop(store);
    assert_eq!(reload(&folder).0[&1].len(), RECORD_BYTES_MAX);
}

#[test]
fn growth_is_bounded_and_a_full_store_still_takes_new_versions() {
    let folder = Folder::new();
    let mut store = folder.open();
    let record = vec![1; RECORD_BYTES_MAX];
    let mut count = 0;
    let error = loop {
        match store.put(now(), id(count), &record) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PutError::Full), "{error}");
    assert_eq!(count, records::BYTES_MAX / (128 << 10));
    put(&mut store, 0, &record);
    store.remove(id(1)).expect("removed");
    put(&mut store, count, &record);
}

#[test]
fn a_stale_record_is_refused_and_the_rest_loads() {
    let folder = Folder::new();
    let mut store = folder.open();
    for (number, age) in [(1, 31), (2, 29), (3, 0)] {
        store.put(now() - Duration::from_secs(age), id(number), b"x").expect("written");
    }
    store.put(now() + Duration::from_secs(31), id(4), b"from the future").expect("written");
    drop(store);
    let (good, refused) = reload(&folder);
    assert_eq!(good.into_keys().collect::<Vec<_>>(), [2, 3]);
    let age = Duration::from_secs(31);
    assert_eq!(refused, [RecordError::Stale { id: id(1), age }, RecordError::Stale { id: id(4), age }]);
    assert_eq!(reload(&folder).1, [], "stale records are wiped");
}

#[test]
fn records_of_another_key_are_refused_one_by_one() {
    let folder = Folder::new();
    put(&mut folder.open(), 1, b"x");
    let mut other = Store::open(&folder.path(), &key(2)).expect("opened");
    assert_eq!(other.load_all(now(), AGE_MAX), [Err(RecordError::Foreign)]);
    put(&mut other, 2, b"y");
    drop(other);
    let mut other = Store::open(&folder.path(), &key(2)).expect("opened");
    let (good, refused) = split(other.load_all(now(), AGE_MAX));
    assert_eq!((good.into_keys().collect::<Vec<_>>(), refused), (vec![2], vec![]));
}

#[test]
fn a_record_of_another_version_or_place_is_refused() {
    let folder = Folder::new();
    let mut store = folder.open();
    put(&mut store, 1, b"one");
    put(&mut store, 2, b"two");
    drop(store);
    let file = OpenOptions::new().read(true).write(true).open(folder.small()).expect("file");
    let mut slot = vec![0; half_used() + 2];
    file.read_exact_at(&mut slot, 0).expect("read");
    file.write_all_at(&slot, SLOT as u64).expect("the first record is copied over the second");
    slot[3] = 9;
    file.write_all_at(&slot, 0).expect("the first record gets another version");
    let (good, refused) = reload(&folder);
    assert_eq!(good, BTreeMap::new());
    assert_eq!(refused, [RecordError::Version { version: 9 }, RecordError::Damaged]);
}

#[test]
fn an_older_version_does_not_come_back_when_a_cut_off_move_is_found() {
    let folder = Folder::new();
    let mut store = folder.open();
    put(&mut store, 1, b"small");
    let small = fs::read(folder.small()).expect("read");
    put(&mut store, 1, &[1; 3000]);
    drop(store);
    // As if the process had died between writing the large one and wiping the small one.
    fs::write(folder.small(), small).expect("written");
    let mut store = folder.open();
    let (good, refused) = split(store.load_all(now(), AGE_MAX));
    assert_eq!((good[&1].len(), refused), (3000, vec![]));
    store.remove(id(1)).expect("removed");
    drop(store);
    assert_eq!(reload(&folder), (BTreeMap::new(), vec![]));
}

#[test]
fn nobody_else_may_look_and_only_one_may_write() {
    let folder = Folder::new();
    fs::create_dir(folder.path()).expect("made");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("opened to all");
    let mut store = folder.open();
    put(&mut store, 1, b"x");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path()), 0o700);
    for entry in fs::read_dir(folder.path()).expect("listed") {
        assert_eq!(mode(&entry.expect("entry").path()), 0o600);
    }
    let second = Store::open(&folder.path(), &key(1));
    assert!(matches!(second, Err(OpenError::InUse { .. })), "{second:?}");
    drop(store);
    assert_eq!(folder.open().len(), 1);
}

#[test]
fn a_record_shows_nothing_in_the_file() {
    let folder = Folder::new();
    let secret = b"a very secret keying material";
    put(&mut folder.open(), 1, secret);
    let file = fs::read(folder.small()).expect("read");
    assert!(!file.windows(8).any(|window| secret.windows(8).any(|part| part == window)));
}

#[test]
fn no_nonce_repeats_under_one_key_over_crashes() {
    let folder = Folder::new();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let mut store = folder.open();
        store.load_all(now(), AGE_MAX);
        for number in 0..20 {
            put(&mut store, number % 3, b"x");
            let file = fs::read(folder.small()).expect("read");
            let halves = file.chunks(1024).filter(|half| half.starts_with(b"MTR"));
            // Sequence and salt tell the nonce and the key.
            seen.extend(
                halves
                    .map(|half| (half[16..24].to_vec(), half[40..56].to_vec(), half[..half_used()].to_vec())),
            );
        }
    }
    let sealed = seen.len();
    let nonces: std::collections::BTreeSet<_> =
        seen.into_iter().map(|(nonce, key, _)| (nonce, key)).collect();
    assert_eq!((nonces.len(), sealed), (100, 100));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_torn_write_leaves_the_version_before(
        versions in 2u8..6,
        sizes in prop::collection::vec(0usize..900, 6),
        cut in 0.0f64..1.0,
    ) {
        let folder = Folder::new();
        let mut store = folder.open();
        put(&mut store, 7, b"a neighbour");
        let mut before = Vec::new();
        for version in 0..versions {
            before = fs::read(folder.small()).expect("read");
            put(&mut store, 1, &vec![version; sizes[usize::from(version)]]);
        }
        drop(store);
        let after = fs::read(folder.small()).expect("read");
        before.resize(after.len(), 0);
        let changed: Vec<usize> = (0..after.len()).filter(|at| before[*at] != after[*at]).collect();
        let done = (changed.len() as f64 * cut) as usize;
        let mut torn = before;
        changed[..done].iter().for_each(|at| torn[*at] = after[*at]);
        fs::write(folder.small(), &torn).expect("written");
        let (good, refused) = reload(&folder);
        let newest = versions - 1;
        let (old, new) = (vec![newest - 1; sizes[usize::from(newest) - 1]], vec![newest; sizes[usize::from(newest)]]);
        prop_assert_eq!(&good[&1], if torn == after { &new } else { &old });
        prop_assert_eq!(&good[&7], b"a neighbour");
        prop_assert_eq!(refused, []);
    }

    #[test]
    fn tampering_and_truncation_never_yield_what_was_not_put(
        puts in prop::collection::vec((0u64..6, 0usize..1500), 1..30),
        removed in prop::collection::btree_set(0u64..6, 0..3),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 0..12),
        truncated in prop::option::of(any::<prop::sample::Index>()),
        grown in prop::option::of(1usize..5000),
    ) {
        let folder = Folder::new();
        let mut store = folder.open();
        let mut versions: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
        for (version, (number, size)) in puts.iter().enumerate() {
            let bytes = vec![version as u8; *size];
            put(&mut store, *number, &bytes);
            versions.entry(*number).or_default().push(bytes);
        }
        for number in &removed {
            store.remove(id(*number)).expect("removed");
            versions.remove(number);
        }
        drop(store);
        let mut bytes = fs::read(folder.small()).expect("read");
        let is_untouched = bytes.is_empty() || flips.is_empty() && truncated.is_none();
        if !bytes.is_empty() {
            for (at, with) in flips {
                let at = at.index(bytes.len());
                bytes[at] ^= with;
            }
            if let Some(at) = truncated {
                bytes.truncate(at.index(bytes.len()));
            }
        }
        bytes.resize(bytes.len() + grown.unwrap_or(0), 0);
        fs::write(folder.small(), bytes).expect("written");
        let (good, refused) = reload(&folder);
        for (number, bytes) in &good {
            let known = versions.get(number).expect("a removed record came back");
            // The newest, or the one before if the newest was hit.
            prop_assert!(known.iter().rev().take(2).any(|version| version == bytes), "record {number}");
        }
        if is_untouched {
            prop_assert_eq!(refused, []);
            prop_assert_eq!(good.len(), versions.len());
            for (number, bytes) in &good {
                prop_assert_eq!(Some(bytes), versions[number].last());
            }
        }
    }

    #[test]
    fn any_content_of_the_file_is_refused_without_panic(content in prop::collection::vec(any::<u8>(), 0..5000)) {
        let folder = Folder::new();
        drop(folder.open());
        fs::write(folder.small(), content).expect("written");
        prop_assert_eq!(reload(&folder).0, BTreeMap::new());
        prop_assert_eq!(reload(&folder).1, [], "what is refused is wiped");
    }
}
