"""The subresources binding, eviction, scale and token. Rules API-17 to API-20 (spec/api.md).

Source: Kubernetes documentation, "API-initiated Eviction", "Specifying a Disruption Budget for your
Application", "Managing Service Accounts"; API reference, "Binding", "Scale", "TokenRequest".
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api import resources, selector, status
from refk8s.core.api.authentication_v1 import TokenRequestStatus
from refk8s.core.api.autoscaling_v1 import Scale, ScaleSpec, ScaleStatus
from refk8s.core.api.conditions import get_condition, remove_condition, transition_time
from refk8s.core.api.core_v1 import PodCondition, PodStatus
from refk8s.core.api.disruption import DISRUPTION_ALLOWED, SYNC_FAILED, with_allowed
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, StatusCause, StatusDetails
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError, Cause
from refk8s.core.apiserver.admission.node_restriction import restrict_eviction, restrict_token
from refk8s.core.apiserver.admission.pod import topology_labels
from refk8s.core.apiserver.authenticate import make_token
from refk8s.core.apiserver.custom import scale as custom_scale
from refk8s.core.apiserver.delete import after_delete, check_preconditions, delete_options
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.outcome import Commit, Reader
from refk8s.core.apiserver.read import find
from refk8s.core.apiserver.strategy import strategy_of
from refk8s.core.apiserver.write import check_namespace
from refk8s.core.context import SECOND, Context, timestamp
from refk8s.core.pods.status import DISRUPTION_TARGET, PENDING, is_active, is_ready
from refk8s.core.store import Committed, Compare, Delete, Put, Record, Txn

EXPIRATION_SECONDS_MIN, EXPIRATION_SECONDS_MAX, EXPIRATION_SECONDS_DEFAULT = 600, 2**32, 3600
DISRUPTED_PODS_MAX = 2000


def _invalid(group: str, kind: str, name: str, *causes: Cause) -> ApiError:
    """422 about a body that is not stored."""
    return ApiError(
        status.invalid(
            Resource(group, "v1", kind.lower(), kind.lower(), kind, False), name, list(causes)
        )
    )


# --- pods/binding


def bind(exchange: Exchange) -> Response | Commit:
    """Bind a pod to a node, at most once (API-17, SCHED-25). As upstream, this does not check that
    the node exists."""
    request, store, context = exchange.request, exchange.store, exchange.context
    binding = request.body
    check_namespace(request, binding.metadata)
    name = request.name or binding.metadata.name or ""
    if name != binding.metadata.name:
        raise ApiError(status.bad_request("name in URL does not match name in Binding object"))
    if binding.target.kind not in (None, "", "Node"):
        kind = status.show(binding.target.kind)
        words = f'target.kind: Unsupported value: {kind}: supported values: "Node", "<empty>"'
        raise ApiError(status.unexplained(words))
    if not binding.target.name:
        raise ApiError(status.unexplained("target.name: Required value"))
    record = find(Request("get", resources.PODS, request.namespace, name), store)
    pod = record.value
    if binding.metadata.uid and binding.metadata.uid != pod.metadata.uid:
        raise _bind_conflict(
            name,
            f"Precondition failed: UID in precondition: {binding.metadata.uid}, "
            f"UID in object meta: {pod.metadata.uid}",
        )
    if (
        binding.metadata.resource_version
        and binding.metadata.resource_version != pod.metadata.resource_version
    ):
        raise ApiError(status.conflict(resources.PODS, name))
    if pod.metadata.deletion_timestamp is not None:
        raise _bind_conflict(name, f"pod {name} is being deleted, cannot be assigned to a host")
    if pod.spec.node_name:
        raise _bind_conflict(
            name, f"pod {name} is already assigned to node {status.show(pod.spec.node_name)}"
        )
    if pod.spec.scheduling_gates:
        raise _bind_conflict(name, f"pod {name} has non-empty .spec.schedulingGates")
    metadata = pod.metadata
    if binding.metadata.annotations:
        metadata = replace(
            metadata, annotations={**(metadata.annotations or {}), **binding.metadata.annotations}
        )
    labels = {**(binding.metadata.labels or {}), **topology_labels(binding.target.name, store)}
    if labels:
        metadata = replace(metadata, labels={**labels, **(metadata.labels or {})})
    current = pod.status or PodStatus()
    scheduled = PodCondition(
        type="PodScheduled", status="True", last_transition_time=timestamp(context.now)
    )
    others = tuple(
        [condition for condition in current.conditions or () if condition.type != "PodScheduled"]
    )
    bound = replace(
        pod,
        metadata=metadata,
        spec=replace(pod.spec, node_name=binding.target.name),
        status=replace(current, conditions=(*others, scheduled), nominated_node_name=None),
    )
    answer = Response(201, status.success(201))
    if request.options.dry_run:
        return answer
    return Commit(
        Txn((Compare(record.key, record.mod_revision),), (Put(record.key, bound),)),
        lambda committed: answer,
    )


def _bind_conflict(name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on pods/binding "{name}": {why}'
    return ApiError(
        status.failure(409, "Conflict", message, StatusDetails(name=name, kind="pods/binding"))
    )


# --- pods/eviction


def evict(exchange: Exchange) -> Response | Commit:
    """Delete a pod if its disruption budget allows it, and lower the budget in the same transaction
    (API-18)."""
    request, store, context = exchange.request, exchange.store, exchange.context
    eviction = request.body
    check_namespace(request, eviction.metadata)
    if eviction.metadata.name != request.name:
        raise ApiError(status.bad_request("name in URL does not match name in Eviction object"))
    record = find(request, store)
    pod = record.value
    restrict_eviction(request, pod)
    deletion = Request(
        "delete", resources.PODS, request.namespace, request.name, body=eviction.delete_options
    )
    options = delete_options(deletion)
    strategy = strategy_of(resources.PODS)
    check_preconditions(strategy, pod, options)
    compares, writes = [Compare(record.key, record.mod_revision)], list[Put[Any] | Delete]()
    if not _disrupts_nothing(pod) and (budget := _budget_of(pod, store)) is not None:
        compares.append(Compare(budget.key, budget.mod_revision))  # PDB-6
        if not _is_exempt(pod, budget.value):
            writes.append(Put(budget.key, _lower(budget.value, pod, context)))
    left = after_delete(strategy, pod, options, context)
    if left is None:
        writes.append(Delete(record.key))
    elif (marked := _with_disruption_target(left, context)) != pod:
        writes.append(Put(record.key, marked))
    answer = Response(201, status.success(201))
    if request.options.dry_run or options.dry_run or not writes:
        return answer
    return Commit(Txn(tuple(compares), tuple(writes)), lambda committed: answer)


def _with_disruption_target(pod: Any, context: Context) -> Any:
    """The pod with the condition DisruptionTarget."""
    current = pod.status or PodStatus()
    known = get_condition(current.conditions, DISRUPTION_TARGET)
    if known is not None and (known.status, known.reason) == ("True", "EvictionByEvictionAPI"):
        return pod
    since = transition_time(known, "True", timestamp(context.now))
    condition = PodCondition(
        type=DISRUPTION_TARGET, status="True", reason="EvictionByEvictionAPI", message="Eviction API: evicting",
        last_transition_time=since, observed_generation=pod.metadata.generation,
    )  # fmt: skip
    others = remove_condition(current.conditions, DISRUPTION_TARGET)
    return replace(pod, status=replace(current, conditions=(*others, condition)))


def _disrupts_nothing(pod: Any) -> bool:
    """Whether the eviction of the pod disrupts nothing: it has finished, is Pending, or is being
    deleted."""
    return not is_active(pod) or pod.status.phase in (PENDING, None)


def _budget_of(pod: Any, store: Reader) -> Record[Any] | None:
    """The budget that selects the pod, or None. Raises ApiError 500 if there are two, as upstream
    (API-14)."""
    prefix = f"{resources.POD_DISRUPTION_BUDGETS.prefix}{pod.metadata.namespace}/"
    found = [record for record in store.list(prefix).records if _selects(record.value, pod)]
    if len(found) > 1:
        words = (
            "This pod has more than one PodDisruptionBudget, "
            "which the eviction subresource does not support."
        )
        raise ApiError(status.unexplained(words))
    return found[0] if found else None


def _selects(budget: Any, pod: Any) -> bool:
    try:
        return selector.from_label_selector(budget.spec.selector).matches(pod.metadata.labels)
    except selector.SelectorError:
        return False


def _is_exempt(pod: Any, budget: Any) -> bool:
    """Whether the budget's policy for unhealthy pods allows this eviction without lowering the
    budget."""
    if is_ready(pod):
        return False
    if budget.spec.unhealthy_pod_eviction_policy == "AlwaysAllow":
        return True
    current = budget.status
    return bool(0 < current.desired_healthy <= current.current_healthy)


def _lower(budget: Any, pod: Any, context: Context) -> Any:
    """The budget with one disruption less. Raises ApiError 429 if none is allowed, or if its status
    is older than its last change."""
    current, name = budget.status, budget.metadata.name
    if (current.observed_generation or 0) < (budget.metadata.generation or 0):
        raise _too_many(
            f"The disruption budget {name} is still being processed by the server.",
            retry_after_seconds=10,
        )
    if current.disruptions_allowed < 0:
        raise ApiError(status.forbidden(_ONE_BUDGET, name, "pdb disruptions allowed is negative"))
    if len(current.disrupted_pods or {}) > DISRUPTED_PODS_MAX:
        why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise ApiError(status.forbidden(_ONE_BUDGET, name, why))
    if current.disruptions_allowed == 0:
        raise _too_many(_why_none(name, current))
    now = timestamp(context.now)
    current = with_allowed(current, current.disruptions_allowed - 1, now)
    return replace(
        budget,
        status=replace(
            current, disrupted_pods={**(current.disrupted_pods or {}), pod.metadata.name: now}
        ),
    )


_ONE_BUDGET = replace(resources.POD_DISRUPTION_BUDGETS, plural="poddisruptionbudget")
"""The name of the resource in upstream's messages."""


