//! TLS for control and data connections (RFC 4217), with OpenSSL because of what servers demand of sessions.
//!
//! vsftpd and ProFTPD refuse a data connection whose TLS session is not the control connection's. So every control
//! connection has a *slot* ([`Slot`]) that collects the sessions which its connections are given, and every data
//! connection presents the newest of them. They are kept as DER and decoded anew each time: OpenSSL marks a TLS 1.3 session
//! as used up after its first resumption, and ProFTPD issues no new one on uploads. A slot is never shared between control
//! connections: ProFTPD compares. P-256 comes first because vsftpd knows nothing else, and another first choice costs a
//! round trip (HelloRetryRequest) on every data connection. No ALPN: vsftpd hangs up on it.
//!
//! The end of a stream is only what the peer has signed as such (close_notify): a connection that just ends may have been
//! cut by somebody in between. Used by `stream`, `control` and `data`.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::hash::MessageDigest;
use openssl::ssl::{
    ErrorCode, Ssl, SslConnector, SslFiletype, SslMethod, SslSession, SslSessionCacheMode, SslStream,
    SslVerifyMode, SslVersion,
};
use openssl::x509::{X509, X509StoreContext, X509StoreContextRef};
use parking_lot::Mutex;

use super::config::TlsVersion;
use super::stream::Step;
use super::{Config, Error};

/// What all connections of a mount share: trust, our certificate, versions. Made once: loading the system's certificates
/// takes 20 ms.
pub struct Connector {
    ssl: SslConnector,
    /// The name that is sent and verified.
    name: String,
    verify_name: bool,
    is_pinned: bool,
    lax_end: bool,
    /// Whether a session has ever been resumed on this mount.
    resumes: Arc<AtomicBool>,
}

/// The TLS sessions of one control connection.
#[derive(Clone, Default)]
pub struct Slot(Arc<Mutex<Sessions>>);

#[derive(Default)]
struct Sessions {
    /// The newest session, DER.
    newest: Option<Vec<u8>>,
    /// SHA-256 of the certificate that the server has shown, for the message when it is not trusted.
    leaf: Option<[u8; 32]>,
}

impl Slot {
    /// Whether a data connection would have a session to present.
    pub fn has_session(&self) -> bool {
        self.0.lock().newest.is_some()
    }
}

impl Connector {
    /// Whether the server resumes sessions: then a data connection without one is likely to be refused.
    pub fn resumes(&self) -> bool {
        self.resumes.load(Ordering::Relaxed)
    }

