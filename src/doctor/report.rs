//! What was found: findings in order, advice at the end, as text for people and as JSON for programs.

use std::fmt;

use crate::ftp::Config;
use crate::json::Json;

/// All findings about one server.
pub struct Report<'t> {
    place: String,
    findings: Vec<Finding>,
    advice: Vec<String>,
    failure: Option<Failing>,
    tell: &'t mut dyn FnMut(&Finding),
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A short name, the same in every release: `passive`, `login`.
    pub check: &'static str,
    pub outcome: Outcome,
    /// One line in plain words, perhaps with the server's own.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Works,
    /// Worth knowing; nothing breaks.
    Note,
    Fails,
}

/// What keeps a mount from working at all; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    Reach,
    Tls,
    Login,
    Data,
    Write,
}

impl<'t> Report<'t> {
    pub(super) fn new(config: &Config, tell: &'t mut dyn FnMut(&Finding)) -> Self {
        let place = format!("{}:{} as {}", config.host, config.port, config.user);
        Self { place, findings: Vec::new(), advice: Vec::new(), failure: None, tell }
    }

    pub(super) fn works(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(check, Outcome::Works, text.into());
    }

    pub(super) fn note(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(check, Outcome::Note, text.into());
    }

    pub(super) fn fails(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(check, Outcome::Fails, text.into());
    }

    /// The first one decides how the program ends.
    pub(super) fn stops(&mut self, failing: Failing) {
        self.failure.get_or_insert(failing);
    }

    pub(super) fn advise(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.advice.contains(&text) {
            self.advice.push(text);
        }
    }

    fn add(&mut self, check: &'static str, outcome: Outcome, text: String) {
        // A server's words may hold anything.
        let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let finding = Finding { check, outcome, text };
        (self.tell)(&finding);
        self.findings.push(finding);
    }

    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What to do, in sentences.
    pub fn advice(&self) -> &[String] {
        &self.advice
    }

    /// What keeps a mount from working; none when it would work.
    pub fn failing(&self) -> Option<Failing> {
        self.failure
    }

    pub fn json(&self) -> Json {
        let finding = |finding: &Finding| {
            Json::Object(vec![
                ("check", finding.check.into()),
                ("outcome", finding.outcome.word().into()),
                ("text", finding.text.as_str().into()),
            ])
        };
        Json::Object(vec![
            ("server", self.place.as_str().into()),
            ("works", self.failure.is_none().into()),
            ("findings", Json::List(self.findings.iter().map(finding).collect())),
            ("advice", Json::List(self.advice.iter().map(|text| text.as_str().into()).collect())),
        ])
    }
}

impl Finding {
    /// Whether a passive data connection was made.
    pub(super) fn is_passive_success(&self) -> bool {
        self.check == "passive" && self.outcome == Outcome::Works
    }
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Note => "note",
            Self::Fails => "fails",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.outcome {
            Outcome::Works => "ok  ",
            Outcome::Note => "note",
            Outcome::Fails => "FAIL",
        };
        write!(f, "{mark}  {:<9} {}", self.check, self.text)
    }
}
