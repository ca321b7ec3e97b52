"""A stranger's file of parts in a project of its own, from the settings to the served model."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from mlops_pipeline import plugins
from mlops_pipeline.registry.versions import content_digest
from mlops_pipeline.serving.models import Options, load
from mlops_pipeline.serving.source import Found, Unfit
from tests.conftest import REPOSITORY, Project, make_project
from tests.integration_tests.clients import post
from tests.integration_tests.conftest import serving

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("parts")]

EXAMPLES = REPOSITORY / "docs/parts"

OWN_TYPE = '''"""An estimator that is no library's: the share of the late among rows on the same side of a cut."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from mlops_pipeline.plugins import estimator


class Cut(ClassifierMixin, BaseEstimator):
    def __init__(self, at: float = 0.0) -> None:
        self.at = at

    def fit(self, x: Any, y: Any) -> "Cut":
        self.classes_ = np.unique(y)
        above = x[:, 0] > self.at
        self.shares_ = np.array([[np.mean(y[side] == k) for k in self.classes_] for side in (~above, above)])
        return self

    def predict_proba(self, x: Any) -> Any:
        return self.shares_[(x[:, 0] > self.at).astype(int)]

    def predict(self, x: Any) -> Any:
        return self.classes_[self.predict_proba(x).argmax(axis=1)]


@estimator("cut", encoder="ordinal_imputed", trusted=("own.Cut",))
def cut(task: str, seed: int) -> Any:
    """One cut through the first number."""
    return Cut()
