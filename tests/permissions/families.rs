//! Every family of subjects, and who may publish and subscribe there: what docs/PROTOCOL.md says, for each user of
//! nats/accounts.conf. A new kind of subject does not compile without its rows.

use relay::wire::{Kind, store::StoreVerb};

use super::users::{Part, REALMS, UPSTREAMS, User};

/// A subject, and who may do what with it.
pub struct Row {
    pub subject: String,
    /// Whether a message can have it; otherwise it is a pattern, for subscriptions alone.
    pub is_pattern: bool,
    publish: Who,
    subscribe: Who,
    join: Who,
}

type Who = Box<dyn Fn(&User) -> bool>;

impl Row {
    /// Whether `user` is meant to publish it.
    pub fn may_publish(&self, user: &User) -> bool {
        !self.is_pattern && (self.publish)(user)
    }

    /// Whether `user` is meant to subscribe to it.
    pub fn may_subscribe(&self, user: &User) -> bool {
        let watches = user.part == Part::Observer && self.subject.starts_with("relay.");
        watches || self.is_private_to(user) || (self.subscribe)(user)
    }

    /// Whether `user` is meant to join relay's queue group there. Who may read all of a subject may read a part of it; the
    /// observer must not, as it would take what it reads from the others.
    pub fn may_join(&self, user: &User) -> bool {
        let watches = user.part == Part::Observer && self.subject.starts_with("relay.");
        (self.join)(user) || (self.may_subscribe(user) && !watches)
    }

    /// Whether it is addressed to the processes of that user: `relay.*.<realm>.*.>`.
    fn is_private_to(&self, user: &User) -> bool {
        let tokens: Vec<&str> = self.subject.split('.').collect();
        let has_inbox = user.is_process() || user.part == Part::Operator;
        has_inbox && tokens.len() > 4 && tokens[0] == "relay" && tokens[2] == user.realm && tokens[3] != ">"
    }

    fn publish(mut self, who: impl Fn(&User) -> bool + 'static) -> Row {
        self.publish = Box::new(who);
        self
    }

    fn subscribe(mut self, who: impl Fn(&User) -> bool + 'static) -> Row {
        self.subscribe = Box::new(who);
        self
    }

    fn join(mut self, who: impl Fn(&User) -> bool + 'static) -> Row {
        self.join = Box::new(who);
        self
    }
}

/// A subject that nobody may do anything with, until more is said.
fn row(subject: impl Into<String>) -> Row {
    let subject = subject.into();
    let is_pattern = subject.split('.').any(|token| matches!(token, "*" | ">"));
    Row {
        subject,
        is_pattern,
        publish: Box::new(|_| false),
        subscribe: Box::new(|_| false),
        join: Box::new(|_| false),
    }
}

/// Every row.
pub fn all() -> Vec<Row> {
    let kinds = Kind::ALL.into_iter().flat_map(of_kind);
    let patterns =
        ["relay.>", "relay.*.*", "relay.*.*.*.>", ">", "*.>", "_INBOX.>", "$SYS.>", "$JS.>", "$KV.>"];
    kinds
        .chain(REALMS.into_iter().flat_map(of_inboxes))
        .chain(services())
        .chain(jetstream())
        .chain(
            ["$SYS.REQ.USER.INFO", "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.PING.STATZ", "other"].map(row),
        )
        .chain(patterns.map(row))
        .collect()
}

