//! (helper: replies, RFC 959 section 4.2: pure parsing)

use std::fmt;

/// One complete reply: its code and its lines without the code, CR and LF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    pub lines: Vec<Vec<u8>>,
}

impl fmt::Display for Reply {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