'''


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with one file of parts of each kind, all of them used, after one run."""
    project = make_project(tmp_path_factory.mktemp("parts") / "project")
    kinds = ("estimator", "encoder", "metric", "check", "gate_rule")
    (project.folder / "src").mkdir()
    (project.folder / "src/mine.py").write_text("\n\n".join((EXAMPLES / f"{kind}.py").read_text() for kind in kinds[:4]))
    (project.folder / "src/rules.py").write_text((EXAMPLES / "gate_rule.py").read_text())
    (project.folder / "src/spare.py").write_text((EXAMPLES / "metric.py").read_text().replace('"cost"', '"spare"'))
    project.change(
        train={"estimator": "extra_trees", "params": {"trees": 10}, "encoder": "quantiles", "encoder_params": {"bins": 5}},
        tuning={"trials": 2, "metric": "cost", "folds": 2},
        evaluate={"metrics": ["cost"], "metric_params": {"cost": {"miss": 20}}},
        validate={"checks": {"varied": {"at_least": 3}}},
        gate={"rules": {"narrow": {"width": 0.5}}},
        plugins=["src/mine.py", "src/rules.py", "src/spare.py"],
    )
    project.run()
    return project


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def causes(project: Project) -> dict[str, set[str]]:
    """What is said to be changed, and for which stages."""
    text = project.mlops("status", "--config", str(project.config)).stdout
    return {cause: set(stages.split(", ")) for cause, stages in re.findall(r"^  (.+) \((.+)\)$", text, re.MULTILINE)}


def test_each_part_did_its_work(ran: Project) -> None:
    training = read(ran.folder / "models/artifacts/training.json")
    assert training["parts"] == [
        {"kind": "estimator", "name": "extra_trees", "owner": "src/mine.py"},
        {"kind": "encoder", "name": "quantiles", "owner": "src/mine.py"},
    ]
    assert training["params"]["trees"] == 10
    assert training["encoder_params"] == {"bins": 5}
    assert training["tuning"]["trials"] == 2
    assert 1 <= training["params"]["min_leaf"] <= 50
    evaluation = read(ran.folder / "models/artifacts/evaluation/evaluation.json")
    said = pl.read_parquet(ran.folder / "models/artifacts/evaluation/predictions.parquet")
    late = said["probability_1"] >= 0.5
    prices = 20 * (said["late"].cast(bool) & ~late).sum() + (~said["late"].cast(bool) & late).sum()
    assert evaluation["metrics"]["cost"]["value"] == pytest.approx(prices / said.height, abs=1e-6)
    assert 0 < evaluation["metrics"]["cost"]["low"] < evaluation["metrics"]["cost"]["value"] < evaluation["baseline"]["cost"]
    assert "<td>cost</td>" in (ran.folder / "models/artifacts/evaluation/report.html").read_text()
    assert evaluation["onnx"]["accepted"], evaluation["onnx"]["reason"]
    checks = {check["name"]: check for check in read(ran.folder / "data/validation/small.report.json")["checks"]}
    assert checks["varied"] == {"name": "varied", "owner": "src/mine.py", "summary": "Every feature has several values", "failures": 0}
    assert "Every feature has several values" in (ran.folder / "data/validation/small.report.html").read_text()
    rules = {rule["name"]: rule for rule in read(ran.folder / "models/artifacts/registration.json")["rules"]}
    assert rules["narrow"]["text"].startswith("interval of roc_auc at most 0.5 wide: ")
    shown = ran.mlops("models", "show", "--config", str(ran.config)).stdout
    assert rules["narrow"]["text"] in shown


def test_an_edit_makes_stale_what_uses_the_file_and_names_it(ran: Project, tmp_path: Path) -> None:
    project = copied(ran, tmp_path)
    assert causes(project) == {}
    for file, stages in {"spare": (), "rules": ("register",), "mine": ("validate", "train", "evaluate", "register")}.items():
        path = project.folder / f"src/{file}.py"
        path.write_text(path.read_text() + "\n# edited\n")
        assert causes(project).get(f"code: src/{file}.py", set()) == set(stages)
    assert "src/mine.py" in (project.folder / "dvc.yaml").read_text()
    assert "src/spare.py" not in (project.folder / "dvc.yaml").read_text()


def test_a_table_that_a_check_of_ones_own_refuses_is_not_trained_on(ran: Project, tmp_path: Path) -> None:
    project = copied(ran, tmp_path)
    project.change(validate={"checks": {"varied": {"at_least": 4}}})
    done = project.run(check=False)
    assert done.returncode == 2
    assert "first kind: at least 4 distinct values (3 distinct): put kind under features.exclude" in done.stderr
    failure = read(project.folder / "data/validation/small.report.json")["failures"][0]
    assert (failure["column"], failure["seen"]) == ("kind", "3 distinct")


def test_a_rule_of_ones_own_stops_a_version_and_says_why(ran: Project, tmp_path: Path) -> None:
    project = copied(ran, tmp_path)
    project.change(train={"params": {"trees": 11}}, gate={"rules": {"narrow": {"width": 0.001}}}, tuning={"trials": 0})
    said = project.run().stdout
    assert "✗ narrow: interval of roc_auc at most 0.001 wide: " in said
    assert "not promoted" in said


def test_a_type_of_ones_own_is_trusted_where_it_is_declared_and_nowhere_else(ran: Project, tmp_path: Path) -> None:
    project = copied(ran, tmp_path)
    file = project.folder / "own.py"
    file.write_text(OWN_TYPE.replace('trusted=("own.Cut",)', "trusted=()"))
    own = {"train": {"estimator": "cut"}, "gate": {"champion_margin": None, "beat_baseline_by": None}, "plugins": ["src/mine.py", "own.py"]}
    project.config.write_text(yaml.safe_dump({**project.settings(), **own, "tuning": {}}))
    refused = project.run(check=False)
    assert refused.returncode == 2
    assert "own.Cut" in refused.stderr and "trusted=(...)" in refused.stderr and refused.stderr.count("\n") == 1
    file.write_text(OWN_TYPE)
    assert "champion" in project.run().stdout
    champion = project.folder / "models/registry/best_model"
    assert not (champion / "onnx").exists()
    table, written = project.folder / "table.csv", project.folder / "said.csv"
    project.mlops("predict", "--input", str(table), "--output", str(written), "--config", str(project.config))
    assert pl.read_csv(written).height > 300
    served = copied_model(champion, tmp_path)
    found = Found("", content_digest(served), str(served))
    with pytest.raises(Unfit) as caught:
        load("main", str(served), found, served, Options())
    assert str(caught.value) == f"{served}: needs the estimator 'cut' of own.py, which is not here: name its file under plugins:"
    plugins.use(plugins.NamedParts(project.folder, ("own.py",), "pipeline.yaml"))
    try:
        assert load("main", str(served), found, served, Options()).engine.name == "skops"
    finally:
        plugins.use(plugins.NamedParts())
    # The champion's part is gone: the next version cannot be compared with it, and the run says why.
    ours = {"train": {"estimator": "lightgbm", "params": {"n_estimators": 5}}, "gate": {}, "plugins": ["src/mine.py"]}
    project.config.write_text(yaml.safe_dump({**project.settings(), **ours}))
    said = project.run().stdout
    assert "it needs the estimator 'cut' of own.py, which is not here" in said
    assert "not promoted" in said


TWIN = """\n\nfrom mlops_pipeline.config.tree import Frozen
from mlops_pipeline.plugins import ModelFormat


class Off(Frozen):
    by: float = 0.0


class Shifted(Trees.function):
    name = "shifted"

    def __init__(self, folder: Path, contract: Contract, threads: int) -> None:
        super().__init__(folder, contract, threads)
        self._by = read_json(folder / "by.json")

    def predict(self, numbers: np.ndarray | None, categories: np.ndarray | None) -> np.ndarray:
        return super().predict(numbers, categories) + np.float32(self._by)


def save_twin(folder: Path, fitted: Any, contract: Contract, settings: Off) -> None:
    save(folder, fitted, contract)
    write_json(folder / "by.json", settings.by)


TWIN = ModelFormat("shifted", Shifted, "A twin that may be off", settings=Off, save=save_twin, twin=True)
"""


def test_a_model_in_a_format_of_ones_own_is_trained_judged_registered_predicted_and_served(ran: Project, tmp_path: Path) -> None:
    project = copied(ran, tmp_path)
    (project.folder / "src/text.py").write_text((EXAMPLES / "model_format.py").read_text() + TWIN)
    own: dict[str, Any] = {
        "train": {"estimator": "lightgbm", "encoder": "ordinal", "params": {"n_estimators": 12}, "format": "lightgbm_text"},
        "plugins": ["src/text.py"],
        "onnx": {"enabled": False},
        "registry": {"card": {"owner": "Ann, ann@example.org", "limits": "Not for *winter*."}},
        "tuning": {},
        "evaluate": {},
        "validate": {},
        "gate": {"champion_margin": None, "beat_baseline_by": None},
    }
    project.config.write_text(yaml.safe_dump({**project.settings(), **own}))
    assert "champion" in project.run().stdout
    champion = (project.folder / "models/registry/best_model").resolve()
    assert {path.name for path in (champion / "formats/lightgbm_text").iterdir()} == {"trees.txt", "categories.json"}
    assert not (champion / "model.skops").exists() and not (champion / "onnx").exists()
    training = read(champion / "training.json")
    assert {"kind": "format", "name": "lightgbm_text", "owner": "src/text.py"} in training["parts"]
    assert training["model_bytes"] > 1000
    assert training["card"] == {"owner": "Ann, ann@example.org", "intended_use": "", "limits": "Not for *winter*."}
    card = (champion / "MODEL_CARD.md").read_text()
    assert "**Owner.** Ann, ann@example.org\n" in card and "**Limits.** Not for *winter*.\n" in card and "Intended use" not in card
    assert read(champion / "evaluation.json")["importance"]
    table, written = project.folder / "table.csv", project.folder / "said.csv"
    predicted = project.mlops("predict", "--input", str(table), "--output", str(written), "--config", str(project.config)).stdout
    assert "(lightgbm_text)" in predicted
    with serving(project, tmp_path / "server") as server:
        status, said, _ = post(f"{server.url}/predict", {"records": [server.example]})
        assert status == 200 and list(said["predictions"][0]["probabilities"].values()) == pytest.approx(server.expected, abs=1e-6)
    import mlflow.pyfunc

    rows = pl.read_csv(table).head(5)
    plugins.use(plugins.NamedParts(project.folder, ("src/text.py",), "pipeline.yaml"))
    by_mlflow = mlflow.pyfunc.load_model(str(champion)).predict(rows.select(list(training["columns"])).to_pandas())
    plugins.use(plugins.NamedParts())
    assert by_mlflow[:, 1] == pytest.approx(pl.read_csv(written).head(5)[:, -1].to_numpy(), abs=1e-6)
    # Where its file is not named, it is refused in one line, everywhere.
    served = copied_model(champion, tmp_path)
    found = Found("", content_digest(served), str(served))
    with pytest.raises(Unfit) as caught:
        load("main", str(served), found, served, Options())
    assert (
        str(caught.value) == f"{served}: needs the format 'lightgbm_text' of src/text.py, which is not here: name its file under plugins:"
    )
    (served / "formats/lightgbm_text/categories.json").write_text("{}")
    with pytest.raises(Unfit, match="do not match their digest"):
        load("main", str(served), found, served, Options())
    # An edit of its file makes stale what saves and loads it.
    (project.folder / "src/text.py").write_text((project.folder / "src/text.py").read_text() + "\n# edited\n")
    assert causes(project)["code: src/text.py"] == {"train", "evaluate", "register"}
    # Beside a scikit-learn model it is a twin: kept where it agrees, and served where it is known.
    project.change(train={"format": None, "params": {"n_estimators": 13}}, onnx={"twins": {"shifted": {"by": 0.5}}})
    assert "shifted twin, not kept: differs by 0.5 on a held-out row" in project.run().stdout
    assert not (project.folder / "models/registry/best_model/formats").exists()
    project.change(onnx={"twins": {"shifted": None}, "enabled": True})
    assert "shifted twin: agrees within" in project.run().stdout
    champion = (project.folder / "models/registry/best_model").resolve()
    assert read(champion / "evaluation.json")["twins"]["shifted"]["accepted"] is True
    predicted = project.mlops("predict", "--input", str(table), "--output", str(written), "--config", str(project.config)).stdout
    assert "(shifted)" in predicted
    # A server that does not know the twin serves by another format of the version.
    shutil.rmtree(served)
    served = copied_model(champion, tmp_path)
    assert load("main", str(served), Found("", content_digest(served), str(served)), served, Options()).engine.name == "onnx"


def test_a_server_records_in_a_store_of_ones_own_and_the_records_are_shown_from_it(ran: Project, tmp_path: Path) -> None:
    project = copied(ran, tmp_path)
    (project.folder / "src/lines.py").write_text((EXAMPLES / "store.py").read_text())
    record = {"uri": f"lines://{tmp_path}/lines", "settings": {"prefix": "mine"}, "mode": "durable"}
    with serving(project, tmp_path / "server", record=record, plugins=["src/lines.py"]) as server:
        assert post(f"{server.url}/predict", {"records": [server.example] * 2})[0] == 200
    assert [path.name.partition(".")[0] for path in (tmp_path / "lines").iterdir()] == ["mine"]
    config = str(tmp_path / "server/serving.yaml")
    shown = project.mlops("records", "show", "--config", config, "--limit", "5").stdout
    assert shown.count("champion 1") == 2
    project.mlops("records", "export", "--config", config, "--output", str(tmp_path / "all.csv"))
    assert pl.read_csv(tmp_path / "all.csv").height == 2
    schema = json.loads(project.mlops("config", "--serving", "--schema", "--config", config).stdout)
    assert "lines" in schema["$defs"]["Record"]["properties"]["store"]["anyOf"][0]["enum"]
    listed = json.loads(project.mlops("parts", "--json", "--config", str(project.config)).stdout)
    assert not [part for part in listed if part["name"] == "lines"]  # the server's settings name it, the pipeline's do not
    assert causes(project) == {}


def copied(ran: Project, folder: Path) -> Project:
    shutil.copytree(ran.folder, folder / "project", symlinks=True)
    return Project(folder / "project", folder / "project" / ran.config.name)


def copied_model(champion: Path, folder: Path) -> Path:
    shutil.copytree(champion.resolve(), folder / "served")
    return folder / "served"
