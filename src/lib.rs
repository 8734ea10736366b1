//! ftpfs: an FTP or FTPS server as a local folder.
//!
//! The way of a request, from the kernel to the wire (calls go down only):
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

pub mod cli;
pub mod connection;
pub mod doctor;
pub mod fork;
pub mod fs;
pub mod ftp;
pub mod fuse;
pub mod json;
pub mod mount;
pub mod queue;
pub mod read;
pub mod status;
pub mod tree;
pub mod write;
