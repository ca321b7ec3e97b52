"""What alerts are sent to in tests: an HTTP server that remembers, a mail server, a real Alertmanager."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.conftest import lacking, unused_port
from tests.integration_tests.clients import get
from tests.integration_tests.conftest import started, until_healthy

ALERTMANAGER = """
route: {receiver: hook, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: hook, webhook_configs: [{url: "URL", send_resolved: true}]MAIL}]
"""
MAIL = """, email_configs: [
  {to: ops@example.com, from: am@example.com, smarthost: "127.0.0.1:PORT", require_tls: false, send_resolved: true}]"""
PROMETHEUS = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
alerting: {alertmanagers: [{static_configs: [{targets: ["ALERTMANAGER"]}]}]}
scrape_configs: [{job_name: model-server, static_configs: [{targets: ["SERVER"]}]}]
"""


class Receiver(ThreadingHTTPServer):
    """Takes every POST and remembers its path, headers and JSON; answers ``status``, and what is to be ``said``."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        self.said = ""
        self.status, self.taken = 200, list[tuple[str, dict[str, str], Any]]()
        super().__init__(("127.0.0.1", port), _Taking)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def bodies(self) -> list[Any]:
        return [body for _, _, body in self.taken]


class _Taking(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.status < 300:
            self.server.taken.append((self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        said = self.server.said.encode()
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@contextmanager
def receiver(port: int = 0) -> Iterator[Receiver]:
    server = Receiver(port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Mailbox:
    """A mail server at work, and what it has taken."""

    port: int
    messages: list[EmailMessage] = field(default_factory=list)
    refuses: bool = False

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        """Called by aiosmtpd."""
        import email.policy

        if self.refuses:
            return "451 try again later"
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        return "250 taken"


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    try:
        from aiosmtpd.controller import Controller
    except ImportError:
        lacking("aiosmtpd", "pip install aiosmtpd")
    mailbox = Mailbox(unused_port())
    controller = Controller(mailbox, hostname="127.0.0.1", port=mailbox.port)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


@contextmanager
def alertmanager(folder: Path, hook: str, port: int | None = None, mail: int | None = None) -> Iterator[str]:
    """A real Alertmanager whose webhook is ours, and whose mail server too, if its port is given; its address."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        lacking("Alertmanager", "make system")
    folder.mkdir(parents=True, exist_ok=True)
    config, port = folder / "alertmanager.yml", port or unused_port()
    config.write_text(ALERTMANAGER.replace("URL", hook).replace("MAIL", "" if mail is None else MAIL.replace("PORT", str(mail))))
    words = [
        f"--config.file={config}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    log, url = folder / "alertmanager.log", f"http://127.0.0.1:{port}"
    with started(program, *words, cwd=folder, log=log) as process:
        until_healthy(process, log, f"{url}/-/ready")
        yield url


@contextmanager
def prometheus(folder: Path, server: str, alertmanager: str, rules: str) -> Iterator[str]:
    """A real Prometheus that scrapes a server each second, and tells an Alertmanager of what breaks rules; its address."""
    program = shutil.which("prometheus")
    if program is None:
        lacking("Prometheus", "make system")
    folder.mkdir(parents=True, exist_ok=True)
    config, port = folder / "prometheus.yml", unused_port()
    addresses = {"SERVER": server, "ALERTMANAGER": alertmanager}
    text = PROMETHEUS
    for name, url in addresses.items():
        text = text.replace(name, url.removeprefix("http://"))
    config.write_text(text)
    (folder / "rules.yml").write_text(rules)
    words = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    log, url = folder / "prometheus.log", f"http://127.0.0.1:{port}"
    with started(program, *words, cwd=folder, log=log) as process:
        until_healthy(process, log, f"{url}/-/ready")
        yield url


def answered_by(prometheus: str, expression: str) -> list[dict[str, Any]]:
    """What a Prometheus says to a query."""
    words = urllib.parse.urlencode({"query": expression})
    found: list[dict[str, Any]] = get(f"{prometheus}/api/v1/query?{words}")[1]["data"]["result"]
    return found


def alerts_at(url: str) -> list[dict[str, Any]]:
    """What an Alertmanager holds."""
    found: list[dict[str, Any]] = get(f"{url}/api/v2/alerts")[1]
    return found
