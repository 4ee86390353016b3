//! Interim responses on their way to a caller. The task that waits for an answer receives them; they are for the connection
//! that polls it at that moment, if one does.

use std::cell::Cell;

use crate::wire::Interim;

thread_local! {
    static HEARD: Cell<Option<Vec<Interim>>> = const { Cell::new(None) };
}

/// What `poll` returns, and the interim responses that came meanwhile.
pub fn hearing<T>(poll: impl FnOnce() -> T) -> (T, Vec<Interim>) {
    let outer = HEARD.replace(Some(Vec::new()));
    let polled = poll();
    (polled, HEARD.replace(outer).unwrap_or_default())
}

/// Tells the connection that polls the answer now. An answer that another task waits for, such as a refresh of the
/// cache, has no caller who could be told.
pub fn tell(interim: Interim) {
    if let Some(mut heard) = HEARD.take() {
        heard.push(interim);
        HEARD.set(Some(heard));
    }
}