/// The rows of a kind.
fn of_kind(kind: Kind) -> Vec<Row> {
    let token = kind.as_str();
    let patterns = [row(format!("relay.{token}.*")), row(format!("relay.{token}.>"))];
    let rows = match kind {
        Kind::Req => {
            let mut rows = each_upstream(|u| {
                let asked = row(format!("relay.req.{u}")).publish(move |user| user.asks(u));
                vec![asked.join(move |user| user.serves(u)), row(format!("relay.req.{u}.canary"))]
            });
            // To one member of the queue group.
            rows.extend(each_id(|r, u| {
                vec![row(format!("relay.req.{r}.P.{u}")).publish(move |user| asks_agent(user, r, u))]
            }));
            rows
        }
        Kind::Ack | Kind::Resp => each_id(|r, u| {
            let to = format!("relay.{token}.{r}.P.{u}.1f");
            vec![row(to).publish(move |user| user.serves(u) || user.part == Part::Broker)]
        }),
        Kind::Body => each_id(|r, u| {
            let may = move |user: &User| match user.part {
                Part::Broker | Part::Client | Part::Socket => true,
                Part::Limited(own) => u == own && (r == own || r == "broker"),
                Part::Operator => r == "broker",
                _ => user.serves(u),
            };
            vec![row(format!("relay.body.{r}.P.{u}.1f")).publish(may)]
        }),
        Kind::Hold => {
            let mut rows = each_upstream(|u| {
                let asked = row(format!("relay.hold.{u}")).publish(move |user| user.asks(u));
                vec![asked.join(|user| user.part == Part::Broker)]
            });
            // Only NATS's word that there is no broker goes there.
            rows.extend(each_id(|r, u| vec![row(format!("relay.hold.{r}.P.{u}.1f"))]));
            rows
        }
        Kind::Lease => each_id(|r, u| {
            let may = move |user: &User| r == "broker" && user.asks(u);
            vec![
                row(format!("relay.lease.{r}.P.{u}.1f")).publish(may),
                row(format!("relay.lease.{r}.P.{u}.renew")).publish(may),
                row(format!("relay.lease.{r}.P.broker.Q.lost")).publish(|user| user.part == Part::Broker),
                row(format!("relay.lease.{r}.P.client.Q.lost")),
            ]
        }),
        Kind::Probe => each_id(|r, u| {
            let asked = move |user: &User| asks_agent(user, r, u);
            let answered = |a: &'static str| {
                row(format!("relay.probe.{r}.P.{u}.{a}.Q"))
                    .publish(move |user| user.serves(u) && user.realm == a)
            };
            let mut rows = vec![row(format!("relay.probe.{r}.P.{u}")).publish(asked)];
            rows.extend(UPSTREAMS.map(answered));
            rows
        }),
        Kind::Here | Kind::Gone => each_id(|r, u| {
            let own = row(format!("relay.{token}.{u}.{r}.P"))
                .publish(move |user| user.serves(u) && user.realm == r);
            let all = row(format!("relay.{token}.{u}.>"));
            let hears = move |user: &User| user.asks(u) || user.serves(u);
            vec![own.subscribe(hears), all.subscribe(hears)]
        }),
        Kind::Who => {
            let mut rows = each_upstream(|u| {
                let may = move |user: &User| user.routes(u);
                vec![row(format!("relay.who.{u}")).publish(may).subscribe(move |user| user.serves(u))]
            });
            let asks_all = |user: &User| user.asks("*");
            let all = row("relay.who").publish(asks_all);
            rows.push(all.subscribe(|user| matches!(user.part, Part::Agent(..))));
            rows.extend(REALMS.map(|r| {
                row(format!("relay.who.{r}.P.ready"))
                    .publish(move |user| user.is_process() && user.realm == r)
            }));
            rows
        }
        Kind::Route => each_id(|r, u| {
            let claimed = |route: &'static str| {
                let may = move |user: &User| {
                    let Part::Agent(own, routes) = user.part else { return false };
                    own == u && user.realm == r && route.starts_with(routes)
                };
                let claim = row(format!("relay.route.{u}.{r}.P.{route}")).publish(may);
                claim.subscribe(move |user| user.routes(u))
            };
            let mut rows: Vec<Row> = ROUTES.into_iter().map(claimed).collect();
            rows.push(row(format!("relay.route.{u}.>")).subscribe(move |user| user.routes(u)));
            rows
        }),
        Kind::Claim => each_id(|r, u| {
            let may = move |user: &User| match user.part {
                Part::Limited(own) => r == own && u == own,
                _ => user.routes(u),
            };
            vec![row(format!("relay.claim.{r}.P.{u}")).publish(may)]
        }),
        Kind::Cache => ["purge", "stats", "other"]
            .into_iter()
            .map(|verb| {
                let asked = row(format!("relay.cache.{verb}"));
                let asked = asked.publish(move |user| user.part == Part::Operator && verb != "other");
                asked.subscribe(|user| matches!(user.part, Part::Client | Part::Limited(_)))
            })
            .collect(),
        Kind::Job | Kind::Key => each_upstream(|u| {
            let of_store = |user: &User| user.part == Part::Store;
            vec![row(format!("relay.{token}.{u}.U")).publish(of_store)]
        }),
        Kind::Chain => vec![row("relay.chain.U").publish(|user| user.part == Part::Store)],
        Kind::Dead => {
            let letters = ["relay.dead.chain.U", "relay.dead.job.hello.U", "relay.dead.job.billing.U"];
            letters.map(|letter| row(letter).publish(|user| user.part == Part::Store)).into()
        }
        Kind::Session => {
            let client = |user: &User| user.part == Part::Client;
            vec![row("relay.session.S").publish(client).subscribe(client)]
        }
        Kind::Meet => each_id(|r, u| {
            vec![
                row(format!("relay.meet.{r}.P.{u}.1f")),
                row(format!("relay.meet.{r}.P._sessions.1f")).publish(|user| user.part == Part::Client),
            ]
        }),
        Kind::Jobs => {
            let mut rows = each_upstream(|u| {
                each_verb(&format!("relay.jobs.{u}"), move |user, verb| jobs(user, u, verb))
            });
            rows.push(row("relay.jobs.*.*").join(|user| user.part == Part::Broker));
            rows.extend(each_verb("relay.jobs", |user, verb| {
                user.part == Part::Operator && matches!(verb, StoreVerb::List | StoreVerb::Letters)
            }));
            rows
        }
        Kind::Chains => each_verb("relay.chains", chains),
        Kind::Sessions => {
            let client = |user: &User| user.part == Part::Client;
            let mut rows = each_verb("relay.sessions.S", move |user, verb| {
                client(user) && matches!(verb, StoreVerb::Get | StoreVerb::Put | StoreVerb::Delete)
            });
            rows.push(row("relay.sessions.*.*").join(|user| user.part == Part::Broker));
            rows.extend(each_verb("relay.sessions", move |user, verb| {
                client(user) && verb == StoreVerb::Count
            }));
            rows
        }
        Kind::Stored => each_id(|r, u| {
            vec![row(format!("relay.stored.{r}.P.{u}.1f")).publish(|user| user.part == Part::Broker)]
        }),
        Kind::Ended => {
            let broker = |user: &User| user.part == Part::Broker;
            let mut rows = each_upstream(|u| {
                let news = row(format!("relay.ended.{u}.U")).publish(broker);
                vec![news.subscribe(move |user| match user.part {
                    Part::Client => true,
                    Part::Limited(own) => own == u,
                    _ => false,
                })]
            });
            let chain = row("relay.ended.U").publish(broker);
            rows.push(chain.subscribe(|user| user.part == Part::Client));
            rows
        }
    };
    let patterns = patterns.map(|pattern| pattern_of(kind, pattern));
    rows.into_iter().chain(patterns).collect()
}

