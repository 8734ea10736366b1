//! What a draft has to send, and what lies below it.

use std::sync::Arc;

use super::*;
use crate::tree::{Ino, Version};

fn content(size: u64) -> Content {
    Content { ino: Ino(2), version: Version(1), size, modified: None, locate: Arc::new(|| None) }
}

fn write(draft: &mut Draft, offset: u64, data: &[u8]) {
    draft.write(offset, data, Path::new("/nonexistent")).unwrap();
}

#[test]
fn a_size_that_nobody_knows_is_none_in_a_record() {
    use crate::write::journal::Below;
    let mut draft = Draft::of(content(u64::MAX));
    draft.resize(0).unwrap();
    write(&mut draft, 0, b"new");
    assert_eq!(draft.below(false), Below::Unknown);
    assert!(matches!(Draft::of(content(3)).below(false), Below::File { size: 3, .. }));
}

#[test]
fn adding_at_the_end_sends_only_what_was_added() {
    let mut draft = Draft::of(content(100));
    assert_eq!(draft.change(), Change::Nothing);
    write(&mut draft, 100, b"abc");
    write(&mut draft, 103, b"def");
    assert_eq!(draft.change(), Change::Added(100..106));
    write(&mut draft, 110, b"hole before");
    assert_eq!(draft.change(), Change::Rewritten);
}

#[test]
fn a_change_in_the_middle_needs_what_is_around_it() {
    let mut draft = Draft::of(content(100));
    write(&mut draft, 10, b"abc");
    assert_eq!(draft.change(), Change::Rewritten);
    assert_eq!(draft.first_gap(0..100).unwrap().1, 0..10);
    draft.fill(&content(100), 0, &[7; 100], Path::new("/nonexistent")).unwrap();
    assert!(draft.first_gap(0..100).is_none());
    let Piece::Here(data) = draft.read(8, 6).unwrap() else { panic!() };
    assert_eq!(data, b"\x07\x07abc\x07");
}

#[test]
fn changes_that_leave_the_rest_alone_are_known_as_ranges() {
    let mut draft = Draft::of(content(1_000_000));
    write(&mut draft, 10, b"abc");
    write(&mut draft, 500_000, b"abc");
    write(&mut draft, 1_000_000, b"grown");
    assert_eq!(draft.changed_ranges().unwrap().1, [10..13, 500_000..500_003, 1_000_000..1_000_005]);
    draft.fill(&content(1_000_000), 0, &[0; 1000], Path::new("/nonexistent")).unwrap();
    write(&mut draft, 900, b"near");
    assert_eq!(draft.changed_ranges().unwrap().1[0], 10..904);
    write(&mut draft, 2_000_000, b"behind a hole");
    assert!(draft.changed_ranges().is_none());
    let mut cut = Draft::of(content(1_000_000));
    cut.resize(999_999).unwrap();
    write(&mut cut, 999_999, b"x");
    assert!(cut.changed_ranges().is_none());
}

#[test]
fn what_was_cut_off_does_not_come_back_when_the_file_grows_again() {
    let mut draft = Draft::of(content(100));
    draft.resize(10).unwrap();
    draft.resize(50).unwrap();
    assert!(draft.first_gap(10..50).is_none());
    assert_eq!(draft.first_gap(0..50).unwrap().1, 0..10);
    assert_eq!(draft.change(), Change::Rewritten);
}

#[test]
fn an_empty_new_file_is_something_to_send_once() {
    let mut draft = Draft::new();
    assert_eq!(draft.change(), Change::New);
    let sending = draft.begin_upload();
    assert_eq!(draft.change(), Change::Nothing);
    draft.upload_failed(sending);
    assert_eq!(draft.change(), Change::New);
}

#[test]
fn what_is_cut_off_during_an_upload_does_not_come_back_with_it() {
    let mut draft = Draft::new();
    write(&mut draft, 0, &[7; 100]);
    draft.begin_upload();
    draft.resize(10).unwrap();
    draft.resize(100).unwrap();
    draft.upload_confirmed(content(100));
    assert_eq!(draft.change(), Change::Rewritten);
    let Piece::Here(data) = draft.read(0, 100).unwrap() else { panic!("nothing of it is on the server") };
    assert_eq!(data, [[7; 10].as_slice(), &[0; 90]].concat());
}

#[test]
fn what_is_written_during_an_upload_belongs_to_the_next_one() {
    let mut draft = Draft::new();
    write(&mut draft, 0, b"first");
    draft.begin_upload();
    write(&mut draft, 5, b"second");
    draft.upload_confirmed(content(5));
    assert_eq!(draft.change(), Change::Added(5..11));
}
