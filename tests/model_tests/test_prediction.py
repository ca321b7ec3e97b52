"""Batch prediction: a table in, the same table with predictions out; what cannot be predicted is kept aside with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mlops_pipeline.errors import PipelineError
from mlops_pipeline.inference.batch import Predicted, predict_file
from mlops_pipeline.modelling.estimators import predict
from mlops_pipeline.modelling.frame import model_input
from tests.model_tests.workbench import FEATURES, PROBLEMS, raw_table, version_folder
from tests.unit_tests.workshop import quiet


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version's folder that no test changes; its classes are words."""
    folder = tmp_path_factory.mktemp("version") / "model"
    version_folder(folder, "lightgbm", PROBLEMS["multiclass"], onnx=True)
    return folder


def given() -> pl.DataFrame:
    """Rows as a user has them: other columns too, and the model's in another order."""
    table = raw_table(150, seed=8)
    return table.select(pl.Series("id", [f"row {n}" for n in range(150)]), *reversed(table.columns), pl.lit("said, so").alias("note"))


def write(table: pl.DataFrame, path: Path) -> Path:
    if path.suffix == ".csv":
        table.write_csv(path)
    else:
        table.write_parquet(path)
    return path


def read(path: Path) -> pl.DataFrame:
    return pl.read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path)


def run(model: Path, source: Path, target: Path) -> Predicted:
    return predict_file(model, source, target, quiet())


@pytest.mark.parametrize("output", ["out.csv", "out.parquet"])
@pytest.mark.parametrize("source", ["in.csv", "in.parquet"])
def test_every_row_comes_back_with_its_columns_prediction_and_probabilities(source: str, output: str, model: Path, tmp_path: Path) -> None:
    table = given()
    done = run(model, write(table, tmp_path / source), tmp_path / output)
    made = read(tmp_path / output)
    if (source, output) == ("in.csv", "out.parquet"):
        # What a CSV holds is text, and comes back as it came in.
        assert made.select(table.columns).equals(pl.read_csv(tmp_path / source, infer_schema=False))
        made = made.with_columns(made.select(table.columns).cast(dict(given().select("size", "count").schema)))  # type: ignore[arg-type]
    assert (done.rows, done.rejected, done.rejects, done.engine) == (150, 0, None, "onnx")
    assert made.columns == [*table.columns, "prediction", "probability_hail", "probability_rain", "probability_sun"]
    assert made.select("id", "size", "kind", "count", "note").equals(table.select("id", "size", "kind", "count", "note"))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source, output])


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("onnx", [True, False], ids=["onnx", "skops"])
def test_predictions_are_the_models_own(problem: str, onnx: bool, tmp_path: Path) -> None:
    fitted = version_folder(tmp_path / "model", "lightgbm", PROBLEMS[problem], onnx=onnx)
    table = given()
    run(tmp_path / "model", write(table, tmp_path / "in.csv"), tmp_path / "out.parquet")
    made = pl.read_parquet(tmp_path / "out.parquet")
    expected = predict(fitted, model_input(table, FEATURES), PROBLEMS[problem].task)
    if problem == "regression":
        assert np.allclose(made["prediction"].to_numpy(), expected, atol=1e-5)
        return
    labels = PROBLEMS[problem].labels
    assert np.allclose(made.select(f"probability_{label}" for label in labels).to_numpy(), expected, atol=1e-5)
    assert made["prediction"].to_list() == [labels[k] for k in expected.argmax(axis=1)]


BAD_ROWS = {
    3: ("size", "huge", "wrong_type: column 'size' is 'huge', not a number"),
    50: ("weight", "-1", "out_of_bounds: column 'weight' is -1, below 0: give 0 or more"),
    77: ("count", None, "null: column 'count' is null, which the model does not take"),
    149: ("flag", "perhaps", "wrong_type: column 'flag' is 'perhaps', neither true nor false"),
}


def test_a_csv_file_holds_no_cell_that_a_spreadsheet_runs_unless_it_is_raw(model: Path, tmp_path: Path) -> None:
    table = given().with_columns(pl.Series("note", ["=1+1"] * 2 + ["-5"] * 148), pl.Series("id", ["@x"] + ["1"] * 149))
    broken = table.head(1).with_columns(pl.all().cast(pl.String)).with_columns(size=pl.lit("huge"))
    source = write(pl.concat([table.with_columns(pl.all().cast(pl.String)), broken]), tmp_path / "in.csv")
    for raw, said in ((False, ["'=1+1", "-5", "'@x"]), (True, ["=1+1", "-5", "@x"])):
        done = predict_file(model, source, tmp_path / "out.csv", quiet(), raw=raw)
        made = pl.read_csv(tmp_path / "out.csv", infer_schema=False)
        assert [made["note"][0], made["note"][2], made["id"][0]] == said
        assert done.rejects is not None
        content = pl.read_csv(done.rejects, infer_schema=False)["content"].item()
        assert content.startswith(said[2])
        assert any("3 cells that a spreadsheet would run" in note for note in done.notes) != raw


