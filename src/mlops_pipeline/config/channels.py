"""What our own channels of alerts are told."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from mlops_pipeline.config.tree import Frozen

TIMEOUT_S = 10.0

Seconds = Annotated[float, Field(gt=0)]


def is_web_address(address: str) -> bool:
    """Whether something can be posted to it: http or https, a host, a port if any that is a number, and no blanks."""
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018  # raises where it is no number
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and address.isprintable() and " " not in address


def _http(address: str) -> str:
    if not is_web_address(address):
        raise ValueError("must be http://… or https://…, with %20 for a blank")
    return address


Address = Annotated[str, AfterValidator(_http)]


class Webhook(Frozen):
    """An address that takes JSON."""

    SECRET: ClassVar[tuple[str, ...]] = ("url", "headers")

    url: Address = Field(description="it is a secret: give url_file, or ${VARIABLE} of the environment")
    format: Literal["slack", "plain"] = Field(
        "slack", description="Slack's, which Mattermost and others take too, or every field of the alert"
    )
    headers: dict[str, str] = Field(default_factory=dict, description="sent with each, such as Authorization")
    timeout_s: Seconds = Field(TIMEOUT_S, description="so long an answer is waited for")


class Email(Frozen):
    """A server that takes mail."""

    SECRET: ClassVar[tuple[str, ...]] = ("password",)

    to: tuple[str, ...] = Field(min_length=1, description="the addresses that it goes to")
    sender: str = Field(description="the address that it is from")
    host: str = Field(description="the mail server")
    port: int = Field(25, ge=1, le=65535, description="the mail server's; with tls mostly 465, with starttls 587")
    security: Literal["none", "starttls", "tls"] = Field("none", description="none is for a server on this machine or in its own network")
    user: str | None = Field(None, description="the name that the mail server knows; default: it asks for none")
    password: str | None = Field(None, description="give password_file, or ${VARIABLE} of the environment")
    timeout_s: Seconds = Field(TIMEOUT_S, description="so long an answer is waited for")


class Alertmanager(Frozen):
    """Prometheus's Alertmanager."""

    SECRET: ClassVar[tuple[str, ...]] = ("url", "headers")

    url: Address = Field("http://127.0.0.1:9093", description="without /api/v2")
    labels: dict[str, str] = Field(default_factory=dict, description="labels beside alertname, severity, pipeline, model and owner")
    repeat_s: Seconds = Field(60, description="an alert that lasts is posted again at least so often, while the job runs")
    hold_s: Seconds = Field(
        7200, description="an alert that is not posted again ends there by itself: longer than from one `mlops monitor run` to the next"
    )
    headers: dict[str, str] = Field(default_factory=dict, description="sent with each, such as Authorization")
    timeout_s: Seconds = Field(TIMEOUT_S, description="so long an answer is waited for")


class AppriseUrl(Frozen):
    """Whatever Apprise tells: more than a hundred services, each by an address of its own form."""

    SECRET: ClassVar[tuple[str, ...]] = ("url",)

    url: str = Field(min_length=1, description="it is a secret: give url_file, or ${VARIABLE} of the environment")


class PrefectEvent(Frozen):
    """Prefect's server."""

    SECRET: ClassVar[tuple[str, ...]] = ("url", "headers")

    url: Address | None = Field(None, description="its API; default: PREFECT_API_URL of the environment")
    headers: dict[str, str] = Field(default_factory=dict, description="such as Authorization, for a server that asks who posts")
    timeout_s: Seconds = Field(TIMEOUT_S, description="so long an answer is waited for")
