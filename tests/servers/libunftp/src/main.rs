//! libunftp-main ROOT ADDRESS:PORT USER PASSWORD IDLE [CERTIFICATE KEY]: serves one folder to one user on loopback.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use libunftp::ServerBuilder;
use libunftp::options::ActivePassiveMode;
use unftp_core::auth::{AuthenticationError, Authenticator, Credentials, Principal};
use unftp_sbe_fs::Filesystem;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let root = PathBuf::from(&arguments[1]);
    let one = One { user: arguments[3].clone(), password: arguments[4].clone() };
    let mut builder = ServerBuilder::new(Box::new(move || Filesystem::new(root.clone()).unwrap()))
        .authenticator(Arc::new(one))
        .passive_ports(33000..=60000)
        .active_passive_mode(ActivePassiveMode::ActiveAndPassive)
        .idle_session_timeout(arguments[5].parse().unwrap());
    if let (Some(certificate), Some(key)) = (arguments.get(6), arguments.get(7)) {
        builder = builder.ftps(certificate, key);
    }
    builder.build().unwrap().listen(arguments[2].clone()).await.unwrap();
}

#[derive(Debug)]
struct One {
    user: String,
    password: String,
}

#[async_trait]
impl Authenticator for One {
    async fn authenticate(&self, user: &str, given: &Credentials) -> Result<Principal, AuthenticationError> {
        if user != self.user {
            return Err(AuthenticationError::BadUser);
        }
        if given.password.as_deref() != Some(self.password.as_str()) {
            return Err(AuthenticationError::BadPassword);
        }
        Ok(Principal { username: user.to_string() })
    }
}
