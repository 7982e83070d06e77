"""Reads traces, sent as OTLP over HTTP, with the official messages, and writes a line for each span. Run with its port and a file."""

import gzip
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Status


def attributes(pairs):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def spans_of(request):
    for of_process in request.resource_spans:
        for of_scope in of_process.scope_spans:
            for span in of_scope.spans:
                yield {
                    "trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex(),
                    "name": span.name, "kind": span.kind, "begin": span.start_time_unix_nano, "end": span.end_time_unix_nano,
                    "error": span.status.code == Status.STATUS_CODE_ERROR, "attributes": attributes(span.attributes),
                    "resource": attributes(of_process.resource.attributes),
                }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = ExportTraceServiceRequest()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request.ParseFromString(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
        with open(sys.argv[2], "a", encoding="utf-8") as file:
            file.writelines(json.dumps(span) + "\n" for span in spans_of(request))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