def _why_none(name: str, current: Any) -> str:
    refusing = [
        one
        for one in current.conditions or ()
        if one.type == DISRUPTION_ALLOWED and one.status == "False"
    ]
    reason, failure = (refusing[0].reason, refusing[0].message) if refusing else ("", "")
    if failure and reason == SYNC_FAILED:
        return (
            f"The disruption budget {name} does not allow evicting pods currently because it "
            f"failed sync: {failure}"
        )
    if current.current_healthy <= current.desired_healthy:
        return (
            f"The disruption budget {name} needs {current.desired_healthy} healthy pods and has "
            f"{current.current_healthy} currently"
        )
    more = f" ({reason}): {failure}" if failure else ""
    return f"The disruption budget {name} does not allow evicting pods currently{more}"


def _too_many(words: str, retry_after_seconds: int | None = None) -> ApiError:
    causes = (StatusCause(reason="DisruptionBudget", message=words),)
    details = StatusDetails(causes=causes, retry_after_seconds=retry_after_seconds)
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    return ApiError(status.failure(429, "TooManyRequests", message, details))


# --- scale


def scale_of(resource: Resource, obj: Any) -> Scale:
    """The desired and current replicas, and the selector of the pods (API-19)."""
    if resource.is_custom:
        return custom_scale.scale_of(resource, obj)
    spec, current = obj.spec, obj.status
    chosen = spec.selector if spec is not None else None
    text = (
        ""
        if chosen is None
        else str(
            selector.from_map(chosen)
            if isinstance(chosen, dict)
            else selector.from_label_selector(chosen)
        )
    )
    return Scale(
        metadata=custom_scale.scale_metadata(obj.metadata),
        spec=ScaleSpec(replicas=(spec.replicas or None) if spec is not None else None),
        status=ScaleStatus(
            replicas=(current.replicas or 0) if current is not None else 0, selector=text or None
        ),
    )


