"""A model on disk: a complete MLflow model folder, without pickle, the same bytes for the same model."""

from __future__ import annotations

import json
import logging
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_pipeline import plugins
from mlops_pipeline.config.dataset import Task
from mlops_pipeline.contract.spec import AS_TEXT, Contract
from mlops_pipeline.contract.task import has_classes
from mlops_pipeline.errors import PipelineError, one_line

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

SKOPS_FILE = "model.skops"

LARGE = 16 * 2**20
"""Bytes of an array that is written as it is."""

TRUSTED_TYPES = (
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "mlops_pipeline.modelling.blend.Blend",
    "mlops_pipeline.modelling.centred.Centred",
    "mlops_pipeline.modelling.encoders.Moments",
    "mlops_pipeline.modelling.network_estimators.NetworkClassifier",
    "mlops_pipeline.modelling.network_estimators.NetworkRegressor",
    "mlops_pipeline.modelling.sentences.FineTunedEmbeddings",
    "mlops_pipeline.modelling.sentences.SentenceEmbeddings",
    "mlops_pipeline.modelling.texts.WeightedNgrams",
    "mlops_pipeline.modelling.trended.Trended",
    "numpy.dtype",
    "sklearn._loss.link.HalfLogitLink",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
)
"""Types beyond skops's own list that our estimators are made of. Fixed here and in plugins: a file never says what it may load."""

CHECK_OF_REQUIREMENTS = "warn_dependency_requirement_mismatches"
"""What MLflow calls its own, which is not public."""

UNDATED: dict[str, Any] = {"utc_time_created": "1970-01-01 00:00:00.000000", "model_uuid": "0" * 32}
"""What MLflow would draw anew for equal models."""


def save_model(
    folder: Path,
    model: Pipeline,
    sample: pd.DataFrame,
    example: pd.DataFrame,
    task: Task,
    requirements: list[str],
    trusted: Sequence[str] = (),
) -> None:
    """Write an MLflow model (scikit-learn flavour in skops format) with signature and input example.

    ``sample`` is a few raw rows, which are not kept; every null in it makes its column optional. ``example`` is kept.
    Times and identifiers that MLflow would draw anew are fixed, so that equal models are equal folders. ``trusted`` are types that the
    model's parts name beyond ours.
    Raises :class:`PipelineError` for a type that nobody trusts.
    """
    import mlflow.sklearn
    from mlflow.models import Model, infer_signature

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    outputs = model.predict(sample) if not has_classes(task) else model.predict_proba(sample)
    with warnings.catch_warnings(), _types_named(), _requirements_unchecked():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(
            model,
            str(folder),
            mlflow_model=Model(**UNDATED),
            serialization_format="skops",
            skops_trusted_types=[*TRUSTED_TYPES, *trusted],
            signature=infer_signature(sample, outputs),
            input_example=example,
            conda_env=environment(requirements),
            pyfunc_predict_fn="predict" if not has_classes(task) else "predict_proba",
        )
    _canonical_skops(folder / SKOPS_FILE)
    true_size(folder)


def environment(requirements: list[str]) -> dict[str, Any]:
    """What MLflow needs to load a model elsewhere."""
    python = ".".join(map(str, sys.version_info[:2]))
    return {"name": "model", "channels": ["conda-forge"], "dependencies": [f"python={python}", "pip", {"pip": requirements}]}


@contextmanager
def _requirements_unchecked() -> Iterator[None]:
    """Spare 0.3 s of a core: MLflow asks every installed package for its modules, for a warning that is not shown here.

    No setting of MLflow's leaves that out. Where its function has another name, it is asked, and all else is the same.
    """
    from mlflow.utils import environment as of_mlflow

    check = getattr(of_mlflow, CHECK_OF_REQUIREMENTS, None)
    if check is None:
        yield
        return
    setattr(of_mlflow, CHECK_OF_REQUIREMENTS, lambda _: None)
    try:
        yield
    finally:
        setattr(of_mlflow, CHECK_OF_REQUIREMENTS, check)


@contextmanager
def _types_named() -> Iterator[None]:
    """Say of a type that nobody trusts where to name it."""
    from mlflow.exceptions import MlflowException
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        yield
    except MlflowException as error:
        cause = error.__cause__ or error.__context__
        if not isinstance(cause, UntrustedTypesFoundException):
            raise
        raise PipelineError(
            f"train.estimator: the model is made of types that nobody trusts ({_untrusted(cause)}): name them where the part is declared, "
            "trusted=(...), if they may be loaded"
        ) from error


def _untrusted(error: Exception) -> str:
    """The types that skops refuses, out of its message, which goes on for pages."""
    names = re.search(r"\[(.*?)\]", str(error))
    return one_line(names[1].replace("'", "") if names else error)


