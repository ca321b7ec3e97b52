"""What is private stays so: values planted in private columns are looked for in every byte that a project writes, says and answers."""

from __future__ import annotations

import json
import re
import stat
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mlops_pipeline.records.reading import read
from tests.conftest import Project, make_project
from tests.integration_tests.canaries import Canary, contents, found, moment, number, word
from tests.integration_tests.clients import get, post
from tests.integration_tests.conftest import serving

ROWS = 400
HIGHEST, LOWEST, BONUS, ASKED = 987_654.3125, -876_543.1875, 76_543.8125, 654_321.0625
BORN, MET = datetime(1911, 11, 11, 11, 11, 11), datetime(1922, 2, 22, 2, 22, 22)
RARE = [
    "Quokkaville",
    "Emufield",
    "Wombatpublic",
    "Numbat the first quollish words",
    "Dugongmail",
    "Platypuscode",
    "Echidnasent",
    "Bilbyword",
]
KEYS = ["Potorooan", "Bettongite"]
"""In a private column that features are found by: of one row, and of many."""
LEVELS = ["Aldermoorish", "Brackwellish"]
CANARIES = [
    *map(word, [*RARE[:4], "quollish", *RARE[4:], *LEVELS, *KEYS]),
    *map(number, (HIGHEST, LOWEST, BONUS, ASKED)),
    *map(moment, (BORN, MET)),
]

TABLES = r"^table\.csv$|^data/raw/[^/]+\.parquet$|^data/processed/[^/]+\.parquet$"
REPLAY = r"^data/raw/[^/]+/replay/rows\.parquet$"
"""Rows that features are computed from again before a version passes, as a server would: a processed copy of the table, which goes with it
into DVC's cache, of the columns alone that a feature needs. They are computed with, so that no digest would do.
"""
JOURNAL = r"^data/state/[^/]+/journal/[^/]+/(old|last)\.parquet$"
"""Rows that the features' state is made of: a processed copy of what features are found by and made from of other rows, its owner's alone.
A server does without it, and in the state's own files keys are digests.
"""
MODEL = r"(^|/)(model\.skops|training\.json|model\.onnx)$"
"""The model's own files, which hold the levels of a private category that enough rows have: it could not predict without them."""


def write_private_table(path: Path) -> None:
    """Ordinary columns and private ones, features and not, each private one with something planted."""
    rng = np.random.default_rng(3)
    size = rng.normal(size=ROWS)
    town = rng.choice(LEVELS, size=ROWS)
    salary = rng.normal(40_000, 8_000, size=ROWS).round(1)
    late = (size + (town == LEVELS[0]) + rng.normal(size=ROWS) > 0.5).astype(int)
    frame = pl.DataFrame(
        {
            "size": size.round(4),
            "kind": rng.choice(["a", "b", "c"], size=ROWS),
            "day": [f"{datetime(2024, 1, 1) + timedelta(days=k // 4):%Y-%m-%d}" for k in range(ROWS)],
            "town": town,
            "note": rng.choice(["came late and paid", "paid at once", "has not paid"], size=ROWS),
            "salary": salary,
            "born": [f"{datetime(1960, 1, 1) + timedelta(days=int(d)):%Y-%m-%d %H:%M:%S}" for d in rng.integers(0, 9000, size=ROWS)],
            "vip": rng.choice(["yes", "no"], size=ROWS),
            "mail": [f"m{k}@x.example" for k in range(ROWS)],
            "code": rng.choice(["p", "q"], size=ROWS),
            "bonus": rng.normal(900, 100, size=ROWS).round(1),
            "owner": rng.choice([KEYS[1], "somebody", "nobody"], size=ROWS),
            "met": [f"{datetime(2001, 1, 1) + timedelta(days=int(d)):%Y-%m-%d %H:%M:%S}" for d in rng.integers(0, 900, size=ROWS)],
            "late": late,
        },
        strict=False,
    )
    planted = {
        "town": {11: RARE[0], 12: RARE[0], 390: RARE[1]},
        "kind": {13: RARE[2], 14: RARE[2]},
        "note": {15: RARE[3]},
        "salary": {16: HIGHEST, 17: LOWEST},
        "born": {18: f"{BORN:%Y-%m-%d %H:%M:%S}"},
        "mail": {0: RARE[4], 19: RARE[4]},
        "code": {20: RARE[5]},
        "owner": {23: KEYS[0]},
        "bonus": {21: BONUS},
        "met": {22: f"{MET:%Y-%m-%d %H:%M:%S}"},
    }
    frame = frame.with_columns(
        pl.Series(name, [cells.get(k, value) for k, value in enumerate(frame[name])], strict=False) for name, cells in planted.items()
    )
    text = frame.write_csv().splitlines()
    # Three rows that cannot be read: a salary that is none, a moment that is none, and too few cells.
    bad = frame[5].with_columns(salary=pl.lit(RARE[7]), mail=pl.lit(RARE[6]), town=pl.lit(RARE[0]))
    worse = frame[6].with_columns(born=pl.lit(RARE[7]), note=pl.lit(RARE[3]), bonus=pl.lit(BONUS))
    text += [*bad.write_csv(include_header=False).splitlines(), *worse.write_csv(include_header=False).splitlines(), f"{RARE[7]},{RARE[0]}"]
    path.write_text("\n".join(text) + "\n")


