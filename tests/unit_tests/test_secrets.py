"""No password, token or key of an address is printed, whatever way it is spelled; what is no secret stays."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlops_pipeline.cli import main
from mlops_pipeline.config.pipeline import registry_uri, settings_of, tracking_uri
from mlops_pipeline.config.tree import hidden
from mlops_pipeline.errors import PipelineError, one_line, without_secrets
from mlops_pipeline.pipeline.cache import _differences
from tests.unit_tests.workshop import assert_one_line, content_with

SECRET = "s3same"
ADDRESSES = {
    f"postgresql://anna:{SECRET}@host:5432/db": "postgresql://…@host:5432/db",
    f"postgresql://anna:a@b/{SECRET}?x@host/db": "postgresql://…@host/db",
    f"postgresql://anna:two words {SECRET}@host/db": "postgresql://…@host/db",
    f"postgresql://host/db?user=anna&password={SECRET}": "postgresql://host/db?user=anna&password=…",
    f"postgresql://host/db?sslpassword={SECRET}&sslmode=require": "postgresql://host/db?sslpassword=…&sslmode=require",
    f"postgresql://host/db?PASSWORD={SECRET}": "postgresql://host/db?PASSWORD=…",
    f"postgresql://host/db?p%61ssword={SECRET}": "postgresql://host/db?p%61ssword=…",
    f"https://{SECRET}@host/mlflow": "https://…@host/mlflow",
    f"https://host/mlflow?token={SECRET}": "https://host/mlflow?token=…",
    f"https://host/a?x=1;access_token={SECRET}": "https://host/a?x=1;access_token=…",
    f"https://account.blob.core.windows.net/c?sv=2024&sig={SECRET}": "https://account.blob.core.windows.net/c?sv=2024&sig=…",
    f"s3://bucket/key?X-Amz-Signature={SECRET}&X-Amz-Credential={SECRET}": "s3://bucket/key?X-Amz-Signature=…&X-Amz-Credential=…",
    f"redis://:{SECRET}@host": "redis://…@host",
    f"mssql+pyodbc://host/db?driver=ODBC&pwd={SECRET}": "mssql+pyodbc://host/db?driver=ODBC&pwd=…",
    f"host=host user=anna password={SECRET} dbname=db": "host=host user=anna password=… dbname=db",
    "postgresql://host:5432/db?sslmode=require": "postgresql://host:5432/db?sslmode=require",
    "sqlite:////a folder/mlflow.db": "sqlite:////a folder/mlflow.db",
    "s3://bucket/artifacts": "s3://bucket/artifacts",
    "mlflow/artifacts": "mlflow/artifacts",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_shown_without_its_secrets(address: str) -> None:
    assert hidden(address) == ADDRESSES[address]
    assert hidden(hidden(address)) == hidden(address)


@pytest.mark.parametrize("address", [address for address in ADDRESSES if "two words" not in address])
def test_so_is_one_within_a_message(address: str) -> None:
    said = without_secrets(f"pipeline.yaml: '{address} ' and {address} : cannot be read by root@host: mend it")
    assert SECRET not in said
    assert said.startswith("pipeline.yaml: '")
    assert said.endswith(" : cannot be read by root@host: mend it")


MESSAGES = {
    f"host=h password='{SECRET} b' dbname=db": "host=h password=… dbname=db",
    f"host=h password='it\\'s {SECRET}' dbname=db": "host=h password=… dbname=db",
    f'host=h password="a {SECRET}" dbname=db': "host=h password=… dbname=db",
    f"host=h password='a {SECRET}": "host=h password=…",
    f"host=h password=a\\ {SECRET} dbname=db": "host=h password=… dbname=db",
    f"password = {SECRET} is wrong": "password = … is wrong",
    f"registry.password = '{SECRET} x': unknown key": "registry.password = …: unknown key",
    f"PGPASSWORD={SECRET} psql": "PGPASSWORD=… psql",
    f"MLFLOW_TRACKING_TOKEN={SECRET} AWS_SECRET_ACCESS_KEY={SECRET}": "MLFLOW_TRACKING_TOKEN=… AWS_SECRET_ACCESS_KEY=…",
    f"Driver=ODBC;Pwd={{a;{SECRET} b}};Server=h": "Driver=ODBC;Pwd=…;Server=h",
    f"AccountName=a;AccountKey={SECRET}==;EndpointSuffix=net": "AccountName=a;AccountKey=…;EndpointSuffix=net",
    f'{{"user": "ann", "password": "a {SECRET}"}}': '{"user": "ann", "password": …}',
    f"http://user:pa {SECRET}@host/a: no": "http://…@host/a: no",
    f"http://user:a/b {SECRET}@host/a": "http://…@host/a",
    f"Authorization: Bearer {SECRET}: refused": "Authorization: … refused",
    f"{{'Authorization': 'Basic {SECRET}'}}": "{'Authorization': '…'}",
    f"authorization={SECRET}, then": "authorization=…, then",
    f'Proxy-Authorization: Digest username="u", response="{SECRET}"': "Proxy-Authorization: …",
}


@pytest.mark.parametrize("message", MESSAGES)
def test_a_secret_is_hidden_whole_however_it_is_written(message: str) -> None:
    assert without_secrets(message) == MESSAGES[message]
    assert without_secrets(MESSAGES[message]) == MESSAGES[message]


ORDINARY = (
    "dataset.entity_key = 'id': is missing",
    "registry.password: unknown key: did you mean 'uri'?",
    "http://host:5000: cannot be read by root@host",
    "http://[::1]:5000/a, asked by root@host",
    "https://host/mlflow: refused",
    "http://host: away",
    "sqlite:////a folder/mlflow.db",
    "compass = 3, bypass=4, token_count = 5, tokens=6, key=a, password_file=/run/a",
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    "token == 5",
    "root@host",
    "a password with spaces",
)
WORDS = ("pass", "pwd", "secret", "token", "sig", "key", "credential", "auth", "%", "@", ":/")


@given(
    st.lists(
        st.one_of(st.sampled_from(ORDINARY), st.text().filter(lambda text: not any(word in text.casefold() for word in WORDS))), max_size=6
    )
)
def test_text_without_a_secret_is_shown_as_it_is(parts: list[str]) -> None:
    text = " ".join(parts)
    assert without_secrets(text) == text


@pytest.mark.parametrize("unit", ["a", "a-", "password", "http://u:", "authorization ", "password='"])
def test_a_long_message_takes_no_long_time(unit: str) -> None:
    began = time.thread_time()  # of this thread alone: another test's may still be at work
    without_secrets(unit * (20_000 // len(unit)))
    assert time.thread_time() - began < 2


@pytest.mark.parametrize("address", ADDRESSES)
def test_mlops_config_prints_none(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = content_with(tracking={"artifacts": address})
    content["dataset"]["source"] = {"path": address}
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(content))
    main_ended_with(0, ["config", "--config", str(tmp_path / "pipeline.yaml")])
    server = {"models": {"main": address.replace("two words ", "")}, "registry": {"uri": address, "model": "small"}}
    (tmp_path / "serving.yaml").write_text(yaml.safe_dump(server))
    main_ended_with(0, ["config", "--serving", "--config", str(tmp_path / "serving.yaml")])
    said = capsys.readouterr()
    assert '"uri": "' in said.out
    assert SECRET not in said.out + said.err


@pytest.mark.parametrize("key", ["seed", "split", "tracking", "nmae"])
def test_a_fault_of_the_settings_tells_none(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "pipeline.yaml"
    config.write_text(yaml.safe_dump({**content_with(), key: f"postgresql://host/db?password={SECRET}"}))
    main_ended_with(2, ["config", "--config", str(config)])
    said = capsys.readouterr().err
    assert said.startswith(f"error: {config}: {key}")
    assert SECRET not in said


@pytest.mark.parametrize("address", [f"anna:{SECRET}@host/db", f"anna:${{P}}{SECRET}@host/db", f"host/db?sslpassword={SECRET}"])
def test_where_the_features_state_is_holds_no_password_since_stages_settings_are_kept(address: str) -> None:
    with pytest.raises(PipelineError) as caught:
        settings_of(content_with(features={"state": f"postgresql://{address}"}), "pipeline.yaml")
    assert_one_line(caught.value, "pipeline.yaml: features", "holds a password", "${ITS_NAME}")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("section", ["registry", "tracking", "tuning"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_nor_does_any_other_address_that_a_pipeline_is_told(address: str, section: str) -> None:
    content = content_with(**{section: {"storage" if section == "tuning" else "uri": address}})
    if SECRET not in address:
        settings_of(content, "pipeline.yaml")
        return
    with pytest.raises(PipelineError) as caught:
        settings_of(content, "pipeline.yaml")
    assert_one_line(caught.value, f"pipeline.yaml: {section}", "holds a password", "${ITS_NAME}")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "https://host/mlflow?owner=anna@example.com",
        "https://host:5000/@anna/x",
        "http://[::1]:5000?a=b@c",
        "postgresql://host:5432/db?user=a@b",
    ],
)
def test_an_at_sign_behind_the_host_names_nobody(address: str) -> None:
    assert settings_of(content_with(tracking={"uri": address}), "pipeline.yaml").tracking.uri == address


@pytest.mark.parametrize("password", [f"a?{SECRET}", f"a/{SECRET}", f"1/{SECRET}", f"12?{SECRET}"])
def test_one_behind_a_password_of_whatever_letters_does(password: str) -> None:
    with pytest.raises(PipelineError, match=r"tracking\.uri holds a password"):
        settings_of(content_with(tracking={"uri": f"postgresql://anna:{password}@host/db?b=c@d"}), "pipeline.yaml")


def test_what_an_address_names_is_taken_from_the_environment_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    content = content_with(registry={"uri": "https://${WHO}@host/mlflow"}, tracking={"uri": "postgresql://anna:${P}@host/db"})
    settings = settings_of(content, "pipeline.yaml")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WHO", "me")
    assert registry_uri(settings, "") == "https://me@host/mlflow"
    with pytest.raises(PipelineError, match=r"^tracking\.uri: P is not set in the environment: set it$"):
        tracking_uri(settings, "")


@pytest.mark.parametrize("address", ["anna:${P}@host:5432/db", "anna@host/db", "host:5432/db?user=anna&passfile=/run/a&sslkey=/run/b"])
def test_where_the_features_state_is_may_name_what_holds_its_password(address: str) -> None:
    assert settings_of(content_with(features={"state": f"postgresql://{address}"}), "pipeline.yaml").features.state is not None


def test_why_a_stage_runs_again_tells_no_address_whole() -> None:
    found = _differences(
        "tuning", {"storage": f"postgresql://anna:{SECRET}@host/db"}, {"storage": f"postgresql://host/db?password={SECRET}"}
    )
    assert found == ["tuning.storage: postgresql://…@host/db → postgresql://host/db?password=…"]


def main_ended_with(code: int, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert (ended.value.code or 0) == code


@pytest.mark.parametrize("before", range(150, 260, 7))
def test_a_message_is_not_cut_within_a_secret(before: int) -> None:
    """What is cut off has no end by which it could be told."""
    for secret in (f"postgresql://anna:{SECRET}-{'x' * 60}@host/db", f"password='{SECRET} {'x' * 60}'", f"?token={SECRET}{'x' * 60}"):
        said = one_line(f"{'w' * before} {secret} and more")
        assert SECRET[:3] not in said
        assert len(said) <= 200


def test_a_password_that_begins_like_a_port_is_hidden_and_a_port_is_not() -> None:
    assert without_secrets(f"at http://anna:123 {SECRET}@host/db: no answer") == "at http://…@host/db: no answer"
    for message in ("http://host.example:5000 is away: ask a@example.org", "http://localhost:5000 says no to a@b", "http://web:80/a b@c"):
        assert without_secrets(message) == message
