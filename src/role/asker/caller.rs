//! Where the answer to a request goes, and the interim responses before it.

use tokio::sync::oneshot;

use crate::{
    front::http::Answered,
    proto::exchange::Exchanges,
    wire::{Ack, Interim, interim::Allowance},
};

/// What comes next.
pub enum Came {
    /// The answer.
    Answer(Answered),
    /// An interim response, and where the next comes. So what has none costs nothing for it.
    Interim(Box<(Interim, oneshot::Receiver<Came>)>),
}

/// The task that waits for an answer.
pub struct Caller {
    answer: oneshot::Sender<Came>,
    allowance: Allowance,
}

impl Caller {
    /// A caller, and what it waits for.
    pub fn new() -> (Self, oneshot::Receiver<Came>) {
        let (answer, came) = oneshot::channel();
        (Caller { answer, allowance: Allowance::default() }, came)
    }

    /// Answers; says whether the task still waited for it.
    pub fn answer(self, answered: Answered) -> bool {
        self.answer.send(Came::Answer(answered)).is_ok()
    }

    /// Passes an interim response on, unless there were too many.
    fn hear(&mut self, interim: Interim) {
        if self.allowance.passes(&interim) {
            let (answer, came) = oneshot::channel();
            let before = std::mem::replace(&mut self.answer, answer);
            // Should the caller be gone, its answer goes nowhere as well.
            before.send(Came::Interim(Box::new((interim, came)))).ok();
        }
    }
}

/// Passes on the interim response that `ack` brings.
pub fn hear(exchanges: &mut Exchanges<Caller>, number: u64, mut ack: Ack) {
    let Some(said) = ack.interim.take() else { return };
    // Who writes by hand may have left in what an agent leaves out.
    if let Some(interim) = Interim::new(said.status, said.headers)
        && let Some(caller) = exchanges.hears(number, &ack)
    {
        caller.hear(interim);
    }
}