def private(kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "private": True, **more}


SETTINGS: dict[str, Any] = {
    "columns": {
        "size": {"kind": "number"},
        "kind": {"kind": "category", "nullable": False},
        "day": {"kind": "datetime", "nullable": False},
        "town": private("category", nullable=False),
        "note": private("text"),
        "salary": private("number"),
        "born": private("datetime"),
        "vip": private("boolean"),
        "mail": private("text"),
        "code": private("category"),
        "bonus": private("number"),
        "met": private("datetime"),
        "owner": private("category"),
        "late": {"kind": "boolean"},
        "shout": {"kind": "text"},
        "owners": {"kind": "integer"},
        "usual": {"kind": "number"},
        "codes": {"kind": "integer"},
        "newest": private("text"),
    },
    "time_column": "day",
    "derive": {"shout": "UPPER(mail)"},
    "counts": {"codes": ["code"]},
    "aggregates": {
        "owners": {"how": "count", "by": ["owner"]},
        "usual": {"how": "mean", "of": "size", "by": ["owner"], "window": "30d"},
        "newest": {"how": "last", "of": "mail", "by": ["kind"]},
    },
}


def allowed_places() -> dict[str, re.Pattern[str]]:
    features = dict.fromkeys([*RARE[:4], "quollish", str(HIGHEST), str(LOWEST), BORN.isoformat()], f"|{REPLAY}")
    more = {**features, **dict.fromkeys(LEVELS, f"|{REPLAY}|{MODEL}"), **dict.fromkeys(KEYS, f"|{REPLAY}|{JOURNAL}")}
    return {each.name: re.compile(TABLES + more.get(each.name, "")) for each in CANARIES}


def told(canaries: list[Canary], said: dict[str, bytes]) -> list[str]:
    return [f"{canary.name}: {name}" for name, text in said.items() for part in contents(text) for canary in canaries if canary.is_in(part)]


def test_what_is_planted_in_private_columns_is_found_nowhere(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    write_private_table(project.folder / "table.csv")
    project.change(
        dataset=SETTINGS,
        ingest={"max_broken_share": 0.2},
        validate={"on_failure": "warn"},
        features={"exclude": ["mail", "code", "bonus", "met", "owner", "shout", "codes", "newest"]},
        evaluate={"slices": ["kind", "town"]},
    )
    said: dict[str, bytes] = {}

    def typed(*words: str, check: bool = True) -> None:
        done = project.mlops(*words, check=check)
        said[" ".join(words[:2])] = (done.stdout + done.stderr).encode()

    done = project.run()
    said["run"] = (done.stdout + done.stderr).encode()
    assert "passed" in (project.folder / "models/artifacts/registration.json").read_text()
    asked = pl.read_csv(project.folder / "table.csv", infer_schema=False, truncate_ragged_lines=True).head(40)
    (tmp_path / "in").mkdir()
    spoiled = asked.with_columns(
        salary=pl.when(pl.int_range(pl.len()) == 3).then(pl.lit(RARE[7])).otherwise("salary"),
        town=pl.when(pl.int_range(pl.len()) == 4).then(pl.lit(RARE[1])).otherwise("town"),
    )
    spoiled.write_csv(tmp_path / "in/asked.csv")
    config = ("--config", str(project.config))
    typed("predict", "--input", str(tmp_path / "in/asked.csv"), "--output", str(tmp_path / "in/said.csv"), *config)
    rejected = tmp_path / "in/said.rejected.csv"
    assert pl.read_csv(rejected, infer_schema=False)["row"].to_list() == ["4"]
    assert stat.S_IMODE(rejected.stat().st_mode) == 0o600
    said["rejected"] = rejected.read_bytes()
    quarantine = project.folder / "data/raw/small.quarantine.csv"
    aside = pl.read_csv(quarantine, infer_schema=False)
    assert aside.height == 3
    assert stat.S_IMODE(quarantine.stat().st_mode) == 0o600
    # A spreadsheet would run what begins with a minus: an apostrophe stands before it.
    assert aside["content"][0].removeprefix("'").startswith(f"{asked['size'][5]},{asked['kind'][5]},{asked['day'][5]},,,,")
    typed("models", "show", *config)
    typed("config", *config)
    typed("monitor", "report", "--current", str(project.folder / "data/processed/small.test.parquet"), *config)
    typed("status", *config)
    said |= answers_of_a_server(project, tmp_path / "serve")
    exported = tmp_path / "serve/records.csv"
    typed("records", "export", "--output", str(exported), "--config", str(tmp_path / "serve/serving.yaml"))
    typed("records", "show", "--config", str(tmp_path / "serve/serving.yaml"))
    assert exported.stat().st_size > 100
    labels, watch = came_of_the_record(tmp_path), ("--config", str(tmp_path / "serve/monitoring.yaml"))
    typed("labels", "add", "--input", str(labels), *watch)
    typed("monitor", "run", "--close", *watch)
    assert b"window" in said["monitor run"]
    kept = tmp_path / "serve/watch"
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept.iterdir()} == {0o600}
    assert ((kept / "state.sqlite").is_file(), stat.S_IMODE(kept.stat().st_mode)) == (True, 0o700)

    assert_copies_hold_only_what_features_need(project.folder)

    # The fit's own levels are there, or the search finds nothing anywhere.
    assert any(word(LEVELS[0]).is_in(part) for part in contents((project.folder / "models/artifacts/model/model.skops").read_bytes()))
    assert (
        len({line.partition(": ")[0] for line in told(CANARIES, {"table": (project.folder / "data/raw/small.parquet").read_bytes()})}) >= 10
    )
    assert found(project.folder, CANARIES, allowed_places()) == []
    assert found(tmp_path / "serve", CANARIES, allowed_places()) == []
    assert told(CANARIES, said) == []


