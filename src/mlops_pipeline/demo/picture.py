"""The picture of a year: how well each way of retraining did, month by month."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.demo.story import LOOP, MONTHLY, NEVER, Told
from mlops_pipeline.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {NEVER: "#8a8f98", LOOP: "#2563a8", MONTHLY: "#d9772b"}
INK = "#1c2430"


def draw(stories: Sequence[Told], path: Path) -> None:
    """Write the picture, legible at 800 pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3 * len(stories)), dpi=200, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    for axes, told in zip(figure.subplots(len(stories), 1, squeeze=False, sharey=True)[:, 0], stories, strict=True):
        _draw(axes, told)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw(axes: Axes, told: Told) -> None:
    months, figures = told.earned.months, told.earned
    places = range(len(months))
    counts = {NEVER: 0, LOOP: len(told.trainings), MONTHLY: told.monthly_trainings}
    for arm, widths in ((MONTHLY, 1.6), (NEVER, 1.6), (LOOP, 2.4)):
        found = figures.by_month[arm]
        again = "" if arm == NEVER else f", {counts[arm]} retraining{'' if counts[arm] == 1 else 's'}"
        label = f"{arm}: {figures.mean[arm].value:.3f}{again}"
        axes.plot(places, [one.value for one in found], color=COLOURS[arm], linewidth=widths, marker="o", markersize=3.5, label=label)
    loop = figures.by_month[LOOP]
    band = axes.fill_between(places, [one.low for one in loop], [one.high for one in loop], color=COLOURS[LOOP], alpha=0.12, linewidth=0)
    band.set_label("the loop's 95 %, over days")
    for place in told.trainings:
        axes.axvline(place + 0.5, color=COLOURS[LOOP], linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            "retrained", (place + 0.5, 0.02), xycoords=("data", "axes fraction"), rotation=90, fontsize=8, color=COLOURS[LOOP],
            ha="right", va="bottom",
        )  # fmt: skip
    axes.set_title(f"The {told.story.name} champion, {told.story.title}", loc="left", fontsize=10.5, color=INK, weight="bold")
    axes.set_xticks(list(places), [month[:3] for month in months])
    axes.set_ylabel("ROC AUC", fontsize=9, color=INK)
    axes.tick_params(labelsize=9, colors=INK)
    axes.grid(axis="y", color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    order = [1, 2, 0, 3]
    axes.legend(
        [handles[k] for k in order], [labels[k] for k in order], loc="upper left", bbox_to_anchor=(1, 1), fontsize=9, frameon=False,
        title="mean ROC AUC", title_fontsize=9, alignment="left",
    )  # fmt: skip
