"""The record as a table that the pipeline trains on: rows as they came, by the source's names, and what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from mlops_pipeline.config.dataset import words_of
from mlops_pipeline.config.serving import RecordStore
from mlops_pipeline.config.tree import read_yaml
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.rows import Origins
from mlops_pipeline.files import read_json, replacing
from mlops_pipeline.monitoring.labels import Known
from mlops_pipeline.monitoring.recorded import within
from mlops_pipeline.monitoring.watched import Watched
from mlops_pipeline.records.query import Bounds
from mlops_pipeline.records.reading import are_answers, sources
from mlops_pipeline.spreadsheet import TableFile, check_format

if TYPE_CHECKING:
    import polars as pl

ARRIVED = "time"
NUMBERS = ("number", "integer")
OF_TEXTS = ("decimal", "thousands", "null_values", "trim")
"""What of a source says how requests' texts are read, whatever types a table of the record has."""
HEAD = "# To train on rows of the record, with what came of them. Counts, history and aggregates are made of these rows alone.\n"


@dataclass(frozen=True)
class Exported:
    """What a table of the record holds."""

    rows: int
    labelled: int
    notes: tuple[str, ...]


def export_as_training(watch: Watched, store: RecordStore, target: Path, *, raw: bool = False, **bounds: Unpack[Bounds]) -> Exported:
    """Write the answered rows as a table with the pipeline's target, null where no label has come; it appears whole or not at all.

    Of raw rows these are the source's columns, of others the features. Private columns are in no record, so not in it. Beside it come the
    pipeline's settings as they have to be to train on it. A CSV file has no cell that a spreadsheet would run, unless ``raw`` is. Raises
    :class:`PipelineError`.
    """
    import polars as pl

    check_format(target)
    data = watch.pipeline.dataset
    with closing(watch.state()) as state:
        known = Known.of(state.labels_after(0, 0.0), within(watch))
    words = read_json(watch.layout.target_words) if watch.layout.target_words.is_file() else []
    rows = labelled = finished = 0
    arrived, there = "", list[str]()
    with replacing(target) as temporary, TableFile(temporary, target.suffix, raw=raw) as file:
        for frame, own in sources(store, **bounds):
            came = frame.select(are_answers()).to_series()
            known_as_came = own.select(pl.any_horizontal(pl.all().is_not_null())).to_series() if own.width else came & False
            finished += int((came & ~known_as_came).sum())
            kept, table = frame.filter(came & known_as_came), own.filter(came & known_as_came)
            table = table.with_columns(_labels(known, kept, watch, words).alias(data.target))
            if data.time_column is not None and data.time_column not in table.columns and data.time_column not in data.derive:
                arrived = data.time_column
                table = table.with_columns(kept[ARRIVED].dt.replace_time_zone(None).alias(arrived))
            rows, labelled, there = rows + table.height, labelled + table[data.target].count(), table.columns
            file.write(table)
        if not rows:
            raise PipelineError(f"{target}: the record holds no answered row of these: nothing was written")
    made = {*data.derive, *data.counts, *data.history, *data.aggregates, *chain.from_iterable(_lookups(watch))}
    lost = [name for name in data.columns if name not in {*there, *made}]
    notes = [_write_settings(watch, target, there)]
    notes += [f"on no record, so not in it: {', '.join(lost)}"] if lost else []
    notes += [f"column '{arrived}' holds when each row was asked: no row brought it"] if arrived else []
    notes += [f"{finished:,} rows left out: they came as finished features"] if finished else []
    plain = [name for name, column in data.columns.items() if name in there and column.kind in NUMBERS and column.format is not None]
    if plain and _is_text(target.name):
        notes.append(f"numbers of {', '.join(plain)} are written plainly, without their format: .parquet keeps how texts of them are read")
    return Exported(rows, labelled, (*notes, *file.notes))


def _write_settings(watch: Watched, table: Path, there: list[str]) -> str:
    """Write the settings beside a table, unless a file of somebody else's has that name; what is said of it."""
    import yaml

    settings = table.with_name(f"{table.stem}.settings.yaml")
    if settings.exists() and not settings.read_text(encoding="utf-8", errors="replace").startswith(HEAD):
        return f"{settings}: is not ours, left as it is: take it away to have settings there that train on the table"
    content = read_yaml(watch.config, "start from `mlops init`")
    made = settings_for(content, watch.layout.relative(table.resolve()), there, _lookups(watch))
    with replacing(settings) as temporary:
        temporary.write_text(HEAD + yaml.safe_dump(made, sort_keys=False, allow_unicode=True), encoding="utf-8")
    names = ", ".join(f"'{name}'" for name in watch.pipeline.split.together)
    parted = "" if made.get("split") == content.get("split") else f"; without split.together, for it is not on record of all rows: {names}"
    return f"settings to train on it: {settings}{parted}"


