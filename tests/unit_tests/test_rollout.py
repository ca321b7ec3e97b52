"""What `mlops deploy` works out by itself: the order of objects, images, secrets, differences, progress, pauses."""

from __future__ import annotations

import copy
import itertools
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlops_pipeline.errors import PipelineError
from mlops_pipeline.rollout.changes import changes
from mlops_pipeline.rollout.cluster import Backoff, ClusterRefused, Resource
from mlops_pipeline.rollout.manifests import (
    Manifest,
    needed_secrets,
    read_manifests,
    repository_of,
    the_deployment,
    with_image,
)
from mlops_pipeline.rollout.progress import came_up, pods_of, previous_template, progress_of, replica_set_of, trouble_of

WORDS = st.from_regex(r"[a-z]{1,6}", fullmatch=True)
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | WORDS
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=8)


DEPLOYMENT = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}"


def deployment(*containers: dict[str, Any], annotations: dict[str, str] | None = None, **pod: Any) -> Manifest:
    template = {"metadata": {"annotations": annotations or {}}, "spec": {"containers": list(containers), **pod}}
    content = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "flights"}, "spec": {"template": template}}
    return Manifest(content, "file: document 1")


def images(manifest: Manifest) -> dict[str, str]:
    return {c["name"]: c["image"] for c in manifest.content["spec"]["template"]["spec"]["containers"]}


# The file.


@given(st.permutations(["Deployment", "Namespace", "ServiceAccount", "ConfigMap", "Secret", "Service", "PodDisruptionBudget"]))
def test_objects_are_applied_in_an_order_that_each_finds_what_it_needs(kinds: list[str]) -> None:
    def write(kind: str) -> dict[str, Any]:
        api = "apps/v1" if kind == "Deployment" else "v1"
        spec = {"template": {"spec": {"containers": [{"name": "server", "image": "a"}]}}}
        return {"apiVersion": api, "kind": kind, "metadata": {"name": "x"}, "spec": spec}

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "m.yaml"
        file.write_text(yaml.safe_dump_all(write(kind) for kind in kinds))
        order = [manifest.kind for manifest in read_manifests(file)]
    assert order[:4] == ["Namespace", "ServiceAccount", "ConfigMap", "Secret"]
    assert order[-1] == "Deployment"
    assert sorted(order) == sorted(kinds)
    middle = [kind for kind in kinds if kind in ("Service", "PodDisruptionBudget")]
    assert order[4:-1] == middle, "what has no rank of its own keeps the file's order"


