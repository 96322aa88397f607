//! skeleton
pub struct Certificates(());
