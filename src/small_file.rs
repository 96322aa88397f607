//! Files that are read whole, within a bound: certificates, keys, lists of users.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::Path;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What is in the file at `path`, at most `max` bytes, and what the system says of that very file.
///
/// # Errors
/// When it cannot be read, is no file, or is larger.
pub fn read(path: &Path, max: u64) -> io::Result<(Vec<u8>, Metadata)> {
    // Asked before it is opened: opening a pipe would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let file = File::open(path)?;
    let meta = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let max = match max % MIB {
            0 => format!("{} MiB", max / MIB),
            _ => format!("{} KiB", max / KIB),
        };
        return Err(io::Error::other(format!("larger than {max}")));
    }
    Ok((bytes, meta))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, [7; 2048]).unwrap();
        assert_eq!(read(&path, 2048).unwrap().0, [7; 2048]);
        let larger = |max| read(&path, max).unwrap_err().to_string();
        assert_eq!(larger(1024), "larger than 1 KiB");
        fs::write(&path, vec![7; (1 << 20) + 1]).unwrap();
        assert_eq!(larger(1 << 20), "larger than 1 MiB");
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), 1024).unwrap_err().to_string(), "not a file");
    }
}
