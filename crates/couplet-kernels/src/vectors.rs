//! The widest vectors of this machine.

/// Runs `work`, which must be inlined, with the widest vectors of this machine.
///
/// Loops in it are `for` loops: the standard library's `for_each` and `fold` are functions of their own, and
/// where the compiler leaves them so, it compiles them for the oldest processor (GELU took 16% of a step).
#[inline]
pub(crate) fn wide<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}
