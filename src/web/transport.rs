//! HTTP/1.1 over TCP or a unix socket: what clients and servers of this crate share.
//!
//! Only transport: connections, bodies that grow, plain answers. Who says what is said elsewhere.

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
    /// `host:port`.
    Tcp(String),
    /// A socket's path.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = &'static str;

    /// `HOST:PORT`, or a path with a `/` in it, or `unix:PATH`.
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

/// A connection on which one request follows the other.
#[derive(Debug)]
pub struct Connection(http1::SendRequest<Full<Bytes>>);

impl Address {
    /// What a client calls the server.
    pub fn host(&self) -> &str {
        match self {
            Address::Tcp(address) => address,
            Address::Unix(_) => "localhost",
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// What the system says.
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
        // Ends with the connection, that is, when the last answer has been read or dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection: {error}");
            }
        });
        Ok(Connection(sender))
    }

    /// Sends a request, when the one before is answered, and returns its answer's beginning.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.0.ready().await?;
        self.0.send_request(request).await
    }

    /// True when nothing more can be sent.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// A server's socket.
#[derive(Debug)]
pub enum Listener {
    /// Of TCP.
    Tcp(TcpListener),
    /// Of the file system; removed with this.
    Unix(UnixListener, PathBuf),
}

/// A connection of a client.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

impl Listener {
    /// Listens; a socket's file that is there already is taken over, and only its owner may connect.
    ///
    /// # Errors
    /// What the system says.
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

    /// Where it listens: the number of a port that was left open is known from here on.
    pub fn address(&self) -> Option<Address> {
        match self {
            Listener::Tcp(listener) => {
                let address = listener.local_addr().ok()?;
                Some(Address::Tcp(address.to_string()))
            }
            Listener::Unix(_, path) => Some(Address::Unix(path.clone())),
        }
    }

    /// The next client.
    ///
    /// # Errors
    /// What the system says.
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
            // It may be somebody else's by now, or gone; either way nothing is lost.
            let _ = fs::remove_file(path);
        }
    }
}

/// A name of at most a few bytes for a socket: what a path may be long, an address may not.
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
    /// Whoever sends never waits, and keeps what is not read.
    Unbounded(mpsc::UnboundedReceiver<Bytes>),
    /// Only so much is kept.
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

/// An answer: whole, or one that grows.
pub type Reply = Response<Either<Full<Bytes>, Pieces>>;

/// A whole answer.
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
