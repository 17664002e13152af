//! The pool as its governor sees it.

use super::HostPool;
use crate::governor::{Governed, Usage};

impl Governed for HostPool {
    fn usage(&self) -> Usage {
        let sums = self.books.sums();
        Usage {
            used: sums.ephemeral + sums.persistent,
            reclaimable: if self.config.reclaimable {
                sums.ephemeral
            } else {
                0
            },
        }
    }

    fn set_size(&self, bytes: u64) {
        HostPool::set_size(self, bytes);
    }

    fn find_taken(&self) {
        HostPool::find_taken(self);
    }
}
