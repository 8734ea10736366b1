//! What shall go wrong: rules that match commands, in the order in which they were added.
//!
//! ```ignore
//! server.faults().add(Rule::on("RETR").path("film").once().act(Fault::Data {
//!     after: 1000,
//!     end: DataEnd::Closed,
//!     then: Then::Reply("226 Transfer complete.".into()),
//! }));
//! ```

use std::sync::Mutex;
use std::time::Duration;

use super::locked;

/// The rules of a server.
#[derive(Default)]
pub struct Faults(Mutex<Vec<Rule>>);

impl Faults {
    pub fn add(&self, rule: Rule) {
        locked(&self.0).push(rule);
    }

    /// Everything works again.
    pub fn clear(&self) {
        locked(&self.0).clear();
    }

    pub(super) fn take(&self, verb: &str, argument: &[u8]) -> Option<Fault> {
        let mut rules = locked(&self.0);
        for rule in rules.iter_mut().filter(|rule| rule.matches(verb, argument)) {
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.times -= 1;
            return Some(rule.fault.clone());
        }
        None
    }
}

/// When something shall go wrong, and what.
#[derive(Clone, Debug)]
pub struct Rule {
    verb: &'static str,
    path: Option<String>,
    skip: u64,
    times: u64,
    fault: Fault,
}

impl Rule {
    /// At this command, in capitals; `CONNECT` is the greeting, `*` any command.
    pub fn on(verb: &'static str) -> Self {
        Self { verb, path: None, skip: 0, times: u64::MAX, fault: Fault::Silent }
    }

    /// Only when the argument contains this (and is not empty).
    pub fn path(mut self, part: &str) -> Self {
        self.path = Some(part.to_string());
        self
    }

    /// The first `count` matching commands go well.
    pub fn after(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    pub fn once(self) -> Self {
        self.times(1)
    }

    pub fn times(mut self, count: u64) -> Self {
        self.times = count;
        self
    }

    pub fn act(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    fn matches(&self, verb: &str, argument: &[u8]) -> bool {
        let here = |part: &String| argument.windows(part.len()).any(|window| window == part.as_bytes());
        self.times > 0 && (self.verb == "*" || self.verb == verb) && self.path.as_ref().is_none_or(here)
    }
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing is done; this is the reply. CR LF is added.
    Reply(String),
    /// Nothing is done; these bytes are sent as they are.
    Raw(Vec<u8>),
    /// These bytes are sent first; then it is done and answered as it should be.
    First(Vec<u8>),
    /// Nothing is done; the head is sent, and the unit again and again, until so many bytes have gone or the client has.
    Flood { head: Vec<u8>, unit: Vec<u8>, bytes: u64 },
    /// Nothing is done; the control connection is closed without a word.
    Close,
    /// Nothing is done or said; the session stays open until the client leaves.
    Silent,
    /// Done and answered properly, but late.
    Delay(Duration),
    /// Done, but its replies are replaced.
    Done(Then),
    /// A transfer moves this many bytes only (`u64::MAX`: all), its data connection then ends so, and this comes
    /// in place of the final reply.
    Data { after: u64, end: DataEnd, then: Then },
    /// 150, but the data connection is never served.
    NoData(Then),
    /// RETR (from REST's offset on), LIST or MLSD send these bytes instead, and 226.
    Content(Vec<u8>),
    /// RETR, LIST or MLSD send this line instead, again and again, `{}` in it being a number that counts up, until so many
    /// bytes have gone or the client has; then 226.
    Lines { line: String, bytes: u64 },
    /// PASV names this address (with the true port).
    Address([u8; 4]),
}

/// How a data connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataEnd {
    /// As at the end of a file.
    Closed,
    /// Inside TLS without its close_notify, as when somebody in between has ended it; in the clear the same as `Closed`.
    Cut,
    /// With RST.
    Reset,
    /// Not at all: nothing moves any more.
    Stalled,
    /// An upload is read to its end, and thrown away from there on.
    Swallowed,
}

/// What comes on the control connection.
#[derive(Clone, Debug)]
pub enum Then {
    Reply(String),
    Silent,
    Close,
    /// Inside TLS without its close_notify; in the clear the same as `Close`.
    Cut,
}

impl Then {
    pub fn reply(text: &str) -> Self {
        Self::Reply(text.to_owned())
    }

    /// What a server says of a transfer that went well.
    pub fn confirmed() -> Self {
        Self::reply("226 Transfer complete.")
    }
}
