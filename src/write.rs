//! Writing: everything lands on the local side first, and close() answers when the server has confirmed it.
//!
//! A program may write in any pattern; FTP can replace a file, add at its end, and (on some servers) overwrite from an
//! offset. So a file that is being changed has a [`Draft`]: its changed [`ranges`] in a [`spool`] (memory while small,
//! a local file when large), above the content that the server has. At close() or fsync() the [`upload`] decides from
//! what was changed how to bring it over: a new file goes straight to its name, an append sends only what was added,
//! everything else is completed with what is missing, sent to a temporary name beside the target, checked by size and
//! renamed over it, so that nobody ever sees half of it, and a failure leaves the old content.
//!
//! When the server does not confirm, the program gets the error, and [`kept`] puts the bytes where they can be found.
//!
//! `fs::writing` owns the drafts and calls this; nothing here sends a reply.

mod compare;
pub mod draft;
pub mod journal;
pub mod kept;
pub mod ranges;
pub mod spool;
pub mod streaming;
pub mod temporary;
pub mod upload;

pub use draft::{Base, Draft, Piece, Wish};
pub use streaming::Streaming;
pub use temporary::{is_left_over, is_shown};
pub use upload::{Policy, Upload, Uploaded};
