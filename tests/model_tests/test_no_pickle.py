"""No Python of the environment lets MLflow load a pickle, or a file that names types which nobody trusts."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import skops.io

from tests.conftest import HERE, REPOSITORY

MADE = HERE / "models_made_before/stays/model"
LOAD = """
import sys, mlflow.pyfunc, mlflow.sklearn
for folder in sys.argv[1:]:
    for load in (mlflow.pyfunc.load_model, mlflow.sklearn.load_model):
        try:
            print("loaded", hasattr(load(folder), "predict"))
        except Exception as error:
            print("refused", type(error).__name__)
"""


class Harm:
    """Runs a program where it is read back."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return open, (str(self.file), "w")  # type: ignore[return-value]


def smuggled(folder: Path, form: str, harm: Path) -> Path:
    """A version's folder whose model is a pickle, as its MLmodel says."""
    shutil.copytree(MADE, folder)
    described = folder / "MLmodel"
    text = described.read_text().replace("model.skops", "model.pkl").replace("serialization_format: skops", f"serialization_format: {form}")
    described.write_text(text)
    (folder / "model.pkl").write_bytes(pickle.dumps(Harm(harm)))
    return folder


def test_mlflow_loads_our_own_files_and_neither_a_pickle_nor_what_a_file_trusts_by_itself(tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    folders = [MADE, smuggled(tmp_path / "pickle", "pickle", harm), smuggled(tmp_path / "cloudpickle", "cloudpickle", harm)]
    alone = tmp_path / "alone"
    shutil.copytree(MADE, alone)
    skops.io.dump(Namespace(predict=print), alone / "model.skops")
    described = (alone / "MLmodel").read_text()
    (alone / "MLmodel").write_text(described.replace("- collections.OrderedDict", "- argparse.Namespace\n    - builtins.print"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, *map(str, [*folders, alone])],
        env={"PYTHONPATH": str(REPOSITORY / "src"), "HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        *["loaded True"] * 2,
        *["refused MlflowException"] * 4,
        *["refused UntrustedTypesFoundException"] * 2,
    ], done.stderr
    assert not harm.exists()
    opened, words = Harm(harm).__reduce__()
    opened(*words).close()  # type: ignore[attr-defined]
    assert harm.exists(), "it would have been done"
