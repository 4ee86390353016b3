//! Runs a scenario under many seeds, and tells how to repeat the one that failed.
//!
//! `RELAY_SIM_RUNS` is how many seeds each scenario gets. `RELAY_SIM_SEED` repeats one and prints its trace.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::{chance::Chance, plan::Plan, world::World};

/// One scenario: how its runs are drawn, and what must hold at the end beyond what holds in every run.
pub struct Scenario {
    pub name: &'static str,
    /// Seeds, unless the environment says otherwise.
    pub runs: u64,
    pub plan: fn(&mut Chance) -> Plan,
    pub expect: fn(&World) -> Result<(), String>,
}

impl Scenario {
    /// Runs it under every seed.
    ///
    /// # Panics
    /// With the seed and the trace of the first run that breaks a rule.
    pub fn check(&self) {
        if let Some(seed) = setting("RELAY_SIM_SEED") {
            let (world, result) = self.run(seed, true);
            println!("{}", world.trace().join("\n"));
            return result.unwrap_or_else(|broken| panic!("{}, seed {seed}: {broken}", self.name));
        }
        let mut tally = BTreeMap::new();
        for seed in 1..=setting("RELAY_SIM_RUNS").unwrap_or(self.runs) {
            let (world, result) = self.run(seed, false);
            if result.is_err() {
                self.fail(seed);
            }
            for asked in &world.ledger.asked {
                *tally.entry(asked.ended()).or_insert(0_u64) += 1;
            }
        }
        println!("{}: {tally:?}", self.name);
    }

    fn run(&self, seed: u64, traced: bool) -> (World, Result<(), String>) {
        let mut chance = Chance::new(seed);
        let plan = (self.plan)(&mut chance);
        let mut world = World::new(plan, &mut chance, traced);
        let result = catch_unwind(AssertUnwindSafe(|| world.run().and_then(|()| (self.expect)(&world))));
        (world, result.unwrap_or_else(|_| Err("a machine or its shell panicked".to_owned())))
    }

    /// Runs it again with its trace.
    fn fail(&self, seed: u64) -> ! {
        let (world, result) = self.run(seed, true);
        let trace = world.trace();
        let broken = result.err().unwrap_or_else(|| "the same seed gave another run".to_owned());
        let shown = &trace[trace.len().saturating_sub(SHOWN)..];
        panic!(
            "{name}: {broken}\n{shown}\nseed {seed}, the last {SHOWN} of {all} lines; all of them:\n\
             RELAY_SIM_SEED={seed} cargo test --test simulation {name} -- --nocapture",
            name = self.name,
            shown = shown.join("\n"),
            all = trace.len(),
        );
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Lines of a failed run that are printed.
const SHOWN: usize = 60;
