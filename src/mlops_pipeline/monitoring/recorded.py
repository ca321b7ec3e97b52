"""The predicted rows of a window, as the record has them, measured beside their version's reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from mlops_pipeline.config.moments import seconds_of
from mlops_pipeline.contract.reference import Reference
from mlops_pipeline.contract.task import PROBABILITY
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.monitoring.labels import ID, Known
from mlops_pipeline.monitoring.measured import Batch, Incomparable, Limits, Measured
from mlops_pipeline.monitoring.skew import skewed, with_skew
from mlops_pipeline.monitoring.state import Label
from mlops_pipeline.monitoring.watched import Watched
from mlops_pipeline.records.reading import are_answers, batches, column_in, features_in
from mlops_pipeline.registry.reader import RegistryUnreachable

if TYPE_CHECKING:
    import polars as pl

DAY_S = 86_400
SHOWN_CLASSES = 8
"""In a message."""


@dataclass(frozen=True)
class RecordedRows:
    """The predicted rows of a model and a version that arrived in a span."""

    watch: Watched
    model: str
    version: str
    since: float
    until: float

    def frames(self) -> Iterator[pl.DataFrame]:
        """Them, a bounded number at a time, each time anew."""
        since, until = (datetime.fromtimestamp(moment, UTC) for moment in (self.since, self.until))
        for frame in batches(self.watch.store, since=since, until=until, model=self.model, version=self.version):
            yield frame.filter(are_answers())


@dataclass
class _Counted:
    rows: int = 0
    labels: int = 0
    late: int = 0
    by_id: int = 0
    ids: set[int] = field(default_factory=set)
    """The numbers of the labels that rows have by their id."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of it."""
        shared = self.by_id - len(self.ids)
        said = f"{shared:,} rows have the id of another row of the window, and with it its label: label such rows by request_id and row"
        return (said,) if shared else ()


def within(watch: Watched) -> timedelta:
    """How long before its label a prediction of an entity may lie."""
    return timedelta(seconds=seconds_of(watch.settings.labels.entity_within))


def measured(rows: RecordedRows, labels: Sequence[Label], requests: int, refused: int) -> Measured:
    """A window's figures: those of its rows beside the version's reference, and what the job knows besides.

    ``labels`` are those of its rows; of its ``requests`` so many were ``refused``. Raises :class:`RegistryUnreachable` where it cannot
    be told what to compare with: that comes back.
    """
    watch, known, counted = rows.watch, Known.of(labels, within(rows.watch)), _Counted()
    try:
        reference = watch.reference(rows.model, rows.version)
    except RegistryUnreachable:
        raise
    except PipelineError as error:
        made = _counted_alone(rows, known, counted, str(error))
    else:
        try:
            made = _beside(reference, rows, known, counted, refused)
        except Incomparable as error:
            counted = _Counted()
            made = _counted_alone(rows, known, counted, str(error))
    try:
        registered = watch.registered(rows.version)
    except RegistryUnreachable:  # a model whose folder is named can do without
        registered = None
    more: dict[str, float | None] = {
        "rows": float(counted.rows),
        "requests": float(requests),
        "refused.share": refused / requests if requests else None,
        "labels": float(counted.labels),
        "labels.share": counted.labels / counted.rows if counted.rows else None,
        "labels.late": float(counted.late),
        "model.age_days": None if registered is None else max(0.0, rows.until - registered.created) / DAY_S,
    }
    made = msgspec.structs.replace(made, figures={**made.figures, **more}, notes=(*made.notes, *counted.notes))
    return with_skew(made, skewed(watch, rows.model, rows.version, rows.since, rows.until))


def _counted_alone(rows: RecordedRows, known: Known, counted: _Counted, why: str) -> Measured:
    """Rows that there is nothing to compare with."""
    for frame in rows.frames():
        _labelled(frame, known, rows.watch, counted)
    return Measured(rows=counted.rows, labels=counted.labels, enough=False, why=why)


