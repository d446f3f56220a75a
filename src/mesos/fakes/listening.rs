//! What the fake agent and the fake master share: listening, and being away for a while.

use std::{convert::Infallible, io, path::PathBuf};

use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    sync::{mpsc, watch},
};

use crate::web::Socket;

/// Accepts connections at the port of `first`, and at `socket` if there is one, while `up` is true;
/// while it is false, connections are refused. Returns when the sender of `stopped` is dropped.
///
/// # Errors
/// If a system call fails.
pub(crate) async fn accept_while_up(
    first: std::net::TcpListener,
    socket: Option<PathBuf>,
    mut up: watch::Receiver<bool>,
    mut stopped: mpsc::UnboundedReceiver<Infallible>,
    mut serve: impl FnMut(Box<dyn Socket>),
) -> io::Result<()> {
    let address = first.local_addr()?;
    let mut first = Some(first);
    loop {
        let tcp = match first.take() {
            Some(first) => TcpListener::from_std(first)?,
            None => TcpListener::bind(address).await?,
        };
        let unix = match &socket {
            Some(path) => {
                // The socket of an earlier run may be left.
                let _ = std::fs::remove_file(path);
                Some(UnixListener::bind(path)?)
            }
            None => None,
        };
        loop {
            tokio::select! {
                accepted = tcp.accept() => serve(Box::new(accepted?.0)),
                accepted = accept_unix(unix.as_ref()) => serve(Box::new(accepted?)),
                changed = up.changed() => {
                    if changed.is_err() || !*up.borrow_and_update() {
                        break;
                    }
                }
                _ = stopped.recv() => return Ok(()),
            }
        }
        drop((tcp, unix));
        tokio::select! {
            back = up.wait_for(|up| *up) => {
                if back.is_err() {
                    return Ok(());
                }
            }
            _ = stopped.recv() => return Ok(()),
        }
    }
}

async fn accept_unix(listener: Option<&UnixListener>) -> io::Result<UnixStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}
