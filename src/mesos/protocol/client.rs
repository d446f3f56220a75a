//! An HTTP client of an agent or a master: a stream of events, and calls.

use std::{io, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response,
    body::Incoming,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, InvalidHeaderValue, LOCATION},
};
use thiserror::Error;
use tokio::time::timeout;

use super::{
    recordio::{Decoder, RecordError},
    wire::Wire,
};
use crate::web::{Address, Connection};

/// The longest event that is read, in bytes: tasks carry their whole configuration.
const LONGEST_EVENT: u64 = 64 << 20;
/// How much of an error's text is read, in bytes.
const LONGEST_ANSWER: usize = 4096;
/// How long an answer may take. An agent that is just starting never answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// The header by which a master tells streams apart.
const STREAM_ID: &str = "Mesos-Stream-Id";

/// Why a request did not succeed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The server cannot be reached.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    /// A header's value cannot be sent.
    #[error("cannot be sent: {0}")]
    Header(#[from] InvalidHeaderValue),
    /// No answer came in time.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    TimedOut,
    /// Another server is the one to ask.
    #[error("HTTP 307: ask {location}")]
    Elsewhere {
        /// Its `host:port`; empty when the answer did not name one.
        location: String,
    },
    /// The server refused the request.
    #[error("HTTP {status}: {answer}")]
    Status {
        /// The status code.
        status: u16,
        /// The text of the answer.
        answer: String,
    },
    /// The answer is not a stream of records.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A client of one server.
#[derive(Clone, Debug)]
pub struct Client {
    /// The server's address.
    pub address: Address,
    /// The path of its API.
    pub path: String,
    /// The value of the Authorization header, as in `Bearer TOKEN`.
    pub authorization: Option<String>,
    /// The format of both directions.
    pub wire: Wire,
}

/// The events of one subscription.
#[derive(Debug)]
pub struct Stream {
    body: Incoming,
    decoder: Decoder,
    /// The master's id of the stream, which calls must carry.
    pub id: Option<String>,
}

/// Calls that belong to one stream, one after the other on one connection.
#[derive(Debug)]
pub struct Calls {
    client: Client,
    stream_id: Option<String>,
    connection: Option<Connection>,
}

impl Client {
    /// Sends a call that is answered with 202.
    ///
    /// # Errors
    /// If it is not.
    pub async fn call(&self, body: Vec<u8>) -> Result<(), ClientError> {
        let exchange = async {
            let mut connection = self.connect().await?;
            self.post(&mut connection, body, None).await.map(drop)
        };
        patiently(exchange).await
    }

    /// Sends a call that is answered with a stream of events.
    ///
    /// # Errors
    /// If it is not.
    pub async fn subscribe(&self, body: Vec<u8>) -> Result<Stream, ClientError> {
        let exchange = async {
            let mut connection = self.connect().await?;
            self.post(&mut connection, body, None).await
        };
        let response = patiently(exchange).await?;
        let id = response.headers().get(STREAM_ID);
        let id = id.and_then(|id| id.to_str().ok()).map(str::to_owned);
        Ok(Stream {
            body: response.into_body(),
            decoder: Decoder::new(LONGEST_EVENT),
            id,
        })
    }

    /// Makes calls that carry the id of a stream.
    pub fn calls(&self, stream: &Stream) -> Calls {
        Calls {
            client: self.clone(),
            stream_id: stream.id.clone(),
            connection: None,
        }
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        self.address.connect().await.map_err(ClientError::Connect)
    }

    async fn post(
        &self,
        connection: &mut Connection,
        body: Vec<u8>,
        stream_id: Option<&str>,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::post(self.path.as_str())
            .header(HOST, self.address.host())
            .header(CONTENT_TYPE, self.wire.content_type())
            .header(ACCEPT, self.wire.content_type());
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(id) = stream_id {
            request = request.header(STREAM_ID, id);
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ClientError::Connect(io::Error::other(error)))?;
        let response = connection.send(request).await?;
        match response.status().as_u16() {
            200 | 202 => Ok(response),
            307 => {
                let location = response.headers().get(LOCATION);
                let location = location.and_then(|location| location.to_str().ok());
                Err(ClientError::Elsewhere {
                    location: authority(location.unwrap_or_default()).to_owned(),
                })
            }
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

impl Calls {
    /// Sends a call that is answered with 202, after the calls before it.
    ///
    /// # Errors
    /// If it is not; whether the call was carried out is then unknown.
    pub async fn call(&mut self, body: Vec<u8>) -> Result<(), ClientError> {
        let Calls {
            client,
            stream_id,
            connection,
        } = self;
        let exchange = async {
            let mut open = match connection.take().filter(|open| !open.is_closed()) {
                Some(open) => open,
                None => client.connect().await?,
            };
            let response = client.post(&mut open, body, stream_id.as_deref()).await?;
            // The connection is free when the (empty) body has been read.
            let rest = Limited::new(response.into_body(), LONGEST_ANSWER);
            if rest.collect().await.is_ok() {
                *connection = Some(open);
            }
            Ok(())
        };
        patiently(exchange).await
    }
}

async fn patiently<T>(
    exchange: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    match timeout(PATIENCE, exchange).await {
        Ok(result) => result,
        Err(_) => Err(ClientError::TimedOut),
    }
}

/// The `host:port` of `http://host:port/path`, or of `//host:port`, as Mesos writes it.
fn authority(location: &str) -> &str {
    let rest = location.split_once("//").map_or(location, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

impl Stream {
    /// The next event; `None` when the server ended the stream.
    ///
    /// # Errors
    /// If the connection breaks, or the stream is not one of records.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_redirect_leads() {
        assert_eq!(
            authority("//10.0.0.1:5050/api/v1/scheduler"),
            "10.0.0.1:5050"
        );
        assert_eq!(authority("http://master:5050"), "master:5050");
        assert_eq!(authority("http://[::1]:5050/"), "[::1]:5050");
        assert_eq!(authority(""), "");
    }
}
