//! Who waits, who goes first, and that no place is lost, whatever happens at the same time.

use std::future::Future;
use std::num::{NonZeroU32, NonZeroUsize};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::balance::{Cursor, LeastConnections, Policy, RoundRobin};
use crate::config::{Address, Mode, UpstreamTimeouts};
use crate::metrics::{EndpointMetrics, Metrics, UpstreamMetrics};
use crate::upstream::{Contact, Endpoint, Floor, Health, Hold, Shares, Tried};

const PATIENCE: Duration = Duration::from_secs(60);

/// An upstream whose endpoints have these limits, and a queue.
fn upstream(limits: &[u32], length: usize, order: QueueOrder) -> Arc<Upstream> {
    let metrics = Metrics::new();
    let queue = Arc::<Queue>::default();
    let endpoint = |(limit, port): (&u32, u16)| {
        let contact = Contact {
            address: Address::Socket(([127, 0, 0, 1], port).into()),
            http2: false,
            proxy_protocol: None,
            tls: None,
        };
        let name = port.to_string();
        let endpoint = Endpoint::new(
            "app".into(),
            name.as_str().into(),
            (contact, Health::Unchecked),
            (
                Arc::clone(&queue),
                EndpointMetrics::new(&metrics, "app", &name),
            ),
        );
        endpoint.set_max_in_flight(NonZeroU32::new(*limit));
        Arc::new(endpoint)
    };
    let upstream = Upstream {
        name: "app".into(),
        endpoints: limits.iter().zip(1..).map(endpoint).collect(),
        policy: Policy::LeastConnections(LeastConnections::default()),
        cursor: Arc::new(Cursor::new(0)),
        division: None,
        authority: None,
        hash_key: None,
        shares: Shares::new(Duration::ZERO, None),
        http2: None,
        timeouts: UpstreamTimeouts {
            connect: PATIENCE,
            response_head: PATIENCE,
            stream_idle: PATIENCE,
            tunnel_idle: PATIENCE,
            pool_idle: PATIENCE,
            max_age: PATIENCE,
        },
        queue: Arc::clone(&queue),
        queueing: NonZeroUsize::new(length).map(|length| config::Queue {
            length,
            wait: PATIENCE,
            order,
        }),
        adaptive: None,
        retry: config::Retry::DEFAULT,
        budget_rule: config::Budget::DEFAULT,
        budget: Arc::default(),
        health: None,
        affinity: None,
        hold: Hold::new(
            metrics.paused.with_label_values(&["app"]),
            metrics.held_requests.with_label_values(&["app"]),
        ),
        pause: config::Pause {
            hold: 0,
            wait: PATIENCE,
        },
        copies: Arc::default(),
        passive: None,
        floor: Floor {
            min_available: 0.5,
            fails_closed: false,
        },
        live_version: None,
        versions: Arc::default(),
        peaks: Arc::default(),
        metrics: UpstreamMetrics::new(&metrics, "app"),
    };
    upstream.refresh();
    Arc::new(upstream)
}

/// The same upstream in the next generation, with these endpoints.
fn reloaded(before: &Upstream, endpoints: Box<[Arc<Endpoint>]>) -> Upstream {
    let after = Upstream {
        name: "app".into(),
        endpoints,
        policy: Policy::RoundRobin(RoundRobin::default()),
        cursor: Arc::clone(&before.cursor),
        division: None,
        authority: None,
        hash_key: None,
        shares: Shares::new(Duration::ZERO, None),
        http2: None,
        timeouts: before.timeouts,
        queue: Arc::clone(&before.queue),
        queueing: before.queueing,
        adaptive: None,
        retry: before.retry.clone(),
        budget_rule: before.budget_rule,
        budget: Arc::clone(&before.budget),
        health: None,
        affinity: None,
        hold: Arc::clone(&before.hold),
        pause: before.pause,
        copies: Arc::clone(&before.copies),
        passive: None,
        floor: before.floor,
        live_version: None,
        versions: Arc::default(),
        peaks: Arc::default(),
        metrics: UpstreamMetrics::new(&Metrics::new(), "app"),
    };
    after.refresh();
    after
}

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Lease, Denied>> + 'a>>;

/// A request that waits; in line when this returns.
fn waiting(upstream: &Arc<Upstream>) -> Waiting<'_> {
    let mut waiting: Waiting<'_> = Box::pin(upstream.wait(Wish::default()));
    assert!(poll(&mut waiting).is_pending());
    waiting
}

