"""The search for parameters: the same questions whether or not it was interrupted, bounded in time, hopeless trials cut short."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import polars as pl
import pytest

from mlops_pipeline import plugins
from mlops_pipeline.config.pipeline import Settings, feature_columns, settings_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.layout import Layout, layout_of
from mlops_pipeline.modelling.estimators import build_model
from mlops_pipeline.modelling.frame import model_input, read_target
from mlops_pipeline.modelling.tuning import Tuned, _folds, tune
from tests.conftest import SMALL_SETTINGS, process_environment, wait_for, write_table
from tests.unit_tests.workshop import assert_one_line, quiet, table_settings


def tuning_settings(trials: int, estimator: str = "lightgbm", params: dict[str, Any] | None = None, **tuning: Any) -> Settings:
    content = copy.deepcopy(SMALL_SETTINGS)
    content["train"] = {"estimator": estimator, "params": params if params is not None else {"n_estimators": 5}, "threads": 1}
    content["tuning"] = {"trials": trials, **tuning}
    return settings_of(content, "pipeline.yaml")


def prepared(folder: Path, settings: Settings) -> Layout:
    """A layout whose training rows lie where the split would put them."""
    layout = layout_of(settings, folder / "pipeline.yaml", folder)
    if not layout.train.exists():
        layout.train.parent.mkdir(parents=True)
        write_table(folder / "table.csv")
        table = pl.read_csv(folder / "table.csv", try_parse_dates=True).with_columns(
            pl.col("day").cast(pl.Datetime("us")), pl.col("late").cast(pl.Int8)
        )
        table.write_parquet(layout.train)
    return layout


def search(folder: Path, settings: Settings) -> Tuned:
    layout = prepared(folder, settings)
    table = pl.read_parquet(layout.train)
    x, y = model_input(table, feature_columns(settings)), read_target(layout.train, settings.dataset)
    return tune(settings, layout, table, x, y, quiet())


def questions(folder: Path) -> list[tuple[dict[str, Any], str]]:
    """The parameters and the fate of every trial that was not written off, in order."""
    database = next((folder / "models/tuning").glob("*.db"))
    storage = f"sqlite:///{database}"
    (name,) = optuna.get_all_study_names(storage)
    trials = optuna.load_study(study_name=name, storage=storage).trials
    return [(trial.params, trial.state.name) for trial in trials if trial.state.name != "FAIL"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, Any], str]]:
    """What a search of 14 trials asks in one go; more than the ten that TPE draws at random before it learns from them."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    search(folder, tuning_settings(14))
    return questions(folder)


def test_a_search_resumed_asks_the_same_questions(tmp_path: Path, uninterrupted: list[Any]) -> None:
    for trials in (3, 12, 14):
        search(tmp_path, tuning_settings(trials))
        assert questions(tmp_path) == uninterrupted[:trials]


KILLED = """
import sys
from pathlib import Path
from tests.model_tests.test_tuning import search, tuning_settings
search(Path(sys.argv[1]), tuning_settings(14))
"""


def test_a_search_killed_in_the_middle_and_resumed_asks_the_same_questions(tmp_path: Path, uninterrupted: list[Any]) -> None:
    root = Path(__file__).resolve().parents[2]
    environment = process_environment(PYTHONPATH=f"{root / 'src'}:{root}")
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], env=environment)
    try:
        wait_for(lambda: process.poll() is not None or trials_begun(tmp_path) >= 3, 120, "three trials")
    finally:
        process.kill()
        process.wait()
    assert trials_begun(tmp_path) >= 3
    search(tmp_path, tuning_settings(14))
    assert questions(tmp_path) == uninterrupted


def trials_begun(folder: Path) -> int:
    import contextlib
    import sqlite3

    for database in (folder / "models/tuning").glob("*.db"):
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(database)) as connection:
            return int(connection.execute("select count(*) from trials").fetchone()[0])
    return 0


def test_a_trial_left_running_by_a_kill_is_written_off(tmp_path: Path, uninterrupted: list[Any]) -> None:
    search(tmp_path, tuning_settings(2))
    storage = f"sqlite:///{next((tmp_path / 'models/tuning').glob('*.db'))}"
    (name,) = optuna.get_all_study_names(storage)
    optuna.load_study(study_name=name, storage=storage).ask()
    search(tmp_path, tuning_settings(4))
    assert questions(tmp_path) == uninterrupted[:4]


def test_other_settings_begin_another_search(tmp_path: Path) -> None:
    search(tmp_path, tuning_settings(1))
    search(tmp_path, tuning_settings(1, params={"n_estimators": 6}))
    search(tmp_path, tuning_settings(1, metric="log_loss"))
    other = tuning_settings(1)
    search(tmp_path, other.model_copy(update={"dataset": other.dataset.model_copy(update={"positive": 0})}))
    storage = f"sqlite:///{next((tmp_path / 'models/tuning').glob('*.db'))}"
    assert len(optuna.get_all_study_names(storage)) == 4


def test_the_best_parameters_can_be_built_and_beat_the_median_trial(tmp_path: Path) -> None:
    settings = tuning_settings(8, metric="log_loss")
    tuned = search(tmp_path, settings)
    build_model("lightgbm", "binary", feature_columns(settings), {**settings.train.params, **tuned.params}, 0)
    storage = f"sqlite:///{next((tmp_path / 'models/tuning').glob('*.db'))}"
    (name,) = optuna.get_all_study_names(storage)
    values = [trial.value for trial in optuna.load_study(study_name=name, storage=storage).trials if trial.state.name == "COMPLETE"]
    assert tuned.summary["best"] == pytest.approx(min(value for value in values if value is not None), abs=1e-6)
    assert tuned.summary["trials"] == 8


