//! Bodies larger than anything may keep: 2 GiB up and down, compared byte by byte, while no relay process grows;
//! and whoever stops reading stops whoever writes. `RELAY_BULK` sets another size.
//!
//! `bulk/stream.rs` has the bodies, the origin and the caller.

mod support;

#[path = "bulk/stream.rs"]
mod stream;

use std::{net::SocketAddr, time::Duration};

use stream::{Caller, Site};
use support::*;

/// What a process may need more at its worst than when it was idle.
const GROWTH: u64 = 64 << 20;
/// What the relay itself may have on the way: its credit, and what is being read and written.
const RELAYS: u64 = 8 << 20;
/// A body that is too long to be on the way as a whole.
const LONG: u64 = 256 << 20;
/// A debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(900);

#[tokio::test]
async fn a_large_download_arrives_and_nobody_grows() {
    let (relay, site) = start().await;
    let peaks = Peaks::of(&relay);
    download(relay.client.address().await, &site, size()).await;
    peaks.are_low();
}

#[tokio::test]
async fn a_large_upload_arrives_and_nobody_grows() {
    let (relay, site) = start().await;
    let peaks = Peaks::of(&relay);
    upload(relay.client.address().await, &site, size()).await;
    peaks.are_low();
}

#[tokio::test]
async fn a_reader_that_pauses_stops_the_origin() {
    let (relay, site) = start().await;
    let peaks = Peaks::of(&relay);
    paused_download(relay.client.address().await, &site, LONG).await;
    peaks.are_low();
}

#[tokio::test]
async fn an_origin_that_pauses_stops_the_caller() {
    let (relay, site) = start().await;
    let peaks = Peaks::of(&relay);
    paused_upload(relay.client.address().await, &site, LONG).await;
    peaks.are_low();
}

#[tokio::test]
async fn caller_and_origin_agree_without_a_relay() {
    let (origin, site) = Site::start().await;
    let (address, size) = (origin.address(), size() / 8);
    download(address, &site, size).await;
    upload(address, &site, size).await;
    paused_download(address, &site, LONG).await;
    paused_upload(address, &site, LONG).await;
}

async fn download(address: SocketAddr, site: &Site, size: u64) {
    let mut reading = Caller::connect(address).await.download(size).await;
    within(LIMIT, "the download", reading.read(size)).await;
    within(LIMIT, "the end of the download", reading.ends()).await;
    assert_eq!(site.sent.get(), size);
}

async fn upload(address: SocketAddr, site: &Site, size: u64) {
    site.go_on();
    let upload = Caller::connect(address).await.upload(size).1;
    assert_eq!(within(LIMIT, "the upload", upload).await.unwrap(), size);
    assert_eq!(site.received.get(), size);
}

async fn paused_download(address: SocketAddr, site: &Site, size: u64) {
    let part = size / 8;
    let mut reading = Caller::connect(address).await.download(size).await;
    let before = site.sent.get();
    within(LIMIT, "a part of the download", reading.read(part)).await;
    let sent = site.sent.rests().await;
    assert!(before <= sent && sent - part <= window(), "{part} bytes were read, {sent} written");
    within(LIMIT, "the rest of the download", reading.read(size - part)).await;
    within(LIMIT, "the end of the download", reading.ends()).await;
}

/// What may be on the way at once: what the system's sockets hold at the caller's end and at the origin's, and the
/// relay's own.
fn window() -> u64 {
    let largest = |name: &str| -> u64 {
        let sizes = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
        sizes.split_whitespace().last().unwrap().parse().unwrap()
    };
    2 * (largest("tcp_rmem") + largest("tcp_wmem")) + RELAYS
}

async fn paused_upload(address: SocketAddr, site: &Site, size: u64) {
    let part = size / 8;
    site.pause_after(part);
    let (sent, upload) = Caller::connect(address).await.upload(size);
    let upload = tokio::spawn(upload);
    eventually("the origin has read its part", || {
        assert!(!upload.is_finished(), "the upload ended early");
        site.received.get() >= part
    })
    .await;
    let (read, sent) = (site.received.rests().await, sent.rests().await);
    assert!(sent - read <= window(), "{read} bytes were read, {sent} written");
    site.go_on();
    assert_eq!(within(LIMIT, "the rest of the upload", upload).await.unwrap().unwrap(), size);
}

async fn start() -> (Relay, Site) {
    let (origin, site) = Site::start().await;
    (Relay::to(origin).start().await, site)
}

/// How much, of a test that sends all of it.
fn size() -> u64 {
    match std::env::var("RELAY_BULK") {
        Ok(text) => text.parse::<bytesize::ByteSize>().expect("RELAY_BULK is a size").as_u64(),
        Err(_) => 2 << 30,
    }
}

/// The relay's processes, and what each needed before.
struct Peaks<'a>(Vec<(&'static str, &'a Process, u64)>);

impl<'a> Peaks<'a> {
    fn of(relay: &'a Relay) -> Peaks<'a> {
        let roles = [("client agent", &relay.client), ("upstream agent", &relay.agent)];
        let broker = relay.broker.iter().map(|broker| ("broker", broker));
        let before = |(name, role): (&'static str, &'a Role)| {
            let process: &Process = role;
            process.forget_peak();
            let peak = process.peak_memory();
            assert!(peak > 0, "the {name}'s memory cannot be seen");
            (name, process, peak)
        };
        Peaks(roles.into_iter().chain(broker).map(before).collect())
    }

    #[track_caller]
    fn are_low(&self) {
        for (name, process, before) in &self.0 {
            assert!(process.is_running(), "the {name} ended");
            let peak = process.peak_memory();
            assert!(peak < before + GROWTH, "the {name} grew from {before} to {peak} bytes");
        }
    }
}
