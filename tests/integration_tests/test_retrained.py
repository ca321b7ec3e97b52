"""New rows every month: one command trains again on a window that has moved, judges it fairly, and serves a fit on all rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mlops_pipeline.contract.reference import FILE as REFERENCE
from mlops_pipeline.files import read_json
from mlops_pipeline.inference.scorer import load_scorer
from mlops_pipeline.monitoring.reference import reference_at
from mlops_pipeline.registry.admission import ADMITTED_TAG, IDENTITY_TAG, WAITS_TAG
from mlops_pipeline.registry.versions import CONTENT_TAG, JUDGED_MODEL_TAG, MODEL_TAG, Version, content_digest
from tests.conftest import Project, forking, make_project
from tests.integration_tests.conftest import mlflow_client
from tests.model_tests.workbench import model_digest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("retrained")]

LATER = "2024-03-26"
"""Rows from this day on come later."""


DECIDED_MEANWHILE = """
import sys
from filelock import FileLock
from mlops_pipeline.modelling import refit as place
original = place.refit
def refit(*arguments, **named):
    with FileLock(sys.argv[2], timeout=0):
        print("others could decide")
    return original(*arguments, **named)
place.refit = refit
from mlops_pipeline.cli import main
main(["run", "--config", sys.argv[1]])
"""
"""A run in which another process could decide on the champion when a fit on all rows begins, which may take hours."""


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has trained on what there was before, served as a fit on all of it."""
    project = make_project(tmp_path_factory.mktemp("early") / "project")
    table = pl.read_csv(project.folder / "table.csv")
    table.write_csv(project.folder / "whole.csv")
    table.filter(pl.col("day") < LATER).write_csv(project.folder / "table.csv")
    project.change(
        split={"test_from": None, "test_last": "2w"},
        registry={"refit_on_all": True},
        gate={"champion_margin": 1.0, "beat_baseline_by": None},
    )
    project.run()
    return project


def best(project: Project) -> Path:
    return project.folder / "models/registry/best_model"


def contract(project: Project, place: str = "models/registry/best_model") -> dict[str, Any]:
    return read_json(project.folder / place / "training.json")


def versions(project: Project) -> list[Any]:
    from mlops_pipeline.config.pipeline import load_settings
    from mlops_pipeline.layout import layout_of
    from mlops_pipeline.registry.champion import registered_model

    settings = load_settings(project.config)
    return registered_model(settings, layout_of(settings, project.config, project.folder)).versions()


def test_what_is_served_was_fitted_on_all_rows_and_says_whose_figures_it_shows(early: Project) -> None:
    served, judged = contract(early), read_json(early.folder / "models/artifacts/training.json")
    split = read_json(early.folder / "data/processed/small.split.json")
    assert served["train_rows"] == split["train_rows"] + split["test_rows"]
    assert served["params"] == judged["params"]
    assert (served["fitted_until"], judged["fitted_until"]) == ("2024-03-25", "2024-03-11")
    assert served["judged_sha256"] == judged["model_sha256"] != served["model_sha256"]
    # Later rows are compared with those that it was fitted on; what it says was judged on those held out before.
    summary = reference_at(best(early))
    assert (summary.rows, summary.held_out) == (served["train_rows"], split["test_rows"])
    assert list(summary.columns) == list(served["columns"])
    # What is expected of it, its twin and its digests are those of what is served; the judged fit lies beside it.
    assert load_scorer(best(early)).engine.name == "onnx"
    assert model_digest(best(early) / "judged") == judged["model_sha256"]
    (version,) = versions(early)
    assert version.content_sha256 == content_digest(best(early))
    assert version.tags[MODEL_TAG] == served["model_sha256"]
    assert version.tags[JUDGED_MODEL_TAG] == judged["model_sha256"]
    card = (best(early) / "MODEL_CARD.md").read_text()
    assert "These figures are not those of the weights that are served" in card
    evaluation = read_json(best(early) / "evaluation.json")
    assert evaluation["refit"]["rows"] == served["train_rows"]
    assert evaluation["test_sha256"] == split["test_sha256"]
    # Once more, stale or not: nothing new is made.
    early.run("--from", "register")
    assert [one.content_sha256 for one in versions(early)] == [version.content_sha256]


