//! The world in `wit/` is exactly what the linkers provide, and what the table of interfaces says.

use std::collections::BTreeSet;
use std::path::Path;

use tidegate::guest::component::Component;
use tidegate::guest::engine::Kind;
use tidegate::guest::interfaces::{P2, P2_VERSION, P3, P3_VERSION};
use wasmtime::component::types::ComponentItem;
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, PackageId, Resolve, WorldId, WorldItem};

use crate::components::start;
use crate::support::pool::engines;

const SYNC: ManglingAndAbi = ManglingAndAbi::Legacy(LiftLowerAbi::Sync);
const ASYNC: ManglingAndAbi = ManglingAndAbi::Legacy(LiftLowerAbi::AsyncCallback);

/// The folder's texts; with `unstable`, also what they only announce.
fn wit(unstable: bool) -> (Resolve, PackageId) {
    let mut resolve = Resolve { all_features: unstable, ..Resolve::default() };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("wit");
    let (package, _) = resolve.push_dir(folder).expect("wit/ is well formed");
    (resolve, package)
}

/// A component that imports every function of the world's imports, and does nothing.
fn component(resolve: &Resolve, world: WorldId, abi: ManglingAndAbi) -> Vec<u8> {
    let mut module = dummy_module(resolve, world, abi);
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).expect("metadata");
    let mut encoder = ComponentEncoder::default().validate(true);
    encoder = encoder.module(&module).expect("a module of the world");
    encoder.encode().expect("a component")
}

/// A component for p2 that also imports one function, `interface#function`, of those not offered.
fn component_with(resolve: &Resolve, offered: &BTreeSet<String>, function: &str) -> Vec<u8> {
    let mut resolve = resolve.clone();
    let (interface, _) = function.split_once('#').expect("a function");
    let text = format!(
        "package test:one; world one {{ import {interface}; export wasi:http/incoming-handler@{P2_VERSION}; }}"
    );
    let package = resolve.push_str("one.wit", &text).expect("a world");
    let world = resolve.select_world(&[package], None).expect("its world");
    let names: Vec<_> = resolve.interfaces.iter().map(|(id, _)| (id, resolve.id_of(id))).collect();
    for (id, name) in names {
        resolve.interfaces[id].functions.retain(|key, _| {
            let this = format!("{}#{key}", name.as_deref().unwrap_or_default());
            this == function || offered.contains(&this) || this.contains("incoming-handler")
        });
    }
    component(&resolve, world, SYNC)
}

/// `interface` for each interface in the folder's texts, and `interface#function` for each function.
fn everything(resolve: &Resolve) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (id, interface) in &resolve.interfaces {
        let Some(name) = resolve.id_of(id) else { continue };
        names.extend(interface.functions.keys().map(|function| format!("{name}#{function}")));
        names.insert(name);
    }
    names
}

/// The same of what a world imports.
fn imports(resolve: &Resolve, world: WorldId) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for item in resolve.worlds[world].imports.values() {
        let WorldItem::Interface { id, .. } = item else { panic!("not an interface: {item:?}") };
        let name = resolve.id_of(*id).expect("it has a name");
        let functions = resolve.interfaces[*id].functions.keys();
        names.extend(functions.map(|function| format!("{name}#{function}")));
        names.insert(name);
    }
    names
}

/// The same of what a compiled component asks for.
fn asked(component: &Component) -> BTreeSet<String> {
    let engine = component.compiled.engine();
    let mut names = BTreeSet::new();
    for (name, item) in component.compiled.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { panic!("{name}") };
        for (function, item) in instance.exports(engine) {
            if matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                names.insert(format!("{name}#{function}"));
            }
        }
        names.insert(name.to_owned());
    }
    names
}

fn at(interfaces: &[&str], version: &str) -> BTreeSet<String> {
    interfaces.iter().map(|interface| format!("{interface}@{version}")).collect()
}

fn only_interfaces(names: BTreeSet<String>) -> BTreeSet<String> {
    names.into_iter().filter(|name| !name.contains('#')).collect()
}

#[test]
fn the_worlds_import_what_the_table_says() {
    let (resolve, package) = wit(false);
    let world = |name| resolve.select_world(&[package], Some(name)).unwrap();
    let p2 = at(P2, P2_VERSION);
    assert_eq!(only_interfaces(imports(&resolve, world("p2"))), p2);
    let p3 = p2.union(&at(P3, P3_VERSION)).cloned().collect();
    assert_eq!(only_interfaces(imports(&resolve, world("p3"))), p3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_uses_all_of_a_world_starts() {
    let (resolve, package) = wit(false);
    for (name, abi, kind) in [("p2", SYNC, Kind::Plain), ("p3", ASYNC, Kind::Concurrent)] {
        let world = resolve.select_world(&[package], Some(name)).unwrap();
        let bytes = component(&resolve, world, abi);
        let component = Component::compile_here(&engines(), &bytes).expect(name);
        assert_eq!(component.kind, kind, "{name}");
        let wanted = imports(&resolve, world);
        // An interface without functions is left out of a component that has no use for its types.
        let missed: Vec<_> = wanted.difference(&asked(&component)).cloned().collect();
        assert!(missed.iter().all(|name| !name.contains('#')), "{name}: {missed:?}");
        start(&component).await.expect(name);
    }
}

#[test]
fn what_is_not_in_the_worlds_does_not_link() {
    let (stable, package) = wit(false);
    let world = stable.select_world(&[package], Some("p3")).unwrap();
    let offered = imports(&stable, world);
    let (resolve, _) = wit(true);

    let announced = everything(&resolve);
    let others: Vec<_> = announced.difference(&offered).filter(|name| name.contains('#')).collect();
    assert!(!others.is_empty());
    for other in others {
        let bytes = component_with(&resolve, &offered, other);
        for kind in [Kind::Plain, Kind::Concurrent] {
            let engines = engines();
            let side = engines.side(kind);
            // What the plain engine does not even compile is not provided there.
            let compiled = wasmtime::component::Component::from_binary(&side.engine, &bytes);
            if kind == Kind::Concurrent {
                assert!(compiled.is_ok(), "{other}: {:?}", compiled.err());
            }
            let linked = compiled.and_then(|compiled| side.linker.instantiate_pre(&compiled));
            assert!(linked.is_err(), "{other} is provided and not in the world");
        }
    }
}