def _beside(reference: Reference, rows: RecordedRows, known: Known, counted: _Counted, refused: int) -> Measured:
    from mlops_pipeline.monitoring.measuring import measure

    watch, settings, texts = rows.watch, rows.watch.settings.windows, rows.watch.settings.texts
    frames = rows.frames()
    first = next(frames, None)
    # What is not recorded is not missing; of before a column was private there may be rows that have it.
    kept = {name: column for name, column in reference.columns.items() if not column.private}
    reference_kept = msgspec.structs.replace(reference, columns=kept)
    slices = settings.slices if settings.slices is not None else watch.pipeline.evaluate.slices
    limits = Limits(
        least_rows=settings.least_rows,
        confidence=watch.pipeline.evaluate.confidence,
        texts=texts.embedded,
        text_distance=texts.distance,
        unseen_words=texts.unseen_words,
        slices=tuple(name for name in slices if name in kept),
        together=watch.pipeline.split.together,
        seed=watch.pipeline.seed,
    )

    def all_of_them() -> Iterator[Batch]:
        for frame in chain(() if first is None else (first,), frames):
            yield _batch(frame, reference_kept, known, watch, counted)

    asks_probe = settings.probe and bool(known.by_request or known.by_id or known.by_entity)
    encoders = watch.encoders(rows.model, rows.version)
    made = measure(reference_kept, all_of_them(), limits, refused=refused, asks_probe=asks_probe, encoders=encoders)
    hidden = len(reference.columns) - len(kept)
    note = f"{hidden} private columns are not recorded, so not compared"
    return made if not hidden else msgspec.structs.replace(made, notes=(*made.notes, note))


def _batch(frame: pl.DataFrame, reference: Reference, known: Known, watch: Watched, counted: _Counted) -> Batch:
    """Some rows of the record as they are measured."""
    labels, moments = _labelled(frame, known, watch, counted)
    features = features_in(frame, reference.names)
    return Batch(features, _scores(frame, reference), labels, moments, things_in(frame, features, watch.pipeline.split.together))


def things_in(frame: pl.DataFrame, features: pl.DataFrame, names: Sequence[str]) -> np.ndarray | None:
    """A hash, as uint64 (rows,), of what each row belongs to by the named columns; None where the record does not hold them.

    Rows that name nothing belong together if a model sees no difference between them, as in training.
    """
    import polars as pl

    found = [column_in(frame, name) for name in names]
    columns = [column.cast(pl.String).alias(str(place)) for place, column in enumerate(found) if column is not None]
    if not found or len(columns) < len(found) or not features.width:
        return None
    named = pl.DataFrame(columns)
    is_named = named.select(pl.all_horizontal(pl.all().is_not_null())).to_series().to_numpy()
    return np.where(is_named, named.hash_rows(0).to_numpy(), features.hash_rows(1).to_numpy())


def _scores(frame: pl.DataFrame, reference: Reference) -> np.ndarray:
    """What the model said. Raises :class:`Incomparable` where some of the rows, as a folder's contents change, are another model's."""
    import polars as pl

    if not reference.classes:
        values = frame["prediction"].cast(pl.Float64, strict=False)
        if frame["prediction"].dtype == pl.Boolean or values.null_count():
            raise Incomparable("rows of another model are among these, which says classes: counted, not compared")
        return values.to_numpy()
    for classes in (reference.answered, reference.classes):
        names = [f"{PROBABILITY}{each}" for each in classes]
        if set(names) <= set(frame.columns) and not sum(frame.select(names).null_count().row(0)):
            return frame.select(names).to_numpy()
    missing = ", ".join(map(str, reference.answered[:SHOWN_CLASSES])) + (" …" if len(reference.answered) > SHOWN_CLASSES else "")
    raise Incomparable(f"rows of another model are among these, without probabilities of {missing}: counted, not compared")


def _labelled(frame: pl.DataFrame, known: Known, watch: Watched, counted: _Counted) -> tuple[pl.Series | None, pl.Series]:
    """The rows' labels (None where no row has one), and when each row was: when it happened, if its label says so."""
    import polars as pl

    found = known.of_rows(frame)
    there = [label for label in found if label is not None]
    counted.rows += frame.height
    counted.labels += len(there)
    by_id = [label.number for label in there if label.kind == ID]
    counted.by_id += len(by_id)
    counted.ids.update(by_id)
    if not there:
        return None, frame["time"].dt.replace_time_zone(None)
    arrived = (frame["time"].dt.epoch("us") / 1e6).to_list()
    wait = seconds_of(watch.settings.labels.wait)
    counted.late += sum(label is not None and label.received - moment > wait for label, moment in zip(found, arrived, strict=True))
    happened = [moment if label is None or label.happened is None else label.happened for label, moment in zip(found, arrived, strict=True)]
    moments = pl.Series([round(moment * 1e6) for moment in happened], dtype=pl.Int64).cast(pl.Datetime("us"))
    return pl.Series([None if label is None else label.value for label in found], strict=False), moments
