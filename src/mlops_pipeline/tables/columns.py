"""What becomes of each column: a feature, the target, or left out and why. ``mlops init`` and ``mlops run`` print it, pages show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_pipeline.config.pipeline import Settings, feature_columns

if TYPE_CHECKING:
    from rich.table import Table

FEATURE, TARGET, TIME, KEY, LEFT_OUT = "feature", "target", "time", "key", "left out"


@dataclass(frozen=True)
class ColumnUse:
    """One column: its kind, what it is used as, why it is left out, and what else there is to know."""

    name: str
    kind: str
    use: str
    why: str = ""
    note: str = ""

    @property
    def used(self) -> bool:
        return self.use != LEFT_OUT


def described_use(name: str, settings: Settings, kind: str = "", why: str = "", note: str = "") -> ColumnUse:
    """What a column is used as by the settings; ``why`` it is left out where they do not say more."""
    data = settings.dataset
    if name not in data.columns:
        return ColumnUse(name, kind, LEFT_OUT, why or "not described in dataset.columns", note)
    kind = data.columns[name].kind
    uses = {TARGET: (data.target,), FEATURE: feature_columns(settings), TIME: (data.time_column,), KEY: data.entity_key}
    use = next((use for use, names in uses.items() if name in names), LEFT_OUT)
    if use != LEFT_OUT:
        return ColumnUse(name, kind, use, {TIME: "it orders the rows", KEY: "it names the rows"}.get(use, ""), note)
    if name in data.known_after_outcome:
        why = "known only after the outcome"
    elif not why and name in settings.features.exclude:
        why = "named in features.exclude"
    elif not why and settings.features.include is not None:
        why = "not named in features.include"
    return ColumnUse(name, kind, LEFT_OUT, why or f"{_AN.get(kind, kind)} is no feature by itself: derive a number from it", note)


_AN = {"datetime": "a moment", "text": "free text"}


def as_table(uses: list[ColumnUse]) -> Table:
    """The columns for a terminal: those with something to say first in full, features without a word in one line."""
    from rich.table import Table

    table = Table(title="Columns", title_justify="left")
    for heading in ("column", "kind", "used as", "why"):
        table.add_column(heading, overflow="fold")
    for use in uses:
        table.add_row(use.name or "(no name)", use.kind, use.use, "; ".join(text for text in (use.why, use.note) if text))
    return table
