"""What every channel of alerts keeps to, ours and the documented one of somebody's own: run over all that are registered."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlops_pipeline import plugins
from mlops_pipeline.alerts.alert import Alert
from mlops_pipeline.config.monitoring import ChannelSettings, Monitoring, channels_of, monitoring_schema, shown_monitoring
from mlops_pipeline.errors import PipelineError
from tests.conftest import REPOSITORY, wait_for
from tests.integration_tests.receivers import Mailbox, alertmanager, alerts_at, mail_server, receiver

SECRET = "T0P-S3CRET"


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> Iterator[Path]:
    """A project whose settings name the documented channel."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(REPOSITORY / "docs/parts/channel.py", folder / "own_channel.py")
    plugins.use(plugins.NamedParts(folder, ("own_channel.py",), "monitoring.yaml"))
    yield folder
    plugins.use(plugins.NamedParts())
    plugins.parts(plugins.Channel)


@pytest.fixture(scope="module")
def mail() -> Iterator[Mailbox]:
    with mail_server() as mailbox:
        yield mailbox


def alert(**changed: Any) -> Alert:
    now = time.time()
    about: dict[str, Any] = {
        "delivery": str(uuid.uuid4()),
        "key": "k-1",
        "kind": "firing",
        "rule": "quality_fell",
        "pipeline": "flights",
        "model": "champion",
        "version": "2",
        "severity": "warning",
        "figure": "quality.roc_auc",
        "value": 0.7,
        "text": "quality.roc_auc is 0.7 <!channel> & “so on”",
        "said": "Ünser Modell\nfällt",
        "owner": "anna",
        "runbook": "https://wiki/quality",
        "began": now - 60,
        "window": (now - 120, now - 60),
    }
    return Alert(**{**about, **changed})


def resolved(of: Alert) -> Alert:
    return msgspec.structs.replace(of, kind="resolved", ended=time.time(), delivery=str(uuid.uuid4()))


def send(name: str, settings: dict[str, Any], message: Alert, origin: Path | None = None) -> None:
    """As the watch sends: settings checked, and put together with what lies in files."""
    given = Monitoring(channels={"mine": ChannelSettings(channel=name, settings=settings)})
    part, own, _ = channels_of(given, origin)["mine"]
    plugins.run(part, message, *own)


@dataclass
class Way:
    """A channel that works: its settings, and what has come out at its other end."""

    name: str
    settings: dict[str, Any]
    come: Callable[[], list[str]]


@pytest.fixture(params=[*plugins.parts(plugins.Channel), "lines"])
def way(request: pytest.FixtureRequest, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Way]:
    """Each channel. One that is registered here and has no other end below fails, which says what to add."""
    name, heard = request.param, list[str]()

    def log_lines() -> list[str]:
        heard.extend(capfd.readouterr().err.splitlines())
        return heard

    if name == "log":
        yield Way(name, {}, log_lines)
    elif name == "lines":
        file = tmp_path / "lines.jsonl"
        yield Way(name, {"file": str(file)}, lambda: file.read_text().splitlines() if file.exists() else [])
    elif name == "email":
        mail: Mailbox = request.getfixturevalue("mail")
        before = len(mail.messages)
        there = {"to": ["ops@example.com"], "sender": "mlops@example.com", "host": "127.0.0.1", "port": mail.port}
        yield Way(name, there, lambda: [f"{m['Subject']} {m.get_content()}" for m in mail.messages[before:]])
    else:
        with receiver() as server:
            by_apprise = f"{server.url.replace('http', 'json')}/{SECRET}"
            addresses = {"webhook": f"{server.url}/{SECRET}", "alertmanager": server.url, "prefect": f"{server.url}/api"}
            url = {**addresses, "apprise": by_apprise}[name]
            yield Way(name, {"url": url}, lambda: [json.dumps(body) for body in server.bodies()])


def test_every_channel_tells_of_the_beginning_and_of_the_end(way: Way) -> None:
    first = alert()
    send(way.name, way.settings, first)
    send(way.name, way.settings, resolved(first))
    told = way.come()
    assert len(told) == 2
    assert all("quality_fell" in one and "champion" in one for one in told)
    assert "\n" not in first.head


