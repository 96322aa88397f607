//! The status as lines: what is wrong, what there is in all, and a row for each app and certificate.

use std::time::Duration;

use time::OffsetDateTime;

use super::troubles::{Expiry, Trouble, ago, troubles};
use crate::admin::shapes::{App, AppState, Draining, Reload, Status, Verdict};
use crate::cli::show::human;
use crate::cli::show::paint::{Paint, Tone, cut, tame};
use crate::cli::show::table::{Cell, Table, left, right};

/// Details of one trouble that are shown; the rest is counted.
const DETAILS_MAX: usize = 8;

/// What is looked at, and how it is shown.
pub struct View<'a> {
    pub status: &'a Status,
    /// What was seen last, and how long ago: for what is used in a second.
    pub before: Option<(&'a Status, Duration)>,
    pub now: OffsetDateTime,
    /// Columns that there are; absent where it matters to nobody.
    pub width: Option<usize>,
    pub paint: Paint,
}

impl View<'_> {
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.troubles();
        lines.push(String::new());
        lines.extend(self.overview());
        for table in [self.apps(), self.certificates()] {
            if !table.is_empty() {
                lines.push(String::new());
                lines.extend(table.lines(self.width, self.paint));
            }
        }
        lines
    }

    fn troubles(&self) -> Vec<String> {
        let all = troubles(self.status, self.now);
        if all.is_empty() {
            let serving = self.status.apps.len();
            let text = match serving {
                0 => "nothing is wrong; there are no apps".to_owned(),
                1 => "nothing is wrong: 1 app serves".to_owned(),
                many => format!("nothing is wrong: {many} apps serve"),
            };
            return vec![self.paint.on(Tone::Good, &text)];
        }
        all.iter().flat_map(|trouble| self.trouble(trouble)).collect()
    }

    fn trouble(&self, trouble: &Trouble) -> Vec<String> {
        let mut lines = vec![self.paint.on(trouble.tone, &self.fitting(&trouble.title))];
        for detail in trouble.details.iter().take(DETAILS_MAX) {
            // A problem of the manifest has several lines, with its place and its help.
            lines.extend(detail.lines().map(|line| self.fitting(&format!("  {line}"))));
        }
        let more = trouble.details.len().saturating_sub(DETAILS_MAX);
        if more > 0 {
            lines.push(format!("  and {more} more"));
        }
        lines
    }

    fn overview(&self) -> Vec<String> {
        let status = self.status;
        let mut rows = vec![(
            "tidegate",
            format!(
                "{}, process {}, up {}",
                status.version.version,
                status.version.pid,
                human::duration(Duration::from_secs(status.uptime_seconds))
            ),
        )];
        rows.push(("manifest", format!("{}, generation {}", status.manifest, status.generation)));
        rows.extend(status.last_reload.as_ref().map(|reload| ("last change", self.reload(reload))));
        let listeners: Vec<_> =
            status.listeners.iter().map(|it| format!("{}://{}", it.scheme, it.address)).collect();
        rows.push(("listeners", listeners.join(", ")));
        rows.push(("instances", self.instances()));
        rows.push((
            "memory",
            format!(
                "{} of {} for instances",
                human::bytes(status.memory.used_bytes),
                human::bytes(status.memory.limit_bytes)
            ),
        ));
        rows.extend(status.warnings.iter().map(|warning| ("warning", warning.clone())));
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        rows.iter()
            .map(|(name, text)| {
                let name = self.paint.on(Tone::Faint, &format!("{name:width$}"));
                let left = self.width.map_or(usize::MAX, |all| all.saturating_sub(width + 2));
                format!("{name}  {}", cut(&tame(text), left))
            })
            .collect()
    }

    fn reload(&self, reload: &Reload) -> String {
        let result = match reload.result {
            Verdict::Started => "the start",
            Verdict::Unchanged => "unchanged",
            Verdict::Applied => "taken",
            Verdict::Partial => "taken in part",
            Verdict::Refused => "refused",
        };
        let took = reload.elapsed_ms.map_or(String::new(), |milliseconds| {
            format!(", took {}", human::latency(milliseconds / 1000.0))
        });
        format!("{result} {}{took}", ago(&reload.at, self.now))
    }

    fn instances(&self) -> String {
        let sum = |of: fn(&App) -> usize| self.status.apps.iter().map(of).sum::<usize>();
        let draining = self.status.draining.iter().map(|it| it.draining.instances).sum::<usize>()
            + sum(|app| app.draining.iter().map(|it| it.instances).sum());
        format!(
            "{} busy, {} idle, {draining} draining; {} requests in flight, {} wait",
            sum(|app| app.instances.busy + app.instances.starting + app.instances.post_return),
            sum(|app| app.instances.idle),
            sum(|app| app.in_flight),
            sum(|app| app.waiting)
        )
    }

    fn apps(&self) -> Table {
        let mut table = Table::new(&[
            left("APP", 0),
            left("STATE", 0),
            right("REQ/S", 0),
            right("ERR/S", 1),
            right("P50", 5),
            right("P99", 2),
            right("BUSY", 0),
            right("IDLE", 3),
            right("DRAINING", 5),
            right("QUEUE", 1),
            right("MEMORY", 4),
            right("CPU", 6),
            left("ROUTES", 9),
        ]);
        for app in &self.status.apps {
            let busy = app.instances.busy + app.instances.starting + app.instances.post_return;
            let queue = if app.waiting > 0 { Tone::Warning } else { Tone::Plain };
            table.row([
                Cell::from(&app.name),
                state(app),
                often(app.rates.requests_per_second, Tone::Plain),
                often(app.rates.errors_per_second, Tone::Bad),
                took(app.rates.p50_seconds),
                took(app.rates.p99_seconds),
                some(busy),
                some(app.instances.idle),
                draining(app),
                Cell::new(queue, human::count(app.waiting as u64)),
                human::bytes(app.memory_bytes).into(),
                self.cpu(app).into(),
                app.routes.join(", ").into(),
            ]);
        }
        // Apps that the manifest is without by now.
        for gone in &self.status.draining {
            table.row([
                Cell::from(&gone.app),
                Cell::new(Tone::Faint, "removed"),
                "".into(),
                "".into(),
                "".into(),
                "".into(),
                some(0),
                some(0),
                left_of(&gone.draining).into(),
            ]);
        }
        table
    }

    /// What it uses of a core; as long as that is not known, what it has used in all.
    fn cpu(&self, app: &App) -> String {
        let before = self.before.and_then(|(status, ago)| {
            let before = status.apps.iter().find(|before| before.name == app.name)?;
            Some((before.cpu_seconds, ago.as_secs_f64()))
        });
        match before {
            Some((used, ago)) if ago > 0.0 => {
                human::percent((app.cpu_seconds - used).max(0.0) / ago)
            }
            _ => human::latency(app.cpu_seconds),
        }
    }

    fn certificates(&self) -> Table {
        let mut table = Table::new(&[
            left("CERTIFICATE", 0),
            left("EXPIRES", 0),
            left("FROM", 3),
            left("ISSUER", 5),
        ]);
        let mut all: Vec<_> = self.status.certificates.iter().collect();
        // Those without one are issued at the first handshake.
        all.sort_by_key(|it| it.expires.clone().unwrap_or_else(|| "~".to_owned()));
        for certificate in all {
            let expires = match certificate.expires.as_deref() {
                None => Cell::new(Tone::Faint, "not issued yet"),
                Some(expires) => Expiry::of(expires, self.now)
                    .map_or(expires.into(), |expiry| Cell::new(expiry.tone(), expiry.text())),
            };
            let source = serde_json::to_value(certificate.source).ok();
            let source = source.and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default();
            table.row([
                Cell::from(&certificate.host),
                expires,
                source.into(),
                certificate.issuer.as_deref().unwrap_or_default().into(),
            ]);
        }
        table
    }

    fn fitting(&self, line: &str) -> String {
        cut(&tame(line), self.width.unwrap_or(usize::MAX))
    }
}

