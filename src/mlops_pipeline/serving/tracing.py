"""OpenTelemetry spans, sent only where OTEL_EXPORTER_OTLP_ENDPOINT (or its twin for traces) says where to."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops_pipeline.serving.request import Request

Finish = Callable[[int], None]


class Tracing:
    """A span for each prediction, child of the client's if it sends ``traceparent``."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = TracerProvider(resource=Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "mlops-serve")}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("mlops_pipeline.serving")
        self._context = TraceContextTextMapPropagator()

    def begin(self, request: Request) -> Finish:
        """Start a span; what is returned ends it with the answer's status."""
        parent = self._context.extract({"traceparent": request.traceparent}) if request.traceparent else None
        span = self._tracer.start_span(
            f"predict {request.model}",
            context=parent,
            attributes={"mlops.protocol": request.protocol, "mlops.model": request.model, "mlops.request_id": request.request_id},
        )

        def finish(status: int) -> None:
            span.set_attribute("http.response.status_code", status)
            span.end()

        return finish

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def tracing() -> Tracing | None:
    """Tracing if an endpoint is set."""
    wanted = any(os.environ.get(name) for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
    return Tracing() if wanted else None
