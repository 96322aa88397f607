//! A `wasi:cli` command, which is a component but no HTTP handler.

fn main() {
    println!("hello from a command");
}
