//! Moments of an upload at which everything stands still, so that something can die just then; and contents that show
//! whether what is there afterwards is whole.

use super::scripted::{DataEnd, Fault, Then};

/// A moment of an upload at which everything stands still.
#[derive(Clone, Debug)]
pub struct Moment {
    pub verb: &'static str,
    pub fault: Fault,
    /// Bytes that have arrived by then.
    pub bytes: u64,
}

/// Before, within and behind the bytes of a [`content`], and around each command that makes it the file.
pub fn moments() -> Vec<Moment> {
    let size = content(0).len() as u64;
    let stalled = |after: u64| Moment {
        verb: "STOR",
        fault: Fault::Data { after, end: DataEnd::Stalled, then: Then::Silent },
        bytes: after,
    };
    let mut moments: Vec<Moment> = [0, 1, 1000, 131_072, size / 2, size - 1].map(stalled).to_vec();
    for verb in ["STOR", "SIZE", "RNFR", "RNTO"] {
        for fault in [Fault::Silent, Fault::Done(Then::Silent)] {
            moments.push(Moment { verb, fault, bytes: 0 });
        }
    }
    moments
}

/// Every eight bytes say which version they are of.
pub fn content(version: u64) -> Vec<u8> {
    version.to_le_bytes().repeat(45_000 + version as usize % 7)
}
