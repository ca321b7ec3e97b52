"""Pages of other sites, and names that strangers make lead to this machine."""

from __future__ import annotations

from typing import Any

import pytest

from mlops_pipeline.config.serving import Serving
from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.serving.request import request_of
from mlops_pipeline.serving.sites import Sites

TYPED = {"content-type": "application/json"}


def reason(kind: str = "predict", *, settings: dict[str, Any] | None = None, **headers: str) -> str | None:
    """Why a request with these headers is refused; None if it is not."""
    sites = Sites(Serving(**settings or {}))
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    request = request_of({"path": "/", "headers": given}, "1", kind, "m", 99)
    try:
        sites.check(request, kind)
        if kind == "predict":
            sites.check_post(request)
    except Refused as refused:
        return refused.reason
    return None


BEYOND = {"host": "0.0.0.0", "anonymous": True}
LISTED = {**BEYOND, "allowed_hosts": ["models.example.com", "*.cluster.local", "10.1.2.3"]}


@pytest.mark.parametrize(
    ("settings", "host", "taken"),
    [
        ({}, "localhost:8000", True),
        ({}, "127.0.0.1:8000", True),
        ({}, "127.0.0.2", True),
        ({}, "[::1]:8000", True),
        ({}, "LOCALHOST.:8000", True),
        ({}, "models.localhost:8000", True),
        ({}, "evil.example:8000", False),
        ({}, "localhost.evil.example", False),
        ({}, "127.0.0.1.evil.example", False),
        ({}, "notlocalhost", False),
        ({"allowed_hosts": ["models.example.com"]}, "models.example.com:443", True),
        ({"allowed_hosts": ["models.example.com"]}, "127.0.0.1:8000", True),
        ({"allowed_hosts": ["models.example.com"]}, "evil.example", False),
        ({"allowed_hosts": ["*"]}, "evil.example", True),
        (BEYOND, "model-server:8000", True),  # a compose service
        (BEYOND, "10.244.0.17:8000", True),  # a pod
        (BEYOND, "models.example.com", True),  # a proxy that hands the name on
        (LISTED, "Models.Example.com", True),
        (LISTED, "models.team.svc.cluster.local:8000", True),
        (LISTED, "10.1.2.3:8000", True),
        (LISTED, "localhost:8000", True),  # kubectl port-forward
        (LISTED, "evil.example", False),
        (LISTED, "cluster.local", False),
    ],
)
def test_a_server_answers_to_its_own_names(settings: dict[str, Any], host: str, taken: bool) -> None:
    expected = None if taken else "foreign_host"
    assert reason(settings=settings, host=host, content_type="application/json") == expected
    assert reason("status", settings=settings, host=host) == expected
    assert reason("ready", settings=settings, host=host) is None, "a kubelet asks by the pod's address"


@pytest.mark.parametrize(("settings", "taken"), [(LISTED, True), ({"allowed_hosts": ["models.example.com"]}, False), ({}, False)])
def test_prometheus_asks_by_the_pods_address_where_there_is_one(settings: dict[str, Any], taken: bool) -> None:
    assert (reason("metrics", settings=settings, host="10.244.0.17:8000") is None) == taken


@pytest.mark.parametrize(
    ("version", "hosts", "taken"),
    [
        ("1.1", (), False),
        ("1.1", ("localhost",), True),
        ("1.1", ("localhost", "localhost"), False),
        ("1.0", (), True),
        ("1.0", ("localhost", "evil.example"), False),
    ],
)
def test_a_request_names_the_server_once_as_its_version_of_http_asks(version: str, hosts: tuple[str, ...], taken: bool) -> None:
    """RFC 9112, 3.2; of two names a proxy may take one and this server the other."""
    headers = [(b"host", host.encode()) for host in hosts]
    request = request_of({"path": "/", "headers": headers, "http_version": version}, "1", "predict", "m", 99)
    sites = Sites(Serving(**BEYOND))
    for kind in ("predict", "ping"):
        if taken:
            sites.check(request, kind)
        else:
            with pytest.raises(Refused, match="one header Host") as refused:
                sites.check(request, kind)
            assert (refused.value.status, refused.value.reason) == (400, "malformed")


OWN, SITES = {"host": "127.0.0.1:8000"}, {"allowed_origins": ["https://app.example.com"]}


@pytest.mark.parametrize(
    ("settings", "headers", "expected"),
    [
        ({}, TYPED, None),  # curl, HTTP/1.0
        ({}, {}, None),  # Triton's client
        ({}, {"origin": "http://127.0.0.1:8000", **TYPED}, None),  # our page
        ({}, {"origin": "http://evil.example", **TYPED}, "foreign_origin"),
        ({}, {"origin": "http://127.0.0.1:9000", **TYPED}, "foreign_origin"),
        ({}, {"origin": "null", **TYPED}, "foreign_origin"),
        ({}, {"origin": "https://models.example.com", "sec-fetch-site": "same-origin", **TYPED}, None),  # behind a proxy
        ({}, {"origin": "http://models.example.com", **TYPED}, "foreign_origin"),  # behind one without TLS that replaces Host
        ({"allowed_origins": ["http://models.example.com"]}, {"origin": "http://models.example.com", **TYPED}, None),
        ({}, {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "cross-site", **TYPED}, "foreign_origin"),
        ({}, {"sec-fetch-site": "cross-site", **TYPED}, "foreign_origin"),
        ({}, {"origin": "http://127.0.0.1:8000"}, "content_type"),
        (SITES, {"origin": "https://app.example.com", "sec-fetch-site": "cross-site", **TYPED}, None),
        (SITES, {"origin": "https://app.example.com"}, "content_type"),
        (SITES, {"origin": "https://other.example.com", **TYPED}, "foreign_origin"),
        ({"allowed_origins": ["*"]}, {"origin": "null", **TYPED}, None),
    ],
)
def test_a_page_of_another_site_may_not_ask(settings: dict[str, Any], headers: dict[str, str], expected: str | None) -> None:
    assert reason(settings=settings, **OWN, **{name.replace("-", "_"): value for name, value in headers.items()}) == expected


def test_a_page_of_a_listed_site_may_read_the_answer() -> None:
    sites = Sites(Serving(**SITES))
    assert dict(sites.headers(b"https://app.example.com"))[b"access-control-allow-origin"] == b"https://app.example.com"
    assert sites.headers(b"https://evil.example") == []


@pytest.mark.parametrize(("key", "value"), [("allowed_hosts", "https://x"), ("allowed_hosts", "x:80"), ("allowed_origins", "x.example")])
def test_a_wrong_name_or_site_is_told(key: str, value: str) -> None:
    with pytest.raises(ValueError, match="must be a"):
        Serving(**{key: [value]})
