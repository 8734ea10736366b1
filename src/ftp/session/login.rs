//! Connecting and logging in, in as few round trips as the server is known to allow.
//!
//! The first session of a mount learns: who the server is (greeting), what it has (FEAT), whether it keeps order (a probe
//! when it is not one that was measured), where the login folder is (PWD). Later sessions skip all that. A server that
//! is full says so in many ways (421 at connect, 421 or 530 after PASS, or a silent end); none of them is reported as a
//! wrong password, and a wrong password is never tried twice, because servers punish that.

use std::sync::Arc;
use std::time::Duration;

use super::Session;
use crate::ftp::command::{Command, Protection};
use crate::ftp::config::{Folder, TlsMode};
use crate::ftp::control::Control;
use crate::ftp::features::{Ability, Capability, Order, Server, Way};
use crate::ftp::refusal;
use crate::ftp::reply::{self, Reply};
use crate::ftp::tls::{CUT, Slot, WRONG_VERSION};
use crate::ftp::{Config, Error, Features, Refusal, RemotePath};

impl Session {
    /// Connects, logs in, learns features (the first session of a mount) and finds the mount's root.
    pub fn open(config: &Arc<Config>, features: &Features) -> Result<Self, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::open_once(config, features, tries > 1) {
                // ftp-srv and libunftp now and then take the ClientHello for a command, before they have switched to TLS.
                Err(Error::Tls { text })
                    if config.tls.mode != TlsMode::Implicit
                        && tries < TLS_TRIES
                        && [WRONG_VERSION, CUT].iter().any(|sign| text.contains(sign)) =>
                {
                    log::debug!("{text}: once more");
                }
                result => return result,
            }
        }
    }

    /// Opens a session whose data connections work, as far as that can be had: lists the root, on new sessions while there
    /// is another way to try. A root that may not be listed is no failure.
    pub fn open_proven(config: &Arc<Config>, features: &Features) -> Result<Self, Error> {
        let mut tries = 0;
        loop {
            let mut session = Self::open(config, features)?;
            let root = session.root().clone();
            tries += 1;
            match session.list_by_transfer(&root, &mut |_| {}) {
                Ok(_) | Err(Error::Refused { meaning: Refusal::Denied, .. }) => return Ok(session),
                Err(error) if error.is_transient() && tries < PROVING_TRIES => {
                    log::info!("{error}: once more")
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn open_once(config: &Arc<Config>, features: &Features, is_slow: bool) -> Result<Self, Error> {
        let control = Control::connect(config, features)?;
        let mut session = Self {
            config: Arc::clone(config),
            features: features.clone(),
            control,
            root: features.root().unwrap_or_else(RemotePath::root),
            ready: None,
            ready_way: Way::default(),
            port_owed: false,
            source_stands: false,
            restart_pending: false,
            protects_data: false,
        };
        if config.tls.mode == TlsMode::Implicit {
            let connector = features.connector(config)?;
            session.control.secure(&connector, Slot::default())?;
        }
        session.greet()?;
        if matches!(config.tls.mode, TlsMode::Explicit | TlsMode::Try) {
            session.start_tls(is_slow)?;
        }
        session.log_in().map_err(|error| match error {
            // TLS 1.3 tells only now that it wanted our certificate.
            Error::Lost { text, .. } if text.contains("alert") => Error::Tls { text },
            error => error,
        })?;
        Ok(session)
    }

    /// RFC 4217 section 4.
    fn start_tls(&mut self, is_slow: bool) -> Result<(), Error> {
        let config = Arc::clone(&self.config);
        let connector = self.features.connector(&config)?;
        let reply = self.one(&Command::AuthTls, &[])?;
        if reply.code == 234 {
            if is_slow {
                // It must have the time to switch; none is lost where the first try succeeds.
                std::thread::sleep(SWITCHING);
            }
            return self.control.secure(&connector, Slot::default());
        }
        if config.tls.mode == TlsMode::Try {
            log::warn!("this server has no TLS ({reply}): everything goes in the clear");
            return Ok(());
        }
        self.control.end();
        Err(Error::Tls { text: format!("this server has no TLS: it said {reply}") })
    }

    fn greet(&mut self) -> Result<(), Error> {
        // 120: "ready in nnn minutes", another reply follows; a server that only ever says that is given up.
        for _ in 0..MAX_DELAYS {
            let reply = match self.control.any_reply() {
                Ok(reply) => reply,
                Err(error @ Error::TimedOut { .. }) => {
                    if self.config.tls.mode != TlsMode::Implicit {
                        log::warn!(
                            "no greeting from the server: does this port want TLS from the first byte (ftps://)?"
                        );
                    }
                    return Err(error);
                }
                Err(Error::Lost { text, .. }) => {
                    return Err(Error::TooManySessions { text, is_said: false });
                }
                Err(error) => return Err(error),
            };
            if reply.is_preliminary() {
                continue;
            }
            if reply.is_success() {
                self.features.greeted(&reply);
                return Ok(());
            }
            return Err(self.not_let_in(reply));
        }
        self.control.end();
        Err(Error::TimedOut { during: "connecting" })
    }

    /// Says so in the log when the password was to be seen on the way; for the first session of a mount.
    pub fn warn_of_clear_text(&self) {
        let config = &self.config;
        let is_public = ["anonymous", "ftp"].iter().any(|user| config.user.eq_ignore_ascii_case(user));
        if self.control.slot().is_none() && !is_public {
            log::warn!(
                "the password of {} went to {} in clear text: ftpes:// protects it",
                config.user,
                config.host
            );
        }
    }

    fn log_in(&mut self) -> Result<(), Error> {
        let config = Arc::clone(&self.config);
        let is_first = !self.features.is_learned();
        // Everything in one segment where the server is known to answer in order; else the password alone.
        let together = self.features.order() >= Order::Independent && config.account.is_none();
        let behind = self.behind_password(is_first, together);
        let mut commands = vec![Command::User(&config.user), Command::Pass(&config.password)];
        if together {
            commands.extend(behind.iter().cloned());
        }
        self.send(&commands)?;
        self.take_password(together, behind.len())?;
        let mut replies = Vec::new();
        for command in &behind {
            replies.push(if together { self.control.reply()? } else { self.one(command, &[])? });
        }
        let learned = self.learn_from_login(&behind, &replies)?;
        if config.list.no_mlsd {
            self.features.learn(Capability::Mlst, false);
        }
        if is_first {
            self.learn_order()?;
            self.root = self.resolve_root(learned.working_folder)?;
            self.features.set_learned(self.root.clone());
        }
        if let Some(port) = learned.port {
            // What is made ahead may fail without harm: the transfer that needs it reports it.
            let made = if self.features.way_is_proven() {
                // The first job may be one that needs none.
                self.begin_ready(Way::Epsv, None, port)
            } else {
                self.connect_ready(Way::Epsv, None, port)
            };
            if let Err(error) = made {
                log::debug!("{error}");
            }
        }
        Ok(())
    }

    /// What a session is told and asked once it is let in.
    fn behind_password(&self, is_first: bool, together: bool) -> Vec<Command<'static>> {
        let mut behind = Vec::new();
        if self.control.slot().is_some() {
            let private = self.config.tls.protect_data;
            behind.push(Command::Pbsz);
            behind.push(Command::Prot(if private { Protection::Private } else { Protection::Clear }));
        }
        behind.extend(is_first.then_some(Command::Feat));
        behind.extend(self.wants_utf8(is_first).then_some(Command::OptsUtf8));
        behind.extend((self.server() == Server::Pyftpdlib).then_some(Command::OptsMlst));
        behind.push(Command::TypeImage);
        behind.extend(is_first.then_some(Command::Pwd));
        behind.extend((together && self.way() == Way::Epsv).then_some(Command::Epsv));
        behind
    }

    /// The replies to USER and PASS. With `together`, `behind` more commands are under way.
    fn take_password(&mut self, together: bool, behind: usize) -> Result<(), Error> {
        let user = self.login_reply()?;
        let pass = if user.is_success() {
            // No password wanted: the reply to PASS says so in some way, and does not matter.
            self.login_reply()?;
            user
        } else if user.code == 331 || user.code == 332 {
            self.login_reply()?
        } else {
            return Err(self.not_let_in(user));
        };
        if pass.code == 332 && !together {
            return self.account();
        }
        if !pass.is_success() {
            return Err(self.not_let_in(pass));
        }
        if together && !matches!(pass.code, 230 | 232 | 202) {
            // Not the answer to PASS: pyftpdlib keeps a wrong password waiting while it answers what came behind.
            let mut last = pass;
            for _ in 0..behind {
                last = self.login_reply()?;
            }
            return Err(self.not_let_in(last));
        }
        Ok(())
    }

    /// Takes note of what the server has said to [`Session::behind_password`].
    fn learn_from_login(&mut self, behind: &[Command<'_>], replies: &[Reply]) -> Result<Learned, Error> {
        let mut learned = Learned::default();
        for (command, reply) in behind.iter().zip(replies) {
            match command {
                // Never in the clear because a server would rather.
                Command::Prot(_) if !reply.is_success() => {
                    self.control.end();
                    return Err(Error::Tls { text: format!("{}: the server said {reply}", command.name()) });
                }
                Command::Prot(protection) => self.protects_data = *protection == Protection::Private,
                Command::Feat => self.features.read_feat(reply),
                Command::OptsUtf8 => self.features.learn(Capability::Utf8, reply.is_success()),
                Command::TypeImage if !reply.is_success() => {
                    self.control.end();
                    return Err(Error::Protocol { text: format!("TYPE I was answered with {reply}") });
                }
                Command::Pwd if reply.code == 257 => {
                    let path = reply::quoted_path(reply.first());
                    learned.working_folder = match self.config.codepage {
                        Some(codepage) => path.and_then(|path| codepage.decode_path(&path)),
                        None => path,
                    };
                }
                Command::Epsv if reply.code == 229 => learned.port = reply::extended_port(reply.first()),
                _ => {}
            }
        }
        Ok(learned)
    }

    /// RFC 959 section 4.1.1: a few servers want an account besides the password.
    fn account(&mut self) -> Result<(), Error> {
        let config = Arc::clone(&self.config);
        let Some(account) = &config.account else {
            self.control.end();
            return Err(Error::Login {
                reply: Reply { code: 332, lines: vec![b"an account is wanted".to_vec()] },
            });
        };
        self.send(&[Command::Acct(account)])?;
        let reply = self.login_reply()?;
        if reply.is_success() { Ok(()) } else { Err(self.not_let_in(reply)) }
    }

    /// A reply while logging in: an end here may mean that the server is full, and 421 says why.
    fn login_reply(&mut self) -> Result<Reply, Error> {
        self.control.any_reply()
    }

    fn not_let_in(&mut self, reply: Reply) -> Error {
        self.control.end();
        if refusal::wants_tls(&reply) {
            return Error::Tls { text: format!("this server wants TLS (use ftps:// or -o tls): {reply}") };
        }
        if reply.code == 421 || refusal::says_too_many(&reply) {
            return Error::TooManySessions { text: reply.to_string(), is_said: true };
        }
        Error::Login { reply }
    }

    /// Exactly once per session, and not where it has been refused: most servers are clean without it.
    fn wants_utf8(&self, is_first: bool) -> bool {
        match self.features.ability(Capability::Utf8) {
            _ if self.config.codepage.is_some() => false,
            Ability::Yes => true,
            Ability::No => false,
            Ability::Unknown => is_first,
        }
    }

    /// Whether commands sent together are answered in order: a slow one (it looks at the disk) and a quick one, three
    /// times. Their codes differ, so the order shows.
    fn learn_order(&mut self) -> Result<(), Error> {
        if self.features.order() != Order::Serial || !self.server().may_be_probed() {
            return Ok(());
        }
        let root = RemotePath::root();
        for _ in 0..PROBES {
            self.send(&[Command::Cwd(&root), Command::Syst])?;
            let first = self.control.reply()?;
            let second = self.control.reply()?;
            if first.code != 250 || second.code == 250 {
                log::debug!("commands sent together are not answered in order: one at a time");
                return Ok(());
            }
        }
        self.features.set_order(Order::Independent);
        Ok(())
    }

    fn resolve_root(&self, working_folder: Option<Vec<u8>>) -> Result<RemotePath, Error> {
        // A login folder that cannot be asked for, or is no Unix path, is taken as the root of the server.
        let login =
            working_folder.and_then(|path| RemotePath::parse(&path).ok()).unwrap_or_else(RemotePath::root);
        let root = match &self.config.folder {
            Folder::Login(path) => login.resolve(path.strip_prefix(b"/").unwrap_or(path))?,
            Folder::Absolute(path) => RemotePath::root().resolve(path)?,
        };
        log::debug!("the root of the mount is {root}");
        Ok(root)
    }
}

/// What a login brings besides the session.
#[derive(Default)]
struct Learned {
    working_folder: Option<Vec<u8>>,
    /// Of the first data connection.
    port: Option<u16>,
}

/// EPSV, PASV, active, and at last STAT, each on a session of its own where the server bears no better.
const PROVING_TRIES: usize = 5;
/// How often a server may say 120 before it is ready.
const MAX_DELAYS: usize = 5;
/// How much later the ClientHello goes out on another try: with 1 ms libunftp never failed.
const SWITCHING: Duration = Duration::from_millis(20);
/// ftp-srv fails half of its handshakes so.
const TLS_TRIES: usize = 6;
/// One right answer may be luck; three have told the servers apart (facts: servers, section 9 rule 32).
const PROBES: usize = 3;
