"""What is relied on of networks beyond what every estimator keeps to: their twins, fits that are killed, and life without PyTorch."""

from __future__ import annotations

import subprocess
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.pipeline import Pipeline

from mlops_pipeline import plugins
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.inference.engine import OnnxEngine
from mlops_pipeline.modelling.candidates import Shape, candidates
from mlops_pipeline.modelling.estimators import encoded, fit, native, native_categories, predict
from mlops_pipeline.modelling.fitting import Fitting
from mlops_pipeline.modelling.formats.skops import load_model
from mlops_pipeline.modelling.frame import model_input
from mlops_pipeline.modelling.network_estimators import NetworkClassifier, NetworkRegressor
from mlops_pipeline.modelling.networks import first_weights
from tests.model_tests.workbench import (
    FEATURES,
    KINDS,
    LACKING,
    PROBLEMS,
    Killed,
    Problem,
    build_model,
    case,
    killed_in,
    make_twin,
    raw_table,
    save,
    truth,
)

NEEDS_PYTORCH = case("torch_tabm").marks


def unlearned(problem: Problem, members: int, x: Any, y: Any) -> Pipeline:
    """A network as a fit begins with: it needs no PyTorch."""
    kind = NetworkRegressor if problem.task == "regression" else NetworkClassifier
    columns, network = native(FEATURES), kind(seed=5, members=members, width=24, embedding=5, bins=9)
    matrix = encoded(columns, x, y, 1)
    network.categories_ = native_categories(columns, network)
    network.numbers_ = [place for place in range(matrix.shape[1]) if place not in network.categories_]
    network.n_features_in_, network.losses_ = matrix.shape[1], [1.0]
    classes = len(problem.labels) or 1
    network.weights_ = first_weights(matrix[:, network.numbers_], matrix[:, network.categories_], classes, network)
    if problem.labels:
        network.classes_ = np.unique(y)
    else:
        network.center_, network.scale_ = 4.0, 2.5
    return Pipeline([("columns", columns), ("model", network)])


@pytest.mark.parametrize("members", [1, 7])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_network_is_saved_loaded_and_served_without_pytorch_at_any_number_of_rows(problem: str, members: int, tmp_path: Path) -> None:
    of = PROBLEMS[problem]
    table = raw_table(300)
    x, y = model_input(table, FEATURES), truth(table, of)
    model = unlearned(of, members, x, y)
    x = x.assign(kind=x["kind"].where(x.index != 3, "never seen"))
    x.loc[4, "size"], x.loc[5, "weight"] = -1e30, 3e38
    said = predict(model, x, of.task)
    assert np.isfinite(said).all()
    save(tmp_path / "model", "torch_tabm", model, x, of.task)
    assert np.array_equal(predict(load_model(tmp_path / "model"), x, of.task), said)
    near = 1e-5 if of.labels else 1e-4 * float(np.std(said))
    twin = make_twin(model, KINDS, x, said, of.task, 1e-4)
    assert twin.content is not None, twin.reason
    engine = OnnxEngine(twin.content, has_classes=bool(of.labels))
    numbers, words = ["size", "weight", "count", "flag"], ["kind", "place"]
    for rows in (1, 2, 33, 300):
        part = x.head(rows)
        answer = engine.predict(part[numbers].to_numpy(np.float32), part[words].to_numpy(object))
        assert np.allclose(answer, said[:rows], atol=near), rows
    again = make_twin(model, KINDS, x, said, of.task, 1e-4)
    assert again.content == twin.content


def test_without_pytorch_the_extra_is_named_in_one_line() -> None:
    part, _ = plugins.parts_of_model("torch_tabm", None)
    absent = replace(part, extra=plugins.Extra("no_such_library", "PyTorch", "torch"))
    with pytest.raises(PipelineError) as caught:
        plugins.check_extra(absent)
    assert str(caught.value) == "train.estimator: torch_tabm: needs PyTorch: pip install 'mlops-pipeline[torch]' or make torch"


def test_a_network_is_a_candidate_where_pytorch_is_installed_and_rows_are_many() -> None:
    few, many = ({each.estimator for each in candidates("binary", Shape(rows, 2))} for rows in (4_999, 5_000))
    assert few == {"logistic_regression", "lightgbm", "random_forest", "hist_gradient_boosting"}
    assert many - few == (set() if "torch_tabm" in LACKING else {"torch_tabm"})


@pytest.mark.parametrize("part", [pytest.param("torch_mlp", marks=NEEDS_PYTORCH)])
def test_a_gpu_that_is_not_there_is_told_in_one_line_and_auto_does_without(part: str) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    table = raw_table(60)
    x, y = model_input(table, FEATURES), truth(table, PROBLEMS["binary"])
    params = {"epochs": 1, "width": 8}
    with pytest.raises(PipelineError) as caught:
        fit(build_model(part, "binary", FEATURES, {**params, "device": "cuda"}, 1), x, y, 1)
    assert str(caught.value) == "train.params.device = 'cuda': PyTorch sees no GPU here: use auto, or install a build for yours"
    with pytest.raises(PipelineError, match="device = 'tpu'"):
        build_model(part, "binary", FEATURES, {**params, "device": "tpu"}, 1)
    alike = [fit(build_model(part, "binary", FEATURES, {**params, "device": each}, 1), x, y, 1) for each in ("auto", "cpu")]
    assert np.array_equal(*(predict(each, x, "binary") for each in alike))


