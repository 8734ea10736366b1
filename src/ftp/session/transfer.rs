//! What RETR, STOR, APPE, LIST and MLSD share: starting on a ready connection, watching data and control connection
//! together, and coming to an end.
//!
//! The final reply and the end of the data come in either order, and a refusal may come before, after, or instead of the
//! 150. So while data is waited for, both sockets are: a 4xx or 5xx ends the wait. At the end of the data its connection
//! is closed at once, *then* the final reply is read: ProFTPD holds it back for seconds otherwise.

use std::io;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::Session;
use crate::ftp::command::{Batch, Command};
use crate::ftp::control::Control;
use crate::ftp::data::Data;
use crate::ftp::features::{Capability, Order, Server, Way};
use crate::ftp::reply::Reply;
use crate::ftp::stream::{self, Step};
use crate::ftp::tls::Slot;
use crate::ftp::{Error, RemotePath};

/// A transfer under way.
pub(super) struct Transfer {
    pub command: &'static str,
    pub path: RemotePath,
    /// None once it is closed.
    pub data: Option<Data>,
    /// When a server that is to connect to us must have done so.
    pub accept_by: Instant,
    /// Whether 150 (or 125) has come.
    pub has_begun: bool,
    /// The final reply, when it has come.
    pub last: Option<Reply>,
    /// Whether we have ended it with a reset behind its FIN (`upload/ending.rs`).
    pub hurried: bool,
    /// How long the reason is waited for when its data connection breaks.
    pub reason_wait: Duration,
}

