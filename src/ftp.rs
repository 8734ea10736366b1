//! The FTP engine: one logged-in session and everything that can be asked of it, in the fewest round trips.
//!
//! Split in two. *Pure*: [`reply`], [`command`], [`listing`], [`path`] turn bytes into types and types into bytes; they
//! do no I/O, and are tested and fuzzed on bytes. *I/O*: [`control`] (the control connection), [`data`] (data
//! connections, passive and active, kept ready), [`tls`] around either, [`session`] (login, transfers, everything with a deadline).
//! [`features`] remembers, per mount, what this server turned out to be able to do.
//!
//! This layer keeps no policy: what is retried, cached or preferred is decided above. Its types are everybody's; its sessions
//! are those of `connection` (the first one is opened by `fs`, to prove the login) and are used by its jobs. `doctor` has its own.

pub mod codepage;
pub mod command;
pub mod config;
pub mod control;
pub mod data;
pub mod error;
pub mod explain;
pub mod features;
pub mod listing;
pub mod path;
pub mod proxy;
pub mod refusal;
pub mod replace;
pub mod reply;
pub mod session;
pub mod spelling;
pub mod stream;
pub mod tls;

pub use config::Config;
pub use error::{Error, Refusal};
pub use features::Features;
pub use listing::{Entry, Kind, Listing, Modified, Precision, Progress};
pub use path::{BadName, Name, RemotePath};
pub use session::{After, Download, How, Session, Space, Stored, Told};