    /// Reads certificates and keys. Errors: a file that cannot be read or used.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let tls = &config.tls;
        let failed = |what: &str, path: &Path, error: ErrorStack| Error::Tls {
            text: format!("{what} {}: {error}", path.display()),
        };
        let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(Error::from)?;
        let oldest = if tls.allow_old { SslVersion::TLS1 } else { SslVersion::TLS1_2 };
        let only = tls.version.map(|version| match version {
            TlsVersion::V12 => SslVersion::TLS1_2,
            TlsVersion::V13 => SslVersion::TLS1_3,
        });
        builder.set_min_proto_version(Some(only.unwrap_or(oldest)))?;
        builder.set_max_proto_version(only)?;
        if tls.allow_old {
            builder.set_cipher_list("DEFAULT@SECLEVEL=0")?;
        }
        builder.set_groups_list("P-256:X25519:P-384:P-521")?;
        if let Some(path) = &tls.ca {
            builder.set_ca_file(path).map_err(|error| failed("the CA file", path, error))?;
        }
        if let Some(path) = &tls.certificate {
            let result = builder.set_certificate_chain_file(path);
            result.map_err(|error| failed("the certificate", path, error))?;
        }
        // Certificate and key are often one file.
        if let Some(path) = tls.key.as_ref().or(tls.certificate.as_ref()) {
            let result = builder.set_private_key_file(path, SslFiletype::PEM);
            result.map_err(|error| failed("the key", path, error))?;
        }
        builder.set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
        let index = slot_index()?;
        builder.set_new_session_callback(move |ssl, session| {
            if let (Some(slot), Ok(der)) = (ssl.ex_data(index), session.to_der()) {
                slot.0.lock().newest = Some(der);
            }
        });
        let (pin, verify) = (tls.pin, tls.verify);
        let mode = if verify || pin.is_some() { SslVerifyMode::PEER } else { SslVerifyMode::NONE };
        builder.set_verify_callback(mode, move |is_trusted, context| {
            let Some(leaf) = leaf_digest(context) else { return pin.is_none() && (is_trusted || !verify) };
            if let Some(slot) = slot_of(context, index) {
                slot.0.lock().leaf = Some(leaf);
            }
            // A pin is about the leaf alone: the chain above it, and its dates, do not matter.
            match pin {
                Some(pin) => leaf == pin,
                None => is_trusted || !verify,
            }
        });
        let name = tls.name.clone().unwrap_or_else(|| config.host.trim_matches(['[', ']']).to_owned());
        let verify_name = verify && pin.is_none();
        Ok(Self {
            ssl: builder.build(),
            name,
            verify_name,
            is_pinned: pin.is_some(),
            lax_end: tls.lax_end,
            resumes: Arc::default(),
        })
    }

    /// Begins TLS on a connected socket: the ClientHello goes out, the rest of the handshake happens as the stream is
    /// read or written. Presents the slot's newest session.
    pub fn begin(&self, tcp: TcpStream, slot: &Slot) -> Result<TlsStream, Error> {
        let mut configuration = self.ssl.configure()?;
        configuration.set_ex_data(slot_index()?, slot.clone());
        configuration.set_verify_hostname(self.verify_name);
        let mut ssl = configuration.into_ssl(&self.name)?;
        let newest = slot.0.lock().newest.clone();
        if let Some(der) = newest {
            let session = SslSession::from_der(&der)?;
            // SAFETY: the session was made by this very SSL_CTX (slots are never shared between connectors), which is what
            // SSL_set_session asks for; it takes its own reference.
            unsafe { ssl.set_session(&session)? };
        }
        ssl.set_connect_state();
        let mut stream = TlsStream {
            ssl: SslStream::new(ssl, tcp)?,
            lax_end: self.lax_end,
            is_pinned: self.is_pinned,
            resumes: Arc::clone(&self.resumes),
            slot: slot.clone(),
            failed: None,
        };
        // The server's whole answer may be there already: what is wrong with it is told by the first read or write.
        stream.failed = stream.handshake().err();
        Ok(stream)
    }
}

/// A TCP connection inside TLS. Never blocks.
pub struct TlsStream {
    ssl: SslStream<TcpStream>,
    lax_end: bool,
    is_pinned: bool,
    resumes: Arc<AtomicBool>,
    slot: Slot,
    /// The error of the very first step.
    failed: Option<io::Error>,
}