def test_rows_that_break_the_schema_are_kept_aside_with_number_reason_and_content(model: Path, tmp_path: Path) -> None:
    table = given().with_columns(pl.all().cast(pl.String))
    for row, (column, value, _) in BAD_ROWS.items():
        values = table[column].to_list()
        values[row] = value
        table = table.with_columns(pl.Series(column, values))
    source = write(table, tmp_path / "in.csv")
    with source.open("a") as file:
        file.write("one,field,too,few\n")
    done = run(model, source, tmp_path / "out.csv")
    assert (done.rows, done.rejected) == (150 - len(BAD_ROWS), len(BAD_ROWS) + 1)
    assert done.rejects == tmp_path / "out.rejected.csv"
    aside = pl.read_csv(done.rejects, infer_schema=False)
    assert {(int(row), reason) for row, reason, _ in aside.iter_rows()} == {
        *((row + 1, reason) for row, (_, _, reason) in BAD_ROWS.items()),
        (151, "4 fields instead of 8"),
    }
    assert "row 50,there" in aside.filter(row="51")["content"].item() or "row 50,here" in aside.filter(row="51")["content"].item()
    kept = pl.read_csv(tmp_path / "out.csv")["id"].to_list()
    assert kept == [f"row {n}" for n in range(150) if n not in BAD_ROWS]


def test_a_row_is_predicted_the_same_whatever_its_neighbours_are(model: Path, tmp_path: Path) -> None:
    table = given()
    run(model, write(table, tmp_path / "all.parquet"), tmp_path / "all.out.parquet")
    run(model, write(table.tail(10), tmp_path / "some.parquet"), tmp_path / "some.out.parquet")
    every, some = (pl.read_parquet(tmp_path / f"{name}.out.parquet") for name in ("all", "some"))
    assert every.tail(10)["probability_sun"].equals(some["probability_sun"])


def test_a_table_of_several_chunks_comes_back_whole_and_in_order(model: Path, tmp_path: Path) -> None:
    table = pl.concat([given()] * 1_000).with_columns(id=pl.int_range(150_000))
    done = run(model, write(table, tmp_path / "in.parquet"), tmp_path / "out.csv")
    made = pl.read_csv(tmp_path / "out.csv")
    assert done.rows == made.height == 150_000
    assert made["id"].to_list() == list(range(150_000))
    assert made["probability_sun"].head(150).equals(made["probability_sun"].tail(150))


def test_a_missing_column_is_named_with_all_that_are_needed(model: Path, tmp_path: Path) -> None:
    source = write(given().drop("count"), tmp_path / "in.csv")
    with pytest.raises(PipelineError) as caught:
        run(model, source, tmp_path / "out.csv")
    assert "column 'count' is missing" in str(caught.value)
    assert "size, weight, count, flag, kind, place" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]


def test_a_column_that_may_be_null_may_be_left_out_and_is_told(model: Path, tmp_path: Path) -> None:
    done = run(model, write(given().drop("kind"), tmp_path / "in.csv"), tmp_path / "out.parquet")
    whole = run(model, write(given().with_columns(kind=None), tmp_path / "null.parquet"), tmp_path / "whole.parquet")
    assert done.notes[0] == "column 'kind' is not in the file: null in every row"
    assert not any("not in the file" in note for note in whole.notes)
    names = [f"probability_{label}" for label in ("hail", "rain", "sun")]
    assert pl.read_parquet(tmp_path / "out.parquet").select(names).equals(pl.read_parquet(tmp_path / "whole.parquet").select(names))


def test_a_failure_leaves_the_old_output_and_no_half_of_a_new_one(model: Path, tmp_path: Path) -> None:
    source = write(given(), tmp_path / "in.csv")
    with source.open("a") as file:
        file.write('row 150,"never closed\nrow 151,and another\n')
    (tmp_path / "out.csv").write_text("old")
    with pytest.raises(PipelineError, match="never closed"):
        run(model, source, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_a_table_without_one_good_row_is_told_and_its_rows_are_kept(model: Path, tmp_path: Path) -> None:
    source = write(given().with_columns(weight=pl.lit(-5.0)), tmp_path / "in.csv")
    with pytest.raises(PipelineError) as caught:
        run(model, source, tmp_path / "out.csv")
    assert "no row could be predicted, the first for out_of_bounds: column 'weight' is -5" in str(caught.value)
    assert str(tmp_path / "out.rejected.csv") in str(caught.value)
    assert pl.read_csv(tmp_path / "out.rejected.csv").height == 150
    assert not (tmp_path / "out.csv").exists()


def test_a_table_without_rows_is_told_in_one_line(model: Path, tmp_path: Path) -> None:
    source = write(given().clear(), tmp_path / "in.csv")
    with pytest.raises(PipelineError, match="no row"):
        run(model, source, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [("nowhere.csv", "out.csv", "does not exist"), ("in.csv", "out.xlsx", r"end it in \.csv or \.parquet")],
)
def test_what_cannot_be_read_or_written_is_told_before_anything_is_done(
    source: str, target: str, words: str, model: Path, tmp_path: Path
) -> None:
    write(given(), tmp_path / "in.csv")
    with pytest.raises(PipelineError, match=words):
        run(model, tmp_path / source, tmp_path / target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]


def test_a_folder_that_is_no_version_is_told_with_what_makes_one(tmp_path: Path) -> None:
    write(given(), tmp_path / "in.csv")
    with pytest.raises(PipelineError, match="mlops run"):
        run(tmp_path, tmp_path / "in.csv", tmp_path / "out.csv")
