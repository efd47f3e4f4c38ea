//! What each device shall run: signed by the fleet key, versioned per device, renewed before it expires.

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use vedette_protocol::assignment::{Assignment, Slot};
use vedette_protocol::envelope;
use vedette_protocol::id::DeviceId;
use vedette_protocol::limit::{MAX_ASSIGNMENT_BYTES, MAX_ENVELOPE_OVERHEAD_BYTES, MAX_SLOTS};
use vedette_protocol::time::format_ms;

use super::apply::AssignmentRecord;
use super::state::Turn;
use super::{Desired, Error, Registry, Result};
use crate::audit::{AssignCause, Assigned, Change};
use crate::model::{self, Current};
use crate::store::{from_json, keys};
use crate::view::{AssignRequest, AssignmentView, SlotView};

impl Registry {
    /// Assigns models to the streams of a device: the request names all of them. When the current assignment says the same
    /// and is not about to expire, it is the answer and nothing changes.
    ///
    /// # Errors
    ///
    /// A model is not here, there are too many slots, or the state could not be saved.
    pub fn assign(&self, device: &DeviceId, request: &AssignRequest, by: &str) -> Result<AssignmentView> {
        if request.slots.len() > MAX_SLOTS {
            return Err(Error::BadRequest(format!(
                "an assignment has at most {MAX_SLOTS} streams, this one {}",
                request.slots.len()
            )));
        }
        let turn = self.state().turn();
        if let Some(quarantine) = self.quarantine_view(device)? {
            return Err(Error::Refused(format!(
                "`{device}` is in quarantine since {}: {}; look, then `vedette devices release {device} --reason …`",
                quarantine.since, quarantine.reason
            )));
        }
        let mut slots = Vec::with_capacity(request.slots.len());
        for (stream, model) in &request.slots {
            let version = self.resolve(model)?.published;
            slots.push(Slot { stream: stream.clone(), model: version.model, manifest: version.manifest });
        }
        self.check_floors(&slots)?;
        let current = self.current_assignment(device)?;
        let made = self.sign(turn, device, slots, current.as_ref(), AssignCause::Asked, by)?;
        let record = made.or(current).ok_or_else(|| {
            Error::BadRequest(format!(
                "nothing is assigned to `{device}`, and the request names no stream: there is nothing to do"
            ))
        })?;
        Ok(view(&record))
    }

    /// A version below the floor of its name would be refused by every device that has seen the floor.
    fn check_floors(&self, slots: &[Slot]) -> Result<()> {
        for slot in slots {
            let records = self.version_records(&slot.model.name)?;
            let floor = records.iter().map(|record| record.published.floor).max();
            if let Some(floor) = floor.filter(|floor| slot.model.version < *floor) {
                return Err(Error::Refused(format!(
                    "{} is below the floor: version {floor} is the lowest of {} that may still run",
                    slot.model, slot.model.name
                )));
            }
        }
        Ok(())
    }

    /// Signs again what would expire. Returns the devices whose assignment is new.
    ///
    /// # Errors
    ///
    /// The state could not be read or saved; those before the failure are renewed.
    pub fn renew_assignments(&self) -> Result<Vec<DeviceId>> {
        let now = self.now_ms();
        let mut renewed = Vec::new();
        for record in self.assignment_records()? {
            let device = record.assigned.device.clone();
            if !model::due_for_renewal(&current_of(&record), now) {
                continue;
            }
            let turn = self.state().turn();
            // Somebody may have assigned between the list and this turn: look again.
            let Some(record) = self.current_assignment(&device)? else { continue };
            if self.quarantine_of(&device)?.is_some() {
                continue;
            }
            let slots = current_of(&record).slots;
            if self.sign(turn, &device, slots, Some(&record), AssignCause::Renewed, "registry")?.is_some() {
                renewed.push(device);
            }
        }
        Ok(renewed)
    }

