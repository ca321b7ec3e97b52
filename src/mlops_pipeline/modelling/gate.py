"""The promotion gate: rules over what was measured on held-out rows. No champion comes about but through here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from mlops_pipeline import plugins
from mlops_pipeline.config.pipeline import Gate, gate_rules_of, part_settings
from mlops_pipeline.contract.evaluation import AgainstChampion, Evaluation, Interval
from mlops_pipeline.modelling.skew import Skew

Verdict = tuple[bool, str]
"""Whether a version passes, and why in words."""


@dataclass(frozen=True)
class Rule:
    """One rule's outcome, in words that a person can check."""

    name: str
    passed: bool
    text: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Judged:
    """What a rule judges: the evaluation, milliseconds for one row, megabytes, and how a person took it back, or rejected it.

    ``skew`` tells of features computed again; None where the model has no recipe, or nobody looked.
    """

    evaluation: Evaluation
    latency_ms: float | None
    size_mb: float
    rolled_back: str = ""
    skew: Skew | None = None

    @property
    def metric(self) -> str:
        """The metric that versions are compared by."""
        return self.evaluation.metric


def decide(
    gate: Gate, evaluation: Evaluation, *, latency_ms: float | None, size_mb: float, rolled_back: str = "", skew: Skew | None = None
) -> list[Rule]:
    """Every configured rule, passed or not; what could not be measured does not pass.

    ``latency_ms`` is compared and not quoted, since it differs from run to run; None skips nothing: the rule fails.
    """
    return list(_rules(gate, Judged(evaluation, latency_ms, size_mb, rolled_back, skew)))


def decide_again(
    gate: Gate, evaluation: Evaluation, then: Iterable[Rule], *, latency_ms: float | None, size_mb: float, skew: Skew | None = None
) -> list[Rule]:
    """The gate as it is now, for the version that is champion already; whoever made it champion settled an earlier rollback.

    No version is compared with itself: what was found against the champion before it (among the rules of ``then``) stands,
    unless that very comparison is in ``evaluation`` still and can be judged by today's margin.
    """
    stands = next((rule for rule in then if rule.name == "champion"), None)
    former = evaluation.champion
    if stands is None or (former is not None and _called(former) in stands.text):
        return decide(gate, evaluation, latency_ms=latency_ms, size_mb=size_mb, skew=skew)
    alone = decide(gate, msgspec.structs.replace(evaluation, champion=None), latency_ms=latency_ms, size_mb=size_mb, skew=skew)
    return [stands if rule.name == "champion" else rule for rule in alone]


def _rules(gate: Gate, judged: Judged) -> Iterator[Rule]:
    for part in gate_rules_of(gate):
        own = part_settings(part, gate.rules.get(part.name, {}), "gate", "rules")
        verdict = plugins.run(part, judged, own if part.name in gate.rules else gate)
        if verdict is not None:
            yield Rule(part.name, *_sound(part, verdict))


def _sound(part: plugins.GateRule, verdict: Any) -> Verdict:
    """A verdict that says yes or no, and why."""
    if not (isinstance(verdict, tuple) and len(verdict) == 2 and _is_truth(verdict[0]) and isinstance(verdict[1], str) and verdict[1]):
        raise plugins.broken(part, f"it gives {verdict!r}, not whether the version passes and why in words")
    return bool(verdict[0]), " ".join(verdict[1].split())


def _is_truth(value: Any) -> bool:
    """Whether a value is true or false, NumPy's too: any other, such as the word "no", would count as true."""
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")


def held_out(judged: Judged, _gate: Gate) -> Verdict:
    rows = judged.evaluation.test_rows
    return rows > 0, f"evaluated on {rows:,} held-out row{'' if rows == 1 else 's'}"


def beats_baseline(judged: Judged, gate: Gate) -> Verdict | None:
    if gate.beat_baseline_by is None:
        return None
    text = f"{judged.metric} better than the dummy baseline by more than {gate.beat_baseline_by:g} ({_bound(judged.evaluation.confidence)})"
    return _gained(judged, judged.evaluation.improvement_over_baseline, gate.beat_baseline_by, text, strictly=True)


