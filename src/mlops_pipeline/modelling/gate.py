"""The promotion gate: rules over what was measured on held-out rows. No champion comes about but through here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from mlops_pipeline.config.pipeline import LOWER_IS_BETTER, Gate


@dataclass(frozen=True)
class Rule:
    """One rule's outcome, in words that a person can check."""

    name: str
    passed: bool
    text: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def decide(gate: Gate, evaluation: dict[str, Any], *, latency_ms: float | None, size_mb: float, rolled_back: str = "") -> list[Rule]:
    """Every configured rule, passed or not; what could not be measured does not pass.

    ``latency_ms`` is compared and not quoted, since it differs from run to run; None skips nothing: the rule fails.
    """
    return list(_rules(gate, evaluation, latency_ms, size_mb, rolled_back))


def decide_again(gate: Gate, evaluation: dict[str, Any], then: Iterable[Rule], *, latency_ms: float | None, size_mb: float) -> list[Rule]:
    """The gate as it is now, for the version that is champion already; whoever made it champion settled an earlier rollback.

    No version is compared with itself: what was found against the champion before it (among the rules of ``then``) stands,
    unless that very comparison is in ``evaluation`` still and can be judged by today's margin.
    """
    stands = next((rule for rule in then if rule.name == "champion"), None)
    former = evaluation.get("champion")
    if stands is None or (former is not None and _called(former) in stands.text):
        return decide(gate, evaluation, latency_ms=latency_ms, size_mb=size_mb)
    alone = decide(gate, {**evaluation, "champion": None}, latency_ms=latency_ms, size_mb=size_mb)
    return [stands if rule.name == "champion" else rule for rule in alone]


def _rules(gate: Gate, evaluation: dict[str, Any], latency_ms: float | None, size_mb: float, rolled_back: str) -> Iterator[Rule]:
    metric = evaluation["metric"]
    rows = evaluation["test_rows"]
    yield Rule("held_out", rows > 0, f"evaluated on {rows:,} held-out rows")
    if gate.beat_baseline_by is not None:
        gain = evaluation["improvement_over_baseline"]
        yield _at_least(
            "baseline",
            gain["low"],
            gate.beat_baseline_by,
            f"{metric} better than the dummy baseline by more than {{}} ({_bound(evaluation['confidence'])})",
            strictly=True,
        )
    if gate.champion_margin is not None:
        yield _champion_rule(evaluation.get("champion"), metric, gate.champion_margin, evaluation["confidence"])
    if gate.worst_slice is not None:
        worst = evaluation.get("worst_slice")
        if worst is None:
            yield Rule("worst_slice", True, "no slice has enough rows")
        else:
            where = f"{metric} in the worst slice ({worst['column']} = {worst['value']})"
            if metric in LOWER_IS_BETTER:
                yield _at_most("worst_slice", worst["metric"], gate.worst_slice, f"{where} at most {{}}")
            else:
                yield _at_least("worst_slice", worst["metric"], gate.worst_slice, f"{where} at least {{}}")
    if gate.max_calibration_error is not None:
        yield _at_most("calibration", evaluation["calibration_error"], gate.max_calibration_error, "calibration error at most {}")
    if gate.max_latency_ms is not None:
        passed = latency_ms is not None and latency_ms <= gate.max_latency_ms
        yield Rule("latency", passed, f"median time for one row {'within' if passed else 'over'} {gate.max_latency_ms:g} ms")
    if gate.max_size_mb is not None:
        yield _at_most("size", round(size_mb, 2), gate.max_size_mb, "size in MB at most {}")
    if rolled_back:
        yield Rule("rolled_back", False, f"rolled back by a person at {rolled_back}: promote it by hand")


def _champion_rule(champion: dict[str, Any] | None, metric: str, margin: float, confidence: float) -> Rule:
    if champion is None:
        return Rule("champion", True, "there is no other champion to compare with")
    if not champion["comparable"]:
        return Rule("champion", False, f"cannot be compared with {_called(champion)}: {champion['reason']}")
    return _at_least(
        "champion",
        champion["improvement"]["low"],
        -margin,
        f"{metric} against {_called(champion)}: gain of at least {{}} ({_bound(confidence)})",
    )


def _called(champion: dict[str, Any]) -> str:
    return f"champion {champion['model_sha256'][:8]}"


def _bound(confidence: float) -> str:
    """What the figure after it is: not the measured gain, but the least that the interval allows."""
    return f"{confidence * 100:.4g} % lower bound"


def _at_least(name: str, value: float | None, limit: float, text: str, *, strictly: bool = False) -> Rule:
    passed = value is not None and (value > limit if strictly else value >= limit)
    return Rule(name, passed, f"{text.format(f'{limit:g}')}: {_seen(value)}")


def _at_most(name: str, value: float | None, limit: float, text: str) -> Rule:
    return Rule(name, value is not None and value <= limit, f"{text.format(f'{limit:g}')}: {_seen(value)}")


def _seen(value: float | None) -> str:
    return "could not be measured" if value is None else f"{value:.4g}"
