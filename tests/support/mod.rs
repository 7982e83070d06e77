//! What the promises are tested with: the balancer as a process, scriptable origins, clients that may misbehave.

pub(crate) mod balancer;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod collector;
pub(crate) mod command;
pub(crate) mod deadline;
pub(crate) mod h2;
pub(crate) mod h2_origin;
pub(crate) mod http1;
pub(crate) mod origin;
pub(crate) mod peers;
pub(crate) mod terminal;
pub(crate) mod tls_origin;

pub(crate) use balancer::{Balancer, Outcome, simple};
pub(crate) use client::{Connection, Reply, get};
pub(crate) use deadline::{DEADLINE, Gate, eventually, eventually_some};
pub(crate) use origin::{Next, Origin, Refusing};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::balancer::Metrics;
    use super::client::connect;
    use super::origin::Unanswering;
    use super::*;

    #[test]
    fn client_and_origin_understand_each_other() {
        let mut origin = Origin::named("a");
        let mut connection = Connection::open(origin.address());
        for _ in 0..3 {
            let reply = connection.get("/x");
            assert_eq!(
                (reply.status, reply.text().as_str(), reply.body.complete),
                (200, "a", true)
            );
        }
        connection
            .send("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
        assert_eq!(connection.reply().status, 200);
        assert_eq!(origin.last_request().body.expect("a body").bytes, b"hi");
        assert_eq!(
            (origin.request_count(), origin.connections(), origin.open()),
            (4, 1, 1)
        );
        origin.close_connections(Next::Reset);
        assert!(connection.is_closed_by_peer());
        eventually("the origin has closed it", || origin.open() == 0);
        origin.stop();
        assert!(Connection::try_open(origin.address()).is_err());
        origin.start_again();
        assert_eq!(get(origin.address(), "/").text(), "a");
    }

    #[test]
    fn truncated_bodies_are_told_from_whole_ones() {
        for (answer, complete) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nshort", false),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n0\r\n",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nshort",
                false,
            ),
        ] {
            let origin = Origin::with("a", move |exchange| {
                exchange.write_then(answer, Next::Close)
            });
            assert_eq!(
                get(origin.address(), "/").body.complete,
                complete,
                "{answer:?}"
            );
        }
    }

    #[test]
    fn ports_that_refuse_and_ports_that_keep_silent_do_so() {
        assert!(Connection::try_open(Refusing::new().address()).is_err());
        let unanswering = Unanswering::new();
        let wait = Duration::from_millis(300);
        let error = std::net::TcpStream::connect_timeout(&unanswering.address(), wait)
            .expect_err("no answer");
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        let origin = Origin::named("a");
        assert!(connect(origin.address()).is_ok());
    }

    #[test]
    fn scrape_is_read_as_it_is_written() {
        let text = "# HELP a_total x\na_total{x=\"1\",y=\"q\\\"}\"} 2\na_total{x=\"2\"} 3\nb 4.5\nc_bucket{le=\"+Inf\"} 1\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.find("a_total", &[]), Some(5.0));
        assert_eq!(metrics.find("a_total", &[("y", "q\"}")]), Some(2.0));
        assert_eq!(metrics.find("a_total", &[("x", "3")]), None);
        assert_eq!(metrics.sum("b", &[]), 4.5);
    }
}
