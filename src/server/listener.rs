//! Accepts connections on one shard and deals them out.

use crate::io::{Listener, Socket};
use crate::shard::signal::Flag;
use crate::shard::state::Shard;
use futures_util::future::{Either, select};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// Pause after a failed accept, and between looks for a free place: out of descriptors, most
/// likely.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Accepts until `stop` is raised; the listener closes with that.
pub async fn accept(shard: Rc<Shard>, listener: Listener, stop: Rc<Flag>) {
    loop {
        let accepting = pin!(accept_one(&shard, &listener));
        let stopping = pin!(stop.wait());
        if let Either::Right(_) = select(accepting, stopping).await {
            return;
        }
    }
}

async fn accept_one(shard: &Rc<Shard>, listener: &Listener) {
    let settings = shard.settings();
    let most = usize::try_from(settings.max_connections).unwrap_or(0);
    if shard.node.connections_count() >= most {
        // As Kafka: what comes now waits in the kernel's queue until a place is free.
        shard.io.sleep(RETRY_INTERVAL).await;
        return;
    }
    match listener.accept().await {
        Ok(socket) => deal(shard, socket),
        Err(error) => {
            tracing::warn!(%error, "connection not accepted");
            shard.io.sleep(RETRY_INTERVAL).await;
        }
    }
}

fn deal(shard: &Rc<Shard>, socket: Socket) {
    let address = socket.peer().ip();
    let most = usize::try_from(shard.settings().max_connections_per_ip).unwrap_or(0);
    if !shard.node.admit(address, most) {
        refuse(address, most);
        return;
    }
    shard.deal(socket.into_handle());
}

fn refuse(address: IpAddr, most: usize) {
    tracing::warn!(%address, most, "connection closed: max.connections.per.ip is reached");
}
