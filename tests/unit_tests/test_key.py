"""`mlops key`: what it prints can be pasted as it is, what it writes a server reads, and the key itself is kept nowhere."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_pipeline.cli import key
from mlops_pipeline.config.issue import Rights, issue_to
from mlops_pipeline.config.keys import Key, keys_in
from mlops_pipeline.config.moments import span_of
from mlops_pipeline.config.serving import keys_of, load_serving
from mlops_pipeline.errors import PipelineError


def printed(capsys: pytest.CaptureFixture[str]) -> tuple[str, list[str]]:
    """The key, and all lines; the digest is the key's."""
    lines = capsys.readouterr().out.splitlines()
    made, digest, *_ = re.findall(r": +(\S+)$", "\n".join(lines), re.MULTILINE)
    assert digest == f"sha256:{hashlib.sha256(made.encode()).hexdigest()}"
    return digest, lines


@pytest.mark.parametrize("span", ["90min", "12h", "90d", "2w", "6mo", "1y"])
def test_an_end_is_a_span_as_settings_write_them(span: str) -> None:
    began = datetime.now(UTC).replace(microsecond=0)
    expires = keys_in(issue_to("shop", Rights(expires=span), None, None).entry, "entry")["shop"].expires
    assert expires is not None
    assert span_of(span).after(began) <= expires <= span_of(span).after(datetime.now(UTC))


def test_what_mlops_key_prints_can_be_pasted_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key()
    digest, lines = printed(capsys)
    (inline,) = [line for line in lines if "api_keys: {" in line]
    (tmp_path / "inline.yaml").write_text(inline.strip() + "\n", encoding="utf-8")
    (tmp_path / "keys").write_text(lines[-1].strip() + "\n", encoding="utf-8")
    (tmp_path / "beside.yaml").write_text("api_keys_file: keys\n", encoding="utf-8")
    for name in ("inline.yaml", "beside.yaml"):
        path = tmp_path / name
        assert keys_of(load_serving(path), path) == {"client": Key(digest=digest)}


def test_a_key_with_rights_is_added_to_the_file_that_the_settings_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, keys = tmp_path / "configs/serving_config.yaml", tmp_path / "configs/keys"
    keys.parent.mkdir()
    config.write_text("models: {champion: champion, challenger: challenger}\napi_keys_file: keys\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    key("shop", scope=["predict", "metrics"], model=["challenger"], expires="90d", rate=100, rows=2.5)
    shop, _ = printed(capsys)
    assert keys.stat().st_mode & 0o777 == 0o600
    keys.write_text(f"# ours\n{keys.read_text(encoding='utf-8').rstrip()}", encoding="utf-8")
    keys.chmod(0o640)
    key("plain")
    plain, lines = printed(capsys)
    read = keys_of(load_serving(config), config)
    rights = read["shop"]
    assert (rights.digest, rights.scopes, rights.models) == (shop, ("predict", "metrics"), ("challenger",))
    assert (rights.requests_per_s, rights.rows_per_s) == (100, 2.5)
    assert rights.expires is not None
    assert abs(rights.expires - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=5)
    assert read["plain"] == Key(digest=plain, scopes=("predict",))
    assert keys.read_text(encoding="utf-8").startswith("# ours\n")
    assert keys.stat().st_mode & 0o777 == 0o640
    assert not [line for line in lines if line.split(": ")[-1].strip() in keys.read_text(encoding="utf-8") and line.startswith("key")]
    for asked, said in (
        ({"name": "shop"}, "keys: api_keys.shop: there is such a key: take it out"),
        ({"name": "x", "scope": ["all"]}, "mlops key: api_keys.x.scopes.0: give one of 'predict'"),
        ({"name": "x", "model": ["nobody"]}, "api_keys.x.models: 'nobody' is not among 'models': use some of champion, challenger"),
        ({"name": "x", "rate": 0.0}, "api_keys.x.requests_per_s: give a number above 0"),
        ({"name": "x", "expires": "soon"}, "api_keys.x.expires: give a moment such as 2027-01-31"),
        ({"name": "x", "expires": "2020-01-01"}, "--expires 2020-01-01: is past"),
        ({"name": "x", "expires": "9999y"}, "--expires 9999y: is too far away"),
        ({"name": "a b"}, "api_keys.a b.[key]: use letters, digits"),
        ({"rate": 3.0}, "a key with rights needs a name"),
        ({"name": "x", "file": tmp_path}, "Is a directory: name another file"),
        ({"name": "x", "file": tmp_path / "no/where"}, "make its folder first"),
    ):
        with pytest.raises(PipelineError) as caught:
            key(**asked)  # type: ignore[arg-type]
        assert said in str(caught.value)
    assert keys_in(keys.read_text(encoding="utf-8"), "keys").keys() == {"shop", "plain"}
    (tmp_path / "flow").write_text(f"{{a: '{plain}'}}", encoding="utf-8")
    with pytest.raises(PipelineError, match="no lines can be added to it"):
        key("x", file=tmp_path / "flow")
