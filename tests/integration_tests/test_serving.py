"""The model server as its users and operators see it: real processes, real sockets."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.conftest import Project, make_project, wait_for
from tests.integration_tests.bad_states import head_of, raw
from tests.integration_tests.clients import get, load, metric, post
from tests.integration_tests.conftest import Server, serving, started, until_healthy
from tests.integration_tests.faults import children, workers_of
from tests.unit_tests.workshop import digest_of

KEY = "a-long-random-key"
DIGEST = digest_of(KEY)


def test_three_protocols_say_the_same(served: Server) -> None:
    row, names = served.example, list(served.example)
    status, said, headers = post(f"{served.url}/predict", {"records": [row], "ids": ["r1"]}, **{"X-Request-Id": "mine"})
    assert (status, said["request_id"], headers["X-Request-Id"]) == (200, "mine", "mine")
    assert said["model"] == {"name": "champion", "version": "1"}
    assert said["predictions"][0]["id"] == "r1"
    probabilities = list(said["predictions"][0]["probabilities"].values())
    assert probabilities == pytest.approx(served.expected, abs=1e-5)
    split = {"dataframe_split": {"columns": names[::-1], "data": [list(row.values())[::-1]]}}
    assert post(f"{served.url}/invocations", split)[1]["predictions"][0] == pytest.approx(served.expected, abs=1e-5)
    cells = ",".join("" if value is None else str(value) for value in row.values())
    by_csv = post(f"{served.url}/invocations", f"{','.join(names)}\n{cells}\n".encode(), "text/csv; charset=utf-8")
    assert by_csv[1]["predictions"][0] == pytest.approx(served.expected, abs=1e-5)
    tensors = [
        {"name": name, "shape": [1], "datatype": "BYTES" if isinstance(value, str) else "FP64", "data": [value]}
        for name, value in row.items()
    ]
    outputs = {output["name"]: output for output in post(f"{served.url}/v2/models/champion/infer", {"inputs": tensors})[1]["outputs"]}
    assert outputs["probabilities"]["data"] == pytest.approx(served.expected, abs=1e-5)


def test_mlflows_own_client_needs_no_change(served: Server, registered: Project) -> None:
    example = (registered.folder / "models/registry/best_model/serving_input_example.json").read_bytes()
    status, said, _ = post(f"{served.url}/invocations", example)
    assert status == 200
    assert said["predictions"][0] == pytest.approx(served.expected, abs=1e-5)
    assert get(f"{served.url}/ping")[0] == get(f"{served.url}/health")[0] == 200
    import importlib.metadata

    assert get(f"{served.url}/version")[1].decode() == importlib.metadata.version("mlflow")


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "said"),
    [
        ("/predict", b"{", "application/json", 400, "the body is not"),
        ("/predict", b"{}", "text/plain", 415, "the content type is text/plain: send application/json"),
        ("/predict", b"{}", "application/x-www-form-urlencoded", 415, "send application/json"),
        ("/predict", {"records": []}, "application/json", 422, "holds no row"),
        ("/predict", {"records": [{}]}, "application/json", 422, "row 0: column"),
        ("/nowhere", b"{}", "application/json", 404, "there is nothing at /nowhere: see /docs"),
        ("/models/other/predict", b"{}", "application/json", 404, "there is nothing at"),
        ("/metrics", b"{}", "application/json", 405, "/metrics takes GET, HEAD, not POST"),
        ("/v2/models/champion/versions/99/infer", b"{}", "application/json", 404, "is served in version 1, not in 99"),
        ("/v2/models/champion/infer", b"{}", "text/csv", 415, "the content type is text/csv"),
        ("/predict", b" " * 9_000_000, "application/json", 413, "the body is larger than 8 MB: send fewer rows"),
        ("/invocations", b'{"dataframe_split":{"columns":["\\ud800"],"data":[[NaN]]}}', "application/json", 400, "the body is not"),
        ("/invocations", b'{"inputs":{"\\ud800":[NaN]}}', "application/json", 400, "the body is not"),
    ],
)
def test_bad_input_gets_a_clear_answer(served: Server, path: str, body: object, kind: str, status: int, said: str) -> None:
    refused, answer, headers = post(f"{served.url}{path}", body, kind)
    assert refused == status
    if path.startswith("/v2"):
        assert said in answer["error"]
    else:
        assert headers["Content-Type"] == "application/problem+json"
        assert answer["status"] == status
        assert said in answer["detail"]
        assert answer["request_id"] == headers["X-Request-Id"]


def test_a_body_without_a_length_is_refused_when_it_grows_too_large(served: Server) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=120) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        try:
            for _ in range(200):
                connection.sendall(chunk)
        except OSError:
            pass
        assert head_of(connection).startswith(b"HTTP/1.1 413")
    assert served.is_ready()


def test_other_sites_names_that_lead_here_and_repeated_keys_are_refused(served: Server) -> None:
    body = {"records": [served.example]}
    status, said, _ = post(f"{served.url}/predict", body, Host="rebound.example")
    assert (status, said["type"]) == (403, "/docs#foreign_host")
    assert get(f"{served.url}/status", Host="rebound.example")[0] == 403
    assert get(f"{served.url}/ready", Host="10.1.2.3:8000")[0] == 200, "a probe asks by any name"
    status, said, _ = post(f"{served.url}/predict", body, Origin="https://evil.example")
    assert (status, said["type"]) == (403, "/docs#foreign_origin")
    tensors = [{"name": "size", "shape": [1], "datatype": "FP64", "data": [1]}]
    for route, content in (("predict", body), ("invocations", {"dataframe_records": [served.example]})):
        untyped = raw(served, untyped_post(f"/{route}", content))
        assert untyped.startswith(b"HTTP/1.1 415"), untyped
    form = raw(served, untyped_post("/v2/models/champion/infer", {"inputs": tensors}, b"Origin: null\r\n"))
    assert form.startswith(b"HTTP/1.1 403"), form
    text = json.dumps(body).encode()
    status, said, _ = post(f"{served.url}/predict", text.replace(b'{"records"', b'{"records": [], "records"', 1))
    assert (status, said["type"]) == (400, "/docs#repeated_key")
    status, said, _ = post(f"{served.url}/predict", body, **{"X-Request-Id": "i" * 257})
    assert (status, said["type"]) == (400, "/docs#too_long")
    status, said, _ = post(f"{served.url}/predict", {**body, "ids": ["i" * 257]})
    assert (status, said["detail"]) == (422, "ids[0] has 257 characters, more than 256 characters")


def untyped_post(path: str, content: object, *more: bytes) -> bytes:
    """A request without a content type."""
    body = json.dumps(content).encode()
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" % path.encode()
    return head + b"".join(more) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def test_what_was_asked_is_counted_and_logged_without_values(served: Server) -> None:
    before = metric(served.url, "mlops_rejected_total", reason="wrong_type")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    column = next(name for name, value in served.example.items() if not isinstance(value, str))
    bad = {**served.example, column: "secret-value"}
    post(f"{served.url}/predict", {"records": [bad]}, **{"X-Request-Id": "traced", "traceparent": trace})
    assert metric(served.url, "mlops_rejected_total", reason="wrong_type") == before + 1
    line = next(json.loads(text) for text in served.log.read_text().splitlines() if '"traced"' in text)
    assert (line["event"], line["status"], line["traceparent"]) == ("refused", 422, trace)
    assert line["reason"] == f"wrong_type (row 0, column '{column}')"
    assert "secret-value" not in served.log.read_text()


def test_it_loads_no_training_library(served: Server) -> None:
    (worker,) = workers_of(served)
    loaded = Path(f"/proc/{worker}/maps").read_text()
    assert "onnxruntime" in loaded
    found = re.findall(r"site-packages/(sklearn|pandas|pyarrow|polars|lightgbm|scipy|matplotlib)/", loaded)
    assert not found


def test_records_are_read_back_as_a_table(registered: Project, tmp_path: Path) -> None:
    with serving(registered, tmp_path / "serve") as server:
        post(f"{server.url}/predict", {"records": [server.example] * 3, "ids": ["a", "b", "c"]}, **{"X-Request-Id": "three"})
        post(f"{server.url}/predict", {"records": [{}]}, **{"X-Request-Id": "wrong"})
    import polars as pl

    target = tmp_path / "records.parquet"
    config = server.folder / "serving.yaml"
    registered.mlops("records", "export", "--config", str(config), "--output", str(target))
    table = pl.read_parquet(target)
    three = table.filter(pl.col("request_id") == "three")
    assert three["id"].to_list() == ["a", "b", "c"]
    assert three["version"].to_list() == ["1"] * 3
    for name, value in server.example.items():
        assert three[name][0] == pytest.approx(value)
    probability = [name for name in table.columns if name.startswith("probability_")]
    assert [three[name][0] for name in probability] == pytest.approx(server.expected, abs=1e-5)
    assert table.filter(pl.col("request_id") == "wrong")["error"][0].startswith("missing_column (row 0")
    shown = registered.mlops("records", "show", "--config", str(config)).stdout
    assert "three" in shown


def test_keys_guard_everything_but_health(registered: Project, tmp_path: Path) -> None:
    keys = {name: digest_of(name) for name in ("shop", "scraper", "slow")}
    rights = {
        "team": DIGEST,
        "shop": {"digest": keys["shop"], "scopes": ["predict"], "models": ["champion"], "expires": "2999-01-01"},
        "scraper": {"digest": keys["scraper"], "scopes": ["metrics"]},
        "slow": {"digest": keys["slow"], "requests_per_s": 0.01, "rows_per_s": 1},
    }
    models, limits = {"champion": "champion", "second": "1"}, {"wrong_keys": 3}
    log = {"requests": "all"}
    with serving(registered, tmp_path / "serve", api_keys=rights, models=models, limits=limits, log=log) as server:
        body, url = {"records": [server.example]}, f"{server.url}/predict"
        status, said, headers = post(url, body)
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "an API key is needed" in said["detail"]
        assert post(url, body, Authorization=f"Bearer {KEY}", **{"X-Request-Id": "by-team"})[0] == 200
        assert post(url, body, **{"X-API-Key": KEY})[0] == 200
        assert [get(f"{server.url}{path}")[0] for path in ("/metrics", "/status", "/openapi.json", "/v2", "/v2/models/champion")] == [
            401
        ] * 5
        assert [get(f"{server.url}{path}")[0] for path in ("/live", "/ready", "/ping", "/v2/health/ready", "/", "/docs")] == [200] * 6
        of_shop = {"X-API-Key": "shop"}
        assert post(url, body, **of_shop, **{"X-Request-Id": "by-shop"})[0] == 200
        status, said, _ = post(f"{server.url}/models/second/predict", body, **of_shop, **{"X-Request-Id": "not-for-shop"})
        assert (status, said["type"], said["title"]) == (403, "/docs#forbidden", "Refused")
        assert "the API key 'shop' is not good for the model 'second'" in said["detail"]
        assert [get(f"{server.url}{path}", **of_shop)[0] for path in ("/metrics", "/status", "/v2/models/second")] == [403] * 3
        document = get(f"{server.url}/openapi.json", **of_shop)[1]
        assert "/models/champion/predict" in document["paths"]
        assert "/models/second/predict" not in document["paths"]
        assert {"401", "403", "429"} <= set(document["paths"]["/v2/models/champion"]["get"]["responses"])
        assert get(f"{server.url}/metrics", Authorization="Bearer scraper")[0] == 200
        assert post(url, body, Authorization="Bearer scraper")[0] == 403
        of_slow = {"X-API-Key": "slow"}
        assert post(url, {"records": [server.example] * 5}, **of_slow)[0] == 200
        status, said, headers = post(url, body, **of_slow)
        assert (status, said["type"], said["status"], headers.get_content_type()) == (
            429,
            "/docs#rate_limited",
            429,
            "application/problem+json",
        )
        assert 90 <= int(headers["Retry-After"]) <= 100
        wrong = [post(url, body, Authorization="Bearer wrong") for _ in range(5)]
        assert [status for status, _, _ in wrong] == [401] * 3 + [429] * 2
        assert 1 <= int(wrong[-1][2]["Retry-After"]) <= 20
        assert post(url, body, **of_shop)[0] == 200
        reasons = {"unauthorized": 9, "forbidden": 5, "rate_limited": 1, "wrong_keys": 2}
        assert {reason: metric(server.url, "mlops_rejected_total", {"X-API-Key": KEY}, reason=reason) for reason in reasons} == reasons
        lines = [json.loads(text) for text in server.log.read_text().splitlines() if text.startswith("{")]
        named = {line["request_id"]: (line["event"], line.get("key_name")) for line in lines if "request_id" in line}
        assert (named["by-shop"], named["not-for-shop"]) == (("answered", "shop"), ("refused", "shop"))
        assert sum(line["event"] == "slows wrong keys down" for line in lines) == 1
        assert KEY not in server.log.read_text()
    from mlops_pipeline.records.reading import read

    table = read(server.folder / "records")
    assert {name: table.filter(table["request_id"] == name)["key_name"][0] for name in ("by-team", "by-shop")} == {
        "by-team": "team",
        "by-shop": "shop",
    }
    assert not [path for path in server.folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_a_body_that_does_not_come_is_given_up(registered: Project, tmp_path: Path) -> None:
    with serving(registered, tmp_path / "serve", limits={"body_timeout_s": 0.5}) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=120) as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
            )
            assert head_of(connection).startswith(b"HTTP/1.1 408")
        assert server.is_ready()


def test_sigterm_finishes_what_is_under_way_and_writes_the_record(registered: Project, tmp_path: Path) -> None:
    with (
        serving(registered, tmp_path / "serve", drain_s=1.0) as server,
        load(f"{server.url}/predict", {"records": [server.example]}) as seen,
    ):
        wait_for(lambda: len(seen.answers) > 200, 120, "load")
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not server.is_ready(), 120, "a server that says it is not ready")
        server.process.wait(120)
    assert server.process.returncode == 0
    assert seen.statuses() == {200}
    # A client whose connection was open learns of the end by a closed connection, never by half an answer.
    assert not [error for error in seen.broken if not isinstance(error, OSError)]
    from mlops_pipeline.records.reading import read

    recorded = set(read(server.folder / "records")["request_id"])
    assert set(seen.acknowledged) <= recorded


def test_workers_share_a_port_and_their_metrics_add_up(registered: Project, tmp_path: Path) -> None:
    with serving(registered, tmp_path / "serve", workers=2, stuck_s=8.0) as server:
        body, url = {"records": [server.example]}, f"{server.url}/predict"
        for _ in range(40):
            assert post(url, body)[0] == 200
        # A worker counts an answer after it has sent it, and the other one may be asked for the sum in between.
        wait_for(lambda: metric(server.url, "mlops_requests_total", protocol="predict", status="200") == 40, 120, "all answers counted")
        assert metric(server.url, "mlops_rows_total") == 40
        workers = workers_of(server)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        wait_for(lambda: len(alive := workers_of(server)) == 2 and workers[0] not in alive, 120, "a new worker")
        wait_for(server.is_ready, 120, "a server that is ready again")
        assert metric(server.url, "mlops_requests_total", protocol="predict", status="200") == 40
        os.kill(workers[1], signal.SIGSTOP)
        wait_for(lambda: workers[1] not in workers_of(server), 120, "a new worker for the stuck one")
        wait_for(server.is_ready, 120, "a server that is ready again")
        assert post(url, body)[0] == 200
        assert "stuck" in server.log.read_text()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(120) == 0


def test_keys_and_the_record_s_address_may_lie_in_files_of_their_own(registered: Project, tmp_path: Path) -> None:
    folder = tmp_path / "serve"
    folder.mkdir()
    (folder / "keys").write_text(f"team: {DIGEST}\n")
    with serving(registered, folder, api_keys_file="keys", host="0.0.0.0") as server:
        body = {"records": [server.example]}
        assert post(f"{server.url}/predict", body)[0] == 401
        assert post(f"{server.url}/predict", body, Authorization=f"Bearer {KEY}")[0] == 200
    twice = folder / "twice.yaml"
    twice.write_text(f"pipeline: {registered.config}\napi_keys_file: keys\napi_keys: {{team: '{DIGEST}'}}\n")
    said = registered.mlops("serve", "--config", str(twice), check=False).stderr
    assert "api_keys.team: stands in api_keys_file = 'keys' too: take one of them out" in said
    (folder / "uri").write_text("postgresql://me:hush@127.0.0.1:1/records\n")
    config = folder / "serving.yaml"
    config.write_text(f"pipeline: {registered.config}\nrecord: {{uri_file: uri}}\n")
    shown = registered.mlops("config", "--serving", "--config", str(config)).stdout
    assert "127.0.0.1:1/records" in shown
    assert "hush" not in shown


def test_no_key_is_needed_only_where_the_settings_say_so(registered: Project, tmp_path: Path) -> None:
    with serving(registered, tmp_path / "serve", anonymous=True, host="0.0.0.0") as server:
        assert post(f"{server.url}/predict", {"records": [server.example]})[0] == 200


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("host: 0.0.0.0", "can be reached from other machines and no API key is set"),
        ("models: {champion: '99'}", "models.champion = '99'"),
        ("models: {champion: ./nowhere}", "nowhere"),
        ("port: 99999", "port = 99999"),
        ("pord: 1", "unknown key: did you mean 'port'?"),
        ("record: {uri: mysql://u:hush@h/d}", "record.uri = mysql://…: no store here answers to it: use a folder or one of postgresql://"),
        ("record: {uri: somewhere}", "record.uri must be an address such as postgresql://…"),
        ("record: {store: duckdb}", "record.store = 'duckdb': there is no such store: use one of sqlite, postgresql"),
        ("record: {store: postgresql}", "record.store = 'postgresql': record.uri is missing"),
        ("record: {settings: {rows: 1}}", "record.settings.rows: unknown key"),
        ("plugins: [nowhere.py]", "plugins.0 = 'nowhere.py': there is no such file"),
        ("api_keys: {me: plain-key}", "api_keys.me"),
        ("api_keys_file: nowhere", "api_keys_file = 'nowhere': there is no such file: write a line for each key there"),
        ("api_keys_file: serving.yaml", "api_keys.pipeline: must be sha256:"),
        ("api_keys_file: .", "api_keys_file = '.': Is a directory: make it a file that this user may read"),
        ("record: {uri_file: latin}", "record.uri_file = 'latin': is no UTF-8 text: put the address there, such as postgresql://…"),
        (f"{{anonymous: true, api_keys: {{me: '{DIGEST}'}}}}", "anonymous: true and API keys exclude each other"),
        ("record: {uri_file: serving.yaml}", "record.uri_file = 'serving.yaml': holds no address: put the address there"),
        ("tls: {certificate: no.pem, key: no.pem}", "there is no such file"),
        ("tls: {certificate: serving.yaml, key: serving.yaml}", "are no certificate with its key"),
        ("pipeline: nowhere.yaml", "nowhere.yaml: cannot be read"),
    ],
)
def test_a_wrong_setting_is_one_line(registered: Project, tmp_path: Path, settings: str, said: str) -> None:
    config = tmp_path / "serving.yaml"
    first = "" if settings.startswith(("pipeline", "{")) else f"pipeline: {registered.config}\n"
    (tmp_path / "latin").write_bytes(b"\xe9")
    config.write_text(f"{first}{settings}\n")
    done = (
        registered.mlops("serve", "--config", str(config), "--port", "0", check=False)
        if "port" not in settings
        else registered.mlops("serve", "--config", str(config), check=False)
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert "hush" not in done.stderr
    assert "plain-key" not in done.stderr


def test_a_port_in_use_is_one_line(served: Server, registered: Project) -> None:
    port = served.url.rsplit(":", 1)[1]
    done = registered.mlops("serve", "--config", str(served.folder / "serving.yaml"), "--port", port, check=False)
    assert done.returncode == 2
    assert f"127.0.0.1:{port}: cannot listen there (Address already in use)" in done.stderr


def test_python_runs_it_as_a_container_does(registered: Project, tmp_path: Path, free_port: int) -> None:
    """Without a project around it: folders alone, by ``python -m``."""
    config = tmp_path / "serving.yaml"
    config.write_text(f"models: {{small: {registered.folder / 'models/registry/best_model'}}}\nrecord: {{mode: 'off'}}\n")
    words = (sys.executable, "-m", "mlops_pipeline", "serve", "--config", str(config), "--port", str(free_port))
    with started(*words, cwd=tmp_path, log=tmp_path / "log") as process:
        until_healthy(process, tmp_path / "log", f"http://127.0.0.1:{free_port}/ready")
        assert get(f"http://127.0.0.1:{free_port}/v2/models/small")[1]["name"] == "small"


@pytest.mark.slow
def test_a_version_without_a_twin_is_served_by_its_skops_file(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    project.change(onnx={"enabled": False})
    project.run()
    with serving(project, tmp_path / "serve") as server:
        with load(f"{server.url}/predict", {"records": [server.example]}) as seen:
            wait_for(lambda: len(seen.answers) > 50, 120, "answers")
            assert server.is_ready()
        assert seen.statuses() == {200}
        said = list(seen.answers[0][1]["predictions"][0]["probabilities"].values())
        assert said == pytest.approx(server.expected, abs=1e-5)
        assert get(f"{server.url}/status")[1]["models"]["champion"]["engine"] == "skops"
        null = {**server.example, "weight": None}
        assert post(f"{server.url}/predict", {"records": [null]})[0] == 200


@pytest.mark.parametrize("names", [[f"c{k}" for k in range(200_000)], ["same"] * 200_000], ids=["different", "same"])
def test_a_body_of_nothing_but_names_does_not_hold_the_server_up(served: Server, names: list[str]) -> None:
    # It took minutes when every name was compared with every other: longer than a client of these tests waits.
    assert post(f"{served.url}/invocations", {"dataframe_split": {"columns": names, "data": []}})[0] == 422
    assert post(f"{served.url}/invocations", ",".join(names).encode(), "text/csv")[0] == 422


def test_an_upgrade_is_refused_so_that_no_body_is_read_as_a_request(served: Server) -> None:
    inner = b"GET /ping HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: SMUGGLED\r\n\r\n"
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Type: application/json\r\n"
    said = raw(served, head + b"Content-Length: %d\r\n\r\n" % len(inner), inner)
    assert said.startswith(b"HTTP/1.1 400")
    assert b"send no Upgrade header" in said
    assert len(re.findall(rb"^HTTP/1.1 \d", said, re.MULTILINE)) == 1
    assert b"SMUGGLED" not in said
    assert served.is_ready()


def test_a_head_without_end_is_refused(served: Server) -> None:
    said = raw(served, b"GET /ping HTTP/1.1\r\nX-Long: " + b"x" * 70_000)
    assert said.startswith(b"HTTP/1.1 431")
    assert served.is_ready()


def test_a_client_can_choose_no_word_of_the_record_or_the_log(registered: Project, tmp_path: Path) -> None:
    """A CSV without its header: values stand where names are looked for."""
    with serving(registered, tmp_path / "serve") as server:
        status, said, _ = post(f"{server.url}/invocations", b"SECRET-PERSON,2\n1,2\n", "text/csv", **{"X-Request-Id": "headless"})
        assert (status, said["errors"][0]["column"]) == (422, "size")
        assert "'SECRET-PERSON'" in said["errors"][0]["detail"], "the client is told"
        tensor = {"name": "SECRET-TENSOR", "shape": [0], "datatype": "FP32", "data": []}
        status, said, _ = post(f"{server.url}/v2/models/champion/infer", {"inputs": [tensor]}, **{"X-Request-Id": "tensor"})
        assert (status, "'SECRET-TENSOR' holds no row" in said["error"]) == (422, True), "the client is told"
        row = {**server.example, "SECRET-NAME": "x", "size": 1e6}
        for route, body in (("predict", {"records": [row, server.example]}), ("invocations", {"dataframe_records": [row, server.example]})):
            status, said, headers = post(f"{server.url}/{route}", body)
            assert status == 200
            header = json.loads(headers["Mlops-Warnings"])
            assert [(one["reason"], one["column"], one["rows"]) for one in header] == [
                ("extra_column", "SECRET-NAME", 1),
                ("outside_training", "size", 1),
            ]
            assert ("warnings" in said) == (route == "predict")
        assert metric(server.url, "mlops_warnings_total", model="champion", reason="extra_column") == 2
        assert metric(server.url, "mlops_warnings_total", model="champion", reason="outside_training") == 2
        assert "SECRET" not in get(f"{server.url}/metrics")[1].decode()
        assert "Mlops-Warnings" not in post(f"{server.url}/predict", {"records": [server.example]})[2]
    assert "SECRET" not in server.log.read_text()
    from mlops_pipeline.records.reading import read

    recorded = read(server.folder / "records")
    errors = dict(recorded.filter(recorded["error"] != "").select("request_id", "error").iter_rows())
    assert errors == {"headless": "missing_column (column 'size')", "tensor": "no_rows"}


def test_a_writer_that_hangs_shows_in_readiness(registered: Project, tmp_path: Path) -> None:
    record = {"mode": "durable"}
    with serving(registered, tmp_path / "serve", record=record, limits={"deadline_ms": 500}) as server:
        wait_for(lambda: children(server.process.pid, b"records.writer"), 60, "the writer")
        (writer,) = children(server.process.pid, b"records.writer")
        os.kill(writer, signal.SIGSTOP)
        try:
            for name, record_of in (("wrong, sent", {}), ("wrong, waiting", {}), ("right", server.example)):
                assert post(f"{server.url}/predict", {"records": [record_of]}, **{"X-Request-Id": name})[0] == 503
            assert metric(server.url, "mlops_rejected_total", reason="deadline") == metric(server.url, "mlops_rejected_total") == 3
            wait_for(lambda: not server.is_ready(), 120, "a server that says it is not ready")
            assert "has not committed" in get(f"{server.url}/status")[1]["service"]["record"]["problem"]
        finally:
            os.kill(writer, signal.SIGCONT)
        wait_for(server.is_ready, 120, "a server that is ready again")
        wait_for(lambda: post(f"{server.url}/predict", {"records": [server.example]})[0] == 200, 120, "an answer again")
    import polars as pl

    from mlops_pipeline.records.entry import WITHDRAWN
    from mlops_pipeline.records.reading import read

    recorded = read(server.folder / "records").filter(pl.col("error") != "")
    answered = {"wrong, sent": WITHDRAWN, "wrong, waiting": "deadline", "right": "deadline"}
    assert list(recorded.select("request_id", "error").iter_rows()) == list(answered.items()), "what was answered, once each"


@pytest.mark.slow
def test_answers_that_cannot_be_put_on_record_at_the_end_are_said_aloud(registered: Project, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    record = {"mode": "relaxed", "folder": str(blocked), "loss_ms": 60_000}
    with serving(registered, tmp_path / "serve", until="/live", record=record) as server:
        assert post(f"{server.url}/predict", {"records": [server.example]})[0] == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 2
    last = server.log.read_text().splitlines()[-1]
    assert last.startswith("error: 1 answers are not on record")


def test_a_version_is_told_when_its_folder_is_gone(registered: Project, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(registered.folder / "models/registry/best_model", folder)
    with serving(registered, tmp_path / "serve", models={"champion": str(folder)}) as server:
        shutil.rmtree(folder)
        assert get(f"{server.url}/version")[0] == 200
        assert post(f"{server.url}/predict", {"records": [server.example]})[0] == 200
