//! Who is a member, and who of them is dead.

pub(crate) mod current;
pub(crate) mod membership;
mod process;
pub(crate) mod table;
mod token;

pub use membership::Membership;
pub use table::Member;
