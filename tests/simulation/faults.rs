//! What goes wrong in a run: processes die, are cut off, stopped, drained and replaced.

use crate::{
    bus::{At, Micros},
    plan::{Fault, MS},
    process::Item,
    world::{Event, Life, World},
};

/// A later part of a fault.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Connects,
    Notices,
    NoticedAtServer,
    Resumes,
}

impl World {
    /// A fault begins.
    pub fn fault(&mut self, fault: Fault) {
        self.say(|_| format!("-- {fault:?}"));
        let now = self.now;
        match fault {
            Fault::Crash { process, .. } if self.is_dead(process) => {}
            Fault::Crash { process, noticed, replaced } => {
                let kind = self.hosts[process].kind;
                self.origins.abort_all(process);
                self.ledger.orphan(process);
                self.end(process, noticed);
                if let Some(after) = replaced {
                    self.schedule(now + after, Event::Fault(Fault::Start { kind }));
                }
            }
            Fault::Cut { process, noticed, noticed_at_server, reconnects } => {
                self.bus.cut(process);
                self.schedule(now + noticed, Event::Step(process, Step::Notices));
                self.schedule(now + noticed_at_server, Event::Step(process, Step::NoticedAtServer));
                self.schedule(now + reconnects, Event::Step(process, Step::Connects));
            }
            Fault::Pause { process, lasts } => {
                if self.hosts[process].life == Life::Running {
                    self.hosts[process].life = Life::Stopped { since: now };
                    self.schedule(now + lasts, Event::Step(process, Step::Resumes));
                }
            }
            Fault::Drain { process } => self.give(process, Item::Drain),
            Fault::Start { kind } => {
                let at = self.add(kind);
                self.step(at, Step::Connects);
            }
        }
    }

    /// A fault goes on.
    pub fn step(&mut self, at: At, step: Step) {
        self.say(|world| format!("-- {} {step:?}", world.name(at)));
        match (step, self.hosts[at].life) {
            (Step::NoticedAtServer, _) => self.bus.notice_at_server(at),
            (_, Life::Dead) => {}
            // A stopped process notices nothing.
            (Step::Notices | Step::Connects, Life::Stopped { .. }) => {
                self.schedule(self.now + 20 * MS, Event::Step(at, step));
            }
            (Step::Notices, Life::Running) => {
                self.bus.notice(at);
                self.give(at, Item::Disconnected);
            }
            (Step::Connects, Life::Running) => {
                for (when, transit) in self.bus.reconnect(at, self.now) {
                    self.schedule(when, Event::Transit(transit));
                }
                self.give(at, Item::Connected);
            }
            (Step::Resumes, Life::Stopped { since }) => self.resume(at, since),
            (Step::Resumes, Life::Running) => {}
        }
    }

    /// Everything that came in the meantime is there at once; timers run before it or after it.
    fn resume(&mut self, at: At, since: Micros) {
        self.hosts[at].life = Life::Running;
        self.hosts[at].stopped_for += self.now - since;
        if self.chance.per_mille(500) {
            self.timer(at);
        }
        for item in std::mem::take(&mut self.hosts[at].backlog) {
            self.give(at, item);
        }
        self.carry_out(at);
    }

    /// A process ends.
    pub fn end(&mut self, at: At, noticed: Micros) {
        self.hosts[at].life = Life::Dead;
        let written = self.bus.close(at);
        self.schedule(written.max(self.now) + noticed, Event::Step(at, Step::NoticedAtServer));
    }
}
