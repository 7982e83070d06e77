//! Asks: every member at once, round after round, each time on a connection of its own.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::members::Asked;
use crate::config::Address;
use crate::health::exchange::{Answer, Exchange};
use crate::health::probe::{ProbeError, connect};
use crate::upstream::Endpoint;

/// What everybody is asked.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) rounds: u16,
    /// How long an answer may take, connecting included.
    pub(super) timeout: Duration,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) answer: Answer,
    /// Whether its body goes on after what was read.
    pub(super) is_cut: bool,
    /// From when it was asked, on an open connection, to its end.
    pub(super) took: Duration,
}

/// What came of asking one member, round by round; or why nothing did.
pub(super) type Rounds = Vec<Result<Heard, String>>;

/// Asks the members of `asked`, each as often as `question` says; in their order.
pub(super) async fn rounds(asked: &Asked, question: &Question) -> Vec<Rounds> {
    let question = Arc::new((question.clone(), asked.host.clone()));
    let mut answered: Vec<Rounds> = asked.members.iter().map(|_| Vec::new()).collect();
    let mut bodies = HashSet::new();
    for _ in 0..question.0.rounds {
        let members: Vec<_> = asked.members.iter().enumerate().collect();
        for some in members.chunks(AT_ONCE) {
            let mut running = JoinSet::new();
            for (index, member) in some {
                let (index, endpoint) = (*index, Arc::clone(&member.endpoint));
                let question = Arc::clone(&question);
                running.spawn(async move { (index, ask(&endpoint, &question).await) });
            }
            while let Some(Ok((index, mut heard))) = running.join_next().await {
                if let Ok(heard) = &mut heard {
                    share(&mut bodies, &mut heard.answer.body);
                }
                answered[index].push(heard);
            }
        }
    }
    answered
}

/// Equal bodies are kept once.
fn share(bodies: &mut HashSet<Bytes>, body: &mut Bytes) {
    match bodies.get(body) {
        Some(same) => *body = same.clone(),
        None => drop(bodies.insert(body.clone())),
    }
}

async fn ask(
    endpoint: &Endpoint,
    (question, host): &(Question, HeaderValue),
) -> Result<Heard, String> {
    let asked = async {
        resolve(endpoint).await;
        let stream = connect(endpoint).await?;
        let begun = Instant::now();
        let exchange = Exchange {
            endpoint,
            host: Some(host),
            headers: &question.headers,
        };
        let asked = (question.method.clone(), &*question.path);
        let mut answer = exchange.send(stream, asked, MOST_OF_BODY + 1).await?;
        let took = begun.elapsed();
        let is_cut = answer.body.len() > MOST_OF_BODY;
        answer.body.truncate(MOST_OF_BODY);
        Ok::<_, ProbeError>(Heard {
            answer,
            is_cut,
            took,
        })
    };
    match timeout(question.timeout, asked).await {
        Ok(heard) => heard.map_err(|error| error.to_string()),
        Err(_) => Err(ProbeError::Timeout(question.timeout).to_string()),
    }
}

/// Where no running balancer has said where its name leads.
async fn resolve(endpoint: &Endpoint) {
    if endpoint.socket_address().is_none()
        && let Address::Name(host, port) = endpoint.address()
        && let Ok(mut found) = lookup_host((&**host, *port)).await
        && let Some(address) = found.next()
    {
        let _: bool = endpoint.set_resolved(Ok::<SocketAddr, _>(address));
    }
}

const AT_ONCE: usize = 32; // what is seen is to be the members' pace, not that of this machine
const MOST_OF_BODY: usize = 4 * 1024 * 1024; // pages are smaller; of what is larger this much tells clones apart
