//! What a file may be made of at the most, so that looking at it and compiling it stay cheap.
//!
//! wasmtime and its parser trust their callers here: they read nested types by
//! recursion, and hold every level of nested components at once. 600 KB of
//! either are enough to end the process. Real components come nowhere near.

use wasmparser::{BinaryReader, ComponentType, ComponentTypeDeclaration};

/// Levels of components within components. Composed ones have a handful.
pub const MAX_NESTING: usize = 100;

/// Modules and components in a file, at all levels. Python's runtime has about 50.
pub const MAX_PARTS: usize = 1000;

/// Instances that one instance of a file is made of, at all levels. A Rust guest
/// has about 6. Components that instantiate the next one ten times each need
/// few bytes, and ten times the instances at each level.
pub const MAX_INSTANCES: u64 = 1000;

/// Levels of types within types.
pub const MAX_TYPE_NESTING: usize = 100;

/// The bytes that begin a component or an instance type, which hold further types.
const COMPONENT_TYPE: u8 = 0x41;
const INSTANCE_TYPE: u8 = 0x42;

/// The byte that begins a type among a component or instance type's declarations.
const TYPE_DECLARATION: u8 = 0x01;

/// Checks how deep the types of a type section, given as its bytes, are nested.
///
/// Takes apart by hand what can be nested, and leaves only the rest to the parser.
///
/// # Errors
/// The outer one when it is no type section; the inner one, in words fit for a
/// user, when they are nested too deep.
pub fn check_types(section: &[u8]) -> wasmparser::Result<Result<(), String>> {
    let mut reader = BinaryReader::new(section, 0);
    // How many items are left at each level, the section's own first.
    let mut left = vec![reader.read_var_u32()?];
    while let Some(items) = left.last_mut() {
        if *items == 0 {
            left.pop();
            continue;
        }
        *items -= 1;
        if left.len() > 1 {
            let mut ahead = reader.clone();
            if ahead.read_u8()? != TYPE_DECLARATION {
                reader.read::<ComponentTypeDeclaration>()?;
                continue;
            }
            reader = ahead;
        }
        let mut ahead = reader.clone();
        match ahead.read_u8()? {
            COMPONENT_TYPE | INSTANCE_TYPE => {
                left.push(ahead.read_var_u32()?);
                reader = ahead;
                if left.len() > MAX_TYPE_NESTING {
                    return Ok(Err(format!(
                        "types are nested in it more than {MAX_TYPE_NESTING} levels deep"
                    )));
                }
            }
            _ => {
                reader.read::<ComponentType>()?;
            }
        }
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deeply_nested_types_are_found_without_recursion() {
        let nested = |levels: usize| {
            let mut section = vec![1];
            for _ in 0..levels {
                section.extend([INSTANCE_TYPE, 1, TYPE_DECLARATION]);
            }
            section.extend([INSTANCE_TYPE, 0]);
            section
        };
        assert!(check_types(&nested(MAX_TYPE_NESTING - 2)).unwrap().is_ok());
        assert!(check_types(&nested(MAX_TYPE_NESTING)).unwrap().is_err());
        assert!(check_types(&nested(5_000_000)).unwrap().is_err());
    }
}