    fn sign(
        &self,
        turn: Turn<'_>,
        device: &DeviceId,
        slots: Vec<Slot>,
        current: Option<&AssignmentRecord>,
        cause: AssignCause,
        by: &str,
    ) -> Result<Option<AssignmentRecord>> {
        let current = current.map(current_of);
        let lifetime_ms = self.inner.config.assignment_lifetime_ms;
        let Some(next) = model::next_assignment(device, slots, current.as_ref(), self.now_ms(), lifetime_ms) else {
            return Ok(None);
        };
        let envelope = envelope::seal(&next, &[&self.inner.keys.fleet]);
        if envelope.len() > MAX_ASSIGNMENT_BYTES + MAX_ENVELOPE_OVERHEAD_BYTES {
            return Err(Error::TooLarge(format!(
                "the assignment has {} bytes, {MAX_ASSIGNMENT_BYTES} are the limit: assign fewer streams",
                envelope.len()
            )));
        }
        let assigned = assigned(&next, cause, &envelope);
        self.state().change(turn, by, Change::Assigned(assigned))?;
        // No listener is no loss: the publisher sends all assignments when its session begins.
        drop(self.inner.changed.send(device.clone()));
        self.current_assignment(device)
    }

    /// The assignment of a device as the API shows it.
    ///
    /// # Errors
    ///
    /// It has none.
    pub fn assignment(&self, device: &DeviceId) -> Result<AssignmentView> {
        let record = self.current_assignment(device)?;
        record.as_ref().map(view).ok_or_else(|| Error::NotFound(format!("nothing is assigned to `{device}`")))
    }

    /// What a device should run; `None` when nothing was ever assigned, or the device is in quarantine.
    ///
    /// # Errors
    ///
    /// The store could not be read.
    pub fn desired_assignment(&self, device: &DeviceId) -> Result<Option<Desired>> {
        if self.quarantine_of(device)?.is_some() {
            return Ok(None);
        }
        self.current_assignment(device)?.map(desired).transpose()
    }

    /// What every device should run that is not in quarantine.
    ///
    /// # Errors
    ///
    /// The store could not be read.
    pub fn all_assignments(&self) -> Result<Vec<Desired>> {
        let mut all = Vec::new();
        for record in self.assignment_records()? {
            if self.quarantine_of(&record.assigned.device)?.is_none() {
                all.push(desired(record)?);
            }
        }
        Ok(all)
    }

    /// The assignment in force at a time.
    pub(crate) fn assignment_at(&self, device: &DeviceId, at_ms: i64) -> Result<Option<AssignmentView>> {
        for entry in self.state().store().prefix(keys::assignment_history(device).bytes()).rev() {
            let record: AssignmentRecord = from_json(&entry?.1)?;
            if record.assigned.issued_ms <= at_ms {
                return Ok(Some(view(&record)));
            }
        }
        Ok(None)
    }

    pub(crate) fn current_assignment(&self, device: &DeviceId) -> Result<Option<AssignmentRecord>> {
        Ok(self.state().store().get_json(keys::assignment(device))?)
    }

    fn assignment_records(&self) -> Result<Vec<AssignmentRecord>> {
        self.state().store().prefix(keys::assignments()).map(|entry| Ok(from_json(&entry?.1)?)).collect()
    }
}

fn assigned(next: &Assignment, cause: AssignCause, envelope: &[u8]) -> Assigned {
    let slot =
        |slot: &Slot| SlotView { stream: slot.stream.clone(), model: slot.model.clone(), manifest: slot.manifest };
    Assigned {
        device: next.audience.clone(),
        version: next.version,
        cause,
        issued_ms: next.issued_ms,
        expires_ms: next.expires_ms,
        slots: next.slots.iter().map(slot).collect(),
        envelope: STANDARD.encode(envelope),
    }
}

fn current_of(record: &AssignmentRecord) -> Current {
    let assigned = &record.assigned;
    let slot =
        |slot: &SlotView| Slot { stream: slot.stream.clone(), model: slot.model.clone(), manifest: slot.manifest };
    Current {
        version: assigned.version,
        issued_ms: assigned.issued_ms,
        expires_ms: assigned.expires_ms,
        slots: assigned.slots.iter().map(slot).collect(),
    }
}

fn desired(record: AssignmentRecord) -> Result<Desired> {
    let envelope = STANDARD
        .decode(&record.assigned.envelope)
        .with_context(|| format!("the assignment of {} in the store is not base64", record.assigned.device))?;
    Ok(Desired { device: record.assigned.device, version: record.assigned.version, envelope })
}

fn view(record: &AssignmentRecord) -> AssignmentView {
    let assigned = &record.assigned;
    AssignmentView {
        device: assigned.device.clone(),
        version: assigned.version,
        issued: format_ms(assigned.issued_ms),
        expires: format_ms(assigned.expires_ms),
        slots: assigned.slots.clone(),
        by: record.by.clone(),
        envelope: assigned.envelope.clone(),
    }
}
