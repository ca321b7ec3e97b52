"""What the record says of a release, read on from where the last look ended, and kept as numbers.

Nothing of it is on a disk: a controller that goes on for another reads the record from the release's beginning once, in parts, and has
the same. Labels are joined anew at each look, so that late ones, and those that take another's place, count as if they had been there.
Of more than ``most`` rows a random half of the units is left out, by a hash that all looks share, and so again: memory and the time of a
look are bounded. Of alpha each thinning has a part of its own (``evidence.OF_ALL``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlops_pipeline.contract.label import prediction_name
from mlops_pipeline.contract.reference import Reference
from mlops_pipeline.monitoring.labels import ID, REQUEST
from mlops_pipeline.records.reading import UNIT, column_in
from mlops_pipeline.release.evidence import ARMS, CHALLENGER, CHAMPION, SETTLE_S, SHADOW, Observations, scores_in, slice_texts, truth_of

if TYPE_CHECKING:
    import polars as pl

    from mlops_pipeline.monitoring.state import Label

MOST_ROWS = 1_000_000
"""Rows that are kept, about 100 bytes each."""
FEW_UNITS = 20_000
"""Of fewer units that stick all are kept, and requests are left out instead."""
_BY_VERSION = len(ARMS)
"""The arm of a row that its server gave none: this for the champion's version, one more for the challenger's."""
Columns = dict[str, npt.NDArray[Any]]


class Ledger:
    """The rows of one release, and the labels that came since it began. Used on one thread."""

    def __init__(
        self,
        champion: str,
        challenger: str,
        reference: Reference | None,
        slices: Sequence[str],
        *,
        sticks: bool = False,
        within: timedelta = timedelta(),
        elsewhere: bool = False,
        most: int = MOST_ROWS,
        settle_s: float = SETTLE_S,
    ) -> None:
        self.reference = reference
        self.read_to: Mapping[str, int] = {}
        self.labels_to = 0
        self._champion, self._challenger, self._slices = champion, challenger, tuple(slices)
        self._sticks, self._within, self._elsewhere, self._most, self._settle_s = sticks, within, elsewhere, most, settle_s
        self._width = max(1, len(reference.classes)) if reference is not None else 1
        self._by_units = self._by_requests = 0
        self._values: dict[str, dict[str, int]] = {name: {} for name in self._slices}
        self._rows = self._none()
        self._labels: dict[str, pl.DataFrame] = {}

    @property
    def rows(self) -> int:
        """How many are kept."""
        return len(self._rows["time"])

    def read(self, frames: Iterable[pl.DataFrame], withdrawn: Iterable[tuple[str, float]], read_to: Mapping[str, int] | None) -> None:
        """Take in what is new; all of it or, where reading fails, nothing. Without ``read_to`` it is everything there is, again."""
        halved = self._by_units, self._by_requests
        try:
            self._read(frames, withdrawn, all_again=read_to is None)
        except BaseException:
            self._by_units, self._by_requests = halved
            raise
        self.read_to = read_to or {}

    def _read(self, frames: Iterable[pl.DataFrame], withdrawn: Iterable[tuple[str, float]], *, all_again: bool) -> None:
        before = [] if all_again else [self._rows]
        new: list[Columns] = []
        for frame in frames:
            new.append(self._kept(self._columns(frame)))
            if sum(len(each["time"]) for each in new) > self._most:
                new = [_joined(new)]
                self._thin([*before, *new])
                before, new = [self._kept(each) for each in before], [self._kept(each) for each in new]
        gone = {(name, round(moment * 1e6)) for name, moment in withdrawn}
        if gone and before:
            before = [_where(before[0], ~self._are(before[0], gone))]
        if new or not before or gone:
            self._rows = _joined([*before, *new]) if new or before else self._none()
        while self._thin([self._rows]):
            self._rows = self._kept(self._rows)

    def label(self, labels: Sequence[Label]) -> None:
        """Take in labels that came since the last, in the order of their numbers."""
        import polars as pl

        if not labels or self.reference is None:
            return
        truths = truth_of(self.reference, [label.value for label in labels])
        kinds = np.array([label.kind if label.kind in (REQUEST, ID) else "" for label in labels])
        made = pl.DataFrame(
            {
                "name": _hashes([prediction_name(label.name) for label in labels]),
                "place": [label.place for label in labels],
                "moment": [label.moment for label in labels],
                "truth": truths,
            },
            schema_overrides={"moment": pl.Float64, "place": pl.Int64},
        )
        for kind, key in ((REQUEST, ["name", "place"]), (ID, ["name"]), ("", ["name", "moment"])):
            new = made.filter(pl.Series(kinds == kind))
            if new.height:
                every = pl.concat([self._labels[kind], new]) if kind in self._labels else new
                self._labels[kind] = every.unique(key, keep="last", maintain_order=True)
        self.labels_to = labels[-1].number

    def observations(self, mirrored: Sequence[tuple[float, float]] = ()) -> Observations:
        """All that is known now, in order of time.

        ``mirrored``: from when to when a mesh asked the challenger besides, so that what servers gave no arm is a shadow.
        """
        rows = self._rows
        order = np.argsort(rows["time"], kind="stable")
        rows = {name: values[order] for name, values in rows.items()}
        request, unit = _dense(rows["request"]), rows["unit"]
        unit = np.where(unit == 0, -1, _dense(unit)) if self._sticks else np.where(rows["request"] == 0, -1, request)
        return Observations(
            rows["time"],
            request,
            rows["row"].astype(np.int64),
            unit,
            self._arms(rows, mirrored),
            rows["failed"],
            rows["latency"].astype(np.float64),
            rows["scores"].astype(np.float64),
            self._truth(rows),
            {name: rows[f"slice {name}"].astype(np.int64) for name in self._slices},
            {name: list(values) for name, values in self._values.items()},
            self._by_units + self._by_requests,
            self._by_units if self._sticks else self._by_units + self._by_requests,
            self._settle_s,
        )

    def _arms(self, rows: Columns, mirrored: Sequence[tuple[float, float]]) -> npt.NDArray[np.int8]:
        arm = rows["arm"]
        if not self._elsewhere:
            return arm
        beside = np.zeros(len(arm), dtype=bool)
        for since, until in mirrored:
            beside |= (rows["time"] >= since) & (rows["time"] < until)
        challengers = np.where(beside, ARMS.index(SHADOW), ARMS.index(CHALLENGER))
        made: npt.NDArray[np.int8] = np.where(
            arm == _BY_VERSION, ARMS.index(CHAMPION), np.where(arm == _BY_VERSION + 1, challengers, arm)
        ).astype(np.int8)
        return made

    def _truth(self, rows: Columns) -> npt.NDArray[np.float64]:
        """Of each row by its request, else by its id, else the first of its entity that happened after it."""
        import polars as pl

        count = len(rows["time"])
        found = pl.Series("truth", [None], dtype=pl.Float64).new_from_index(0, count)
        if not count:
            return found.to_numpy().astype(np.float64)
        keys = pl.DataFrame(
            {"named": rows["name"], "row": rows["row"].astype(np.int64), "id": rows["id"], "time": rows["time"], "at": np.arange(count)}
        )
        for kind, left, right in ((REQUEST, ["named", "row"], ["name", "place"]), (ID, ["id"], ["name"])):
            if kind in self._labels:
                joined = keys.join(self._labels[kind], left_on=left, right_on=right, how="left", maintain_order="left")
                found = found.zip_with(found.is_not_null(), joined["truth"])
        if "" in self._labels:
            joined = keys.sort("time").join_asof(
                self._labels[""].sort("moment"), left_on="time", right_on="moment", by_left="id", by_right="name", strategy="forward",
                tolerance=self._within.total_seconds(), check_sortedness=False,
            )  # fmt: skip
            found = found.zip_with(found.is_not_null(), joined.sort("at")["truth"])
        return found.fill_null(float("nan")).to_numpy()

    def _columns(self, frame: pl.DataFrame) -> Columns:
        """The rows of a frame that belong to the release."""
        import polars as pl

        arm, version = pl.col("arm").fill_null(""), pl.col("version").fill_null("")
        place = arm.replace_strict(list(ARMS), list(range(len(ARMS))), default=-1, return_dtype=pl.Int8)
        if self._elsewhere:
            by_version = version.replace_strict(
                [self._champion, self._challenger], [_BY_VERSION, _BY_VERSION + 1], default=-1, return_dtype=pl.Int8
            )
            place = pl.when(arm == "").then(by_version).otherwise(place)
        own = pl.when(arm.is_in([CHALLENGER, SHADOW])).then(pl.lit(self._challenger)).otherwise(pl.lit(self._champion))
        frame = frame.with_columns(place.alias("arm"), ((version == own) | (version == "") | (arm == "")).alias("\0own"))
        frame = frame.filter((pl.col("arm") >= 0) & pl.col("\0own"))
        scores = scores_in(frame, self.reference)
        names = frame["request_id"].fill_null("").to_list()
        made: Columns = {
            "time": (frame["time"].dt.epoch("us") / 1e6).to_numpy().astype(np.float64),
            "request": _hashes(names),
            "name": _hashes([prediction_name(name) for name in names]),
            "row": frame["row"].fill_null(-1).to_numpy().astype(np.int32),
            "id": _hashes([name and prediction_name(name) for name in frame["id"].to_list()]),
            "unit": _hashes(frame[UNIT].to_list()) if self._sticks else np.zeros(frame.height, dtype=np.uint64),
            "arm": frame["arm"].to_numpy().astype(np.int8),
            "failed": (frame["error"].fill_null("") != "").to_numpy().astype(bool),
            "latency": frame["latency_ms"].fill_null(float("nan")).to_numpy().astype(np.float32),
            "scores": scores.astype(np.float32) if self.reference is None or self.reference.classes else scores,
        }
        for name in self._slices:
            made[f"slice {name}"] = self._coded(name, frame)
        return made

    def _coded(self, name: str, frame: pl.DataFrame) -> npt.NDArray[np.int32]:
        """The places of a column's values among those that have come."""
        import polars as pl

        known, column = self._values[name], column_in(frame, name)
        if column is None:
            return np.full(frame.height, known.setdefault("(missing)", len(known)), dtype=np.int32)
        texts = slice_texts(column)
        for value in texts.unique(maintain_order=True).to_list():
            known.setdefault(value, len(known))
        return texts.replace_strict(list(known), list(known.values()), return_dtype=pl.Int32).to_numpy().astype(np.int32)

    def _none(self) -> Columns:
        made: Columns = {"time": np.empty(0)}
        made |= {name: np.empty(0, dtype=np.uint64) for name in ("request", "name", "id", "unit")}
        made |= {"row": np.empty(0, dtype=np.int32), "arm": np.empty(0, dtype=np.int8), "failed": np.empty(0, dtype=bool)}
        made |= {"latency": np.empty(0, dtype=np.float32), "scores": np.empty((0, self._width), dtype=np.float32)}
        return made | {f"slice {name}": np.empty(0, dtype=np.int32) for name in self._slices}

    def _are(self, rows: Columns, gone: set[tuple[str, int]]) -> npt.NDArray[np.bool_]:
        """Which of some rows are of these requests and microseconds."""
        import polars as pl

        wanted = pl.DataFrame({"request": _hashes([name for name, _ in gone]), "time": [moment for _, moment in gone]})
        here = pl.DataFrame(
            {"request": rows["request"], "time": np.round(rows["time"] * 1e6).astype(np.int64), "at": np.arange(len(rows["time"]))}
        )
        found = here.join(wanted, on=["request", "time"], how="semi")["at"].to_numpy()
        made = np.zeros(here.height, dtype=bool)
        made[found] = True
        return made

    def _thin(self, parts: Sequence[Columns]) -> bool:
        """Whether so many rows are there that half of what they are of is left out from now on."""
        if sum(len(each["time"]) for each in parts) <= self._most:
            return False
        units = np.unique(np.concatenate([np.unique(each["unit"]) for each in parts]))
        if len(units) > FEW_UNITS:
            self._by_units += 1
        else:
            self._by_requests += 1
        return True

    def _kept(self, rows: Columns) -> Columns:
        """Those that are not left out."""
        if not self._by_units and not self._by_requests:
            return rows
        of_unit, of_request = (np.uint64((1 << times) - 1) for times in (self._by_units, self._by_requests))
        return _where(rows, ((rows["unit"] & of_unit) == 0) & (((rows["request"] >> np.uint64(32)) & of_request) == 0))


def _where(rows: Columns, chosen: npt.NDArray[np.bool_]) -> Columns:
    return {name: values[chosen] for name, values in rows.items()}


def _joined(parts: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _hashes(texts: Sequence[str | None]) -> npt.NDArray[np.uint64]:
    """64 bits of each text, the same in this process; 0 for none."""
    import polars as pl

    series = pl.Series(texts, dtype=pl.String)
    made: npt.NDArray[np.uint64] = pl.select(pl.when(series.fill_null("") == "").then(0).otherwise(series.hash(7))).to_series().to_numpy()
    return made.astype(np.uint64)


def _dense(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Places among the different ones."""
    _, places = np.unique(values, return_inverse=True)
    return places.astype(np.int64)