def test_a_list_is_taken_apart_and_empty_documents_are_nothing(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    file.write_text("---\n---\n" + yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [item]}))
    assert [manifest.label for manifest in read_manifests(file)] == ["configmap/a"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("kind: ConfigMap\nmetadata: {name: a}", "m.yaml: document 1: apiVersion is missing: add it"),
        ("apiVersion: v1\nkind: ConfigMap", "m.yaml: document 1: metadata.name is missing"),
        ("a: [", "m.yaml: is not valid YAML"),
        ("apiVersion: v1\nkind: A\nmetadata: &m {name: a, annotations: *m}", "m.yaml: is not valid YAML: something in it holds itself"),
        (
            "apiVersion: v1\nkind: A\nmetadata: {name: a}\nl0: &l0 [a]\n"
            + "".join(f"l{k}: &l{k} [{', '.join([f'*l{k - 1}'] * 10)}]\n" for k in range(1, 30)),
            "m.yaml: is not valid YAML: its aliases (*NAME) make more than 100,000 values of it",
        ),
        ("- 1", "m.yaml: document 1: holds no mapping"),
        ("{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}", "document 1: spec.template is missing"),
        ("{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {template: {spec: {}}}}", "containers is missing"),
        ("{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: [1]}", "document 1: spec = [1]: must be a mapping"),
        (f"{DEPLOYMENT}, spec: {{template: {{spec: [x]}}}}}}", "document 1: spec = ['x']: must be a mapping"),
        (
            f"{DEPLOYMENT}, spec: {{template: {{metadata: [x], spec: {{containers: [{{name: a}}]}}}}}}}}",
            "metadata = ['x']: must be a mapping",
        ),
        ("{apiVersion: v1, kind: A, metadata: [x]}", "document 1: metadata.name is missing"),
        ("{apiVersion: v1, kind: A, metadata: {name: a}}\n---\n{apiVersion: v1, kind: A, metadata: {name: a}}", "a/a stands in"),
    ],
)
def test_a_file_that_cannot_be_applied_is_refused_in_one_line(tmp_path: Path, text: str, line: str) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(text)
    with pytest.raises(PipelineError) as refusal:
        read_manifests(file)
    assert line in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("pod", "line"),
    [
        ({"volumes": [3]}, "volumes = [3]: must be a list of mappings"),
        ({"volumes": {"a": "b"}}, "volumes = {'a': 'b'}: must be a list of mappings"),
        ({"volumes": [{"secret": "a"}]}, "secret = a: must be a mapping"),
        ({"volumes": [{"secret": {"secretName": "a", "items": ["b"]}}]}, "items = ['b']: must be a list of mappings"),
        ({"volumes": [{"projected": {"sources": [1]}}]}, "sources = [1]: must be a list of mappings"),
        ({"imagePullSecrets": ["reg"]}, "imagePullSecrets = ['reg']: must be a list of mappings"),
        ({"initContainers": ["a"]}, "initContainers = ['a']: must be a list of mappings"),
        ({"containers": [{"name": "a", "env": {"A": "b"}}]}, "env = {'A': 'b'}: must be a list of mappings"),
        ({"containers": [{"name": "a", "env": [{"name": "A", "valueFrom": "b"}]}]}, "valueFrom = b: must be a mapping"),
        ({"containers": [{"name": "a", "envFrom": [{"secretRef": "b"}]}]}, "secretRef = b: must be a mapping"),
    ],
)
@pytest.mark.parametrize("kind", ["Deployment", "Pod", "CronJob"])
def test_a_pod_that_is_written_wrongly_is_refused_in_one_line(kind: str, pod: dict[str, Any], line: str) -> None:
    spec: dict[str, Any] = {"containers": [], **pod}
    spec = {"Pod": spec, "CronJob": {"jobTemplate": {"spec": {"template": {"spec": spec}}}}}.get(kind, {"template": {"spec": spec}})
    with pytest.raises(PipelineError) as refusal:
        needed_secrets(Manifest({"kind": kind, "metadata": {"name": "a"}, "spec": spec}, "m.yaml: document 1"))
    assert str(refusal.value) == f"m.yaml: document 1: {line}"


@given(st.dictionaries(st.sampled_from(["spec", "template", "jobTemplate", "volumes"]), TREES, max_size=4), WORDS)
def test_an_object_of_somebody_elses_kind_may_have_any_shape(content: dict[str, Any], kind: str) -> None:
    assert needed_secrets(Manifest({"kind": kind, "metadata": {"name": "a"}, **content}, "")) == []


def test_annotations_that_are_no_mapping_are_refused_in_one_line() -> None:
    manifest = deployment({"name": "server", "image": "old"})
    manifest.content["spec"]["template"]["metadata"]["annotations"] = ["x"]
    with pytest.raises(PipelineError, match="annotations = "):
        with_image(manifest, "new:1")


def test_a_file_without_a_deployment_is_refused() -> None:
    with pytest.raises(PipelineError, match="must hold one Deployment, and holds 0"):
        the_deployment([], Path("m.yaml"))


# Images.


@given(
    WORDS,
    st.sampled_from(["", ":5000", ".example"]),
    st.sampled_from([":1", ":v2-rc.1", "@sha256:" + "0" * 64, ":1@sha256:" + "a" * 64, ""]),
)
def test_the_only_container_takes_any_image_and_nothing_else_changes(name: str, host: str, tag: str) -> None:
    image = f"registry{host}/{name}/serve{tag}"
    before = deployment({"name": "server", "image": "old", "env": [{"name": "A", "value": "1"}]})
    kept = copy.deepcopy(before.content)
    after = with_image(before, image)
    assert images(after) == {"server": image}
    assert before.content == kept, "the file's own object stays as it was"
    expected = copy.deepcopy(kept)
    expected["spec"]["template"]["spec"]["containers"][0]["image"] = image
    assert after.content == expected
    assert repository_of(image) == f"registry{host}/{name}/serve"


