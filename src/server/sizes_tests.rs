use http::Request;
use http_body_util::StreamBody;

use super::*;

/// The refusal of a head, as its status.
fn judged(request: http::request::Builder, clients: &Clients) -> Option<Limit> {
    let parts = request.body(()).unwrap().into_parts().0;
    judge_head(&parts, clients).err().map(|(_, limit)| limit)
}

/// A body of three chunks, whose length is not known.
fn chunks() -> impl Body<Data = Bytes, Error = Error> + Send + Unpin + 'static {
    let frames = (0..3).map(|_| Ok(Frame::data(Bytes::from_static(b"1234"))));
    StreamBody::new(futures_util::stream::iter(frames))
}

#[test]
fn a_head_may_be_as_large_as_it_may_and_no_larger() {
    let clients = Clients { max_uri: 64, max_head: 4096, ..Clients::default() };
    let target = |length: usize| Request::get(format!("/{}", "x".repeat(length - 1)));
    assert_eq!(judged(target(64), &clients), None);
    assert_eq!(judged(target(65), &clients), Some(Limit::MaxUri));
    let absolute = Request::get(format!("http://host.test/{}", "x".repeat(48)));
    assert_eq!(judged(absolute, &clients), Some(Limit::MaxUri));

    // The line has 16 bytes, `h: ` and the end of its line 5.
    let header = |length: usize| Request::get("/").header("h", "x".repeat(length));
    assert_eq!(judged(header(4096 - 16 - 5), &clients), None);
    assert_eq!(judged(header(4096 - 16 - 4), &clients), Some(Limit::MaxHead));

    let count =
        |count: usize| (0..count).fold(Request::get("/"), |request, _| request.header("many", "1"));
    assert_eq!(judged(count(100), &clients), None);
    assert_eq!(judged(count(101), &clients), Some(Limit::MaxHeaders));
}

#[tokio::test]
async fn a_body_without_a_length_is_counted_as_it_comes() {
    let (body, overflow) = capped(chunks(), 12).unwrap();
    assert_eq!(body.collect().await.unwrap().to_bytes().len(), 12);
    assert!(!overflow.unwrap().is_over());

    let (body, overflow) = capped(chunks(), 11).unwrap();
    assert!(matches!(body.collect().await, Err(Error::HttpRequestBodySize(_))));
    let overflow = overflow.unwrap();
    assert!(overflow.is_over());
    overflow.happened().await;
}

#[test]
fn a_body_with_a_length_is_judged_at_once() {
    let body =
        |text: &'static str| http_body_util::Full::from(text).map_err(|never| match never {});
    assert!(capped(body("1234"), 4).is_ok_and(|(_, overflow)| overflow.is_none()));
    assert_eq!(capped(body("12345"), 4).err(), Some(TooLarge));
}

#[test]
fn an_answer_is_cut_where_it_is_too_long_and_where_its_request_was() {
    let tally = Tally::new(None);
    let data = || Some(Ok(Frame::data(Bytes::from_static(b"1234"))));
    let mut allowance = Allowance::new(8, None, Arc::clone(&tally));
    assert!(matches!(allowance.judge(data()), Some(Ok(_))));
    assert!(matches!(allowance.judge(data()), Some(Ok(_))));
    assert!(allowance.judge(None).is_none());
    assert!(matches!(allowance.judge(data()), Some(Err(Broken::Response))));
    assert_eq!(tally.times(Limit::MaxResponseBody), 1);

    let overflow = Arc::new(Overflow::default());
    let mut allowance = Allowance::new(8, Some(Arc::clone(&overflow)), Arc::clone(&tally));
    assert!(allowance.judge(data()).is_some_and(|frame| frame.is_ok()));
    overflow.is_over.store(true, Relaxed);
    assert!(matches!(allowance.judge(None), Some(Err(Broken::Request))));
    assert_eq!(tally.times(Limit::MaxRequestBody), 1);
}
