"""TLS of one worker: what a new connection is shown and asked for, which may change while the server runs."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.config.serving import tls_settings
from mlops_pipeline.errors import PipelineError, one_line

if TYPE_CHECKING:
    from mlops_pipeline.config.serving import Serving


def tls_files(settings: Serving, config: Path) -> list[Path]:
    """The files that TLS needs; none without it."""
    return [config.parent / name for name in tls_settings(settings).values()]


def context_of(settings: Serving, config: Path) -> ssl.SSLContext | None:
    """A context made of the files as they are now; None without TLS. Raises :class:`PipelineError` in one line."""
    if settings.tls is None:
        return None
    certificate, key = config.parent / settings.tls.certificate, config.parent / settings.tls.key
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # A key with a password would be asked for on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise PipelineError(
            f"{config}: tls: {certificate} and {key} are no certificate with its key ({one_line(error)}): give PEM files"
        ) from error
    if settings.tls.client_ca is not None:
        trusted = config.parent / settings.tls.client_ca
        try:
            context.load_verify_locations(trusted)
        except (ssl.SSLError, OSError) as error:
            raise PipelineError(f"{config}: tls.client_ca: {trusted} holds no certificate ({one_line(error)}): give a PEM file") from error
        context.verify_mode = ssl.CERT_REQUIRED
        # A session that is taken up again would outlive the trust in its client.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    return context


class Tls:
    """The context that listens for as long as the worker runs, and hands every new connection the newest one."""

    def __init__(self, first: ssl.SSLContext) -> None:
        self.listening = self._newest = first
        first.sni_callback = self._choose  # called for every connection, with no name too

    def use(self, newest: ssl.SSLContext) -> None:
        """Let connections from now on be made with this."""
        self._newest = newest

    def _choose(self, connection: Any, _name: str | None, _listening: ssl.SSLContext) -> None:
        connection.context = self._newest
