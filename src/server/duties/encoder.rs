//! The three encoders: bytes in, compressed bytes out.

use std::io::{self, Write};

use bytes::Bytes;
use zstd::zstd_safe::CParameter;

use crate::config::Coding;

/// Levels that cost little for what they save: about those that zstd, nginx and Caddy have
/// themselves for answers that are made anew each time.
const ZSTD_LEVEL: i32 = 3;
const BROTLI_QUALITY: u32 = 4;
const GZIP_LEVEL: u32 = 5;

/// How far back zstd and brotli look, as a power of two. It bounds what an encoder holds, together
/// with tables that follow from it and from the level; gzip's window is always of 32 KiB.
const WINDOW_LOG: u32 = 17;

/// The tables of zstd, as powers of two: those that it has itself for inputs of such a window.
const ZSTD_HASH_LOG: u32 = 16;
const ZSTD_CHAIN_LOG: u32 = 15;

/// The smallest window of either.
const WINDOW_LOG_MIN: u32 = 10;

/// Bytes that brotli hands out at a time.
const BROTLI_BUFFER: usize = 4 << 10;

/// One stream that is being compressed.
pub enum Encoder {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
}

impl Encoder {
    /// An encoder for `length` bytes, where that is known: a few need no large window.
    pub fn new(coding: Coding, length: Option<u64>) -> io::Result<Encoder> {
        let window = match length {
            Some(length) => {
                length.max(1).next_power_of_two().ilog2().clamp(WINDOW_LOG_MIN, WINDOW_LOG)
            }
            None => WINDOW_LOG,
        };
        Ok(match coding {
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(window)?;
                encoder.set_parameter(CParameter::HashLog(ZSTD_HASH_LOG.min(window)))?;
                encoder.set_parameter(CParameter::ChainLog(ZSTD_CHAIN_LOG.min(window)))?;
                Encoder::Zstd(encoder)
            }
            Coding::Br => Encoder::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER,
                BROTLI_QUALITY,
                window,
            ))),
            Coding::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                Encoder::Gzip(flate2::write::GzEncoder::new(Vec::new(), level))
            }
        })
    }

    /// Takes in bytes; what comes out may be nothing yet.
    pub fn encode(&mut self, bytes: &[u8]) -> io::Result<Bytes> {
        self.writer().write_all(bytes)?;
        Ok(self.take())
    }

    /// What makes all that was taken in readable for the other end.
    pub fn flush(&mut self) -> io::Result<Bytes> {
        self.writer().flush()?;
        Ok(self.take())
    }

    /// The end of the stream.
    pub fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Encoder::Zstd(encoder) => encoder.finish()?,
            Encoder::Brotli(mut encoder) => {
                // Its end is written without a word about errors, so there is nothing left that could fail.
                encoder.flush()?;
                encoder.into_inner()
            }
            Encoder::Gzip(encoder) => encoder.finish()?,
        }
        .into())
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Encoder::Zstd(encoder) => encoder,
            Encoder::Brotli(encoder) => &mut **encoder,
            Encoder::Gzip(encoder) => encoder,
        }
    }

    fn take(&mut self) -> Bytes {
        let out = match self {
            Encoder::Zstd(encoder) => encoder.get_mut(),
            Encoder::Brotli(encoder) => encoder.get_mut(),
            Encoder::Gzip(encoder) => encoder.get_mut(),
        };
        std::mem::take(out).into()
    }
}
