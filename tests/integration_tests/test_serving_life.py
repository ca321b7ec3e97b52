"""What a server lives through: keys, certificates and limits that change, workers and parents that die."""

from __future__ import annotations

import json
import os
import pty
import signal
import ssl
import subprocess
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_pipeline.serving.answer import BEAT_S
from mlops_pipeline.serving.reload import Files
from tests.conftest import Project, unused_port, wait_for
from tests.integration_tests import conftest
from tests.integration_tests.clients import load, post
from tests.integration_tests.conftest import Server, serving
from tests.integration_tests.faults import children, workers_of
from tests.unit_tests.workshop import digest_of

WITHIN_S = 2.0
"""What is promised of a key that is taken out of its file."""


def test_a_change_of_files_counts_at_the_second_look(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    written(keys, "one")
    files = Files([keys])
    assert not files.changed()
    written(keys, "another")
    assert [files.changed() for _ in range(3)] == [False, True, False]
    assert 3 * BEAT_S < WITHIN_S, "a look at each beat, and one more for a change right after the first"


def written(path: Path, text: str) -> None:
    """Put a file in the place of another in one step."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


def logged(server: Server, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(text) for text in server.log.read_text().splitlines() if text.startswith("{")]
    return [line for line in lines if line["event"] == event]


def test_keys_and_limits_are_read_again_and_a_killed_parent_leaves_nothing(registered: Project, tmp_path: Path) -> None:
    folder = tmp_path / "serve"
    folder.mkdir()
    keys = folder / "keys"
    both = f"team: {digest_of('team')}\nshop:\n  digest: {digest_of('shop')}\n  scopes: [predict]\n"
    written(keys, both)
    rights = {"slow": {"digest": digest_of("slow"), "requests_per_s": 0.01}, "clients": digest_of("clients")}
    limits = {"wrong_keys": 1_000_000}
    with serving(registered, folder, api_keys=rights, api_keys_file="keys", limits=limits, workers=2) as server:
        url, body = f"{server.url}/predict", {"records": [server.example] * 2}

        def asked(key: str) -> int:
            return post(url, body, Authorization=f"Bearer {key}")[0]

        # One bucket of one request, whichever worker is asked.
        assert sorted(asked("slow") for _ in range(12)) == [200] + [429] * 11
        assert (asked("team"), asked("shop")) == (200, 200)
        with load(url, body, headers={"X-API-Key": "clients"}) as seen:
            wait_for(lambda: len(seen.answers) > 20, 120, "load")
            written(keys, f"team: {digest_of('team')}\nnew: {digest_of('new')}\n")
            wait_for(lambda: [asked("shop") for _ in range(6)] == [401] * 6, 120, "a key that is out everywhere")
            wait_for(lambda: asked("new") == 200, 120, "a key that is in")
            # Of a file that cannot be read what is gone is gone all the same, and the others hold on.
            written(keys, f"new: {digest_of('new')}\nthird: no-digest\n")
            wait_for(lambda: [asked("team") for _ in range(8)] == [401] * 8, 120, "a key that is out")
            assert asked("new") == 200
            assert "api_keys.third: must be sha256: and 64" in logged(server, "keeps what it knows")[0]["detail"]
            assert "no-digest" not in server.log.read_text()
            config = folder / "serving.yaml"
            settings = yaml.safe_load(config.read_text())
            config.write_text("limits: {max_rows: none}")
            server.process.send_signal(signal.SIGHUP)
            wait_for(lambda: logged(server, "keeps its settings"), 120, "a word on settings that cannot be read")
            written(keys, both)
            others = {"limits": {**limits, "max_rows": 1}, "workers": 1, "api_keys": {"clients": digest_of("clients")}}
            config.write_text(yaml.safe_dump({**settings, **others}))
            before = len(seen.answers)
            server.process.send_signal(signal.SIGHUP)
            wait_for(lambda: [asked("shop") for _ in range(8)] == [413] * 8, 120, "limits that hold everywhere")
            wait_for(lambda: len(seen.answers) > before + 20, 120, "load")
            assert asked("slow") == 401
            assert logged(server, "has read its settings again")[0]["for_a_restart"] == "workers"
        assert not seen.broken
        assert seen.statuses() == {200, 413}
        keys.unlink()
        wait_for(lambda: [asked("shop") for _ in range(8)] == [401] * 8, 120, "keys that are out with their file")
        workers, writers = workers_of(server), children(server.process.pid, b"records.writer")
        assert len(workers) == len(writers) == 2
        figures = list(Path("/dev/shm").glob(f"mlops-metrics-{server.process.pid}-*"))  # noqa: S108  # where ours lie
        assert len(figures) == 1
        server.process.kill()
        server.process.wait(120)
        gone = [*(Path("/proc") / str(pid) for pid in (*workers, *writers)), *figures]
        wait_for(lambda: not [path for path in gone if path.exists()], 60, "an end of all that a killed parent started")


def certificate(folder: Path, name: str, *options: str) -> tuple[Path, Path]:
    files = folder / f"{name}.crt", folder / f"{name}.key"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    words += ["-subj", f"/CN={name}", "-out", str(files[0]), "-keyout", str(files[1]), *options]
    subprocess.run(words, check=True, capture_output=True)
    return files


def shown_to(folder: Path, client: tuple[Path, Path] | None, url: str) -> str:
    """Who the server says that it is, or why it does not talk."""
    for server in ("first", "second"):
        trust = ssl.create_default_context(cafile=str(folder / f"{server}.crt"))
        if client is not None:
            trust.load_cert_chain(*client)
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=5, context=trust):
                return server
        except urllib.error.HTTPError:
            return server
        except OSError as error:
            said = str(error)
    return said


def test_a_lone_worker_comes_back_and_tls_follows_its_files(
    registered: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    here = ("-addext", "subjectAltName=IP:127.0.0.1")
    first, second = (certificate(tmp_path, name, *here) for name in ("first", "second"))
    us, others = certificate(tmp_path, "us"), certificate(tmp_path, "others")
    folder = tmp_path / "serve"
    folder.mkdir()

    def put(files: tuple[Path, Path], trusted: Path) -> None:
        for name, path in (("tls.crt", files[0]), ("tls.key", files[1]), ("ca.crt", trusted)):
            written(folder / name, path.read_text())

    shown = partial(shown_to, tmp_path)
    put(first, us[0])
    monkeypatch.setattr(conftest, "is_healthy", lambda url: shown(us, url.removesuffix("/ready")) in ("first", "second"))
    tls = {"certificate": "tls.crt", "key": "tls.key", "client_ca": "ca.crt"}
    terminal, end = pty.openpty()
    probe_port = unused_port()
    probes = f"https://127.0.0.1:{probe_port}"
    # Whoever ignores it hands that on, as nohup does, and is then left alone by a terminal's end.
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, hang_up))
    with serving(registered, folder, stdin=end, tls=tls, probe_port=probe_port) as server:
        os.close(end)
        assert shown(us, server.url) == "first"
        assert shown(None, server.url) not in ("first", "second")
        assert shown(None, probes) == "first", "probes have no certificate"
        assert shown(others, server.url) not in ("first", "second")
        written(folder / "tls.crt", second[0].read_text())
        wait_for(lambda: logged(server, "keeps what it knows"), 60, "a word on a certificate without its key")
        assert shown(us, server.url) == "first"
        put(second, others[0])
        wait_for(lambda: shown(others, server.url) == "second", 60, "the new certificate")
        assert shown(us, server.url) not in ("first", "second")
        assert shown(None, probes) == "second"
        monkeypatch.setattr(conftest, "is_healthy", lambda url: shown(others, url.removesuffix("/ready")) == "second")
        (worker,) = workers_of(server)
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: worker not in (now := workers_of(server)) and len(now) == 1, 60, "a new worker")
        wait_for(server.is_ready, 120, "a server that is ready again")
        assert logged(server, "replaces a worker")[0]["cause"] == "exit -9"
        config = folder / "serving.yaml"
        settings = yaml.safe_load(config.read_text())
        del settings["tls"]["client_ca"]
        config.write_text(yaml.safe_dump(settings))
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: logged(server, "has read its settings again"), 60, "a word on settings that were read again")
        assert logged(server, "has read its settings again")[0]["for_a_restart"] == "tls"
        assert shown(None, server.url) not in ("first", "second")
        os.close(terminal)
        server.process.send_signal(signal.SIGHUP)
        assert server.process.wait(120) == 0, "a server ends with the terminal that it was started on"
