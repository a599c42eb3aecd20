"""Lists the sandboxes and containers in a runtime. Rule STREAM-1."""

import asyncio

from refk8s.core.ports import Failed, ListPods, PodsListed, Result, Runtime, StreamFailed


async def list_pod(runtime: Runtime, pod_uid: str) -> PodsListed:
    """The sandboxes and containers that the runtime has for this pod uid.

    Raises StreamFailed if the runtime does not answer.
    """
    return await _list(runtime, ListPods((pod_uid,)))


async def list_all(runtime: Runtime) -> PodsListed:
    """Those of every pod. Raises StreamFailed if the runtime does not answer."""
    return await _list(runtime, ListPods())


async def _list(runtime: Runtime, operation: ListPods) -> PodsListed:
    answered: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    runtime.run(
        operation,
        lambda result: None if answered.done() else answered.set_result(result),
    )
    result = await answered
    if not isinstance(result, PodsListed):
        raise StreamFailed(
            result.message if isinstance(result, Failed) else "the runtime does not answer"
        )
    return result
