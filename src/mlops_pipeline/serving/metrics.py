"""What Prometheus reads, added up over the workers.

The library keeps a worker's figures in files that every worker can read (its multiprocess mode, which is chosen by
PROMETHEUS_MULTIPROC_DIR before it is imported), so that any worker answers for all.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.inference.faults import UNSEEN_CATEGORY

if TYPE_CHECKING:
    from mlops_pipeline.inference.faults import Notice

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)


class _Sum:
    """A histogram's values since they were last handed on."""

    __slots__ = ("buckets", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.buckets, self.total = [0] * (len(bounds) + 1), 0.0

    def hand_on(self, histogram: Any) -> int:
        """Add all of it to the library's own; how many they were."""
        for bucket, count in zip(histogram._buckets, self.buckets, strict=True):  # no other way to add several
            if count:
                bucket.inc(count)
        histogram._sum.inc(self.total)
        return sum(self.buckets)


class Metrics:
    """The server's figures in one worker.

    What is counted at each request is added up in plain numbers and handed on twice a second, and before it is told: the library
    takes longer than there is time.
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._own = CollectorRegistry()
        self._answers: dict[tuple[str, str, int, str], _Sum] = {}
        self._shadows: dict[tuple[str, bool], _Sum] = {}
        self._batches: dict[str, _Sum] = {}
        self._without_unit: dict[str, int] = {}
        self._left: dict[tuple[str, str], int] = {}

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"mlops_{name}", what, labels, registry=self._own)

        def gauge(name: str, what: str, mode: Any, *labels: str) -> Gauge:
            return Gauge(f"mlops_{name}", what, labels, registry=self._own, multiprocess_mode=mode)

        self._requests = counter("requests", "Requests answered", "protocol", "model", "status")
        self._seconds = Histogram(
            "mlops_request_seconds", "From the headers to the answer", ("protocol", "model"), buckets=SECONDS, registry=self._own
        )
        self._rejected = counter("rejected", "Requests refused, by reason", "protocol", "reason")
        self._rows = counter("rows", "Rows predicted", "model")
        self._unseen = counter("unseen_categories", "Values of category columns that training never saw", "model")
        self._warnings = counter("warnings", "Values and columns that were unusual and answered all the same", "model", "reason")
        self._batch_rows = Histogram("mlops_batch_rows", "Rows in one call of the model", ("model",), buckets=ROWS, registry=self._own)
        self._version = gauge("model_version", "Number of the version served, 0 for a folder, NaN for none", "livemostrecent", "model")
        self._loads = counter("model_loads", "Versions that took traffic", "model")
        self._load_failures = counter("model_load_failures", "Versions that were refused, by reason", "model", "reason")
        self._raw_rows = counter("raw_rows", "Rows whose features were computed", "model")
        self._stale = counter("features_stale", "Rows computed, or refused, with a state older than it may be", "model", "policy")
        self._as_of = gauge("features_as_of_seconds", "The moment that the features' state is true for", "livemostrecent", "model")
        self._age = gauge("features_age_seconds", "How old the features' state is", "livemostrecent", "model")
        self.connections = gauge("connections", "Connections of clients", "livesum")
        self.connections_ended = counter(
            "connections_ended", "Connections ended by their state's time limit, or to make room for others", "state", "cause"
        )
        self.queue_rows = gauge("queue_rows", "Rows waiting", "livesum")
        self.resident = gauge("resident_bytes", "Memory of the workers", "livesum")
        self.record_pending = gauge("record_pending", "Records not yet written", "livesum")
        self.record_failing = gauge("record_failing", "1 where the record's store cannot be written", "livemax")
        self.records_written = counter("records_written", "Records written")
        self._arm_seconds = Histogram(
            "mlops_release_request_seconds",
            "From the headers to the answer by the arm of a release; of a shadow, what it took to ask it",
            ("model", "arm"),
            buckets=SECONDS,
            registry=self._own,
        )
        self._arm_errors = counter(
            "release_errors", "Requests of an arm that were answered with a 5xx, or shadows that failed", "model", "arm"
        )
        self._fallbacks = counter(
            "release_fallbacks", "Requests that the champion answered for a challenger that failed", "model", "reason"
        )
        self._not_sticky = counter("release_not_sticky", "Requests without the unit that sticks to an arm", "model")
        self._shadows_left = counter(
            "release_shadows_left_out", "Answers behind which a challenger was to be asked, and was not", "model", "reason"
        )
        self._weight = gauge("release_weight", "Share of units that a challenger answers; 0 where none does", "livemostrecent", "model")
        self._tripped = gauge("release_tripped", "Workers that ask a challenger no more", "livesum", "model")
        self._labels = counter("labels", "Labels that came to /labels and are on disk, by what they said beside those before", "what")
        self.started = gauge("started_seconds", "When the server started, in seconds since 1970", "min")

    def answered(self, protocol: str, model: str, status: int, arm: str, seconds: float) -> None:
        """Count a prediction's request whose answer has been sent, by the arm of a release if there is one."""
        key = protocol, model, status, arm
        of_kind = self._answers.get(key) or self._answers.setdefault(key, _Sum(SECONDS))
        of_kind.buckets[bisect_left(SECONDS, seconds)] += 1
        of_kind.total += seconds

    def told(self, protocol: str, status: int) -> None:
        """Count an answer that is no prediction."""
        self._requests.labels(protocol, "", str(status)).inc()

    def rejected(self, protocol: str, reason: str) -> None:
        self._rejected.labels(protocol, reason).inc()

    def warned(self, model: str, notices: list[Notice]) -> None:
        """Count what was unusual in rows that were answered, by its reason: names of columns may be a client's own words."""
        for notice in notices:
            self._warnings.labels(model, notice.reason).inc(notice.rows)
            if notice.reason == UNSEEN_CATEGORY:
                self._unseen.labels(model).inc(notice.rows)

    def labels(self, counts: Mapping[str, int]) -> None:
        """Count labels that were kept, were there already, or contradicted."""
        for what in ("new", "known", "contradicting", "late"):
            self._labels.labels(what).inc(counts[what])

    def batches(self, model: str) -> Callable[[int, int], None]:
        """What a model's batcher tells of each batch."""
        sizes = self._batches.setdefault(model, _Sum(ROWS))

        def seen(_: int, count: int) -> None:
            sizes.buckets[bisect_left(ROWS, count)] += 1
            sizes.total += count

        return seen

    def loaded(self, model: str, version: str) -> None:
        self._loads.labels(model).inc()
        self._version.labels(model).set(int(version) if version.isdigit() else 0)

    def dropped(self, model: str, reason: str) -> None:
        self._version.labels(model).set(float("nan"))
        self.load_failed(model, reason)

    def load_failed(self, model: str, reason: str) -> None:
        self._load_failures.labels(model, reason).inc()

    def computed(self, model: str, rows: int) -> None:
        self._raw_rows.labels(model).inc(rows)

    def stale(self, model: str, policy: str, rows: int) -> None:
        self._stale.labels(model, policy).inc(rows)

    def knows(self, model: str, as_of: float, now: float) -> None:
        """What moment a model's features are true for."""
        self._as_of.labels(model).set(as_of)
        self._age.labels(model).set(max(0.0, now - as_of))

    def shadows(self, model: str, seconds: float, count: int, *, failed: bool) -> None:
        """Count shadows that were asked together."""
        key = model, failed
        shadows = self._shadows.get(key) or self._shadows.setdefault(key, _Sum(SECONDS))
        shadows.buckets[bisect_left(SECONDS, seconds)] += count
        shadows.total += seconds * count

    def fallback(self, model: str, reason: str) -> None:
        self._fallbacks.labels(model, reason).inc()

    def not_sticky(self, model: str) -> None:
        self._without_unit[model] = self._without_unit.get(model, 0) + 1

    def shadow_left_out(self, model: str, reason: str) -> None:
        self._left[model, reason] = self._left.get((model, reason), 0) + 1

    def settle(self) -> None:
        """Hand on what was added up: rows before their answers, so that who sees an answer's count sees its rows'.

        Another thread may name a model meanwhile.
        """
        for model, sizes in list(self._batches.items()):
            self._rows.labels(model).inc(sizes.total)
            sizes.hand_on(self._batch_rows.labels(model))
            sizes.buckets, sizes.total = [0] * len(sizes.buckets), 0.0
        for (protocol, model, status, arm), answers in list(self._answers.items()):
            count = answers.hand_on(self._seconds.labels(protocol, model))
            self._requests.labels(protocol, model, str(status)).inc(count)
            if arm:
                self._of_arm(model, arm, answers, failed=status >= 500)
        for (model, failed), shadows in list(self._shadows.items()):
            self._of_arm(model, "shadow", shadows, failed=failed)
        for model, count in list(self._without_unit.items()):
            self._not_sticky.labels(model).inc(count)
        for (model, reason), count in list(self._left.items()):
            self._shadows_left.labels(model, reason).inc(count)
        for added in (self._answers, self._shadows, self._without_unit, self._left):
            added.clear()

    def _of_arm(self, model: str, arm: str, answers: _Sum, *, failed: bool) -> None:
        count = answers.hand_on(self._arm_seconds.labels(model, arm))
        self._arm_errors.labels(model, arm).inc(count if failed else 0)

    def release(self, model: str, weight: float, *, tripped: bool) -> None:
        """How a model's requests are divided from now on."""
        self._weight.labels(model).set(weight)
        self._tripped.labels(model).set(1 if tripped else 0)

    def registry(self) -> Any:
        """The registry that holds the figures of all workers."""
        from prometheus_client import CollectorRegistry
        from prometheus_client.multiprocess import MultiProcessCollector

        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return self._own
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry

    def text(self) -> bytes:
        """The text format that Prometheus scrapes."""
        from prometheus_client import generate_latest

        self.settle()
        return generate_latest(self.registry())

    def totals(self) -> dict[str, Any]:
        """The figures that the page draws: predictions over all models and workers, without the pages themselves."""
        self.settle()
        requests: dict[str, float] = {}
        rejected: dict[str, float] = {}
        buckets: dict[str, float] = {}
        sums = {"mlops_rows_total": 0.0, "mlops_request_seconds_count": 0.0, "mlops_request_seconds_sum": 0.0, "mlops_started_seconds": 0.0}
        for family in self.registry().collect():
            for sample in family.samples:
                name, labels, value = sample.name, sample.labels, sample.value
                if labels.get("protocol") == "pages":
                    continue
                if name == "mlops_requests_total":
                    requests[labels["status"]] = requests.get(labels["status"], 0) + value
                elif name == "mlops_rejected_total":
                    rejected[labels["reason"]] = rejected.get(labels["reason"], 0) + value
                elif name == "mlops_request_seconds_bucket":
                    buckets[labels["le"]] = buckets.get(labels["le"], 0) + value
                elif name in sums:
                    sums[name] += value
        ordered = sorted(buckets.items(), key=lambda item: float(item[0]))
        return {
            "requests": requests,
            "rejected": rejected,
            "rows": sums["mlops_rows_total"],
            "started": sums["mlops_started_seconds"],
            "latency": {
                "count": sums["mlops_request_seconds_count"],
                "sum": sums["mlops_request_seconds_sum"],
                "buckets": [[le if le == "+Inf" else float(le), count] for le, count in ordered],
            },
        }


def forget_worker(pid: int) -> None:
    """Take the gauges of a worker that has died out of the sum; its counts stay."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid)  # type: ignore[no-untyped-call]


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
