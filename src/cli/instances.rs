//! `tidegate instances APP`: what each instance of an app does, and which requests it works on.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::admin_client::{Ask, escaped};
use super::print;
use super::show::human;
use super::show::paint::{Paint, Tone};
use super::show::screen;
use super::show::table::{Cell, Table, left, right};
use crate::admin::shapes::{Instance, Instances, InstancesOf};
use crate::pool::State;

#[derive(Args)]
pub struct Options {
    /// The app's name in the manifest
    #[arg(value_name = "APP")]
    app: String,
    #[command(flatten)]
    ask: Ask,
}

pub fn instances(options: &Options) -> ExitCode {
    let client = match options.ask.client() {
        Ok(client) => client,
        Err(code) => return code,
    };
    let path = format!("/v1/apps/{}/instances", escaped(&options.app));
    if options.ask.json {
        return super::pass_on(&client, &path);
    }
    match client.get::<Instances>(&path) {
        Ok(instances) => print(&text(&instances, screen::width(), Paint::for_stdout())),
        Err(trouble) => trouble.report(),
    }
}

fn text(all: &Instances, width: Option<usize>, paint: Paint) -> String {
    let mut lines = Vec::new();
    for pool in &all.pools {
        lines.push(paint.on(Tone::Title, &title(pool)));
        let mut table = Table::new(&[
            right("INSTANCE", 0),
            left("STATE", 0),
            right("AGE", 2),
            right("SERVED", 5),
            right("MEMORY", 3),
            right("CPU", 6),
            right("IN FLIGHT", 1),
            right("LONGEST", 0),
            left("REQUESTS", 9),
        ]);
        pool.instances.iter().for_each(|instance| table.row(row(instance)));
        if !table.is_empty() {
            lines.extend(table.lines(width, paint));
        }
    }
    if lines.is_empty() {
        lines.push(format!("{} has no instances", all.app));
    }
    lines.join("\n")
}

fn title(pool: &InstancesOf) -> String {
    let what = match (pool.serves, pool.evicting) {
        (true, false) => "serves",
        (true, true) => "serves, and its idle instances leave",
        (false, _) => "drains",
    };
    let count = match pool.instances.len() {
        0 => "no instances".to_owned(),
        1 => "1 instance".to_owned(),
        many => format!("{many} instances"),
    };
    let generation = pool.generation;
    match pool.waiting {
        0 => format!("generation {generation} {what}: {count}"),
        waiting => format!("generation {generation} {what}: {count}, {waiting} requests wait"),
    }
}

fn row(instance: &Instance) -> [Cell; 9] {
    let longest = instance.requests.iter().map(|it| it.running_seconds).fold(0.0, f64::max);
    let ids: Vec<_> = instance.requests.iter().map(|request| request.id.as_str()).collect();
    let (state, tone) = match instance.state {
        State::Starting => ("starting", Tone::Plain),
        State::Idle => ("idle", Tone::Faint),
        State::Busy => ("busy", Tone::Good),
        State::PostReturn => ("post-return", Tone::Plain),
        State::Leaving => ("leaving", Tone::Warning),
    };
    [
        instance.id.to_string().into(),
        Cell::new(tone, state),
        human::duration(Duration::from_secs_f64(instance.age_seconds.max(0.0))).into(),
        human::count(instance.served).into(),
        human::bytes(instance.memory_bytes).into(),
        human::latency(instance.cpu_seconds).into(),
        ids.len().to_string().into(),
        if ids.is_empty() { String::new() } else { human::latency(longest) }.into(),
        ids.join(", ").into(),
    ]
}
