"""A POST of JSON to another's address; what goes wrong is one line that tells nothing of the address but its host."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from mlops_pipeline.config.channels import TIMEOUT_S, is_web_address
from mlops_pipeline.errors import PipelineError, one_line


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Else a POST would become a GET elsewhere, and count as delivered."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def post(address: str, content: Any, headers: Mapping[str, str] | None = None, timeout: float = TIMEOUT_S) -> None:
    """Post, and see it taken (2xx). Raises :class:`PipelineError`."""
    if not is_web_address(address):
        raise PipelineError("the address is none of http:// or https://: mend it")
    parts = urllib.parse.urlsplit(address)
    place = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"
    body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    known = {"Content-Type": "application/json", "User-Agent": "mlops-pipeline", **(headers or {})}
    request = urllib.request.Request(address, body, known, method="POST")  # noqa: S310  # the scheme is checked above
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout) as answer:
            answer.read(1 << 16)
    except urllib.error.HTTPError as error:
        error.close()  # what a server says often has the path in it, which may be the secret
        raise PipelineError(f"{place}: HTTP {error.code}") from None
    except OSError as error:
        raise PipelineError(f"{place}: {_why(error)}") from None
    except (ValueError, http.client.HTTPException) as error:
        # Their texts quote the address, a header or what the server has sent.
        raise PipelineError(f"{place}: {type(error).__name__}: see to the address and the headers") from None


def _why(error: OSError) -> str:
    """What the system says of a connection that failed."""
    reason = getattr(error, "reason", None) or error
    return (one_line(reason) if isinstance(reason, OSError) else "") or type(error).__name__
