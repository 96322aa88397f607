"""A collector of traces: OTLP over HTTP, decoded by OpenTelemetry's own package.

    collector.py [--tls CHAIN KEY] [STATUS...]

Prints its address, and then one line of JSON for each batch that comes. Batches are
answered with these statuses in turn, the last one again and again; without any with 200.
"""

import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

STATUSES = [200]


def value(any_value):
    kind = any_value.WhichOneof("value")
    return getattr(any_value, kind) if kind else None


def attributes(items):
    return {item.key: value(item.value) for item in items}


def told(span, resource, scope):
    return {
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "state": span.trace_state,
        "name": span.name,
        "kind": Span.SpanKind.Name(span.kind),
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "status": Status.StatusCode.Name(span.status.code),
        "attributes": attributes(span.attributes),
        "resource": resource,
        "scope": scope,
    }


class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        status = STATUSES.pop(0) if len(STATUSES) > 1 else STATUSES[0]
        batch = ExportTraceServiceRequest()
        batch.ParseFromString(body)
        spans = [
            told(span, attributes(resource.resource.attributes), scope.scope.name)
            for resource in batch.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        headers = {name.lower(): value for name, value in self.headers.items()}
        line = {"path": self.path, "headers": headers, "status": status, "spans": spans}
        print(json.dumps(line), flush=True)
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(status)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def main():
    given = sys.argv[1:]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    if given[:1] == ["--tls"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(given[1], given[2])
        server.socket = context.wrap_socket(server.socket, server_side=True)
        given = given[3:]
    STATUSES[:] = [int(status) for status in given] or [200]
    print(json.dumps("%s:%d" % server.server_address), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
