"""Batch prediction: a table in, the same table with predictions out, a bounded amount of it in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.dataset import Source
from mlops_pipeline.config.moments import shown_moment
from mlops_pipeline.contract.privacy import told_levels
from mlops_pipeline.contract.spec import Column
from mlops_pipeline.contract.task import PREDICTION, free_names
from mlops_pipeline.contract.values import written_as
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.features.online import features_of
from mlops_pipeline.features.state import open_state
from mlops_pipeline.features.store import StateStore
from mlops_pipeline.files import FOR_ITS_OWNER, replacing
from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.inference.frames import Unseen
from mlops_pipeline.inference.raw import RawInput, check_state
from mlops_pipeline.inference.scorer import RawScorer, Scored, Scorer, load_scorer
from mlops_pipeline.spreadsheet import TableFile, check_format
from mlops_pipeline.tables.cast import as_broken, without_content
from mlops_pipeline.tables.packing import form_of
from mlops_pipeline.tables.source import Chunk, as_written, count_rows, one_ahead, read_file, torn_notes

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from mlops_pipeline.config.serving import Inputs
    from mlops_pipeline.inference.signature import Signature
    from mlops_pipeline.layout import StatePlace

CHUNK_MB = 8
SHOWN_COLUMNS = 5
AS_THEY_COME = {"trim": False}
"""Blanks around cells are the model's to take off: columns are given back as they came."""


@dataclass(frozen=True)
class Predicted:
    """What a batch prediction did. Rejected rows are in ``rejects``, with the reason; None if there were none."""

    rows: int
    rejected: int
    seconds: float
    engine: str
    rejects: Path | None
    notes: tuple[str, ...] = ()
    """What the user has to know of the columns: unseen categories, columns that are not there, names that were taken."""


def predict_file(
    model: Path,
    source: Path,
    target: Path,
    console: Console,
    *,
    raw: bool = False,
    inputs: Inputs = "either",
    state: StatePlace | None = None,
) -> Predicted:
    """Predict every row of a file that keeps the model's signature; keep the others aside.

    The output has the input's columns as they came, but for those of lists and the like that no table holds, then ``prediction`` and,
    for classes, one ``probability_`` column a class, by other names where the input has these. A file with the source's columns that
    the recipe needs has its features computed, with the ``state`` of that folder, as far as ``inputs`` lets it. A CSV file has no cell
    that a spreadsheet would run, unless ``raw`` is. It appears whole or not at all. Raises :class:`PipelineError` if a column is
    missing or nothing could be read.
    """
    check_format(target)
    scorer = load_scorer(model)
    began, rows, rejected = time.perf_counter(), 0, 0
    rejects = target.with_name(f"{target.stem}.rejected.csv")
    if source.resolve() in (target.resolve(), rejects.resolve()):
        raise PipelineError(f"--output {target}: the input {source} would be overwritten: name another file")
    way = _Way(scorer, inputs, state)
    notes = _Notes(scorer, way)
    private = scorer.contract.set_aside_without
    # Words for null are the model's to read; an empty cell alone is nothing in any file.
    usual = Source(path=str(source), null_values=("",), **(scorer.contract.dialect.unusual | AS_THEY_COME))
    written, otherwise = as_written(source, usual, way.names)
    otherwise += _thousands(source, usual, written, way.columns)
    chunks = one_ahead(read_file(source, written, CHUNK_MB, way.names, way.words_for_null))
    prepared = one_ahead((chunk, _prepared(chunk, way, source)) for chunk in chunks)
    left_out: tuple[str, ...] | None = None
    reasons: list[str] = []
    with ExitStack() as stack:
        file = stack.enter_context(_writing(target, reasons, raw=raw))
        aside = stack.enter_context(replacing(rejects, FOR_ITS_OWNER)).open("w", encoding="utf-8")
        stack.enter_context(aside)
        aside.write("row,reason,content\n")
        advance = stack.enter_context(_progress(console, count_rows(source)))
        for chunk, ask in prepared:
            left_out = torn_notes(source, chunk.frame.columns) if left_out is None else left_out
            otherwise = tuple(dict.fromkeys((*otherwise, *left_out, *chunk.notes)))
            scored = ask()
            names = notes.names_beside(chunk.frame.columns)
            notes.add(scored)
            broken = [*without_content(chunk.broken, private), *as_broken(chunk.frame, chunk.row_numbers, _reasons(scored), private)]
            for row in broken:
                aside.write(row.as_csv(raw=raw))
            reasons += [row.reason for row in broken[: 1 - len(reasons)]]
            good = chunk.frame.filter(scored.taken)
            if good.height:
                file.write(good.with_columns(scorer.columns_of(scored.outputs, names)))
            rows, rejected = rows + good.height, rejected + len(broken)
            advance(good.height + len(broken))
        if not rows and not rejected:
            raise PipelineError(f"{source}: holds no row: give a table with a header and rows")
    if not rejected:
        rejects.unlink()
    seconds = time.perf_counter() - began
    told = (*otherwise, *notes.lines(), *file.notes)
    return Predicted(rows, rejected, seconds, scorer.engine.name, rejects if rejected else None, told)


