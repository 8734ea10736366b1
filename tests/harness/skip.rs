//! What the machine cannot do: said aloud where somebody works, and a failure where CI runs.

/// Says why a test is skipped. CI installs all that the tests need (`.ci/run`): there, what is missing is a failure, or nobody would
/// notice that a promise is no longer looked at.
#[track_caller]
pub fn skip(why: impl std::fmt::Display) {
    assert!(!in_ci(), "CI skips nothing: {why}");
    eprintln!("SKIPPED: {why}");
}

/// Whether CI runs.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}
