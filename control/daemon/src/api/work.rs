//! Threads that answer requests. What only reads is answered from what is published, beside any change; changes
//! follow each other.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::Waker;
use pontoon_proto::api::{Request, Response};
use pontoon_proto::request::Class;

use super::client::encode;
use crate::events::Subscription;
use crate::failure::{Answer, internal};
use crate::known::Shared;

/// Threads for requests that only read.
const READERS: usize = 2;

/// A request of the connection numbered so. A connection has one at most, so their number is bounded.
struct Job {
    client: usize,
    request: Request,
}

/// The answer to it, ready to be sent.
pub(crate) struct Done {
    pub(crate) client: usize,
    pub(crate) message: Vec<u8>,
    /// Goes with it.
    pub(crate) fd: Option<OwnedFd>,
    /// What the connection is told from now on.
    pub(crate) subscription: Option<Subscription>,
}

pub(crate) struct Work {
    reads: Sender<Job>,
    changes: Sender<Job>,
    done: Receiver<Done>,
}

impl Work {
    /// Starts the threads; they end when this is dropped.
    pub(crate) fn start(shared: &Arc<Shared>, waker: &Arc<Waker>) -> std::io::Result<Self> {
        let ((reads, to_read), (changes, to_change), (finished, done)) =
            (unbounded(), unbounded(), unbounded());
        let hand_in = {
            let waker = Arc::clone(waker);
            move |client, response: &Response, (fd, subscription)| {
                // The server has ended if nobody takes it.
                let _ = finished.send(Done { client, message: encode(response), fd, subscription });
                let _ = waker.wake();
            }
        };
        for _ in 0..READERS {
            let (shared, hand_in) = (Arc::clone(shared), hand_in.clone());
            let (jobs, changes): (Receiver<Job>, Sender<Job>) = (to_read.clone(), changes.clone());
            let run = move || {
                for job in jobs {
                    match guarded(|| shared.known().look_up(&job.request).map(Response::from)) {
                        Ok(Some(response)) => hand_in(job.client, &response, (None, None)),
                        Ok(None) => drop(changes.send(job)),
                        Err(failure) => hand_in(job.client, &Response::Error(failure), (None, None)),
                    }
                }
            };
            std::thread::Builder::new().name("api-read".into()).spawn(run)?;
        }
        let shared = Arc::clone(shared);
        let run = move || {
            for job in to_change {
                let answer = || {
                    let mut state = shared.lock();
                    (state.answer(job.request), (state.handed.take(), state.subscribed.take()))
                };
                let (response, rest) =
                    guarded(answer).unwrap_or_else(|failure| (Response::Error(failure), (None, None)));
                hand_in(job.client, &response, rest);
            }
        };
        std::thread::Builder::new().name("api-change".into()).spawn(run)?;
        Ok(Self { reads, changes, done })
    }

    pub(crate) fn give(&self, client: usize, request: Request) {
        let queue = if request.class() == Class::Read { &self.reads } else { &self.changes };
        // The threads outlive this.
        let _ = queue.send(Job { client, request });
    }

    pub(crate) fn done(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }
}

/// A verb that panics costs its caller an answer, and nobody else anything.
fn guarded<T>(verb: impl FnOnce() -> T) -> Answer<T> {
    catch_unwind(AssertUnwindSafe(verb))
        .map_err(|_| internal("the request failed in a way nobody foresaw; the log has more"))
}
