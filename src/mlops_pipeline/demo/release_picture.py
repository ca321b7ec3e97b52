"""The picture of releases: how much each challenger answered, and what was known of its quality at each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, RED, GREEN, GREY, INK, LINE = "#2563a8", "#b42318", "#18794e", "#8a8f98", "#1c2430", "#e6e8eb"


def draw(releases: Sequence[tuple[str, Mapping[str, Any]]], path: Path) -> None:
    """Write the picture, legible at 800 pixels: a row for each release."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.7 * len(releases)), dpi=200, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    for (title, known), axes in zip(releases, figure.subplots(len(releases), 2, squeeze=False), strict=True):
        _shares(axes[0], title, known)
        _quality(axes[1], known)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _shares(axes: Axes, title: str, known: Mapping[str, Any]) -> None:
    transitions = known["transitions"]
    first = transitions[0]["made"]
    times = [each["made"] - first for each in transitions]
    until = times[-1] + max(times[-1] * 0.12, 1.0)
    weights = [each["weight"] for each in transitions]
    axes.step([*times, until], [*weights, weights[-1]], where="post", color=BLUE, linewidth=2.2, label="answered by it")
    for each, begin, end in zip(transitions, times, [*times[1:], until], strict=True):
        if each["shadow"]:
            axes.axvspan(begin, end, color="#d9772b", alpha=0.15, linewidth=0, label="asked in the shadow")
    colour = {"promoted": GREEN, "aborted": RED}.get(known["state"], GREY)
    word = {"promoted": "champion", "aborted": "thrown out"}.get(known["state"], known["state"])
    axes.axvline(times[-1], color=colour, linewidth=1.4, linestyle=(0, (4, 3)))
    axes.annotate(
        word, (times[-1], 0.5), xycoords=("data", "axes fraction"), rotation=90, fontsize=9, color=colour, ha="right", va="center"
    )
    axes.set_title(title, loc="left", fontsize=10, color=INK, weight="bold")
    axes.set_ylim(-0.03, 1.05)
    axes.set_xlabel("seconds", fontsize=9, color=INK)
    axes.set_ylabel("share of traffic", fontsize=9, color=INK)
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    _plain(axes)


def _quality(axes: Axes, known: Mapping[str, Any]) -> None:
    """Each transition's interval of the difference of the losses: of its sources the one that broke the guardrail, or the narrowest."""
    places: list[int] = []
    words: list[str] = []
    for each in known["transitions"]:
        found = [
            one
            for one in each["evidence"].get("findings", ())
            if one["guardrail"] == "quality" and not one["slice"] and one["low"] is not None
        ]
        if not found:
            continue
        best = min(found, key=lambda one: (one["low"] <= one["limit"], one["high"] - one["low"]))
        place = len(places)
        colour = RED if best["low"] > best["limit"] else GREEN if best["high"] <= best["limit"] else GREY
        axes.plot([place, place], [best["low"], best["high"]], color=colour, linewidth=2.4, solid_capstyle="butt")
        axes.plot([place], [best["estimate"]], marker="o", markersize=5, color=colour)
        axes.plot([place - 0.35, place + 0.35], [best["limit"]] * 2, color=RED, linewidth=1, linestyle=(0, (3, 2)))
        places.append(place)
        words.append(f"{each['step']}\n{best['requests'][1]:,}")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xticks(places, words)
    axes.set_xlim(-0.6, max(len(places) - 0.4, 0.6))
    axes.set_title("loss more than the champion's, as each step began", loc="left", fontsize=9, color=INK)
    axes.set_xlabel("requests with labels; dashed: the limit", fontsize=9, color=INK)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
