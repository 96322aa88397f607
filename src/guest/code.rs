//! Compiled code in a file, and the label at its end that says what it is.
//!
//! The compiler's process writes the one after the other, and so does the
//! cache. wasmtime looks at what the code's own headers name, so that the label
//! does not disturb it.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::component::Digest;
use super::engine::Kind;

/// Raised whenever a label, or what is let through to the compiler, changes: code of before
/// is compiled again.
pub const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"tidegate";

/// A file of compiled code.
pub struct Code {
    pub file: File,
    pub label: Label,
}

/// What compiled code was made of, and how to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub kind: Kind,
    pub handler: Handler,
    /// Bytes of code before the label.
    pub size: u64,
    /// What it was compiled for: [`super::engine::Engines::id`].
    pub engines: Digest,
    /// The component's file.
    pub component: Digest,
    pub code: Digest,
}

/// By which interface it takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// `wasi:http/incoming-handler@0.2`.
    P2,
    /// `wasi:http/handler@0.3`.
    P3,
}

impl Label {
    /// Bytes of a label.
    pub const SIZE: usize = 120;

    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12] = self.kind as u8;
        bytes[13] = self.handler as u8;
        bytes[16..24].copy_from_slice(&self.size.to_le_bytes());
        bytes[24..56].copy_from_slice(&self.engines.0);
        bytes[56..88].copy_from_slice(&self.component.0);
        bytes[88..].copy_from_slice(&self.code.0);
        bytes
    }

    /// Reads a label; any other bytes than [`Self::to_bytes`] makes are none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::SIZE] = bytes.try_into().ok()?;
        let digest = |at: usize| Digest(std::array::from_fn(|i| bytes[at + i]));
        let label = Self {
            kind: match bytes[12] {
                0 => Kind::Plain,
                1 => Kind::Concurrent,
                _ => return None,
            },
            handler: match bytes[13] {
                0 => Handler::P2,
                1 => Handler::P3,
                _ => return None,
            },
            size: u64::from_le_bytes(std::array::from_fn(|i| bytes[16 + i])),
            engines: digest(24),
            component: digest(56),
            code: digest(88),
        };
        // The magic bytes, the format and the padding have one value each.
        (label.to_bytes() == *bytes).then_some(label)
    }
}

impl Code {
    /// Puts code and its label into memory that is a file, and nobody else's.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn in_memory(code: &[u8], label: Label) -> io::Result<Self> {
        let mut file = memory_file(c"compiled code")?;
        file.write_all(code)?;
        file.write_all(&label.to_bytes())?;
        Ok(Self { file, label })
    }

    /// The code in the first `end` bytes of `file`, a label included, if it is what the label says.
    ///
    /// Shows that it is whole, not where it comes from: who calls this has to know.
    ///
    /// # Errors
    /// When it cannot be read, or in words what is wrong with it.
    pub fn read(mut file: File, end: u64) -> io::Result<Self> {
        let Some(size) = end.checked_sub(Label::SIZE as u64) else {
            return Err(io::Error::other("it is cut short"));
        };
        file.seek(SeekFrom::Start(size))?;
        let mut label = [0; Label::SIZE];
        file.read_exact(&mut label)?;
        let Some(label) = Label::parse(&label) else {
            return Err(io::Error::other("it has no label of this version"));
        };
        // Read, not mapped: what is only checked takes no memory of ours.
        file.seek(SeekFrom::Start(0))?;
        let whole = label.size == size && Digest::read((&file).take(size))? == label.code;
        match whole {
            true => Ok(Self { file, label }),
            false => Err(io::Error::other("it is damaged")),
        }
    }

    /// Where the file can be opened again, whatever its name was.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
}

impl Digest {
    /// Of everything that is left in `reader`.
    ///
    /// # Errors
    /// Those of reading.
    pub fn read(reader: impl Read) -> io::Result<Self> {
        let mut hasher = Sha256::new();
        let mut reader = BufReader::with_capacity(64 << 10, reader);
        io::copy(&mut reader, &mut Hashing(&mut hasher))?;
        Ok(Self(hasher.finalize().into()))
    }
}

struct Hashing<'a>(&'a mut Sha256);

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file in memory that has no name, so that only who is handed it can reach it.
pub fn memory_file(name: &CStr) -> io::Result<File> {
    let create = |flags| {
        // SAFETY: the name ends with a zero byte, as its type says.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        match fd {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: the call has just opened it, so nobody else owns it.
            fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into()),
        }
    };
    // Systems may insist on the second flag (vm.memfd_noexec), which Linux before 6.3 does not know.
    create(libc::MFD_CLOEXEC | libc::MFD_NOEXEC_SEAL).or_else(|_| create(libc::MFD_CLOEXEC))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label() -> Label {
        let digest = |n| Digest([n; 32]);
        Label {
            kind: Kind::Concurrent,
            handler: Handler::P2,
            size: 0x0102_0304_0506,
            engines: digest(1),
            component: digest(2),
            code: digest(3),
        }
    }

    #[test]
    fn a_label_is_read_as_it_was_written() {
        for (kind, handler) in [
            (Kind::Plain, Handler::P2),
            (Kind::Concurrent, Handler::P2),
            (Kind::Concurrent, Handler::P3),
        ] {
            let label = Label { kind, handler, ..label() };
            assert_eq!(Label::parse(&label.to_bytes()), Some(label));
        }
    }

    #[test]
    fn other_bytes_are_another_label_or_none() {
        let good = label().to_bytes();
        for bit in 0..Label::SIZE * 8 {
            let mut flipped = good;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Label::parse(&flipped), Some(label()), "bit {bit}");
            if bit < 16 * 8 && bit != 12 * 8 && bit != 13 * 8 {
                assert_eq!(Label::parse(&flipped), None, "bit {bit}");
            }
        }
        for length in 0..Label::SIZE {
            assert_eq!(Label::parse(&good[..length]), None);
        }
        assert_eq!(Label::parse(&[&good[..], &[0]].concat()), None);
    }

    #[test]
    fn code_is_read_if_it_is_what_its_label_says() {
        let bytes = b"some code";
        let size = bytes.len() as u64;
        let label = Label { size, code: Digest::of(bytes), ..label() };
        let whole = size + Label::SIZE as u64;
        let file = |bytes| Code::in_memory(bytes, label.clone()).unwrap().file;
        assert_eq!(Code::read(file(bytes), whole).unwrap().label, label);
        assert!(Code::read(file(b"same code"), whole).is_err(), "other bytes");
        assert!(Code::read(file(b"some more code"), whole + 5).is_err(), "more bytes");
        assert!(Code::read(file(bytes), whole - 1).is_err(), "cut short");
        assert!(Code::read(file(bytes), whole + 1).is_err(), "shorter than it is said to be");
        assert!(Code::read(file(b""), 0).is_err());
    }
}
