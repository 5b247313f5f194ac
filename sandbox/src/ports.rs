//! Ports of the servers: a wished one or a free one, on 127.0.0.1 only.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, bail};

/// A port that nobody uses at this moment. Somebody may take it before it is used: callers that hand it to
/// another program try again with another one.
///
/// # Errors
/// When the system has no free port.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// Makes sure that nobody listens on `port` of 127.0.0.1 at this moment.
///
/// # Errors
/// When it cannot be used; in one line, with the reason.
pub fn ensure_free(port: u16) -> anyhow::Result<()> {
    let reason = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => "another program uses it".to_owned(),
        Err(error) => error.to_string(),
    };
    bail!("port {port} of 127.0.0.1 cannot be used ({reason}); choose another one, or leave --port away for a free one")
}

/// Listens on `port` of 127.0.0.1, or on a free one, ready for tokio.
///
/// # Errors
/// When the port is taken; the message says by which server it was wanted.
pub(crate) fn listen(server: &str, port: Option<u16>) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let wanted = port.unwrap_or(0);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))
        .with_context(|| format!("{server} cannot listen on 127.0.0.1:{wanted}"))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
