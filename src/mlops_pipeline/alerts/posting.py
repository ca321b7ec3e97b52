"""A POST of JSON to another's address; what goes wrong is one line that tells nothing of the address but its host."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from mlops_pipeline.config.channels import TIMEOUT_S
from mlops_pipeline.errors import PipelineError, one_line


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Else a POST would become a GET elsewhere, and count as delivered."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def post(address: str, content: Any, headers: Mapping[str, str] | None = None, timeout: float = TIMEOUT_S) -> None:
    """Post, and see it taken (2xx). Raises :class:`PipelineError`."""
    parts = urllib.parse.urlsplit(address)
    place = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PipelineError("the address is none of http:// or https://: mend it")
    body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    known = {"Content-Type": "application/json", "User-Agent": "mlops-pipeline", **(headers or {})}
    request = urllib.request.Request(address, body, known, method="POST")  # noqa: S310  # the scheme is checked above
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout) as answer:
            answer.read(1 << 16)
    except urllib.error.HTTPError as error:
        with error:
            said = one_line(error.read(2_000).decode("utf-8", "replace"), 120)
        raise PipelineError(f"{place}: HTTP {error.code}{f': {said}' if said else ''}") from None
    except (OSError, ValueError) as error:
        raise PipelineError(f"{place}: {one_line(getattr(error, 'reason', None) or error) or type(error).__name__}") from None