def test_among_several_containers_the_marked_one_is_the_serving_one_else_the_one_of_the_same_repository() -> None:
    two = ({"name": "proxy", "image": "envoy:1"}, {"name": "server", "image": "host:5000/serve:1"})
    assert images(with_image(deployment(*two), "host:5000/serve:2")) == {"proxy": "envoy:1", "server": "host:5000/serve:2"}
    marked = deployment(*two, annotations={"kubectl.kubernetes.io/default-container": "proxy"})
    assert images(with_image(marked, "other:2"))["proxy"] == "other:2"
    with pytest.raises(PipelineError, match=r"it is not plain which container serves \(it has proxy, server\)"):
        with_image(deployment(*two), "unrelated:2")


@pytest.mark.parametrize("image", ["", "a b", "UPPER", "a:b:c", "a@sha256:1", "-x", "a/"])
def test_what_is_no_image_reference_is_refused_before_anything_runs(image: str) -> None:
    with pytest.raises(PipelineError, match="is no image reference"):
        with_image(deployment({"name": "server", "image": "old"}), image)


# Secrets.


def test_every_way_to_refer_to_a_secret_is_found_and_optional_ones_are_not() -> None:
    found = needed_secrets(
        deployment(
            {
                "name": "server",
                "env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "by-key", "key": "token"}}},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "maybe", "key": "token", "optional": True}}},
                    {"name": "C", "value": "plain"},
                ],
                "envFrom": [{"secretRef": {"name": "all-keys"}}, {"configMapRef": {"name": "no-secret"}}],
            },
            initContainers=[{"name": "init", "envFrom": [{"secretRef": {"name": "early"}}]}],
            imagePullSecrets=[{"name": "pull"}],
            volumes=[
                {"name": "a", "secret": {"secretName": "mounted", "items": [{"key": "a.pem", "path": "a"}, {"key": "b.pem", "path": "b"}]}},
                {"name": "b", "projected": {"sources": [{"secret": {"name": "projected"}}, {"configMap": {"name": "no-secret"}}]}},
                {"name": "c", "secret": {"secretName": "maybe", "optional": True}},
                {"name": "d", "emptyDir": {}},
            ],
        )
    )
    assert {secret.name for secret in found} == {"by-key", "all-keys", "early", "pull", "mounted", "projected"}
    lines = {secret.name: secret.creating("ns", "ctx") for secret in found}
    assert (
        lines["mounted"]
        == "kubectl --context ctx --namespace ns create secret generic mounted --from-file=a.pem=FILE --from-file=b.pem=FILE"
    )
    assert lines["pull"].startswith("kubectl --context ctx --namespace ns create secret docker-registry pull ")


def test_the_secrets_of_a_cron_job_are_found() -> None:
    pod = {"containers": [{"name": "a", "envFrom": [{"secretRef": {"name": "s3"}}]}]}
    content = {"kind": "CronJob", "metadata": {"name": "x"}, "spec": {"jobTemplate": {"spec": {"template": {"spec": pod}}}}}
    assert [secret.name for secret in needed_secrets(Manifest(content, ""))] == ["s3"]


# Differences.


@given(st.dictionaries(WORDS, TREES, max_size=4), st.dictionaries(WORDS, TREES, max_size=4))
def test_there_are_differences_exactly_where_the_objects_differ(before: dict[str, Any], after: dict[str, Any]) -> None:
    def plain(tree: dict[str, Any]) -> str:
        return json.dumps({k: v for k, v in tree.items() if k != "status"}, sort_keys=True)

    lines = changes({"kind": "A", **before}, {"kind": "A", **after})
    assert bool(lines) == (plain({"kind": "A", **before}) != plain({"kind": "A", **after}))
    assert all("\n" not in line for line in lines)


@given(st.dictionaries(WORDS, st.text(min_size=1), max_size=3), st.dictionaries(WORDS, st.text(min_size=1), max_size=3))
def test_the_content_of_a_secret_is_in_no_difference(before: dict[str, str], after: dict[str, str]) -> None:
    def hidden(content: dict[str, str]) -> dict[str, str]:
        return {key: f"<<{value}>>" for key, value in content.items()}

    copied = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(hidden(before))}
    old = {"kind": "Secret", "metadata": {"annotations": copied}, "data": hidden(before), "stringData": hidden(before)}
    new = {"kind": "Secret", "metadata": {}, "data": hidden(after)}
    assert not any("<<" in line for line in changes(old, new))
    assert not any("<<" in line for line in changes(new, old))


