//! One promise, four servers: [`on_each_server!`] makes a test of its own for each.

use super::{Kind, Mounted, Options};

/// Runs a promise on one server.
pub fn check(kind: Kind, promise: fn(&mut Mounted)) {
    check_within(kind, None, promise);
}

/// Runs a promise on one server that allows so many sessions.
pub fn check_within(kind: Kind, max_sessions: Option<u32>, promise: fn(&mut Mounted)) {
    let options = Options { max_sessions, ..Options::default() };
    if let Some(mut mounted) = Mounted::new(kind, &options, &[]) {
        promise(&mut mounted);
    }
}

/// Functions that take a `&mut Mounted` become tests: `vsftpd::name`, `proftpd::name`, `pure_ftpd::name`, `pyftpdlib::name`; or
/// on other servers, when these are given first: `[twisted Twisted, aioftp Aioftp]`. A number behind a server is how many
/// sessions it allows: `[two_sessions Proftpd 2]`.
#[macro_export]
macro_rules! on_each_server {
    (@check $kind:ident [], $promise:path) => {
        $crate::harness::each::check($crate::harness::Kind::$kind, $promise)
    };
    (@check $kind:ident [$sessions:literal], $promise:path) => {
        $crate::harness::each::check_within($crate::harness::Kind::$kind, Some($sessions), $promise)
    };
    (@tests $module:ident $kind:ident $sessions:tt [$($name:ident)*]) => {
        mod $module {
            $(#[test]
            fn $name() {
                $crate::on_each_server!(@check $kind $sessions, super::promises::$name);
            })*
        }
    };
    (@each [$($module:ident $kind:ident $($sessions:literal)?),*] $names:tt) => {
        $($crate::on_each_server!(@tests $module $kind [$($sessions)?] $names);)*
    };
    ([$($server:tt)*] $($(#[$meta:meta])* fn $name:ident($at:ident: &mut Mounted) $body:block)*) => {
        mod promises {
            use super::*;
            $($(#[$meta])* pub fn $name($at: &mut Mounted) $body)*
        }
        $crate::on_each_server!(@each [$($server)*] [$($name)*]);
    };
    ($($promise:tt)*) => {
        $crate::on_each_server! {
            [vsftpd Vsftpd, proftpd Proftpd, pure_ftpd PureFtpd, pyftpdlib Pyftpdlib]
            $($promise)*
        }
    };
}
