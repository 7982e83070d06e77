//! Serves HTTP/2 to one client, until its connection is closed, drained or broken.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep};

use super::client::Client;
use super::deadline::{Deadline, Expired};
use super::handler::handle;
use super::local::Local;
use crate::message::framing::Phase;
use crate::net::coalesce::Coalesced;
use crate::net::local::LocalExecutor;
use crate::snapshot::Listener;

/// Bytes of a response that wait for an HTTP/2 client. hyper's 400 KiB let a hundred streams hold 140 MB.
const SEND_BUFFER: usize = 64 * 1024;
/// How long a client that was told to go may say nothing before its connection is closed.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes of a client's uploads, all of them together, that endpoints have not taken yet.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes that are worth a record and a system call of their own.
const ENOUGH: usize = 12 * 1024;

/// Serves HTTP/2 on `stream`.
pub async fn serve_http2<S>(
    stream: S,
    local: Rc<Local>,
    client: Rc<Client>,
    listener: Arc<Listener>,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = {
        let (local, client) = (Rc::clone(&local), Rc::clone(&client));
        service_fn(move |request| handle(Rc::clone(&local), Rc::clone(&client), request))
    };
    let (writer, sender) = Coalesced::new(stream);
    let mut builder = http2::Builder::new(LocalExecutor);
    if listener.websocket {
        // Browsers use it as soon as it is offered (RFC 8441 §3).
        builder.enable_connect_protocol();
    }
    let mut connection = pin!(
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(listener.limits.h2_streams)
            .max_header_list_size(
                u32::try_from(listener.limits.header_bytes.get()).unwrap_or(u32::MAX)
            )
            .max_local_error_reset_streams(Some(1024))
            // By this h2 bounds what small frames of uploads take beside their bytes: at 1 MiB, 2,000 messages of 20 bytes that
            // an endpoint has not taken yet would end the connection.
            .initial_connection_window_size(CONNECTION_WINDOW)
            // What a client that does not read can make us keep, per stream.
            .max_send_buf_size(SEND_BUFFER)
            // A client that has gone without a word is noticed within 40 s.
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .serve_connection(TokioIo::new(writer), service)
    );
    let mut deadline = Deadline::new(&listener, &local, &client);
    let mut leaving: Option<Pin<Box<Sleep>>> = None;
    let mut sending = Sending {
        sender: &sender,
        client: &client,
        yielded: false,
        ended: false,
        taken: 0,
    };
    // What had been taken when GOAWAY was said, or the last time it was looked.
    let mut taken_before = 0;
    poll_fn(|cx| {
        loop {
            if !sending.ended && connection.as_mut().poll(cx).is_ready() {
                sending.ended = true;
            }
            if sending.yields(cx) {
                deadline.set_unused(false);
                return Poll::Pending;
            }
            let unsent = match sending.poll(cx) {
                Poll::Ready(Ok(())) if !sending.ended => false,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => true,
            };
            let phase = if client.is_idle() && !unsent {
                Phase::Idle
            } else {
                Phase::Body
            };
            if phase == Phase::Body {
                deadline.set_unused(false);
            }
            if let Some(last) = &mut leaving {
                // GOAWAY was said. Streams that are open go on; a client that says nothing more is not waited for.
                if last.as_mut().poll(cx).is_pending() {
                    return deadline.poll_stalled(cx, phase, unsent);
                }
                // Responses that have ended may still be on their way out of hyper: not while the client takes something.
                if client.is_idle() && !unsent && sending.taken == taken_before {
                    return Poll::Ready(());
                }
                taken_before = sending.taken;
                last.set(sleep(LINGER));
                continue;
            }
            // A drain is said at once; so is the end of an idle connection.
            if !client.drain().has_begun() && !client.is_worn() {
                match deadline.poll(cx, phase, unsent) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Expired::Unused) => {
                        sender.release();
                        deadline.set_unused(true);
                        continue;
                    }
                    Poll::Ready(Expired::Stalled) => return Poll::Ready(()),
                    // Without a single request there is nobody to say it to: maybe not even HTTP/2 is spoken.
                    Poll::Ready(_) if client.is_new() => return Poll::Ready(()),
                    Poll::Ready(_) => {}
                }
            }
            taken_before = sending.taken;
            leaving = Some(Box::pin(sleep(LINGER)));
            connection.as_mut().graceful_shutdown();
        }
    })
    .await;
}

/// Sends what hyper has written, once others have had the chance to add to it.
struct Sending<'a, S> {
    sender: &'a Coalesced<S>,
    client: &'a Client,
    yielded: bool,
    /// hyper has nothing more to say.
    ended: bool,
    /// [`Coalesced::taken`] as last seen.
    taken: u64,
}

impl<S: AsyncWrite + Unpin> Sending<'_, S> {
    /// Whether tasks that are ready shall have their turn first: what they answer goes along.
    fn yields(&mut self, cx: &Context<'_>) -> bool {
        let waiting = self.sender.waiting();
        self.yielded = !self.yielded && !self.ended && (1..ENOUGH).contains(&waiting);
        if self.yielded {
            cx.waker().wake_by_ref();
        }
        self.yielded
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = if self.sender.is_sent() {
            Poll::Ready(Ok(()))
        } else {
            self.sender.poll_send(cx)
        };
        // hyper sends, too, where it writes more than is held.
        let taken = self.sender.taken();
        if std::mem::replace(&mut self.taken, taken) != taken {
            self.client.moved();
        }
        sent
    }
}
