"""`mlops key` prints the key, its digest, and the digest in the form of each file that it can be pasted into."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from mlops_pipeline.cli import key
from mlops_pipeline.config.keys import Key
from mlops_pipeline.config.serving import keys_of, load_serving


def test_what_mlops_key_prints_can_be_pasted_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key()
    lines = capsys.readouterr().out.splitlines()
    made, digest, *_ = re.findall(r": +(\S+)$", "\n".join(lines), re.MULTILINE)
    assert digest == f"sha256:{hashlib.sha256(made.encode()).hexdigest()}"
    (inline,) = [line for line in lines if "api_keys: {" in line]
    (tmp_path / "inline.yaml").write_text(inline.strip() + "\n", encoding="utf-8")
    (tmp_path / "keys").write_text(lines[-1].strip() + "\n", encoding="utf-8")
    (tmp_path / "beside.yaml").write_text("api_keys_file: keys\n", encoding="utf-8")
    for name in ("inline.yaml", "beside.yaml"):
        path = tmp_path / name
        assert keys_of(load_serving(path), path) == {"client": Key(digest=digest)}
