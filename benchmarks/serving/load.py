"""Load by wrk: one body, or several in turn, posted over and over for some seconds."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPT = """
wrk.method = "POST"
for name, value in pairs(HEADERS) do wrk.headers[name] = value end

local bodies, turn = {}, 0
for number, path in ipairs(BODIES) do
    local file = assert(io.open(path, "rb"))
    bodies[number] = file:read("*a")
    file:close()
end

if #bodies == 1 then
    wrk.body = bodies[1]
else
    local posted = {}
    function init(args)
        for number, body in ipairs(bodies) do posted[number] = wrk.format(nil, nil, nil, body) end
    end
    function request()
        turn = turn % #posted + 1
        return posted[turn]
    end
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        '{"requests":%d,"seconds":%.6f,"p50":%.3f,"p99":%.3f,"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        e.status, e.connect, e.read, e.write, e.timeout))
end
"""
PATIENCE = 30


@dataclass(frozen=True)
class Load:
    """What one run of wrk saw; the figures count only if nothing went wrong."""

    rows: int
    connections: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    faults: str
    elsewhere: float = 0.0
    """Cores that other programs of the machine took meanwhile."""

    @property
    def valid(self) -> bool:
        return not self.faults


def measure(
    url: str, body: bytes | Sequence[bytes], headers: Mapping[str, str], *, rows: int, connections: int, seconds: int, folder: Path
) -> Load:
    """Post a body, or several in turn, for some seconds over so many connections, from one thread."""
    script = _script([body] if isinstance(body, bytes) else body, headers, folder)
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{PATIENCE}s", "-s", str(script), url]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=seconds + 2 * PATIENCE)
    except FileNotFoundError:
        raise SystemExit("wrk is not installed: apt-get install wrk") from None
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    seen = json.loads(lines[-1])
    return Load(rows, connections, seen["requests"] / seen["seconds"], seen["p50"], seen["p99"], _faults(seen))


def _script(bodies: Sequence[bytes], headers: Mapping[str, str], folder: Path) -> Path:
    posted, script = folder / "bodies", folder / "post.lua"
    posted.mkdir(exist_ok=True)
    paths = [posted / str(number) for number in range(len(bodies))]
    for path, body in zip(paths, bodies, strict=True):
        path.write_bytes(body)
    pairs = ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items())
    listed = ", ".join(json.dumps(str(path)) for path in paths)
    script.write_text(f"local BODIES, HEADERS = {{{listed}}}, {{{pairs}}}\n{SCRIPT}")
    return script


def _faults(seen: Mapping[str, float]) -> str:
    """What makes the figures invalid, or nothing. A redirect would pass here; the one answer checked before would not."""
    named = {"status": "answers not 2xx", "connect": "refused", "read": "broken off", "write": "not sent", "timeout": "timed out"}
    told = [f"{seen[key]:.0f} {words}" for key, words in named.items() if seen[key]]
    return ", ".join(told) if told or seen["requests"] else "no answer"
