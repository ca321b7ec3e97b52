"""The pipeline as a user runs it, on a small table."""

import json

from tests.conftest import Project


def test_first_run_makes_a_champion_and_the_second_does_nothing(project: Project) -> None:
    first = project.run()
    assert "small version 1: champion" in first.stdout
    assert (project.folder / "models/registry/best_model/MLmodel").is_file()
    second = project.run()
    assert second.stdout.count("up to date") == 6
    config = ("--config", str(project.config))
    known = json.loads(project.mlops("status", "--json", *config).stdout)
    assert (known["pipeline"], known["up_to_date"], known["as_of"]) == ("small", True, None)
    project.change(gate={"beat_baseline_by": 0.01})
    known = json.loads(project.mlops("status", "--json", *config).stdout)
    assert not known["up_to_date"]
    assert [(each["stage"], each["causes"][0]["kind"]) for each in known["stages"] if each["stale"]] == [("register", "settings")]
    found = {each["name"]: each for each in json.loads(project.mlops("doctor", "--json", *config).stdout)}
    assert found["tracking store"]["works"]
    assert "(1 version)" in found["tracking store"]["seen"]
