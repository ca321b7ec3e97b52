"""A registered version's folder, loaded: tables in, predictions out, by the same rows and the same engine as the server's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from mlops_pipeline.contract.evaluation import Evaluation, evaluation_of
from mlops_pipeline.contract.spec import FILE, Contract, Unreadable, contract_of
from mlops_pipeline.errors import PipelineError, one_line
from mlops_pipeline.features.columns import Uncomputable
from mlops_pipeline.files import read_json
from mlops_pipeline.inference.engine import NotFinite, load_engine, score
from mlops_pipeline.inference.faults import Fault, Refused
from mlops_pipeline.inference.formats import Engine
from mlops_pipeline.inference.frames import TakenRows, Unseen, judged
from mlops_pipeline.inference.proof import FILE as EXPECTED
from mlops_pipeline.inference.proof import Expected, Unproven, prove
from mlops_pipeline.inference.raw import RawInput
from mlops_pipeline.inference.signature import Signature

if TYPE_CHECKING:
    import polars as pl

    from mlops_pipeline.features.online import OnlineFeatures


@dataclass(frozen=True)
class Scored:
    """What a model says of a table: outputs of the rows it takes, which these are of all (bool), why not the others, by row."""

    outputs: np.ndarray
    taken: np.ndarray
    faults: list[Fault]
    unseen: dict[str, Unseen]
    absent: tuple[str, ...]
    far: dict[str, int]
    cut: dict[str, int] = field(default_factory=dict)
    """Rows of which a text was not read to its end, by column."""


@dataclass(frozen=True)
class Scorer:
    """A loaded version: its contract, its signature and its engine."""

    contract: Contract
    signature: Signature
    engine: Engine

    def score(self, table: pl.DataFrame) -> Scored:
        """Predict every row that keeps the signature.

        Outputs are class probabilities, float32 (rows, classes), or values, float32 (rows,). Raises :class:`Refused` if a column is
        missing; a row of which the model says no finite number is not taken, as ``output_not_finite``.
        """
        return self.prepared(table)()

    def prepared(self, table: pl.DataFrame) -> Callable[[], Scored]:
        """The same in two parts, of which the second asks the model, so that another table can be prepared meanwhile."""
        return partial(self._said, judged(table, self.signature))

    def _said(self, found: TakenRows) -> Scored:
        about = (found.unseen, found.absent, found.far)
        if not found.rows.count:
            outputs = np.zeros((0, *self.contract.kind.width(self.contract.classes)), dtype=np.float32)
            return Scored(outputs, found.taken, found.faults, *about)
        try:
            outputs = score(self.engine, found.rows.numbers, found.rows.categories)
        except NotFinite as error:
            places = np.flatnonzero(found.taken)[error.rows]
            faults = [Fault("output_not_finite", f"row {row}: the model says no finite number of it", int(row)) for row in places]
            taken = found.taken.copy()
            taken[places] = False
            merged = sorted([*found.faults, *faults], key=lambda fault: fault.row or 0)
            return Scored(np.delete(error.outputs, error.rows, axis=0), taken, merged, *about)
        notices = getattr(self.engine, "notices", None)
        cut = {} if notices is None else {one.column: one.rows for one in notices(found.rows.categories)}
        return Scored(outputs, found.taken, found.faults, *about, cut)

    def predict(self, table: pl.DataFrame) -> np.ndarray:
        """Predict rows all of which the model has to take: class probabilities, (rows, classes), or values, (rows,); float64.

        Raises :class:`PipelineError` that names the first row it does not take.
        """
        try:
            done = self.score(table)
        except Refused as refusal:
            raise PipelineError(refusal.faults[0].detail) from refusal
        if done.faults:
            raise PipelineError(f"{done.faults[0].detail}: {len(done.faults)} of {table.height} rows cannot be predicted")
        return done.outputs.astype(np.float64)

    def taking_nulls(self) -> Scorer:
        """The same model for rows that are to judge it: a null is predicted where training had none, though a request's is refused."""
        columns = {name: msgspec.structs.replace(column, nullable=True) for name, column in self.contract.columns.items()}
        return scorer_of(msgspec.structs.replace(self.contract, columns=columns), self.engine)

    def columns_of(self, outputs: np.ndarray, names: list[str]) -> list[pl.Series]:
        """The columns that are added to a table, named so: the class or value, then each class's probability; float64."""
        import polars as pl

        answers = self.contract.answers
        if not self.contract.kind.has_classes:
            return [pl.Series(names[0], outputs.astype(np.float64))]
        said = pl.Series(names[0], answers if len({type(one) for one in answers}) == 1 else list(map(str, answers)))
        return [said[outputs.argmax(axis=1)], *(pl.Series(name, outputs[:, k].astype(np.float64)) for k, name in enumerate(names[1:]))]