def test_what_only_the_server_keeps_is_no_difference_and_containers_go_by_name() -> None:
    kept = {"resourceVersion": "1", "generation": 1, "managedFields": [1], "uid": "u"}
    old = {"kind": "A", "metadata": {"name": "x", **kept}, "status": {"a": 1}}
    assert changes(old, {"kind": "A", "metadata": {"name": "x", "resourceVersion": "2"}, "status": {"a": 2}}) == []
    one, two = {"name": "one", "image": "a:1"}, {"name": "two", "image": "b:1"}
    assert changes({"c": [one, two]}, {"c": [two, {**one, "image": "a:2"}]}) == ["c[one].image: a:1 → a:2"]
    assert changes({"c": [1, 2]}, {"c": [1]}) == ["c[1]: removed 2"]


@pytest.mark.parametrize(
    "name", ["DB_PASSWORD", "DB_PWD", "api_token", "CLIENT_SECRET", "AWS_KEY_ID", "GOOGLE_CREDENTIALS", "Authorization"]
)
@pytest.mark.parametrize("twice", [False, True])
def test_a_value_under_a_telling_name_is_in_no_difference(name: str, twice: bool) -> None:
    def container(*values: str) -> dict[str, Any]:
        # Names that are there twice are told apart by their number.
        return {"c": [{"name": "server", "env": [{"name": name, "value": v} for v in [*values, *values[: len(values) * twice]]]}]}

    for before, after in [
        (container("hunter1"), container("hunter2")),
        (container(), container("hunter1")),
        (container("hunter1"), container()),
        ({}, container("hunter1")),
        (container("hunter1"), {}),
    ]:
        lines = changes(before, after)
        assert lines
        assert not any("hunter" in line for line in lines)
    plain = [{"name": "LEVEL", "value": "info"}, {"name": "LEVEL", "value": "debug"}]
    assert changes({"env": plain[:1]}, {"env": plain[1:]}) == ["env[LEVEL].value: info → debug"]


def test_a_variable_of_a_telling_name_in_a_config_map_is_in_no_difference() -> None:
    def config(**data: str) -> dict[str, Any]:
        return {"kind": "ConfigMap", "data": data}

    old, new = config(DB_PASSWORD="hunter1", LEVEL="info"), config(DB_PASSWORD="hunter2", LEVEL="debug")
    assert changes(old, new) == ["data.DB_PASSWORD: changed", "data.LEVEL: info → debug"]
    assert changes({"kind": "ConfigMap"}, new) == ['data: added {"DB_PASSWORD": "…", "LEVEL": "debug"}']
    assert changes(config(), config(API_TOKEN="hunter1")) == ["data.API_TOKEN: added"]
    assert changes({"s": {"secretName": "a", "key": "b"}}, {"s": {"secretName": "c", "key": "b"}}) == ["s.secretName: a → c"]


def test_a_password_among_a_containers_arguments_is_in_no_difference() -> None:
    def container(*args: str) -> dict[str, Any]:
        return {"containers": [{"name": "server", "args": list(args)}]}

    lines = changes(container("--port=1", "--token=hunter1"), container("--port=2", "--token=hunter2"))
    assert lines == ["containers[server].args[0]: --port=1 → --port=2", "containers[server].args[1]: --token=… → --token=…"]
    assert "hunter" not in str(changes({}, container("--api-key=hunter1")))
    apart = changes(container("--password", "hunter1", "-v"), container("--password", "hunter2", "-q"))
    assert apart == ["containers[server].args[1]: changed", "containers[server].args[2]: -v → -q"]
    assert "hunter" not in str(changes({}, container("--password", "hunter1")))
    assert changes({"data": {"db_password": "hunter1"}}, {"data": {"db_password": "hunter2"}}) == ["data.db_password: changed"]


