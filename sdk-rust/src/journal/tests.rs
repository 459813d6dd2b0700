//! Writing and reading a journal, with what disks and deaths do to it.

use std::{fs, path::Path, sync::Arc};

use parking_lot::Mutex;
use proptest::prelude::*;
use uuid::Uuid;

use super::{
    copied::Definition,
    folder::{self, Folder, Meta},
    frame,
    limits::Limits,
    owner::Owner,
    reader::Reader,
    record::{self, Column, Record, RunDefinition},
    shared::Shared,
    writer::Writer,
};

const THE_RUN: RunDefinition = RunDefinition {
    run: Uuid::from_u128(7),
    own: true,
    origin: None,
};

const LIMITS: Limits = Limits {
    segment_bytes: 600,
    quota_bytes: 1 << 30,
    memory_bytes: 4000,
    fsync: false,
};

/// With room for mappings, where the system has them.
const ROOMY: Limits = Limits {
    segment_bytes: 1 << 20,
    ..LIMITS
};

struct Case {
    home: tempfile::TempDir,
    folder: Folder,
    shared: Arc<Shared>,
    writer: Arc<Mutex<Writer>>,
}

impl Case {
    fn new(limits: Limits) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        Self::at(home, limits)
    }

    fn at(home: tempfile::TempDir, limits: Limits) -> Self {
        let id = Uuid::now_v7();
        let folder = Folder::at(folder::journals(home.path()).join(id.to_string()));
        let shared = Arc::new(Shared::new());
        let meta = Meta::new(id, "http://x", "p", Owner::this());
        let writer = Writer::new(meta, Some(folder.clone()), limits, Arc::clone(&shared));
        Self {
            home,
            folder,
            shared,
            writer: Arc::new(Mutex::new(writer)),
        }
    }

    /// Logs one point whose value is its number.
    fn log(&self, number: u64) {
        let mut writer = self.writer.lock();
        let run = writer.run(THE_RUN);
        let key = if number.is_multiple_of(3) { "a" } else { "b" };
        let pairs = [(key, number as f64)];
        writer
            .metrics(run, Some(number as i64), 5, pairs.into_iter())
            .expect("a good key");
    }

    fn own_reader(&self) -> Reader {
        Reader::own(Some(self.folder.clone()), Arc::clone(&self.writer))
    }

    fn left(&self) -> Vec<u64> {
        read(&mut Reader::leftover(self.folder.clone(), true), u64::MAX)
    }
}

/// The numbers of the records, which are their values too.
fn read(reader: &mut Reader, limit: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some((numbered, definitions)) = reader.next(limit).expect("readable") {
        let Record::Metrics(metrics) = numbered.record else {
            panic!("metrics");
        };
        let (key, value) = metrics.pairs().next().expect("a pair");
        let wanted = if numbered.number % 3 == 0 { "a" } else { "b" };
        assert_eq!(&**definitions.key(key).expect("defined"), wanted);
        assert_eq!(value, numbered.number as f64);
        assert_eq!(metrics.step, Some(numbered.number as i64));
        let run = definitions.run(metrics.run).expect("defined");
        assert_eq!(run, THE_RUN);
        numbers.push(numbered.number);
    }
    numbers
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn what_was_written_is_read_through_all_segments() {
    let case = Case::new(LIMITS);
    let mut own = case.own_reader();
    for number in 1..=100 {
        case.log(number);
        if number == 40 {
            assert_eq!(read(&mut own, case.shared.appended()), numbers(1..=40));
        }
    }
    assert_eq!(read(&mut own, case.shared.appended()), numbers(41..=100));
    assert_eq!(read(&mut own, case.shared.appended()), Vec::<u64>::new());
    assert!(case.folder.segments().expect("listed").len() > 3);
    assert_eq!(case.left(), numbers(1..=100));
}

#[test]
fn what_is_being_written_is_read_as_far_as_it_is_whole() {
    const COUNT: u64 = 100_000;
    let case = Case::new(ROOMY);
    let mut own = case.own_reader();
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| (1..=COUNT).for_each(|number| case.log(number)));
        while seen.len() < COUNT as usize {
            seen.extend(read(&mut own, case.shared.appended()));
        }
    });
    assert_eq!(seen, numbers(1..=COUNT));
    assert!(own.damaged().is_empty());
    assert!(case.folder.segments().expect("listed").len() > 2);
    assert_eq!(case.left(), numbers(1..=COUNT));
}

