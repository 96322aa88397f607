//! What other people's servers need to run beside a test.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

/// An address where nothing listens, which nobody else asks for by its number.
pub fn free_address() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    free.expect("a free port")
}

/// A program that Debian has where only root looks.
pub fn daemon(program: &str) -> Command {
    let mut command = Command::new(program);
    let paths = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{paths}:/usr/sbin:/sbin"));
    command
}
