"""The figures of the watch as Prometheus reads them: of each model's newest windows, its rules, and when the job ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlops_pipeline.config.monitoring import Rule
from mlops_pipeline.monitoring.judging import REMEMBERED
from mlops_pipeline.monitoring.state import WatchState, Window
from mlops_pipeline.monitoring.watched import Watched

FIGURE, BROKEN, RAN = "mlops_monitor_figure", "mlops_monitor_rule_broken", "mlops_monitor_run_seconds"
"""Names that rendered rules ask for, too."""


def exposed(watch: Watched, state: WatchState, now: float) -> str:
    """All of them in Prometheus's text format."""
    windows = {model: state.windows(model, last=REMEMBERED, details=False) for model in watch.models}
    firing = {(row.model, row.rule) for row in state.alerts("firing")}
    waiting = {channel: count for channel, count, _ in state.waiting() if channel[0] != ":"}
    return text_of(watch.pipeline.name, windows, state.window_counts(), watch.settings.rules, firing, waiting, now)


def text_of(
    pipeline: str,
    windows: Mapping[str, Sequence[Window]],
    counts: Mapping[tuple[str, str], int],
    rules: Mapping[str, Rule],
    firing: set[tuple[str, str]],
    waiting: Mapping[str, int],
    now: float,
) -> str:
    """The same of plain values.

    ``windows`` by model, oldest first: the newest of so many as ``counts`` has of a model and a version. ``firing``: pairs of model and
    rule. ``waiting``: messages by channel.
    """
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Families(_families(pipeline, windows, counts, rules, firing, waiting, now)))
    return generate_latest(registry).decode()


class _Families:
    """What the library's own writer is given."""

    def __init__(self, families: Sequence[Any]) -> None:
        self._families = families

    def collect(self) -> Sequence[Any]:
        """Called by the library."""
        return self._families


def _families(
    pipeline: str,
    windows: Mapping[str, Sequence[Window]],
    counts: Mapping[tuple[str, str], int],
    rules: Mapping[str, Rule],
    firing: set[tuple[str, str]],
    waiting: Mapping[str, int],
    now: float,
) -> list[Any]:
    from prometheus_client.core import GaugeMetricFamily

    def gauge(name: str, what: str, *labels: str) -> Any:
        return GaugeMetricFamily(name, what, labels=("pipeline", *labels))

    figures = gauge(FIGURE, "A figure of the newest window that has it, of the version that answered last", "model", "version", "figure")
    ends = gauge("mlops_monitor_window_end_seconds", "When the newest window ended, in seconds since 1970", "model", "version")
    judged = gauge("mlops_monitor_judged_end_seconds", "When the newest window ended whose quality is known", "model", "version")
    count = gauge("mlops_monitor_windows", "Windows counted", "model", "version")
    for model, each in windows.items():
        if not each:
            continue
        version = each[-1].version
        own = [window for window in each if window.version == version]
        for name, value in newest(own).items():
            figures.add_metric((pipeline, model, version, name), value)
        ends.add_metric((pipeline, model, version), own[-1].until)
        count.add_metric((pipeline, model, version), counts[model, version])
        known = [window.until for window in own if any(name.startswith("quality.") for name in _there(window))]
        if known:
            judged.add_metric((pipeline, model, version), known[-1])
    broken = gauge(BROKEN, "1 where the newest windows break a rule", "model", "rule", "severity")
    for model in windows:
        for name, rule in rules.items():
            broken.add_metric((pipeline, model, name, rule.severity), float((model, name) in firing))
    undelivered = gauge("mlops_monitor_undelivered", "Messages that a channel has not taken yet", "channel")
    for channel, messages in waiting.items():
        undelivered.add_metric((pipeline, channel), messages)
    ran = gauge(RAN, "When the job last ran, in seconds since 1970")
    ran.add_metric((pipeline,), now)
    return [figures, ends, judged, count, broken, undelivered, ran]


def newest(windows: Sequence[Window]) -> dict[str, float]:
    """Of each figure the value of the newest window that has it; with their figures' own intervals, not those of others."""
    found: dict[str, float] = {}
    for window in windows:
        there = _there(window)
        stems = {name.removesuffix(".low").removesuffix(".high") for name in there}
        found = {name: value for name, value in found.items() if name.removesuffix(".low").removesuffix(".high") not in stems}
        found |= there
    return found


def _there(window: Window) -> dict[str, float]:
    return {name: value for name, value in window.figures.items() if value is not None}
