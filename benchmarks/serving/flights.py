"""Requests a second on a model of mixed columns, by the forms in which clients write one row: the flights' champion.

    python -m benchmarks.serving.flights [--seconds 5] [--model FOLDER] [--table FILE]

Whole numbers as 315 and as 315.0, as pandas and MLflow's clients write them; a missing number as null and as NaN, as Python
writes it; by each protocol. Then 1,000 rows a request. Every form must get the answer of the plainest one before it is measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from benchmarks.measure import BIN, REPOSITORY, environment
from benchmarks.serving import launch, load

MANY = 1000
HEADERS = {"Content-Type": "application/json"}
FORMS = ("315", "315.0", "null", "NaN")
Row = dict[str, Any]


def rows_of(table: Path, columns: dict[str, Row], count: int) -> list[Row]:
    """Whole rows of the table, in the columns of the model."""
    found = pl.read_parquet(table, columns=list(columns)).drop_nulls().head(count)
    categories = [name for name, column in columns.items() if column["kind"] == "category"]
    return found.with_columns(pl.col(categories).cast(pl.String)).to_dicts()


def written(row: Row, columns: dict[str, Row], form: str) -> Row:
    """A row as one kind of client writes it."""
    whole = [name for name, column in columns.items() if column["kind"] == "integer"]
    row = row | {name: int(row[name]) if form == "315" else float(row[name]) for name in whole}
    if form in ("null", "NaN"):
        row[next(name for name, column in columns.items() if column["kind"] == "number" and column["nullable"])] = (
            None if form == "null" else float("nan")
        )
    return row


def _records(rows: list[Row], _: dict[str, Row]) -> Any:
    return {"records": rows}


def _split(rows: list[Row], _: dict[str, Row]) -> Any:
    return {"dataframe_split": {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}}


def _tensors(rows: list[Row], columns: dict[str, Row]) -> Any:
    def datatype(name: str) -> str:
        kind = columns[name]["kind"]
        return "BYTES" if kind == "category" else "INT64" if kind == "integer" else "FP64"

    inputs = [{"name": name, "shape": [len(rows)], "datatype": datatype(name), "data": [row[name] for row in rows]} for name in rows[0]]
    return {"inputs": inputs}


WAYS: dict[str, tuple[str, Callable[[list[Row], dict[str, Row]], Any]]] = {
    "/predict": ("/predict", _records),
    "/invocations": ("/invocations", _split),
    "v2": ("/v2/models/champion/infer", _tensors),
}


def _predictions(port: int, path: str, body: bytes) -> Any:
    status, content = launch.ask(port, "POST", path, body, HEADERS)
    if status != 200:
        raise SystemExit(f"{path} answered {status}: {content[:300].decode(errors='replace')}")
    answer = json.loads(content)
    return answer.get("predictions", answer.get("outputs"))


def measured(port: int, folder: Path, rows: list[Row], columns: dict[str, Row], seconds: int) -> list[str]:
    """A line a protocol: requests a second by form, and what each is to the best."""
    lines = []
    for title, (path, body_of) in WAYS.items():
        rates, answers = [], []
        for form in FORMS:
            body = json.dumps(body_of([written(row, columns, form) for row in rows], columns)).encode()
            answers.append(_predictions(port, path, body))
            with launch.cores(of_load=True):
                seen = [
                    load.measure(f"http://127.0.0.1:{port}{path}", body, HEADERS, rows=len(rows), connections=1, seconds=s, folder=folder)
                    for s in (1, seconds)
                ][-1]
            if not seen.valid:
                raise SystemExit(f"{title}, {form}: {seen.faults}")
            rates.append(seen.requests_per_second * len(rows))
        for one, other in ((0, 1), (2, 3)):
            if answers[one] != answers[other]:
                raise SystemExit(f"{title}: {FORMS[one]} and {FORMS[other]} are answered differently")
        lines.append(f"| {title} | {len(rows):,} | " + " | ".join(f"{rate:,.0f} ({rate / max(rates):.2f})" for rate in rates) + " |")
    return lines


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.serving.flights", description=__doc__)
    arguments.formatter_class = argparse.RawDescriptionHelpFormatter
    arguments.add_argument("--seconds", type=int, default=5, help="seconds a load lasts")
    arguments.add_argument("--model", type=Path, default=REPOSITORY / "models/registry/best_model", metavar="FOLDER")
    arguments.add_argument("--table", type=Path, default=REPOSITORY / "data/raw/flights.parquet", metavar="FILE")
    wanted = arguments.parse_args()
    if not (wanted.model / "training.json").is_file():
        raise SystemExit(f"{wanted.model}: holds no champion: run `mlops run` first, or name one with --model")
    columns = json.loads((wanted.model / "training.json").read_text())["columns"]
    names = sorted(columns, key=lambda name: columns[name]["kind"] == "category")  # the model's order
    columns = {name: columns[name] for name in names}
    many = rows_of(wanted.table, columns, MANY)
    with tempfile.TemporaryDirectory(prefix="mlops-serving-flights-") as temporary:
        folder, port = Path(temporary), launch.free_port()
        content = {"models": {"champion": str(wanted.model.resolve())}, "record": {"mode": "relaxed", "folder": str(folder / "records")}}
        (folder / "serving.yaml").write_text(json.dumps(content))
        words = [BIN / "mlops", "serve", "--config", folder / "serving.yaml", "--port", port]
        with launch.running(launch.Command.of(words, environment()), port, "/ready", folder):
            print("| flights, 1 connection, rows/s (to the best form) | rows | " + " | ".join(FORMS) + " |")
            print("|---|--:|" + "--:|" * len(FORMS))
            for rows in (many[:1], many):
                print(*measured(port, folder, rows, columns, wanted.seconds), sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