def load_model(folder: Path) -> Pipeline:
    """Load the scikit-learn pipeline of a model folder.

    Raises :class:`PipelineError` if it is damaged, or for any type not trusted here.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    path = folder / SKOPS_FILE
    if not path.is_file():
        raise PipelineError(f"{folder}: holds no {SKOPS_FILE}: only models of this pipeline are loaded, never a pickle")
    try:
        model: Pipeline = skops.io.load(path, trusted=[*TRUSTED_TYPES, *plugins.trusted_types()])
    except UntrustedTypesFoundException as error:
        raise PipelineError(
            f"{path}: is made of types that nobody trusts here ({_untrusted(error)}): it was not made by this pipeline, or by a part "
            "whose file the settings do not name: add that file to their list `plugins`"
        ) from error
    except (OSError, KeyError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise PipelineError(f"{path}: is no skops model ({one_line(error)}): fetch it anew, or train again") from error
    return model


def guard(flavour: Any) -> None:
    """Teach MLflow's module of scikit-learn models to load skops files where it is to load no pickle (``environment.SAFE``).

    MLflow lets a file itself say which types it may load, and so takes skops for no safer than pickle. Here a file's word counts
    only for types that are trusted anyhow; any other is refused, and so is a pickle.
    """
    theirs = flavour._load_model_from_local_file

    @wraps(theirs)
    def load(path: str, serialization_format: str, skops_trusted_types: Sequence[str] | None = None) -> Any:
        from mlflow.environment_variables import MLFLOW_ALLOW_PICKLE_DESERIALIZATION

        if serialization_format != "skops" or MLFLOW_ALLOW_PICKLE_DESERIALIZATION.get():
            return theirs(path, serialization_format, skops_trusted_types)
        import skops.io

        trusted = {*TRUSTED_TYPES, *plugins.trusted_types()}
        return skops.io.load(path, trusted=sorted(trusted.intersection(skops_trusted_types or ())))

    flavour._load_model_from_local_file = load


class SkopsEngine:
    """The scikit-learn pipeline itself, for a version whose twin was not accepted; needs the training libraries."""

    name = "skops"
    precision = np.float64

    def __init__(self, model: Pipeline, contract: Contract) -> None:
        from mlops_pipeline.modelling.centred import is_centred

        self.fitted: Any = model
        names = sorted(contract.columns, key=lambda name: contract.columns[name].kind in AS_TEXT)
        self._names, self._classes = names, contract.kind.has_classes
        # Values far from zero would be lost in 32 bits.
        self._precision = np.float64 if is_centred(model.named_steps["model"]) else np.float32

    def predict(self, numbers: np.ndarray | None, categories: np.ndarray | None) -> np.ndarray:
        """Class probabilities, float32 (rows, classes), or values, float32 (rows,), float64 if they are far from zero."""
        import pandas as pd

        columns = [part[:, k] for part in (numbers, categories) if part is not None for k in range(part.shape[1])]
        frame = pd.DataFrame(dict(zip(self._names, columns, strict=True)))
        said = self.fitted.predict_proba(frame) if self._classes else self.fitted.predict(frame)
        return np.ascontiguousarray(said, dtype=self._precision)


def skops_engine(folder: Path, contract: Contract, threads: int) -> SkopsEngine:  # noqa: ARG001  # scikit-learn takes every core by itself
    """The engine of a folder's scikit-learn pipeline."""
    return SkopsEngine(load_model(folder), contract)


def _canonical_skops(path: Path) -> None:
    """Rewrite a skops file so that equal models have equal bytes.

    skops numbers objects by their memory address and stamps the archive with the time (skops.io._utils.SaveContext);
    here they are numbered in the order in which they appear, and the time is fixed.
    """
    with zipfile.ZipFile(path) as archive:
        schema = json.loads(archive.read("schema.json"))
        members = {name: archive.read(name) for name in archive.namelist() if name != "schema.json"}
    numbers: dict[int, int] = {}
    renamed: dict[str, str] = {}

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("__id__"), int):
                node["__id__"] = numbers.setdefault(node["__id__"], len(numbers))
            file = node.get("file")
            if isinstance(file, str) and file in members:
                node["file"] = renamed.setdefault(file, f"{len(renamed)}{Path(file).suffix}")
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(schema)
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for old, new in renamed.items():
            # Weights of an encoder become no smaller, and take seconds.
            archive.writestr(_member(new), members[old], zipfile.ZIP_STORED if len(members[old]) > LARGE else None)
        archive.writestr(_member("schema.json"), json.dumps(schema))


def true_size(folder: Path) -> None:
    """MLflow noted the folder's size before the skops file was made canonical, when it differs by a byte from one time to the next."""
    described = folder / "MLmodel"
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file != described)
    text = re.sub(r"^model_size_bytes: \d+$", f"model_size_bytes: {size}", described.read_text(encoding="utf-8"), flags=re.MULTILINE)
    described.write_text(text, encoding="utf-8")


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    return info
