//! One look into the folder: from a request to the file that answers it, and as what.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, HeaderName, HeaderValue, LAST_MODIFIED, LOCATION, VARY,
};
use http::{HeaderMap, Response, StatusCode, Uri};

use super::body::{self, FileBody, Sent};
use super::conditions::{self, Verdict};
use super::open::{self, Unopened};
use super::range::{self, Part};
use super::version::Version;
use super::{Content, media_type, path};
use crate::config::{Coding, Files, Missing, Peer};
use crate::server::bounds::Bounds;
use crate::server::duties::coding;
use crate::server::response::Refusal;

/// How often a file is looked for whose content changes before its first chunk is read.
const TRIES: usize = 3;

const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

/// One look into the folder, and what it needs of the request.
pub struct Look {
    pub files: Arc<Files>,
    /// Absent where no file is served under such a name.
    pub name: Option<path::Name>,
    pub is_head: bool,
    pub uri: Uri,
    pub request: HeaderMap,
    pub client: Peer,
    pub bounds: Arc<Bounds>,
}

/// Why there is no answer.
pub enum Failure {
    Refused(Refusal),
    /// There are as many open files as there may be, over all or for this client.
    TooMany,
    /// The file was written to while its first chunk was read.
    Changed,
    Io(io::Error),
}

/// A file that answers, and as what.
struct Found {
    file: File,
    version: Version,
    media_type: HeaderValue,
    coding: Option<Coding>,
}

impl Look {
    /// Looks for a file that stays what it is while its first chunk is read. Blocks.
    pub fn answer(self) -> Result<Response<Content>, Failure> {
        for _ in 1..TRIES {
            match self.answer_once() {
                Err(Failure::Changed) => {}
                answer => return answer,
            }
        }
        self.answer_once()
    }

    fn answer_once(&self) -> Result<Response<Content>, Failure> {
        let root = open::folder(&self.files.dir.value)?;
        let Some(name) = &self.name else { return self.missing(&root, false) };
        let file = match name.is_folder {
            true => name.path.join(&self.files.index),
            false => name.path.clone(),
        };
        match self.find(&root, &file) {
            Ok(Some(found)) => self.send(found),
            Ok(None) if !name.is_folder => self.below_itself(),
            Ok(None) | Err(Unopened::Missing) => self.missing(&root, true),
            Err(unopened) => Err(unopened.into()),
        }
    }

    /// The file of that name, or the smaller one that stands for it; none where it is a folder.
    fn find(&self, root: &OwnedFd, name: &Path) -> Result<Option<Found>, Unopened> {
        let Some((file, version)) = open::file(root, name)? else { return Ok(None) };
        let media_type = media_type::of(name);
        if self.files.precompressed {
            for coding in coding::liked(&self.request, &Coding::ALL) {
                let mut smaller = name.as_os_str().to_owned();
                smaller.push(suffix(coding));
                // One that is older is of what the file was before.
                if let Ok(Some((file, its))) = open::file(root, Path::new(&smaller))
                    && !its.is_older_than(&version)
                {
                    return Ok(Some(Found {
                        file,
                        version: its,
                        media_type,
                        coding: Some(coding),
                    }));
                }
            }
        }
        Ok(Some(Found { file, version, media_type, coding: None }))
    }

