//! What an app can be told, for itself or in `[defaults]`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::app::{App, AppName, Limits};
use super::origin::Origin;
use super::problem::Located;
use super::profile::{Profile, profile};
use super::read::{Table, Value, quoted};

/// What waits longer than a day waits for ever.
pub(super) const MAX_TIMEOUT: Duration = Duration::from_secs(86_400);
pub(super) const MAX_KEPT_FILES: usize = 100_000;
pub(super) const MAX_TOTAL_SIZE: u64 = 1 << 50;
const MAX_INSTANCES: usize = 4000;
const MAX_CONCURRENT_PER_INSTANCE: usize = 4096;
const MAX_REQUESTS_PER_INSTANCE: usize = 1_000_000_000;
/// One page: a component with less has no memory at all.
const MIN_MEMORY: u64 = 64 << 10;
/// Addresses of guests have 32 bits.
const MAX_MEMORY: u64 = 4 << 30;
pub(super) const MAX_NODE_MEMORY: u64 = 1 << 50;
const MAX_CPU_WEIGHT: usize = 10_000;
const MAX_IN_FLIGHT: usize = 1_000_000;
const MAX_BODY: u64 = 1 << 50;
const MAX_LOG_LINES: usize = 1_000_000;
const MAX_OUTBOUND: usize = 10_000;
const MAX_ORIGINS: usize = 256;

/// What `[defaults]` and an app can both say.
#[derive(Clone, Default)]
pub(super) struct Settings {
    env: BTreeMap<String, String>,
    args: Vec<String>,
    limits: Limits,
    outbound: BTreeSet<Origin>,
    profile: Option<Profile>,
    dev: bool,
}

impl Settings {
    /// The app that these settings make of a component.
    pub fn app(self, component: Located<PathBuf>) -> App {
        App {
            component,
            env: self.env,
            args: self.args,
            limits: self.limits,
            outbound: self.outbound,
            profile: self.profile,
            dev: self.dev,
        }
    }
}

/// Reads settings; those not given are `base`'s.
pub(super) fn settings(table: &mut Table<'_>, base: &Settings) -> Settings {
    let mut env = base.env.clone();
    env.extend(table.take("env", environment).unwrap_or_default());

    Settings {
        env,
        args: table
            .take("args", |value| value.strings("--verbose"))
            .unwrap_or_else(|| base.args.clone()),
        limits: limits(table, &base.limits),
        outbound: table
            .take("outbound", |value| value.origins(MAX_ORIGINS))
            .unwrap_or_else(|| base.outbound.clone()),
        profile: match table.take("profile", |value| profile(value, base.profile.as_ref())) {
            Some(profile) => profile,
            None => base.profile.clone(),
        },
        dev: table.take("dev", |value| value.flag()).unwrap_or(base.dev),
    }
}

fn limits(table: &mut Table<'_>, base: &Limits) -> Limits {
    let mut timeout =
        |key, base| table.take(key, |value| value.duration(MAX_TIMEOUT)).unwrap_or(base);
    let request_timeout = timeout("request_timeout", base.request_timeout);
    let stream_idle_timeout = timeout("stream_idle_timeout", base.stream_idle_timeout);
    let post_return_timeout = timeout("post_return_timeout", base.post_return_timeout);
    let idle_timeout = timeout("idle_timeout", base.idle_timeout);
    let cpu_time = timeout("cpu_time", base.cpu_time);
    let queue_timeout = timeout("queue_timeout", base.queue_timeout);
    let outbound_timeout = timeout("outbound_timeout", base.outbound_timeout);

    let mut count = |key, most, base| table.take(key, |value| value.count(most)).unwrap_or(base);
    let cpu_weight = count("cpu_weight", MAX_CPU_WEIGHT, base.cpu_weight);
    let max_requests_per_instance = count(
        "max_requests_per_instance",
        MAX_REQUESTS_PER_INSTANCE,
        base.max_requests_per_instance,
    );
    let max_concurrent_per_instance = count(
        "max_concurrent_per_instance",
        MAX_CONCURRENT_PER_INSTANCE,
        base.max_concurrent_per_instance,
    );
    let max_instances = count("max_instances", MAX_INSTANCES, base.max_instances);
    let max_in_flight = count("max_in_flight", MAX_IN_FLIGHT, base.max_in_flight);
    let log_rate = count("log_rate", MAX_LOG_LINES, base.log_rate);
    let log_burst = count("log_burst", MAX_LOG_LINES, base.log_burst);
    let max_outbound = count("max_outbound", MAX_OUTBOUND, base.max_outbound);
    let queue = table.take("queue", |value| value.number(MAX_IN_FLIGHT)).unwrap_or(base.queue);

    let mut size =
        |key, least, most, base| table.take(key, |value| value.size(least, most)).unwrap_or(base);
    Limits {
        request_timeout,
        stream_idle_timeout,
        post_return_timeout,
        idle_timeout,
        cpu_weight,
        cpu_time,
        max_requests_per_instance,
        max_concurrent_per_instance,
        max_instances,
        memory: size("memory", MIN_MEMORY, MAX_MEMORY, base.memory),
        app_memory: size("app_memory", MIN_MEMORY, MAX_NODE_MEMORY, base.app_memory),
        max_in_flight,
        queue,
        queue_timeout,
        max_request_body: size("max_request_body", 0, MAX_BODY, base.max_request_body),
        max_response_body: size("max_response_body", 0, MAX_BODY, base.max_response_body),
        log_rate,
        log_burst,
        max_outbound,
        outbound_timeout,
        max_outbound_body: size("max_outbound_body", 0, MAX_BODY, base.max_outbound_body),
    }
}

fn environment(value: &Value<'_>) -> Option<BTreeMap<String, String>> {
    let mut table =
        value.as_table("a table such as { GREETING = \"hi\" }", "write { NAME = \"VALUE\" }")?;
    let variable = |(name, value): (&str, Value<'_>)| {
        if name.is_empty() || name.contains(['=', '\0']) {
            return value.reject(
                "an environment variable's name is not empty and has no `=`",
                "write another name",
            );
        }
        match value.string("hi")? {
            text if text.contains('\0') => {
                value.reject("an environment variable holds no NUL", "leave it out")
            }
            text => Some((name.to_owned(), text.to_owned())),
        }
    };
    Some(table.entries().into_iter().filter_map(variable).collect())
}

/// Reads one of `[apps]`.
pub(super) fn named_app(
    name: &str,
    value: &Value<'_>,
    defaults: &Settings,
) -> Option<(AppName, App)> {
    let app_name = AppName::parse(name);
    if app_name.is_none() {
        let help = "use up to 200 letters, digits, `-`, `_` and `.`, with a letter or digit first";
        value.reject::<()>(format!("{} cannot be the name of an app", quoted(name)), help);
    }

    let help = match value.text() {
        Some(path) => format!("write {{ component = {} }}", quoted(path)),
        None => "write { component = \"apps/hello.wasm\" }".to_owned(),
    };
    let table = value.as_table("a table with a `component`", &help)?;
    let (component, settings) = table.read(|table| {
        let component = required_path(table, "component", &format!("apps/{name}.wasm"));
        (component, settings(table, defaults))
    });
    Some((app_name?, settings.app(component?)))
}

/// A path that must be there.
pub(super) fn required_path(
    table: &mut Table<'_>,
    key: &'static str,
    example: &str,
) -> Option<Located<PathBuf>> {
    table.require(key, &quoted(example), |value| value.located_path(example))
}

/// A default that is a count.
pub(super) fn count(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN)
}