@pytest.mark.parametrize("part", [pytest.param("torch_tabm", marks=NEEDS_PYTORCH)])
def test_a_fit_that_was_killed_goes_on_where_it_was_and_ends_at_the_same_bits(part: str, tmp_path: Path) -> None:
    table, heard = raw_table(300), list[str]()
    x, y = model_input(table, FEATURES), truth(table, PROBLEMS["binary"])

    def learned(during: Fitting) -> Any:
        params = {"epochs": 6, "patience": 6, "batch_rows": 64, "members": 3, "width": 16}
        return fit(build_model(part, "binary", FEATURES, params, 1), x, y, 1, during).named_steps["model"]

    file = tmp_path / "fit.npz"
    whole = learned(Fitting(say=heard.append))
    assert [line.split(",")[0] for line in heard] == [f"pass {turn}" for turn in range(1, 7)]
    with pytest.raises(Killed):
        learned(Fitting(checkpoint=file, say=killed_in(3, heard)))
    assert file.is_file()
    heard.clear()
    resumed = learned(Fitting(checkpoint=file, say=heard.append))
    assert heard[0].startswith("pass 4,")
    assert resumed.losses_ == whole.losses_
    assert all(np.array_equal(each, whole.weights_[name]) for name, each in resumed.weights_.items())
    assert not file.exists()
    file.write_bytes(b"no fit")
    assert learned(Fitting(checkpoint=file)).losses_ == whole.losses_


@pytest.mark.parametrize("part", [pytest.param("torch_mlp", marks=NEEDS_PYTORCH)])
def test_a_fit_whose_file_is_damaged_near_its_end_begins_anew(part: str, tmp_path: Path) -> None:
    table, heard, file = raw_table(200), list[str](), tmp_path / "fit.npz"
    x, y = model_input(table, FEATURES), truth(table, PROBLEMS["binary"])

    def learned(**during: Any) -> Any:
        model = build_model(part, "binary", FEATURES, {"epochs": 4, "patience": 4, "width": 8}, 1)
        return fit(model, x, y, 1, Fitting(checkpoint=file, **during)).named_steps["model"]

    whole = learned()
    with pytest.raises(Killed):
        learned(say=killed_in(2))
    with zipfile.ZipFile(file) as kept:
        last = kept.infolist()[-1]
    content = bytearray(file.read_bytes())
    content[last.header_offset + last.file_size] ^= 0xFF  # within the last array's numbers
    file.write_bytes(content)
    again = learned(say=heard.append)
    assert heard[0].startswith("pass 1,") and again.losses_ == whole.losses_
    assert all(np.array_equal(each, whole.weights_[name]) for name, each in again.weights_.items())


def test_numbers_far_from_zero_are_cut_where_they_are() -> None:
    """A number such as an account's: 32-bit floats there lie thousands of standard deviations apart."""
    values = 1.7e12 + np.arange(400.0)
    weights = first_weights(values[:, None], None, 2, NetworkClassifier(bins=8))
    scaled = (values - weights["mean"].astype(np.float64)) * weights["inverse_std"].astype(np.float64)
    pieces = np.clip((scaled[:, None] - weights["left"][0]) * weights["slope"][0], weights["low"][0], weights["high"][0])
    within = ((pieces > 0) & (pieces < 1))[:, 1:7]  # the first and the last are narrower
    assert within.sum(axis=0) == pytest.approx(50, abs=3)


