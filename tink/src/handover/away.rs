// SPDX-License-Identifier: Apache-2.0

//! What of a move is borne: a server that does not answer for a moment, and a Lease that is lost and comes back.
//!
//! Owns how long, and that it is told once.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Event, MoveError};
use crate::{connect::ANSWER, output};

/// How long a server may stay away in the middle of a move, or the Lease be lost: an API server on few machines restarts, and its
/// address moves between them. The daemons of both sides wait meanwhile.
pub(super) const AWAY: Duration = Duration::from_secs(300);
/// How often it is asked meanwhile.
pub(super) const RETRY: Duration = Duration::from_secs(2);

/// A server that does not answer for a moment: since when, and what was told of it.
#[derive(Default)]
pub(super) struct Away {
    since: Option<Instant>,
    told: Option<String>,
}

impl Away {
    /// Waits a little after an attempt that began at `asked`; gives the error back that does not pass, or not soon enough.
    pub(super) async fn bear(
        &mut self,
        events: &mpsc::Sender<Event>,
        error: MoveError,
        asked: Instant,
    ) -> Result<(), MoveError> {
        let Some((on, problem)) = error.may_pass() else { return Err(error) };
        // What went on for longer than one answer may take had others before.
        if asked.elapsed() > 2 * ANSWER {
            *self = Self::default();
        }
        let since = *self.since.get_or_insert(asked);
        if since.elapsed() > AWAY {
            return Err(error);
        }
        let (on, reason) = (on.to_owned(), format!("an answer: {}", output::problem(problem)));
        if self.told.as_ref() != Some(&reason) {
            let seconds = since.elapsed().as_secs();
            self.told = Some(reason.clone());
            // Whoever prints may have left; the move goes on.
            events.send(Event::Waits { on, reason, seconds }).await.unwrap_or_default();
        }
        tokio::time::sleep(RETRY).await;
        Ok(())
    }
}

/// Since when the Lease is lost, unless the end was asked for.
#[derive(Clone)]
pub(super) struct Lost {
    since: watch::Sender<Option<tokio::time::Instant>>,
    pub(super) asked: CancellationToken,
}

/// A term of holding the Lease: it is lost when this is dropped, whatever ended the work.
pub(super) struct Term(Lost);

impl Drop for Term {
    fn drop(&mut self) {
        if !self.0.asked.is_cancelled() {
            self.0.since.send_replace(Some(tokio::time::Instant::now()));
        }
    }
}

impl Lost {
    pub(super) fn new(asked: CancellationToken) -> Self {
        Self { since: watch::Sender::new(None), asked }
    }

    pub(super) fn term(&self) -> Term {
        self.since.send_replace(None);
        Term(self.clone())
    }

    /// Until it is lost for longer than [`AWAY`].
    pub(super) async fn for_good(&self) {
        let mut since = self.since.subscribe();
        loop {
            let begun = *since.borrow_and_update();
            let late = async {
                match begun {
                    Some(begun) => tokio::time::sleep_until(begun + AWAY).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // Its other end is here.
                changed = since.changed() => changed.unwrap_or_default(),
                () = late => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::channel;

    async fn is_lost(lost: &Lost, within: Duration) -> bool {
        tokio::time::timeout(within, lost.for_good()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_lost_for_good_when_it_does_not_come_back_in_time() {
        let asked = CancellationToken::new();
        let lost = Lost::new(asked.clone());
        let term = lost.term();
        assert!(!is_lost(&lost, 3 * AWAY).await, "it is held");
        drop(term);
        assert!(!is_lost(&lost, AWAY / 2).await, "it may come back");
        let term = lost.term();
        assert!(!is_lost(&lost, 3 * AWAY).await, "it came back");
        drop(term);
        assert!(is_lost(&lost, 3 * AWAY).await, "it did not come back");
        let term = lost.term();
        asked.cancel();
        drop(term);
        assert!(!is_lost(&lost, 3 * AWAY).await, "the end was asked for");
    }

    fn refused(code: u16) -> MoveError {
        let status = kube::core::Status { code, ..kube::core::Status::default() };
        MoveError::of("https://a", "the journal", kube::Error::Api(Box::new(status)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_is_borne_for_a_while_and_told_once() {
        let (sender, mut events) = channel();
        let mut away = Away::default();
        for _ in 0..3 {
            assert!(away.bear(&sender, refused(503), Instant::now()).await.is_ok());
        }
        assert!(matches!(events.try_recv(), Ok(Event::Waits { .. })) && events.try_recv().is_err());
        assert!(away.bear(&sender, refused(403), Instant::now()).await.is_err(), "a refusal stays one");
        away.since = Instant::now().checked_sub(AWAY + RETRY);
        assert!(away.bear(&sender, refused(503), Instant::now()).await.is_err(), "it is away for too long");
        let long = Instant::now().checked_sub(3 * ANSWER).unwrap();
        away.since = Instant::now().checked_sub(AWAY + RETRY);
        assert!(away.bear(&sender, refused(503), long).await.is_ok(), "it was there in between");
    }
}