def scaled(resource: Resource, obj: Any, scale: Scale) -> Any:
    """The object with the replicas of the scale and its preconditions. Raises ApiError 422 for a
    negative number."""
    replicas = scale.spec.replicas or 0
    if replicas < 0:
        cause = Cause(
            status.INVALID, "spec.replicas", "must be greater than or equal to 0", replicas
        )
        raise _invalid("autoscaling", "Scale", scale.metadata.name or "", cause)
    metadata = replace(
        obj.metadata,
        resource_version=scale.metadata.resource_version or None,
        uid=scale.metadata.uid or obj.metadata.uid,
    )
    if resource.is_custom:
        return custom_scale.scaled(resource, replace(obj, metadata=metadata), replicas)
    return replace(obj, metadata=metadata, spec=replace(obj.spec, replicas=replicas))


def answer_scale(resource: Resource, outcome: Response | Commit) -> Response | Commit:
    """The same outcome, answered with the Scale of the object."""
    if isinstance(outcome, Response):
        scale = scale_of(resource, outcome.body)
        return Response(outcome.code, scale, warnings=outcome.warnings)
    inner = outcome.respond

    def respond(committed: Committed[Any]) -> Response:
        answer = inner(committed)
        return Response(answer.code, scale_of(resource, answer.body), warnings=answer.warnings)

    return Commit(outcome.txn, respond)


