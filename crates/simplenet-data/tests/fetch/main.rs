//! Downloads, from a server on this machine that misbehaves in every way a server can.

mod download;
mod extract;
mod server;
mod sources;
mod tarball;

use std::time::Duration;

use simplenet_data::fetch::{Event, Retry};

/// Four tries, one after the other.
const HASTY: Retry = Retry {
    attempts: 4,
    pause: Duration::from_millis(1),
};

/// What happened, as text, without the counting.
#[derive(Default)]
struct Log(Vec<String>);

impl Log {
    fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Resuming { bytes, .. } => self.0.push(format!("resuming at {bytes}")),
            Event::Restarting { reason, .. } => self.0.push(format!("restarting: {reason}")),
            Event::Retrying { reason, .. } => self.0.push(format!("retrying: {reason}")),
            Event::MovedAside { .. } => self.0.push("moved aside".to_owned()),
            _ => {}
        }
    }
}

/// Bytes that do not repeat, so that none can stand for another.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(next).collect()
}
