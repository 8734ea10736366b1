//! What every test that mounts something needs: real FTP servers, the real program, a relay between them, a shell.
//!
//! A test reads like this: start a server, mount it, do with ordinary programs what a user would do, and compare bytes
//! with the folder that the server serves.
//!
//! ```ignore
//! let Some(server) = Server::start(Kind::Vsftpd) else { return };
//! let mount = Mount::new(&server, &[]);
//! shell::ok(mount.path(), "echo hello > greeting");
//! assert_eq!(fs::read(server.root().join("greeting")).unwrap(), b"hello\n");
//! ```
//!
//! [`each`] does so on each of the four main servers, [`mounted`] holds server and mount together. [`servers`] starts them, each in namespaces of its own, so that
//! the machine is left as it was; [`fetch`] gets programs that are not there yet. [`mount`] runs `ftpfs` itself,
//! [`program`] its other commands. [`network`] puts them on machines of their own. [`relay`] stands between the two
//! when a test wants to count round trips or to break the line. [`scripted`] is a small server of our own that
//! misbehaves on request. [`moments`] are those of an upload at which something can die. [`files`] and [`patience`] are
//! what most tests do with files and while they wait, [`session`] what those do that need no mount. [`standstill`] says where everybody waits when nothing moves.
//! [`skip()`] is for what the machine cannot do; in CI it can.
//! Everything ends with the value that stands for it, also when the test panics or is killed.

pub mod each;
pub mod fetch;
pub mod files;
pub mod moments;
pub mod mount;
pub mod mounted;
pub mod network;
pub mod patience;
pub mod program;
pub mod relay;
pub mod scratch;
#[path = "../scripted/mod.rs"]
pub mod scripted;
pub mod servers;
pub mod session;
pub mod shell;
pub mod skip;
pub mod standstill;

pub use mount::{Mount, Target};
pub use mounted::{Mounted, Scripted};
pub use relay::Relay;
pub use servers::{Kind, Options, Server, Tls};
pub use skip::skip;

impl Target for scripted::Server {
    fn url(&self) -> String {
        scripted::Server::url(self)
    }

    fn password(&self) -> String {
        scripted::Server::password(self).to_string()
    }
}
