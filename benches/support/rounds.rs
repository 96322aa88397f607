//! Contestants that take turns, and the table of what they cost.

use std::fmt::Display;
use std::time::Duration;

use super::figures::{median, order};
use super::guests::Errand;
use super::load::{self, Round, Whom};
use super::machine::setting;
use super::table;

/// One of them, running.
pub struct Contestant<W> {
    pub who: W,
    pub whom: Whom,
    /// The processes whose work it is.
    pub pids: Vec<u32>,
    pub rounds: Vec<Round>,
}

impl<W> Contestant<W> {
    pub fn new(who: W, whom: Whom, pids: Vec<u32>) -> Self {
        Self { who, whom, pids, rounds: Vec::new() }
    }
}

/// Has each of them asked in turn, as often and as long as the settings say; how often that was.
pub async fn take_turns<W>(contestants: &mut [Contestant<W>], errand: Errand) -> usize {
    let rounds = setting("ROUNDS", 7.0) as usize;
    let time = Duration::from_secs_f64(setting("SECONDS", 0.7));
    for round in 0..rounds {
        for which in order(round, contestants.len()) {
            let Contestant { whom, pids, .. } = &contestants[which];
            let figures = load::round(whom, errand, connections(), time, pids).await;
            contestants[which].rounds.push(figures);
        }
    }
    rounds
}

fn connections() -> usize {
    setting("CONNECTIONS", 16.0) as usize
}

/// What a request cost `who` in each round; nothing of one who was not there.
pub fn costs<W: PartialEq>(contestants: &[Contestant<W>], who: W) -> Vec<f64> {
    let contestant = contestants.iter().find(|contestant| contestant.who == who);
    contestant.into_iter().flat_map(|it| &it.rounds).map(|round| round.cpu).collect()
}

/// Prints the medians of all.
pub fn print<W: Display>(title: &str, contestants: &[Contestant<W>]) {
    let rows: Vec<_> = contestants
        .iter()
        .map(|contestant| {
            let figure = |of: fn(&Round) -> f64| median(contestant.rounds.iter().map(of));
            vec![
                contestant.who.to_string(),
                format!("{:.0}", figure(|round| round.requests_per_second)),
                format!("{:.0}", figure(|round| round.p50)),
                format!("{:.0}", figure(|round| round.p99)),
                format!("{:.1}", figure(|round| round.cpu)),
            ]
        })
        .collect();
    let title = format!("{title}, {} connections", connections());
    table::print(&title, &["", "requests/s", "p50 us", "p99 us", "CPU us"], &rows);
}