def _lookups(watch: Watched) -> Sequence[Sequence[str]]:
    """The columns that each lookup gives, as the last run found them."""
    return Origins.at(watch.layout.origins).lookups if watch.layout.origins.is_file() else ()


def settings_for(content: dict[str, Any], table: str, there: Sequence[str], looked_up: Sequence[Sequence[str]] = ()) -> dict[str, Any]:
    """A pipeline's settings for a table with fewer columns than its source: what cannot be made of these is left out.

    ``looked_up`` are the columns that each lookup gives. The target is in the table already.
    """
    data = dict(content["dataset"])
    known = set(there)
    lookups = list(zip(data.get("lookups", ()), looked_up, strict=False))
    data["lookups"] = [lookup for lookup, _ in lookups if known >= set(lookup["keys"])]
    known.update(name for lookup, names in lookups if known >= set(lookup["keys"]) for name in names)
    derive: dict[str, str] = {}
    for name, sql in data.get("derive", {}).items():
        if name not in there and words_of(str(sql)) & data["columns"].keys() <= known:
            derive[name] = sql
            known.add(name)
    data["derive"] = derive
    timed = data.get("time_column") in known
    for kind in ("counts", "history", "aggregates"):
        made: dict[str, Any] = {}
        for name, how in data.get(kind, {}).items():
            needed = set(how if kind == "counts" else how.get("by", ())) | (
                {how["of"]} if isinstance(how, dict) and how.get("of") else set()
            )
            if needed <= known and (timed or kind == "counts"):
                made[name] = how
        data[kind] = made
        known.update(made)
    data["source"] = {"path": table} | {key: value for key, value in data["source"].items() if key in OF_TEXTS and not _is_text(table)}
    if _is_text(table) and "null_values" in content["dataset"]["source"]:  # in whose cells nothing is what a null is written as
        data["source"]["null_values"] = ["", *filter(None, content["dataset"]["source"]["null_values"])]
    data["columns"] = {name: _as_kept(column, table) for name, column in data["columns"].items() if name in known}
    data["known_after_outcome"] = [name for name in data.get("known_after_outcome", ()) if name in known]
    features = dict(content.get("features") or {})
    if "exclude" in features:
        features["exclude"] = [name for name in features["exclude"] if name in known]
    split = content.get("split") or {}
    if not known >= set(split.get("together") or ()):
        # Of what is left, such as a ward without its patients, rows are not alike.
        split = {key: value for key, value in split.items() if key != "together"}
    kept = {"split": split} if "split" in content else {}
    empty = {key for key in ("lookups", "derive", "counts", "history", "aggregates", "known_after_outcome") if not data[key]}
    data = {key: value for key, value in data.items() if key not in empty}
    name = f"{content['name']}_recorded"
    return {**content, "name": name, "dataset": data, "features": features, **kept, "paths": {"root": f"pipelines/{name}"}}


def _as_kept(column: dict[str, Any], table: str) -> dict[str, Any]:
    """A column as a table of the record holds it: of numbers that a text file holds as everybody writes them, without another writing."""
    is_plain = _is_text(table) and column.get("kind") in NUMBERS
    return {key: value for key, value in column.items() if not (is_plain and key == "format")}


def _is_text(table: str) -> bool:
    return table.endswith(".csv")


def _labels(known: Known, rows: pl.DataFrame, watch: Watched, words: Sequence[str | bool]) -> pl.Series:
    """What came of each row, typed as the target is, or in the owner's words for false and true; null where that is not known."""
    import polars as pl

    data = watch.pipeline.dataset
    types = {"boolean": pl.Int8, "integer": pl.Int64, "number": pl.Float64}
    kind = types.get(data.columns[data.target].kind, pl.String)
    values = pl.Series([None if label is None else label.value for label in known.of_rows(rows)], strict=False, dtype=kind)
    return values.replace_strict([0, 1], list(words)) if words else values
