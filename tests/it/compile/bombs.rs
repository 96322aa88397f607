//! Small components that cost the compiler much.
//!
//! Each says to be a `wasi:http` handler, and holds one core module of one function.

const BLOCK: u8 = 0x02;
const LOOP: u8 = 0x03;
const END: u8 = 0x0b;
const BR_IF: u8 = 0x0d;
const DROP: u8 = 0x1a;
const LOCAL_GET: u8 = 0x20;
const I32_CONST: u8 = 0x41;
const I32: u8 = 0x7f;
/// The type of a block without parameters or results.
const EMPTY: u8 = 0x40;

/// Loops within loops that may change any of many local variables: the compiler weighs
/// each variable at each loop, and the cost grows with the third power of the size.
///
/// 1400 of both are 11 KiB and cost 4 s here, 2500 are 20 KiB and cost 21 s.
pub fn cpu(loops: usize) -> Vec<u8> {
    let mut body = [LOOP, EMPTY].repeat(loops);
    for local in 0..loops {
        body.push(LOCAL_GET);
        body.extend(leb(local));
        body.extend([BR_IF, 0, END]);
    }
    component(&[], &list(&[[&leb(loops)[..], &[I32]].concat()]), &body)
}

/// Loops within loops that hand on a thousand values each: 8 KiB make the compiler take
/// more than 4 GiB within four seconds.
pub fn memory(loops: usize) -> Vec<u8> {
    const VALUES: usize = 1000;
    let values = [&leb(VALUES)[..], &[I32; VALUES]].concat();
    let handing_on = [&[0x60][..], &values, &values].concat();
    let body = [
        [I32_CONST, 0].repeat(VALUES),
        [LOOP, 1].repeat(loops),
        [END].repeat(loops),
        [DROP].repeat(VALUES),
    ];
    component(&[handing_on], &[0], &body.concat())
}

/// As many blocks within blocks as fit into `size` bytes.
pub fn depth(size: usize) -> Vec<u8> {
    let blocks = size / 3;
    component(&[], &[0], &[[BLOCK, EMPTY].repeat(blocks), [END].repeat(blocks)].concat())
}

/// A component that exports an empty handler, with a module of one function.
fn component(types: &[Vec<u8>], locals: &[u8], body: &[u8]) -> Vec<u8> {
    let nothing_to_nothing = vec![0x60, 0, 0];
    let types = [&[nothing_to_nothing], types].concat();
    let function = [locals, body, &[END]].concat();
    let module = [
        &b"\0asm\x01\0\0\0"[..],
        &section(1, &list(&types)),
        &section(3, &[1, 0]),
        &section(10, &list(&[[&leb(function.len())[..], &function].concat()])),
    ];
    let name = "wasi:http/incoming-handler@0.2.0";
    let export = [&[1, 0][..], &leb(name.len()), name.as_bytes(), &[5, 0, 0]];
    [
        &b"\0asm\x0d\0\x01\0"[..],
        &section(1, &module.concat()),
        // An instance that exports nothing.
        &section(5, &[1, 1, 0]),
        &section(11, &export.concat()),
    ]
    .concat()
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(content.len()), content].concat()
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [leb(items.len()), items.concat()].concat()
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = vec![];
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        match number {
            0 => break bytes.push(low),
            _ => bytes.push(low | 0x80),
        }
    }
    bytes
}