def assert_copies_hold_only_what_features_need(folder: Path) -> None:
    """Rows of the state's journal, their owner's alone, and those of the replay: of no column more."""
    journal = [path for path in folder.glob("data/state/small/journal/*/*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in journal} == {0o600}
    kept = set[str]().union(*(pl.read_parquet_schema(path) for path in journal if path.suffix == ".parquet"))
    assert kept == {"size", "day", "owner", "\0first", "\0second"}
    drawn = pl.read_parquet_schema(folder / "data/raw/small/replay/rows.parquet").keys()
    assert drawn == {"size", "kind", "day", "town", "note", "salary", "born", "vip", "owner", "\0number", "\0place"}


def came_of_the_record(folder: Path) -> Path:
    """A table of what came of the rows that the server has answered, and the settings of a watch of it."""
    came = read(folder / "serve/records").filter(pl.col("version") != "").select("request_id", "row", late=1, mail=pl.lit(RARE[6]))
    came.drop_nulls().write_csv(folder / "in/labels.csv")
    settings = {"serving": "serving.yaml", "state": {"file": str(folder / "serve/watch/state.sqlite")}, "windows": {"settle_s": 0}}
    (folder / "serve/monitoring.yaml").write_text(json.dumps(settings))
    return folder / "in/labels.csv"


def answers_of_a_server(project: Project, folder: Path) -> dict[str, bytes]:
    """What a server answers to rows that it takes and to rows that it does not, by every protocol, and its pages."""
    said: dict[str, bytes] = {}
    with serving(project, folder, record={"mode": "durable"}) as server:
        row = {
            name: value
            for name, value in server.example.items()
            if name in ("size", "kind", "town", "note", "salary", "born", "vip", "day", "owner", "owners", "usual")
        }
        rows = {
            "good": row | {"town": LEVELS[1], "note": RARE[3], "salary": HIGHEST, "born": f"{BORN:%Y-%m-%d %H:%M:%S}"},
            "unseen": row | {"town": RARE[0], "salary": ASKED},
            "number": row | {"salary": RARE[7]},
            "text": row | {"note": [RARE[3]]},
            "truth": row | {"vip": ASKED},
            "category": row | {"town": {"is": RARE[0]}},
            "moment": row | {"born": RARE[7]},
            "infinite": row | {"salary": 1e39},
            "missing": {name: value for name, value in row.items() if name != "town"} | {"mail": RARE[4]},
        }
        statuses = {}
        for name, one in rows.items():
            for route, body in (("predict", {"records": [one]}), ("invocations", {"dataframe_records": [one]})):
                statuses[name], answer, headers = post(f"{server.url}/{route}", body)
                said[f"{route} {name}"] = json.dumps([answer, dict(headers)]).encode()
            inputs = [{"name": key, "shape": [1], "datatype": _datatype(value), "data": [value]} for key, value in one.items()]
            said[f"v2 {name}"] = json.dumps(post(f"{server.url}/v2/models/champion/infer", {"inputs": inputs})[1]).encode()
        assert statuses == dict.fromkeys(("good", "unseen"), 200) | dict.fromkeys(list(rows)[2:], 422), said["predict good"]
        for page in ("", "docs", "openapi.json", "status", "metrics", "ready", "v2/models/champion"):
            said[f"GET /{page}"] = json.dumps(str(get(f"{server.url}/{page}")[1])).encode()
        described = get(f"{server.url}/status")[1]["models"]["champion"]
        assert {column["name"]: column["categories"] for column in described["columns"] if column["kind"] == "category"} == {
            "kind": ["a", "b", "c"],
            "town": None,
        }
        assert post(f"{server.url}/predict", {"records": [described["example"]]})[0] == 200
        modes = {path.name.rpartition(".")[2]: stat.S_IMODE(path.stat().st_mode) for path in (server.folder / "records").iterdir()}
    assert stat.S_IMODE((folder / "records").stat().st_mode) == 0o700
    assert set(modes) >= {"sqlite", "sqlite-wal"}
    assert set(modes.values()) == {0o600}
    assert set(read(folder / "records").columns) & SETTINGS["columns"].keys() == {"size", "kind", "day", "owners", "usual"}
    return said


def _datatype(value: Any) -> str:
    return "BYTES" if isinstance(value, str | dict | list) else "FP64"
