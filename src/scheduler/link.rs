//! The connection to the master: finding the leading one, subscribing, its events, our calls.
//!
//! Calls go one after the other, because their order means something. After any failure the stream is given
//! up and subscribed anew: the master then takes back what it offered, so nothing is left half-answered.

use std::time::Duration;

use thiserror::Error;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::wire::Framework;
use crate::{
    http::Address,
    mesos::{
        Calls, Client, ClientError, Stream, Wire,
        messages::scheduler::{Call, Event, event},
    },
};

const PATH: &str = "/api/v1/scheduler";
/// The first pause between attempts; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Masters that send each other's clients around in a circle are not followed for ever.
const MOST_REDIRECTS: u32 = 5;
/// Without a sign of life for so many intervals the master is gone.
const MISSED: f64 = 3.0;
/// What is waited for while the interval is not known.
const FIRST_SIGN: Duration = Duration::from_secs(30);

/// What the scheduler hears of its connection.
#[derive(Debug)]
pub enum News {
    /// An event of the stream with this number.
    Event(u64, Box<Event>),
    /// That stream is over; another attempt follows.
    Lost(String),
    /// The master does not want us; nothing follows.
    Refused(String),
}

/// A call, and the stream that it belongs to: on another one it would mean nothing.
pub type Outgoing = (u64, Call);

/// Where to, and as whom.
#[derive(Debug)]
pub struct Link {
    /// Masters, any of which knows the leading one.
    pub masters: Vec<String>,
    /// The value of Authorization.
    pub authorization: Option<String>,
    /// Who we are.
    pub framework: Framework,
    /// How we speak.
    pub wire: Wire,
}

#[derive(Debug, Error)]
enum Broken {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the master ended the stream")]
    Ended,
    #[error("no sign of life of the master for {0:?}")]
    Silent(Duration),
    #[error("{0}")]
    Unreadable(String),
    #[error("the scheduler is gone")]
    Deserted,
}

impl Link {
    /// Connects again and again until the master refuses us or nobody listens any more.
    pub async fn run(
        mut self,
        mut calls: mpsc::UnboundedReceiver<Outgoing>,
        news: mpsc::UnboundedSender<News>,
    ) {
        let mut number = 0;
        let mut next = 0;
        let mut pause = FIRST_PAUSE;
        loop {
            number += 1;
            let master = self.masters[next % self.masters.len()].clone();
            next += 1;
            let mut was_subscribed = false;
            let attempt = self.attempt(number, master, &mut calls, &news, &mut was_subscribed);
            let broken = attempt.await;
            let told = match &broken {
                Broken::Deserted => return,
                Broken::Client(ClientError::Status { status, answer })
                    if matches!(status, 401 | 403) && !was_subscribed =>
                {
                    News::Refused(format!("HTTP {status}: {answer}"))
                }
                other => News::Lost(other.to_string()),
            };
            let is_end = matches!(told, News::Refused(_));
            if news.send(told).is_err() || is_end {
                return;
            }
            if was_subscribed {
                pause = FIRST_PAUSE;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Subscribes, following redirects, and stays subscribed as long as it lasts.
    async fn attempt(
        &mut self,
        number: u64,
        master: String,
        calls: &mut mpsc::UnboundedReceiver<Outgoing>,
        news: &mpsc::UnboundedSender<News>,
        was_subscribed: &mut bool,
    ) -> Broken {
        let body = match self.wire.encode(&self.framework.subscribe()) {
            Ok(body) => body,
            Err(error) => return Broken::Unreadable(error.to_string()),
        };
        let mut client = Client {
            address: Address::Tcp(master),
            path: PATH.to_owned(),
            authorization: self.authorization.clone(),
            wire: self.wire,
        };
        let mut redirects = 0;
        let stream = loop {
            match client.subscribe(body.clone()).await {
                Ok(stream) => break stream,
                Err(ClientError::Elsewhere { location })
                    if !location.is_empty() && redirects < MOST_REDIRECTS =>
                {
                    redirects += 1;
                    tracing::info!("the leading master is {location}");
                    client.address = Address::Tcp(location);
                }
                Err(error) => return error.into(),
            }
        };
        *was_subscribed = true;
        let outgoing = client.calls(&stream);
        let wire = self.wire;
        tokio::select! {
            broken = self.listen(number, stream, news) => broken,
            broken = talk(number, wire, outgoing, calls) => broken,
        }
    }

    async fn listen(
        &mut self,
        number: u64,
        mut stream: Stream,
        news: &mpsc::UnboundedSender<News>,
    ) -> Broken {
        let mut patience = FIRST_SIGN;
        loop {
            let record = match timeout(patience, stream.next()).await {
                Err(_) => return Broken::Silent(patience),
                Ok(Err(error)) => return error.into(),
                Ok(Ok(None)) => return Broken::Ended,
                Ok(Ok(Some(record))) => record,
            };
            let event: Event = match self.wire.decode(&record) {
                Ok(event) => event,
                Err(error) => return Broken::Unreadable(error.to_string()),
            };
            if let Some(subscribed) = &event.subscribed {
                self.framework.id = Some(subscribed.framework_id.value.clone());
                let every = subscribed.heartbeat_interval_seconds;
                let every =
                    every.and_then(|every| Duration::try_from_secs_f64(every * MISSED).ok());
                patience = every.unwrap_or(patience).max(Duration::from_millis(100));
            }
            if event.r#type() == event::Type::Heartbeat {
                continue;
            }
            if news.send(News::Event(number, Box::new(event))).is_err() {
                return Broken::Deserted;
            }
        }
    }
}

/// Sends calls as they come; those of an earlier stream are dropped.
async fn talk(
    number: u64,
    wire: Wire,
    mut outgoing: Calls,
    calls: &mut mpsc::UnboundedReceiver<Outgoing>,
) -> Broken {
    while let Some((of, call)) = calls.recv().await {
        if of != number {
            continue;
        }
        let body = match wire.encode(&call) {
            Ok(body) => body,
            Err(error) => return Broken::Unreadable(error.to_string()),
        };
        if let Err(error) = outgoing.call(body).await {
            return error.into();
        }
    }
    Broken::Deserted
}
