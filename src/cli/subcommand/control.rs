//! Placeholder.
use super::StatusArgs;
use crate::cli::failure::Failure;
use std::path::Path;
pub(super) fn status(_: &StatusArgs) -> Result<(), Failure> {
    Ok(())
}
pub(super) fn list(_: bool) -> Result<(), Failure> {
    Ok(())
}
pub(super) fn umount(_: &Path, _: Option<u64>) -> Result<(), Failure> {
    Ok(())
}
pub(super) fn flush(_: &Path, _: Option<u64>) -> Result<(), Failure> {
    Ok(())
}
pub(super) fn forget(_: &Path) -> Result<(), Failure> {
    Ok(())
}
