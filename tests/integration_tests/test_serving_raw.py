"""A server that computes features: its state is replaced under load, what it knows is told, and its record holds both forms of a row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
import yaml
from playwright.sync_api import Browser, expect

from mlops_pipeline.features.state import CURRENT
from mlops_pipeline.records.reading import read, sources
from tests.conftest import unused_port, wait_for
from tests.integration_tests.clients import get, load, metric, post
from tests.integration_tests.conftest import started, until_healthy
from tests.model_tests.test_raw_rows import FEATURES, HOUSES, PLAIN, Model, made_in, write_states

BOTH = {"records": [PLAIN, {**PLAIN, "house": "south"}]}
OTHER = {"north": 50, "south": 60}
OLD = datetime(2024, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return made_in(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module")
def server(model: Model) -> Iterator[str]:
    folder, port = model.folder.parent, unused_port()
    settings = {
        "models": {"house": str(model.folder)},
        "port": port,
        "workers": 2,
        "features": {"state": str(model.states), "max_age": "1y"},
        "registry": {"poll_s": 0.1},
        "record": {"folder": str(folder / "records"), "loss_ms": 50},
    }
    (folder / "serving.yaml").write_text(yaml.safe_dump(settings))
    log = folder / "serve.log"
    with started("mlops", "serve", "--config", str(folder / "serving.yaml"), cwd=folder, log=log) as process:
        until_healthy(process, log, f"http://127.0.0.1:{port}/ready")
        yield f"http://127.0.0.1:{port}"


def predicted(url: str, body: Any, query: str = "") -> list[Any]:
    status, said, _ = post(f"{url}/predict{query}", body)
    assert status == 200, said
    return list(said["predictions"])


def ages(url: str) -> list[int]:
    return [prediction["features"]["age"] for prediction in predicted(url, BOTH, "?features=true")]


def test_a_state_is_replaced_between_two_requests(server: str, model: Model) -> None:
    states = {"one": HOUSES, "two": OTHER}
    finished = {
        name: predicted(server, {"records": [{**FEATURES, "age": counts[house]} for house in ("north", "south")]})
        for name, counts in states.items()
    }
    assert predicted(server, BOTH) == finished["one"]
    with load(f"{server}/predict", BOTH) as seen:
        for turn in range(1, 5):
            write_states(model.states, f"turn {turn}", OTHER if turn % 2 else HOUSES)
            wanted = [50, 60] if turn % 2 else [41, 30]
            wait_for(lambda wanted=wanted: all(ages(server) == wanted for _ in range(8)), 60, "the other state in both workers")  # type: ignore[misc]
        # A refresh that was killed leaves what is no version, or no state.
        (model.states / "unfinished").mkdir()
        for broken in ("unfinished", "nothing"):
            (model.states / CURRENT).write_text(broken)
            assert ages(server) == [41, 30]
    assert not seen.broken
    assert seen.statuses() == {200}
    said = {json.dumps(answer["predictions"]) for _, answer in seen.answers}
    assert said == {json.dumps(each) for each in finished.values()}, "one answer, one state"


def test_an_old_state_is_told(server: str, model: Model) -> None:
    write_states(model.states, "old", HOUSES, OLD)
    wait_for(lambda: all("warnings" in post(f"{server}/predict", BOTH)[1] for _ in range(8)), 60, "the old state in both workers")
    status, said, headers = post(f"{server}/predict?features_as_of=true", BOTH)
    assert (status, said["features_as_of"]) == (200, "2024-01-31T12:00:00Z")
    assert "older than 1y" in said["warnings"][0]["detail"]
    assert json.loads(headers["Mlops-Warnings"])[0]["reason"] == "stale_features"
    assert metric(server, "mlops_features_stale_total", model="house", policy="warn") >= 2
    wait_for(lambda: metric(server, "mlops_features_as_of_seconds", model="house") == OLD.timestamp(), 60, "the next beat of both workers")
    assert metric(server, "mlops_features_age_seconds", model="house") > 86_400
    texts = [{"name": name, "shape": [1], "datatype": "BYTES", "data": [PLAIN[name]]} for name in ("house", "plan", "floor")]
    numbers = [(name, kind, PLAIN[name]) for name, kind in (("half", "FP64"), ("member", "BOOL"))]
    tensors = [*texts, *({"name": name, "shape": [1], "datatype": kind, "data": [value]} for name, kind, value in numbers)]
    said = post(f"{server}/v2/models/house/infer", {"inputs": tensors, "parameters": {"features_as_of": True}})[1]
    assert said["parameters"]["features_as_of"] == "2024-01-31T12:00:00Z"
    assert json.loads(get(f"{server}/v2/models/house")[1]["parameters"]["raw_inputs"])[0]["name"] == "half"
    raw = get(f"{server}/status")[1]["models"]["house"]["raw"]
    assert (raw["features_as_of"], raw["computed"], raw["why_not"]) == ("2024-01-31T12:00:00Z", ["age", "score"], "")


def test_the_page_asks_for_the_sources_columns(server: str, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(server)
    expect(page.get_by_label("house", exact=True)).to_have_value("north")
    expect(page.get_by_label("age", exact=True)).to_have_count(0)
    page.get_by_label("house", exact=True).fill("south")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#answer .made")).to_have_text("age30score0.25")
    expect(page.locator("#raw-note")).to_contain_text("age, score are computed from these")
    page.get_by_label("house", exact=True).fill("nowhere")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#answer .bad")).to_contain_text("'age', which is computed from 'house', is null")
    page.close()


def test_the_record_holds_what_came_and_what_was_computed(server: str, model: Model) -> None:
    raw = [{**PLAIN, "half": 0.1, "plan": None}, {**PLAIN, "house": "south"}]
    for name, records in (("raw", raw), ("finished", [FEATURES])):
        assert post(f"{server}/predict", {"records": records}, **{"X-Request-Id": name})[0] == 200
    folder = model.folder.parent / "records"
    wait_for(lambda: folder.exists() and {"raw", "finished"} <= set(read(folder)["request_id"]), 60, "the record")
    table = read(folder).filter(pl.col("request_id").is_in(["raw", "finished"]))
    rows = table.sort("request_id", "row").select("house", "half", "age", "score", "plan").rows()
    assert rows == [
        (None, None, 41.0, 0.25, "pro"),
        ("north", 0.1, 41.0, pytest.approx(0.2), None),
        ("south", 0.125, 30.0, 0.25, "pro"),
    ]
    own = pl.concat([own.filter(frame["request_id"] == "raw") for frame, own in sources(folder)])
    assert own.to_dicts() == [{name: each[name] for name in ("half", "member", "house", "plan", "floor")} for each in raw]
