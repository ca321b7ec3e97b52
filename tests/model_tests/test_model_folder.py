"""A model folder holds no code of anyone's: only types of this pipeline are loaded, and equal models are equal bytes."""

from __future__ import annotations

import io
import pickle
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import mlflow.utils.environment
import pytest
import skops.io
from mlflow.exceptions import MlflowException
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from mlops_pipeline import plugins
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.modelling.formats.skops import CHECK_OF_REQUIREMENTS, SKOPS_FILE, _canonical_skops, load_model, save_model
from mlops_pipeline.modelling.formats.version import size_in_bytes
from tests.model_tests.workbench import PROBLEMS, fitted, model_digest, save


class Stranger(FunctionTransformer):  # type: ignore[misc]
    """A type that nobody has vouched for."""


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(PipelineError) as caught:
        load_model(folder)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(fitted("dummy", PROBLEMS["binary"])[0]))
    refused(tmp_path, SKOPS_FILE, "never a pickle")


class Trap:
    """Whoever unpickles it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def test_a_pickle_under_the_right_name_is_refused_and_not_run(tmp_path: Path) -> None:
    (tmp_path / SKOPS_FILE).write_bytes(pickle.dumps(Trap(tmp_path / "mark")))
    refused(tmp_path, SKOPS_FILE)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short"], ids=["empty", "cut short"])
def test_a_damaged_file_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / SKOPS_FILE).write_bytes(content)
    refused(tmp_path, SKOPS_FILE)


def test_an_archive_that_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / SKOPS_FILE, "w") as archive:
        archive.writestr("else.txt", "nothing")
    refused(tmp_path, SKOPS_FILE)


def test_a_type_that_is_not_ours_is_refused_and_named(tmp_path: Path) -> None:
    skops.io.dump(Pipeline([("strange", Stranger())]), tmp_path / SKOPS_FILE)
    refused(tmp_path, "Stranger", "not made by this pipeline")


def test_a_function_that_would_be_run_on_every_row_is_refused_and_named(tmp_path: Path) -> None:
    import os

    skops.io.dump(Pipeline([("run", FunctionTransformer(os.system))]), tmp_path / SKOPS_FILE)
    refused(tmp_path, "system", "not made by this pipeline")


def test_a_model_of_a_type_that_is_not_trusted_cannot_be_saved_and_found_out_later(tmp_path: Path) -> None:
    model, x, _ = fitted("dummy", PROBLEMS["binary"])
    model.steps.insert(1, ("strange", Stranger()))
    with pytest.raises(Exception, match="Stranger"):
        save_model(tmp_path / "model", model, x.head(5), x.head(3), "binary", [])


@pytest.mark.parametrize("name", ["random_forest", "hist_gradient_boosting", "lightgbm"])
def test_the_weights_file_does_not_depend_on_where_objects_lay_in_memory(name: str, tmp_path: Path) -> None:
    model, _, _ = fitted(name, PROBLEMS["multiclass"])
    crowd, contents = [], []
    for count in range(3):
        crowd.append([object() for _ in range(10_000)])
        skops.io.dump(pickle.loads(pickle.dumps(model)), tmp_path / SKOPS_FILE)  # noqa: S301  # our own, to move it in memory
        _canonical_skops(tmp_path / SKOPS_FILE)
        contents.append((tmp_path / SKOPS_FILE).read_bytes())
        assert len(crowd) == count + 1
    assert contents[0] == contents[1] == contents[2]


def test_a_canonical_file_stays_as_it_is(tmp_path: Path) -> None:
    model, x, _ = fitted("lightgbm", PROBLEMS["binary"])
    save(tmp_path / "model", "lightgbm", model, x, "binary")
    before = (tmp_path / "model" / SKOPS_FILE).read_bytes()
    _canonical_skops(tmp_path / "model" / SKOPS_FILE)
    assert (tmp_path / "model" / SKOPS_FILE).read_bytes() == before
    with zipfile.ZipFile(io.BytesIO(before)) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_digest_is_of_the_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        model, x, _ = fitted("random_forest", PROBLEMS["binary"], seed=seed)
        save(tmp_path / name, "random_forest", model, x, "binary")
    assert model_digest(tmp_path / "a") == model_digest(tmp_path / "b") != model_digest(tmp_path / "c")
    form = plugins.part(plugins.ModelFormat, "skops")
    assert size_in_bytes(tmp_path / "a", form) == (tmp_path / "a" / SKOPS_FILE).stat().st_size > 0


def test_mlflow_does_not_look_through_what_is_installed_and_if_it_did_nothing_would_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails at its first line, MLflow has renamed a function: name the new one, or take 0.3 s of a core more for each save."""
    assert callable(getattr(mlflow.utils.environment, CHECK_OF_REQUIREMENTS, None))
    model, x, _ = fitted("random_forest", PROBLEMS["binary"])
    asked: list[object] = []
    monkeypatch.setattr(mlflow.utils.environment, CHECK_OF_REQUIREMENTS, asked.append)
    save(tmp_path / "spared", "random_forest", model, x, "binary")
    assert not asked
    monkeypatch.setattr("mlops_pipeline.modelling.formats.skops.CHECK_OF_REQUIREMENTS", "of_another_name")
    save(tmp_path / "asked", "random_forest", model, x, "binary")
    assert len(asked) == 1
    files = [{file.name: file.read_bytes() for file in (tmp_path / name).iterdir() if file.is_file()} for name in ("spared", "asked")]
    assert files[0] == files[1]


def test_mlflow_itself_takes_a_truth_as_a_number_and_no_word_for_one(tmp_path: Path) -> None:
    """As docs/rows.md says: it holds rows to its signature, in which a boolean column is one of numbers, before a model sees them."""
    model, x, _ = fitted("random_forest", PROBLEMS["binary"])
    save(tmp_path / "model", "random_forest", model, x, "binary")
    loaded, rows = mlflow.pyfunc.load_model(str(tmp_path / "model")), x.dropna().head(4)
    assert loaded.predict(rows.assign(flag=rows["flag"].astype(int))).tolist() == loaded.predict(rows).tolist()
    for refused_as in (rows["flag"].map({0.0: "no", 1.0: "yes"}), rows["flag"].astype(bool)):
        with pytest.raises(MlflowException, match="flag"):
            loaded.predict(rows.assign(flag=refused_as))


@pytest.mark.parametrize("name", ["lightgbm", "random_forest"])
def test_a_model_asks_for_the_libraries_it_was_fitted_with_and_for_no_other_estimators(name: str, tmp_path: Path) -> None:
    problem = PROBLEMS["binary"]
    model, x, _ = fitted(name, problem)
    save(tmp_path / "model", name, model, x, problem.task)
    wanted = dict(line.split("==") for line in (tmp_path / "model/requirements.txt").read_text().split())
    assert {"numpy", "scikit-learn", "skops"} < set(wanted)
    assert ("lightgbm" in wanted) == (name == "lightgbm")
    assert {library: version(library) for library in wanted} == wanted
