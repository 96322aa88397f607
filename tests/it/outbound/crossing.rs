//! Many calls at once, good and bad: each guest gets the answer to its own question.

use std::sync::Arc;

use crate::support::client::get_at;
use crate::support::holds::{Shown, times};
use crate::support::origin::Origin;

use super::{SENDERS, escaped, site};

/// Calls at a time for each guest.
const AT_A_TIME: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_goes_to_another_s_question() {
    let origin = Arc::new(Origin::plain().await);
    let limits = "outbound_timeout = \"2s\"\nmax_outbound_body = \"64KiB\"\nmax_instances = 32";
    let server = site(&[&origin.url("")], limits).start();
    let each = times(25, 625);

    let mut askers = tokio::task::JoinSet::new();
    for host in SENDERS {
        for asker in 0..AT_A_TIME {
            let (address, origin) = (server.http, Arc::clone(&origin));
            askers.spawn(async move {
                for number in 0..each {
                    let own = format!("{host}-{asker}-{number}");
                    // Every other question leaves its connection in a bad state.
                    let (path, more) = match number % 10 {
                        1 => ("/slow-body".to_owned(), "between=1"),
                        3 => ("/never".to_owned(), "first=1"),
                        5 => ("/truncated".to_owned(), ""),
                        7 => ("/large?70000".to_owned(), ""),
                        9 => (format!("/early?{own}"), "method=POST&body=30000"),
                        _ => (format!("/seen?{own}"), ""),
                    };
                    let path = format!("/send?url={}&{more}", escaped(&origin.url(&path)));
                    let told = get_at(address, host, &path).await.expect("an answer");
                    let told = told.text();
                    match number % 10 {
                        1 | 3 | 5 | 7 => assert!(!told.contains("whole"), "{own}: {told}"),
                        9 => assert!(
                            told.contains(&format!("whole: early {own}\n")),
                            "{own}: {told}"
                        ),
                        _ => {
                            let asked = format!("whole: GET /seen?{own} HTTP/1.1\r\n");
                            assert!(told.contains(&asked), "{own}: {told}");
                        }
                    }
                }
            });
        }
    }
    while let Some(asker) = askers.join_next().await {
        asker.expect("right answers");
    }

    let (asked, connections) = (SENDERS.len() * AT_A_TIME * each, origin.connections());
    assert!(connections < asked, "no connection was used twice");
    Shown {
        part: "Tenants: outbound",
        tried: "calls over shared connections, half of them cut, refused, early or late",
        times: asked,
        bound: "each gets the answer to its own question",
    }
    .holds(format!("none crossed, {connections} connections"), true);
}
