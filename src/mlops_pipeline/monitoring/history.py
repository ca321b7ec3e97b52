"""The page of the watch: quality and its estimate over time, drift by column and window, labels, alerts and trainings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from mlops_pipeline import pages
from mlops_pipeline.files import write_text
from mlops_pipeline.monitoring.measured import LEAST_EFFECT, PROBE, UNMEASURED, ColumnDrift, Skewed
from mlops_pipeline.monitoring.skew import said_of
from mlops_pipeline.monitoring.state import AlertRow, Retraining, WatchState, Window
from mlops_pipeline.monitoring.watched import Watched

WINDOWS, COLUMNS, MOST = 120, 40, 50
"""At most so many of the last windows, of the columns that drift most, and of the last alerts and trainings are shown."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1040, 260, 58, 14, 14, 30
"""Of a picture, and the room around its plot, in pixels."""

DAY_WIDTH = 80
"""Of a day's name in a picture, with the room beside it, in pixels."""

LETTER, GAP = 6.5, 8
"""Width of a letter beside a mark, at most, and the room around such a word, in pixels."""

SKEWED = 8
"""Windows in the table of skew."""

STRONG = 5 * LEAST_EFFECT
"""An effect from which a cell has its full colour."""


@dataclass(frozen=True)
class Dot:
    """A window in a picture: where, and what its title says."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Mark:
    """Something that happened: an upright line and a word, on its left where it would run beyond the picture."""

    x: float
    word: str
    shown: bool = True
    """Whether the word has room; where it has none it is the line's title alone."""
    is_left: bool = False


@dataclass(frozen=True)
class Picture:
    """Quality over time as paths of SVG: measured with its interval, estimated, and what each version's held-out rows said."""

    measured: str
    band: str
    estimated: str
    dots: tuple[Dot, ...]
    held_out: str
    heights: tuple[tuple[float, str], ...]
    days: tuple[Mark, ...]
    versions: tuple[Mark, ...]
    trainings: tuple[Mark, ...]
    shares: tuple[tuple[float, float, float, str], ...]
    """Labels' coverage of each window: x, width, share, title."""