@pytest.mark.parametrize("number", [0, 1])
def test_a_truth_and_a_number_differ_however_deep_they_stand(number: int) -> None:
    truth = bool(number)
    for deep, where in ((lambda v: v, "a"), (lambda v: {"b": {"c": v}}, "a.b.c"), (lambda v: [v], "a[0]")):
        shown = f"{where}: {number} → {json.dumps(truth)}"
        assert changes({"a": deep(number)}, {"a": deep(truth)}) == [shown]
        assert changes({"a": deep(truth)}, {"a": deep(truth)}) == []


def test_a_login_in_an_address_is_in_no_difference() -> None:
    old, new = "postgresql://me:hunter1@db/flights", "two: postgresql://me:hun/ter@2@db and s3://other:hunter3@host/x"
    expected = "a: postgresql://…@db/flights → two: postgresql://…@db and s3://…@host/x"
    assert changes({"a": old}, {"a": new}) == [expected]
    assert changes({}, {"a": [old, {"b": old}]}) == ['a: added ["postgresql://…@db/flights", {"b": "postgresql://…@db/flights"}]']
    assert changes({}, {"a": "mail me@example.org, see http://host/x"}) == ["a: added mail me@example.org, see http://host/x"]
    assert changes({"a": "$(SCHEME)://me:hunter1@db"}, {"a": "$(SCHEME)://me:hunter2@other"}) == [
        "a: $(SCHEME)://…@db → $(SCHEME)://…@other"
    ]


# Progress.


def test_a_rollout_is_done_only_when_every_wanted_pod_is_new_and_available() -> None:
    """Every combination of small counts: 2,048 Deployments."""
    counts = itertools.product(range(4), repeat=4)
    for (wanted, updated, available, replicas), (generation, observed), late in itertools.product(
        counts, [(1, 0), (2, 1), (1, 1), (2, 3)], [False, True]
    ):
        conditions = [{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "status": "False"}] if late else []
        status = {"updatedReplicas": updated, "readyReplicas": 3, "availableReplicas": available, "replicas": replicas}
        found = progress_of(
            {
                "metadata": {"generation": generation},
                "spec": {"replicas": wanted},
                "status": {"observedGeneration": observed, "conditions": conditions, **status},
            }
        )
        if observed < generation:
            assert (found.done, found.failed) == (False, None), "what the controller has not seen yet says nothing"
            continue
        assert (found.failed is not None) == late
        assert late or found.done == (updated >= wanted and replicas <= updated and available >= updated)
        assert f"{updated} of {wanted} updated, 3 ready, {available} available" in found.text


@pytest.mark.parametrize(
    ("expected", "observed", "reason", "counts"),
    [
        (True, 2, "NewReplicaSetAvailable", (2, 2, 0)),
        (False, 1, "NewReplicaSetAvailable", (2, 2, 2)),  # that is the version before
        (False, 2, "ReplicaSetUpdated", (2, 2, 2)),
        (False, 2, "ProgressDeadlineExceeded", (2, 2, 1)),
        (True, 2, None, (2, 2, 1)),
        (False, 2, None, (2, 2, 0)),
        (False, 2, None, (3, 2, 3)),
    ],
)
def test_a_version_had_come_up_when_its_rollout_was_once_complete(
    expected: bool, observed: int, reason: str | None, counts: tuple[int, int, int]
) -> None:
    replicas, updated, available = counts
    status = {"observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated, "availableReplicas": available}
    conditions = [{"type": "Progressing", "reason": reason}] if reason else []
    assert came_up({"metadata": {"generation": 2}, "spec": {}, "status": {**status, "conditions": conditions}}) is expected


def test_a_deployment_without_a_status_is_waited_for() -> None:
    assert not progress_of({"metadata": {"generation": 1}, "spec": {"replicas": 0}}).done


def container(**state: Any) -> dict[str, Any]:
    more = {key: state.pop(key) for key in ("restartCount", "lastState", "ready") if key in state}
    return {"metadata": {"name": "p"}, "status": {"containerStatuses": [{"name": "server", "state": state, **more}]}}


def test_a_crash_loop_is_hopeless_only_after_three_restarts_and_gives_the_last_words() -> None:
    last = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "out of memory\n"}}
    waiting = {"reason": "CrashLoopBackOff"}
    young = trouble_of(container(waiting=waiting, restartCount=1, lastState=last))
    old = trouble_of(container(waiting=waiting, restartCount=3, lastState=last))
    assert young is not None
    assert old is not None
    assert (young.hopeless, old.hopeless) == (False, True)
    assert old.text == "pod p, container server: CrashLoopBackOff after 3 restarts (OOMKilled, exit code 137): out of memory"
    assert old.log is None, "the message is the last word"


