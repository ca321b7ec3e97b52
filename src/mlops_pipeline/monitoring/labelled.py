"""What a model said and what came of it: the columns that its quality is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_pipeline.config.dataset import Task
from mlops_pipeline.contract.task import PROBABILITY
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.monitoring.pairs import is_whole, labels, listed

if TYPE_CHECKING:
    import polars as pl

MANY_VALUES = 20
"""A target of numbers with more values than this is measured as a regression."""


@dataclass(frozen=True)
class Outcomes:
    """Targets and predictions of both tables, where both are known. ``probability`` names the positive class's column."""

    task: Task
    target: str
    prediction: str
    reference: pl.DataFrame
    current: pl.DataFrame
    positive: int | str | None = None
    probability: str | None = None

    @property
    def has_percentages(self) -> bool:
        """Whether an error can be told in percent of the target: whether every target is above zero."""
        return bool((self.reference[self.target] > 0).all() and (self.current[self.target] > 0).all())

    @property
    def classes(self) -> list[int | str]:
        """Every class that targets or predictions hold, in order."""
        import polars as pl

        return (
            pl.concat([side[name] for side in (self.reference, self.current) for name in (self.target, self.prediction)])
            .unique()
            .sort()
            .to_list()
        )

    def absent(self, side: pl.DataFrame) -> list[int | str]:
        """The classes that no target of one side is of."""
        there = set(side[self.target].unique())
        return [label for label in self.classes if label not in there]


def outcomes(
    reference: pl.DataFrame,
    current: pl.DataFrame,
    notes: list[str],
    *,
    target: str,
    prediction: str,
    task: Task | None,
    positive: int | str | None,
) -> Outcomes | None:
    """The rows that quality is measured on; None, with the reason added to ``said``, if there are none."""
    if target == prediction:
        raise PipelineError(f"target and prediction are both '{target}': name two columns")
    for table, name in ((reference, "the reference"), (current, "the current data")):
        for column, what in ((target, "target"), (prediction, "prediction")):
            if column not in table.columns:
                notes.append(f"{name} has no {what} column '{column}': no section on the model's quality")
                return None
    sides = []
    for table, name in ((reference, "the reference"), (current, "the current data")):
        known = table.drop_nulls([target, prediction])
        if not known.height:
            notes.append(f"{name} has no row with both '{target}' and '{prediction}': no section on the model's quality")
            return None
        if known.height < table.height:
            notes.append(f"quality of {name}: {known.height:,} of {table.height:,} rows, those with '{target}' and '{prediction}'")
        sides.append(known)
    if (task or _task_of([side[target] for side in sides])) == "regression":
        return _values(sides, notes, target, prediction)
    return _classes(sides, notes, target, prediction, positive)


def _task_of(targets: list[pl.Series]) -> Task:
    numbers = all(values.dtype.is_numeric() for values in targets)
    return "regression" if numbers and any(not is_whole(v) or v.n_unique() > MANY_VALUES for v in targets) else "binary"


def _values(sides: list[pl.DataFrame], notes: list[str], target: str, prediction: str) -> Outcomes:
    import polars as pl

    for side in sides:
        for name in (target, prediction):
            if not side[name].dtype.is_numeric():
                raise PipelineError(f"column '{name}' is of type {side[name].dtype}, and a regression needs numbers: name another column")
    reference, current = (side.select(pl.col(target, prediction).cast(pl.Float64)) for side in sides)
    made = Outcomes("regression", target, prediction, reference, current)
    if not made.has_percentages:
        notes.append(f"'{target}' has values of zero or below, of which an error in percent says nothing: no MAPE")
    return made


def _classes(sides: list[pl.DataFrame], notes: list[str], target: str, prediction: str, positive: int | str | None) -> Outcomes | None:
    import polars as pl

    if any(side[prediction].dtype.is_float() and not is_whole(side[prediction]) for side in sides):
        return _scores(sides, notes, target, prediction, positive)
    found = labels(side[name] for side in sides for name in (target, prediction))
    seen = pl.concat(found).unique().sort().to_list()
    if len(seen) < 2:
        notes.append(f"'{target}' and '{prediction}' hold one class alone ({seen[0]}): no section on the model's quality")
        return None
    reference, current = pl.DataFrame(found[:2]), pl.DataFrame(found[2:])
    chosen = _positive(seen, positive, target) if len(seen) == 2 else None
    made = Outcomes("binary" if chosen is not None else "multiclass", target, prediction, reference, current, chosen)
    for side, name in ((reference, "the reference"), (current, "the current data")):
        if absent := made.absent(side):
            notes.append(f"{name} has no '{target}' of class {listed(absent)}: precision, recall and F1 count a class without rows as 0")
    column = f"{PROBABILITY}{chosen}"
    if chosen is not None and all(
        column in side.columns and side[column].dtype.is_float() and not side[column].null_count() for side in sides
    ):
        return _with_probability(made, [side[column] for side in sides], notes)
    return made


def _with_probability(made: Outcomes, probability: list[pl.Series], notes: list[str]) -> Outcomes:
    """The same with probabilities, if the predictions are those at one half and both classes occur; else labels alone."""
    for values, name in zip(probability, ("the reference", "the current data"), strict=True):
        if not values.is_between(0, 1).all():
            wrong = values.filter(~values.is_between(0, 1))[0]
            raise PipelineError(f"column '{values.name}' of {name} holds {wrong:g}: give probabilities between 0 and 1, or drop the column")
    for side, values in zip((made.reference, made.current), probability, strict=True):
        if made.absent(side):
            return made
        if ((values >= 0.5) != (side[made.prediction] == made.positive)).any():
            notes.append(f"'{made.prediction}' is not '{values.name}' cut at one half: no ROC AUC, no log loss")
            return made
    name = probability[0].name
    reference, current = (side.with_columns(v) for side, v in zip((made.reference, made.current), probability, strict=True))
    return Outcomes("binary", made.target, made.prediction, reference, current, made.positive, name)


def _scores(sides: list[pl.DataFrame], notes: list[str], target: str, prediction: str, positive: int | str | None) -> Outcomes | None:
    """Predictions that are probabilities of the positive class, cut at one half."""
    import polars as pl

    truth = labels(side[target] for side in sides)
    seen = pl.concat(truth).unique().sort().to_list()
    if any(not side[prediction].is_between(0, 1).all() for side in sides) or len(seen) > 2:
        raise PipelineError(
            f"'{prediction}' holds fractions, but '{target}' holds classes ({listed(seen)}): give predicted classes, or task=\"regression\""
        )
    if any(values.n_unique() < 2 for values in truth):
        notes.append(f"'{target}' holds one class alone on one side: no section on the model's quality")
        return None
    chosen = _positive(seen, positive, target)
    other = next(label for label in seen if label != chosen)
    made = [
        pl.DataFrame([values, side[prediction].alias(f"{PROBABILITY}{chosen}")]).with_columns(
            pl.when(pl.col(f"{PROBABILITY}{chosen}") >= 0.5)
            .then(pl.lit(chosen))
            .otherwise(pl.lit(other))
            .cast(values.dtype)
            .alias(prediction)
        )
        for values, side in zip(truth, sides, strict=True)
    ]
    return Outcomes("binary", target, prediction, made[0], made[1], chosen, f"{PROBABILITY}{chosen}")


def _positive(seen: list[int | str], named: int | str | None, target: str) -> int | str:
    if named is None:
        return 1 if 1 in seen else seen[-1]
    for label in seen:
        if str(label) == str(named):
            return label
    raise PipelineError(f"positive '{named}' is no class of '{target}': it holds {listed(seen)}")
