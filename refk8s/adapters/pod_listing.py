"""What a runtime has of one pod, as an answer that is awaited. Rule STREAM-1."""

import asyncio

from refk8s.core.ports import Failed, ListPods, PodsListed, Result, Runtime, StreamFailed


async def list_pod(runtime: Runtime, pod_uid: str) -> PodsListed:
    """The sandboxes and containers that the runtime has under this uid; StreamFailed where it does
    not answer."""
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
