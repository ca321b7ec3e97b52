"""TLS of one worker: what a new connection is shown and asked for, which may change while the server runs."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops_pipeline.config.serving import tls_settings
from mlops_pipeline.errors import PipelineError, one_line

if TYPE_CHECKING:
    from mlops_pipeline.config.serving import Serving


class Contexts(NamedTuple):
    """What connections are made with: those of clients, and those of probes, which are asked for no certificate."""

    clients: ssl.SSLContext
    probes: ssl.SSLContext


def tls_files(settings: Serving, config: Path) -> list[Path]:
    """The files that TLS needs; none without it."""
    return [config.parent / name for name in tls_settings(settings).values()]


def contexts_of(settings: Serving, config: Path) -> Contexts | None:
    """Contexts made of the files as they are now; None without TLS. Raises :class:`PipelineError` in one line."""
    tls = settings.tls
    if tls is None:
        return None
    files = config.parent / tls.certificate, config.parent / tls.key
    clients, probes = _showing(*files, config), _showing(*files, config)
    if tls.client_ca is not None:
        trusted = config.parent / tls.client_ca
        try:
            clients.load_verify_locations(trusted)
        except (ssl.SSLError, OSError) as error:
            raise PipelineError(f"{config}: tls.client_ca: {trusted} holds no certificate ({one_line(error)}): give a PEM file") from error
        clients.verify_mode = ssl.CERT_REQUIRED
        # A session that is taken up again would outlive the trust in its client.
        clients.num_tickets = 0
        clients.options |= ssl.OP_NO_TICKET
    return Contexts(clients, probes)


def _showing(certificate: Path, key: Path, config: Path) -> ssl.SSLContext:
    """A context that shows a certificate and asks for none."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # A key with a password would be asked for on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise PipelineError(
            f"{config}: tls: {certificate} and {key} are no certificate with its key ({one_line(error)}): give PEM files"
        ) from error
    return context


class Tls:
    """The contexts that listen for as long as the worker runs, and hand every new connection the newest one of its kind.

    Whether a certificate is asked for is the listening one's word: a newer one does not change that.
    """

    def __init__(self, first: Contexts) -> None:
        self.listening = self._newest = first
        # Called for every connection, with no name too.
        first.clients.sni_callback = self._choose_for_client
        first.probes.sni_callback = self._choose_for_probe

    def use(self, newest: Contexts) -> None:
        """Let connections from now on be made with these."""
        self._newest = newest

    def _choose_for_client(self, connection: Any, _name: str | None, _listening: ssl.SSLContext) -> None:
        connection.context = self._newest.clients

    def _choose_for_probe(self, connection: Any, _name: str | None, _listening: ssl.SSLContext) -> None:
        connection.context = self._newest.probes
