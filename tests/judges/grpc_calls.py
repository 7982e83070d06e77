"""A gRPC server (`serve`: prints its port) and a client that holds it to what gRPC promises (`judge ADDRESS CHAIN`).

Messages are bytes as they are: no schema, no compiler. Runs in an environment with grpcio, not by itself."""

import os
import queue
import sys
import threading
import time
from concurrent import futures

import grpc

DEADLINE = 30  # seconds; for every call that is not about deadlines
LARGE = 3 << 20
STATUSES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


class Server(grpc.GenericRpcHandler):
    """`/judge/METHOD` for the methods below."""

    def __init__(self):
        self.left = threading.Semaphore(0)
        self.methods = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Server": grpc.unary_stream_rpc_method_handler(self.server_streaming),
            "Client": grpc.stream_unary_rpc_method_handler(lambda messages, _: b"".join(messages)),
            "Both": grpc.stream_stream_rpc_method_handler(lambda messages, _: messages),
            "Enough": grpc.stream_unary_rpc_method_handler(lambda messages, _: next(messages)),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "FailLate": grpc.unary_stream_rpc_method_handler(self.fail_late),
            "Wait": grpc.unary_stream_rpc_method_handler(self.wait),
            "Left": grpc.unary_unary_rpc_method_handler(self.was_left),
        }

    def service(self, details):
        prefix, _, name = details.method.rpartition("/")
        return self.methods.get(name) if prefix == "/judge" else None

    def unary(self, message, context):
        """Says back the message, and the metadata `said` and `said-bin` in each place where metadata may be."""
        metadata = [item for item in context.invocation_metadata() if item[0].startswith("said")]
        context.send_initial_metadata(metadata)
        context.set_trailing_metadata(metadata)
        return message

    def server_streaming(self, message, _):
        for number in range(int(message)):
            yield b"%d" % number

    def fail(self, message, context):
        """Trailers only: no message comes before the status."""
        context.abort(STATUSES[int(message)], f"fault № {int(message)}: 100 %")

    def fail_late(self, message, context):
        yield message
        context.abort(grpc.StatusCode.DATA_LOSS, "after a message")

    def wait(self, message, context):
        """Says back the message, then waits for the end of the call."""
        yield message
        over = threading.Event()
        if context.add_callback(over.set):
            over.wait(DEADLINE)
        self.left.release()

    def was_left(self, *_):
        """Whether a waiting call has been left, once for each."""
        return b"yes" if self.left.acquire(timeout=DEADLINE) else b"no"


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(32))
    server.add_generic_rpc_handlers((Server(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


class Client:
    def __init__(self, channel):
        self.channel = channel

    def method(self, kind, name, service="judge"):
        return getattr(self.channel, kind)(f"/{service}/{name}")

    def unary(self, name, message=b""):
        return self.method("unary_unary", name)(message, timeout=DEADLINE)

    def case_unary_call(self):
        assert self.unary("Unary", b"hello") == b"hello"
        assert self.unary("Unary", b"") == b""

    def case_message_of_3_MiB(self):
        message = os.urandom(LARGE)
        assert self.unary("Unary", message) == message

    def case_metadata(self):
        metadata = (("said", "a b"), ("said-bin", bytes(range(256))))
        _, call = self.method("unary_unary", "Unary").with_call(b"", timeout=DEADLINE, metadata=metadata)
        for place in (call.initial_metadata(), call.trailing_metadata()):
            assert set(metadata) <= {(key, value) for key, value in place}, place

    def case_server_streaming(self):
        answers = list(self.method("unary_stream", "Server")(b"500", timeout=DEADLINE))
        assert answers == [b"%d" % number for number in range(500)], len(answers)
        assert list(self.method("unary_stream", "Server")(b"0", timeout=DEADLINE)) == []

    def case_client_streaming(self):
        stream = self.method("stream_unary", "Client")
        assert stream(iter([b"ab"] * 500), timeout=DEADLINE) == b"ab" * 500
        assert stream(iter([]), timeout=DEADLINE) == b""

    def case_streaming_both_ways(self):
        said = queue.Queue()
        answers = self.method("stream_stream", "Both")(iter(said.get, None), timeout=DEADLINE)
        for number in range(50):
            said.put(b"%d" % number)
            assert next(answers) == b"%d" % number  # each before the next is sent
        said.put(None)
        assert list(answers) == []

    def case_much_both_ways(self):
        piece = os.urandom(64 << 10)
        answers = self.method("stream_stream", "Both")(iter([piece] * 64), timeout=DEADLINE)
        assert all(answer == piece for answer in answers) and answers.code() is grpc.StatusCode.OK

    def case_answer_before_the_end_of_the_question(self):
        said = queue.Queue()
        said.put(b"first")
        try:
            stream = self.method("stream_unary", "Enough")
            assert stream(iter(said.get, None), timeout=DEADLINE) == b"first"
        finally:
            said.put(None)

    def case_every_status(self):
        for number, code in enumerate(STATUSES):
            error = self.error(lambda: self.unary("Fail", b"%d" % number))
            assert (error.code(), error.details()) == (code, f"fault № {number}: 100 %"), error

    def case_status_after_a_message(self):
        answers = self.method("unary_stream", "FailLate")(b"first", timeout=DEADLINE)
        assert next(answers) == b"first"
        error = self.error(lambda: next(answers))
        assert (error.code(), error.details()) == (grpc.StatusCode.DATA_LOSS, "after a message"), error

    def case_deadline(self):
        answers = self.method("unary_stream", "Wait")(b"first", timeout=3)
        assert next(answers) == b"first"  # the server is at work
        assert self.error(lambda: next(answers)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert self.unary("Left") == b"yes"

    def case_client_that_leaves(self):
        answers = self.method("unary_stream", "Wait")(b"first", timeout=DEADLINE)
        assert next(answers) == b"first"  # the server is at work
        answers.cancel()
        assert self.error(lambda: next(answers)).code() is grpc.StatusCode.CANCELLED
        assert self.unary("Left") == b"yes"

    def case_unknown_method(self):
        assert self.error(lambda: self.unary("Unknown")).code() is grpc.StatusCode.UNIMPLEMENTED

    def case_server_that_is_not_there(self):
        call = self.method("unary_unary", "Unary", service="nobody")
        assert self.error(lambda: call(b"", timeout=DEADLINE)).code() is grpc.StatusCode.UNAVAILABLE

    def case_many_calls_at_once(self):
        calls = [self.method("unary_unary", "Unary").future(b"%d" % number, timeout=DEADLINE)
                 for number in range(500)]
        assert [call.result() for call in calls] == [b"%d" % number for number in range(500)]

    @staticmethod
    def error(act):
        try:
            answer = act()
        except grpc.RpcError as error:
            return error
        raise AssertionError(f"no error but {answer!r}")


def judge(address, chain):
    with open(chain, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    with grpc.secure_channel(address, credentials) as channel:
        client = Client(channel)
        for name in [name for name in dir(client) if name.startswith("case_")]:
            title, begin = name[len("case_"):].replace("_", " "), time.monotonic()
            try:
                getattr(client, name)()
                print("ok", title, flush=True)
            except Exception as error:  # whatever it is, the next is judged as well
                print(f"not ok {title}, after {time.monotonic() - begin:.1f} s: {type(error).__name__}:",
                      str(error).replace("\n", " "), flush=True)
    print("done")


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else judge(*sys.argv[2:])
