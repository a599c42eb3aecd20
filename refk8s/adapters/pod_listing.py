"""Lists the sandboxes and containers of one pod in a runtime. Rule STREAM-1."""

import asyncio

from refk8s.core.ports import Failed, ListPods, PodsListed, Result, Runtime, StreamFailed


async def list_pod(runtime: Runtime, pod_uid: str) -> PodsListed:
    """The sandboxes and containers that the runtime has for this pod uid.

    Raises StreamFailed if the runtime does not answer.
    """
    answered: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    runtime.run(
        ListPods((pod_uid,)),
        lambda result: None if answered.done() else answered.set_result(result),
    )
    result = await answered
    if not isinstance(result, PodsListed):
        raise StreamFailed(
            result.message if isinstance(result, Failed) else "the runtime does not answer"
        )
    return result
