//! HTTP to an agent: one connection for the stream of events, one for each call.

use std::{io, path::PathBuf, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, InvalidHeaderValue},
};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::{
    recordio::{Decoder, RecordError},
    wire::Wire,
};

/// Longest event that is read: tasks carry their whole configuration.
const LONGEST_EVENT: u64 = 64 << 20;
/// Of an answer that says what was wrong.
const LONGEST_ANSWER: usize = 4096;
/// A server that has not answered by then will not: an agent that is just starting never does.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `host:port`.
    Tcp(String),
    /// A socket's path.
    Unix(PathBuf),
}

/// Why a request did not succeed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody there.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    /// A header that cannot be sent.
    #[error("cannot be sent: {0}")]
    Header(#[from] InvalidHeaderValue),
    /// No answer.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    TimedOut,
    /// The server said no.
    #[error("HTTP {status}: {answer}")]
    Status {
        /// The status code.
        status: u16,
        /// What it said.
        answer: String,
    },
    /// What came was no stream of records.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Speaks to one server.
#[derive(Clone, Debug)]
pub struct Client {
    /// Where it is.
    pub address: Address,
    /// The path of its API.
    pub path: String,
    /// Bearer.
    pub token: Option<String>,
    /// The format of both directions.
    pub wire: Wire,
}

/// Events as they come.
#[derive(Debug)]
pub struct Stream {
    body: Incoming,
    decoder: Decoder,
}

impl Client {
    /// Sends a call that is answered by 202.
    ///
    /// # Errors
    /// When it is not.
    pub async fn call(&self, body: Vec<u8>) -> Result<(), ClientError> {
        self.post(body).await.map(drop)
    }

    /// Sends a call that is answered by a stream of events.
    ///
    /// # Errors
    /// When it is not.
    pub async fn subscribe(&self, body: Vec<u8>) -> Result<Stream, ClientError> {
        let response = self.post(body).await?;
        Ok(Stream {
            body: response.into_body(),
            decoder: Decoder::new(LONGEST_EVENT),
        })
    }

    async fn post(&self, body: Vec<u8>) -> Result<Response<Incoming>, ClientError> {
        let answer = async {
            match &self.address {
                Address::Tcp(address) => {
                    let stream = TcpStream::connect(address)
                        .await
                        .map_err(ClientError::Connect)?;
                    stream.set_nodelay(true).map_err(ClientError::Connect)?;
                    self.exchange(stream, address, body).await
                }
                Address::Unix(path) => {
                    let stream = UnixStream::connect(path)
                        .await
                        .map_err(ClientError::Connect)?;
                    self.exchange(stream, "localhost", body).await
                }
            }
        };
        match timeout(PATIENCE, answer).await {
            Ok(response) => response,
            Err(_) => Err(ClientError::TimedOut),
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, ClientError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the connection, that is, when the answer has been read or dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection to the agent: {error}");
            }
        });
        let mut request = Request::post(self.path.as_str())
            .header(HOST, host)
            .header(CONTENT_TYPE, self.wire.content_type())
            .header(ACCEPT, self.wire.content_type());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ClientError::Connect(io::Error::other(error)))?;
        let response = sender.send_request(request).await?;
        match response.status().as_u16() {
            200 | 202 => Ok(response),
            status => {
                let answer = Limited::new(response.into_body(), LONGEST_ANSWER);
                let answer = match answer.collect().await {
                    Ok(answer) => String::from_utf8_lossy(&answer.to_bytes()).into_owned(),
                    Err(error) => error.to_string(),
                };
                Err(ClientError::Status { status, answer })
            }
        }
    }
}

impl Stream {
    /// The next event; `None` when the server ended the stream.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no record.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            if let Some(record) = self.decoder.next_record()? {
                return Ok(Some(record));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(piece) = frame?.into_data() {
                        self.decoder.push(&piece);
                    }
                }
            }
        }
    }
}
