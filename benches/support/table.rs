//! Tables on standard output, and figures beside their targets.

use std::fs::OpenOptions;
use std::io::Write;

/// Prints rows under a title, the first column left, the others right.
pub fn print(title: &str, head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            line += &match column {
                0 => format!("{cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        println!("{}", line.trim_end());
    };
    println!("\n{title}");
    line(&head.iter().map(ToString::to_string).collect::<Vec<_>>());
    rows.iter().for_each(|row| line(row));
}

/// What was promised of a figure.
pub struct Target {
    what: String,
    value: f64,
    most: f64,
    unit: &'static str,
}

impl Target {
    pub fn at_most(what: impl Into<String>, value: f64, most: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, most, unit }
    }
}

/// Prints the figures without their targets, where nothing was promised.
pub fn figures(title: &str, targets: &[Target]) {
    let figure = |Target { what, value, unit, .. }: &Target| {
        vec![what.clone(), format!("{value:.2} {unit}").trim_end().to_owned()]
    };
    print(title, &["", "is"], &targets.iter().map(figure).collect::<Vec<_>>());
}

/// Prints targets and whether they are met.
pub fn targets(title: &str, targets: &[Target]) {
    let rows: Vec<_> = targets
        .iter()
        .map(|target| {
            let Target { what, value, most, unit } = target;
            let verdict = match *value {
                value if value.is_nan() => "not measured",
                value if value <= *most => "met",
                _ => "MISSED",
            };
            vec![
                what.clone(),
                format!("{value:.2} {unit}").trim_end().to_owned(),
                format!("{most} {unit}").trim_end().to_owned(),
                verdict.to_owned(),
            ]
        })
        .collect();
    print(title, &["target", "is", "at most", ""], &rows);
}

/// Adds what was shown to the file that `TIDEGATE_HOLDS` names, if it names one: `tests/holds.sh`
/// makes a page of it.
pub fn record(part: &str, tried: &str, times: usize, targets: &[Target]) {
    let Some(path) = std::env::var_os("TIDEGATE_HOLDS") else { return };
    let rows: String = targets
        .iter()
        .map(|Target { what, value, most, unit }| {
            let row = serde_json::json!({
                "part": part,
                "tried": format!("{tried}: {what}"),
                "times": times,
                "bound": format!("at most {most} {unit}").trim_end(),
                "figure": format!("{value:.2} {unit}").trim_end(),
                "pass": value <= most,
            });
            format!("{row}\n")
        })
        .collect();
    let file = OpenOptions::new().append(true).create(true).open(path);
    let written = file.and_then(|mut file| file.write_all(rows.as_bytes()));
    written.expect("write to the file that TIDEGATE_HOLDS names");
}
