//! Sockets that are listened on.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};

use super::options::{Address, ServerOptions};

/// Connections that wait to be taken.
const BACKLOG: u32 = 1024;

/// A socket that is listened on.
pub struct Listener {
    pub socket: Socket,
    /// Whether it belongs to whoever started the program, who may keep it for the next start.
    pub is_inherited: bool,
}

/// Its kind.
pub enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener, Option<SocketFile>),
}

/// The file of a Unix socket. It is removed with this, unless somebody else has put another in its place.
#[cfg(unix)]
pub struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

#[cfg(unix)]
impl SocketFile {
    fn new(path: PathBuf) -> SocketFile {
        SocketFile { identity: SocketFile::identity(&path), path }
    }

    fn identity(path: &std::path::Path) -> Option<(u64, u64)> {
        use std::os::unix::fs::MetadataExt;
        std::fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
    }
}

#[cfg(unix)]
impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && SocketFile::identity(&self.path) == self.identity {
            // Whoever comes next would take it for a server that has died.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    fn tcp(listener: TcpListener, is_inherited: bool) -> Listener {
        Listener { socket: Socket::Tcp(listener), is_inherited }
    }

    /// The address for people.
    pub fn url(&self) -> String {
        match &self.socket {
            Socket::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|_| "a socket".to_owned(), |address| format!("http://{address}")),
            #[cfg(unix)]
            Socket::Unix(_, Some(file)) => format!("unix:{}", file.path.display()),
            #[cfg(unix)]
            Socket::Unix(listener, None) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                path.map_or_else(|| "a Unix socket".to_owned(), |path| format!("unix:{}", path.display()))
            }
        }
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().is_ok_and(|address| address.ip().is_loopback()),
            #[cfg(unix)]
            Socket::Unix(..) => true,
        }
    }
}

/// Opens the sockets: those that systemd hands over, or else the addresses of the options.
///
/// # Errors
/// An address that is unknown, taken, or not for this program; it is named.
pub async fn bind(options: &ServerOptions) -> Result<Vec<Listener>, io::Error> {
    let inherited = inherited()?;
    if !inherited.is_empty() {
        return Ok(inherited);
    }
    let mut port = options.port;
    let mut listeners = Vec::new();
    let is_any_v4 = |address: &Address| matches!(address, Address::Host(host) if host == "0.0.0.0");
    let has_any_v4 = options.addresses.iter().any(is_any_v4);
    for address in &options.addresses {
        match address {
            Address::Socket(path) => listeners.push(bind_unix(path.clone())?),
            Address::Host(host) => {
                let tcp = bind_host(host, port, has_any_v4).await?;
                // A free port, once found, is that of the other addresses too.
                port = tcp[0].local_addr()?.port();
                listeners.extend(tcp.into_iter().map(|listener| Listener::tcp(listener, false)));
            }
        }
    }
    if listeners.is_empty() {
        let message = "no address: --host names none, expected one or more";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(listeners)
}

/// Binds all addresses of a host, at least one.
async fn bind_host(host: &str, mut port: u16, has_any_v4: bool) -> io::Result<Vec<TcpListener>> {
    let asked = port;
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{host}:{asked}: {error}"));
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await.map_err(named)?.collect();
    let (mut bound, mut failed) = (Vec::new(), None);
    for mut address in addresses {
        address.set_port(port);
        match bind_tcp(address, has_any_v4) {
            Ok(listener) => {
                port = listener.local_addr()?.port();
                bound.push(listener);
            }
            Err(error) => {
                let is_missing = is_missing(&error);
                let error = io::Error::new(error.kind(), format!("{address}: {error}"));
                if !is_missing {
                    return Err(error);
                }
                failed = Some(error);
            }
        }
    }
    match failed {
        // A name may have an address of a family that this machine does without.
        Some(error) if bound.is_empty() => Err(error),
        None if bound.is_empty() => Err(named(io::Error::from(io::ErrorKind::AddrNotAvailable))),
        _ => Ok(bound),
    }
}

/// Whether this machine has no such address.
fn is_missing(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::EAFNOSUPPORT) {
        return true;
    }
    error.kind() == io::ErrorKind::AddrNotAvailable
}

fn bind_tcp(address: SocketAddr, has_any_v4: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that was just ended does not keep its port from the next one.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() && has_any_v4 {
        // It would take the port for IPv4 as well.
        SockRef::from(&socket).set_only_v6(true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(unix)]
fn bind_unix(path: PathBuf) -> io::Result<Listener> {
    use std::os::unix::fs::FileTypeExt;

    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if let Ok(metadata) = std::fs::symlink_metadata(&path) {
        if !metadata.file_type().is_socket() {
            return Err(named(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "found something that is no socket, expected nothing there",
            )));
        }
        // A socket that nobody answers on was left by a server that has died.
        let answer = std::os::unix::net::UnixStream::connect(&path);
        if answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            std::fs::remove_file(&path).map_err(named)?;
        }
    }
    let listener = tokio::net::UnixListener::bind(&path).map_err(named)?;
    Ok(Listener { socket: Socket::Unix(listener, Some(SocketFile::new(path))), is_inherited: false })
}

#[cfg(not(unix))]
fn bind_unix(path: PathBuf) -> io::Result<Listener> {
    let message = format!("{}: Unix sockets are not supported on this system", path.display());
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

/// Sockets that systemd listens on for this program (`LISTEN_FDS`).
#[cfg(unix)]
fn inherited() -> io::Result<Vec<Listener>> {
    let mut handed = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for i in 0..handed.len() {
        if let Ok(Some(listener)) = handed.take_tcp_listener(i) {
            listener.set_nonblocking(true)?;
            listeners.push(Listener::tcp(TcpListener::from_std(listener)?, true));
        } else if let Some(listener) = handed.take_unix_listener(i)? {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::UnixListener::from_std(listener)?;
            listeners.push(Listener { socket: Socket::Unix(listener, None), is_inherited: true });
        }
    }
    Ok(listeners)
}

#[cfg(not(unix))]
fn inherited() -> io::Result<Vec<Listener>> {
    Ok(Vec::new())
}
