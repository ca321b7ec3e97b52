"""An estimator of one's own: extremely randomised trees."""

from typing import Any

from pydantic import Field

from mlops_pipeline.config.tree import Frozen
from mlops_pipeline.plugins import estimator


class Trees(Frozen):
    """What train.params may hold for it."""

    trees: int = Field(100, ge=1, le=10_000, description="how many")
    min_leaf: int = Field(3, ge=1, description="rows in the smallest leaf")


def search(trial: Any) -> dict[str, Any]:
    """Where tuning looks for better settings."""
    return {"min_leaf": trial.suggest_int("min_leaf", 1, 50, log=True)}


@estimator("extra_trees", settings=Trees, search=search, encoder="ordinal_imputed")
def extra_trees(task: str, seed: int, settings: Trees) -> Any:
    """Extremely randomised trees, averaged."""
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    kind = ExtraTreesRegressor if task == "regression" else ExtraTreesClassifier
    return kind(n_estimators=settings.trees, min_samples_leaf=settings.min_leaf, random_state=seed)
