//! What is seen of a request: for the counters always, and for the access log where it is read.

use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;

use super::access::Record;
use crate::config::Host;
use crate::generation::{Generation, Route};
use crate::stats::{Answered, Class, InFlight, Received};

/// See the module. Dropping it is the end of the request.
pub struct Observed {
    begun: Instant,
    /// Absent until it is known whose request it is.
    in_flight: Option<InFlight>,
    /// Absent until there is an answer.
    class: Option<Class>,
    /// Of the answer's body.
    bytes: u64,
    is_cut: bool,
    pub record: Option<Box<Record>>,
}

impl Observed {
    /// Of a request whose head is complete now.
    pub fn begin(record: Option<Box<Record>>) -> Observed {
        Observed {
            begun: Instant::now(),
            in_flight: None,
            class: None,
            bytes: 0,
            is_cut: false,
            record,
        }
    }

    /// It is for `host`, and this route answers it, if any does.
    pub fn is_for(&mut self, host: Host, route: Option<&Route>) {
        self.in_flight = route.map(|route| route.requests.begin());
        if let Some(record) = &mut self.record {
            record.host = Some(host);
            if let Some(route) = route {
                record.matched(route);
            }
        }
    }

    /// Counts it as one that no route answers, unless it is known that one does.
    pub fn unless_routed(&mut self, generation: &Generation) {
        self.in_flight.get_or_insert_with(|| generation.unrouted.begin());
    }

    /// What counts the bytes of its body.
    pub fn received(&self) -> Option<Received> {
        self.in_flight.as_ref().map(InFlight::received)
    }

    /// The answer's head is there, with the length of its body where it is known.
    pub fn answered(&mut self, status: StatusCode, length: impl FnOnce() -> Option<u64>) {
        self.class = Some(Class::of(status));
        if let Some(in_flight) = &self.in_flight {
            in_flight.head_took(self.begun.elapsed());
        }
        if let Some(record) = &mut self.record {
            record.answered(status, length());
        }
    }

    /// A frame of the body, or its end.
    pub fn note<E>(&mut self, frame: &Option<Result<Frame<Bytes>, E>>) {
        match frame {
            Some(Ok(frame)) => self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => self.is_cut = true,
            None => {}
        }
        if let Some(record) = &mut self.record {
            record.note(frame);
        }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        let Observed { bytes, is_cut, .. } = *self;
        match (self.in_flight.take(), self.class) {
            (Some(in_flight), Some(class)) => {
                in_flight.answered(Answered { class, took, bytes, is_cut });
            }
            (Some(in_flight), None) => in_flight.left(took),
            (None, _) => {}
        }
        if let Some(record) = &mut self.record {
            record.took = took;
        }
    }
}