def write_page(watch: Watched, state: WatchState, path: Path) -> Path:
    """Write the page as one file that opens offline; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page_of(watch, state))
    return path


def page_of(watch: Watched, state: WatchState) -> str:
    """The page of what is known now."""
    watch, metric = watch.asking_once(), watch.pipeline.evaluate.metric
    known = {model: state.windows(model, last=WINDOWS) for model in watch.models}
    before = {
        model: {version: watch.terms(model, version).reference.get(f"quality.{metric}") for version in {each.version for each in windows}}
        for model, windows in known.items()
    }
    return page(
        f"Watch of {watch.pipeline.name}",
        metric,
        known,
        before,
        state.alerts(last=MOST),
        state.retrainings(last=MOST),
        state.label_counts(),
        datetime.now(UTC),
    )


def page(
    title: str,
    metric: str,
    windows: Mapping[str, Sequence[Window]],
    before: Mapping[str, Mapping[str, float | None]],
    alerts: Sequence[AlertRow],
    trainings: Sequence[Retraining],
    labels: Mapping[str, int],
    now: datetime,
) -> str:
    """The page: every model that is watched, one below the other; ``before`` is what held-out rows said of each of its versions."""
    return pages.page(
        "monitoring.html",
        title=title,
        metric=metric,
        models=[_model(name, each, metric, before[name], [t.made for t in trainings if t.model == name]) for name, each in windows.items()],
        alerts=[{**vars(row), "said": json.loads(row.message)} for row in reversed(alerts)],
        trainings=list(reversed(trainings)),
        labels=labels,
        made=_moment(now.timestamp()),
        moment=_moment,
        strong=STRONG,
        size=(WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM),
    )


def _model(
    name: str, windows: Sequence[Window], metric: str, before: Mapping[str, float | None], trained: Sequence[float]
) -> dict[str, Any]:
    if not windows:
        return {"name": name, "windows": ()}
    last = windows[-1]
    detail = last.detail
    judged = next((each for each in reversed(windows) if each.figures.get(f"quality.{metric}") is not None), None)
    return {
        "name": name,
        "windows": windows,
        "last": last,
        "judged": judged,
        "before": None if judged is None else before.get(judged.version),
        "unasked": "not asked" if judged is None else next((note for note in judged.detail.notes if PROBE in note), "not asked"),
        "unmeasured": next((note for note in detail.notes if UNMEASURED in note), "no window has labels enough"),
        "notes": list(dict.fromkeys(text for text in (detail.why, *detail.notes) if text)),
        "picture": picture(windows, metric, before, trained),
        "drift": heat(windows),
        "skew": skew_by_column(windows),
        "texts": [column for column in detail.columns if column.texts is not None],
        "span": f"{_moment(windows[0].since)} to {_moment(last.until)}",
    }


def picture(windows: Sequence[Window], metric: str, before: Mapping[str, float | None], trained: Sequence[float] = ()) -> Picture | None:
    """Quality and its estimate of windows in order of time, and what held-out rows said of each version; None where no window has any."""
    quality, estimate = f"quality.{metric}", f"estimated.{metric}"
    values = [
        value
        for window in windows
        for name in (quality, f"{quality}.low", f"{quality}.high", estimate)
        if (value := window.figures.get(name)) is not None and math.isfinite(value)
    ]
    if not values:
        return None
    references = {version: value for version, value in before.items() if value is not None and math.isfinite(value)}
    values += [references[version] for version in {each.version for each in windows} & references.keys()]
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    low, high = low - room, high + room
    first, end = windows[0].since, max(windows[-1].until, windows[0].since + 1)

    def x(moment: float) -> float:
        return round(LEFT + (moment - first) / (end - first) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    def middle(window: Window) -> float:
        return x((window.since + window.until) / 2)

    def known(name: str) -> list[tuple[Window, float]]:
        return [(each, value) for each in windows if (value := each.figures.get(name)) is not None and math.isfinite(value)]

    seen = known(quality)
    bounds = [(each, each.figures.get(f"{quality}.low"), each.figures.get(f"{quality}.high")) for each, _ in seen]
    band = ""
    for _, same in groupby(bounds, key=lambda each: each[0].version):
        both = [(middle(each), y(bottom), y(top)) for each, bottom, top in same if bottom is not None and top is not None]
        edge = [*(f"{at} {top}" for at, _, top in both), *(f"{at} {bottom}" for at, bottom, _ in reversed(both))]
        band += f"M{' L'.join(edge)} Z " if len(both) > 1 else ""
    held_out = ""
    for version, run in groupby(windows, key=lambda each: each.version):
        if version in references:
            spans = [(each.since, each.until) for each in run]
            held_out += f"M{x(spans[0][0])} {y(references[version])} H{x(spans[-1][1])} "
    changes = [each for former, each in pairwise(windows) if former.version != each.version]
    steps = max(1, len(windows) // 6)
    return Picture(
        measured=_path([(each.version, middle(each), y(value)) for each, value in seen]),
        band=band,
        estimated=_path([(each.version, middle(each), y(value)) for each, value in known(estimate)]),
        dots=tuple(Dot(middle(each), y(value), _title(each, metric)) for each, value in seen),
        held_out=held_out,
        heights=tuple((y(value), pages.figure(value, 3)) for value in pages.round_values(low, high)),
        days=_days([(middle(each), each.since) for each in windows[::steps]]),
        versions=_apart((x(each.since), f"v{each.version}") for each in changes),
        trainings=_apart((x(moment), "trained") for moment in sorted(trained) if first <= moment <= end),
        shares=tuple(
            (x(each.since), max(1.0, x(each.until) - x(each.since) - 1), share, f"{share:.0%} of the rows have labels")
            for each in windows
            if (share := each.figures.get("labels.share")) is not None
        ),
    )


def _days(windows: Sequence[tuple[float, float]]) -> tuple[Mark, ...]:
    """The day on which each window began, where it does not touch the day before, none beyond the picture; ``windows`` are x and moment."""
    made: list[Mark] = []
    for at, since in windows:
        if not made or at - made[-1].x >= DAY_WIDTH:
            made.append(Mark(min(at, WIDTH - DAY_WIDTH / 2), f"{datetime.fromtimestamp(since, UTC):%Y-%m-%d}"))
    return tuple(made)


def _apart(marks: Iterable[tuple[float, str]]) -> tuple[Mark, ...]:
    """Marks from left to right, of whose words none touches the one before."""
    made: list[Mark] = []
    free = 0.0
    for at, word in marks:
        wide = len(word) * LETTER + GAP
        is_left = at + wide > WIDTH
        begins, ends = (at - wide, at) if is_left else (at, at + wide)
        made.append(Mark(at, word, shown=begins >= free, is_left=is_left))
        free = ends if begins >= free else free
    return tuple(made)


def heat(windows: Sequence[Window]) -> dict[str, Any] | None:
    """Effect of drift by column and window, the columns that drift most first; None where nothing was compared."""
    details = [window.detail for window in windows]
    effects: dict[str, list[ColumnDrift | None]] = {}
    for place, detail in enumerate(details):
        for column in detail.columns:
            row = effects.setdefault(column.name, [None] * len(windows))
            row[place] = column
    if not effects:
        return None
    ranked = sorted(effects, key=lambda name: -max(cell.effect or 0.0 for cell in effects[name] if cell is not None))
    rows = [
        {
            "name": name,
            "cells": [
                None
                if cell is None
                else {
                    "effect": cell.effect,
                    "drifted": cell.drifted,
                    "why": ", ".join(cell.reasons).replace("_", " "),
                    "depth": round(min(1.0, (cell.effect or 0.0) / STRONG), 2),
                }
                for cell in effects[name]
            ],
        }
        for name in ranked[:COLUMNS]
    ]
    return {"rows": rows, "heads": [_span(window) for window in windows], "rest": max(0, len(ranked) - COLUMNS)}


def skew_by_column(windows: Sequence[Window]) -> dict[str, Any] | None:
    """The newest windows whose rows the pipeline's table has, each column's share of them that differs; None where none came raw."""
    looked_up = [window for window in windows if window.detail.skew is not None][-SKEWED:]
    if not looked_up:
        return None
    shares = [{name: count / found.rows for name, count in found.differing.items() if found.rows} for found in map(_skew, looked_up)]
    names = sorted({name for share in shares for name in share}, key=lambda name: (-max(share.get(name, 0.0) for share in shares), name))
    return {
        "heads": [_span(window) for window in looked_up],
        "rows": [_skew(window).rows for window in looked_up],
        "absent": [_skew(window).absent for window in looked_up],
        "columns": [{"name": name, "shares": [share.get(name) for share in shares]} for name in names[:COLUMNS]],
        "said": said_of(_skew(looked_up[-1])),
    }


def _skew(window: Window) -> Skewed:
    return window.detail.skew or Skewed()


def _path(points: Sequence[tuple[str, float, float]]) -> str:
    """A line through points, which begins anew with each version."""
    return " ".join(f"{'L' if k and points[k - 1][0] == version else 'M'}{x} {y}" for k, (version, x, y) in enumerate(points))


def _title(window: Window, metric: str) -> str:
    figures = window.figures
    low, high = figures.get(f"quality.{metric}.low"), figures.get(f"quality.{metric}.high")
    interval = "" if low is None or high is None else f" ({pages.figure(low)} to {pages.figure(high)})"
    return f"{_span(window)}, version {window.version}: {metric} {pages.figure(figures[f'quality.{metric}'])}{interval}"


def _span(window: Window) -> str:
    return f"{_moment(window.since)} to {_moment(window.until)}"


def _moment(moment: float) -> str:
    found = datetime.fromtimestamp(moment, UTC)
    return f"{found:%Y-%m-%d}" if (found.hour, found.minute) == (0, 0) else f"{found:%Y-%m-%d %H:%M}"