UNREACHABLE = {
    "webhook": {"url": f"http://user:{SECRET}@127.0.0.1:1/{SECRET}"},
    "email": {"to": ["a@b.c"], "sender": "d@e.f", "host": "127.0.0.1", "port": 1, "user": "x", "password": SECRET},
    "alertmanager": {"url": f"http://user:{SECRET}@127.0.0.1:1"},
    "prefect": {"url": f"http://127.0.0.1:1/{SECRET}", "headers": {"Authorization": f"Bearer {SECRET}"}},
    "lines": {"file": "/nonexistent/folder/file"},
    "apprise": {"url": f"json://user:{SECRET}@127.0.0.1:1/{SECRET}"},
}


@pytest.mark.parametrize("name", [name for name in (*plugins.parts(plugins.Channel), "lines") if name != "log"])
def test_what_does_not_get_through_is_told_in_one_line_without_a_secret(name: str) -> None:
    with pytest.raises(PipelineError) as caught:
        send(name, UNREACHABLE[name], alert())
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [302, 400, 404, 500])
@pytest.mark.parametrize("name", ["webhook", "alertmanager", "prefect"])
def test_only_what_was_taken_counts_as_delivered(name: str, status: int) -> None:
    with receiver() as server:
        server.status = status
        with pytest.raises(PipelineError, match=str(status)):
            send(name, {"url": server.url}, alert())


