//! Descriptors kept for operators: they are let in where clients and guests have taken all others.

use std::fs::File;
use std::io;

/// Files that are open for nothing but to be closed in time.
pub struct Reserve {
    kept: Vec<File>,
    most: usize,
}

impl Reserve {
    /// Keeps `most` descriptors, if there are so many.
    pub fn new(most: usize) -> Reserve {
        let mut reserve = Reserve { kept: Vec::with_capacity(most), most };
        reserve.refill();
        reserve
    }

    /// Gives one descriptor back to the process. False when there is none left.
    pub fn give_up_one(&mut self) -> bool {
        self.kept.pop().is_some()
    }

    /// Takes as many as there are to be kept, as far as there are any.
    pub fn refill(&mut self) {
        while self.kept.len() < self.most {
            match File::open("/dev/null") {
                Ok(file) => self.kept.push(file),
                Err(_) => return,
            }
        }
    }
}

/// Whether a descriptor is what was missing.
pub fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_taken_again() {
        let mut reserve = Reserve::new(2);
        assert!(reserve.give_up_one() && reserve.give_up_one());
        assert!(!reserve.give_up_one());
        reserve.refill();
        assert!(reserve.give_up_one());
    }
}
