"""`mlflow/experiments.yaml` says what an experiment bears in MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_pipeline.errors import PipelineError
from mlops_pipeline.registry.runs import experiment_tags
from tests.conftest import make_project


def test_an_experiment_bears_what_its_definition_says_and_follows_its_changes(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    project = make_project(tmp_path / "project")
    definitions = project.folder / "mlflow/experiments.yaml"
    definitions.parent.mkdir(exist_ok=True)
    definitions.write_text("small: {description: A small one, tags: {team: ours}}\nother: {description: Not this}\n")
    project.run("--to", "train")
    uri = f"sqlite:///{project.folder / 'mlflow/mlflow.db'}"
    client = MlflowClient(uri, registry_uri=uri)
    made = client.get_experiment_by_name("small")
    assert made is not None
    assert (made.tags["mlflow.note.content"], made.tags["team"]) == ("A small one", "ours")
    client.set_experiment_tag(made.experiment_id, "by hand", "stays")

    definitions.write_text("small: {description: A changed one, tags: {team: theirs}}\n")
    project.run("--from", "train", "--to", "train", "--force")
    tags = client.get_experiment(made.experiment_id).tags
    assert (tags["mlflow.note.content"], tags["team"], tags["by hand"]) == ("A changed one", "theirs", "stays")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("small: {descripton: x}", "small: descripton: unknown key: did you mean 'description'?"),
        ("small: {tags: {n: [1]}}", "small: tags.n"),
        ("small: text", "small = 'text': is no mapping: write description or tags under it"),
        ("- small", "holds no mapping"),
        ("small: {", "is not valid YAML"),
    ],
)
def test_a_definition_that_is_none_is_told_in_one_line(content: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "experiments.yaml"
    file.write_text(content)
    with pytest.raises(PipelineError) as caught:
        experiment_tags(file, "small")
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_without_a_definition_there_are_no_tags(tmp_path: Path) -> None:
    file = tmp_path / "experiments.yaml"
    assert experiment_tags(file, "small") == {}
    for content in ("other: {description: x}", "small:", "small: {}"):
        file.write_text(content)
        assert experiment_tags(file, "small") == {}


def test_tags_are_texts_whatever_is_written(tmp_path: Path) -> None:
    file = tmp_path / "experiments.yaml"
    file.write_text("small: {tags: {year: 2013, open: true, share: 0.5, of: us}}")
    assert experiment_tags(file, "small") == {"year": "2013", "open": "True", "share": "0.5", "of": "us"}