    /// The answer that sends the file, or what the client wants of it.
    fn send(&self, found: Found) -> Result<Response<Content>, Failure> {
        let Found { file, version, media_type, coding } = found;
        let now = SystemTime::now();
        let etag = version.etag(now);
        let modified = version.last_modified(now);

        let mut head = Response::new(()).into_parts().0;
        let headers = &mut head.headers;
        headers.insert(ETAG, etag.header());
        if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(modified)) {
            headers.insert(LAST_MODIFIED, date);
        }
        if let Some(cache_control) = &self.files.cache_control {
            headers.insert(CACHE_CONTROL, cache_control.clone());
        }
        if self.files.precompressed {
            headers.insert(VARY, HeaderValue::from_static(coding::VARIES));
        }
        match conditions::judge(&self.request, &etag, modified) {
            Verdict::Send => {}
            Verdict::NotModified => {
                head.status = StatusCode::NOT_MODIFIED;
                return Ok(Response::from_parts(head, Content::Whole(Bytes::new())));
            }
            Verdict::Failed => return Err(Failure::Refused(Refusal::Precondition)),
        }
        headers.insert(CONTENT_TYPE, media_type);
        headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Some(coding) = coding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        }

        let size = version.size;
        // Only GET has ranges.
        let ranged = !self.is_head && conditions::may_have_part(&self.request, &etag, modified);
        let part = if ranged { range::part(&self.request, size) } else { Part::Whole };
        let (start, length) = match part {
            Part::Whole => (0, size),
            Part::Of { start, length } => {
                let range = format!("bytes {start}-{}/{size}", start + length - 1);
                headers.extend(HeaderValue::try_from(range).ok().map(|it| (CONTENT_RANGE, it)));
                head.status = StatusCode::PARTIAL_CONTENT;
                (start, length)
            }
            Part::None => return Err(Failure::Refused(Refusal::Range { size })),
        };
        headers.insert(CONTENT_LENGTH, length.into());
        let content = self.content(file, version, start, length)?;
        Ok(Response::from_parts(head, content))
    }

    /// A part of a file: read where it is short, otherwise begun.
    fn content(
        &self,
        file: File,
        version: Version,
        start: u64,
        length: u64,
    ) -> Result<Content, Failure> {
        if self.is_head || length == 0 {
            return Ok(Content::Whole(Bytes::new()));
        }
        let failed = |error| match body::is_change(&error) {
            true => Failure::Changed,
            false => Failure::Io(error),
        };
        if length <= body::CHUNK {
            let sent = Sent::new(file, version, None);
            return sent.read(start, length).map(Content::Whole).map_err(failed);
        }
        let place = self.bounds.files.take(self.client).ok_or(Failure::TooMany)?;
        let sent = Sent::new(file, version, Some(place));
        let disk = self.bounds.disk.clone();
        FileBody::begin(sent, start, length, disk).map(Content::File).map_err(failed)
    }

    /// The answer where there is no such file. What has no name that files have gets no fallback.
    fn missing(&self, root: &OwnedFd, has_name: bool) -> Result<Response<Content>, Failure> {
        let page = Err(Failure::Refused(Refusal::UnknownPath));
        match &self.files.missing {
            Missing::Fallback(name) if has_name => match self.find(root, Path::new(name)) {
                Ok(Some(found)) => self.send(found),
                Ok(None) | Err(Unopened::Missing) => page,
                Err(unopened) => Err(unopened.into()),
            },
            Missing::NotFound(name) => match open::file(root, Path::new(name)) {
                Ok(Some((file, version))) => {
                    let size = version.size;
                    let mut response = Response::new(self.content(file, version, 0, size)?);
                    *response.status_mut() = StatusCode::NOT_FOUND;
                    let headers = response.headers_mut();
                    headers.insert(CONTENT_TYPE, media_type::of(Path::new(name)));
                    headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
                    headers.insert(CONTENT_LENGTH, size.into());
                    Ok(response)
                }
                Ok(None) | Err(Unopened::Missing) => page,
                Err(unopened) => Err(unopened.into()),
            },
            Missing::Page | Missing::Fallback(_) => page,
        }
    }

    /// To the same path with a `/`, below which the names in a folder's files lead to its files.
    ///
    /// The path has no two slashes in a row, so it cannot be taken for a host.
    fn below_itself(&self) -> Result<Response<Content>, Failure> {
        let path = self.uri.path();
        let location = match self.uri.query() {
            Some(query) => format!("{path}/?{query}"),
            None => format!("{path}/"),
        };
        let location =
            HeaderValue::try_from(location).map_err(|_| Failure::Refused(Refusal::UnknownPath))?;
        let mut response = Response::new(Content::Whole(Bytes::new()));
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        response.headers_mut().insert(LOCATION, location);
        Ok(response)
    }
}

impl From<Unopened> for Failure {
    fn from(unopened: Unopened) -> Failure {
        match unopened {
            Unopened::Missing => Failure::Refused(Refusal::UnknownPath),
            Unopened::TooMany => Failure::TooMany,
            Unopened::Io(error) => Failure::Io(error),
        }
    }
}

/// What the name of a file that is compressed already ends in.
fn suffix(coding: Coding) -> &'static str {
    match coding {
        Coding::Zstd => ".zst",
        Coding::Br => ".br",
        Coding::Gzip => ".gz",
    }
}
