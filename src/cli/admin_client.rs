//! Asks the tidegate that runs, over its admin address: what `status`, `reload` and others are made of.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::{EXIT_CONFIG, EXIT_FAILURE, fail};
use crate::admin::shapes;
use crate::config::{Admin, Config, ListenAddress};
use crate::small_file;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait for an answer that is there at once.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of an answer that is read whole.
const ANSWER_MAX: usize = 64 << 20;

/// Bytes of one line of a stream.
const LINE_MAX: usize = 1 << 20;

/// Bytes of a file with a token.
const TOKEN_MAX: u64 = 4 << 10;

/// What is written as it is in the parameters of a URL.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Which tidegate is asked.
#[derive(Args)]
pub struct At {
    /// The manifest of the tidegate to ask [default: ./config.toml, else /etc/tidegate/config.toml]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Its admin address, instead of a manifest: unix:PATH, or IP:PORT with --token-file
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    admin: Option<String>,
    /// The file that holds the token for an address IP:PORT
    #[arg(long, value_name = "PATH", requires = "admin")]
    token_file: Option<PathBuf>,
}

/// Which tidegate is asked, and how it is answered.
#[derive(Args)]
pub struct Ask {
    #[command(flatten)]
    at: At,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A tidegate that can be asked.
pub struct Client {
    address: ListenAddress,
    token: Option<String>,
    runtime: Runtime,
}

/// Why there is no answer. Its text is for the operator.
#[derive(Debug)]
pub enum Trouble {
    /// Nobody answers.
    Unreachable(String),
    /// What tidegate says instead.
    Refused(shapes::Error),
}

impl Ask {
    /// See [`At::client`].
    pub fn client(&self) -> Result<Client, ExitCode> {
        self.at.client()
    }
}

impl At {
    /// The tidegate that is meant. What is wrong has been said then.
    pub fn client(&self) -> Result<Client, ExitCode> {
        let config = |error: String| fail(EXIT_CONFIG, error);
        let (address, token_file) = match &self.admin {
            Some(address) => (parse(address).map_err(config)?, self.token_file.clone()),
            None => of_manifest(self.config.as_deref()).map_err(config)?,
        };
        let token = token_file.as_deref().map(read_token).transpose().map_err(config)?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| fail(EXIT_FAILURE, error))?;
        Ok(Client { address, token, runtime })
    }
}

fn parse(address: &str) -> Result<ListenAddress, String> {
    match (address.strip_prefix("unix:"), address.parse()) {
        (Some(path), _) if !path.is_empty() => Ok(ListenAddress::Unix(path.into())),
        (_, Ok(address)) => Ok(ListenAddress::Tcp(address)),
        _ => Err(format!(
            "{address:?} is no admin address\n  help: write unix:PATH or IP:PORT, such as unix:/var/lib/tidegate/admin.sock"
        )),
    }
}

fn of_manifest(named: Option<&Path>) -> Result<(ListenAddress, Option<PathBuf>), String> {
    let path = Config::find(named)
        .map_err(|error| format!("{error}\n  or name the admin address with --admin unix:PATH"))?;
    let admin = Admin::of_manifest(&path).map_err(|problems| {
        format!("cannot tell from the manifest where to ask\n{problems}\n  or name the admin address with --admin unix:PATH")
    })?;
    match admin {
        Admin::Unix { path, .. } => Ok((ListenAddress::Unix(path), None)),
        Admin::Tcp(tcp) => Ok((ListenAddress::Tcp(tcp.address), Some(tcp.token_file.value))),
        Admin::Off => Err(format!(
            "{} says admin.listen = false: this tidegate cannot be asked\n  help: leave it out, and restart tidegate",
            path.display()
        )),
    }
}

