"""What becomes of each column: a feature, the target, or left out and why. ``mlops init`` prints it, ``mlops run`` keeps it as data.

``data/validation/NAME.columns.json`` holds ``{"columns": [{"name", "kind", "use", "why", "note", "alone", "others"}, …]}``, in the
table's order: ``use`` is feature, target, time, key or left out; ``why`` says why it is left out, ``note`` what else there is to
know; ``alone`` and ``others`` are ROC AUCs (null where not looked at): of the column alone, of all others together.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_pipeline.config.pipeline import Settings, feature_columns, without_features
from mlops_pipeline.config.tree import in_yaml
from mlops_pipeline.files import read_json, write_json
from mlops_pipeline.tables.leakage import Strong, Words, phrase_in

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

FEATURE, TARGET, TIME, KEY, LEFT_OUT = "feature", "target", "time", "key", "left out"
SUSPECTED = "suspected leak"
"""How the reason of a column begins that predicts the target too well alone."""


MANY_COLUMNS = 80
"""With more columns than these, a row each is more than a person reads."""


@dataclass(frozen=True)
class ColumnUse:
    """One column: its kind, what it is used as, why it is left out, and what else there is to know."""

    name: str
    kind: str
    use: str
    why: str = ""
    note: str = ""
    alone: float | None = None
    others: float | None = None

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
    return ColumnUse(name, kind, LEFT_OUT, why or "no feature", note)


def judged(use: ColumnUse, strong: Strong | None, *, trusted: bool = False) -> ColumnUse:
    """The column's use, once it is known how well it predicts the target alone."""
    if strong is None or use.use != FEATURE:
        return use
    figures = f"alone it tells the target with AUC {strong.alone:.3f}, all others together with {strong.others:.3f}"
    use = replace(use, alone=round(strong.alone, 4), others=round(strong.others, 4))
    if trusted or not strong.suspected:
        what = "many words in one place of it" if use.kind == "text" else "its many levels"
        finer = f", for {what} name the classes more finely: if known only afterwards, put it under dataset.known_after_outcome"
        text = f"{figures}: kept{finer if strong.finer and not trusted else ''}"
        return replace(use, note="; ".join(each for each in (use.note, text) if each))
    remedy = f"put it under dataset.known_after_outcome, or write validate: {{trusted: {in_yaml(use.name)}}}"
    return replace(use, use=LEFT_OUT, why=f"{SUSPECTED}: {figures}: {remedy}")


def told_by(texts: pl.Series, target: pl.Series, settings: Settings, name: str, words: Words) -> str:
    """What of a column of texts alone tells the target, with the figure that accuses it; of a private one without a word of it."""
    data = settings.dataset
    found = phrase_in(texts, target, data, settings.validate_.max_single_feature_auc, words)
    if found is None:
        return ""
    what = "some words in it" if data.columns[name].private or data.columns[data.target].private else found[0]
    return f"by {what} alone the target is told with AUC {found[1]:.3f} on rows not looked at for it: is the outcome written there?"


def noted(use: ColumnUse, note: str) -> ColumnUse:
    """The use with one more thing to know."""
    return replace(use, note="; ".join(filter(None, (use.note, note))))


def never_all_left_out(uses: list[ColumnUse]) -> list[ColumnUse]:
    """The uses themselves; where every feature is suspected, all of them are kept, and said: nothing else is left to learn from."""
    if any(use.use == FEATURE for use in uses):
        return uses
    return [
        replace(use, use=FEATURE, why="", note=f"{use.why}; kept, for no other feature is left") if use.why.startswith(SUSPECTED) else use
        for use in uses
    ]


def write_columns(path: Path, uses: list[ColumnUse]) -> None:
    write_json(path, {"columns": [asdict(use) for use in uses]})


def read_columns(path: Path) -> list[ColumnUse]:
    return [ColumnUse(**use) for use in read_json(path)["columns"]]


def as_validated(settings: Settings, path: Path) -> Settings:
    """The settings without the features that validation left out."""
    return without_features(settings, [use.name for use in read_columns(path) if not use.used and use.name in feature_columns(settings)])


def as_table(uses: list[ColumnUse]) -> Table:
    """The columns for a terminal, a row each; of many those with something to say first, and the features without a word by their kind."""
    from rich.table import Table

    table = Table(title="Columns", title_justify="left")
    for heading in ("column", "kind", "used as", "why"):
        table.add_column(heading, overflow="fold")
    are_many = len(uses) > MANY_COLUMNS
    gathered: dict[str, list[str]] = {}
    for use in uses:
        if are_many and use.use == FEATURE and not use.why and not use.note:
            gathered.setdefault(use.kind, []).append(use.name or "(no name)")
        else:
            table.add_row(use.name or "(no name)", use.kind, use.use, "; ".join(text for text in (use.why, use.note) if text))
    for kind, names in gathered.items():
        table.add_row(f"{len(names):,} columns" if len(names) > 1 else "1 column", kind, FEATURE, ", ".join(names))
    return table
