"""MLflow's servers asked without MLflow: addresses with credentials, TLS, and what their refusals mean."""

from __future__ import annotations

import base64
import configparser
import http.client
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from mlops_pipeline.errors import one_line

API = "api/2.0"
TIMEOUT_S = 5

REMEDIES = {
    401: "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    403: "ask its administrator for the right to do this, or sign in as a user who has it "
    "(MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN)",
}
"""What to do where a server knows who asks, or does not, and refuses."""

STATUS_OF_MLFLOWS_CODES = {"UNAUTHENTICATED": 401, "CUSTOMER_UNAUTHORIZED": 401, "PERMISSION_DENIED": 403}
STORES = {
    **dict.fromkeys(("mlflow", "sqlalchemy", "alembic", "requests", "urllib3", "boto3", "botocore", "s3transfer"), "MLflow"),
    "sqlite3": "SQLite",
    "psycopg": "PostgreSQL",
}
"""Whose word it is that an error brings, by the first name of its module: MLflow passes on what the stores behind it raise."""

FULL = ("disk is full", "disk I/O error", "No space left", "DiskFull")
ROOM = "make room on the disk, then run again: nothing half-made counts"
AGAIN = "look after its server or database, then run again: nothing half-made counts"


def opened(
    server: str, path: str, parameters: Mapping[str, object], timeout: float = TIMEOUT_S, *, configured: bool = True
) -> http.client.HTTPResponse:
    """A GET below an MLflow server's address, with the credentials in it, or those that MLflow's own client takes from the environment.

    Those are for a server that the user ``configured``: one that is only named by what a registry says is not sent them.
    Raises :class:`OSError`, :class:`http.client.HTTPException` or :class:`ValueError`.
    """
    parts = urllib.parse.urlsplit(server)
    query = urllib.parse.urlencode(parameters)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/{path}{'?' * bool(query)}{query}"
    request = urllib.request.Request(address)  # noqa: S310  # the callers check the scheme
    word = _in_address(parts) or (_of_the_user() if configured else "")
    if word:
        # Not sent on to wherever the server redirects to.
        request.add_unredirected_header("Authorization", word)
    if os.environ.get("MLFLOW_WORKSPACE"):
        request.add_header("X-MLFLOW-WORKSPACE", os.environ["MLFLOW_WORKSPACE"])
    context = _tls() if parts.scheme == "https" else None
    answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout, context=context)  # noqa: S310  # the callers check the scheme
    return answer


def refusal(error: Exception) -> str:
    """The remedy where a server, or MLflow's client in its name, refuses who asks; empty for any other error."""
    if isinstance(error, urllib.error.HTTPError):
        return REMEDIES.get(error.code, "")
    status = STATUS_OF_MLFLOWS_CODES.get(str(getattr(error, "error_code", "")))
    return REMEDIES.get(status or getattr(getattr(error, "response", None), "status_code", 0) or 0, "")


def why_not(error: Exception) -> str:
    """Why a server gave no answer, and for a refusal the remedy."""
    if isinstance(error, urllib.error.HTTPError):
        remedy = refusal(error)
        return f"HTTP {error.code} {error.reason}{f': {remedy}' if remedy else ''}"
    return one_line(getattr(error, "reason", None) or error) or type(error).__name__


def told(error: Exception, remedy: str = AGAIN) -> str | None:
    """What MLflow or a store behind it raised, as one line with its remedy; None for an error of any other origin.

    ``remedy`` is for what does not say its own: a refusal, or a full disk.
    """
    module = type(error).__module__.partition(".")[0]
    if module not in STORES:
        return None
    full = any(words in str(error) for words in FULL)
    return f"{STORES[module]}: {one_line(error)}: {refusal(error) or (ROOM if full else remedy)}"


def is_at(address: str, server: str) -> bool:
    """Whether an http address leads to that server, by its host and port, and no less safely than the server's own does."""
    asked, known = urllib.parse.urlsplit(address), urllib.parse.urlsplit(server)
    ports = {"http": 80, "https": 443}
    if asked.scheme not in ports or known.scheme not in ports or (known.scheme == "https" and asked.scheme == "http"):
        return False
    return (asked.hostname, asked.port or ports[asked.scheme]) == (known.hostname, known.port or ports[known.scheme])


def _in_address(parts: urllib.parse.SplitResult) -> str:
    """The header's value by the user and password in an address; empty without."""
    if not parts.username or parts.password is None:
        return ""
    return _basic(urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password))


def _of_the_user() -> str:
    """The header's value by the environment or MLflow's own file of credentials; empty without any."""
    filed = _filed_credentials()
    user, password = (os.environ.get(name) or filed.get(name.lower()) for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"))
    if user and password:
        return _basic(user, password)
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return f"Bearer {token}" if token else ""


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _filed_credentials() -> Mapping[str, str]:
    file = Path("~/.mlflow/credentials").expanduser()
    if not file.is_file():
        return {}
    config = configparser.ConfigParser()
    try:
        config.read(file)
        return dict(config["mlflow"]) if config.has_section("mlflow") else {}
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file}: is no file of credentials ({type(error).__name__}): mend or remove it"
        ) from None  # its text holds the line, and the line a password


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or None)
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        context.load_cert_chain(os.environ["MLFLOW_TRACKING_CLIENT_CERT_PATH"])
    return context
