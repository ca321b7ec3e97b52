"""A feature encoder of one's own: numbers in bins of equally many training rows, a column for each category."""

from typing import Any

from pydantic import Field

from mlops_pipeline.config.dataset import Column
from mlops_pipeline.config.tree import Frozen
from mlops_pipeline.plugins import encoder


class Bins(Frozen):
    """What train.encoder_params may hold for it."""

    bins: int = Field(8, ge=2, le=256, description="how many for each column of numbers")


@encoder("quantiles", settings=Bins)
def quantiles(features: dict[str, Column], settings: Bins) -> Any:
    """Numbers in bins of equally many rows, a column for each category."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder

    numbers = [name for name, column in features.items() if column.kind != "category"]
    categories = [name for name, column in features.items() if column.kind == "category"]
    binned = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True),
        KBinsDiscretizer(settings.bins, encode="ordinal", quantile_method="averaged_inverted_cdf"),
    )
    steps = [("numbers", binned, numbers), ("categories", OneHotEncoder(handle_unknown="ignore", sparse_output=False), categories)]
    return ColumnTransformer([step for step in steps if step[2]], verbose_feature_names_out=False)
