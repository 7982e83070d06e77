//! A world of clients, balancers and servers, in which time passes from event to event.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use balancer::balance::stable_hash;
use balancer::config;
use balancer::metrics::Metrics;
use balancer::snapshot::Snapshot;
use balancer::snapshot::compile::{Compiler, apply};
use balancer::tls::Tickets;
use balancer::upstream::load::TICK;
use balancer::upstream::{Lease, Outcome, Upstream, Wish};

/// What happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    /// Balancers that know nothing of each other.
    pub(super) balancers: usize,
    /// Servers from the beginning on.
    pub(super) servers: usize,
    /// Requests that a server works on at a time; the others wait there.
    pub(super) places: usize,
    /// How long it works on one, on average.
    pub(super) service: Duration,
    /// Requests, as a share of what the servers could do.
    pub(super) load: f64,
    /// How many times as long the first server takes.
    pub(super) slow: Option<f64>,
    /// Whether the first server fails, and at once.
    pub(super) fails: bool,
    /// Whether one more server comes, slow at first.
    pub(super) joins: bool,
    /// `slow_start`
    pub(super) slow_start: Duration,
    /// How long clients send.
    pub(super) length: Duration,
}

/// What came of it.
#[derive(Debug, PartialEq)]
pub(super) struct Figures {
    /// Of latencies, in milliseconds.
    pub(super) p50: f64,
    /// Of latencies, in milliseconds.
    pub(super) p99: f64,
    /// The most that one server had at a time, in times of the mean; mean over time.
    pub(super) imbalance: f64,
    /// Share of requests that failed.
    pub(super) errors: f64,
    /// Share of requests that went to the first server.
    pub(super) to_first: f64,
    /// The most requests that the newcomer got within 10 ms, at first.
    pub(super) rush: usize,
    /// The most requests that it had at a time.
    pub(super) crowd: usize,
}

/// Runs `scenario` with `policy`.
pub(super) fn run(policy: &str, scenario: &Scenario) -> Figures {
    World::new(policy, *scenario).run()
}

const COLD: f64 = 4.0; // times as long at first…
const WARM_AFTER: f64 = 4_000_000.0; // …and as long as others from then on
const JOINS_AT: u64 = 3_000_000;
const FAILS_IN: u64 = 1_000;
const SAMPLED_EVERY: u64 = 20_000;
const RUSH: u64 = 10_000;
const RUSH_WITHIN: u64 = 300_000; // after it has joined

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    /// A client sends a request.
    Arrive,
    /// A server has answered a request.
    Answer(usize, usize),
    /// Balancers are told the time.
    Tick,
    /// A server joins.
    Join,
    /// Loads are looked at.
    Sample,
}

/// A balancer: its snapshot, and what makes the next one.
struct Balancer {
    compiler: Compiler,
    snapshot: Snapshot,
}

impl Balancer {
    fn upstream(&self) -> &Arc<Upstream> {
        &self.snapshot.upstreams[0]
    }
}

#[derive(Default)]
struct Server {
    working: usize,
    waiting: VecDeque<usize>,
    joined: Option<u64>,
}

impl Server {
    fn load(&self) -> usize {
        self.working + self.waiting.len()
    }
}

struct Request {
    begun: u64,
    sent: u64,
    balancer: usize,
    server: usize,
    lease: Option<Lease>,
}

struct World {
    scenario: Scenario,
    policy: String,
    begun: Instant,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    count: u64,
    random: fastrand::Rng,
    balancers: Vec<Balancer>,
    servers: Vec<Server>,
    requests: Vec<Request>,
    latencies: Vec<f64>,
    failed: usize,
    imbalances: Vec<f64>,
    /// When requests came to the newcomer.
    came: VecDeque<u64>,
    rush: usize,
    crowd: usize,
}

impl World {
    fn new(policy: &str, scenario: Scenario) -> Self {
        let mut world = Self {
            scenario,
            policy: policy.to_owned(),
            begun: Instant::now(),
            now: 0,
            events: BinaryHeap::new(),
            count: 0,
            random: fastrand::Rng::with_seed(11),
            balancers: Vec::new(),
            servers: (0..scenario.servers).map(|_| Server::default()).collect(),
            requests: Vec::new(),
            latencies: Vec::new(),
            failed: 0,
            imbalances: Vec::new(),
            came: VecDeque::new(),
            rush: 0,
            crowd: 0,
        };
        let config = world.config();
        for number in 0..scenario.balancers {
            let tickets = Tickets::new().unwrap();
            let seed = stable_hash(&number.to_le_bytes()) as usize;
            let mut compiler = Compiler::new(Arc::new(Metrics::new()), tickets, seed);
            let snapshot = compiler.compile(&config, None).unwrap().snapshot;
            apply(&snapshot, &config);
            world.balancers.push(Balancer { compiler, snapshot });
        }
        world
    }

    fn config(&self) -> config::Config {
        let endpoints: Vec<String> = (0..self.servers.len())
            .map(|number| format!("\"10.0.0.{}:80\"", number + 1))
            .collect();
        let text = format!(
            "[listener.http]\naddress = \"127.0.0.1:0\"\n[upstream.app]\npolicy = \"{}\"\nslow_start = \"{}s\"\nendpoints = [{}]\n[[route]]\nupstream = \"app\"",
            self.policy,
            self.scenario.slow_start.as_secs(),
            endpoints.join(", ")
        );
        config::parse(&text, Path::new("balancer.toml")).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn run(mut self) -> Figures {
        let end = self.scenario.length.as_micros() as u64;
        self.after(0, Event::Arrive);
        self.after(TICK.as_micros() as u64, Event::Tick);
        self.after(SAMPLED_EVERY, Event::Sample);
        if self.scenario.joins {
            self.after(JOINS_AT, Event::Join);
        }
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            self.now = at;
            match event {
                Event::Arrive => {
                    self.arrive();
                    let next = (self.exponential() / self.rate()) as u64;
                    if at < end {
                        self.after(next, Event::Arrive);
                    }
                }
                Event::Answer(server, request) => self.answer(server, request),
                Event::Tick => {
                    for balancer in &self.balancers {
                        balancer.upstream().tick(self.instant());
                    }
                    if at < end {
                        self.after(TICK.as_micros() as u64, Event::Tick);
                    }
                }
                Event::Join => self.join(),
                Event::Sample => {
                    self.sample();
                    if at < end {
                        self.after(SAMPLED_EVERY, Event::Sample);
                    }
                }
            }
        }
        self.figures()
    }

