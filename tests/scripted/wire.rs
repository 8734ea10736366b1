//! A connection in the clear or inside TLS (RFC 4217), and the ways in which it ends: TLS says so itself (close_notify), or
//! somebody in between has cut it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod, SslStream};

/// What bytes come and go over.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(SslStream<TcpStream>),
}

impl Wire {
    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref(),
        }
    }

    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The server's side of the handshake.
    pub fn secured(tcp: TcpStream, acceptor: &SslAcceptor) -> io::Result<Self> {
        acceptor.accept(tcp).map(Self::Tls).map_err(io::Error::other)
    }

    /// Ends as it should; a value that is only dropped ends inside TLS as one that was cut.
    pub fn close(mut self) {
        if let Self::Tls(tls) = &mut self {
            let _ = tls.shutdown();
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// For all connections of a server: sessions are resumed.
pub(super) fn acceptor(certificate: &Path, key: &Path) -> io::Result<SslAcceptor> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_certificate_chain_file(certificate)?;
    builder.set_private_key_file(key, SslFiletype::PEM)?;
    builder.set_session_id_context(b"scripted")?;
    Ok(builder.build())
}
