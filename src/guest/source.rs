//! Which source lines a component's code came from, by the DWARF that it may have.
//!
//! Read from the component's file and only when a guest has failed: wasmtime would parse it at
//! each trap, on the thread that serves. The tables are gone through line by line and never
//! held, so that a file made to be costly takes no memory, and no more than its time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use gimli::{
    AttributeValue, Dwarf, EndianSlice, LineProgramHeader, LineRow, LittleEndian, SectionId, Unit,
};
use wasmparser::{Encoding, Parser, Payload};

use super::trace::cut;

/// Rows and units between two looks at the clock.
const PATIENT: usize = 10_000;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// FILE:LINE of the instructions at these `offsets` in the file of a component, as far as it
/// says so and they are found before `deadline`.
pub fn locate(component: &[u8], offsets: &[u64], deadline: Instant) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    for module in modules(component) {
        let begin = module.code.start as u64;
        let inside = offsets.iter().filter(|offset| module.code.contains(&(**offset as usize)));
        // Addresses count from the beginning of the code.
        let mut wanted: Vec<u64> = inside.map(|offset| offset - begin).collect();
        wanted.sort_unstable();
        if !wanted.is_empty() {
            let mut search = Search { wanted, found: BTreeMap::new(), deadline, turns: 0 };
            // What is damaged ends the search; what was found before that is right.
            let _ = search.run(&module.sections);
            found.extend(search.found.into_iter().map(|(at, source)| (at + begin, source)));
        }
    }
    found
}

/// A core module that has DWARF.
#[derive(Default)]
struct Module<'a> {
    code: Range<usize>,
    sections: BTreeMap<&'a str, &'a [u8]>,
}

fn modules(component: &[u8]) -> Vec<Module<'_>> {
    let mut done = Vec::new();
    // What is read is within the last of these; components have no code of their own.
    let mut open: Vec<Option<Module<'_>>> = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        match payload {
            Ok(Payload::Version { encoding, .. }) => {
                open.push((encoding == Encoding::Module).then(Module::default));
            }
            Ok(Payload::CodeSectionStart { range, .. }) => {
                if let Some(Some(module)) = open.last_mut() {
                    module.code = range;
                }
            }
            Ok(Payload::CustomSection(section)) if section.name().starts_with(".debug_") => {
                if let Some(Some(module)) = open.last_mut() {
                    module.sections.insert(section.name(), section.data());
                }
            }
            Ok(Payload::End(_)) => {
                let module = open.pop().flatten();
                done.extend(module.filter(|module| !module.sections.is_empty()));
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    done
}

/// A search for addresses in one module.
struct Search {
    /// In order.
    wanted: Vec<u64>,
    found: BTreeMap<u64, String>,
    deadline: Instant,
    turns: usize,
}

/// The search is over before its end.
enum Ended {
    Late,
    Damaged,
}

impl From<gimli::Error> for Ended {
    fn from(_: gimli::Error) -> Self {
        Ended::Damaged
    }
}

impl Search {
    fn run(&mut self, sections: &BTreeMap<&str, &[u8]>) -> Result<(), Ended> {
        let load = |id: SectionId| {
            let bytes = sections.get(id.name()).copied().unwrap_or_default();
            Ok::<_, gimli::Error>(EndianSlice::new(bytes, LittleEndian))
        };
        let dwarf = Dwarf::load(load)?;
        let mut units = dwarf.units();
        while let Some(header) = units.next()? {
            let unit = dwarf.unit(header)?;
            match self.lines(&dwarf, &unit) {
                Err(Ended::Late) => return Err(Ended::Late),
                // The next one has lines of its own.
                Err(Ended::Damaged) | Ok(()) => {}
            }
            if self.found.len() == self.wanted.len() {
                break;
            }
            self.turn()?;
        }
        Ok(())
    }

    /// Goes through the lines of one unit: each row is for the code from there to the next one.
    fn lines(&mut self, dwarf: &Dwarf<Bytes<'_>>, unit: &Unit<Bytes<'_>>) -> Result<(), Ended> {
        let Some(program) = unit.line_program.clone() else { return Ok(()) };
        let mut rows = program.rows();
        let mut last: Option<LineRow> = None;
        while let Some((header, row)) = rows.next_row()? {
            // Functions that the linker has left out are said to be at 0, where no code is.
            if let Some(last) = last.filter(|last| last.address() > 0) {
                let first = self.wanted.partition_point(|at| *at < last.address());
                let here = self.wanted[first..].iter().take_while(|at| **at < row.address());
                for at in here {
                    if let Some(source) = source(dwarf, unit, header, &last) {
                        self.found.insert(*at, source);
                    }
                }
            }
            last = (!row.end_sequence()).then_some(*row);
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Ended> {
        self.turns += 1;
        let late = self.turns.is_multiple_of(PATIENT) && Instant::now() >= self.deadline;
        if late { Err(Ended::Late) } else { Ok(()) }
    }
}

/// FILE:LINE of a row.
fn source(
    dwarf: &Dwarf<Bytes<'_>>,
    unit: &Unit<Bytes<'_>>,
    header: &LineProgramHeader<Bytes<'_>>,
    row: &LineRow,
) -> Option<String> {
    let text = |value: AttributeValue<Bytes<'_>>| {
        let bytes = dwarf.attr_string(unit, value).ok()?;
        Some(String::from_utf8_lossy(bytes.slice()).into_owned())
    };
    let file = header.file(row.file_index())?;
    let name = text(file.path_name())?;
    let path = match file.directory(header).and_then(text) {
        Some(dir) if !name.starts_with('/') && !dir.is_empty() => format!("{dir}/{name}"),
        _ => name,
    };
    let path = cut(&path);
    Some(match row.line() {
        Some(line) => format!("{path}:{line}"),
        None => path,
    })
}