impl TlsStream {
    /// Goes on with the handshake; `Done(0)` once it is complete.
    pub fn handshake(&mut self) -> io::Result<Step> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.ssl.ssl().is_init_finished() {
            return Ok(Step::Done(0));
        }
        match self.ssl.do_handshake() {
            Ok(()) => {
                if self.ssl.ssl().session_reused() {
                    self.resumes.store(true, Ordering::Relaxed);
                }
                log::debug!(
                    "TLS: {} {}, session {}",
                    self.ssl.ssl().version_str(),
                    self.ssl.ssl().current_cipher().map_or("no cipher", |cipher| cipher.name()),
                    if self.ssl.ssl().session_reused() { "resumed" } else { "new" }
                );
                Ok(Step::Done(0))
            }
            Err(error) => self.step(&error),
        }
    }

    /// Reads what is there. `Done(0)` only after the peer's close_notify.
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<Step> {
        if let step @ (Step::NeedsRead | Step::NeedsWrite) = self.handshake()? {
            return Ok(step);
        }
        match self.ssl.ssl_read(buf) {
            Ok(n) => Ok(Step::Done(n)),
            Err(error) if error.code() == ErrorCode::ZERO_RETURN => Ok(Step::Done(0)),
            Err(error) => match self.step(&error) {
                Err(error) if self.lax_end && error.kind() == io::ErrorKind::UnexpectedEof => {
                    Ok(Step::Done(0))
                }
                step => step,
            },
        }
    }

    /// Writes what fits.
    pub fn write(&mut self, buf: &[u8]) -> io::Result<Step> {
        if let step @ (Step::NeedsRead | Step::NeedsWrite) = self.handshake()? {
            return Ok(step);
        }
        match self.ssl.ssl_write(buf) {
            Ok(n) => Ok(Step::Done(n)),
            Err(error) => self.step(&error),
        }
    }

    /// Says that nothing more will be sent: close_notify, then FIN. Both, because some servers (IIS) wait for the FIN and
    /// others (vsftpd) take its coming alone for a broken upload.
    pub fn shut_write(&mut self) -> io::Result<Step> {
        if let step @ (Step::NeedsRead | Step::NeedsWrite) = self.handshake()? {
            return Ok(step);
        }
        match self.ssl.shutdown() {
            Ok(_) => {}
            Err(error) => {
                if let step @ (Step::NeedsRead | Step::NeedsWrite) = self.step(&error)? {
                    return Ok(step);
                }
            }
        }
        self.ssl.get_ref().shutdown(Shutdown::Write)?;
        Ok(Step::Done(0))
    }

    /// Says goodbye as far as that is possible without waiting.
    pub fn say_goodbye(&mut self) {
        if self.ssl.ssl().is_init_finished() {
            let _ = self.ssl.shutdown();
        }
    }

    /// Version and cipher, for people.
    pub fn description(&self) -> String {
        let cipher = self.ssl.ssl().current_cipher().map_or("no cipher", |cipher| cipher.name());
        format!("{} with {cipher}", self.ssl.ssl().version_str())
    }

    /// What the server has shown in the handshake.
    pub fn certificate(&self) -> Option<X509> {
        self.ssl.ssl().peer_certificate()
    }

    /// Whether an earlier session goes on here: known once the handshake is over.
    pub fn is_resumed(&self) -> bool {
        self.ssl.ssl().session_reused()
    }

    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        self.ssl.get_ref()
    }

    fn step(&self, error: &openssl::ssl::Error) -> io::Result<Step> {
        match error.code() {
            ErrorCode::WANT_READ => return Ok(Step::NeedsRead),
            ErrorCode::WANT_WRITE => return Ok(Step::NeedsWrite),
            ErrorCode::ZERO_RETURN => return Ok(Step::Done(0)),
            _ => {}
        }
        if let Some(io) = error.io_error() {
            return Err(io::Error::new(io.kind(), format!("TLS: {io}")));
        }
        let text = error.ssl_error().map(ToString::to_string).unwrap_or_default();
        if error.code() == ErrorCode::SYSCALL || text.contains("unexpected eof") {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("TLS: {CUT}")));
        }
        Err(io::Error::other(format!("TLS: {}", self.explain(&text))))
    }

    fn explain(&self, text: &str) -> String {
        if text.contains("certificate verify failed") {
            let hex = |leaf: [u8; 32]| leaf.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let leaf = self.slot.0.lock().leaf.map_or("unknown".to_owned(), hex);
            let why = if self.is_pinned {
                "another one is pinned"
            } else {
                self.ssl.ssl().verify_result().error_string()
            };
            return format!("the server's certificate is not trusted ({why}); its SHA-256 is {leaf}");
        }
        if text.contains("wrong version number") || text.contains("packet length too long") {
            return format!("{WRONG_VERSION}: is this port for TLS from the first byte? ({text})");
        }
        text.to_owned()
    }
}

impl From<ErrorStack> for Error {
    fn from(stack: ErrorStack) -> Self {
        Self::Tls { text: stack.to_string() }
    }
}

fn leaf_digest(context: &X509StoreContextRef) -> Option<[u8; 32]> {
    let leaf = context.chain().and_then(|chain| chain.get(0));
    let digest = match leaf {
        Some(leaf) => leaf.digest(MessageDigest::sha256()),
        None => context.current_cert()?.digest(MessageDigest::sha256()),
    };
    digest.ok()?.as_ref().try_into().ok()
}

fn slot_of(context: &X509StoreContextRef, index: Index<Ssl, Slot>) -> Option<&Slot> {
    context.ex_data(X509StoreContext::ssl_idx().ok()?)?.ex_data(index)
}

/// Where OpenSSL keeps a connection's slot.
fn slot_index() -> Result<Index<Ssl, Slot>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Slot>> = OnceLock::new();
    if let Some(index) = INDEX.get() {
        return Ok(*index);
    }
    let index = Ssl::new_ex_index()?;
    Ok(*INDEX.get_or_init(|| index))
}

/// What OpenSSL's "wrong version number" means: the answer was not TLS. ftp-srv and libunftp do it now and then when the
/// ClientHello overtakes their own switch to TLS.
pub const WRONG_VERSION: &str = "the server did not answer in TLS";
/// What an end without close_notify is called.
pub const CUT: &str = "the connection was cut";