@pytest.mark.parametrize("part", [pytest.param("torch_mlp", marks=NEEDS_PYTORCH)])
def test_columns_that_are_mostly_zero_are_refused_in_one_line(part: str) -> None:
    table = raw_table(200).with_columns(kind=pl.int_range(200).cast(pl.String))
    x, y = model_input(table, FEATURES), truth(table, PROBLEMS["binary"])
    with pytest.raises(PipelineError, match=r"^train.encoder: a network takes no \d+ columns that are mostly 0: use native, ") as caught:
        fit(build_model(part, "binary", FEATURES, {}, 1, "one_hot"), x, y, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", [pytest.param("torch_mlp", marks=NEEDS_PYTORCH)])
def test_the_last_rows_by_time_say_when_to_end(part: str) -> None:
    """They are the opposite of what there is to learn: no pass is better than the first, wherever they stand in the table."""
    table = raw_table(400)
    x, y = model_input(table, FEATURES), truth(table, PROBLEMS["binary"])
    moments = np.random.default_rng(0).permutation(400)
    y[moments >= 360] = 1 - y[moments >= 360]
    params = {"epochs": 30, "patience": 2, "batch_rows": 64, "width": 16, "learning_rate": 0.02, "held_back": 0.1}
    by_time, by_chance = (
        fit(build_model(part, "binary", FEATURES, params, 1), x, y, 1, Fitting(moments=each)).named_steps["model"]
        for each in (moments, None)
    )
    assert len(by_time.losses_) == 3 and by_time.losses_[0] == min(by_time.losses_)
    assert len(by_chance.losses_) > 3


@pytest.mark.parametrize("part", [pytest.param("torch_mlp", marks=NEEDS_PYTORCH)])
def test_rows_of_other_patients_than_those_that_it_learns_from_say_when_to_end(part: str) -> None:
    """They are the opposite of what there is to learn; rows drawn one by one would be of patients that it knows."""
    table = raw_table(400)
    x, y = model_input(table, FEATURES), truth(table, PROBLEMS["binary"])
    patients = np.random.default_rng(0).permutation(400) % 40
    held = Fitting(things=patients).parted(400, 0.1, 1)[1]
    y[held] = 1 - y[held]
    params = {"epochs": 30, "patience": 2, "batch_rows": 64, "width": 16, "learning_rate": 0.02, "held_back": 0.1}
    by_patient, by_chance = (
        fit(build_model(part, "binary", FEATURES, params, 1), x, y, 1, Fitting(things=each)).named_steps["model"]
        for each in (patients, None)
    )
    assert len(by_patient.losses_) == 3 and by_patient.losses_[0] == min(by_patient.losses_)
    assert len(by_chance.losses_) > 3


@pytest.mark.parametrize("part", [pytest.param("torch_mlp", marks=NEEDS_PYTORCH)])
def test_a_network_in_a_mean_ends_by_the_last_rows_as_it_would_alone_and_finds_itself_again(part: str, tmp_path: Path) -> None:
    table = raw_table(200)
    x, y = model_input(table, FEATURES), truth(table, PROBLEMS["binary"])
    moments, heard = np.random.default_rng(0).permutation(200), list[str]()
    params = {"epochs": 4, "patience": 4, "batch_rows": 64, "width": 8}
    alone = fit(build_model(part, "binary", FEATURES, params, 1), x, y, 1, Fitting(moments=moments)).named_steps["model"]
    members = [{"estimator": "logistic_regression"}, {"estimator": part, "params": params}]

    def of_mean(**during: Any) -> Any:
        mean = build_model("blend", "binary", FEATURES, {"members": members}, 1)
        return fit(mean, x, y, 1, Fitting(moments=moments, **during)).named_steps["model"].members[1].named_steps["model"]

    assert of_mean().losses_ == alone.losses_
    with pytest.raises(Killed):
        of_mean(checkpoint=tmp_path / "mean.fit.npz", say=killed_in(2))
    assert of_mean(checkpoint=tmp_path / "mean.fit.npz", say=heard.append).losses_ == alone.losses_
    assert heard[0].startswith("pass 3,") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", [pytest.param("torch_tabm", marks=NEEDS_PYTORCH)])
def test_processes_that_learn_together_come_to_the_same_bits_each_time_and_leave_nothing(
    part: str, started: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    table, heard = raw_table(150), list[str]()
    x, y = model_input(table, FEATURES), truth(table, PROBLEMS["binary"])
    params = {"epochs": 3, "patience": 3, "batch_rows": 45, "members": 3, "width": 8, "dropout": 0.0, "device": "cpu"}

    def learned(processes: int, **during: Any) -> Any:
        model = build_model(part, "binary", FEATURES, {**params, "processes": processes}, 1)
        return fit(model, x, y, 2, Fitting(**during)).named_steps["model"]

    alone, together = learned(1), learned(2)
    assert together.losses_ == pytest.approx(alone.losses_, rel=1e-3)
    assert all(np.allclose(each, alone.weights_[name], atol=1e-3) for name, each in together.weights_.items())
    with pytest.raises(Killed):
        learned(2, checkpoint=tmp_path / "fit.npz", say=killed_in(1))
    again = learned(2, checkpoint=tmp_path / "fit.npz", say=heard.append)
    assert heard[0].startswith("pass 2,")
    assert all(np.array_equal(each, together.weights_[name]) for name, each in again.weights_.items())
    assert not list((tmp_path / "temporary").iterdir())
    assert len(started) == 3 and all(process.returncode is not None for process in started)


@pytest.mark.parametrize("part", [pytest.param("torch_mlp", marks=NEEDS_PYTORCH)])
def test_a_process_of_several_that_dies_is_told_in_one_line(part: str, started: list[subprocess.Popen[bytes]]) -> None:
    table = raw_table(150)
    x, y = model_input(table, FEATURES), truth(table, PROBLEMS["binary"])

    def kill(line: str) -> None:
        if line.startswith("pass 2,"):
            started[0].kill()

    model = build_model(part, "binary", FEATURES, {"epochs": 9, "width": 8, "device": "cpu", "processes": 2}, 1)
    with pytest.raises(PipelineError) as caught:
        fit(model, x, y, 2, Fitting(say=kill))
    assert str(caught.value) == "train.params.processes = 2: process 1 ended: SIGKILL: use fewer, or 1"