    /// Requests per microsecond.
    fn rate(&self) -> f64 {
        let places = (self.scenario.servers * self.scenario.places) as f64;
        places / self.service() * self.scenario.load
    }

    /// In microseconds.
    fn service(&self) -> f64 {
        self.scenario.service.as_secs_f64() * 1e6
    }

    /// With a mean of 1.
    fn exponential(&mut self) -> f64 {
        -(1.0 - self.random.f64()).ln()
    }

    fn after(&mut self, micros: u64, event: Event) {
        self.count += 1;
        self.events
            .push(Reverse((self.now + micros, self.count, event)));
    }

    fn instant(&self) -> Instant {
        self.begun + Duration::from_micros(self.now)
    }

    fn arrive(&mut self) {
        let balancer = self.random.usize(..self.balancers.len());
        let client = self.random.u32(..1000);
        let upstream = self.balancers[balancer].upstream();
        let wish = Wish {
            key: Some(stable_hash(&client.to_le_bytes())),
            ..Wish::default()
        };
        let lease = upstream.pick(wish).expect("nobody is ever down");
        let is_picked = |it: &&Arc<balancer::upstream::Endpoint>| Arc::ptr_eq(it, lease.endpoint());
        let server = upstream
            .endpoints
            .iter()
            .take_while(|it| !is_picked(it))
            .count();
        let request = self.requests.len();
        self.requests.push(Request {
            begun: self.now,
            sent: self.now,
            balancer,
            server,
            lease: Some(lease),
        });
        if self.fails(server) {
            self.after(FAILS_IN, Event::Answer(server, request));
            return;
        }
        if self.servers[server].working < self.scenario.places {
            self.work(server, request);
        } else {
            self.servers[server].waiting.push_back(request);
        }
        if self.servers[server].joined.is_some() {
            self.crowd = self.crowd.max(self.servers[server].load());
            let joined = self.servers[server].joined.unwrap_or_default();
            if self.now - joined > RUSH_WITHIN {
                return;
            }
            self.came.push_back(self.now);
            while self.came[0] + RUSH < self.now {
                self.came.pop_front();
            }
            self.rush = self.rush.max(self.came.len());
        }
    }

    fn fails(&self, server: usize) -> bool {
        self.scenario.fails && server == 0
    }

    fn work(&mut self, server: usize, request: usize) {
        self.servers[server].working += 1;
        let mut takes = self.service() * self.exponential();
        if server == 0 {
            takes *= self.scenario.slow.unwrap_or(1.0);
        }
        if let Some(joined) = self.servers[server].joined {
            let cold = 1.0 - (self.now - joined) as f64 / WARM_AFTER;
            takes *= 1.0 + (COLD - 1.0) * cold.max(0.0);
        }
        self.after(takes as u64, Event::Answer(server, request));
    }

    fn answer(&mut self, server: usize, number: usize) {
        let (now, fails) = (self.instant(), self.fails(server));
        let request = &mut self.requests[number];
        let lease = request.lease.take().expect("it is answered once");
        let outcome = Outcome::Answered {
            status: if fails { 500 } else { 200 },
            after: Duration::from_micros(self.now - request.sent),
            at: now,
        };
        let upstream = self.balancers[request.balancer].upstream();
        upstream.report(lease.endpoint(), outcome);
        if fails {
            self.failed += 1;
            return;
        }
        self.latencies
            .push((self.now - request.begun) as f64 / 1000.0);
        self.servers[server].working -= 1;
        if let Some(next) = self.servers[server].waiting.pop_front() {
            self.work(server, next);
        }
    }

    fn join(&mut self) {
        self.servers.push(Server {
            joined: Some(self.now),
            ..Server::default()
        });
        let config = self.config();
        for balancer in &mut self.balancers {
            let compiled = balancer.compiler.compile(&config, Some(&balancer.snapshot));
            balancer.snapshot = compiled.unwrap().snapshot;
            apply(&balancer.snapshot, &config);
        }
    }

    fn sample(&mut self) {
        let loads = self.servers.iter().map(Server::load);
        let mean = loads.clone().sum::<usize>() as f64 / self.servers.len() as f64;
        if mean > 0.0 {
            let most = loads.max().unwrap_or_default() as f64;
            self.imbalances.push(most / mean);
        }
    }

    fn figures(mut self) -> Figures {
        self.latencies.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let at = (self.latencies.len() as f64 * share) as usize;
            self.latencies[at.min(self.latencies.len() - 1)]
        };
        let all = self.requests.len() as f64;
        let to_first = self.requests.iter().filter(|it| it.server == 0).count();
        Figures {
            p50: quantile(0.5),
            p99: quantile(0.99),
            imbalance: self.imbalances.iter().sum::<f64>() / self.imbalances.len() as f64,
            errors: self.failed as f64 / all,
            to_first: to_first as f64 / all,
            rush: self.rush,
            crowd: self.crowd,
        }
    }
}