@dataclass(frozen=True)
class RawScorer:
    """A loaded version for rows as the source has them: the features are computed, then scored."""

    scorer: Scorer
    taken: RawInput
    by: OnlineFeatures

    def score(self, table: pl.DataFrame) -> Scored:
        """As :meth:`Scorer.score`, of raw rows."""
        return self.prepared(table)()

    def prepared(self, table: pl.DataFrame) -> Callable[[], Scored]:
        """As :meth:`Scorer.prepared`; the features are computed in the first part."""
        found = judged(table, self.taken.signature)
        features, places, faults = self._computed(self.taken.frame(found.rows), np.flatnonzero(found.taken))
        return partial(self._merged, found, places, faults, self.scorer.prepared(features))

    def _merged(self, found: TakenRows, places: np.ndarray, faults: list[Fault], ask: Callable[[], Scored]) -> Scored:
        """What the model says of those rows whose features could be computed, as of the whole table."""
        done, taken = ask(), np.zeros_like(found.taken)
        taken[places[done.taken]] = True
        refused = [self.taken.worded(fault)._replace(row=int(places[fault.row or 0])) for fault in done.faults]
        merged = sorted([*found.faults, *faults, *refused], key=lambda fault: fault.row or 0)
        return Scored(done.outputs, taken, merged, done.unseen, found.absent, done.far, done.cut)

    def _computed(self, raw: pl.DataFrame, places: np.ndarray) -> tuple[pl.DataFrame, np.ndarray, list[Fault]]:
        """The features of the rows of which they can be computed, where these stand in the table, and why not of the others."""
        faults: list[Fault] = []
        while True:
            try:
                return self.by.of_frame(raw), places, faults
            except Uncomputable as error:
                failing = list(error.rows)
                faults += [self.taken.uncomputed(error.name, int(place)) for place in places[failing]]
                left = np.delete(np.arange(raw.height), failing)
                raw, places = raw[left], places[left]


def load_scorer(folder: Path, threads: int = 0, only: str | None = None) -> Scorer:
    """Load a version from its folder, by its fastest format or the one named, and prove it on its expected rows.

    Raises :class:`PipelineError`.
    """
    if not (folder / FILE).is_file():
        raise PipelineError(f"{folder}: is no model of this pipeline ({FILE} is missing): run `mlops run` first")
    contract = contract_at(folder / FILE)
    scorer = scorer_of(contract, load_engine(folder, contract, threads, only))
    if (folder / EXPECTED).is_file():
        try:
            prove(scorer.signature, scorer.engine, msgspec.json.decode((folder / EXPECTED).read_bytes(), type=Expected))
        except (Unproven, msgspec.MsgspecError) as error:
            raise PipelineError(f"{folder / EXPECTED}: {one_line(error)}") from error
    return scorer


def scorer_of(contract: Contract, engine: Engine) -> Scorer:
    """A scorer with an engine that is loaded already."""
    return Scorer(contract, Signature.of(contract, precision=engine.precision), engine)


def contract_at(path: Path) -> Contract:
    """The contract in a file; raises :class:`PipelineError`."""
    try:
        return contract_of(path.read_bytes())
    except (Unreadable, OSError) as error:
        raise PipelineError(f"{path}: {one_line(error)}") from error


def evaluation_at(path: Path) -> Evaluation:
    """The evaluation in a file; raises :class:`PipelineError`."""
    try:
        return evaluation_of(path.read_bytes())
    except (Unreadable, OSError) as error:
        raise PipelineError(f"{path}: {one_line(error)}") from error


def example_rows(folder: Path) -> pl.DataFrame:
    """The model's input example as a table: a few rows that are nobody's."""
    import polars as pl

    example: dict[str, Any] = read_json(folder / "input_example.json")
    return pl.DataFrame(example["data"], schema=example["columns"], orient="row", infer_schema_length=None)