@pytest.mark.parametrize(
    "url",
    [f"http://127.0.0.1/a b/{SECRET}", f"http://user:1{SECRET}@/x", f"http://127.0.0.1:{SECRET}/", f"http://user:{SECRET}@127.0.0.1/"],
)
def test_an_address_that_cannot_be_asked_is_not_shown(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    for name, settings in (("webhook", {"url": url}), ("prefect", {})):
        with pytest.raises(PipelineError) as caught:
            send(name, settings, alert())
        assert SECRET not in str(caught.value)


def test_what_a_server_says_of_a_path_is_not_shown() -> None:
    with receiver() as server:
        server.status, server.said = 404, f"no /{SECRET} here"
        with pytest.raises(PipelineError, match=r"^http://127\.0\.0\.1:\d+: HTTP 404$"):
            send("webhook", {"url": f"{server.url}/{SECRET}"}, alert())


@pytest.mark.parametrize("url", [f"pigeon://{SECRET}", SECRET, "json://"])
def test_an_address_that_apprise_does_not_know_is_not_shown(url: str) -> None:
    with pytest.raises(PipelineError, match="is no address that it knows") as caught:
        send("apprise", {"url": url}, alert())
    assert SECRET not in str(caught.value)


def test_mail_that_is_refused_is_not_delivered(mail: Mailbox) -> None:
    mail.refuses = True
    try:
        with pytest.raises(PipelineError, match="451"):
            send("email", {"to": ["a@b.c"], "sender": "d@e.f", "host": "127.0.0.1", "port": mail.port}, alert())
    finally:
        mail.refuses = False


def test_mail_that_comes_twice_has_one_name_and_an_alert_is_one_thread(mail: Mailbox) -> None:
    settings = {"to": ["ops@example.com", "anna@example.com"], "sender": "mlops@example.com", "host": "127.0.0.1", "port": mail.port}
    first = alert()
    for message in (first, first, resolved(first)):
        send("email", settings, message)
    one, same, end = mail.messages[-3:]
    assert one["Message-ID"] == same["Message-ID"] != end["Message-ID"]
    assert one["References"] == end["References"]
    assert "Ünser Modell\nfällt" in one.get_content().replace("\r", "")
    assert "resolved" in str(end["Subject"])


def test_slack_is_sent_no_sign_that_calls_everybody() -> None:
    with receiver() as server:
        send("webhook", {"url": server.url}, alert())
        send("webhook", {"url": server.url, "format": "plain"}, alert())
        slack, plain = server.bodies()
    assert "<!channel>" not in json.dumps(slack)
    assert "&lt;!channel&gt; &amp;" in slack["attachments"][0]["text"]
    assert plain["value"] == 0.7


def test_an_event_of_prefects_keeps_its_name() -> None:
    with receiver() as server:
        message = alert()
        send("prefect", {"url": f"{server.url}/api/", "headers": {"Authorization": "Basic x"}}, message)
        [(path, headers, [event])] = server.taken
    assert (path, headers["Authorization"]) == ("/api/events", "Basic x")
    assert (event["id"], event["event"]) == (message.delivery, "mlops.alert.firing")
    assert event["resource"] == {"prefect.resource.id": "mlops.model.flights.champion"}


def test_alertmanager_holds_an_alert_until_it_is_told_that_it_has_ended(tmp_path: Path) -> None:
    with receiver() as hook, alertmanager(tmp_path / "am", hook.url) as url:
        first = alert()
        for _ in range(2):
            send("alertmanager", {"url": url, "labels": {"team": "a"}}, first)
        [held] = alerts_at(url)
        assert held["labels"] == {
            "alertname": "quality_fell", "severity": "warning", "pipeline": "flights", "model": "champion", "owner": "anna", "team": "a",
        }  # fmt: skip
        assert held["annotations"]["runbook_url"] == "https://wiki/quality"
        wait_for(lambda: len(hook.taken) == 1, 60, "the webhook of Alertmanager")
        send("alertmanager", {"url": url, "labels": {"team": "a"}}, resolved(first))
        wait_for(lambda: [body["status"] for body in hook.bodies()] == ["firing", "resolved"], 60, "that the alert is resolved")
        assert not alerts_at(url)


def test_a_secret_comes_from_a_file_or_the_environment_and_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as server:
        (tmp_path / "url").write_text(f"{server.url}/{SECRET}\n")
        send("webhook", {"url_file": "url"}, alert(), tmp_path / "monitoring.yaml")
        monkeypatch.setenv("HOOK", f"{server.url}/other")
        send("webhook", {"url": "${HOOK}"}, alert())
        assert [path for path, _, _ in server.taken] == [f"/{SECRET}", "/other"]
        monkeypatch.setenv("TOKEN", SECRET)
        (tmp_path / "token").write_text(SECRET)
        (tmp_path / "headers").write_text(f"Authorization: Bearer {SECRET}\n\nX-Other: a:b\n")
        send("webhook", {"url": server.url, "headers": {"Authorization": "Bearer ${TOKEN}"}}, alert())
        send("webhook", {"url": server.url, "headers_file": "headers"}, alert(), tmp_path / "monitoring.yaml")
        assert [headers["Authorization"] for _, headers, _ in server.taken[2:]] == [f"Bearer {SECRET}"] * 2
        assert server.taken[3][1]["X-Other"] == "a:b"
    for name, own in (
        ("webhook", {"url": f"http://x/{SECRET}", "headers": {"X": SECRET}, "url_file": "told"}),
        ("email", {"password": SECRET, "host": "told"}),
        ("not_loaded", {"more": {"api_key": SECRET, "size": "told"}, "headers": {"X": SECRET}}),
        ("not_loaded", {"smtp_pwd": SECRET, "passphrase": SECRET, "to": [{"pass": SECRET, "name": "told"}]}),
    ):
        shown = json.dumps(shown_monitoring(Monitoring(channels={"hook": ChannelSettings(channel=name, settings=own)})))
        assert SECRET not in shown
        assert "told" in shown
    for settings, words in (
        ({"url_file": "gone"}, ("channels.mine.settings.url_file = 'gone'", "name a file")),
        ({"url": "${NOT_SET}"}, ("NOT_SET", "url_file")),
        ({"url": "http://x", "headers": {"A": "${NOT_SET}"}}, ("settings.headers.A: NOT_SET", "headers_file")),
        ({"url": "http://x", "headers_file": "token"}, ("settings.headers_file = 'token'", "NAME: VALUE")),
        ({"urll": f"http://x/{SECRET}"}, ("channels.mine.settings.urll", "did you mean 'url'")),
        ({"url": ["x", SECRET]}, ("channels.mine.settings.url",)),
        ({"url": f"ftp://x/{SECRET}"}, ("channels.mine.settings.url", "http://")),
        ({}, ("channels.mine.settings.url", "missing")),
    ):
        with pytest.raises(PipelineError) as caught:
            send("webhook", settings, alert(), tmp_path / "monitoring.yaml")
        assert all(word in str(caught.value) for word in words), caught.value
        assert SECRET not in str(caught.value)
    with pytest.raises(PipelineError, match="use one of log, webhook"):
        send("pigeon", {}, alert())


def test_the_schema_knows_every_channel_and_its_settings() -> None:
    import jsonschema

    schema = json.loads(monitoring_schema())
    jsonschema.validate({"channels": {"a": {"channel": "webhook", "settings": {"url_file": "x"}}, "lines": {}}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"channels": {"a": {"channel": "webhook", "settings": {"urrl": "x"}}}}, schema)
    committed = (REPOSITORY / "configs/monitoring_config.schema.json").read_text()
    plugins.use(plugins.NamedParts())
    assert monitoring_schema() + "\n" == committed, "mlops config --monitoring --schema > configs/monitoring_config.schema.json"
