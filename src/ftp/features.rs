//! (helper: what this server can do, learned once per mount; shared by all its sessions)

use std::sync::Arc;

/// Shared by all sessions of a mount; learned from FEAT, from greetings and from refusals.
#[derive(Clone, Default)]
pub struct Features(Arc<()>);

impl Features {
    pub fn new() -> Self {
        Self::default()
    }
    /// False once APPE has been refused (or is known to be missing or destructive).
    pub fn can_append(&self) -> bool {
        todo!()
    }
    /// False when RNTO is known not to replace an existing file.
    pub fn rename_replaces(&self) -> bool {
        todo!()
    }
    /// Whether listings give seconds (MLSD), so that no MDTM is needed.
    pub fn has_exact_listing(&self) -> bool {
        todo!()
    }
}
