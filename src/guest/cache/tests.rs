use super::*;

#[test]
fn a_directory_that_others_can_write_to_is_refused() {}