def made_before(project: Project) -> Version:
    """The project's version as it would be if it had been registered before the digest covered every file, without a summary."""
    (version,) = versions(project)
    client = mlflow_client(project)
    for tag in (IDENTITY_TAG, ADMITTED_TAG):
        client.delete_model_version_tag("small", "1", tag)
    client.set_model_version_tag("small", "1", CONTENT_TAG, version.identity_sha256)
    kept = project.folder / "models/versions"
    (kept / version.content_sha256[:16]).rename(kept / version.identity_sha256[:16])
    (Path(version.location.removeprefix("file://")) / REFERENCE).unlink()
    return versions(project)[0]


def test_a_version_of_before_gets_its_summary_by_one_command(early: Project) -> None:
    version = made_before(early)
    places = [best(early) / REFERENCE, early.folder / "models/versions" / version.content_sha256[:16] / REFERENCE]
    (content,) = {place.read_bytes() for place in places}
    for place in places:
        place.unlink()
    done = early.mlops("monitor", "reference", "--config", str(early.config))
    assert f"small version 1: 3 columns over {contract(early)['train_rows']} rows" in done.stdout
    assert {place.read_bytes() for place in places} == {content}
    assert "small version 1 has one" in early.mlops("monitor", "reference", "--version", "1", "--config", str(early.config)).stdout
    places[1].unlink()
    test = early.folder / "data/processed/small.test.parquet"
    kept = test.read_bytes()
    pl.read_parquet(test).head(9).write_parquet(test)
    refused = early.mlops("monitor", "reference", "--config", str(early.config), check=False)
    test.write_bytes(kept)
    assert refused.returncode == 2
    assert "small.test.parquet: holds other rows than those that small version 1 was made of" in refused.stderr
    places[1].write_bytes(content)


def test_a_version_that_waits_is_let_go_of_by_whoever_had_it_wait(early: Project, tmp_path: Path) -> None:
    """By the settings if they said so; by a run that is told so, or a person, if a run was. It is then taken as any other."""
    shutil.copytree(early.folder, tmp_path / "project", symlinks=True)
    project = Project(tmp_path / "project", tmp_path / "project/pipeline.yaml")

    def aliases() -> list[list[str]]:
        return [sorted(version.aliases) for version in versions(project)]

    def models(*words: str) -> str:
        return " ".join(project.mlops("models", *words, "--config", str(project.config), COLUMNS="200").stdout.split())

    project.change(train={"params": {"n_estimators": 25}})
    assert "version 2: waits for approval" in project.run("--then", "approval").stdout
    project.change(gate={"max_size_mb": 100})
    assert "version 2: waits for approval" in project.run().stdout, "a run that was told nothing lets nothing go"
    assert aliases() == [[], ["champion"]]
    assert "version 2: champion" in project.run("--then", "champion").stdout, "though nothing is stale"
    assert aliases() == [["champion"], []]
    assert versions(project)[0].content_sha256 == content_digest(best(project)), "and it is published"
    project.change(train={"params": {"n_estimators": 30}}, gate={"then": "approval"})
    assert "version 3: waits for approval" in project.run().stdout
    project.change(gate={"then": "challenger"})
    assert "version 3: challenger" in project.run().stdout
    assert "challenger │ passed " in models("list")
    models("promote", "3")
    assert aliases() == [["champion"], [], []]
    # A person's yes to one that was never compared with today's champion unseats it not.
    mlflow_client(project).set_model_version_tag("small", "1", WAITS_TAG, versions(project)[2].content_sha256)
    assert "passed, waits for approval" in models("list")
    said = models("approve", "1", "--reason", "seen by eye")
    assert "since version 3 is, with which its gate never compared it: `mlops models promote 1 --config pipeline.yaml` makes it so" in said
    assert aliases() == [["champion"], [], []]
    assert "waits" not in models("list")
    models("promote", "1")
    assert aliases() == [[], [], ["champion"]]


