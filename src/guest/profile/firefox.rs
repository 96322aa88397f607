//! Samples as JSON for <https://profiler.firefox.com>, in its "processed profile format".

use std::time::{Duration, Instant, SystemTime};

use fxprof_processed_profile::{
    CategoryColor, CategoryHandle, CpuDelta, Frame, FrameFlags, FrameInfo, MarkerFieldFlags,
    MarkerFieldFormat, MarkerTiming, Profile, StaticSchemaMarker, StaticSchemaMarkerField,
    StringHandle, Timestamp,
};

use super::samples::{Sample, Samples};

/// A row of its own in the profiler: what the format calls a thread.
pub struct Track<'a> {
    pub name: String,
    pub samples: Vec<&'a Sample>,
    /// The request that it shows.
    pub request: Option<Span>,
}

/// A time with a name.
pub struct Span {
    pub name: String,
    pub from: Instant,
    pub to: Instant,
}

/// The profile of `app` since `began`: `samples`, each in its track, offered once an `interval`.
///
/// # Errors
/// None that is known of: what is written has no keys that are not strings.
pub fn json(
    app: &str,
    began: Instant,
    interval: Duration,
    samples: &Samples,
    tracks: &[Track<'_>],
) -> serde_json::Result<Vec<u8>> {
    let wall = SystemTime::now().checked_sub(began.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH);
    let interval = interval.saturating_mul(samples.stride());
    let mut profile = Profile::new(app, wall.into(), interval.into());
    let category = profile.add_category("Guest", CategoryColor::Blue);
    let since = |time: Instant| {
        let nanos = time.saturating_duration_since(began).as_nanos();
        Timestamp::from_nanos_since_reference(u64::try_from(nanos).unwrap_or(u64::MAX))
    };
    let pid = std::process::id();
    let process = profile.add_process(app, pid, since(began));
    for (number, track) in (1..).zip(tracks) {
        // A main thread would have the name of its process.
        let thread = profile.add_thread(process, number, since(began), false);
        profile.set_thread_name(thread, &track.name);
        profile.set_thread_show_markers_in_timeline(thread, true);
        if let Some(span) = &track.request {
            let name = profile.intern_string("request");
            let text = profile.intern_string(&span.name);
            let timing = MarkerTiming::Interval(since(span.from), since(span.to));
            profile.add_marker(thread, timing, Request { name, text });
        }
        let mut last = None;
        for sample in &track.samples {
            let frames: Vec<_> = samples
                .stack(sample)
                .map(|name| FrameInfo {
                    frame: Frame::Label(profile.intern_string(name)),
                    category_pair: category.into(),
                    flags: FrameFlags::empty(),
                })
                .collect();
            let stack = profile.intern_stack_frames(thread, frames.into_iter());
            // A sample stands for an interval of computing, or less if there was not that much time.
            let passed = last.map_or(interval, |last| sample.at.saturating_duration_since(last));
            let cpu = CpuDelta::from(interval.min(passed));
            profile.add_sample(thread, since(sample.at), stack, cpu, 1);
            last = Some(sample.at);
        }
    }
    serde_json::to_vec(&profile)
}

/// Marks the time of a request.
struct Request {
    name: StringHandle,
    text: StringHandle,
}

impl StaticSchemaMarker for Request {
    const UNIQUE_MARKER_TYPE_NAME: &'static str = "Text";
    const CHART_LABEL: Option<&'static str> = Some("{marker.data.name}");
    const TABLE_LABEL: Option<&'static str> = Some("{marker.data.name}");
    const FIELDS: &'static [StaticSchemaMarkerField] = &[StaticSchemaMarkerField {
        key: "name",
        label: "Request",
        format: MarkerFieldFormat::String,
        flags: MarkerFieldFlags::SEARCHABLE,
    }];

    fn name(&self, _: &mut Profile) -> StringHandle {
        self.name
    }

    fn category(&self, _: &mut Profile) -> CategoryHandle {
        CategoryHandle::OTHER
    }

    fn string_field_value(&self, _: u32) -> StringHandle {
        self.text
    }

    fn number_field_value(&self, _: u32) -> f64 {
        // Its only field is a string.
        0.0
    }
}
