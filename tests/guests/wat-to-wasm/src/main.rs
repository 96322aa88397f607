//! Assembles every `.wat` of one directory into a `.wasm` in another.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let mut directories = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(from), Some(to)) = (directories.next(), directories.next()) else {
        return Err("usage: wat-to-wasm FROM TO".into());
    };
    for entry in fs::read_dir(from)? {
        let source = entry?.path();
        if source
            .extension()
            .is_some_and(|extension| extension == "wat")
        {
            let name = source.with_extension("wasm");
            fs::write(
                to.join(name.file_name().unwrap()),
                wat::parse_file(&source)?,
            )?;
        }
    }
    Ok(())
}
