//! `tidegate status --watch`, in a terminal and elsewhere.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::client::answer;
use crate::support::server::Site;

/// Runs the command in a terminal of 60 columns and 24 lines, presses q at the third picture, and prints what was drawn.
const TERMINAL: &str = r#"
import fcntl, os, pty, select, struct, subprocess, sys, termios, time
main, side = pty.openpty()
fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
before = termios.tcgetattr(side)
child = subprocess.Popen(sys.argv[1:], stdin=side, stdout=side, stderr=side, env=dict(os.environ, TERM="xterm"))
drawn, end, pressed = b"", time.monotonic() + 60, False
while time.monotonic() < end and child.poll() is None:
    if select.select([main], [], [], 0.1)[0]:
        drawn += os.read(main, 65536)
    if drawn.count(b"\x1b[?2026l") >= 3 and not pressed:
        os.write(main, b"q")
        pressed = True
while select.select([main], [], [], 0.2)[0]:
    drawn += os.read(main, 65536)
sys.stdout.buffer.write(drawn)
assert termios.tcgetattr(side) == before, "the terminal is not as it was"
sys.exit(child.wait(5))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_drawn_over_and_left_as_it_was() {
    let site = Site::usual();
    let server = site.start();
    answer(&server, "p2.test", "/hello").await;
    let output = Command::new("python3")
        .args(["-c", TERMINAL, env!("CARGO_BIN_EXE_tidegate"), "status", "--watch"])
        .current_dir(site.path(""))
        .env_remove("NO_COLOR")
        .output()
        .expect("run python3");
    let drawn = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{drawn}{}", String::from_utf8_lossy(&output.stderr));
    assert!(drawn.starts_with("\x1b[?1049h\x1b[?25l") && drawn.ends_with("\x1b[?25h\x1b[?1049l"));
    let pictures: Vec<_> = drawn.split("\x1b[?2026h\x1b[H").skip(1).collect();
    assert!(pictures.len() >= 3, "{drawn}");
    // The seconds that it is up go on.
    assert_ne!(pictures[0], pictures[2]);
    // A terminal adds a carriage return of its own to each line.
    for line in pictures[0].replace("\r\r\n", "\r\n").split("\x1b[K\r\n") {
        let mut plain = String::new();
        let mut rest = line;
        while let Some((before, after)) = rest.split_once('\x1b') {
            plain += before;
            rest = after.split_once(|end: char| end.is_ascii_alphabetic()).map_or("", |it| it.1);
        }
        plain += rest;
        assert!(plain.chars().count() <= 60, "{plain:?}");
    }
    assert!(pictures[0].contains("\x1b[32mnothing is wrong"), "{drawn}");
}

#[tokio::test(flavor = "multi_thread")]
async fn elsewhere_it_prints_one_after_the_other() {
    let site = Site::usual();
    let _server = site.start();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["status", "--watch"])
        .current_dir(site.path(""))
        .stdout(Stdio::piped())
        .spawn()
        .expect("run tidegate");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let blocks = lines.map_while(Result::ok).filter(|line| line.starts_with("nothing is wrong"));
    assert_eq!(blocks.take(2).count(), 2);
    let _ = child.kill();
    let _ = child.wait();
}
