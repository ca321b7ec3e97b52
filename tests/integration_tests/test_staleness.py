"""A stage runs again when, and only when, something it depends on changed; and the cause is named."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlops_pipeline.files import read_json
from tests.conftest import REPOSITORY, Project, checked, forking, make_project, process_environment
from tests.forked import OURS, Forking

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("staleness")]

STAGES = ("ingest", "validate", "split", "train", "evaluate", "register")


@dataclass(frozen=True)
class Clone(Project):
    """A project that carries the package's own source, and a process that has imported it from there."""

    imported: Forking

    @property
    def environ(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.folder / "src")}

    def mlops(self, *arguments: str, check: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
        return self._forked("mlops_pipeline", arguments, check, environ)

    def repro(self, *arguments: str) -> str:
        return self._forked("dvc", ("repro", *arguments), True, {}).stdout

    def _forked(self, module: str, arguments: tuple[str, ...], check: bool, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
        given = process_environment(**self.environ, **environ)
        done = self.imported.run(self.folder, module=module, arguments=arguments, environ=given)
        assert done is not None
        return checked((module, *arguments), done, check)


@pytest.fixture(scope="module")
def ran_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """A project that carries the package's own source, as a user's clone does, after one run; as it was then, it lies beside."""
    project = make_project(tmp_path_factory.mktemp("ran") / "project")
    shutil.copytree(REPOSITORY / "src", project.folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(REPOSITORY / "requirements.txt", project.folder)
    environ = process_environment(PYTHONPATH=str(project.folder / "src"))
    clone = Clone(project.folder, project.config, Forking(environ, OURS, forking()))
    run(clone)
    clone.folder.rename(kept(clone))
    yield clone
    clone.imported.end()


def kept(clone: Clone) -> Path:
    return clone.folder.with_name("kept")


@pytest.fixture
def ran(ran_once: Clone) -> Clone:
    """The same for one test alone, where it has run."""
    shutil.rmtree(ran_once.folder, ignore_errors=True)
    shutil.copytree(kept(ran_once), ran_once.folder, symlinks=True)
    return ran_once


def run(project: Clone, *arguments: str, check: bool = True, **environ: str) -> str:
    """``mlops run`` with the project's own copy of the package."""
    done = project.run(*arguments, check=check, **environ)
    return done.stdout + done.stderr


def status(project: Clone) -> str:
    return project.mlops("status", "--config", str(project.config)).stdout


def stale(text: str) -> set[str]:
    return {stage for stage in STAGES if f"▸ {stage}" in text}


def test_nothing_changed_means_nothing_runs_here_or_under_dvc(ran: Clone) -> None:
    assert stale(status(ran)) == set()
    assert stale(run(ran)) == set()
    repro = ran.repro()
    assert repro.count("didn't change, skipping") == len(STAGES)


def test_dvc_repro_and_mlops_run_do_each_others_work(ran: Clone) -> None:
    ran.change(train={"params": {"n_estimators": 12}})
    repro = ran.repro()
    assert "Running stage 'train'" in repro
    assert "Running stage 'ingest'" not in repro
    assert stale(run(ran)) == set()


def test_a_changed_setting_is_named_with_its_old_and_new_value(ran: Clone) -> None:
    ran.change(train={"params": {"n_estimators": 11}})
    said = status(ran)
    assert stale(said) == {"train"}
    assert "settings: train.params.n_estimators: 20 → 11" in said
    assert stale(run(ran)) == {"train", "evaluate", "register"}


def test_a_rule_of_the_gate_that_is_switched_off_is_noticed(ran: Clone) -> None:
    ran.change(gate={"champion_margin": None})
    said = status(ran)
    assert stale(said) == {"register"}
    assert "settings: gate.champion_margin: unset → null" in said


def test_where_something_is_kept_makes_no_stage_stale(ran: Clone) -> None:
    before = (ran.folder / "dvc.lock").read_text()
    ran.change(tuning={"storage": "sqlite:///trials.db"}, features={"state": "postgresql://host/db"})
    assert stale(status(ran)) == set()
    assert stale(run(ran)) == set()
    assert (ran.folder / "dvc.lock").read_text() != before
    repro = ran.repro()
    assert repro.count("didn't change, skipping") == len(STAGES)
    ran.change(tuning={"storage": "sqlite:///trials.db", "folds": 4})
    assert stale(status(ran)) == {"train"}


def test_changed_data_is_named_by_file(ran: Clone) -> None:
    table = ran.folder / "table.csv"
    table.write_text(table.read_text() + "0.5,10.0,a,2024-03-01,1\n")
    said = status(ran)
    assert "data: table.csv" in said
    assert {"ingest", "validate", "split"} <= stale(run(ran))


def test_an_edit_in_a_shared_module_reruns_the_stages_that_use_it_and_no_others(ran: Clone) -> None:
    gate = ran.folder / "src/mlops_pipeline/modelling/gate.py"
    gate.write_text(gate.read_text() + "\n# edited\n")
    said = status(ran)
    assert stale(said) == {"register"}
    assert "code: src/mlops_pipeline/modelling/gate.py" in said
    assert stale(run(ran)) == {"register"}
    estimators = ran.folder / "src/mlops_pipeline/modelling/estimators.py"
    estimators.write_text(estimators.read_text() + "\n# edited\n")
    assert {"train", "evaluate"} <= stale(status(ran))
    assert not stale(status(ran)) & {"ingest", "validate", "split"}


def test_a_changed_lock_is_the_environment(ran: Clone) -> None:
    lock = ran.folder / "requirements.txt"
    lock.write_text(lock.read_text() + "\n# another environment\n")
    assert "environment: requirements.txt" in status(ran)


def test_a_missing_output_is_noticed_and_restored_from_the_cache_or_made_again(ran: Clone) -> None:
    (ran.folder / "data/processed/small.train.parquet").unlink()
    assert "output missing: data/processed/small.train.parquet" in status(ran)
    assert "restored from the DVC cache" in run(ran)
    (ran.folder / "data/processed/small.train.parquet").unlink()
    shutil.rmtree(ran.folder / ".dvc/cache")
    assert "split" in stale(run(ran))
    assert (ran.folder / "data/processed/small.train.parquet").is_file()


def test_a_fresh_clone_without_the_cache_runs_everything_to_the_same_lock(ran: Clone) -> None:
    lock = (ran.folder / "dvc.lock").read_text()
    for place in ("data/raw", "data/processed", "models", ".dvc/cache", "mlflow"):
        shutil.rmtree(ran.folder / place)
    for report in (ran.folder / "data/validation").glob("*.report.*"):
        report.unlink()
    said = run(ran)
    assert stale(said) == set(STAGES)
    assert "output missing: data/raw/small.parquet" in said
    assert (ran.folder / "dvc.lock").read_text() == lock


def test_a_registry_that_lost_the_model_gets_it_again_without_training(ran: Clone) -> None:
    shutil.rmtree(ran.folder / "mlflow")
    said = run(ran)
    assert stale(said) == {"register"}
    assert "registry: small does not hold this model" in said
    assert "small version 1: champion" in said
    elsewhere = ran.folder / "elsewhere.db"
    said = run(ran, MLFLOW_TRACKING_URI=f"sqlite:///{elsewhere}")
    assert stale(said) == {"register"}
    assert "small version 1: champion" in said
    assert stale(run(ran, MLFLOW_TRACKING_URI=f"sqlite:///{elsewhere}")) == set()


def test_a_deleted_best_model_comes_back(ran: Clone) -> None:
    shutil.rmtree(ran.folder / "models/registry/best_model")
    assert stale(run(ran)) == {"register"}
    assert (ran.folder / "models/registry/best_model/MLmodel").is_file()


def test_a_broken_lock_is_told_with_what_mends_it(ran: Clone) -> None:
    lock = ran.folder / "dvc.lock"
    whole = lock.read_bytes()
    for broken in (b"", whole[:700] + b": ["):
        lock.write_bytes(broken)
        refused = run(ran, check=False)
        assert "dvc.lock" in refused
        assert "restore it with `git checkout dvc.lock`, or delete it and `mlops run` runs every stage" in refused
        assert "dvc init" not in refused
        assert refused.count("\n") == 1
    lock.unlink()
    assert stale(run(ran)) == set(STAGES)


def test_a_stage_to_stop_at_before_the_one_to_begin_with_is_refused(ran: Clone) -> None:
    said = run(ran, "--from", "register", "--to", "train", check=False)
    assert said == "error: --to train: comes before --from register: name register or a stage after it\n"


def test_status_ticks_no_stage_that_waits_for_a_stale_one(ran: Clone) -> None:
    ran.change(train={"params": {"n_estimators": 11}})
    said = status(ran)
    assert "✓ split" in said
    assert "· evaluate  runs if train makes something new" in said
    assert "✓ evaluate" not in said


def test_an_as_of_is_an_input_of_the_pipeline_that_every_command_keeps_and_says(ran: Clone) -> None:
    ran.change(split={"test_from": None, "test_last": "2w"})
    said = run(ran, "--to", "split", "--as-of", "2024-03-15")
    assert "settings: as-of: newest → 2024-03-15" in said
    assert "as of 2024-03-15" in said
    assert "held out are 2w before 2024-03-15 (--as-of)" in said
    report = read_json(ran.folder / "data/processed/small.split.json")
    assert report["test_span"] == "2024-03-01 to 2024-03-14"
    # Whoever comes next sees the same rows: DVC, the same command without the option, and it is said each time.
    repro = ran.repro("split")
    assert repro.count("didn't change, skipping") == 3
    said = run(ran, "--to", "split")
    assert stale(said) == set()
    assert "as of 2024-03-15: rows from then on are not seen" in said
    assert "as of 2024-03-15" in status(ran)
    said = run(ran, "--to", "split", "--as-of", "newest")
    assert "settings: as-of: 2024-03-15 → newest" in said
    assert "held out are 2w up to the newest row, 2024-04-09" in said
    assert read_json(ran.folder / "data/processed/small.split.json")["test_span"] == "2024-03-27 to 2024-04-09"
    assert "as of" not in run(ran, "--to", "split")
    refused = run(ran, "--as-of", "October", check=False)
    assert "--as-of October: is no moment: write a date, 2013-10-01" in refused
