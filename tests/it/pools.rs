//! The pool's promises, each by name, for p2 and p3.

use crate::support::pool::{get, limits, pool, post, text};

#[tokio::test(flavor = "multi_thread")]
async fn smoke() {
    for kit in ["kit-p2", "kit-p3"] {
        let (pool, _tasks) = pool(kit, limits());
        for path in [
            "/hello",
            "/version",
            "/sleep?ms=20",
            "/spin?ms=20",
            "/inspect",
            "/stream?bytes=100000&chunk=1000",
            "/drip?ms=10&count=3",
            "/blob?bytes=200000",
            "/log?lines=2&bytes=10",
            "/post-return?ms=100",
        ] {
            let start = std::time::Instant::now();
            let (status, body) = text(pool.handle(get(path)).await).await;
            println!("{kit} {path} {status} {} {:.60} {:?}", body.len(), body, start.elapsed());
        }
        let (status, body) = text(pool.handle(post("/echo", "hello")).await).await;
        println!("{kit} echo {status} {body}");
        for path in [
            "/trap",
            "/trap-after-head",
            "/trap-late",
            "/stack",
            "/never-answer",
            "/spin?ms=0",
            "/no-response",
            "/exit0",
            "/panic",
            "/stall",
            "/spin-after-head?ms=0",
            "/grow?mib=100",
            "/hello",
        ] {
            let start = std::time::Instant::now();
            let answer = pool.handle(get(path)).await;
            match answer {
                Err(e) => {
                    println!("{kit} {path} failed {e:?} {:?} live {}", start.elapsed(), pool.live())
                }
                Ok(a) => {
                    let r = http_body_util::BodyExt::collect(a.http.into_body()).await;
                    println!(
                        "{kit} {path} {:?} {:?} live {}",
                        r.map(|b| b.to_bytes()),
                        start.elapsed(),
                        pool.live()
                    );
                }
            }
        }
    }
}
