//! Where an HTTP/1.1 answer ends: as much of the protocol as a load needs.

/// Reads one answer, piece by piece.
#[derive(Debug, Default)]
pub struct Answer {
    head: Vec<u8>,
    part: Part,
    /// Bytes of body so far.
    pub size: usize,
    /// Those bytes, if they are wanted.
    pub body: Option<Vec<u8>>,
    /// Whatever its status.
    any: bool,
}

#[derive(Debug, Default)]
enum Part {
    #[default]
    Head,
    /// A body of a known length: what is still to come.
    Rest(usize),
    /// The line with a chunk's size, as far as it was read.
    ChunkSize(usize),
    /// A chunk and the line break after it: what is still to come of both.
    Chunk(usize),
    /// The lines after the last chunk: how long the one being read is.
    Trailers(usize),
    Done,
}

const LINE_BREAK: usize = 2;

impl Answer {
    /// An answer whose body is wanted.
    pub fn keeping_body() -> Self {
        Self { body: Some(Vec::new()), ..Self::default() }
    }

    /// An answer that may be a bad one.
    pub fn of_any_status() -> Self {
        Self { any: true, ..Self::default() }
    }

    /// Takes the next bytes. True at the end of the answer.
    pub fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let used = self.step(bytes);
            bytes = &bytes[used..];
        }
        matches!(self.part, Part::Done)
    }

    fn step(&mut self, bytes: &[u8]) -> usize {
        match &mut self.part {
            Part::Head => return self.head(bytes),
            Part::Rest(left) => {
                let now = bytes.len().min(*left);
                *left -= now;
                self.size += now;
                if let Some(body) = &mut self.body {
                    body.extend_from_slice(&bytes[..now]);
                }
                if *left == 0 {
                    self.part = Part::Done;
                }
                return now;
            }
            Part::Chunk(left) => {
                let now = bytes.len().min(*left);
                let data = now.min(left.saturating_sub(LINE_BREAK));
                self.size += data;
                if let Some(body) = &mut self.body {
                    body.extend_from_slice(&bytes[..data]);
                }
                *left -= now;
                if *left == 0 {
                    self.part = Part::ChunkSize(0);
                }
                return now;
            }
            Part::ChunkSize(size) => match bytes[0] {
                b'\n' if *size == 0 => self.part = Part::Trailers(0),
                b'\n' => self.part = Part::Chunk(*size + LINE_BREAK),
                b'\r' => {}
                digit => {
                    let digit = (digit as char).to_digit(16).expect("a chunk's size");
                    *size = *size * 16 + digit as usize;
                }
            },
            Part::Trailers(length) => match bytes[0] {
                b'\n' if *length == 0 => self.part = Part::Done,
                b'\n' => *length = 0,
                b'\r' => {}
                _ => *length += 1,
            },
            Part::Done => panic!("more than was asked for"),
        }
        1
    }

    fn head(&mut self, bytes: &[u8]) -> usize {
        const END: &[u8] = b"\r\n\r\n";
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let from = before.saturating_sub(END.len());
        let Some(at) = self.head[from..].windows(END.len()).position(|window| window == END) else {
            return bytes.len();
        };
        let length = from + at + END.len();
        self.head.truncate(length);
        let head = std::str::from_utf8(&self.head).expect("a head in ASCII").to_ascii_lowercase();
        assert!(self.any || head.starts_with("http/1.1 200"), "not a good answer: {head}");
        let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        self.part = match value("content-length:") {
            Some(length) => match length.trim().parse().expect("a length") {
                0 => Part::Done,
                length => Part::Rest(length),
            },
            None => {
                assert!(value("transfer-encoding:").is_some(), "without a length: {head}");
                Part::ChunkSize(0)
            }
        };
        length - before
    }
}
