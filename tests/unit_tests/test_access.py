"""API keys with rights: what a file of keys may say, how fast a holder may ask, what wrong keys get."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_pipeline.config.keys import SCOPES, Key, entry_of, keys_in
from mlops_pipeline.config.serving import Limits, Serving, Tls, load_serving, reloaded
from mlops_pipeline.errors import PipelineError
from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.serving import access
from mlops_pipeline.serving.access import Access, WrongKeys
from mlops_pipeline.serving.rates import AHEAD_S, BURST_S, Bucket, Rates
from mlops_pipeline.serving.request import Request, request_of
from mlops_pipeline.serving.supervisor import Turns
from tests.unit_tests.workshop import digest_of

NAMES = st.from_regex(r"\A[A-Za-z][A-Za-z0-9_.-]{0,20}\Z").filter(
    lambda name: name.lower() not in ("null", "true", "false", "yes", "no", "on", "off")
)
RATES = st.one_of(st.none(), st.floats(1e-3, 1e6).map(lambda rate: float(f"{rate:.15g}")))
KEYS = st.builds(
    Key,
    digest=st.binary(min_size=32, max_size=32).map(lambda digest: f"sha256:{digest.hex()}"),
    scopes=st.lists(st.sampled_from(SCOPES), min_size=1, unique=True).map(tuple),
    models=st.one_of(st.none(), st.lists(NAMES, min_size=1, max_size=3).map(tuple)),
    expires=st.one_of(st.none(), st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))),
    requests_per_s=RATES,
    rows_per_s=RATES,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


def request(key: str = "", arrived: float = 0.0) -> Request:
    return Request("id", "predict", "champion", "/predict", 0.0, arrived, credentials=(key.encode(),) if key else ())


@settings(max_examples=25)
@given(st.dictionaries(NAMES, KEYS, max_size=4))
def test_what_is_written_into_a_file_of_keys_is_read_back(keys: dict[str, Key]) -> None:
    assert keys_in("# ours\n" + "".join(entry_of(name, key) for name, key in keys.items()), "keys") == keys


@given(st.text(max_size=200))
def test_any_text_is_keys_or_one_line(text: str) -> None:
    try:
        keys_in(text, "keys")
    except PipelineError as error:
        assert "\n" not in str(error)
        assert str(error).startswith("keys: ")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("a: {digest: plain-key}", "api_keys.a.digest: must be sha256: and 64"),
        ("a: {digest: DIGEST, scope: [predict]}", "api_keys.a.scope: unknown key: did you mean 'scopes'?"),
        ("a: {digest: DIGEST, scopes: [all]}", "api_keys.a.scopes.0: give one of 'predict', 'metrics', 'admin'"),
        ("a: {digest: DIGEST, scopes: []}", "api_keys.a.scopes: name at least 1"),
        ("a: {digest: DIGEST, expires: 90}", "api_keys.a.expires: give a moment such as 2027-01-31"),
        ("a: {digest: DIGEST, requests_per_s: 0}", "api_keys.a.requests_per_s: give a number above 0"),
        ("a: {digest: DIGEST, models: [nobody]}", "api_keys.a.models: 'nobody' is not among 'models': use some of champion"),
        ("a: DIGEST\nb: {digest: DIGEST, scopes: [predict]}", "'a' and 'b' are the same key with different rights"),
        ("a: {scopes: [predict]}", "api_keys.a.digest: is missing"),
        ("a:", "api_keys.a: must be sha256: and 64"),
        ("# none", "holds no key: write a line for each key there"),
    ],
)
def test_a_wrong_file_of_keys_is_one_line(tmp_path: Path, lines: str, said: str) -> None:
    (tmp_path / "keys").write_text(lines.replace("DIGEST", digest_of("key")))
    (tmp_path / "serving.yaml").write_text("api_keys_file: keys\n")
    with pytest.raises(PipelineError) as caught:
        load_serving(tmp_path / "serving.yaml")
    assert said in str(caught.value)
    assert "plain-key" not in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    st.floats(0.01, 1e4),
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 10_000)), min_size=1, max_size=60),
)
def test_no_more_is_taken_from_a_bucket_than_came_into_it(rate: float, asked: list[tuple[float, int]]) -> None:
    bucket, now, taken, full = Bucket(rate), 1e6, 0.0, max(1.0, rate * BURST_S)
    for pause, count in asked:
        now += pause
        wait = bucket.take(count, now)
        taken += 0 if wait else count
        # One that is more than a full bucket holds is taken from a full one.
        assert taken <= full + max(0, max(count for _, count in asked) - full) + rate * (now - 1e6) + 1e-3 * rate + 1e-6
        if wait:
            assert bucket.take(count, now + wait * 0.99 - 1e-6) > 0
            now += wait + 1e-6
            assert bucket.take(count, now) == 0
            taken += count


def test_workers_share_what_a_key_has_used_up(tmp_path: Path) -> None:
    one, other = (Rates(tmp_path / "rates").buckets(key, 10, None)[0] for key in (b"k" * 32, b"k" * 32))
    apart = Rates(tmp_path / "rates").buckets(b"x" * 32, 10, None)[0]
    assert one is not None
    assert other is not None
    assert apart is not None
    taken = [bucket.take(1, 100.0) == 0 for _ in range(10) for bucket in (one, other)]
    assert sum(taken) == 10
    assert apart.take(10, 100.0) == 0


@given(st.lists(st.tuples(st.sampled_from((0, 1)), st.floats(0, 0.1), st.integers(1, 30)), max_size=60))
def test_workers_that_take_ahead_take_no_more_than_there_is(shared: Path, asked: list[tuple[int, float, int]]) -> None:
    (shared / "rates").unlink(missing_ok=True)
    buckets = [Rates(shared / "rates").buckets(b"k" * 32, None, 1000)[1] for _ in range(2)]
    now, taken, came = 100.0, 0, 1000.0
    for worker, pause, count in asked:
        now, came = now + pause, came + 1000 * pause
        bucket = buckets[worker]
        assert bucket is not None
        refused = bucket.take(count, now)
        taken += 0 if refused else count
        assert taken <= came + 1e-6
        assert not refused or taken + count > came - 1000 * AHEAD_S * 2


def test_a_key_is_good_for_what_it_says() -> None:
    keys = {
        "all": Key(digest=digest_of("all")),
        "one": Key(digest=digest_of("one"), scopes=("predict",), models=("champion",), expires=datetime(2030, 1, 1, tzinfo=UTC)),
    }
    door = Access(keys, Limits())
    asked = request("one")
    assert door.admit(asked, None, "predict", "champion").name == "one"
    assert asked.holder is not None
    for scope, model, arrived, status, reason in (
        ("metrics", "", 0.0, 403, "forbidden"),
        ("predict", "other", 0.0, 403, "forbidden"),
        ("predict", "champion", 2e9, 401, "key_expired"),
    ):
        with pytest.raises(Refused) as caught:
            door.admit(request("one", arrived), None, scope, model)
        assert (caught.value.status, caught.value.reason) == (status, reason)
    for scope in SCOPES:
        door.admit(request("all", 2e9), None, scope, "other")
    door.use({"one": keys["one"]})
    with pytest.raises(Refused) as caught:
        door.admit(request("all"), None, "predict")
    assert caught.value.reason == "unauthorized"


def test_a_rate_is_kept_when_keys_are_read_again() -> None:
    keys = {"slow": Key(digest=digest_of("slow"), requests_per_s=2, rows_per_s=10)}
    door = Access(keys, Limits())
    holder, _ = (door.admit(request("slow"), None, "predict") for _ in range(2))
    door.use({"renamed": keys["slow"], "other": Key(digest=digest_of("other"))})
    with pytest.raises(Refused) as caught:
        door.admit(request("slow"), None, "predict")
    assert (caught.value.status, caught.value.reason, caught.value.headers) == (429, "rate_limited", ((b"retry-after", b"1"),))
    assert holder.rows is not None
    holder.take(holder.rows, 25)
    with pytest.raises(Refused) as caught:
        holder.take(holder.rows, 1)
    assert caught.value.headers == ((b"retry-after", b"2"),)


def test_wrong_keys_are_slowed_down_by_address_and_a_right_one_never(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    door = Access({"me": Key(digest=digest_of("right"))}, Limits(wrong_keys=3, wrong_keys_s=60))

    def tried(address: str, key: str = "wrong") -> int:
        try:
            door.admit(request(key), (address, 1234), "predict")
        except Refused as refusal:
            return refusal.status
        return 200

    assert [tried("10.0.0.1") for _ in range(6)] == [401, 401, 401, 429, 429, 429]
    assert tried("10.0.0.1", "") == 401
    assert tried("10.0.0.1", "right") == 200
    assert tried("10.0.0.2") == 401
    assert [tried(f"2001:db8::{k}") for k in range(5)] == [401, 401, 401, 429, 429]
    assert [tried(f"::ffff:10.1.0.{k}") for k in range(5)] == [401] * 5
    assert [record.message for record in caplog.records] == ["slows wrong keys down"] * 2
    monkeypatch.setattr(access, "ADDRESSES", 50)
    wrong = WrongKeys(Limits())
    for k in range(500):
        wrong.refusal(f"10.2.{k // 250}.{k % 250}")
    assert len(wrong) == 50


def test_every_wrong_key_of_a_request_is_one_more() -> None:
    """Else a request with thousands of them would be one guess."""
    door = Access({"me": Key(digest=digest_of("right"))}, Limits(wrong_keys=20, wrong_keys_s=60))

    def tried(*keys: str) -> int:
        headers = [(b"authorization", b"Bearer " + keys[0].encode()), *((b"x-api-key", key.encode()) for key in keys[1:])]
        asked = request_of({"path": "/predict", "headers": headers}, "r", "predict", "", 256)
        try:
            door.admit(asked, ("10.0.0.1", 1234), "predict")
        except Refused as refusal:
            return refusal.status
        return 200

    assert [tried(*["wrong"] * 5) for _ in range(5)] == [401, 401, 401, 401, 429]
    assert tried("wrong", "right") == 200, "a proxy may add its own"
    assert tried(*["wrong"] * 1000, "right") == 429, "no more than a few are looked at"


def test_a_running_server_takes_what_it_may_from_new_settings_and_names_the_rest() -> None:
    now = Serving(host="0.0.0.0", api_keys={"me": Key(digest=digest_of("me"))})
    found = Serving(limits=Limits(max_rows=1), api_keys={"you": Key(digest=digest_of("you"))}, port=9, workers=2)
    mixed, others = reloaded(now, found, "serving.yaml")
    assert (list(mixed.api_keys), mixed.limits.max_rows, mixed.host, mixed.port) == (["you"], 1, "0.0.0.0", 8000)
    assert others == ["host", "port", "workers"]
    with pytest.raises(PipelineError, match=r"serving.yaml: .*can be reached from other machines and no API key is set"):
        reloaded(now, Serving(), "serving.yaml")


def test_whether_clients_show_certificates_waits_for_a_restart() -> None:
    plain, mutual = (Tls(certificate="tls.crt", key="tls.key", client_ca=trusted) for trusted in (None, "ca.crt"))
    keys = {"me": Key(digest=digest_of("me"), expires=datetime(2030, 1, 1, tzinfo=UTC))}
    now = Serving(host="0.0.0.0", api_keys=keys, tls=plain)
    mixed, others = reloaded(now, Serving(host="0.0.0.0", api_keys=keys, tls=mutual, limits=Limits(max_rows=1)), "serving.yaml")
    assert (mixed.tls, mixed.api_keys, mixed.limits.max_rows, others) == (plain, keys, 1, ["tls"])
    # With the keys gone, nothing would keep strangers out until then.
    with pytest.raises(PipelineError, match=r"serving.yaml: .*can be reached from other machines and no API key is set"):
        reloaded(now, Serving(host="0.0.0.0", tls=mutual), "serving.yaml")
    mixed, others = reloaded(Serving(host="0.0.0.0", tls=mutual), now, "serving.yaml")
    assert (mixed.tls, mixed.api_keys, others) == (mutual, keys, ["tls"])
    newer = mutual.model_copy(update={"client_ca": "newer.crt"})
    assert reloaded(Serving(tls=mutual), Serving(tls=newer), "serving.yaml") == (Serving(tls=newer), [])


def test_settings_whose_secrets_lie_in_files_are_read_again(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"me: {digest_of('me')}\n")
    (tmp_path / "uri").write_text("postgresql://user:secret@database/records\n")
    path = tmp_path / "serving.yaml"
    path.write_text("api_keys_file: keys\nrecord: {uri_file: uri}\n")
    now = load_serving(path)
    path.write_text("api_keys_file: keys\nrecord: {uri_file: uri}\nlimits: {max_rows: 1}\n")
    mixed, others = reloaded(now, load_serving(path), str(path))
    assert (mixed.record, mixed.limits.max_rows, others) == (now.record, 1, [])
    # A file that was emptied shuts everybody out, and holds up nothing else.
    (tmp_path / "keys").write_text("")
    assert load_serving(path, running=True) == mixed
    with pytest.raises(PipelineError, match="holds no key"):
        load_serving(path)


def test_a_pause_of_the_whole_server_makes_no_worker_stuck() -> None:
    turns = Turns(100.0)
    turns.turn(0.2, 100.3)
    assert not turns.is_stuck(beat=100.1, seconds=10)
    turns.turn(0.2, 400.0)
    assert not turns.is_stuck(beat=100.1, seconds=10)
    for now in range(401, 410):
        turns.turn(0.2, now)
    assert not turns.is_stuck(beat=100.1, seconds=10)
    turns.turn(0.2, 410.1)
    assert turns.is_stuck(beat=100.1, seconds=10)
    assert not turns.is_stuck(beat=409.9, seconds=10)
    # One that has yet to start has its time in the future.
    assert not turns.is_stuck(beat=1000.0, seconds=10)


BURST = """
import os, signal, threading
from mlops_pipeline.serving.supervisor import Signals

signals, done = Signals(signal.SIGTERM), threading.Event()

def burst():
    for _ in range(20_000):
        os.kill(os.getpid(), signal.SIGTERM)
    done.set()

threading.Thread(target=burst).start()
come = 0
while not done.is_set() or signals.next(0.01) is not None:
    come += signals.next(0.0001) == signal.SIGTERM
print(come > 0)
"""


def test_signals_that_come_within_one_another_hold_nothing_up() -> None:
    done = subprocess.run([sys.executable, "-c", BURST], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "True\n", done.stderr[-2000:]
