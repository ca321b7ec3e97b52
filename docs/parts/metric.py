"""A metric of one's own: what mistakes cost, where a miss is so many times as dear as a false alarm."""

import numpy as np
from pydantic import Field

from mlops_pipeline.config.tree import Frozen
from mlops_pipeline.modelling.metrics import Array, Predictions
from mlops_pipeline.plugins import metric


class Prices(Frozen):
    """Its settings, below evaluate.metric_params.cost."""

    miss: float = Field(5.0, gt=0, description="what a miss costs; a false alarm costs 1")


@metric("cost", tasks=("binary",), lower_is_better=True, settings=Prices)
def cost(made: Predictions, weights: Array, settings: Prices) -> Array:
    """Cost of a row: a miss by its price, 1 for a false alarm."""
    said = made.predicted[:, made.positive] >= 0.5
    true = made.y == made.positive
    of_row = np.where(true & ~said, settings.miss, np.where(said & ~true, 1.0, 0.0))
    # A line of weights for each resample of the bootstrap; the answer is a number for each.
    return np.asarray(weights @ of_row / weights.sum(axis=1))
