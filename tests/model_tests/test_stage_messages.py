"""What stages say when a table is unfit: the key whose limit it broke, and that nothing can be measured on one class."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mlops_pipeline import terminal
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import read_json
from mlops_pipeline.layout import layout_of
from mlops_pipeline.pipeline.definition import STAGES
from mlops_pipeline.pipeline.stages.ingest import ingest
from mlops_pipeline.pipeline.stages.validate import validate
from mlops_pipeline.scaffold import settings_for_table
from tests.conftest import put_empty_store
from tests.unit_tests.workshop import quiet

ROWS = 200
FAIR = {
    "id": list(range(ROWS)),
    "size": [n * 37 % 101 for n in range(ROWS)],
    "late": [n * n % 7 % 2 for n in range(ROWS)],
}
UNFIT: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "leak": (
        {"size": [n * n % 7 % 2 + n / 1000 for n in range(ROWS)]},
        {},
        "put size under dataset.known_after_outcome if only the outcome tells it, or raise validate.max_single_feature_auc",
    ),
    "duplicates": ({"id": [0] * ROWS, "size": [1] * ROWS}, {}, "or raise validate.max_duplicate_share"),
    "rare class": ({"late": [int(n == 0) for n in range(ROWS)]}, {}, "add rows of class 1, or lower validate.min_class_share"),
    "one class": ({"late": [0] * ROWS}, {}, "name another dataset.target"),
    "repeated key": ({"id": [n // 2 for n in range(ROWS)]}, {"entity_key": ["id"]}, "name more columns under dataset.entity_key"),
}


ALWAYS_STOP = ("one class", "repeated key")


@pytest.mark.parametrize("case", UNFIT)
def test_a_broken_limit_of_the_configuration_is_told_with_its_key_and_file(case: str, tmp_path: Path) -> None:
    changes, dataset, remedy = UNFIT[case]
    table = pl.DataFrame({**FAIR, **changes})
    config = tmp_path / "pipeline.yaml"
    settings = settings_for_source(tmp_path, pl.DataFrame(FAIR), dataset)
    layout = layout_of(settings, config, tmp_path)
    layout.raw.parent.mkdir(parents=True)
    table.write_parquet(layout.raw)
    with pytest.raises(PipelineError) as caught:
        validate(settings, layout, quiet())
    said = str(caught.value)
    assert f"{remedy} in pipeline.yaml" in said, said
    assert "; all failures in " in said, said
    assert ("or go on all the same with validate.on_failure: warn" in said) == (case not in ALWAYS_STOP)
    assert "widen" not in said
    assert remedy in read_json(layout.validation_json)["failures"][0]["remedy"]


def test_validation_says_a_class_as_its_owner_writes_it_and_as_the_evaluation_does(tmp_path: Path) -> None:
    config, source = tmp_path / "pipeline.yaml", tmp_path / "table.csv"
    words = ["yes" if n == 0 else "no" for n in range(ROWS)]
    pl.DataFrame({**FAIR, "late": words}).write_csv(source)
    settings = settings_for_table(source, "late", "small", validate={"on_failure": "stop"})
    assert settings.dataset.columns["late"].kind == "boolean"
    layout = layout_of(settings, config, tmp_path)
    ingest(settings, layout, quiet())
    with pytest.raises(PipelineError, match=r"add rows of class yes, or lower validate\.min_class_share"):
        validate(settings, layout, quiet())
    report = read_json(layout.validation_json)
    assert report["target"] == {"no": ROWS - 1, "yes": 1}
    assert report["failures"][0]["seen"] == "yes: 0.50%"
    assert ">yes</bdi>" in layout.validation_html.read_text()


def test_a_value_outside_the_schema_still_points_to_the_schema(tmp_path: Path) -> None:
    settings = settings_for_source(tmp_path, pl.DataFrame(FAIR), {})
    layout = layout_of(settings, tmp_path / "pipeline.yaml", tmp_path)
    layout.raw.parent.mkdir(parents=True)
    pl.DataFrame(FAIR).write_parquet(layout.raw)
    validate(settings, layout, quiet())
    pl.DataFrame({**FAIR, "size": [10_000, *FAIR["size"][1:]]}).write_parquet(layout.raw)
    with pytest.raises(PipelineError, match=f"mend the data, or widen {layout.relative(layout.schema)}"):
        validate(settings, layout, quiet())


def settings_for_source(folder: Path, table: pl.DataFrame, dataset: dict[str, Any]) -> Any:
    source = folder / "table.csv"
    table.write_csv(source)
    made = settings_for_table(source, "late", "small")
    content = made.model_dump(mode="json", by_alias=True)["dataset"]
    return settings_for_table(source, "late", "small", dataset={**content, **dataset}, validate={"on_failure": "stop"})


def run_to_the_evaluation(folder: Path, table: str, target: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    source = folder / "table.csv"
    source.write_text(table)
    settings = settings_for_table(source, target, "few", onnx={"enabled": False}, train={"estimator": "logistic_regression"})
    layout = layout_of(settings, folder / "pipeline.yaml", folder)
    put_empty_store(folder / "mlflow/mlflow.db", str(folder / "mlruns"))
    said = io.StringIO()
    for stage in STAGES[: [stage.name for stage in STAGES].index("evaluate")]:
        stage.run(settings, layout, quiet())
    STAGES[[stage.name for stage in STAGES].index("evaluate")].run(settings, layout, terminal.opened(said, 200))
    return said.getvalue()


def test_on_one_held_out_row_the_metric_is_said_to_be_unmeasurable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "a,target\n1.0,0\n2.5,1\n3.0,0\n4.5,1\n5.0,0\n"
    said = run_to_the_evaluation(tmp_path, rows, "target", monkeypatch)
    assert "roc_auc could not be measured: only one class among 1 held-out row\n" in said
    assert "nan" not in said


def test_on_rows_of_both_classes_it_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "a,target\n" + "".join(f"{n},{n % 2}\n" for n in range(40))
    said = run_to_the_evaluation(tmp_path, rows, "target", monkeypatch)
    assert "interval" in said
    assert "on 10 held-out rows; baseline 0.5000" in said


@pytest.mark.parametrize("private", [False, True])
def test_a_row_whose_target_is_none_of_two_classes_is_told_with_what_goes_on_without_it(private: bool, tmp_path: Path) -> None:
    answers = ["no" if n % 3 else "yes" for n in range(ROWS)]
    source, config = tmp_path / "table.csv", tmp_path / "pipeline.yaml"
    pl.DataFrame({"size": FAIR["size"], "paid": answers}).write_csv(source)
    settings = settings_for_table(source, "paid", "few", split={"kind": "stratified", "test_share": 0.25})
    content = settings.model_dump(mode="json", by_alias=True)["dataset"]
    content["columns"]["paid"] |= {"kind": "category", "private": private}
    content["positive"] = "yes"
    settings = settings_for_table(source, "paid", "few", dataset=content, split={"kind": "stratified", "test_share": 0.25})
    pl.DataFrame({"size": FAIR["size"], "paid": [*answers[:-8], *["perhaps"] * 8]}).write_csv(source)
    layout = layout_of(settings, config, tmp_path)
    put_empty_store(tmp_path / "mlflow/mlflow.db", str(tmp_path / "mlruns"))
    with pytest.raises(PipelineError) as caught:
        for stage in STAGES[:4]:
            stage.run(settings, layout, quiet())
    said = str(caught.value)
    assert said.startswith(f"{config}: dataset.task = 'binary': the target 'paid' has 3 classes")
    assert "write null_values: ['', WORD] with their words under it in dataset.columns; if all are meant, write task: multiclass" in said
    assert ("'perhaps' in 6 rows" in said) == (not private), said
    assert ("perhaps" in said) == (not private), said