/// A pattern over all subjects of a kind, which those who are held to one upstream may not have. When it looks for a permission, NATS takes
/// `>` at the end for a token like any other: who may have `x.*` may have `x.>`.
fn pattern_of(kind: Kind, pattern: Row) -> Row {
    match kind {
        Kind::Hold | Kind::Jobs | Kind::Chains | Kind::Sessions => {
            pattern.join(|user| user.part == Part::Broker)
        }
        Kind::Here | Kind::Gone => pattern.subscribe(|user| user.asks("*")),
        Kind::Route => pattern.subscribe(|user| user.routes("*")),
        Kind::Cache => pattern.subscribe(|user| matches!(user.part, Part::Client | Part::Limited(_))),
        Kind::Ended => pattern.subscribe(|user| user.part == Part::Client),
        Kind::Session => pattern.subscribe(|user| user.part == Part::Client),
        _ => pattern,
    }
}

/// Who may ask the agents of one realm about an upstream.
fn asks_agent(user: &User, realm: &str, upstream: &str) -> bool {
    match user.part {
        Part::Limited(own) => realm == own && upstream == own,
        _ => user.asks(upstream),
    }
}

/// Who may ask brokers to do `verb` with jobs of one upstream.
fn jobs(user: &User, upstream: &str, verb: StoreVerb) -> bool {
    let of_callers =
        matches!(verb, StoreVerb::Accept | StoreVerb::Read | StoreVerb::Body | StoreVerb::Cancel);
    match user.part {
        Part::Client => of_callers,
        Part::Limited(own) => of_callers && own == upstream,
        Part::Operator => of_one(verb),
        _ => false,
    }
}

/// Who may ask brokers to do `verb` with chains.
fn chains(user: &User, verb: StoreVerb) -> bool {
    match user.part {
        Part::Client => matches!(
            verb,
            StoreVerb::Begin
                | StoreVerb::Start
                | StoreVerb::Abandon
                | StoreVerb::Accept
                | StoreVerb::Read
                | StoreVerb::Body
                | StoreVerb::Cancel
        ),
        Part::Operator => of_one(verb),
        _ => false,
    }
}

/// What operators do with one job.
fn of_one(verb: StoreVerb) -> bool {
    matches!(
        verb,
        StoreVerb::Read
            | StoreVerb::Letter
            | StoreVerb::Body
            | StoreVerb::Cancel
            | StoreVerb::Replay
            | StoreVerb::Purge
    )
}

fn each_verb(about: &str, may: impl Fn(&User, StoreVerb) -> bool + Copy + 'static) -> Vec<Row> {
    let asked = |verb: StoreVerb| {
        let asked = row(format!("{about}.{}", verb.as_str())).publish(move |user| may(user, verb));
        asked.join(|user| user.part == Part::Broker)
    };
    StoreVerb::ALL.into_iter().map(asked).collect()
}