def _thousands(path: Path, usual: Source, written: Source, columns: Sequence[Column]) -> tuple[str, ...]:
    """What to say of points in numbers of a file whose cells end otherwise than the training data's: nothing tells what they are there."""
    if written.delimiter == usual.delimiter or form_of(path) != "text":
        return ()
    forms = [column.format for column in columns if column.kind in ("number", "integer") and column.format is not None]
    parted = next((form for form in forms if (signs := written_as(form)) is not None and signs[1:] == (r"\.", ",")), None)
    return () if parted is None else (f"'1.234' is read as 1234 where the training data has numbers such as '{parted}'",)


class _Way:
    """What a file's rows are, and so how they are scored: decided by its columns, once."""

    def __init__(self, scorer: Scorer, inputs: Inputs, state: StatePlace | None) -> None:
        self._inputs, self._state = inputs, state
        self._taken = RawInput.taken(scorer.contract, scorer.signature, inputs)
        self.scorer: Scorer | RawScorer = scorer
        self.signature = scorer.signature
        self.notes: list[str] = []
        self._plain, self._is_chosen = scorer, False

    @property
    def names(self) -> tuple[str, ...]:
        """Names by which a file's way of writing is known."""
        return tuple(dict.fromkeys(name for signature in self._signatures for name in signature.names))

    @property
    def columns(self) -> list[Column]:
        """Columns that a file may have, as finished features and as raw rows."""
        return [column for signature in self._signatures for column in signature.columns.values()]

    @property
    def words_for_null(self) -> frozenset[str]:
        """The texts that stand for null in any of them."""
        return frozenset[str]().union(*(signature.every_word_for_null for signature in self._signatures))

    @property
    def _signatures(self) -> list[Signature]:
        """What a file's rows may be; which they are, :meth:`choose` tells by its columns."""
        return [self._plain.signature, *([] if self._taken is None else [self._taken.signature])]

    @property
    def computed(self) -> tuple[str, ...]:
        """Columns that are computed, whatever a file has by their names."""
        return self._taken.kinds.computed if self._taken is not None and isinstance(self.scorer, RawScorer) else ()

    def choose(self, columns: list[str], source: Path) -> None:
        """Raises :class:`PipelineError` where raw rows are to be computed and cannot be."""
        if self._is_chosen:
            return
        self._is_chosen = True
        taken = self._taken
        if taken is None:
            if self._inputs == "raw":
                raise PipelineError(f"--inputs raw: the model {self._plain.contract.target!r} has no recipe: leave the option out")
            if self._inputs == "either" and self._plain.contract.raw:
                self.notes.append("taken as finished features, which have the columns of raw rows: --inputs raw computes them anew")
            return
        kinds = taken.kinds
        if self._inputs == "either":
            if kinds.tell(columns) == "features":
                return
            if kinds.again and not kinds.computed:
                what = f"its columns do not tell whether {_listed(kinds.again)} is computed yet"
                raise PipelineError(f"{source}: {what}: give --inputs raw or --inputs features")
        try:
            place = None if self._state is None else StateStore(self._state).version()
            known = None if place is None else open_state(place)
            if known is not None:
                check_state(self._plain.contract, known)
            by = features_of(self._plain.contract, known)
        except PipelineError as error:
            if self._inputs == "either" and kinds.is_finished(columns):
                self.notes.append(f"the file's own features are taken, since they cannot be computed: {error}")
                return
            raise PipelineError(f"{source}: holds raw rows, and {error}") from error
        self.scorer, self.signature = RawScorer(self._plain, taken, by), taken.signature
        as_of = "" if known is None else f", features_as_of {shown_moment(known.as_of.replace(tzinfo=None))}"
        self.notes.append(f"raw rows: {_listed(taken.kinds.computed)} computed from {_listed(taken.order)}{as_of}")
        if given := [name for name in taken.kinds.computed if name in columns]:
            self.notes.append(f"{_listed(given)} of the file: computed anew, what came was not looked at")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:SHOWN_COLUMNS])) + (", …" if len(names) > SHOWN_COLUMNS else "")


