//! `max_in_flight`, `queue` and `queue_timeout`.
