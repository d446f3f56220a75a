//! The connection to the master: finds the leading one, subscribes, receives events and sends
//! calls.
//!
//! Calls are sent one after the other, because their order matters. After any failure the stream is
//! given up and subscribed anew: the master then takes its offers back, so that none is left
//! half-answered.

use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::translate::Framework;
use crate::{
    mesos::protocol::{
        Calls, Client, ClientError, Stream, Wire,
        messages::scheduler::{Call, Event, event},
    },
    web::Address,
};

const PATH: &str = "/api/v1/scheduler";
/// The first pause between attempts; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After a stream that lasted this long the pauses start anew.
const LASTING: Duration = Duration::from_secs(10);
/// Masters that redirect to each other in a circle are not followed for ever.
const MOST_REDIRECTS: u32 = 5;
/// Without an event for so many heartbeat intervals the master counts as gone.
const MISSED: f64 = 3.0;
/// How long the first event may take, while the interval is not known.
const FIRST_SIGN: Duration = Duration::from_secs(30);

/// What the link reports.
#[derive(Debug)]
pub enum LinkEvent {
    /// An event, and the number of its stream.
    Event(u64, Box<Event>),
    /// The stream has ended; another attempt follows.
    Lost(String),
    /// The master refuses the framework; no attempt follows.
    Refused(String),
}

/// A call, and the number of its stream: on another stream it means nothing.
pub type Outgoing = (u64, Call);

/// Where to connect, and as which framework.
#[derive(Debug)]
pub struct MasterLink {
    /// Addresses of masters, any of which knows the leading one.
    pub masters: Vec<String>,
    /// The value of the Authorization header.
    pub authorization: Option<String>,
    /// The framework; its id is set by the first subscription.
    pub framework: Framework,
    /// The wire format.
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

impl MasterLink {
    /// Connects again and again, until the master refuses the framework or the event loop has
    /// ended.
    pub async fn run(
        mut self,
        mut calls: mpsc::UnboundedReceiver<Outgoing>,
        events: mpsc::UnboundedSender<LinkEvent>,
    ) {
        let mut number = 0;
        let mut next = 0;
        let mut pause = FIRST_PAUSE;
        // Attempts in a row that were refused, before the first one that was not.
        let mut refusals = 0;
        let mut ever_subscribed = false;
        loop {
            number += 1;
            let master = self.masters[next % self.masters.len()].clone();
            next += 1;
            let mut subscribed = None;
            let attempt = self.attempt(number, master, &mut calls, &events, &mut subscribed);
            let broken = attempt.await;
            ever_subscribed |= subscribed.is_some();
            let told = match &broken {
                Broken::Deserted => return,
                Broken::Client(ClientError::Status { status, answer })
                    if matches!(status, 401 | 403) && !ever_subscribed =>
                {
                    refusals += 1;
                    let why = format!("HTTP {status}: {answer}");
                    // One of several masters may be set up badly; only when all refuse it is final.
                    match refusals >= self.masters.len() {
                        true => LinkEvent::Refused(why),
                        false => LinkEvent::Lost(why),
                    }
                }
                other => {
                    refusals = 0;
                    LinkEvent::Lost(other.to_string())
                }
            };
            let is_end = matches!(told, LinkEvent::Refused(_));
            if events.send(told).is_err() || is_end {
                return;
            }
            if subscribed.is_some_and(|at| at.elapsed() > LASTING) {
                pause = FIRST_PAUSE;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Subscribes, following redirects, and receives events and sends calls while the stream lasts.
    async fn attempt(
        &mut self,
        number: u64,
        master: String,
        calls: &mut mpsc::UnboundedReceiver<Outgoing>,
        events: &mpsc::UnboundedSender<LinkEvent>,
        subscribed: &mut Option<Instant>,
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
        let outgoing = client.calls(&stream);
        let wire = self.wire;
        tokio::select! {
            broken = self.listen(number, stream, events, subscribed) => broken,
            broken = send_calls(number, wire, outgoing, calls) => broken,
        }
    }

    async fn listen(
        &mut self,
        number: u64,
        mut stream: Stream,
        events: &mpsc::UnboundedSender<LinkEvent>,
        at: &mut Option<Instant>,
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
                *at = Some(Instant::now());
                self.framework.id = Some(subscribed.framework_id.value.clone());
                let every = subscribed.heartbeat_interval_seconds;
                let every =
                    every.and_then(|every| Duration::try_from_secs_f64(every * MISSED).ok());
                patience = every.unwrap_or(patience).max(Duration::from_millis(100));
            }
            if event.r#type() == event::Type::Heartbeat {
                continue;
            }
            if events
                .send(LinkEvent::Event(number, Box::new(event)))
                .is_err()
            {
                return Broken::Deserted;
            }
        }
    }
}

/// Sends calls as they come; those of an earlier stream are dropped.
async fn send_calls(
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