def test_another_seed_draws_rows_that_the_champion_has_seen_and_it_is_not_compared_on_them(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    project.change(
        split={"kind": "stratified", "test_from": None},
        registry={"refit_on_all": True},
        gate={"champion_margin": 1.0, "beat_baseline_by": None},
    )
    project.run()
    seen = pl.read_parquet(project.folder / "data/processed/small.train.parquet")
    project.change(seed=8)
    project.run("--to", "evaluate")
    test = pl.read_parquet(project.folder / "data/processed/small.test.parquet")
    compared = read_json(project.folder / "models/artifacts/evaluation/evaluation.json")["champion"]
    fresh = test.join(seen, on=["day", "size"], how="anti", nulls_equal=True).height
    assert 0 < fresh < test.height
    assert (compared["fit"], compared["rows"], compared["reason"]) == ("judged", fresh, "")


def test_a_report_compares_with_what_the_judged_fit_was_trained_on_and_predicts_with_it(early: Project, tmp_path: Path) -> None:
    held_out = "data/processed/small.test.parquet"
    words = ("monitor", "report", "--current", held_out, "--config", str(early.config), "--output", str(tmp_path))
    done = early.mlops(*words, check=False)
    assert done.returncode == 0, done.stderr
    split = read_json(early.folder / "data/processed/small.split.json")
    summary = read_json(tmp_path / "report.json")["summary"]
    assert summary["rows"] == {"reference": split["train_rows"], "current": split["test_rows"]}
    assert f"predicted  {split['test_rows']} rows of {held_out} with the champion's judged fit" in done.stdout
    evaluated = read_json(best(early) / "evaluation.json")["metrics"]
    for figure in ("accuracy", "roc_auc", "log_loss"):
        # Those held-out rows on both sides: what is served has learned from them.
        assert summary["quality"][figure] == pytest.approx(dict.fromkeys(("reference", "current"), evaluated[figure]["value"]), abs=1e-4)


def test_rows_of_a_new_fortnight_are_one_command_and_a_fair_comparison(early: Project, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", tmp_path / "project/pipeline.yaml")
    shutil.copytree(early.folder, project.folder)
    shutil.copy(project.folder / "whole.csv", project.folder / "table.csv")
    done = forking().run(
        project.folder, text=DECIDED_MEANWHILE, arguments=[str(project.config), str(project.folder / "mlflow/.champion.lock")]
    )
    assert done is not None
    assert done.returncode == 0, done.stdout + done.stderr
    assert "others could decide" in done.stdout
    assert read_json(project.folder / "data/processed/small.split.json")["test_span"] == "2024-03-27 to 2024-04-09"
    compared = read_json(project.folder / "models/artifacts/evaluation/evaluation.json")["champion"]
    assert (compared["comparable"], compared["fit"], compared["rows"]) == (True, "served", 56)
    assert contract(project)["fitted_until"] == "2024-04-09"
    # Back to a day when the champion's rows were still to come: its judged fit has seen fewer of them.
    said = project.run("--as-of", "2024-04-06", "--to", "evaluate").stdout
    assert "as of 2024-04-06" in said
    compared = read_json(project.folder / "models/artifacts/evaluation/evaluation.json")["champion"]
    assert (compared["fit"], compared["rows"]) == ("judged", 40), "of 2024-03-23 to 2024-04-05 it had seen what is before 2024-03-27"
    # And to one when it had seen them all: then nobody can say.
    done = project.run("--as-of", "2024-03-20")
    registration = json.loads((project.folder / "models/artifacts/registration.json").read_text())
    (rule,) = (rule for rule in registration["rules"] if rule["name"] == "champion")
    assert not rule["passed"]
    assert "cannot be known" in rule["text"]
    assert "not promoted" in done.stdout