/// How often in a second, in the last minute.
fn often(rate: f64, tone: Tone) -> Cell {
    let tone = if rate > 0.0 { tone } else { Tone::Faint };
    Cell::new(tone, human::amount(rate))
}

fn took(seconds: Option<f64>) -> Cell {
    seconds.map_or(Cell::new(Tone::Faint, "-"), |seconds| human::latency(seconds).into())
}

fn some(count: usize) -> Cell {
    let tone = if count == 0 { Tone::Faint } else { Tone::Plain };
    Cell::new(tone, human::count(count as u64))
}

/// How many instances of which generations are left.
fn draining(app: &App) -> Cell {
    let all: Vec<_> = app.draining.iter().map(left_of).collect();
    match all.is_empty() {
        true => some(0),
        false => all.join(", ").into(),
    }
}

fn left_of(draining: &Draining) -> String {
    format!("{} of {}", draining.instances, draining.generation)
}

fn state(app: &App) -> Cell {
    if app.drained {
        return Cell::new(Tone::Warning, "drained");
    }
    match app.state {
        AppState::Serving => Cell::new(Tone::Good, "serving"),
        AppState::Stale => Cell::new(Tone::Warning, "stale"),
        AppState::Failed => Cell::new(Tone::Bad, "failed"),
        AppState::Compiling => Cell::new(Tone::Warning, "compiling"),
    }
}