fn read_token(path: &Path) -> Result<String, String> {
    let read = small_file::read(path, TOKEN_MAX);
    let (bytes, _) =
        read.map_err(|error| format!("cannot read the admin token {}: {error}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// `text` as a parameter of a path or a query.
pub fn escaped(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

impl Client {
    /// What is answered to GET.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        self.ask(Method::GET, path, ANSWER_TIMEOUT)
    }

    /// What is answered, within this time.
    pub fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        within: Duration,
    ) -> Result<T, Trouble> {
        let bytes = self.bytes(method, path, within)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            self.unreachable(format_args!("is no tidegate like this one: {error}"))
        })
    }

    /// The same as it comes.
    pub fn bytes(&self, method: Method, path: &str, within: Duration) -> Result<Bytes, Trouble> {
        let asking = async {
            let answer = self.send(method, path).await?;
            self.collect(answer).await
        };
        self.runtime.block_on(async {
            timeout(within, asking).await.unwrap_or_else(|_| {
                Err(self.unreachable(format_args!("did not answer within {within:?}")))
            })
        })
    }

    /// Hands each line of an answer that goes on to `each`, until that returns false or the answer ends.
    pub fn lines(
        &self,
        method: Method,
        path: &str,
        mut each: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Trouble> {
        self.runtime.block_on(async {
            let mut body = self.send(method, path).await?.into_body();
            let mut rest = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame =
                    frame.map_err(|error| self.unreachable(format_args!("left: {error}")))?;
                let Ok(data) = frame.into_data() else { continue };
                rest.extend_from_slice(&data);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<_> = rest.drain(..=end).collect();
                    if !each(&line[..end]) {
                        return Ok(());
                    }
                }
                if rest.len() > LINE_MAX {
                    return Err(self.unreachable(format_args!("sent a line without end")));
                }
            }
            Ok(())
        })
    }

    /// The head of a good answer.
    async fn send(&self, method: Method, path: &str) -> Result<Response<Incoming>, Trouble> {
        let request = self.request(method, path)?;
        let sending = async {
            match &self.address {
                ListenAddress::Unix(path) => {
                    over(in_time(UnixStream::connect(path)).await?, request).await
                }
                ListenAddress::Tcp(address) => {
                    over(in_time(TcpStream::connect(address)).await?, request).await
                }
            }
        };
        let answer = sending.await.map_err(|error| self.lost(&error))?;
        match answer.status().is_success() {
            true => Ok(answer),
            false => Err(self.refusal(answer).await),
        }
    }

    fn request(&self, method: Method, path: &str) -> Result<Request<Empty<Bytes>>, Trouble> {
        let host = match &self.address {
            ListenAddress::Unix(_) => "localhost".to_owned(),
            ListenAddress::Tcp(address) => address.to_string(),
        };
        let request = Request::builder().method(method).uri(path).header(HOST, host);
        let request = match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        };
        let failed = |error| self.unreachable(format_args!("cannot be asked that: {error}"));
        request.body(Empty::new()).map_err(failed)
    }

    async fn collect(&self, answer: Response<Incoming>) -> Result<Bytes, Trouble> {
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|error| self.unreachable(format_args!("left: {error}")))?;
        Ok(body.to_bytes())
    }

    /// What the tidegate says instead of an answer.
    async fn refusal(&self, answer: Response<Incoming>) -> Trouble {
        let status = answer.status();
        let bytes = match self.collect(answer).await {
            Ok(bytes) => bytes,
            Err(trouble) => return trouble,
        };
        match serde_json::from_slice(&bytes) {
            Ok(error) => Trouble::Refused(error),
            Err(_) => self.unreachable(format_args!("answers {status}, and is no tidegate")),
        }
    }

    fn unreachable(&self, what: fmt::Arguments<'_>) -> Trouble {
        Trouble::Unreachable(format!("{} {what}", self.address))
    }

    /// Why nobody could be asked, and what to look at.
    fn lost(&self, error: &io::Error) -> Trouble {
        let (address, kind) = (&self.address, error.kind());
        let is_running = "is tidegate running? `systemctl status tidegate` and its log tell; started by hand it is `tidegate run`";
        Trouble::Unreachable(match kind {
            io::ErrorKind::NotFound => format!(
                "there is no admin socket at {address}\n  help: {is_running}. If it runs, --config PATH names its manifest, or --admin ADDRESS its admin address"
            ),
            io::ErrorKind::ConnectionRefused => {
                format!("nobody listens at {address}\n  help: {is_running}")
            }
            io::ErrorKind::PermissionDenied => format!(
                "you may not use {address}\n  help: it is for the user that tidegate runs as, and for root: try it with sudo"
            ),
            io::ErrorKind::TimedOut => format!(
                "{address} does not answer within {CONNECT_TIMEOUT:?}\n  help: {is_running}"
            ),
            _ => format!("cannot ask {address}: {error}\n  help: {is_running}"),
        })
    }
}

async fn in_time<T>(connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}

/// Sends the request over `io`, and reads the head of the answer.
async fn over<I>(io: I, request: Request<Empty<Bytes>>) -> io::Result<Response<Incoming>>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(io)).await.map_err(io::Error::other)?;
    // It ends with the runtime, or with the last of what is read over it.
    drop(tokio::spawn(connection));
    sender.send_request(request).await.map_err(io::Error::other)
}

impl Trouble {
    /// Says it, and makes the exit code of it.
    pub fn report(self) -> ExitCode {
        match self {
            Trouble::Unreachable(why) => fail(EXIT_FAILURE, why),
            Trouble::Refused(error) => match error.help {
                Some(help) => fail(EXIT_FAILURE, format!("{}\n  help: {help}", error.error)),
                None => fail(EXIT_FAILURE, error.error),
            },
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Unreachable(why) => f.write_str(why),
            Trouble::Refused(error) => f.write_str(&error.error),
        }
    }
}
