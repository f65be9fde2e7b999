"""A receiver of OTLP over HTTP and gRPC, with the official definitions of its messages. Says on its first
line where it listens, and then one line of JSON for each request that it took."""

import base64
import json
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc

lock = threading.Lock()


def said(document):
    with lock:
        print(json.dumps(document), flush=True)


def plain(value):
    """Attributes as a map, ids in hexadecimal."""
    if isinstance(value, list):
        return [plain(v) for v in value]
    if not isinstance(value, dict):
        return value
    out = {}
    for key, inner in value.items():
        if key in ("trace_id", "span_id", "parent_span_id"):
            out[key] = base64.b64decode(inner).hex()
        elif key == "attributes":
            pairs = [(a["key"], next(iter(a["value"].values()))) for a in inner]
            assert len(pairs) == len(dict(pairs)), pairs
            out[key] = dict(pairs)
        else:
            out[key] = plain(inner)
    return out


def took(via, signal, fields, message):
    # What the definitions do not know is a mistake of ours.
    known = type(message).FromString(message.SerializeToString())
    known.DiscardUnknownFields()
    assert known.ByteSize() == message.ByteSize(), "unknown fields"
    body = plain(MessageToDict(message, preserving_proto_field_name=True))
    said({"via": via, "signal": signal, "fields": fields, "message": body})


KINDS = {
    "/v1/traces": ("traces", traces.ExportTraceServiceRequest, traces.ExportTraceServiceResponse),
    "/v1/logs": ("logs", logs.ExportLogsServiceRequest, logs.ExportLogsServiceResponse),
}


class Http(BaseHTTPRequestHandler):
    def do_POST(self):
        signal, request, response = KINDS[self.path]
        assert self.headers["content-type"] == "application/x-protobuf"
        body = self.rfile.read(int(self.headers["content-length"]))
        fields = {k.lower(): v for k, v in self.headers.items()}
        took("http", signal, fields, request.FromString(body))
        answer = response().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Traces(traces_grpc.TraceServiceServicer):
    def Export(self, request, context):
        took("grpc", "traces", dict(context.invocation_metadata()), request)
        return traces.ExportTraceServiceResponse()


class Logs(logs_grpc.LogsServiceServicer):
    def Export(self, request, context):
        took("grpc", "logs", dict(context.invocation_metadata()), request)
        return logs.ExportLogsServiceResponse()


http = ThreadingHTTPServer(("127.0.0.1", 0), Http)
threading.Thread(target=http.serve_forever, daemon=True).start()
rpc = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
traces_grpc.add_TraceServiceServicer_to_server(Traces(), rpc)
logs_grpc.add_LogsServiceServicer_to_server(Logs(), rpc)
port = rpc.add_insecure_port("127.0.0.1:0")
rpc.start()
said({"http": http.server_address[1], "grpc": port})
sys.stdin.read()
rpc.stop(0)
