"""The pipeline as a user runs it, on a small table."""

from tests.conftest import Project


def test_first_run_makes_a_champion_and_the_second_does_nothing(project: Project) -> None:
    first = project.run()
    assert "small version 1: champion" in first.stdout
    assert (project.folder / "models/registry/best_model/MLmodel").is_file()
    second = project.run()
    assert second.stdout.count("up to date") == 6