fn poll(waiting: &mut Waiting<'_>) -> Poll<Result<Lease, Denied>> {
    waiting
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

#[track_caller]
fn got(waiting: &mut Waiting<'_>) -> Result<Lease, Denied> {
    match poll(waiting) {
        Poll::Ready(got) => got,
        Poll::Pending => panic!("still waiting"),
    }
}

fn pick(upstream: &Upstream) -> Result<Lease, Denied> {
    upstream.pick(Wish::default())
}

#[tokio::test]
async fn an_endpoint_has_no_more_than_it_may() {
    let upstream = upstream(&[2, 1], 0, QueueOrder::Fifo);
    let held: Vec<_> = (0..3).map(|_| pick(&upstream).unwrap()).collect();
    assert_eq!(pick(&upstream).unwrap_err(), Denied::Full);
    let wait = upstream.wait(Wish::default()).await;
    assert_eq!(wait.unwrap_err(), Denied::Full);
    assert_eq!(upstream.metrics.queue_full.get(), 1);
    drop(held);
    assert!(pick(&upstream).is_ok());
}

#[tokio::test]
async fn regression_an_attempt_that_waits_for_another_endpoint_keeps_nobody_from_the_one_it_has_tried()
 {
    let upstream = upstream(&[1, 1], 3, QueueOrder::Fifo);
    let (tried, busy) = (pick(&upstream).unwrap(), pick(&upstream).unwrap());
    let wish = Wish {
        tried: Tried::default().and(tried.endpoint().id()),
        ..Wish::default()
    };
    let mut again: Waiting<'_> = Box::pin(upstream.wait(wish));
    assert!(poll(&mut again).is_pending());
    let mut behind = waiting(&upstream);
    let id = tried.endpoint().id();
    drop(tried);
    assert!(poll(&mut again).is_pending());
    assert_eq!(got(&mut behind).unwrap().endpoint().id(), id);
    let other = busy.endpoint().id();
    drop(busy);
    assert_eq!(got(&mut again).unwrap().endpoint().id(), other);
}

#[tokio::test]
async fn who_came_first_goes_first_and_nobody_comes_before() {
    let upstream = upstream(&[1], 2, QueueOrder::Fifo);
    let held = pick(&upstream).unwrap();
    let (mut first, mut second) = (waiting(&upstream), waiting(&upstream));
    assert_eq!(upstream.queue.len(), 2);
    let beyond = upstream.wait(Wish::default()).await;
    assert_eq!(beyond.unwrap_err(), Denied::Full);
    drop(held);
    assert!(poll(&mut second).is_pending());
    assert_eq!(pick(&upstream).unwrap_err(), Denied::Full);
    let held = got(&mut first).unwrap();
    assert_eq!(pick(&upstream).unwrap_err(), Denied::Full);
    drop(held);
    drop(got(&mut second).unwrap());
    assert!(upstream.queue.is_empty());
    assert!(pick(&upstream).is_ok());
}

#[tokio::test]
async fn newest_first_serves_the_newest_and_gives_up_the_oldest() {
    let upstream = upstream(&[1], 2, QueueOrder::NewestFirst);
    let held = pick(&upstream).unwrap();
    let (mut oldest, mut middle, mut newest) =
        (waiting(&upstream), waiting(&upstream), waiting(&upstream));
    assert_eq!(got(&mut oldest).unwrap_err(), Denied::Full);
    drop(held);
    assert!(poll(&mut middle).is_pending());
    drop(got(&mut newest).unwrap());
    assert!(got(&mut middle).is_ok());
}

#[tokio::test]
async fn who_leaves_gives_up_its_place_even_one_it_had_just_got() {
    let upstream = upstream(&[1], 3, QueueOrder::Fifo);
    let held = pick(&upstream).unwrap();
    let (first, second, mut third) = (waiting(&upstream), waiting(&upstream), waiting(&upstream));
    drop(first);
    assert_eq!(upstream.queue.len(), 2);
    // The second gets the place, and leaves before it knows.
    drop(held);
    drop(second);
    assert!(got(&mut third).is_ok());
    drop(third);
    assert_eq!(upstream.endpoints[0].in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_long_enough_is_told_so_and_takes_no_place() {
    let upstream = upstream(&[1], 3, QueueOrder::Fifo);
    let held = pick(&upstream).unwrap();
    let mut late = waiting(&upstream);
    tokio::time::advance(PATIENCE / 2).await;
    let mut in_time = waiting(&upstream);
    tokio::time::advance(PATIENCE / 2).await;
    // Nobody has looked at the clock yet.
    drop(held);
    assert_eq!(got(&mut late).unwrap_err(), Denied::Late);
    assert!(got(&mut in_time).is_ok());
    assert_eq!(upstream.metrics.queue_late.get(), 1);
}

#[tokio::test]
async fn those_that_wait_hear_of_what_becomes_of_endpoints() {
    let upstream = upstream(&[1, 1], 9, QueueOrder::Fifo);
    let [one, two] = &*upstream.endpoints else {
        panic!()
    };
    two.set_mode(Mode::Draining);
    let held = pick(&upstream).unwrap();
    let mut first = waiting(&upstream);
    two.set_mode(Mode::Active);
    upstream.refresh();
    let of_two = got(&mut first).unwrap();
    assert_eq!(of_two.endpoint().id(), two.id());
    let mut second = waiting(&upstream);
    one.set_max_in_flight(NonZeroU32::new(2));
    upstream.refresh();
    let of_one = got(&mut second).unwrap();
    assert_eq!(of_one.endpoint().id(), one.id());
    let mut third = waiting(&upstream);
    one.set_mode(Mode::Disabled);
    drop(held);
    assert!(poll(&mut third).is_pending(), "its place is nobody's now");
    two.set_mode(Mode::Disabled);
    upstream.refresh();
    assert_eq!(got(&mut third).unwrap_err(), Denied::Nobody);
}

#[tokio::test]
async fn an_endpoint_of_which_nothing_is_known_is_no_way_out_of_a_queue() {
    let upstream = upstream(&[1, 1], 9, QueueOrder::Fifo);
    upstream.endpoints[1].set_health(Health::Unknown, None);
    let _held = pick(&upstream).unwrap();
    assert_eq!(pick(&upstream).unwrap_err(), Denied::Full);
}

#[tokio::test]
async fn a_backup_is_no_way_out_of_a_queue_before_it_is_wanted() {
    let upstream = upstream(&[1, 1], 9, QueueOrder::Fifo);
    upstream.endpoints[1].set_backup(true);
    upstream.refresh();
    let _held = pick(&upstream).unwrap();
    assert_eq!(pick(&upstream).unwrap_err(), Denied::Full);
    let mut waits = waiting(&upstream);
    upstream.endpoints[0].set_mode(Mode::Draining);
    upstream.refresh();
    let backup = got(&mut waits).unwrap();
    assert_eq!(backup.endpoint().id(), upstream.endpoints[1].id());
}

#[tokio::test]
async fn after_a_reload_old_and_new_requests_wait_in_one_line() {
    let before = upstream(&[1], 1, QueueOrder::Fifo);
    let after = Arc::new(reloaded(&before, before.endpoints.clone()));
    let held = pick(&before).unwrap();
    let (mut old, mut new) = (waiting(&before), waiting(&after));
    let beyond = after.wait(Wish::default()).await;
    assert_eq!(beyond.unwrap_err(), Denied::Full);
    drop(held);
    assert!(poll(&mut new).is_pending());
    drop(got(&mut old).unwrap());
    assert!(got(&mut new).is_ok());
}

#[tokio::test]
async fn who_waits_for_what_a_reload_has_taken_away_keeps_nobody_out() {
    let before = upstream(&[1], 1, QueueOrder::Fifo);
    let other = upstream(&[1], 1, QueueOrder::Fifo);
    let after = Arc::new(reloaded(&before, other.endpoints.clone()));
    let _held = pick(&before).unwrap();
    let _waits = waiting(&before);
    assert!(after.wait(Wish::default()).await.is_ok());
}

/// Threads that pick, wait, leave early and free places all at once. A place that was freed unseen would leave somebody
/// waiting until it is late; one that was given twice would show as too many.
#[test]
fn no_place_is_lost_or_given_twice() {
    const THREADS: u64 = 4;
    const TASKS: usize = 24;
    const ROUNDS: usize = 300;
    let limits = [2, 1, 3];
    let upstream = upstream(&limits, TASKS * 4, QueueOrder::Fifo);
    let served = AtomicU32::new(0);
    let at_once = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let (upstream, served) = (&upstream, &served);
        runtime.block_on(async {
            let mut random = fastrand::Rng::with_seed(seed);
            let tasks = (0..TASKS).map(|_| {
                let mut random = random.fork();
                async move {
                    for _ in 0..ROUNDS {
                        let leaves_early = random.u8(..) < 60;
                        let got = match pick(upstream) {
                            Err(Denied::Full) if leaves_early => {
                                let waiting = upstream.wait(Wish::default());
                                let patience = Duration::from_micros(random.u64(..300));
                                match tokio::time::timeout(patience, waiting).await {
                                    Ok(got) => got,
                                    Err(_) => continue,
                                }
                            }
                            Err(Denied::Full) => upstream.wait(Wish::default()).await,
                            got => got,
                        };
                        let lease = got.expect("everyone is served in time");
                        for (endpoint, limit) in upstream.endpoints.iter().zip(limits) {
                            assert!(endpoint.in_flight() <= limit);
                        }
                        served.fetch_add(1, Relaxed);
                        for _ in 0..random.u8(..4) {
                            tokio::task::yield_now().await;
                        }
                        drop(lease);
                    }
                }
            });
            futures_of(tasks).await;
        });
    };
    std::thread::scope(|scope| {
        for seed in 0..THREADS {
            scope.spawn(move || at_once(seed));
        }
    });
    assert!(served.load(Relaxed) > 0 && upstream.queue.is_empty());
    for endpoint in &upstream.endpoints {
        assert_eq!(endpoint.in_flight(), 0);
    }
}

/// Runs all of them at once on one thread.
async fn futures_of<F: Future<Output = ()>>(futures: impl Iterator<Item = F>) {
    let mut running: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        running.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if running.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
