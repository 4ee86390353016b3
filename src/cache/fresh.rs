//! What may be stored (RFC 9111 §3), for how long it is fresh (§4.2), and what may be used of it when (§4, RFC
//! 5861). Clock time counts once, when a response comes; from then on it is time that has passed.

use std::time::{Duration, Instant, SystemTime};

use http::{StatusCode, header};

use super::{
    control::{self, Said, Wants},
    key::Vary,
};
use crate::wire::Headers;

/// When a response was asked for and came.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// When it was asked for.
    pub asked: Instant,
    /// When its head came.
    pub now: Instant,
    /// The same by the clock.
    pub clock: SystemTime,
}

/// How old a stored response is, how long it is fresh, and what may be done with it then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fresh {
    lifetime: Duration,
    /// Its age when it came.
    age: Duration,
    came: Instant,
    /// Not to be used without asking.
    no_cache: bool,
    /// Never to be used stale.
    strict: bool,
    /// Not to be used stale only because a caller would put up with it.
    shared: bool,
    while_revalidate: Duration,
    if_error: Duration,
}

/// What may be done with a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It answers.
    Fresh,
    /// It answers: the caller puts up with that.
    Stale,
    /// It answers, and is to be fetched anew meanwhile.
    Refresh,
    /// The origin is to be asked: it is stale.
    Ask,
    /// The origin is to be asked: the caller wants that.
    AskForCaller,
}

impl Fresh {
    /// Of a response of `status` with these headers to a request that `wants` and whose headers were `asked`;
    /// `None` when it must not be stored, or there is no use in it. Says too what it varies on.
    pub fn judge(
        status: StatusCode,
        headers: &Headers,
        asked: &Headers,
        wants: &Wants,
        times: Times,
    ) -> Option<(Fresh, Vary)> {
        let said = Said::of(headers);
        let no_store = said.no_store && !said.must_understand || wants.no_store;
        if no_store || said.private || !is_understood(status, said.must_understand) {
            return None;
        }
        let shared = said.public || said.s_maxage.is_some() || said.targeted && said.max_age.is_some();
        let for_all = said.public || said.must_revalidate || said.s_maxage.is_some();
        if asked.contains_key(header::AUTHORIZATION) && !for_all {
            return None;
        }
        // RFC 9111 does not forbid it, but one caller's session must not become everybody's.
        if headers.contains_key(header::SET_COOKIE) && !shared {
            return None;
        }
        let vary = Vary::of(headers, asked)?;
        let lifetime = lifetime(status, headers, &said, times.clock)?;
        let fresh = Fresh {
            lifetime,
            age: initial_age(headers, times),
            came: times.now,
            no_cache: said.no_cache,
            strict: said.must_revalidate || said.proxy_revalidate,
            shared: said.s_maxage.is_some(),
            while_revalidate: said.stale_while_revalidate.unwrap_or_default(),
            if_error: said.stale_if_error.unwrap_or_default(),
        };
        let validator = headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
        let later = !fresh.while_revalidate.is_zero() || !fresh.if_error.is_zero();
        (!fresh.lifetime.is_zero() || validator || later).then_some((fresh, vary))
    }

    /// How old it is (RFC 9111 §4.2.3).
    pub fn age(&self, now: Instant) -> Duration {
        self.age.saturating_add(now.saturating_duration_since(self.came))
    }

    /// Seconds it is fresh for; fewer than none when it is stale.
    pub fn ttl(&self, now: Instant) -> i64 {
        let (age, lifetime) = (self.age(now), self.lifetime);
        let whole = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        if self.no_cache { whole(age).saturating_neg() } else { whole(lifetime).saturating_sub(whole(age)) }
    }

    /// When it came.
    pub fn came(&self) -> Instant {
        self.came
    }

    /// What may be done with it for a caller that `wants`.
    pub fn usable(&self, wants: &Wants, now: Instant) -> Use {
        if wants.no_cache {
            return Use::AskForCaller;
        }
        if self.no_cache {
            return Use::Ask;
        }
        let age = self.age(now);
        if wants.max_age.is_some_and(|most| age > most) {
            return Use::AskForCaller;
        }
        match self.lifetime.checked_sub(age) {
            Some(left) if !left.is_zero() => match wants.min_fresh {
                Some(least) if left < least => Use::AskForCaller,
                Some(_) | None => Use::Fresh,
            },
            Some(_) | None => self.usable_stale(wants, age.saturating_sub(self.lifetime)),
        }
    }