def not_worse_than_champion(judged: Judged, gate: Gate) -> Verdict | None:
    if gate.champion_margin is None:
        return None
    champion = judged.evaluation.champion
    if champion is None:
        return True, "there is no other champion to compare with"
    if not champion.comparable:
        return False, f"cannot be compared with {_called(champion)}: {champion.reason}"
    against = f"{judged.metric} against {_called(champion)}"
    least, of_what = -gate.champion_margin, ""
    if champion.lower_is_better and champion.metric is not None:
        # An error may have the target's unit, in which no number is small in itself.
        if gate.champion_margin > 1:
            of_old = (
                f"gate.champion_margin is {gate.champion_margin:g}, and of {judged.metric} it is a share of the champion's, not a number"
            )
            return False, f"{against}: {of_old} of its unit: write 0.01 for 1 %"
        least, of_what = least * abs(champion.metric), f"{gate.champion_margin * 100:g} % of its {champion.metric:.4g}; "
    text = f"{against}: gain of at least {least:.4g} ({of_what}{_bound(judged.evaluation.confidence)})"
    passed, told = _gained(judged, champion.improvement, least, text)
    told = f"{told}; {champion.reason}" if champion.reason else told
    gain = champion.improvement.value
    if passed and champion.simpler and (gain is None or gain <= 0):
        # A margin is for the same kind of model on later rows: what costs more to make and to keep has to be worth it.
        return (
            False,
            f"{told}; it is not better by what was measured ({_seen(gain)}), and {champion.simpler}, which the champion is, is simpler",
        )
    return passed, told


def worst_slice(judged: Judged, gate: Gate) -> Verdict | None:
    if gate.worst_slice is None:
        return None
    worst = judged.evaluation.worst_slice
    if worst is None:
        return True, "no slice has enough rows"
    where = f"{judged.metric} in the worst slice ({worst.column} = {worst.value})"
    if plugins.part(plugins.Metric, judged.metric).lower_is_better:
        return _at_most(worst.metric, gate.worst_slice, f"{where} at most {gate.worst_slice:g}")
    return _at_least(worst.metric, gate.worst_slice, f"{where} at least {gate.worst_slice:g}")


def calibrated(judged: Judged, gate: Gate) -> Verdict | None:
    if gate.max_calibration_error is None:
        return None
    return _at_most(
        judged.evaluation.calibration_error, gate.max_calibration_error, f"calibration error at most {gate.max_calibration_error:g}"
    )


def quick(judged: Judged, gate: Gate) -> Verdict | None:
    if gate.max_latency_ms is None:
        return None
    passed = judged.latency_ms is not None and judged.latency_ms <= gate.max_latency_ms
    return passed, f"median time for one row {'within' if passed else 'over'} {gate.max_latency_ms:g} ms"


def small(judged: Judged, gate: Gate) -> Verdict | None:
    if gate.max_size_mb is None:
        return None
    return _at_most(round(judged.size_mb, 2), gate.max_size_mb, f"size in MB at most {gate.max_size_mb:g}")


def without_skew(judged: Judged, gate: Gate) -> Verdict | None:
    if not gate.skew or judged.skew is None:
        return None
    rows = f"{judged.skew.rows:,} rows of the source computed again as a server does"
    return not judged.skew.difference, f"{rows}: {judged.skew.difference or 'to the bit what the table has'}"


def not_rolled_back(judged: Judged, _gate: Gate) -> Verdict | None:
    if not judged.rolled_back:
        return None
    return False, f"{judged.rolled_back}: promote it by hand"


def _called(champion: AgainstChampion) -> str:
    return f"champion {champion.model_sha256[:8]}"


def _bound(confidence: float) -> str:
    """What the figure after it is: not the measured gain, but the least that the interval allows."""
    return f"{confidence * 100:.4g} % lower bound"


def _gained(judged: Judged, gain: Interval, limit: float, text: str, *, strictly: bool = False) -> Verdict:
    """A gain by its lower bound; where only that is short of the limit, that the rows are too few to tell."""
    passed, told = _at_least(gain.low, limit, text, strictly=strictly)
    rows, things = judged.evaluation.test_rows, judged.evaluation.test_things
    is_unknown = gain.low is None and things is None
    if passed or is_unknown or not _at_least(gain.value, limit, "", strictly=strictly)[0]:
        return passed, told
    if things is None:
        why = f"{rows:,} held-out rows are too few to be sure of it"
    else:
        groups = f"{things:,} group{'' if things == 1 else 's'} of held-out rows (split.together)"
        why = f"{groups} are too few to be sure of it, or most rows are of few of them: hold more groups out"
    return passed, f"{told}; the gain that was measured is {_seen(gain.value)}, but {why}"


def _at_least(value: float | None, limit: float, text: str, *, strictly: bool = False) -> Verdict:
    passed = value is not None and (value > limit if strictly else value >= limit)
    return passed, f"{text}: {_seen(value)}"


def _at_most(value: float | None, limit: float, text: str) -> Verdict:
    return value is not None and value <= limit, f"{text}: {_seen(value)}"


def _seen(value: float | None) -> str:
    return "could not be measured" if value is None else f"{value:.4g}"
