"""A scikit-learn model goes into MLflow's registry and comes back by its address."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

TRUSTED = ["sklearn.tree._tree.Tree"]
"""What a forest is made of beyond skops's own list."""


@pytest.fixture
def tracking_uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty MLflow store on SQLite; artifacts lie beside it."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    # MLflow writes what it is told into the environment; this way it is taken out again.
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, uri)
    monkeypatch.chdir(tmp_path)
    for logger in ("mlflow", "alembic"):
        monkeypatch.setattr(logging.getLogger(logger), "level", logging.ERROR)
    return uri


def test_a_registered_scikit_learn_model_loads_by_its_address_and_predicts(tracking_uri: str, tmp_path: Path) -> None:
    import mlflow
    import mlflow.sklearn
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    x, y = load_iris(return_X_y=True, as_frame=True)
    model = RandomForestClassifier(n_estimators=10, random_state=0).fit(x, y)
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(tracking_uri)
    experiment = mlflow.create_experiment("registration", artifact_location=(tmp_path / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name="example-model",
            serialization_format="skops",
            skops_trusted_types=TRUSTED,
            input_example=x.head(2),
            pip_requirements=["scikit-learn"],
        )
    assert str(logged.registered_model_version) == "1"
    loaded = mlflow.sklearn.load_model("models:/example-model/1")
    np.testing.assert_array_equal(loaded.predict_proba(x), model.predict_proba(x))
    assert mlflow.pyfunc.load_model("models:/example-model/1").predict(x.head(3)).tolist() == y.head(3).tolist()
    assert not list((tmp_path / "artifacts").rglob("*.pkl"))


def test_a_model_of_types_that_nobody_named_is_not_saved(tracking_uri: str, tmp_path: Path) -> None:
    import mlflow.sklearn
    from mlflow.exceptions import MlflowException
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(n_estimators=2, random_state=0).fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(MlflowException, match=r"sklearn\.tree\._tree\.Tree"):
        mlflow.sklearn.save_model(model, str(tmp_path / "model"), serialization_format="skops", pip_requirements=["scikit-learn"])
