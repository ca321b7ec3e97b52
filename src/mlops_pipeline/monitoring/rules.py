"""Whether a rule is broken by a series of windows: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlops_pipeline.config.monitoring import Rule

COUNTED = ("rows", "requests", "refused.share", "labels", "labels.share", "model.age_days")
"""Figures that mean something of a window with too few rows too."""
WAITS = "version_waits"
WAITING = Rule(figure="versions.waiting", above=0)
RELEASE = "release_ended"
RELEASED = Rule(figure="release.ended", above=0)
"""The one rule that need not be written: a version waits for a person's approval. The registry says so, and no window."""
NEED_LABELS = ("quality.", "probe.", "calibration.")

Figures = Mapping[str, float | None]


@dataclass(frozen=True)
class Seen:
    """One window as rules see it: from when until when, its figures, and whether it has rows enough to say more than their number."""

    number: int
    since: float
    until: float
    figures: Figures
    enough: bool


@dataclass(frozen=True)
class Judgement:
    """What a rule says: ``broken`` is None where no window has its figure."""

    broken: bool | None
    figure: str
    value: float | None = None
    text: str = ""
    since: float = 0.0
    """When the first of the windows ended in which it was so, without a gap until now."""
    window: Seen | None = None
    """The last window with the figure."""


@dataclass(frozen=True)
class Terms:
    """What rules need to know of the pipeline: its metric, whether it is better low, and the reference's figures."""

    metric: str
    lower_is_better: bool
    reference: Figures
    least_label_share: float = 0.0

    def figure(self, named: str) -> str:
        """The whole name of a figure."""
        return f"{named}.{self.metric}" if named in ("quality", "estimated") else named


def rule_named(rules: Mapping[str, Rule], name: str) -> Rule | None:
    """A rule of the settings, or the one that need not be written."""
    return rules.get(name, {WAITS: WAITING, RELEASE: RELEASED}.get(name))


def judged(rule: Rule, series: Sequence[Seen], terms: Terms) -> Judgement:
    """What a rule says of the windows of one version, oldest first. Windows without its figure are left out."""
    name = terms.figure(rule.figure)
    there = [window for window in series if _counts(window, name, terms)]
    if not there:
        return Judgement(None, name)
    is_broken = [_broken(rule, name, there, place, terms) for place in range(len(there))]
    last = there[-1]
    value, text = _read(rule, name, last), _told(rule, name, there, terms)
    if is_broken[-1] is None:
        return Judgement(None, name, value, text, window=last)
    tail = is_broken[-rule.windows :]
    if len(tail) < rule.windows or not all(tail):
        return Judgement(False, name, value, text, last.until, last)
    first = len(is_broken) - 1
    while first > 0 and is_broken[first - 1]:
        first -= 1
    return Judgement(True, name, value, text, there[first].until, last)


def _counts(window: Seen, name: str, terms: Terms) -> bool:
    if window.figures.get(name) is None or not (window.enough or name in COUNTED):
        return False
    share = window.figures.get("labels.share")
    return not name.startswith(NEED_LABELS) or terms.least_label_share <= (share or 0.0)


def _broken(rule: Rule, name: str, there: Sequence[Seen], place: int, terms: Terms) -> bool | None:
    value = _read(rule, name, there[place], terms)
    if value is None:
        return None
    if rule.above is not None or rule.below is not None:
        return _beyond(rule, value, there[place].figures, name)
    base = _base(rule, name, there, place, terms)
    if base is None:
        return None
    change = (value - base) * (1 if _rises(rule, terms) else -1)
    return change > _limit(rule) * (abs(base) if rule.relative else 1.0)


def _beyond(rule: Rule, value: float, figures: Figures, name: str) -> bool:
    end = figures.get(f"{name}.low" if rule.above is not None else f"{name}.high")
    least, limit = (value if end is None else end), rule.and_surely
    if rule.above is not None:
        return value > rule.above and (limit is None or least > limit)
    return rule.below is not None and value < rule.below and (limit is None or least < limit)


def _read(rule: Rule, name: str, window: Seen, terms: Terms | None = None) -> float | None:
    """The figure, or with ``surely`` the end of its interval on the side of all being well."""
    value = window.figures[name]
    if not rule.surely or terms is None:
        return value
    wrong_if_high = rule.above is not None or (rule.below is None and _rises(rule, terms))
    end = window.figures.get(f"{name}.low" if wrong_if_high else f"{name}.high")
    return value if end is None else end


def _base(rule: Rule, name: str, there: Sequence[Seen], place: int, terms: Terms) -> float | None:
    if rule.against == "reference":
        return terms.reference.get(name)
    before = [window.figures[name] for window in there[max(0, place - rule.against) : place]]
    values = [value for value in before if value is not None]
    return sum(values) / len(values) if len(values) == rule.against else None


def _rises(rule: Rule, terms: Terms) -> bool:
    return rule.rises_by is not None or (rule.worsens_by is not None and terms.lower_is_better)


def _limit(rule: Rule) -> float:
    return next(limit for limit in (rule.rises_by, rule.falls_by, rule.worsens_by) if limit is not None)


def _told(rule: Rule, name: str, there: Sequence[Seen], terms: Terms) -> str:
    last = there[-1]
    value = last.figures[name]
    said = f"{name} is {shown(value)}"
    low, high = last.figures.get(f"{name}.low"), last.figures.get(f"{name}.high")
    if low is not None and high is not None:
        said += f" ({shown(low)} to {shown(high)})"
    times = (", by the whole of its interval" if rule.surely else "") + (f" in {rule.windows} windows in a row" if rule.windows > 1 else "")
    if rule.above is not None or rule.below is not None:
        limit = f"above {rule.above:g}" if rule.above is not None else f"below {rule.below:g}"
        surely = "" if rule.and_surely is None else f", surely {'above' if rule.above is not None else 'below'} {rule.and_surely:g}"
        return f"{said}; wrong is {limit}{surely}{times}"
    base = _base(rule, name, there, len(there) - 1, terms)
    of = "in the held-out rows" if rule.against == "reference" else f"in the {rule.against} windows before"
    if base is None:
        return f"{said}; it is not known what it was {of}"
    limit = f"{_limit(rule):.3g}" if not rule.relative else f"{_limit(rule):.3%}".rstrip("%").rstrip("0").rstrip(".") + " %"
    return f"{said}, {shown(base)} {of}; wrong is {'a rise' if _rises(rule, terms) else 'a fall'} by more than {limit}{times}"


def shown(value: float | None) -> str:
    """A figure as it is told."""
    return "unknown" if value is None else f"{value:,.0f}" if value == int(value) and abs(value) >= 10 else f"{value:.4g}"
