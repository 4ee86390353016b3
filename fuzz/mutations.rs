//! Tries parsers on mutations of their corpus, on any compiler: `mutations SECONDS [TARGET…]`. It says its seed;
//! `FUZZ_SEED` sets it. An input that breaks a parser is written to `artifacts/`.

use std::{
    fs,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use relay_fuzz::{TARGETS, Target, mutate::Mutator};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().and_then(|text| text.parse().ok()).unwrap_or(60);
    let named: Vec<String> = args.collect();
    let clock =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(clock);
    let mut code = ExitCode::SUCCESS;
    for target in
        TARGETS.iter().filter(|target| named.is_empty() || named.iter().any(|name| name == target.name))
    {
        if !run(target, seed, Duration::from_secs(seconds)) {
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// Says whether nothing was found.
fn run(target: &Target, seed: u64, time: Duration) -> bool {
    let mut mutator = Mutator::new(seed, (target.corpus)());
    let (until, mut count) = (Instant::now() + time, 0_u64);
    for bytes in mutator.corpus.clone() {
        (target.run)(&bytes);
    }
    while Instant::now() < until {
        let bytes = mutator.make();
        if std::panic::catch_unwind(|| (target.run)(&bytes)).is_err() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(target.name);
            let file = folder.join(format!("{seed}-{count}"));
            let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, &bytes));
            println!("{}: FUZZ_SEED={seed}, number {count}: {} ({kept:?})", target.name, file.display());
            println!("{:?}", String::from_utf8_lossy(&bytes));
            return false;
        }
        count += 1;
    }
    println!("{}: {count} inputs, FUZZ_SEED={seed}", target.name);
    true
}
