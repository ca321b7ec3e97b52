"""Inside a project no command needs to be told which settings are meant; where it cannot tell, it asks in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_pipeline.config.experiment import Experiment, load_experiment
from mlops_pipeline.config.finding import (
    option_for,
    option_for_releases,
    option_for_server,
    option_for_watch,
    pipeline_config,
    pipeline_here,
    serving_config,
)
from mlops_pipeline.config.monitoring import Monitoring, load_monitoring
from mlops_pipeline.config.pipeline import Settings, load_settings
from mlops_pipeline.config.release import Releases, load_releases
from mlops_pipeline.config.serving import Serving, load_serving
from mlops_pipeline.config.tree import KINDS
from mlops_pipeline.errors import PipelineError
from tests.unit_tests.workshop import assert_one_line


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, in which one stands."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "configs").mkdir()
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    (folder / "configs" / name).write_text(text)


PIPELINE = "name: mine\ndataset:\n  target: y\n"
SERVING = "pipeline: mine.yaml\n"


def test_the_only_pipeline_and_the_only_servers_file_are_meant(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here, "mine.yaml", PIPELINE)
    write(here, "other.yaml", "colour: red\n")
    assert (pipeline_config(None), serving_config(None)) == (Path("configs/mine.yaml"), Path("configs/mine.yaml"))
    write(here, "serving.yml", SERVING)
    assert serving_config(None) == Path("configs/serving.yml")
    monkeypatch.chdir(here / "data")
    assert pipeline_config(None) == Path("../configs/mine.yaml")
    assert pipeline_config(Path("given.yaml")) == Path("given.yaml")


def test_the_usual_file_goes_first_and_the_marker_before_it(here: Path) -> None:
    for name in ("mine.yaml", "theirs.yaml", "training_config.yaml"):
        write(here, name, PIPELINE)
    assert pipeline_here() == Path("configs/training_config.yaml")
    assert (option_for(here / "configs/training_config.yaml"), option_for(here / "configs/mine.yaml")) == (
        "",
        " --config configs/mine.yaml",
    )
    (here / ".mlops.yaml").write_text("# mine\nconfiguration: 'configs/mine.yaml' # this one\nfiles: {}\n")
    assert pipeline_here() == Path("configs/mine.yaml")
    (here / ".mlops.yaml").write_text("configuration: configs/gone.yaml\n")
    with pytest.raises(PipelineError) as caught:
        pipeline_here()
    assert_one_line(caught.value, ".mlops.yaml: configuration = 'configs/gone.yaml'", "mend the line")


def test_of_several_it_asks_which(here: Path) -> None:
    write(here, "a.yaml", PIPELINE)
    write(here, "b.yaml", PIPELINE)
    for find in (lambda: pipeline_config(None), lambda: serving_config(None)):
        with pytest.raises(PipelineError) as caught:
            find()
        assert_one_line(caught.value, "configs/a.yaml, configs/b.yaml: which one?", "--config", "`configuration: PATH` into .mlops.yaml")
    assert option_for(here / "configs/a.yaml") == " --config configs/a.yaml"


def test_where_there_is_none_it_says_how_to_get_one(here: Path) -> None:
    assert pipeline_here() is None
    with pytest.raises(PipelineError) as caught:
        pipeline_config(None)
    assert_one_line(caught.value, str(here), "`mlops new DIR --data FILE --target COLUMN`", "--config")


def test_a_command_names_the_settings_that_are_not_the_usual_ones(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("serving", SERVING), ("monitoring", "windows: {}\n"), ("release", "policy: {}\n")):
        write(here, f"{name}_config.yaml", text)
        write(here, f"{name}_b.yaml", text)
    write(here, "training_config.yaml", PIPELINE)
    write(here, "mine.yaml", PIPELINE)
    kinds = {"serving": option_for_server, "monitoring": option_for_watch, "release": option_for_releases}
    for name, option in kinds.items():
        assert option(here / f"configs/{name}_config.yaml") == ""
        assert option(here / f"configs/{name}_b.yaml") == f" --config configs/{name}_b.yaml"
    assert (option_for_watch(None), option_for_releases(None)) == ("", "")
    monkeypatch.chdir(here / "data")
    assert option_for(here / "configs/mine.yaml") == " --config ../configs/mine.yaml"
    assert option_for(here / "configs/mine.yaml", here) == " --config configs/mine.yaml"
    assert option_for(here / "configs/training_config.yaml", here) == ""


KEPT = {
    "a pipeline's": (Settings, PIPELINE, load_settings),
    "a server's": (Serving, "port: 8001\n", load_serving),
    "a watch's": (Monitoring, "windows: {rows: 5}\n", load_monitoring),
    "a release's": (Releases, "auto: false\n", load_releases),
    "a test's": (Experiment, "arms: {a: 1, b: 1}\n", load_experiment),
}


@pytest.mark.parametrize("kind", KEPT)
def test_settings_of_another_kind_are_called_that_and_nobody_is_told_to_empty_them(kind: str, tmp_path: Path) -> None:
    tree, _, load = KEPT[kind]
    assert KINDS[kind] <= set(tree.model_fields)  # type: ignore[index]
    for other, (_, text, _) in KEPT.items():
        if other == kind or (kind, other) in {("a server's", "a pipeline's"), ("a pipeline's", "a server's")}:
            continue  # a server takes a pipeline's settings, whose champion it serves; and who runs a server's is told of its pipeline
        assert not KINDS[other] & set(tree.model_fields), "its keys tell it from this kind"  # type: ignore[index]
        (tmp_path / "given.yaml").write_text(text)
        with pytest.raises(PipelineError) as caught:
            load(tmp_path / "given.yaml")
        assert_one_line(caught.value, f"given.yaml: holds {other} settings, not {kind}", "--config")
