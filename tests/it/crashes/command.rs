//! `tidegate crashes`, with the server gone.

use std::fs;

use super::{bundles, files, line_that_fails, parse, start};
use crate::support::client::get;
use crate::support::pool::guest;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_lists_bundles_and_shows_one() {
    let (site, server) = start("lines-p2", "");
    site.put("apps/b.wasm", &guest("trap-at-start"));
    let run = |arguments: &[&str]| {
        let (status, text) = site.tidegate(&[&["crashes"], arguments].concat());
        assert_eq!(status.code(), Some(0), "{text}");
        text
    };
    // Where nothing has failed.
    let other = start("kit-p2", "").0;
    let (status, text) = other.tidegate(&["crashes"]);
    assert_eq!((status.code(), text.as_str()), (Some(0), "no crashes are kept\n"));

    bundles(&site, 1);
    assert_eq!(get(&server, "a.test", "/cart?secret=1").await.unwrap().status, 502);
    bundles(&site, 2);
    drop(server);

    let list = run(&[]);
    let place = "at lines_p2::add_to_cart at lines-p2/src/lib.rs";
    assert!(list.contains(place), "{list}");
    assert!(list.find("  a  ") < list.find("  b  "), "the newest first: {list}");
    assert!(!run(&["b"]).contains("add_to_cart"));
    assert_eq!(run(&["nobody"]), "no crashes are kept\n");

    let json = parse(&run(&["--json"]));
    assert_eq!((&json[0]["app"], &json[1]["app"]), (&"a".into(), &"b".into()));
    assert_eq!(json[0]["kind"], "trap");

    let shown = run(&["show", "latest"]);
    let file = json[0]["file"].as_str().unwrap();
    for part in
        ["GET a.test/cart\n", "about to fail at /cart", &line_that_fails(), "memory = 128MiB"]
    {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
    assert_eq!(shown, run(&["show", file]));
    let whole = parse(&run(&["show", "latest", "--json"]));
    let written = files(&site).into_iter().find(|path| path.ends_with(file)).unwrap();
    assert_eq!(whole, parse(&fs::read_to_string(written).unwrap()));
}

#[tokio::test]
async fn what_is_no_bundle_is_said_to_be_none() {
    let (site, server) = start("kit-p2", "");
    drop(server);
    let dir = site.path("state/crashes");
    fs::create_dir(&dir).unwrap();
    let name = |number: u32| format!("a-20250131T235959.123Z-{number}.json");
    fs::write(dir.join(name(1)), "{ torn").unwrap();
    fs::write(dir.join("notes.txt"), "of the operator").unwrap();

    let (status, text) = site.tidegate(&["crashes"]);
    assert_eq!(status.code(), Some(0));
    assert!(text.contains(&format!("{}: not a bundle", name(1))), "{text}");
    assert!(!text.contains("notes"), "{text}");
    for which in ["latest", &name(2), "/nowhere/at/all.json"] {
        let (status, text) = site.tidegate(&["crashes", "show", which]);
        assert_eq!(status.code(), Some(1), "{text}");
        assert!(text.contains("cannot show "), "{text}");
    }
}
