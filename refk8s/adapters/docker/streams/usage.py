"""What the containers of an engine have used. Rule STREAM-17.

One request to the engine for each running container, at most eight at a time. `one-shot` returns
the counters at once; an older engine measures for one to two seconds.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from refk8s.adapters.docker.streams.connection import StreamRefused, Streams, engine_id
from refk8s.core.ports import ContainerStatus, ContainerUsage

AT_A_TIME = 8
SECONDS_MAX = 5.0
_CACHE = ("total_inactive_file", "inactive_file")
"""The part of memory that the kernel takes back first, in cgroup v1 and v2: it is not in the
working set."""


async def measure(
    streams: Streams, containers: Sequence[ContainerStatus]
) -> tuple[ContainerUsage, ...]:
    """The use of these containers. One that ends meanwhile or does not answer is left out."""
    free = asyncio.Semaphore(AT_A_TIME)

    async def one(container: ContainerStatus) -> ContainerUsage | None:
        path = f"/containers/{engine_id(container.id)}/stats?stream=false&one-shot=true"
        try:
            async with free, asyncio.timeout(SECONDS_MAX):
                answer = await streams.ask("GET", path)
            return read_stats(container, answer)
        except (StreamRefused, OSError, TimeoutError, EOFError, ValueError, json.JSONDecodeError):
            return None

    found = await asyncio.gather(*(one(container) for container in containers))
    return tuple([each for each in found if each is not None])


def read_stats(container: ContainerStatus, answer: Any) -> ContainerUsage:
    """The counters in an answer of the engine. Raises ValueError if there are none."""
    try:
        cpu = int(answer["cpu_stats"]["cpu_usage"]["total_usage"])
        memory = answer["memory_stats"]
        details = memory.get("stats") or {}
        cache = next((int(details[name]) for name in _CACHE if name in details), 0)
        used = int(memory["usage"])
    except (KeyError, TypeError, AttributeError):
        raise ValueError("the engine tells no counters") from None
    return ContainerUsage(
        container.pod_uid, container.name, container.started_at, cpu, max(0, used - cache)
    )