def _prepared(chunk: Chunk, way: _Way, source: Path) -> Callable[[], Scored]:
    """A chunk's rows as the model is given them; what is returned asks it."""
    import polars as pl

    way.choose(chunk.frame.columns, source)
    table = chunk.frame.select([name for name in way.signature.names if name in chunk.frame.columns])
    if form_of(source) == "text":
        # Where no empty text stands for null, the model was trained on an empty cell as an empty text.
        texts = [name for name in table.columns if "" not in way.signature.words_for_null(name)]
        table = table.with_columns(pl.col(texts).fill_null(""))
    try:
        return way.scorer.prepared(table)
    except Refused as refusal:
        raise PipelineError(f"{source}: {refusal.faults[0].detail}") from refusal


def _reasons(scored: Scored) -> pl.Series:
    """Why each row is not predicted, null where it is."""
    import polars as pl

    reasons: list[str | None] = [None] * len(scored.taken)
    for fault in scored.faults:
        reasons[fault.row or 0] = f"{fault.reason}: {fault.detail.partition(', ')[2] if fault.column else fault.detail.partition(': ')[2]}"
    return pl.Series(reasons, dtype=pl.String)


class _Notes:
    """What is said of a file's columns when it is done."""

    def __init__(self, scorer: Scorer, way: _Way) -> None:
        self._scorer, self._way = scorer, way
        self._unseen: dict[str, Unseen] = {}
        self._far: dict[str, int] = {}
        self._cut: dict[str, int] = {}
        self._absent: tuple[str, ...] = ()
        self._others: list[str] = []
        self._names: list[str] = []

    def names_beside(self, columns: list[str]) -> list[str]:
        """The names of the columns that are added."""
        known = {*self._way.signature.columns, *self._way.computed}
        self._others = [name for name in columns if name not in known]
        self._names = self._names or free_names(self._scorer.contract.kind.output_names(self._scorer.contract.answers), columns)
        return self._names

    def add(self, scored: Scored) -> None:
        self._absent = scored.absent
        for name, count in scored.far.items():
            self._far[name] = self._far.get(name, 0) + count
        for name, count in scored.cut.items():
            self._cut[name] = self._cut.get(name, 0) + count
        for name, unseen in scored.unseen.items():
            self._unseen.setdefault(name, Unseen()).add(unseen)

    def lines(self) -> tuple[str, ...]:
        """One line a thing."""
        told = [*self._way.notes]
        told += [f"column '{name}' is not in the file: null in every row" for name in self._absent]
        signature = self._scorer.signature
        for name, unseen in self._unseen.items():
            named = told_levels(signature.columns[name], unseen.examples)
            examples = f", such as {', '.join(map(repr, named))}" if named else ""
            told.append(f"column '{name}': {unseen.count:,} value{'' if unseen.count == 1 else 's'} {signature.unlisted}{examples}")
        told += [self._scorer.signature.far_notice(name, count).detail for name, count in self._far.items()]
        told += [self._scorer.engine.cut_notice(name, count).detail for name, count in self._cut.items()]  # type: ignore[attr-defined]  # who says that texts were cut
        if self._others:
            listed, many = _listed(self._others), len(self._others)
            told.append(f"{many:,} column{' is' if many == 1 else 's are'} none of the model's, kept and not looked at: {listed}")
        if self._names and self._names[0] != PREDICTION:
            ours = ", ".join(self._names)
            told.append(f"the file has columns called like predictions: ours are {ours} (a report takes --prediction {self._names[0]})")
        return tuple(told)


@contextmanager
def _writing(target: Path, reasons: Sequence[str], *, raw: bool) -> Iterator[TableFile]:
    """A file that takes the target's place at the end; if nothing was written, an error has the first of the ``reasons``."""
    with replacing(target) as temporary, TableFile(temporary, target.suffix, raw=raw) as file:
        yield file
        if not file.has_begun:
            rejects = target.with_name(f"{target.stem}.rejected.csv")
            raise PipelineError(f"{target}: no row could be predicted, the first for {', '.join(reasons)}: see {rejects}")


@contextmanager
def _progress(console: Console, total: int | None) -> Iterator[Any]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("predicting"), BarColumn(), TaskProgressColumn(), TextColumn("{task.completed:,} rows"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=total)
        yield lambda rows: progress.advance(bar, rows)
