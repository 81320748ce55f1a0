/// A shared value's name: three numbers that mean the same in every process of the family.
///
/// It keeps nothing alive: whoever sends one keeps its [`Shared`](crate::Shared) or
/// [`SharedSlice`](crate::SharedSlice) until every receiver has made its own of the handle. A handle whose value is gone
/// is told apart from every later value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
pub struct Handle {
    /// Where the value's record lies in the arena.
    pub offset: u64,
    /// The value's identity, which no other value ever has.
    pub id: u64,
    /// The number of elements; 1 for a single value.
    pub len: u64,
}
