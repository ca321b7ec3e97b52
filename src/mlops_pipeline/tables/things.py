"""What several rows of a table have in common, so that they are not parted: a thing, such as a patient, or all that a model sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_pipeline.config.pipeline import Settings, feature_columns
from mlops_pipeline.contract.task import has_classes

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


MOST_COPIES = 3
"""Of more rows than these that are equal by chance and not of one class, none are copies."""


def equal_rows(table: pl.DataFrame, y: np.ndarray, settings: Settings) -> np.ndarray | None:
    """A number (rows,), from 0, shared by rows that are equal in all that a model sees; None if no two are. ``y`` is the target.

    Of a number as target such rows are copies if that is equal too. Where few values make rows equal by chance (men of the third class
    whose age is not known), many that are not of one class are no copies, and have a number each: of them a model can learn no more than
    how many are of which class, and together they would be all or nothing of what is held out.
    """
    import numpy as np
    import polars as pl

    features, of_classes = table.select(list(feature_columns(settings))), has_classes(settings.dataset.task)
    keys = features if of_classes else features.with_columns(pl.Series(" the target", y))
    # In the order of their hashes, which is as good as drawn.
    _, equal, sizes = np.unique(keys.hash_rows(settings.seed).to_numpy(), return_inverse=True, return_counts=True)
    if of_classes and sizes.max(initial=0) > MOST_COPIES and _equal_by_chance(features, sizes):
        classes = pl.DataFrame({"equal": equal, "class": y.astype(str)}).group_by("equal").agg(pl.col("class").n_unique())
        several = classes.filter(pl.col("class") > 1)["equal"].to_numpy()
        alone = np.isin(equal, several[sizes[several] > MOST_COPIES])
        equal[alone] = len(sizes) + np.arange(alone.sum())
        equal = np.unique(equal, return_inverse=True)[1]
    return equal if equal.max(initial=-1) + 1 < len(equal) else None


def _equal_by_chance(features: pl.DataFrame, sizes: np.ndarray) -> bool:
    """Whether columns that know nothing of each other would make at least half of the pairs of equal rows that there are.

    Two rows are then equal as often as the product of how often they are in each column, which of one column says nothing.
    """
    import numpy as np

    def pairs(sizes: np.ndarray) -> float:
        return float(np.sum(sizes * (sizes - 1.0)))

    expected = pairs(np.array([features.height]))
    shares = [pairs(column.value_counts(name=" in the column")[" in the column"].to_numpy()) / expected for column in features]
    return len(shares) > 1 and expected * float(np.prod(shares)) >= pairs(sizes) / 2


def things_of(table: pl.DataFrame, settings: Settings) -> np.ndarray | None:
    """A hash, as uint64 (rows,), of the thing that each row belongs to by ``split.together``; None where that names nothing.

    Rows that name none belong together if a model sees no difference between them: their places in the table tell nothing of them.
    """
    import numpy as np
    import polars as pl

    names = settings.split.together
    if not names:
        return None
    named = table.select(names)
    is_named = named.select(pl.all_horizontal(pl.all().is_not_null())).to_series().to_numpy()
    things = named.hash_rows(settings.seed).to_numpy()
    if is_named.all():
        return things
    return np.where(is_named, things, table.select(list(feature_columns(settings))).hash_rows(settings.seed).to_numpy())