#[test]
fn large_and_small_records_take_turns() {
    let case = Case::new(ROOMY);
    let values = vec![0.5; 20_000];
    for _ in 0..30 {
        let mut writer = case.writer.lock();
        let run = writer.run(THE_RUN);
        let small = [("b", 1.0)];
        writer
            .metrics(run, None, 5, small.into_iter())
            .expect("a good key");
        let at = Column::Even {
            start: 5,
            stride: 0,
        };
        writer
            .series(run, "a", Column::Absent, at, &values)
            .expect("a good key");
    }
    let mut left = Reader::leftover(case.folder.clone(), true);
    let mut points = 0;
    while let Some((numbered, _)) = left.next(u64::MAX).expect("readable") {
        points += match numbered.record {
            Record::Metrics(metrics) => metrics.len(),
            Record::Series(series) => series.count,
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(points, 30 * 20_001);
}

#[test]
fn what_waits_in_memory_comes_to_the_disk_when_there_is_room_although_it_was_read() {
    let home = tempfile::tempdir().expect("a folder");
    fs::write(folder::journals(home.path()), b"").expect("written");
    let case = Case::at(home, LIMITS);
    let mut own = case.own_reader();
    (1..=20).for_each(|number| case.log(number));
    assert_eq!(read(&mut own, 20), numbers(1..=20));
    assert_eq!(case.writer.lock().in_memory(), 20, "read, not delivered");
    fs::remove_file(folder::journals(case.home.path())).expect("removed");
    std::thread::sleep(std::time::Duration::from_millis(250));
    case.log(21);
    assert_eq!(case.writer.lock().in_memory(), 0);
    assert_eq!(read(&mut own, 21), numbers(21..=21));
    assert_eq!(case.left(), numbers(1..=21));
}

#[test]
fn what_is_delivered_from_memory_gives_its_place_back() {
    let home = tempfile::tempdir().expect("a folder");
    fs::write(folder::journals(home.path()), b"").expect("written");
    let case = Case::at(home, LIMITS);
    let mut own = case.own_reader();
    let mut logged = 0;
    for _ in 0..100 {
        for _ in 0..30 {
            logged += 1;
            case.log(logged);
        }
        // Ten behind, as when more is logged while it is delivered.
        let read = read(&mut own, logged - 10);
        assert_eq!(read.last(), Some(&(logged - 10)));
        if case.writer.lock().forget(own.position()) {
            own.follow();
        }
    }
    assert_eq!(case.shared.appended(), logged, "nothing was dropped");
    fs::remove_file(folder::journals(case.home.path())).expect("removed");
    std::thread::sleep(std::time::Duration::from_millis(250));
    case.log(logged + 1);
    assert_eq!(read(&mut own, logged + 1), numbers(logged - 9..=logged + 1));
    assert_eq!(
        case.left(),
        numbers(logged - 9..=logged + 1),
        "with the definitions that they need"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_is_cut_off_under_its_mapping_costs_only_what_was_in_it() {
    let case = Case::new(ROOMY);
    let mut own = case.own_reader();
    (1..=50).for_each(|number| case.log(number));
    assert_eq!(read(&mut own, 30), numbers(1..=30));
    let file = fs::OpenOptions::new()
        .write(true)
        .open(case.folder.segment(1));
    file.expect("there").set_len(0).expect("cut");
    (51..=200).for_each(|number| case.log(number));
    let rest = read(&mut own, 200);
    assert_eq!(rest.last(), Some(&200));
    assert!(rest.ends_with(&numbers(51..=200)), "{rest:?}");
    assert_eq!(own.take_lost() as usize + rest.len(), 170);
}

/// Copies a record of a journal that has small numbers of its own.
fn copy(case: &Case, number: u64) {
    let (id, key) = if number.is_multiple_of(3) {
        (8, "a")
    } else {
        (9, "b")
    };
    let needs = [Definition::run(4, THE_RUN), Definition::key(id, key)];
    let mut frame = Vec::new();
    let value = std::iter::once(number as f64);
    record::put_metrics(&mut frame, 4, Some(number as i64), 5, &[id], value);
    case.writer.lock().copy(needs, &frame);
}

#[test]
fn copies_of_records_share_segments_and_definitions() {
    let case = Case::new(ROOMY);
    (1..=100).for_each(|number| copy(&case, number));
    assert_eq!(case.folder.segments().expect("listed"), [1]);
    assert_eq!(case.left(), numbers(1..=100));
    let bytes = fs::read(case.folder.segment(1)).expect("read");
    let (mut rest, mut definitions) = (&bytes[..], 0);
    while let Ok(frame) = frame::parse(rest) {
        rest = &rest[frame.size()..];
        let record = Record::read(frame);
        definitions += usize::from(matches!(
            record,
            Some(Record::Run { .. } | Record::Key { .. })
        ));
    }
    assert_eq!(definitions, 3, "one run and two keys");
}

#[test]
fn copies_of_records_are_understood_without_the_segments_before() {
    let case = Case::new(LIMITS);
    (1..=100).for_each(|number| copy(&case, number));
    assert!(case.folder.segments().expect("listed").len() > 3);
    case.folder.remove_segment(1);
    let left = case.left();
    assert!(left.len() > 50 && left.len() < 100, "{left:?}");
    assert_eq!(left, numbers(101 - left.len() as u64..=100));
}

#[cfg(target_os = "linux")]
#[test]
fn copies_of_records_are_understood_when_the_file_before_is_cut_off() {
    let case = Case::new(ROOMY);
    (1..=50).for_each(|number| copy(&case, number));
    let file = fs::OpenOptions::new()
        .write(true)
        .open(case.folder.segment(1));
    file.expect("there").set_len(0).expect("cut");
    (51..=100).for_each(|number| copy(&case, number));
    assert_eq!(case.left(), numbers(51..=100));
}

#[test]
fn a_reader_goes_on_where_delivery_ended() {
    let case = Case::new(LIMITS);
    (1..=100).for_each(|number| case.log(number));
    let mut own = case.own_reader();
    assert_eq!(read(&mut own, 60), numbers(1..=60));
    let end = own.position();
    super::thread::note_acked(&case.folder, end);
    for segment in case.folder.segments().expect("listed") {
        if segment < end.segment {
            case.folder.remove_segment(segment);
        }
    }
    assert_eq!(
        case.left(),
        numbers(61..=100),
        "definitions are in every segment"
    );
}

#[test]
fn a_bad_key_writes_nothing_and_breaks_nothing() {
    let case = Case::new(LIMITS);
    let run = case.writer.lock().run(THE_RUN);
    let bad = [("b", 1.0), ("a`b", 2.0)];
    let refused = case.writer.lock().metrics(run, Some(1), 5, bad.into_iter());
    assert_eq!(refused.expect_err("refused").0, 1);
    (1..=10).for_each(|number| case.log(number));
    assert_eq!(case.left(), numbers(1..=10));
}

#[test]
fn without_a_disk_it_waits_in_memory_and_what_does_not_fit_is_counted() {
    let home = tempfile::tempdir().expect("a folder");
    // A file where the folder should be.
    fs::write(folder::journals(home.path()), b"").expect("written");
    let case = Case::at(home, LIMITS);
    let mut own = case.own_reader();
    (1..=20).for_each(|number| case.log(number));
    assert_eq!(
        read(&mut own, case.shared.appended()),
        numbers(1..=20),
        "from memory"
    );
    for number in 21..=500 {
        case.log(number);
    }
    let (kept, dropped) = (
        case.shared.appended(),
        case.shared
            .dropped
            .load(std::sync::atomic::Ordering::Relaxed),
    );
    assert!(
        kept > 20 && dropped > 0 && kept + dropped == 500,
        "{kept} {dropped}"
    );
    // The disk is there again.
    fs::remove_file(folder::journals(case.home.path())).expect("removed");
    std::thread::sleep(std::time::Duration::from_millis(250));
    for number in kept + 1..=kept + 30 {
        case.log(number);
    }
    assert_eq!(case.shared.appended(), kept + 30);
    assert_eq!(read(&mut own, kept + 30), numbers(21..=kept + 30));
    assert_eq!(case.left().last(), Some(&(kept + 30)), "on disk again");
}

#[test]
fn the_quota_bounds_what_is_on_disk() {
    let case = Case::new(Limits {
        quota_bytes: 2400,
        ..LIMITS
    });
    (1..=500).for_each(|number| case.log(number));
    let on_disk: u64 = sizes(case.folder.path());
    assert!(on_disk <= 2400, "{on_disk} bytes");
    let kept = case.shared.appended();
    assert!(kept < 500);
    let mut own = case.own_reader();
    assert_eq!(read(&mut own, kept), numbers(1..=kept), "disk, then memory");
}

fn sizes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("listed");
    entries
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".seg"))
        .map(|entry| entry.metadata().expect("its size").len())
        .sum()
}

#[test]
fn a_journal_that_is_given_up_begins_anew() {
    let case = Case::new(LIMITS);
    let mut own = case.own_reader();
    (1..=30).for_each(|number| case.log(number));
    assert_eq!(read(&mut own, 30), numbers(1..=30));
    assert!(!case.writer.lock().retire(29), "not all of it is delivered");
    assert!(case.writer.lock().retire(30));
    assert!(!case.folder.path().exists());
    (31..=60).for_each(|number| case.log(number));
    assert_eq!(read(&mut own, 60), numbers(31..=60));
    assert_eq!(case.left(), numbers(31..=60));
}

#[test]
fn columns_are_short_where_they_are_even() {
    assert_eq!(
        Column::of(&[3, 5, 7]),
        Column::Even {
            start: 3,
            stride: 2
        }
    );
    assert_eq!(
        Column::of(&[4]),
        Column::Even {
            start: 4,
            stride: 0
        }
    );
    assert_eq!(Column::of(&[1, 2, 4]), Column::Given(&[1, 2, 4]));
    let extremes = [i64::MIN, i64::MAX];
    assert_eq!(Column::of(&extremes), Column::Given(&extremes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_cut_costs_only_what_was_cut(count in 1_u64..60, cut: prop::sample::Index, roomy: bool) {
        let case = Case::new(if roomy { ROOMY } else { LIMITS });
        (1..=count).for_each(|number| case.log(number));
        let last = case.folder.segments().expect("listed").pop().expect("one");
        let path = case.folder.segment(last);
        let bytes = fs::read(&path).expect("read");
        fs::write(&path, &bytes[..cut.index(bytes.len() + 1)]).expect("written");
        let left = case.left();
        prop_assert_eq!(&left, &numbers(1..=left.len() as u64));
    }

    #[test]
    fn a_flipped_bit_costs_at_most_its_segment(count in 1_u64..60, segment: prop::sample::Index, at: prop::sample::Index, bit in 0_u8..8) {
        let case = Case::new(LIMITS);
        (1..=count).for_each(|number| case.log(number));
        let segments = case.folder.segments().expect("listed");
        let segment = segments[segment.index(segments.len())];
        let path = case.folder.segment(segment);
        let mut bytes = fs::read(&path).expect("read");
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fs::write(&path, &bytes).expect("written");
        // Never a wrong record: `read` checks each. Those of the other segments are all there.
        let left = case.left();
        prop_assert!(left.windows(2).all(|pair| pair[0] < pair[1]));
        let lost = count as usize - left.len();
        prop_assert!(lost <= 20, "{} of {} lost", lost, count);
    }
}
