"""Files appear whole or not at all, and JSON holds no NaN."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_pipeline.files import _without_nan, read_json, replacing, replacing_folder, sha256_of_file, write_json, write_text


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new/deep/file.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole_when_the_block_ends(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    with replacing_folder(folder) as temporary:
        (temporary / "new.txt").write_text("new")
    assert [path.name for path in folder.iterdir()] == ["new.txt"]
    assert list(tmp_path.iterdir()) == [folder]


def test_an_error_in_the_block_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    with pytest.raises(ZeroDivisionError), replacing_folder(folder) as temporary:
        (temporary / "new.txt").write_text("new")
        raise ZeroDivisionError
    assert [path.name for path in folder.iterdir()] == ["old.txt"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_files_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_json_has_null_for_nan_wherever_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": math.nan, "b": [1.5, math.nan, {"c": (math.nan,)}], "d": "ä", 1: True})
    assert read_json(path) == {"a": None, "b": [1.5, None, {"c": [None]}], "d": "ä", "1": True}
    assert "ä" in path.read_text(encoding="utf-8")


def test_json_refuses_infinity_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, math.inf)
    assert read_json(path) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(JSON)
def test_no_nan_is_left_in_any_json(value: object) -> None:
    assert not list(nans(_without_nan(value)))


def nans(value: object) -> list[float]:
    if isinstance(value, dict):
        return [found for item in value.values() for found in nans(item)]
    if isinstance(value, list):
        return [found for item in value for found in nans(item)]
    return [value] if isinstance(value, float) and math.isnan(value) else []
