"""Texts beside a model's own: words that are new, embeddings that moved, scripts and lengths. Nothing that a text says is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from mlops_pipeline.contract.reference import TextSummary
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.inference.texts import FrozenEncoder
from mlops_pipeline.modelling.summary import NO_ENCODERS
from mlops_pipeline.modelling.text_summary import comparable, embedded, embeddings_in, forms_in, spaced, text_summary, unseen_in
from mlops_pipeline.monitoring.measured import Limits, TextDrift
from mlops_pipeline.monitoring.pairs import Pair
from mlops_pipeline.monitoring.statistics import Counts, chi_squared, jensen_shannon, means_apart, pooled, shares_p

if TYPE_CHECKING:
    from collections.abc import Iterable

WINDOW_TEXTS = 2_000
"""Texts of a window whose words are counted, of more an even sample."""

LEAST = 30
"""Of fewer texts, on either side, nothing is said of words and embeddings."""


@dataclass(frozen=True)
class Reading:
    """How columns of texts are read where both sides are at hand."""

    limits: Limits = field(default_factory=Limits)
    encoders: Mapping[str, FrozenEncoder] = field(default_factory=dict)
    columns: frozenset[str] = frozenset()
    """Columns that are known to hold texts."""

    def of(self, pair: Pair) -> TextDrift | None:
        """The current texts beside the reference's; None where the reference has none."""
        encoder = self.encoders.get(pair.name)
        try:
            summary = text_summary(pair.reference, encoder)
        except (PipelineError, OSError, ValueError) as error:
            if encoder is None:
                raise
            found = replace(self, encoders=NO_ENCODERS).of(pair)
            why = f"the model's encoder cannot be asked ({one_line(error)}): words are compared"
            return None if found is None else msgspec.structs.replace(found, note=found.note or why)
        if summary is None:
            return None
        texts = spaced(pair.current, WINDOW_TEXTS).to_list()
        return beside(summary, texts, self.encoders, pair.name, embed=self.limits.texts, seed=self.limits.seed)


def beside(
    summary: TextSummary,
    texts: Sequence[str],
    encoders: Mapping[str, FrozenEncoder],
    name: str,
    *,
    embed: int,
    seed: int,
) -> TextDrift:
    """Some texts beside a column's summary; at most ``embed`` of them are embedded."""
    forms = summary.forms, forms_in(texts)
    scripts, lengths = _parted(forms, 0), _parted(forms, 1)
    before = embeddings_in(summary)
    if min(len(texts), len(before)) < LEAST:
        few = f"too few texts: {len(before):,} of the model's own and {len(texts):,} here, {LEAST} are the least"
        return TextDrift(texts=len(texts), scripts=scripts, lengths=lengths, note=few)
    unseen, counts = unseen_in(summary, texts), _side_by_side(*forms)
    forms_p = chi_squared(*counts)[1]
    distance, p, note = None, None, ""
    try:
        encoder = comparable(summary, encoders, name)
        some = np.unique(np.linspace(0, len(texts) - 1, min(embed, len(texts))).astype(np.int64))
        distance, p = means_apart(before, embedded([texts[place] for place in some], encoder), seed)
    except (PipelineError, OSError, ValueError) as error:
        note = f"embeddings are not compared: {one_line(error)}"
    return TextDrift(
        texts=len(texts),
        unseen=unseen.share,
        unseen_before=summary.unseen,
        unseen_p=shares_p(summary.unseen, summary.unseen_error, unseen.share, unseen.error),
        distance=distance,
        distance_p=p,
        by=summary.by,
        scripts=scripts,
        lengths=lengths,
        forms=jensen_shannon(*pooled(*counts)),
        forms_p=1.0 if math.isnan(forms_p) else forms_p,
        note=note,
    )


def _side_by_side(before: Mapping[str, int], now: Mapping[str, int]) -> tuple[Counts, Counts]:
    names = sorted({*before, *now})
    first, second = (np.array([side.get(name, 0) for name in names], dtype=np.int64) for side in (before, now))
    return first, second


def _parted(forms: tuple[Mapping[str, int], Mapping[str, int]], place: int) -> dict[str, tuple[float, float]]:
    """Shares by one part of the forms' names: the script, or the length; those that most texts have first."""
    sides = [_shares((form.split(", ")[place], count) for form, count in side.items()) for side in forms]
    names = sorted({*sides[0], *sides[1]}, key=lambda name: (-sides[0].get(name, 0.0) - sides[1].get(name, 0.0), name))
    return {name: (round(sides[0].get(name, 0.0), 4), round(sides[1].get(name, 0.0), 4)) for name in names}


def _shares(counts: Iterable[tuple[str, int]]) -> dict[str, float]:
    found: dict[str, int] = {}
    for name, count in counts:
        found[name] = found.get(name, 0) + count
    total = sum(found.values()) or 1
    return {name: count / total for name, count in found.items()}
