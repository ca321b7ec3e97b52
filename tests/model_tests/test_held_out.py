"""Training and tuning never see the held-out rows: the file is not opened, and what is in it changes nothing."""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from mlops_pipeline.config.pipeline import load_settings
from mlops_pipeline.files import read_json
from mlops_pipeline.layout import Layout, layout_of
from mlops_pipeline.pipeline.stages.ingest import ingest
from mlops_pipeline.pipeline.stages.split import split
from mlops_pipeline.pipeline.stages.validate import validate
from tests.conftest import SMALL_SETTINGS, put_empty_store, python, write_table
from tests.unit_tests.workshop import quiet

IN_OPEN, IN_NONBLOCK = 0x20, 0o4000
HEADER = struct.Struct("iIII")

TRAIN = """
import io, json, sys
from pathlib import Path
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
from rich.console import Console
from mlops_pipeline.config.pipeline import load_settings
from mlops_pipeline.layout import layout_of
from mlops_pipeline.pipeline.stages.train import train
config = Path(sys.argv[1])
settings = load_settings(config)
train(settings, layout_of(settings, config, config.parent), Console(file=io.StringIO()))
Path(sys.argv[2]).write_text(json.dumps(opened))
"""


class Watch:
    """Which files of a folder any process opens, from whatever language; Python's audit hooks see Python's alone."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._handle = libc.inotify_init1(IN_NONBLOCK)
        assert self._handle >= 0
        assert libc.inotify_add_watch(self._handle, str(folder).encode(), IN_OPEN) >= 0

    def opened(self) -> set[str]:
        try:
            content = os.read(self._handle, 1 << 20)
        except BlockingIOError:
            return set()
        finally:
            os.close(self._handle)
        names, at = set(), 0
        while at < len(content):
            *_, length = HEADER.unpack_from(content, at)
            names.add(content[at + HEADER.size : at + HEADER.size + length].rstrip(b"\0").decode())
            at += HEADER.size + length
        return names


def train_in_a_process(layout: Layout, noted: Path) -> None:
    python(layout.project, TRAIN, str(layout.config), str(noted))


@dataclass(frozen=True)
class Trained:
    """A project after its training, the files of its split that were opened, and those that Python opened anywhere."""

    layout: Layout
    opened: set[str]
    noted: list[str]


@pytest.fixture(scope="module")
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A small project, trained with two trials of tuning."""
    folder = tmp_path_factory.mktemp("project")
    write_table(folder / "table.csv")
    rule = SMALL_SETTINGS["split"] if request.param == "time" else {"kind": "stratified"}
    config = folder / "pipeline.yaml"
    config.write_text(yaml.safe_dump({**SMALL_SETTINGS, "split": rule, "tuning": {"trials": 2}}))
    settings = load_settings(config)
    layout = layout_of(settings, config, folder)
    for stage in (ingest, validate, split):
        stage(settings, layout, quiet())
    put_empty_store(folder / "mlflow/mlflow.db", str(folder / "mlruns"))
    watch = Watch(layout.train.parent)
    train_in_a_process(layout, folder / "noted.json")
    return Trained(layout, watch.opened(), read_json(folder / "noted.json"))


@pytest.mark.parametrize("trained", ["time", "stratified"], indirect=True)
def test_training_and_tuning_open_the_training_rows_and_not_the_held_out(trained: Trained) -> None:
    train, test = trained.layout.train.name, trained.layout.test.name
    assert train in trained.opened
    assert test not in trained.opened
    assert any(path.endswith("MLmodel") for path in trained.noted)
    assert not [path for path in trained.noted if test in path]


@pytest.mark.parametrize("trained", ["time"], indirect=True)
def test_training_without_the_held_out_rows_gives_the_same_model(trained: Trained, tmp_path: Path) -> None:
    layout = trained.layout
    before = read_json(layout.training)
    layout.test.unlink()
    (layout.tuning / f"{layout.name}.db").unlink()
    layout.training.unlink()
    train_in_a_process(layout, tmp_path / "noted.json")
    after = read_json(layout.training)
    assert after["tuning"]["trials"] == 2
    assert after == before
