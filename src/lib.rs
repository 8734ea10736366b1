//! ftpfs: an FTP or FTPS server as a local folder.
//!
//! This page is the map. The way of a request, from the kernel to the wire, calls going down only (`tests/layers.rs` checks it):
//!
//! ```text
//! program ─ kernel ─▶ fuse ─▶ fs ──▶ tree   (names, attributes, listings)      answered from memory: done
//!                               ├──▶ read   (block cache, streams)             answered from memory: done
//!                               └──▶ write  (spool on local disk, upload plan)
//!                                      │  what is missing becomes a job with a priority and a reply to send
//!                                      ▼
//!                                    queue  (one per mount: priorities, claims, deadlines)
//!                                      ▼
//!                               connection  (N threads; each owns one logged-in session, runs one job at a time)
//!                                      ▼
//!                                     ftp   (the protocol: commands, replies, data connections, listings)
//!                                      ▼
//!                                    server
//! ```
//!
//! Where to begin reading: [`fuse`] (what the kernel asks), [`fs`] (who answers it), [`queue`] and [`connection`] (how few
//! connections serve many callers), [`ftp::session`] (one straight line per operation), [`ftp::listing`] (what servers print).
//! Beside the way of a request: [`cli`] and [`mount`] start it, [`status`] shows it, [`doctor`] examines a server without it.
//! `docs/architecture.md` has the reasons. It is a library only so that tests, fuzzers and benchmarks can reach the rooms.

pub mod cli;
pub mod connection;
pub mod doctor;
pub mod fork;
pub mod fs;
pub mod ftp;
pub mod fuse;
pub mod json;
pub mod lock;
pub mod mount;
pub mod percent;
pub mod queue;
pub mod read;
pub mod status;
pub mod tree;
pub mod write;
