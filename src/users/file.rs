//! Reads and judges a file of users: lines of `NAME:HASH`, with hashes that are dear to guess.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use argon2::password_hash::PasswordVerifier;
use argon2::{ARGON2ID_IDENT, Argon2, Params, PasswordHash};
use bcrypt::HashParts;
use http::HeaderValue;

use crate::config::{Place, Problem};
use crate::small_file;

/// Bytes of a file of users.
const FILE_MAX: u64 = 1 << 20;

/// A higher cost takes seconds for each password that is tried.
const BCRYPT_COST_MAX: u32 = 14;

/// What one password may take: KiB of memory, passes over it, and lanes.
const ARGON2_MEMORY_MAX: u32 = 128 << 10;
const ARGON2_PASSES_MAX: u32 = 16;
const ARGON2_LANES_MAX: u32 = 16;

/// How a password is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hash {
    Bcrypt(String),
    Argon2(Box<PasswordHash>),
}

/// What is wrong with a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    /// From 1; 0 for the file as a whole.
    line: usize,
    message: String,
    help: Option<&'static str>,
}

/// The users of the file at `path`, or everything that is wrong with it.
pub fn read(path: &Path) -> Result<HashMap<String, Hash>, Vec<Fault>> {
    let whole = |message: String| vec![Fault { line: 0, message, help: None }];
    let text = read_text(path).map_err(|error| whole(error.to_string()))?;
    let (mut users, mut faults) = (HashMap::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match user(line) {
            Ok((name, _)) if users.contains_key(name) => {
                faults.push(fault(at, format!("the user {name} is there twice"), None));
            }
            Ok((name, hash)) => {
                users.insert(name.to_owned(), hash);
            }
            Err((message, help)) => faults.push(fault(at, message, help)),
        }
    }
    match faults.is_empty() {
        true => Ok(users),
        false => Err(faults),
    }
}

fn fault(at: usize, message: String, help: Option<&'static str>) -> Fault {
    Fault { line: at + 1, message, help }
}

fn read_text(path: &Path) -> io::Result<String> {
    let (bytes, _) = small_file::read(path, FILE_MAX)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("not UTF-8 text"))
}

/// The name and the hash of one line. What is wrong is said without the hash.
fn user(line: &str) -> Result<(&str, Hash), (String, Option<&'static str>)> {
    const FORMAT: &str = "a line is NAME:HASH, as `htpasswd -B` writes it";
    let (name, rest) =
        line.split_once(':').ok_or(("this is no user with a hash".to_owned(), Some(FORMAT)))?;
    // Apps are told the name in a header.
    if name.is_empty() || !name.is_ascii() || HeaderValue::from_str(name).is_err() {
        return Err(("a user's name is ASCII text".to_owned(), Some(FORMAT)));
    }
    // Some programs keep more fields in such files.
    let hash = rest.split(':').next().unwrap_or_default();
    Ok((
        name,
        Hash::parse(hash)
            .map_err(|(why, help)| (format!("the password of {name} {why}"), Some(help)))?,
    ))
}

impl Hash {
    fn parse(text: &str) -> Result<Hash, (&'static str, &'static str)> {
        const ANEW: &str = "write it anew with `htpasswd -B FILE NAME`";
        if ["$2a$", "$2b$", "$2y$"].iter().any(|start| text.starts_with(start)) {
            let broken = ("is no bcrypt hash, though it begins as one", ANEW);
            let parts: HashParts = text.parse().map_err(|_| broken)?;
            return match parts.get_cost() {
                4..=BCRYPT_COST_MAX => Ok(Hash::Bcrypt(text.to_owned())),
                _ => Err((
                    "has a cost that is not 4 to 14",
                    "write it anew with `htpasswd -B -C 10 FILE NAME`",
                )),
            };
        }
        if text.starts_with("$argon2") {
            let broken = ("is no argon2id hash, though it begins as one", ANEW);
            let hash = PasswordHash::new(text).map_err(|_| broken)?;
            if hash.algorithm != ARGON2ID_IDENT || hash.salt.is_none() || hash.hash.is_none() {
                return Err(broken);
            }
            let params = Params::try_from(&hash).map_err(|_| broken)?;
            let is_cheap = params.m_cost() <= ARGON2_MEMORY_MAX
                && params.t_cost() <= ARGON2_PASSES_MAX
                && params.p_cost() <= ARGON2_LANES_MAX;
            return match is_cheap {
                true => Ok(Hash::Argon2(Box::new(hash))),
                false => Err((
                    "costs more than 128 MiB, 16 passes or 16 lanes",
                    "write it anew with less",
                )),
            };
        }
        let why = if text.starts_with("$apr1$") || text.starts_with("$1$") {
            "is hashed with MD5, which is guessed in no time"
        } else if text.starts_with("{SHA}") {
            "is hashed with SHA-1, which is guessed in no time"
        } else {
            "is neither a bcrypt nor an argon2id hash"
        };
        Err((why, ANEW))
    }

    /// Whether `password` is the one. This takes long, which is its purpose.
    pub fn is_of(&self, password: &[u8]) -> bool {
        match self {
            Hash::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Hash::Argon2(hash) => {
                Argon2::default().verify_password(password, hash.as_ref()).is_ok()
            }
        }
    }
}

impl Fault {
    /// The problem of the manifest's `place` that names this file.
    pub fn at(self, place: &Place, path: &Path) -> Problem {
        let path = path.display();
        let problem = match self.line {
            0 => place.problem(format!("cannot read {path}: {}", self.message)),
            line => place.problem(format!("{path}, line {line}: {}", self.message)),
        };
        match self.help {
            Some(help) => problem.with_help(help),
            None => problem,
        }
    }
}