def test_a_pod_that_starts_or_runs_or_goes_is_no_trouble() -> None:
    assert trouble_of(container(waiting={"reason": "ContainerCreating"})) is None
    assert trouble_of(container(running={}, ready=False)) is None
    assert trouble_of(container(running={}, ready=False), late=True) is not None
    assert trouble_of(container(terminated={"exitCode": 0})) is None
    going = container(waiting={"reason": "CrashLoopBackOff"})
    going["metadata"]["deletionTimestamp"] = "now"
    assert trouble_of(going) is None


def test_an_image_name_that_no_runtime_takes_is_hopeless_and_one_that_cannot_be_pulled_now_is_not() -> None:
    invalid, absent = (trouble_of(container(waiting={"reason": reason})) for reason in ("InvalidImageName", "ErrImagePull"))
    assert invalid is not None
    assert invalid.hopeless
    assert absent is not None
    assert not absent.hopeless


def replica_set(revision: int, image: str, owner: str = "d") -> dict[str, Any]:
    labels = {"app": "x", "pod-template-hash": f"h{revision}"}
    return {
        "metadata": {
            "uid": f"r{revision}",
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
            "ownerReferences": [{"uid": owner}],
        },
        "spec": {"template": {"metadata": {"labels": labels}, "spec": {"image": image}}},
    }


@given(st.permutations([1, 2, 9, 10]))
def test_the_version_before_is_the_newest_revision_that_differs(order: list[int]) -> None:
    live = {
        "metadata": {"uid": "d", "annotations": {"deployment.kubernetes.io/revision": "10"}},
        "spec": {"template": {"metadata": {"labels": {"app": "x"}}, "spec": {"image": "ten"}}},
    }
    names = {1: "one", 2: "two", 9: "nine", 10: "ten"}
    sets = [replica_set(revision, names[revision]) for revision in order] + [replica_set(11, "foreign", owner="other")]
    assert previous_template(live, sets) == {"metadata": {"labels": {"app": "x"}}, "spec": {"image": "nine"}}
    mine = replica_set_of(live, sets)
    assert mine is not None
    assert mine["metadata"]["uid"] == "r10"
    pods = [{"metadata": {"name": uid, "ownerReferences": [{"uid": uid}]}} for uid in ("r9", "r10")]
    assert [pod["metadata"]["name"] for pod in pods_of(mine, pods)] == ["r10"]
    assert previous_template(live, [replica_set(10, "ten")]) is None


# Requests.


@given(st.integers(1, 200), st.integers(0, 2**32), st.floats(0, 60))
def test_pauses_grow_are_bounded_and_never_shorter_than_asked(failures: int, seed: int, asked: float) -> None:
    backoff = Backoff(random=random.Random(seed))  # noqa: S311  # pauses are no secret
    bound = min(10, 0.25 * 2 ** min(failures - 1, 30))
    assert asked + bound / 2 <= backoff.pause(failures, asked) <= asked + bound


@pytest.mark.parametrize(
    ("status", "body", "retry_after", "passes"),
    [
        (409, {}, None, True),
        (409, {"details": {"causes": [{"reason": "FieldManagerConflict"}]}}, None, False),
        (429, {}, 5.0, True),
        (429, {}, 600.0, False),
        (500, {}, None, True),
        (503, {}, None, True),
        (403, {}, None, False),
        (422, {}, None, False),
    ],
)
def test_only_what_may_pass_by_itself_is_tried_again(status: int, body: dict[str, Any], retry_after: float | None, passes: bool) -> None:
    assert ClusterRefused(status, body, retry_after).passes is passes


def test_a_name_never_leaves_its_place_in_a_path() -> None:
    resource = Resource("/api/v1", "secrets", namespaced=True)
    assert resource.path("a/../b", "x?y") == "/api/v1/namespaces/a%2F..%2Fb/secrets/x%3Fy"
