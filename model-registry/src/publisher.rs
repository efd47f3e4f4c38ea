//! Tells devices what they should run: the assignment, retained, at QoS 1.
//!
//! Level-triggered, so nothing has to be remembered about who was told: all assignments are published at every session
//! (the embedded broker forgets at restart), one when it changes, and one again when its device reports an older
//! version. A publish that is lost is repeated by one of these.

use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use vedette_protocol::{
    id::DeviceId,
    topic::{Down, Topic},
};

use crate::{
    mqtt::Outbox,
    registry::{Desired, Registry},
};

/// Devices reported as holding an old assignment and not yet told again. Full: the device's next status brings it back.
pub const STALE_MAX: usize = 256;

/// The room: reads what is desired, publishes it, knows nothing else.
pub struct Publisher {
    registry: Registry,
    outbox: Outbox,
}

impl Publisher {
    /// Makes the room; [`Publisher::run`] is its life.
    #[must_use]
    pub fn new(registry: Registry, outbox: Outbox) -> Self {
        Self { registry, outbox }
    }

    /// Publishes until `shutdown`.
    pub async fn run(
        self,
        mut sessions: watch::Receiver<u64>,
        mut stale: mpsc::Receiver<DeviceId>,
        shutdown: CancellationToken,
    ) {
        let mut changed = self.registry.assignments_changed();
        // A session may have begun before we listened: the first look counts as a change.
        sessions.mark_changed();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                session = sessions.changed() => match session {
                    Ok(()) => self.tell_all().await,
                    Err(_) => return,
                },
                device = changed.recv() => match device {
                    Ok(device) => self.tell(device).await,
                    Err(broadcast::error::RecvError::Lagged(_)) => self.tell_all().await,
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                device = stale.recv() => match device {
                    Some(device) => self.tell(device).await,
                    None => return,
                },
            }
        }
    }

    async fn tell_all(&self) {
        let registry = self.registry.clone();
        if let Some(all) = look(move || registry.all_assignments()).await {
            for desired in all {
                self.send(desired).await;
            }
        }
    }

    async fn tell(&self, device: DeviceId) {
        let registry = self.registry.clone();
        if let Some(Some(desired)) = look(move || registry.desired_assignment(&device)).await {
            self.send(desired).await;
        }
    }

    async fn send(&self, desired: Desired) {
        let Desired { device, version, envelope } = desired;
        match self.outbox.publish(&Topic::down(&device, Down::Assignment), envelope).await {
            Ok(()) => tracing::info!(%device, version, "published the assignment"),
            // The next session publishes all of them.
            Err(error) => tracing::debug!(%device, version, %error, "couldn't publish the assignment"),
        }
    }
}

/// Reads the registry off the runtime; a failure is logged and the next reason to publish tries again.
async fn look<T: Send + 'static>(read: impl FnOnce() -> crate::registry::Result<T> + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(found)) => Some(found),
        Ok(Err(error)) => {
            tracing::error!(%error, "couldn't read the assignments to publish");
            None
        }
        Err(error) => {
            tracing::error!(%error, "couldn't read the assignments to publish");
            None
        }
    }
}
