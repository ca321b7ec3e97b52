"""The bodies that one worker receives at once are bounded together, whether their length is told beforehand or not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from mlops_pipeline.config.serving import Limits
from mlops_pipeline.inference.faults import Refused
from mlops_pipeline.serving.bodies import Bodies, ClientGone
from mlops_pipeline.serving.request import Request

KB = 1000
LIMITS = Limits(max_body_mb=0.008, bodies_mb=0.01)


class Client:
    """Sends a body in pieces, each when it is told to."""

    def __init__(self, bodies: Bodies, length: int = 0) -> None:
        self._pieces: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._reading = asyncio.ensure_future(bodies.read(self._pieces.get, Request("r", "predict", "m", "/predict", 0, 0, length=length)))

    async def sends(self, size: int, *, last: bool = False) -> None:
        self._pieces.put_nowait({"type": "http.request", "body": b"x" * size, "more_body": not last})
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def hangs_up(self) -> None:
        self._pieces.put_nowait({"type": "http.disconnect"})

    async def got(self) -> int:
        """The body's size, or the status that refuses it."""
        try:
            return len(await self._reading)
        except Refused as refusal:
            return refusal.status


@pytest.mark.parametrize("told", [True, False])
def test_bodies_are_bounded_together_in_chunks_too(told: bool) -> None:
    async def play() -> tuple[list[int], int]:
        bodies = Bodies(LIMITS)
        clients = [Client(bodies, 8 * KB if told else 0) for _ in range(2)]
        for size in (1, 3, 3):
            for client in clients:
                await client.sends(size * KB)
        for client in clients:
            await client.sends(KB, last=True)
        later = Client(bodies)
        for size in (1, 7):
            await later.sends(size * KB, last=size == 7)
        return [await client.got() for client in clients], await later.got()

    together, later = asyncio.run(play())
    assert sorted(together) == [429, 8 * KB]
    assert later == 8 * KB, "what was received is let go of"


def test_a_body_in_chunks_that_is_too_large_alone_says_so_whatever_room_there_is() -> None:
    async def play() -> int:
        client = Client(Bodies(Limits(max_body_mb=0.008, bodies_mb=0.008)))
        for _ in range(2):
            await client.sends(5 * KB)
        return await client.got()

    assert asyncio.run(play()) == 413


def test_a_client_that_goes_leaves_nothing_counted() -> None:
    async def play() -> int:
        bodies = Bodies(LIMITS)
        gone = Client(bodies)
        await gone.sends(7 * KB)
        gone.hangs_up()
        with pytest.raises(ClientGone):
            await gone.got()
        client = Client(bodies)
        for size in (1, 7):
            await client.sends(size * KB, last=size == 7)
        return await client.got()

    assert asyncio.run(play()) == 8 * KB
