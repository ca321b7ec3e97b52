"""What follows from what is known of a release: the policy is a pure function."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlops_pipeline.config.release import Guardrail, Policy, Step, load_releases, release_schema
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.pipeline.render.terms import LONGEST_NAME, kubernetes_name
from mlops_pipeline.release.policy import PROMOTING, Evidence, Finding, Standing, covered, decide
from mlops_pipeline.release.rendered import TARGETS, Target, rendered
from tests.conftest import REPOSITORY

POLICY = Policy(
    steps=(Step(shadow=1, least_rows=100), Step(weight=0.05, least_rows=50), Step(weight=1, least_rows=10, least_time="1min")),
    guardrails={"quality": Guardrail(figure="quality", worse_by=0.01, must_hold=True)},
    patience="1h",
)


def finding(low: float, high: float, **other: Any) -> Finding:
    return Finding("quality", "quality", (low + high) / 2, low, high, 0.01, 0.1, 0.1, (500, 500), **other)


GOOD = Evidence(rows=500, requests=(500, 500), findings=(finding(-0.02, 0.005),))


def test_a_good_challenger_goes_from_step_to_step_and_is_promoted() -> None:
    step, walked = "shadow", []
    for _ in range(5):
        made = decide(POLICY, Standing(step, "running", 0.0), GOOD, 120.0)
        walked.append(made.move)
        if made.step is None:
            break
        step = made.step.name
    assert walked == ["advance", "advance", "promote"]
    assert step == "100 %"
    assert decide(POLICY, Standing(PROMOTING, "running", 0.0), Evidence(), 0.0).move == "promote"


@pytest.mark.parametrize(
    ("standing", "evidence", "said"),
    [
        (
            Standing("5 %", "running", 0.0),
            Evidence(rows=500, requests=(500, 500), findings=(finding(0.02, 0.05),)),
            "quality +0.035 (+0.02 to +0.05; limit +0.01)",
        ),
        (
            Standing("5 %", "running", 0.0),
            Evidence(rows=500, requests=(500, 500), findings=(*GOOD.findings, finding(0.02, 0.05, slice="carrier = AA"))),
            "carrier = AA",
        ),
        (Standing("5 %", "running", 0.0, breakers=("raised 5 times",)), GOOD, "a worker tripped: raised 5 times"),
        (Standing("5 %", "running", 0.0, champion_is="7"), GOOD, "version 7 became champion"),
        (Standing(PROMOTING, "running", 0.0, refused="was rejected by ada"), GOOD, "the challenger was rejected by ada"),
        (
            Standing("5 %", "running", 0.0),
            Evidence(rows=500, requests=(500, 500), counts=(500, 400), p_of_split=1e-9),
            "did not get their shares",
        ),
    ],
)
def test_a_bad_one_is_thrown_out_with_its_reason(standing: Standing, evidence: Evidence, said: str) -> None:
    made = decide(POLICY, standing, evidence, 60.0)
    assert made.move == "abort"
    assert said in made.reason


def test_without_data_it_waits_and_then_goes_back() -> None:
    few = Evidence(rows=3)
    assert decide(POLICY, Standing("shadow", "running", 0.0), few, 60.0) == ("stay", "3 of 100 rows", None)
    assert decide(POLICY, Standing("shadow", "running", 0.0), few, 3601.0).move == "give up"
    unsure = Evidence(rows=500, requests=(500, 500), findings=(finding(-0.02, 0.03),))
    assert decide(POLICY, Standing("shadow", "running", 0.0), unsure, 60.0).move == "stay"
    assert "quality is not known to hold" in decide(POLICY, Standing("shadow", "running", 0.0), unsure, 3601.0).reason


def test_what_stands_still_has_no_time_that_passes() -> None:
    paused = Standing("shadow", "running", 0.0, stood_still=260_000.0)
    assert decide(POLICY, paused, Evidence(rows=3), 260_060.0) == ("stay", "3 of 100 rows", None)
    assert decide(POLICY, paused, Evidence(rows=3), 263_601.0).move == "give up"
    last = Standing("100 %", "running", 0.0, stood_still=100.0)
    assert decide(POLICY, last, GOOD, 130.0) == ("stay", "30 s of 1min", None)
    assert decide(POLICY, last, GOOD, 161.0).move == "promote"


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=5), st.integers(0, 40), st.integers(0, 40))
def test_time_that_several_spans_cover_counts_once(spans: list[tuple[int, int]], since: int, until: int) -> None:
    assert covered(spans, since, until) == sum(any(start <= at < end for start, end in spans) for at in range(since, until))


def test_many_rows_of_few_requests_are_not_enough_and_what_is_not_known_is_said() -> None:
    batch = Evidence(rows=1000, requests=(1, 1), findings=GOOD.findings)
    assert decide(POLICY, Standing("shadow", "running", 0.0), batch, 60.0) == ("stay", "1 of 50 requests", None)
    lacking = Evidence(rows=1000, requests=(20, 100), findings=GOOD.findings)
    assert decide(POLICY, Standing("5 %", "running", 0.0), lacking, 60.0).reason == "20 of 50 requests of the champion"
    policy = Policy(steps=POLICY.steps, guardrails={"quality": Guardrail(figure="quality", worse_by=0.01)})
    found = Evidence(rows=1000, requests=(500, 500))
    assert decide(policy, Standing("shadow", "running", 0.0), found, 60.0).reason.endswith("nothing is known of quality")


def test_a_step_that_asks_for_a_person_is_left_when_one_says_so() -> None:
    policy = Policy(steps=(Step(weight=0.5, least_rows=0, approval=True),), guardrails={})
    asked = Standing("50 %", "running", 0.0)
    here, elsewhere = (decide(policy, each, Evidence(), 1e9) for each in (asked, asked._replace(option=" --config mine.yaml")))
    assert here == ("stay", "waits for approval: `mlops release promote`", None)
    assert elsewhere == ("stay", "waits for approval: `mlops release promote --config mine.yaml`", None)
    assert decide(policy, asked._replace(approved_by="ada"), Evidence(), 0.0).reason.endswith("approved by ada")


findings = st.builds(
    lambda low, width, where: finding(low, low + width, slice=where),
    st.floats(-1, 1),
    st.floats(0, 1),
    st.sampled_from(["", "carrier = AA"]),
)
evidences = st.builds(
    Evidence,
    rows=st.integers(0, 1000),
    requests=st.tuples(st.integers(0, 100), st.integers(0, 100)),
    labels=st.integers(0, 1000),
    findings=st.lists(findings, max_size=4).map(tuple),
    p_of_split=st.none() | st.floats(0, 1),
)
standings = st.builds(
    Standing,
    step=st.sampled_from([step.name for step in POLICY.steps]),
    state=st.sampled_from(["running", "paused", "aborted", "promoted", "inconclusive"]),
    since=st.floats(0, 1e5),
    breakers=st.sampled_from([(), ("tripped",)]),
)


@given(standings, evidences, st.floats(0, 2e5))
def test_whatever_is_known_no_broken_guardrail_is_passed_and_no_step_is_skipped(standing: Standing, evidence: Evidence, now: float) -> None:
    made = decide(POLICY, standing, evidence, now)
    assert made == decide(POLICY, standing, evidence, now)
    assert made.reason
    bad = bool(evidence.broken or standing.breakers)
    if standing.state != "running":
        assert made.move == "stay"
    elif bad:
        assert made.move == "abort"
    names = [step.name for step in POLICY.steps]
    if made.step is not None:
        assert names.index(made.step.name) == names.index(standing.step) + 1
    assert (made.move == "promote") <= (standing.step == names[-1] and not bad)
    assert (made.step is not None) == (made.move == "advance")


def test_the_committed_schema_and_settings_are_current() -> None:
    committed = (REPOSITORY / "configs/release_config.schema.json").read_text()
    assert release_schema() + "\n" == committed, "mlops config --release --schema > configs/release_config.schema.json"
    assert [step.name for step in load_releases(REPOSITORY / "configs/release_config.yaml").policy.steps] == [
        "shadow", "1 %", "5 %", "25 %", "50 %", "100 %",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("policy: {steps: [{weight: 0.5}, {weight: 0.1}]}", "weights of 'steps' must not fall"),
        ("policy: {steps: [{least_rows: 5}]}", "needs a weight or a shadow above zero"),
        ("policy: {steps: [{weight: 1, shadow: 0.5}]}", "leave 'shadow' out"),
        ("policy: {guardrails: {}}", "policy.guardrails is empty"),
        ("policy: {guardrails: {a: {figure: speed, worse_by: 1}}}", "figure 'speed' is none"),
        ("policy: {guardrails: {a: {figure: refused, worse_by: 1, slices: [b]}}}", "what was refused has no columns on record"),
        ("policy: {steps: [{weight: 0.5, least_time: 2d}]}", "'50 %' lasts least_time = 2d, and patience = 2d would end"),
        ("unit: cookie", "unit = 'cookie'"),
        ("polcy: {}", "did you mean 'policy'"),
    ],
)
def test_settings_that_are_no_good_are_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "release.yaml").write_text(text)
    with pytest.raises(PipelineError, match=r"release\.yaml: ") as raised:
        load_releases(tmp_path / "release.yaml")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_manifests_are_called_as_the_pipeline_is_and_say_where_the_policy_stands() -> None:
    policy = Policy()
    assert [kubernetes_name(name) for name in ("Größe_1", "2013", "flights")] == ["gr-e-1", "model-2013", "flights"]
    one, other = (kubernetes_name(f"{'flights_' * 10}{end}") for end in "ab")
    assert one[:30] == other[:30] == ("flights-" * 10)[:30]
    assert one != other
    assert max(len(one), len(other)) <= LONGEST_NAME
    assert "name: churn" in rendered("kserve", policy, policy.steps[1], None, name="churn")
    assert "write configs/release_config.yaml" in rendered("httproute", policy, policy.steps[1], None, name="churn").splitlines()[0]
    assert "the policy in mine.yaml" in rendered("httproute", policy, policy.steps[1], Path("mine.yaml"), name="churn").splitlines()[0]


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of Kubernetes' kind that takes no field which it does not name: an API server would drop that without a word."""
    made = {key: value for key, value in schema.items() if key != "format"}
    if "properties" in schema:
        made |= {"properties": {name: closed(each) for name, each in schema["properties"].items()}, "additionalProperties": False}
    elif isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = closed(schema["additionalProperties"])
    if "items" in schema:
        made["items"] = closed(schema["items"])
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
    return made


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_rendered_are_fields_that_the_cluster_knows(target: Target) -> None:
    """crds.json holds of each kind's CustomResourceDefinition the fields that we write; a new field is to be taken over from there."""
    known = json.loads((Path(__file__).parent / "crds.json").read_text())
    steps = (Step(shadow=0.5), Step(weight=0.05, shadow=0.2, least_time="1h"), Step(weight=0.5, approval=True), Step(weight=1))
    for step in steps:
        for made in yaml.safe_load_all(rendered(target, Policy(steps=steps), step, None, name="flights")):
            assert made["apiVersion"] == known[made["kind"]]["apiVersion"]
            jsonschema.validate(made["spec"], closed(known[made["kind"]]["spec"]))
            if target == "kserve":
                assert made["spec"]["predictor"]["canaryTrafficPercent"] == round(100 * step.weight)
                assert made["metadata"]["annotations"] == {"serving.kserve.io/deploymentMode": "Knative"}
    wrong = {"predictor": {"canaryTrafficPercents": 5}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, closed(known["InferenceService"]["spec"]))


def test_so_are_the_fields_of_our_own_inference_service_beside_its_pod() -> None:
    known = json.loads((Path(__file__).parent / "crds.json").read_text())["InferenceService"]
    made = yaml.safe_load((REPOSITORY / "k8s/kserve/inference-service.yaml").read_text())
    own = {key: value for key, value in made["spec"]["predictor"].items() if key.startswith(("min", "max", "scale"))}
    assert made["apiVersion"] == known["apiVersion"]
    assert len(own) == 4
    jsonschema.validate({"predictor": own}, closed(known["spec"]))
