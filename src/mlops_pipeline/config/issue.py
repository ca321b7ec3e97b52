"""A new API key: the key for its holder, and its digest for the file of keys that a server reads."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlops_pipeline.config.keys import Key, Keys, check_models, entry_of, keys_in
from mlops_pipeline.config.moments import span_of
from mlops_pipeline.config.tree import read_yaml, tree_of
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.files import replacing

ORIGIN = "mlops key"


@dataclass(frozen=True)
class Rights:
    """What is asked for a key on the command line; None and nothing stand for the defaults."""

    scopes: Sequence[str] = ()
    models: Sequence[str] = ()
    expires: str | None = None
    requests_per_s: float | None = None
    rows_per_s: float | None = None


@dataclass(frozen=True)
class Issued:
    """A new key. ``secret`` is kept nowhere; ``entry`` are the lines of a file of keys; ``file`` is where they were added, if anywhere."""

    secret: str
    digest: str
    name: str
    entry: str
    file: Path | None = None


def issue() -> Issued:
    """A key with every right, for whom the settings will name."""
    secret, digest = _made()
    return Issued(secret, digest, "client", entry_of("client", Key(digest=digest)))


def issue_to(name: str, rights: Rights, file: Path | None, config: Path | None) -> Issued:
    """A key with rights, its digest added to ``file``, or to the one that the server's settings at ``config`` name.

    Raises :class:`PipelineError` in one line.
    """
    now = datetime.now(UTC)
    secret, digest = _made()
    given = {
        "digest": digest,
        "scopes": list(rights.scopes) or ["predict"],
        "models": list(rights.models) or None,
        "expires": None if rights.expires is None else _expiry(rights.expires, now),
        "requests_per_s": rights.requests_per_s,
        "rows_per_s": rights.rows_per_s,
    }
    key = tree_of(Keys, {"api_keys": {name: given}}, ORIGIN).api_keys[name]
    if key.expires is not None and key.expires <= now:
        raise PipelineError(f"--expires {rights.expires}: is past: give a moment to come")
    if config is not None:
        settings = read_yaml(config, "start from configs/serving_config.yaml")
        if isinstance(models := settings.get("models", {"champion": "champion"}), dict):
            check_models({name: key}, map(str, models), str(config))
        if name in (settings.get("api_keys") or ()):
            raise _there(config, name)
        if file is None and (named := settings.get("api_keys_file")):
            file = config.parent / str(named)
    if file is not None:
        _add(file, name, key)
    return Issued(secret, digest, name, entry_of(name, key), file)


def _made() -> tuple[str, str]:
    secret = secrets.token_urlsafe(32)
    return secret, f"sha256:{hashlib.sha256(secret.encode()).hexdigest()}"


def _there(place: Path, name: str) -> PipelineError:
    return PipelineError(f"{place}: api_keys.{name}: there is such a key: take it out, or give the new one another name")


def _expiry(said: str, now: datetime) -> datetime | str:
    """The moment that a span from now is; anything else as it stands. Raises :class:`PipelineError`."""
    try:
        span = span_of(said)
    except ValueError:
        return said
    try:
        return span.after(now).replace(microsecond=0)
    except ValueError as error:
        raise PipelineError(f"--expires {said}: is too far away: leave it out for a key that is good for ever") from error


def _add(file: Path, name: str, key: Key) -> None:
    """Append a key to a file of keys, which is made if it is missing, for its owner alone; two at once wait for each other.

    Raises :class:`PipelineError` in one line if the name stands there, or the file cannot be read or written.
    """
    place = file.resolve()
    try:
        folder = os.open(place.parent, os.O_RDONLY)
    except OSError as error:
        raise PipelineError(f"{file}: {error.strerror}: make its folder first") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        text, mode = (place.read_text(encoding="utf-8"), place.stat().st_mode & 0o777) if place.exists() else ("", 0o600)
        before = keys_in(text, str(file))
        if name in before:
            raise _there(file, name)
        longer = f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{entry_of(name, key)}"
        if _read(longer, file) != {**before, name: key}:
            raise PipelineError(f"{file}: no lines can be added to it: write one key below the other, 'name: digest'")
        with replacing(place) as temporary:
            temporary.write_text(longer, encoding="utf-8")
        place.chmod(mode)
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"{file}: {getattr(error, 'strerror', None) or 'is no UTF-8 text'}: name another file") from error
    finally:
        os.close(folder)


def _read(text: str, file: Path) -> dict[str, Key] | None:
    try:
        return keys_in(text, str(file))
    except PipelineError:
        return None