    fn usable_stale(&self, wants: &Wants, stale: Duration) -> Use {
        if self.strict {
            return Use::Ask;
        }
        // `s-maxage` forbids it (RFC 9111 §5.2.2.10). What the origin itself says of staleness is another matter.
        if !self.shared && wants.max_stale.is_some_and(|most| stale <= most) {
            return Use::Stale;
        }
        let asks = wants.max_age.is_some() || wants.min_fresh.is_some();
        if !asks && stale < self.while_revalidate { Use::Refresh } else { Use::Ask }
    }

    /// Whether it may stand in for an error (RFC 5861 §4).
    pub fn survives(&self, wants: &Wants, now: Instant) -> bool {
        let stale = self.age(now).saturating_sub(self.lifetime);
        let most = wants.stale_if_error.unwrap_or_default().max(self.if_error);
        !self.strict && !self.no_cache && !most.is_zero() && stale <= most
    }
}

/// How long it is fresh; `None` when nothing lets it be stored (RFC 9111 §3, §4.2.1).
fn lifetime(status: StatusCode, headers: &Headers, said: &Said, clock: SystemTime) -> Option<Duration> {
    if let Some(explicit) = said.s_maxage.or(said.max_age) {
        return Some(explicit);
    }
    let date = date(headers, header::DATE).unwrap_or(clock);
    if !said.targeted && headers.contains_key(header::EXPIRES) {
        // What is no date is in the past (RFC 9111 §5.3).
        let expires = self::date(headers, header::EXPIRES);
        return Some(expires.and_then(|expires| expires.duration_since(date).ok()).unwrap_or_default());
    }
    if !said.public && !is_heuristic(status) {
        return None;
    }
    let modified = self::date(headers, header::LAST_MODIFIED);
    let unchanged = modified.and_then(|modified| date.duration_since(modified).ok()).unwrap_or_default();
    Some((unchanged / 10).min(LONGEST_GUESS))
}

/// Its age when it came (RFC 9111 §4.2.3).
fn initial_age(headers: &Headers, times: Times) -> Duration {
    let apparent = date(headers, header::DATE).and_then(|date| times.clock.duration_since(date).ok());
    let told = headers.get(header::AGE).and_then(|value| value.to_str().ok());
    // Of a list, the first (RFC 9111 §5.1).
    let told = told.and_then(|text| control::seconds(text.split(',').next().unwrap_or_default().trim()));
    let delay = times.now.saturating_duration_since(times.asked);
    let corrected = told.unwrap_or_default().saturating_add(delay);
    // A date has whole seconds: a response of this second is not up to one old.
    let apparent = Duration::from_secs(apparent.unwrap_or_default().as_secs());
    apparent.max(corrected)
}

/// A date in any of HTTP's three forms.
pub fn date(headers: &Headers, name: header::HeaderName) -> Option<SystemTime> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    httpdate::parse_http_date(text).ok().or_else(|| loose_date(text))
}

/// A date in another case, or on another day of the week than it says: neither changes which it is (RFC 9110 section
/// 5.6.7 has recipients take what is clear).
#[cold]
fn loose_date(text: &str) -> Option<SystemTime> {
    let mut before = ' ';
    let titled = text.chars().map(|c| {
        let begins = !std::mem::replace(&mut before, c).is_ascii_alphabetic();
        if begins { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
    });
    let titled = titled.collect::<String>().replace("Gmt", "GMT");
    let rest = &titled[titled.find([',', ' '])?..];
    let long = rest.contains('-');
    let named = |day: &str| [if long { day } else { &day[..3] }, rest].concat();
    DAYS.iter().find_map(|day| httpdate::parse_http_date(&named(day)).ok())
}

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Statuses that may be stored without a word on how long (RFC 9110 §15.1), but for 206.
fn is_heuristic(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// A partial response and one to a condition are not kept. With `must-understand`, only what is known.
fn is_understood(status: StatusCode, must: bool) -> bool {
    let code = status.as_u16();
    let known = is_heuristic(status) || matches!(code, 302 | 303 | 307 | 400 | 403 | 500 | 502..=504);
    (200..600).contains(&code) && !matches!(code, 206 | 304) && (known || !must)
}

/// The longest that is guessed.
const LONGEST_GUESS: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests;