# --- serviceaccounts/token


def request_token(exchange: Exchange) -> Response:
    """A token for the service account, valid for at least ten minutes (API-20). Nothing is
    stored."""
    request, store, context = exchange.request, exchange.store, exchange.context
    config = exchange.config
    deletion = request.body
    if deletion.metadata is not None:
        check_namespace(request, deletion.metadata)
    account = find(request, store).value
    spec = deletion.spec
    restrict_token(request, spec.bound_object_ref, store)
    seconds = (
        spec.expiration_seconds
        if spec.expiration_seconds is not None
        else EXPIRATION_SECONDS_DEFAULT
    )
    if seconds < EXPIRATION_SECONDS_MIN:
        words = "may not specify a duration less than 10 minutes"
        raise _invalid(
            "authentication.k8s.io",
            "TokenRequest",
            "",
            Cause(status.INVALID, "spec.expirationSeconds", words, seconds),
        )
    if seconds > EXPIRATION_SECONDS_MAX:
        words = "may not specify a duration larger than 2^32 seconds"
        raise _invalid(
            "authentication.k8s.io",
            "TokenRequest",
            "",
            Cause(status.INVALID, "spec.expirationSeconds", words, seconds),
        )
    if deletion.metadata is not None and deletion.metadata.name not in (None, "", request.name):
        words = "must match the service account name if specified"
        cause = Cause(status.INVALID, "metadata.name", words, deletion.metadata.name)
        raise _invalid("authentication.k8s.io", "TokenRequest", request.name, cause)
    audiences = tuple(spec.audiences or config.audiences)
    bound = _bound(request, spec.bound_object_ref, store)
    token = make_token(
        request.namespace,
        request.name,
        account.metadata.uid,
        audiences,
        seconds,
        bound,
        config,
        context,
    )
    expires = timestamp(context.now + seconds * SECOND)
    metadata = ObjectMeta(
        name=request.name,
        namespace=request.namespace,
        uid=account.metadata.uid,
        creation_timestamp=timestamp(context.now),
    )
    return Response(
        201,
        replace(
            deletion,
            metadata=metadata,
            spec=replace(spec, audiences=audiences, expiration_seconds=seconds),
            status=TokenRequestStatus(expiration_timestamp=expires, token=token),
        ),
    )


_BINDABLE = {"Pod": resources.PODS, "Secret": resources.SECRETS, "Node": resources.NODES}


def _bound(request: Request, reference: Any, store: Reader) -> dict[str, Any] | None:
    if reference is None:
        return None
    resource = _BINDABLE.get(reference.kind or "")
    if resource is None:
        group, _, version = (reference.api_version or "").rpartition("/")
        raise ApiError(
            status.bad_request(
                f"cannot bind token to object of type {group}/{version}, "
                f"Kind={reference.kind or ''}"
            )
        )
    place = request.namespace if resource.namespaced else ""
    obj = find(Request("get", resource, place, reference.name or ""), store).value
    found = obj.metadata
    if reference.uid and reference.uid != found.uid:
        words = (
            f"the UID in the bound object reference ({reference.uid}) does not match the "
            "UID in record. "
            "The object might have been deleted and then recreated"
        )
        raise ApiError(status.conflict(resource, found.name, words))
    bound = {resource.singular: {"name": found.name, "uid": found.uid}}
    if resource is not resources.PODS:
        return bound
    if (obj.spec.service_account_name or "default") != request.name:
        words = (
            f'cannot bind token for serviceaccount "{request.name}" to pod running with different '
            "serviceaccount name."
        )
        raise ApiError(status.bad_request(words))
    node = store.get(resources.NODES.key("", obj.spec.node_name)) if obj.spec.node_name else None
    if node is not None:
        bound["node"] = {"name": obj.spec.node_name, "uid": node.value.metadata.uid}
    return bound


__all__ = ["DeleteOptions", "answer_scale", "bind", "evict", "request_token", "scale_of", "scaled"]
