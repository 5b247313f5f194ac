//! One transaction for several parts of the code that each begin and commit one of their own.

use std::sync::{Arc, Mutex, PoisonError};

use super::Tx;

/// A transaction whose parts are begun with [`Joint::begin`], one after the other. [`Tx::commit`] of a part hands the whole
/// back; who made the joint adds what belongs to it and commits for all. A part that is dropped takes the whole with it:
/// nothing happened.
#[derive(Clone)]
pub struct Joint(Arc<Mutex<Held>>);

enum Held {
    Fresh(Tx),
    /// A part has it, or dropped it.
    Taken,
    HandedBack(Tx),
}

impl Joint {
    pub fn new(tx: Tx) -> Self {
        Self(Arc::new(Mutex::new(Held::Fresh(tx))))
    }

    /// A part of it.
    ///
    /// # Errors
    /// `BeginFailed` while another part has it, or after one was dropped.
    pub fn begin(&self) -> sqlx::Result<Tx> {
        match self.replace(Held::Taken) {
            Held::Fresh(mut tx) | Held::HandedBack(mut tx) => {
                tx.joint = Some(self.clone());
                Ok(tx)
            }
            Held::Taken => Err(sqlx::Error::BeginFailed),
        }
    }

    /// Goes on with another transaction, after a part took the one before with it.
    pub fn renew(&self, tx: Tx) {
        self.replace(Held::Fresh(tx));
    }

    /// The whole, if its last part was committed.
    pub fn end(&self) -> Option<Tx> {
        match self.replace(Held::Taken) {
            Held::HandedBack(tx) => Some(tx),
            Held::Fresh(_) | Held::Taken => None,
        }
    }

    pub(super) fn hand_back(&self, tx: Tx) {
        self.replace(Held::HandedBack(tx));
    }

    fn replace(&self, held: Held) -> Held {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), held)
    }
}
