//! HTTP/1.1 over TCP or a unix socket: what clients and servers of this crate share.
//!
//! Only transport: connections, bodies that grow, whole answers. What is asked and answered lies in
//! the rooms above.

use std::{
    convert::Infallible,
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::Pin,
    str::FromStr,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::mpsc,
};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address, `host:port`.
    Tcp(String),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = &'static str;

    /// Reads `HOST:PORT`, a path with a `/` in it, or `unix:PATH`.
    fn from_str(text: &str) -> Result<Address, Self::Err> {
        const EXPECTED: &str = "expected HOST:PORT, or the path of a socket";
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.is_empty() {
                true => Err(EXPECTED),
                false => Ok(Address::Unix(path.into())),
            };
        }
        if text.contains('/') {
            return Ok(Address::Unix(text.into()));
        }
        let port = text
            .rsplit_once(':')
            .map(|(host, port)| (host, port.parse::<u16>()));
        match port {
            Some((host, Ok(_))) if !host.is_empty() => Ok(Address::Tcp(text.to_owned())),
            _ => Err(EXPECTED),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(address) => f.write_str(address),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A client's connection, on which one request follows the other.
#[derive(Debug)]
pub struct Connection(http1::SendRequest<Full<Bytes>>);

impl Address {
    /// The value of the Host header in requests to this address.
    pub fn host(&self) -> &str {
        match self {
            Address::Tcp(address) => address,
            Address::Unix(_) => "localhost",
        }
    }

    /// Connects to the server.
    ///
    /// # Errors
    /// If a system call fails.
    pub async fn connect(&self) -> io::Result<Connection> {
        match self {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Connection::over(stream).await
            }
            Address::Unix(path) => {
                let (_directory, short) = short(path)?;
                Connection::over(UnixStream::connect(short).await?).await
            }
        }
    }
}

impl Connection {
    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> io::Result<Connection> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // Ends with the connection, when the last answer has been read or dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection: {error}");
            }
        });
        Ok(Connection(sender))
    }

    /// Sends a request when the one before is answered, and returns the beginning of its answer.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.0.ready().await?;
        self.0.send_request(request).await
    }

    /// True when no request can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// A server's socket.
#[derive(Debug)]
pub enum Listener {
    /// A TCP socket.
    Tcp(TcpListener),
    /// A unix socket; its file is removed with this value.
    Unix(UnixListener, PathBuf),
}

/// A client's connection, as the server sees it.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

impl Listener {
    /// Starts to listen. A socket's file that is there already is replaced, and only its owner may
    /// connect.
    ///
    /// # Errors
    /// If a system call fails, or something other than a socket is there.
    pub async fn bind(address: &Address) -> io::Result<Listener> {
        match address {
            Address::Tcp(address) => Ok(Listener::Tcp(TcpListener::bind(address).await?)),
            Address::Unix(path) => {
                let (_directory, short) = short(path)?;
                match fs::symlink_metadata(&short) {
                    Ok(meta) if !meta.file_type().is_socket() => {
                        return Err(io::Error::new(
                            io::ErrorKind::AlreadyExists,
                            "there is something else of that name",
                        ));
                    }
                    Ok(_) => fs::remove_file(&short)?,
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    Err(_) => {}
                }
                let listener = UnixListener::bind(&short)?;
                fs::set_permissions(&short, PermissionsExt::from_mode(0o600))?;
                Ok(Listener::Unix(listener, path.clone()))
            }
        }
    }

    /// The address, with the port that the kernel chose if none was named.
    pub fn address(&self) -> Option<Address> {
        match self {
            Listener::Tcp(listener) => {
                let address = listener.local_addr().ok()?;
                Some(Address::Tcp(address.to_string()))
            }
            Listener::Unix(_, path) => Some(Address::Unix(path.clone())),
        }
    }

    /// Waits for the next client.
    ///
    /// # Errors
    /// If a system call fails.
    pub async fn accept(&self) -> io::Result<Box<dyn Socket>> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Listener::Unix(listener, _) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            // The file may be gone already, which is as good.
            let _ = fs::remove_file(path);
        }
    }
}

/// A short name for a socket: its path may be longer than an address can be.
fn short(path: &Path) -> io::Result<(fs::File, PathBuf)> {
    use std::os::fd::AsRawFd;
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let directory = fs::File::open(parent.unwrap_or(Path::new(".")))?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let near = format!("/proc/self/fd/{}", directory.as_raw_fd());
    Ok((directory, Path::new(&near).join(name)))
}

/// A body that grows as pieces are sent, and ends with the sender.
#[derive(Debug)]
pub enum Pieces {
    /// The sender never waits; pieces that are not read are kept.
    Unbounded(mpsc::UnboundedReceiver<Bytes>),
    /// Only a number of pieces is kept.
    Bounded(mpsc::Receiver<Bytes>),
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match &mut *self {
            Pieces::Unbounded(pieces) => pieces.poll_recv(context),
            Pieces::Bounded(pieces) => pieces.poll_recv(context),
        };
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// An answer with a whole body, or one that grows.
pub type Reply = Response<Either<Full<Bytes>, Pieces>>;

/// An answer with a whole body.
pub fn plain(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(Either::Left(Full::from(text.into())));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let tcp = |text: &str| Ok(Address::Tcp(text.to_owned()));
        assert_eq!("localhost:5050".parse(), tcp("localhost:5050"));
        assert_eq!("[::1]:80".parse(), tcp("[::1]:80"));
        assert_eq!("/run/s".parse(), Ok(Address::Unix("/run/s".into())));
        assert_eq!("unix:s".parse(), Ok(Address::Unix("s".into())));
        for text in ["", "host", "host:", ":80", "host:99999", "unix:"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
