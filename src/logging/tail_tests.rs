use super::*;

fn label(app: &str) -> Label<'_> {
    Label { app, is_access: false }
}

fn access(app: &str) -> Label<'_> {
    Label { app, is_access: true }
}

fn of(app: &str) -> Wanted {
    Wanted { app: Some(app.to_owned()), access: false }
}

/// What a follower gets now, if anything.
fn read(follower: &Follower) -> Option<String> {
    match follower.poll_lines(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(lines) => Some(String::from_utf8(lines.to_vec()).unwrap()),
        Poll::Pending => None,
    }
}

#[test]
fn a_follower_gets_the_last_lines_and_then_each_once() {
    let tail = Tail::new();
    tail.take(b"one\n", label("a"));
    tail.take(b"two\n", label(""));
    let follower = tail.follow(Wanted::default(), 1).unwrap();
    assert_eq!(read(&follower).as_deref(), Some("two\n"));
    assert_eq!(read(&follower), None);

    tail.take(b"three\n", label("a"));
    tail.take(b"four\n", label("b"));
    assert_eq!(read(&follower).as_deref(), Some("three\nfour\n"));
    assert_eq!(read(&follower), None);
    assert_eq!(tail.last(&of("a"), 9), "one\nthree\n");
}

#[test]
fn an_app_is_told_by_its_label_and_not_by_what_the_line_says() {
    let tail = Tail::new();
    let follower = tail.follow(of("shop"), 9).unwrap();
    tail.take(b"guest hello app=shop\n", label("evil"));
    tail.take(b"of the shop\n", label("shop"));
    tail.take(b"of another\n", label("shop2"));
    assert_eq!(read(&follower).as_deref(), Some("of the shop\n"));
    assert_eq!(tail.last(&of("shop"), 9), "of the shop\n");
}

#[test]
fn access_lines_are_for_those_who_ask_and_follow() {
    let tail = Tail::new();
    tail.take(b"unseen\n", access("a"));
    let others = tail.follow(Wanted::default(), 9).unwrap();
    let all = tail.follow(Wanted { access: true, ..Wanted::default() }, 9).unwrap();
    tail.take(b"request\n", access("a"));
    tail.take(b"line\n", label("a"));
    assert_eq!(read(&others).as_deref(), Some("line\n"));
    assert_eq!(read(&all).as_deref(), Some("request\nline\n"));
    assert_eq!(tail.last(&Wanted { access: true, ..Wanted::default() }, 9), "line\n");
}

#[test]
fn a_slow_follower_is_told_what_it_misses_and_where() {
    let tail = Tail::new();
    let slow = tail.follow(Wanted::default(), 9).unwrap();
    let quick = tail.follow(Wanted::default(), 9).unwrap();
    let mut seen = 0;
    let line = format!("{}\n", "x".repeat(999));
    for _ in 0..1000 {
        tail.take(line.as_bytes(), label("a"));
        seen += read(&quick).map_or(0, |lines| lines.lines().count());
    }
    assert_eq!(seen, 1000);
    assert!(slow.lock().bytes <= WAITING_MAX);

    let lines = read(&slow).unwrap();
    let kept = lines.lines().filter(|line| line.starts_with('x')).count();
    let notice = lines.lines().last().unwrap();
    assert!(notice.ends_with(&format!("lines={}", 1000 - kept)), "{notice}");
    assert!(kept > 200 && kept < 300, "{kept}");
    tail.take(b"later\n", label("a"));
    assert_eq!(read(&slow).as_deref(), Some("later\n"));
}

#[test]
fn followers_are_counted_and_who_leaves_makes_room() {
    let tail = Tail::new();
    let mut all: Vec<_> =
        (0..FOLLOWERS_MAX).map(|_| tail.follow(Wanted::default(), 0).unwrap()).collect();
    assert!(tail.follow(Wanted::default(), 0).is_err());
    all.pop();
    all.push(tail.follow(Wanted::default(), 0).unwrap());
    drop(all);

    assert!(tail.followed.load(Relaxed));
    tail.take(b"a line\n", label(""));
    assert!(!tail.followed.load(Relaxed), "nobody is there any more");
}

#[test]
fn who_waits_is_woken() {
    let tail = Tail::new();
    let follower = tail.follow(Wanted::default(), 9).unwrap();
    let woken = Arc::new(Woken::default());
    let waker = woken.clone().into();
    assert!(follower.poll_lines(&mut Context::from_waker(&waker)).is_pending());
    tail.take(b"a line\n", label(""));
    assert!(woken.0.load(Relaxed));
}

#[derive(Default)]
struct Woken(AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}