def test_hopeless_trials_are_cut_after_a_fold(tmp_path: Path) -> None:
    settings = tuning_settings(15, estimator="logistic_regression", params={}, metric="log_loss")
    tuned = search(tmp_path, settings)
    storage = f"sqlite:///{next((tmp_path / 'models/tuning').glob('*.db'))}"
    (name,) = optuna.get_all_study_names(storage)
    trials = optuna.load_study(study_name=name, storage=storage).trials
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert tuned.summary["pruned"] == len(pruned) > 0
    assert min(len(trial.intermediate_values) for trial in pruned) == 1
    assert all(len(trial.intermediate_values) == 3 for trial in trials if trial.state.name == "COMPLETE")


def test_the_time_budget_ends_the_search(tmp_path: Path) -> None:
    tuned = search(tmp_path, tuning_settings(100_000, time_budget_s=1.5))
    assert 0 < tuned.summary["trials"] < 1_000


OWN = """from mlops_pipeline.plugins import estimator

def search(trial):
    return BODY

@estimator("forest", tasks=("binary",), search=search, encoder="ordinal_imputed")
def forest(task, seed):
    from sklearn.ensemble import RandomForestClassifier
    return RandomForestClassifier(n_estimators=3, random_state=seed)
"""


def search_of_ones_own(folder: Path, body: str) -> Tuned:
    (folder / "mine.py").write_text(OWN.replace("BODY", body))
    plugins.use(plugins.NamedParts(folder, ("mine.py",), "pipeline.yaml"))
    try:
        return search(folder, tuning_settings(2, "forest", {}, folds=2))
    finally:
        plugins.use(plugins.NamedParts())


def test_what_is_fitted_is_what_a_search_of_ones_own_makes_of_the_values_that_it_asks_for(tmp_path: Path) -> None:
    found = search_of_ones_own(tmp_path, "{'n_estimators': 2 ** trial.suggest_int('exponent', 1, 3)}").params
    assert list(found) == ["n_estimators"]
    assert found["n_estimators"] in (2, 4, 8)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{'n_estimators': trial.suggest_int('trees', 1, most)}", "NameError: name 'most' is not defined (line 4)"),
        ("1 / 0", "ZeroDivisionError: division by zero (line 4)"),
        ("None", "its search gives a NoneType, not a mapping of parameters"),
    ],
)
def test_a_search_of_ones_own_that_fails_is_told_in_one_line(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(PipelineError) as caught:
        search_of_ones_own(tmp_path, body)
    assert_one_line(caught.value, f"mine.py: estimator 'forest' fails: {words}: mend it there")


@pytest.mark.parametrize("settings", [tuning_settings(0), tuning_settings(5, "dummy", {})], ids=["no trials", "the baseline"])
def test_without_anything_to_search_nothing_is_written(settings: Settings, tmp_path: Path) -> None:
    assert search(tmp_path, settings) == Tuned()
    assert not (tmp_path / "models").exists()


def test_by_time_no_trial_is_fitted_on_what_came_after(tmp_path: Path) -> None:
    settings = tuning_settings(1, folds=4)
    layout = prepared(tmp_path, settings)
    table = pl.read_parquet(layout.train).sample(fraction=1, shuffle=True, seed=1)
    days = table["day"].to_numpy()
    folds = _folds(settings, table, table["late"].to_numpy())
    assert len(folds) == 4
    assert all(days[fitted].max() < days[scored].min() for fitted, scored in folds), "several rows are of one day"


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_no_trial_is_scored_on_rows_equal_to_those_it_was_fitted_on(task: str) -> None:
    y = "number" if task == "regression" else "integer"
    settings = table_settings({"size": "number", "y": y}, task=task)
    table = pl.DataFrame({"size": [*map(float, range(60))] * 3, "y": [0, 1] * 90})
    folds = _folds(settings, table, table["y"].to_numpy())
    assert len(folds) == settings.tuning.folds
    assert sorted(row for _, scored in folds for row in scored) == [*range(180)]
    assert not any(set(fitted % 60) & set(scored % 60) for fitted, scored in folds)


@pytest.mark.parametrize("late", [[0] * 399 + [1], [0] * 200 + [1] * 200, [1] * 2 + [0] * 398], ids=["one", "half and half", "first"])
def test_folds_of_a_single_class_end_the_search_or_are_left_out(late: list[int], tmp_path: Path) -> None:
    settings = tuning_settings(2)
    layout = prepared(tmp_path, settings)
    pl.read_parquet(layout.train).with_columns(late=pl.Series(late, dtype=pl.Int8)).write_parquet(layout.train)
    with pytest.raises(PipelineError, match=r"tuning\.(folds|metric)"):
        search(tmp_path, settings)


def test_a_fold_that_can_be_scored_is_enough(tmp_path: Path) -> None:
    settings = tuning_settings(2)
    layout = prepared(tmp_path, settings)
    late = np.r_[np.zeros(150), np.tile([0, 1], 25), np.ones(100), np.tile([0, 1], 50)]
    pl.read_parquet(layout.train).with_columns(late=pl.Series(late, dtype=pl.Int8)).write_parquet(layout.train)
    assert search(tmp_path, settings).summary["trials"] == 2


def test_more_folds_than_rows_is_told_in_one_line(tmp_path: Path) -> None:
    settings = tuning_settings(1, folds=20)
    layout = prepared(tmp_path, settings)
    pl.read_parquet(layout.train).head(10).write_parquet(layout.train)
    with pytest.raises(PipelineError, match=r"tuning\.folds = 20.*use fewer"):
        search(tmp_path, settings)
