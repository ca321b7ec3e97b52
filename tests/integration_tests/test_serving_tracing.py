"""OpenTelemetry: spans leave only where an endpoint is set, as the protocol says, and are children of the client's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.conftest import Project, wait_for
from tests.integration_tests.clients import post
from tests.integration_tests.conftest import serving

TRACE = "0af7651916cd43dd8448eb211c80319c"


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """An endpoint that takes OTLP over HTTP and decodes it with the protocol's own types."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans: list[Any] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            sent = ExportTraceServiceRequest.FromString(body)
            spans.extend(span for r in sent.resource_spans for s in r.scope_spans for span in s.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", spans
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_prediction_is_a_span_under_the_clients_trace(registered: Project, tmp_path: Path) -> None:
    with collector() as (endpoint, spans):
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with serving(registered, tmp_path / "serve", environ) as server:
            headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "X-Request-Id": "traced"}
            post(f"{server.url}/predict", {"records": [server.example]}, **headers)
            post(f"{server.url}/predict", {"records": [{}]})
            wait_for(lambda: len(spans) >= 2, 120, "two spans")
    by_status = {attribute(span, "http.response.status_code"): span for span in spans}
    assert set(by_status) == {200, 422}
    assert by_status[200].trace_id.hex() == TRACE
    assert by_status[200].parent_span_id.hex() == "b7ad6b7169203331"
    assert attribute(by_status[200], "mlops.request_id") == "traced"
    assert not by_status[422].parent_span_id


def attribute(span: Any, key: str) -> Any:
    value = next(a.value for a in span.attributes if a.key == key)
    return value.string_value or value.int_value
