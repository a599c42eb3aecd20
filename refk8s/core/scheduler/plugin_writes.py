"""What plugins of other packages write around the binding of a pod. Rules SCHED-65, SCHED-66
(spec/scheduler_profiles.md).

Their requests are sent as those of the scheduler.
"""

from collections.abc import Callable, Iterable

from refk8s.core.api.core_v1 import Binding, ObjectReference, Pod
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import PODS
from refk8s.core.context import Instant
from refk8s.core.loop.plan import Key, Plan
from refk8s.core.loop.view import View
from refk8s.core.scheduler.memory import Decision, Memory
from refk8s.core.scheduler.plugin import BindPlugin
from refk8s.core.scheduler.profile import Profile
from refk8s.core.value import evolve


class PluginFailed(Exception):
    """A plugin has raised an exception, or returned what its protocol does not allow."""


def before_binding(
    view: View, memory: Memory, key: Key, pod: Pod, decision: Decision, now: Instant,
    profile: Profile, failure: Response | None, again: Callable[[], Plan],
) -> Plan | None:  # fmt: skip
    """SCHED-65: the requests of the plugins that are missing; None if there are none. The pod goes
    back to the queue (`again`) if one is refused, or if some are still missing after the timeout of
    VolumeBinding."""
    timeout = profile.arguments.bind_timeout
    for plugin in profile.plugins.pre_bind:
        try:
            requests = _requests(plugin.pre_bind(pod, decision.node, view))
        except Exception as error:
            raise PluginFailed(f'running PreBind plugin "{plugin.name}": {error}') from error
        if not requests:
            continue
        since = decision.since or now
        if failure is not None or now >= since + timeout:
            return again()
        waits = memory.decisions.set(key, evolve(decision, since=since))
        return Plan((requests,), memory=evolve(memory, decisions=waits), wake_at=since + timeout)
    return None


def _requests(found: Iterable[Request]) -> tuple[Request, ...]:
    requests = tuple(found)
    for one in requests:
        if not isinstance(one, Request):
            raise TypeError(f"{one!r} is not a Request")
    return requests


def binding_of(profile: Profile, pod: Pod, node: str) -> Request:
    """SCHED-66: the request of the first plugin that binds the pod; else that of the scheduler.
    Raises PluginFailed."""
    for plugin in profile.plugins.bind:
        try:
            request = plugin.bind(pod, node)
        except Exception as error:
            raise PluginFailed(f'running Bind plugin "{plugin.name}": {error}') from error
        if request is not None:
            return _checked(plugin, request, pod, node)
    if not profile.plugins.has_default_binder:
        raise PluginFailed("no bind plugin binds the pod")
    return default_binding(pod, node)


def default_binding(pod: Pod, node: str) -> Request:
    """The request that binds the pod to the node."""
    namespace, name = pod.metadata.namespace or "", pod.metadata.name or ""
    binding = Binding(
        metadata=ObjectMeta(namespace=namespace, name=name, uid=pod.metadata.uid),
        target=ObjectReference(kind="Node", name=node),
    )
    return Request(
        "create", PODS, namespace, name, "binding", body=binding,
        because=f"{node} is the best node for it",
    )  # fmt: skip


def _checked(plugin: BindPlugin, request: Request, pod: Pod, node: str) -> Request:
    """The request, if it binds this pod, by its uid, to this node: nothing else was decided."""
    wanted = default_binding(pod, node)
    body = request.body if isinstance(request, Request) else None
    if (
        not isinstance(body, Binding)
        or (request.verb, request.resource, request.subresource, request.key)
        != (wanted.verb, wanted.resource, wanted.subresource, wanted.key)
        or body.metadata.name != wanted.body.metadata.name
        or body.metadata.uid != pod.metadata.uid
        or body.target != wanted.body.target
    ):
        raise PluginFailed(f'bind plugin "{plugin.name}" does not bind the pod to node "{node}"')
    return request


def after_binding(
    profile: Profile, pod: Pod, node: str
) -> tuple[tuple[Request, ...], tuple[Exception, ...]]:
    """SCHED-66: the requests of the plugins after the pod was bound, and the plugins that
    failed."""
    found: list[Request] = []
    problems: list[Exception] = []
    for plugin in profile.plugins.post_bind:
        try:
            found += _requests(plugin.post_bind(pod, node))
        except Exception as error:  # the pod is bound all the same
            problems.append(error)
    return tuple(found), tuple(problems)