fn each_upstream(rows: impl Fn(&'static str) -> Vec<Row>) -> Vec<Row> {
    UPSTREAMS.into_iter().flat_map(rows).collect()
}

/// For the ids of every realm about every upstream.
fn each_id(rows: impl Fn(&'static str, &'static str) -> Vec<Row>) -> Vec<Row> {
    REALMS
        .into_iter()
        .flat_map(|realm| UPSTREAMS.into_iter().flat_map(|u| rows(realm, u)).collect::<Vec<_>>())
        .collect()
}

/// Where answers to questions go that no process of relay asks.
fn of_inboxes(realm: &'static str) -> Vec<Row> {
    let answered = matches!(realm, "operator" | "observer" | "broker");
    let reads = move |user: &User| user.realm == realm && (answered || user.part == Part::Store);
    vec![
        row(format!("_INBOX.{realm}.x")).publish(move |user| answered && user.is_process()).subscribe(reads),
        row(format!("_INBOX.{realm}.>")).subscribe(reads),
    ]
}

fn services() -> Vec<Row> {
    let mut rows = vec![row("$SRV.>").subscribe(User::is_process)];
    for verb in ["PING", "INFO", "STATS", "ROUTES"] {
        for of in ["", ".relay-broker", ".relay-broker.broker-P"] {
            let asked = row(format!("$SRV.{verb}{of}")).subscribe(User::is_process);
            rows.push(asked.publish(move |user| match user.part {
                Part::Operator | Part::Observer => true,
                Part::Broker => (verb, of) == ("STATS", ""),
                _ => false,
            }));
        }
    }
    rows
}

/// What JetStream can be asked, and where its records are: the store's user alone, and no more of it than brokers use.
fn jetstream() -> Vec<Row> {
    let of_store = |user: &User| user.part == Part::Store;
    let mut rows = Vec::new();
    for stream in STREAMS {
        for verb in ["INFO", "CREATE", "UPDATE", "PURGE", "MSG.GET"] {
            rows.push(row(format!("$JS.API.STREAM.{verb}.{stream}")).publish(of_store));
        }
        for verb in ["DELETE", "SNAPSHOT", "RESTORE", "MSG.DELETE", "LEADER.STEPDOWN", "PEER.REMOVE"] {
            rows.push(row(format!("$JS.API.STREAM.{verb}.{stream}")));
        }
        for asked in [
            "CONSUMER.CREATE.{}",
            "CONSUMER.CREATE.{}.c",
            "CONSUMER.CREATE.{}.c.relay.job.hello.U",
            "CONSUMER.DURABLE.CREATE.{}.c",
            "CONSUMER.INFO.{}.c",
            "CONSUMER.MSG.NEXT.{}.c",
            "CONSUMER.DELETE.{}.c",
            "DIRECT.GET.{}",
            "DIRECT.GET.{}.relay.job.hello.U",
            "DIRECT.GET.{}.relay.job.billing.U",
        ] {
            rows.push(row(format!("$JS.API.{}", asked.replace("{}", stream))).publish(of_store));
        }
        let acknowledged = row(format!("$JS.ACK.{stream}.brokers.1.1.1.1.1"));
        rows.push(acknowledged.publish(move |user| of_store(user) && stream == "relay-jobs"));
        rows.push(row(format!("$JS.FC.{stream}.c.1")).publish(of_store));
    }
    for asked in [
        "$JS.API.INFO",
        "$JS.API.STREAM.LIST",
        "$JS.API.STREAM.NAMES",
        "$JS.other.API.STREAM.INFO.relay-jobs",
    ] {
        rows.push(row(asked));
    }
    for (record, kept) in [
        ("$KV.relay-sessions.S", true),
        ("$KV.other.S", false),
        ("$O.relay-bodies.C.X", true),
        ("$O.relay-bodies.M.X", true),
        ("$O.relay-dead-bodies.C.X", true),
        ("$O.other.C.X", false),
    ] {
        rows.push(row(record).publish(move |user| kept && of_store(user)));
    }
    rows
}

/// What brokers keep, and what is not theirs. The account has nothing else.
const STREAMS: [&str; 7] = [
    "relay-jobs",
    "relay-keys",
    "relay-dead",
    "OBJ_relay-bodies",
    "OBJ_relay-dead-bodies",
    "KV_relay-sessions",
    "other",
];

/// Routes as they stand in subjects: those that an agent may claim here, and their neighbours.
const ROUTES: [&str; 9] = [
    "com.example.hello././",
    "com.example.hello./.deeper./",
    "com.example.hello.deeper././",
    "com.example././",
    "com.example.+././",
    "com.example./.billing./",
    "com.example./.payroll.deeper./",
    "com.example./.other./",
    "+././",
];
