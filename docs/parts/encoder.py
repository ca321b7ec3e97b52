"""A feature encoder of one's own: numbers in eight bins of equally many training rows, a column for each category."""

from typing import Any

from mlops_pipeline.config.dataset import Column
from mlops_pipeline.plugins import encoder


@encoder("quantiles")
def quantiles(features: dict[str, Column]) -> Any:
    """Numbers in eight bins of equally many rows, a column for each category."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder

    numbers = [name for name, column in features.items() if column.kind != "category"]
    categories = [name for name, column in features.items() if column.kind == "category"]
    binned = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True),
        KBinsDiscretizer(8, encode="ordinal", quantile_method="averaged_inverted_cdf"),
    )
    steps = [("numbers", binned, numbers), ("categories", OneHotEncoder(handle_unknown="ignore", sparse_output=False), categories)]
    return ColumnTransformer([step for step in steps if step[2]], verbose_feature_names_out=False)
