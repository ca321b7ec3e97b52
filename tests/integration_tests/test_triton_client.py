"""NVIDIA's own HTTP client against our server: what it asks, sends and reads is the Open Inference Protocol as others speak it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from tests.integration_tests.conftest import Server

pytestmark = pytest.mark.slow


MODEL = "champion"


@pytest.fixture(scope="module")
def client(served: Server) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(served.url.removeprefix("http://"), concurrency=4, network_timeout=120, connection_timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def described(client: InferenceServerClient) -> dict[str, Any]:
    return dict(client.get_model_metadata(MODEL))


def tensors(described: dict[str, Any], rows: list[dict[str, Any]], *, binary: bool = True) -> list[InferInput]:
    """One tensor a column, in the datatypes of the metadata; a column that is null in the first row is left out."""
    made = []
    for given in described["inputs"]:
        name, datatype = given["name"], given["datatype"]
        if rows[0][name] is None:
            continue
        values = np.array([row[name] for row in rows], dtype=triton_to_np_dtype(datatype))
        made.append(InferInput(name, [len(rows)], datatype).set_data_from_numpy(values, binary_data=binary))
    return made


def test_the_server_is_alive_ready_and_says_what_it_speaks(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    said = client.get_server_metadata()
    assert said["name"]
    assert said["version"]
    assert "binary_tensor_data" in said["extensions"]


def test_the_model_is_ready_by_its_name_and_version(client: InferenceServerClient, described: dict[str, Any]) -> None:
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, described["versions"][0])
    assert not client.is_model_ready("no_such_model")


def test_the_metadata_name_every_column(served: Server, client: InferenceServerClient, described: dict[str, Any]) -> None:
    assert described["name"] == MODEL
    assert {given["name"] for given in described["inputs"]} == set(served.example)
    assert [output["name"] for output in described["outputs"]] == ["label", "probabilities"]
    assert client.get_model_metadata(MODEL, described["versions"][0]) == described


@pytest.mark.parametrize("sent_binary", [True, False])
@pytest.mark.parametrize("read_binary", [True, False])
def test_a_row_is_answered_in_json_and_binary(
    served: Server, client: InferenceServerClient, described: dict[str, Any], sent_binary: bool, read_binary: bool
) -> None:
    outputs = [InferRequestedOutput("probabilities", read_binary), InferRequestedOutput("label", read_binary)]
    inputs = tensors(described, [served.example], binary=sent_binary)
    result = client.infer(MODEL, inputs, outputs=outputs, request_id="row-1")
    said = result.get_response()
    assert (said["model_name"], said["id"]) == (MODEL, "row-1")
    assert said["model_version"] in described["versions"]
    np.testing.assert_allclose(result.as_numpy("probabilities"), [served.expected], atol=1e-5)
    assert result.as_numpy("label").shape == (1,)
    assert ("data" in result.get_output("label")) != read_binary


def test_without_a_choice_every_output_comes_in_binary(served: Server, client: InferenceServerClient, described: dict[str, Any]) -> None:
    rows = [served.example] * 50
    result = client.infer(MODEL, tensors(described, rows), model_version=described["versions"][0])
    np.testing.assert_allclose(result.as_numpy("probabilities"), [served.expected] * 50, atol=1e-5)
    labels = result.as_numpy("label").tolist()
    assert len(labels) == 50
    assert len(set(labels)) == 1


def test_gathered_tensors_say_the_same(served: Server, client: InferenceServerClient, described: dict[str, Any]) -> None:
    names = {kind: [given["name"] for given in described["inputs"] if (given["datatype"] == "BYTES") == kind] for kind in (False, True)}
    inputs = []
    if names[False]:
        numbers = np.array([[served.example[name] for name in names[False]]] * 3, dtype=np.float64)
        inputs.append(InferInput("numbers", list(numbers.shape), "FP64").set_data_from_numpy(numbers))
    if names[True]:
        assert None not in (served.example[name] for name in names[True]), "this client's BYTES tensors have no null"
        texts = np.array([[served.example[name] for name in names[True]]] * 3, dtype=object)
        inputs.append(InferInput("categories", list(texts.shape), "BYTES").set_data_from_numpy(texts))
    result = client.infer(MODEL, inputs)
    np.testing.assert_allclose(result.as_numpy("probabilities"), [served.expected] * 3, atol=1e-5)


def test_requests_side_by_side_each_get_their_own_answer(served: Server, client: InferenceServerClient, described: dict[str, Any]) -> None:
    sizes = [1, 2, 5, 1, 3, 8, 1, 4] * 3
    waiting = [
        client.async_infer(MODEL, tensors(described, [served.example] * size), request_id=f"{place}:{size}")
        for place, size in enumerate(sizes)
    ]
    for place, (size, pending) in enumerate(zip(sizes, waiting, strict=True)):
        result = pending.get_result()
        assert result.get_response()["id"] == f"{place}:{size}"
        np.testing.assert_allclose(result.as_numpy("probabilities"), [served.expected] * size, atol=1e-5)


def test_what_is_wrong_reaches_the_caller_in_our_words(served: Server, client: InferenceServerClient, described: dict[str, Any]) -> None:
    good = tensors(described, [served.example])
    stranger = InferInput("no_such_column", [1], "FP32").set_data_from_numpy(np.ones(1, np.float32))
    told = json.loads(client.infer(MODEL, [*good, stranger]).get_response()["parameters"]["warnings"])
    assert [(each["reason"], each["column"]) for each in told] == [("extra_column", "no_such_column")]
    with pytest.raises(InferenceServerException, match=r"has the shape \[2\]: give \[1\] or \[1, 1\]"):
        client.infer(MODEL, [good[0], *tensors(described, [served.example] * 2)[1:]])
    with pytest.raises(InferenceServerException, match="output 'scores' is none of the model's: label, probabilities"):
        client.infer(MODEL, good, outputs=[InferRequestedOutput("scores")])
    assert client.infer(MODEL, good).as_numpy("probabilities").shape == (1, len(served.expected))


@pytest.mark.parametrize("ask", ["infer", "metadata"])
def test_a_model_or_version_that_is_not_served_is_not_found(
    served: Server, client: InferenceServerClient, described: dict[str, Any], ask: str
) -> None:
    inputs = tensors(described, [served.example])
    for name, version in (("no_such_model", ""), (MODEL, "999999")):
        with pytest.raises(InferenceServerException) as refusal:
            client.infer(name, inputs, version) if ask == "infer" else client.get_model_metadata(name, version)
        assert refusal.value.status() == "404"
        assert (version or name) in refusal.value.message()


def test_a_header_length_that_lies_is_refused(served: Server, described: dict[str, Any]) -> None:
    body, length = InferenceServerClient.generate_request_body(tensors(described, [served.example]))
    assert length is not None
    for said in (length + 1, len(body) + 1, -1):
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(said)}
        request = urllib.request.Request(f"{served.url}/v2/models/{MODEL}/infer", bytes(body), headers)
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(request, timeout=120)
        with refusal.value as answer:
            assert answer.code == 400
            assert json.load(answer)["error"]
