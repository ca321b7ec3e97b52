"""Our checks on a table (declared in ``parts``): what would make a model lie, found before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.dataset import Dataset
from mlops_pipeline.config.pipeline import Validate
from mlops_pipeline.contract.label import in_owners_words
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.tables.leakage import FEW_ROWS
from mlops_pipeline.tables.schema import Failure, failures

if TYPE_CHECKING:
    import pandera.polars as pa
    import polars as pl

MOST_DIGITS = 9
"""So many decimals at most are said of a figure."""


@dataclass(frozen=True)
class Examined:
    """A table under examination, and what is known of it.

    ``features`` are the model's columns, ``aucs`` the ROC AUC with which each alone predicts the target, 0.5 to 1.
    """

    table: pl.DataFrame
    dataset: Dataset
    features: tuple[str, ...]
    schema: pa.DataFrameSchema
    duplicates: int
    aucs: dict[str, float]
    words: tuple[Any, ...] = ()
    """The owner's words for 0 and 1 of a yes/no target that is written in other ones."""


def keeps_schema(examined: Examined, _rules: Validate) -> list[Failure]:
    """Every rule of the committed schema that the table breaks, most rows first."""
    return failures(examined.table, examined.schema, examined.dataset.min_level_rows)


def few_duplicates(examined: Examined, rules: Validate) -> Iterator[Failure]:
    rows, duplicates = examined.table.height, examined.duplicates
    if duplicates > rules.max_duplicate_share * rows:
        digits = _digits(rules.max_duplicate_share, duplicates / rows) - 2
        yield Failure(
            "(table)",
            f"at most {rules.max_duplicate_share:.{digits}%} duplicate rows",
            duplicates,
            f"{duplicates / rows:.{digits}%}",
            "take the repeated rows out, or raise validate.max_duplicate_share",
        )


def _digits(limit: float, seen: float) -> int:
    """How many decimals say a limit whole, and tell what was seen beyond it from it."""
    enough = (n for n in range(3, MOST_DIGITS) if isclose(round(limit, n), limit, rel_tol=1e-6) and round(seen, n) != round(limit, n))
    return next(enough, MOST_DIGITS)


def unique_entity_key(examined: Examined, _rules: Validate) -> Iterator[Failure]:
    key = examined.dataset.entity_key
    repeated = examined.table.height - examined.table.n_unique(list(key)) if key else 0
    if repeated:
        remedy = "mend the data, or name more columns under dataset.entity_key"
        yield Failure(", ".join(key), "entity_key is unique", repeated, f"{repeated} repeated", remedy, stops=True)


def target_varies(examined: Examined, rules: Validate) -> Iterator[Failure]:
    table, target = examined.table, examined.dataset.target
    another = "add rows with other values, or name another dataset.target"
    if not has_classes(examined.dataset.task):
        if table[target].n_unique() < 2:
            yield Failure(target, "target varies", table.height, "one value", another, stops=True)
        return
    shares = table[target].value_counts(normalize=True, sort=True, name="\0share")
    values = shares[target].to_list()
    labels = in_owners_words(values, examined.words) or values
    if shares.height < 2:
        yield Failure(target, "at least two classes", table.height, str(labels), another, stops=True)
    for value, share in zip(labels, shares["\0share"], strict=True):
        if share < rules.min_class_share:
            digits = _digits(rules.min_class_share, share) - 2
            yield Failure(
                target,
                f"each class at least {rules.min_class_share:.{digits}%}",
                round(share * table.height),
                f"{value}: {share:.{max(digits, 2)}%}",
                f"add rows of class {value}, or lower validate.min_class_share",
            )


def no_leakage(examined: Examined, rules: Validate) -> Iterator[Failure]:
    """Where a run stops for it, any strong feature that nobody trusts; else those that are suspected are left out, and it goes on."""
    if examined.table.height < FEW_ROWS or rules.on_failure != "stop":
        return
    for name, value in examined.aucs.items():
        if value > rules.max_single_feature_auc and name not in rules.trusted:
            yield Failure(
                name,
                f"no leakage: alone predicts the target with AUC of at most {rules.max_single_feature_auc}",
                examined.table.height,
                f"AUC {value:.{_digits(rules.max_single_feature_auc, value)}f}",
                f"put {name} under dataset.known_after_outcome if only the outcome tells it, or raise validate.max_single_feature_auc",
            )
