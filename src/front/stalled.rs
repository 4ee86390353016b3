//! A response whose caller took nothing for too long: its body is dropped like any that is not wanted any more, and
//! whoever tells of the request learns why.

use std::cell::Cell;

/// Drops `body`, of a caller that has `stalled`, or not.
pub fn drop_body<T>(stalled: bool, body: T) {
    STALLED.set(stalled);
    drop(body);
    STALLED.set(false);
}

/// Whether what is dropped now is the body of a caller that has stalled.
pub fn is_told() -> bool {
    STALLED.get()
}

thread_local! {
    static STALLED: Cell<bool> = const { Cell::new(false) };
}