/// Why data could not be read or written.
pub(super) enum Failure {
    /// The server has refused or given up: its reply.
    Reply(Reply),
    Error(Error),
    /// The data connection broke, and the server does not say why.
    Unexplained {
        why: String,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Session {
    /// Starts a transfer on the ready connection. `before` (REST, CWD) goes ahead of `command`, `behind` after it, all in
    /// one segment where the server keeps order and `careful` is not set; replies to `behind` are left to the caller.
    pub(super) fn start(
        &mut self,
        before: Option<Command<'_>>,
        command: Command<'_>,
        behind: &[Command<'_>],
        path: &RemotePath,
        careful: bool,
    ) -> Result<Transfer, Error> {
        Ok(self.start_asking(&[], before, command, behind, path, careful)?.1)
    }

    /// As [`Session::start`], with independent questions ahead of it all; gives the replies to them, too.
    pub(super) fn start_asking(
        &mut self,
        questions: &[Command<'_>],
        before: Option<Command<'_>>,
        command: Command<'_>,
        behind: &[Command<'_>],
        path: &RemotePath,
        careful: bool,
    ) -> Result<(Vec<Reply>, Transfer), Error> {
        let data = self.take_ready()?;
        if !matches!(command, Command::Retr(_)) {
            data.let_go();
        }
        self.demand_tls_session(&command)?;
        let mut first: Vec<Command<'_>> = Vec::new();
        if self.restart_pending && !matches!(before, Some(Command::Rest(_))) {
            first.push(Command::Rest(0));
        }
        first.extend(before);
        let mut all = Batch::default();
        let mut fits = true;
        for command in questions.iter().chain(&first).chain([&command]).chain(behind) {
            fits = fits && all.has_room_for(command);
            all.push(command, self.wire())?;
        }
        let is_alone = questions.is_empty() && first.is_empty();
        let together = fits && !careful && (is_alone || self.features.order() >= Order::Independent);
        let mut transfer = Transfer {
            command: command.name(),
            path: path.clone(),
            data: Some(data),
            accept_by: Instant::now() + self.config.connect_timeout,
            has_begun: false,
            last: None,
            hurried: false,
            reason_wait: REASON_WAIT.min(self.config.timeout / 3),
        };
        let rest_sent = matches!(first.last(), Some(Command::Rest(offset)) if *offset > 0);
        let answers = if together {
            self.control.send(&all)?;
            self.secure(&mut transfer)?;
            let answers = self.answers(questions)?;
            for before in &first {
                let reply = self.control.reply()?;
                if let Err(error) = self.check_before(before, reply, path) {
                    // The transfer runs all the same, from the wrong offset or in the wrong folder.
                    if !self.control.has_ended() {
                        self.discard(&mut transfer);
                    }
                    return Err(error);
                }
            }
            answers
        } else {
            let answers = if questions.is_empty() { Vec::new() } else { self.ask(questions)? };
            for before in &first {
                let reply = self.one(before, &[])?;
                if let Err(error) = self.check_before(before, reply, path) {
                    self.ready = transfer.data.take();
                    return Err(error);
                }
            }
            answers
        };
        self.restart_pending = rest_sent;
        if !together {
            let mut batch = Batch::default();
            for command in [&command].into_iter().chain(behind) {
                batch.push(command, self.wire())?;
            }
            self.control.send(&batch)?;
            self.secure(&mut transfer)?;
        }
        self.end_our_side(&command, &mut transfer);
        self.features.counters().transfer();
        Ok((answers, transfer))
    }

    /// Without a TLS session to resume the data connection would be refused, but a STOR empties the file first.
    fn demand_tls_session(&mut self, command: &Command<'_>) -> Result<(), Error> {
        if self.protects_data
            && !self.control.slot().is_some_and(Slot::has_session)
            && self.features.connector(&self.config)?.resumes()
        {
            self.control.end();
            return Err(Error::Lost { during: command.name(), text: "no TLS session to resume".to_owned() });
        }
        Ok(())
    }

    /// The replies to questions that were sent ahead of a transfer.
    fn answers(&mut self, questions: &[Command<'_>]) -> Result<Vec<Reply>, Error> {
        let mut answers = Vec::with_capacity(questions.len());
        for question in questions {
            let reply = self.control.reply()?;
            if reply.is_preliminary() {
                return Err(self.end_on(Error::Protocol {
                    text: format!("{} was answered with {reply}", question.name()),
                }));
            }
            answers.push(reply);
        }
        Ok(answers)
    }

    /// Takes the reply to a command that must succeed before a transfer (REST, CWD).
    fn check_before(&mut self, before: &Command<'_>, reply: Reply, path: &RemotePath) -> Result<(), Error> {
        let is_good = match before {
            Command::Rest(_) => reply.code == 350,
            _ => reply.is_success(),
        };
        if is_good {
            return Ok(());
        }
        if matches!(before, Command::Rest(_)) && !reply.is_preliminary() {
            if reply.is_unknown_command() {
                self.features.learn(Capability::RestRetr, false);
            }
            self.restart_pending = false;
        }
        Err(self.refused(before.name(), reply, &[path]))
    }

    /// Closes our side of a download's data connection, for servers that wait for that before their 226.
    fn end_our_side(&mut self, command: &Command<'_>, transfer: &mut Transfer) {
        let is_download =
            matches!(command, Command::Retr(_) | Command::List(_) | Command::Mlsd(_) | Command::Nlst);
        if is_download
            && self.server().waits_for_our_end()
            && !self.protects_data
            && let Some(data) = transfer.data.as_mut().filter(|data| !data.is_listening())
            && let Err(error) = data.shut_write()
        {
            // It is broken: reading says so too.
            log::debug!("{error}");
        }
    }

    /// Begins TLS on the data connection when it is to be protected.
    fn secure(&mut self, transfer: &mut Transfer) -> Result<(), Error> {
        if !self.protects_data {
            return Ok(());
        }
        let (Some(data), Some(slot)) = (&mut transfer.data, self.control.slot()) else { return Ok(()) };
        let connector = self.features.connector(&self.config)?;
        if let Err(error) = data.secure(&connector, slot) {
            self.control.end();
            return Err(error);
        }
        Ok(())
    }

    /// The next bytes of a transfer; 0 at the end of the data, whose connection is then closed.
    pub(super) fn receive(&mut self, transfer: &mut Transfer, buf: &mut [u8]) -> Result<usize, Error> {
        match transfer.receive(&mut self.control, self.config.timeout, buf) {
            Ok(n) => {
                self.features.counters().received(n);
                Ok(n)
            }
            Err(failure) => Err(self.failed(transfer, failure)),
        }
    }

    /// The bytes that are here already; none when they must be waited for, as [`Session::receive`] does.
    pub(super) fn receive_now(
        &mut self,
        transfer: &mut Transfer,
        buf: &mut [u8],
    ) -> Result<Option<usize>, Error> {
        match transfer.receive_now(&mut self.control, buf) {
            Ok(Ok(n)) => {
                self.features.counters().received(n);
                Ok(Some(n))
            }
            Ok(Err(_)) => Ok(None),
            Err(failure) => Err(self.failed(transfer, failure)),
        }
    }

    /// Reads the final reply once the data has ended, and asks for the next data connection meanwhile where that may be.
    /// Ok on 2xx only.
    pub(super) fn conclude(&mut self, transfer: &mut Transfer) -> Result<Reply, Error> {
        transfer.data = None;
        if !self.may_ask_behind(transfer) {
            return self.concluded(transfer);
        }
        self.send(&[Command::Epsv])?;
        let outcome = self.concluded(transfer);
        if !self.control.has_ended() {
            self.take_port_behind();
        }
        outcome
    }

    fn concluded(&mut self, transfer: &mut Transfer) -> Result<Reply, Error> {
        let reply = match transfer.last.take() {
            Some(reply) => reply,
            None => loop {
                let reply = self.control.reply()?;
                if !reply.is_preliminary() {
                    break reply;
                }
                if transfer.has_begun {
                    return Err(self.end_on(Error::Protocol { text: format!("a second {reply}") }));
                }
                transfer.has_begun = true;
            },
        };
        if reply.is_success() {
            if !transfer.has_begun {
                return Err(self.end_on(transfer.unfounded(&reply)));
            }
            self.restart_pending = false;
            if self.way() == Way::Active {
                self.features.way_worked();
            }
            return Ok(reply);
        }
        Err(self.failed(transfer, Failure::Reply(reply)))
    }

    /// The error of a failed transfer. The data connection of one that never began is kept where server and client have kept it.
    pub(super) fn failed(&mut self, transfer: &mut Transfer, failure: Failure) -> Error {
        let never_came = match &failure {
            Failure::Error(_) | Failure::Unexplained { .. } => {
                transfer.data.as_ref().is_some_and(Data::is_listening)
            }
            Failure::Reply(reply) => reply.code == 425,
        };
        if never_came && self.way() == Way::Active {
            // The last resort does not work either: begin anew.
            self.features.way_failed(self.features.way(), Way::Epsv);
        }
        let said = match failure {
            Failure::Reply(reply) => Ok(reply),
            Failure::Error(error) => Err(error),
            Failure::Unexplained { why } => Err(Error::Data { during: transfer.command, text: why }),
        };
        let reply = match said {
            Ok(reply) => reply,
            Err(error) => {
                transfer.data = None;
                // Whatever is still to come on the control connection would be taken for something else.
                self.control.end();
                return error;
            }
        };
        if !transfer.has_begun
            && let Some(data) = transfer.data.take()
            && (reply.is_unknown_command() || self.server() == Server::Twisted)
        {
            // Not used up by the server: a second EPSV without using the first would hang Twisted.
            self.keep_or_drop(transfer.command, data);
        }
        transfer.data = None;
        if self.protects_data && matches!(reply.code, 425 | 426 | 522) {
            // Perhaps it no longer takes our TLS session: a new login has a new one.
            self.control.end();
            return Error::Data { during: transfer.command, text: reply.to_string() };
        }
        match reply.code {
            // About the data connection, not about the file.
            425 | 426 => Error::Data { during: transfer.command, text: reply.to_string() },
            _ => self.refused(transfer.command, reply, &[&transfer.path]),
        }
    }
}

impl Session {
    /// Keeps the data connection of a refused transfer for the next one if we have not used it either: TLS cannot begin on it
    /// twice, and what was sent on it, or its FIN, would get into another file.
    fn keep_or_drop(&mut self, command: &str, data: Data) {
        let is_download = matches!(command, "RETR" | "LIST" | "NLST" | "MLSD");
        if is_download && !self.protects_data && !self.server().waits_for_our_end() {
            self.ready = Some(data);
            return;
        }
        if data.is_passive() && !self.server().may_renew_passive() {
            self.control.end();
        }
        data.reset();
    }
}

impl Transfer {
    /// Drops the data connection and whatever is under way on it.
    pub fn drop_data(&mut self) {
        if let Some(data) = self.data.take() {
            data.reset();
        }
    }

    /// Completes the TLS handshake of the data connection.
    pub fn shake_hands(&mut self, deadline: Instant) -> io::Result<()> {
        while let Some(data) = &mut self.data {
            let needs = match data.handshake()? {
                Step::Done(_) => return Ok(()),
                Step::NeedsRead => PollFlags::POLLIN,
                Step::NeedsWrite => PollFlags::POLLOUT,
            };
            stream::wait(&mut Vec::from_iter(data.poll_fd(needs)), deadline)?;
        }
        Ok(())
    }

    /// Waits for 150 (or the refusal): inside TLS ftp-srv forgets a connection that ends before its 150.
    pub fn wait_until_begun(&mut self, control: &mut Control, deadline: Instant) -> Result<(), Failure> {
        loop {
            self.look(control)?;
            let Some(data) = &mut self.data else { return Ok(()) };
            if self.has_begun || self.last.is_some() {
                return Ok(());
            }
            match data.handshake() {
                Ok(Step::NeedsRead) => self.wait(control, PollFlags::POLLIN, deadline)?,
                Ok(Step::NeedsWrite) => self.wait(control, PollFlags::POLLOUT, deadline)?,
                Ok(Step::Done(_)) => stream::wait(&mut [control.poll_fd()], deadline)
                    .map_err(|error| Error::control(self.command, &error))?,
                Err(error) => return Err(self.broken(control, &error)),
            }
        }
    }

    fn receive(
        &mut self,
        control: &mut Control,
        timeout: Duration,
        buf: &mut [u8],
    ) -> Result<usize, Failure> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.receive_now(control, buf)? {
                Ok(n) => return Ok(n),
                Err(needs) => {
                    self.look(control)?;
                    self.wait(control, needs, deadline)?;
                }
            }
        }
    }

    /// What is here, or what to wait for.
    fn receive_now(
        &mut self,
        control: &mut Control,
        buf: &mut [u8],
    ) -> Result<Result<usize, PollFlags>, Failure> {
        let Some(data) = &mut self.data else { return Ok(Ok(0)) };
        match data.read(buf) {
            Ok(Step::Done(0)) => {
                if let Some(data) = self.data.take() {
                    data.close();
                }
                Ok(Ok(0))
            }
            Ok(Step::Done(n)) => Ok(Ok(n)),
            Ok(Step::NeedsRead) => Ok(Err(PollFlags::POLLIN)),
            Ok(Step::NeedsWrite) => Ok(Err(PollFlags::POLLOUT)),
            Err(error) => Err(self.broken(control, &error)),
        }
    }

    /// The error for a success that nothing led up to: RFC 959 section 5.4 and all servers measured put 150 or 125 before
    /// it, so this answers something else.
    pub fn unfounded(&self, reply: &Reply) -> Error {
        Error::Protocol { text: format!("{} was answered with {reply} at once", self.command) }
    }

    /// Waits for the data connection, and for the control connection until the final reply is in.
    pub fn wait(&self, control: &Control, needs: PollFlags, deadline: Instant) -> Result<(), Failure> {
        let is_awaited = self.data.as_ref().is_some_and(Data::is_listening);
        let patience = if is_awaited { deadline.min(self.accept_by) } else { deadline };
        let mut fds = Vec::with_capacity(2);
        fds.extend(self.data.as_ref().and_then(|data| data.poll_fd(needs)));
        if self.last.is_none() {
            fds.push(control.poll_fd());
        }
        match stream::wait(&mut fds, patience) {
            Err(error) if is_awaited && error.kind() == io::ErrorKind::TimedOut => {
                let text = "the server did not connect to us (active mode): a firewall or NAT in between?";
                Err(Error::Data { during: self.command, text: text.to_owned() }.into())
            }
            waited => waited.map_err(|error| Error::control(self.command, &error).into()),
        }
    }

    /// Takes what the control connection has to say, without waiting.
    pub fn look(&mut self, control: &mut Control) -> Result<(), Failure> {
        while self.last.is_none() {
            let Some(reply) = control.try_reply()? else { return Ok(()) };
            if reply.is_preliminary() && !self.has_begun {
                self.has_begun = true;
            } else if reply.is_success() {
                self.last = Some(reply);
            } else if reply.code >= 400 {
                return Err(Failure::Reply(reply));
            } else {
                return Err(
                    Error::Protocol { text: format!("{} was answered with {reply}", self.command) }.into()
                );
            }
        }
        Ok(())
    }

    /// The data connection broke: the reason is in the reply that follows, where one does.
    pub fn broken(&mut self, control: &mut Control, error: &io::Error) -> Failure {
        self.data = None;
        let deadline = Instant::now() + self.reason_wait;
        while self.last.is_none() {
            match control.reply_by(deadline) {
                Ok(reply) if reply.is_preliminary() && !self.has_begun => self.has_begun = true,
                Ok(reply) if reply.code >= 400 => return Failure::Reply(reply),
                Ok(reply) => self.last = Some(reply),
                Err(Error::TimedOut { .. }) => break,
                Err(error) => return Failure::Error(error),
            }
        }
        control.end();
        Failure::Unexplained { why: error.to_string() }
    }
}

/// How long the reason for a broken data connection may take, but no longer than a third of the time-out: the server may have
/// to notice first, and another attempt shall still be possible.
const REASON_WAIT: Duration = Duration::from_secs(10);
