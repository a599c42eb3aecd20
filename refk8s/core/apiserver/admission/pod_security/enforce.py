"""Requests under a PodSecurity policy: what is rejected, and what is warned of. Rules PSA-2, PSA-4,
PSA-5, PSA-6, PSA-8 (spec/pod_security.md).

Source: Kubernetes documentation, "Pod Security Admission"; "Well-Known Labels, Annotations and
Taints" (audit annotations).
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from refk8s.core.api import resources, status
from refk8s.core.api.core_v1 import Container, Namespace, Pod, PodTemplateSpec
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission.outcome import LevelVersion, SecurityPolicy
from refk8s.core.apiserver.admission.pod_security.baseline import SECCOMP_CONTAINER, SECCOMP_POD
from refk8s.core.apiserver.admission.pod_security.evaluate import details, reasons, violations
from refk8s.core.apiserver.admission.pod_security.policy import (
    LEVELS,
    MODES,
    PREFIX,
    PRIVILEGED,
    Labels,
    labels_of,
    policy_of,
    problems_of,
)
from refk8s.core.pods.containers import ephemeral_containers

if TYPE_CHECKING:
    from refk8s.core.apiserver.exchange import Exchange

PODS_CHECKED_MAX = 3000
"""How many pods of a namespace are checked when its level changes."""

NO_WARNINGS: tuple[str, ...] = ()
_POD_SUBRESOURCES = ("", "ephemeralcontainers", "resize")
_OF_SPEC: Callable[[Any], PodTemplateSpec | None] = lambda obj: obj.spec.template  # noqa: E731
_TEMPLATES: Mapping[Resource, Callable[[Any], PodTemplateSpec | None]] = {
    resources.REPLICATION_CONTROLLERS: _OF_SPEC,
    resources.REPLICA_SETS: _OF_SPEC,
    resources.DEPLOYMENTS: _OF_SPEC,
    resources.STATEFUL_SETS: _OF_SPEC,
    resources.DAEMON_SETS: _OF_SPEC,
    resources.JOBS: _OF_SPEC,
    resources.CRON_JOBS: lambda obj: obj.spec.job_template.spec.template,
    resources.POD_TEMPLATES: lambda obj: obj.template,
}


def check(exchange: "Exchange", new: Any, old: Any) -> tuple[str, ...]:
    """The warnings about a pod, a template or a namespace. Raises ApiError 403 for a pod that
    violates the enforced level, and 422 for invalid labels of a namespace. O(labels), if the
    namespace has no label of PodSecurity."""
    request = exchange.request
    resource = request.resource
    if resource == resources.NAMESPACES:
        return _check_namespace(exchange, new, old) if not request.subresource else NO_WARNINGS
    if resource == resources.PODS:
        if request.subresource not in _POD_SUBRESOURCES:
            return NO_WARNINGS
        is_enforced = True
    elif resource in _TEMPLATES and not request.subresource:
        is_enforced = False
    else:
        return NO_WARNINGS
    policy = _policy_in_force(exchange)
    if policy is None:
        return NO_WARNINGS
    if is_enforced:
        if old is not None and not _is_significant(new, old):
            return NO_WARNINGS
        template: Pod | PodTemplateSpec | None = new
    else:
        template = _TEMPLATES[resource](new)
    if template is None:
        return NO_WARNINGS
    if _is_exempt_class(exchange, template):
        return _exempt(exchange, "runtimeClass")
    if is_enforced:
        _annotate(exchange, "enforce-policy", _shown(policy.enforce))
    if found := violations(policy.audit, template.metadata, template.spec):
        why = f'would violate PodSecurity "{_shown(policy.audit)}": {details(found)}'
        _annotate(exchange, "audit-violations", why)
    if is_enforced and (found := violations(policy.enforce, template.metadata, template.spec)):
        why = f'violates PodSecurity "{_shown(policy.enforce)}": {details(found)}'
        raise ApiError(status.forbidden(resource, new.metadata.name or "", why))
    found = violations(policy.warn, template.metadata, template.spec)
    if not found:
        return NO_WARNINGS
    return (f'would violate PodSecurity "{_shown(policy.warn)}": {details(found)}',)


def _policy_in_force(exchange: "Exchange") -> SecurityPolicy | None:
    """The policy for this request; None if nothing can violate it, or the request is exempt."""
    request, config = exchange.request, exchange.config.admission.pod_security
    record = exchange.store.get(resources.NAMESPACES.key("", request.namespace))
    labels = labels_of(record.value.metadata.labels) if record is not None else ()
    if not labels and config.defaults == SecurityPolicy():
        return None
    if request.namespace in config.namespaces:
        _exempt(exchange, "namespace")
        return None
    if request.user.name in config.users:
        _exempt(exchange, "user")
        return None
    policy = policy_of(labels, config.defaults)
    levels = (policy.enforce.level, policy.audit.level, policy.warn.level)
    return policy if any(level != PRIVILEGED for level in levels) else None


def _exempt(exchange: "Exchange", why: str) -> tuple[str, ...]:
    _annotate(exchange, "exempt", why)
    return NO_WARNINGS


def _annotate(exchange: "Exchange", key: str, text: str) -> None:
    """PSA-8: an annotation of the audit event."""
    exchange.notes.annotations.setdefault(f"{PREFIX}{key}", text)


def _is_exempt_class(exchange: "Exchange", template: Pod | PodTemplateSpec) -> bool:
    name = template.spec.runtime_class_name
    return bool(name) and name in exchange.config.admission.pod_security.runtime_classes


def _shown(wanted: LevelVersion) -> str:
    return f"{wanted.level}:{wanted.version}"


# --- updates of pods


def _is_significant(new: Pod, old: Pod) -> bool:
    """PSA-4: whether an update changes something that a policy looks at: an image, a seccomp
    annotation, an ephemeral container more."""
    if new.spec is old.spec and new.metadata.annotations == old.metadata.annotations:
        return False
    if _annotation(new, SECCOMP_POD) != _annotation(old, SECCOMP_POD):
        return True
    pairs = (
        (new.spec.containers, old.spec.containers),
        (new.spec.init_containers or (), old.spec.init_containers or ()),
    )
    for mine, theirs in pairs:
        if len(mine) != len(theirs):
            return True
        if any(_is_other(one, other, new, old) for one, other in zip(mine, theirs, strict=True)):
            return True
    known = {one.name: one for one in ephemeral_containers(old.spec)}
    return any(
        one.name not in known or _is_other(one, known[one.name], new, old)
        for one in ephemeral_containers(new.spec)
    )


def _is_other(one: Container, other: Container, new: Pod, old: Pod) -> bool:
    key = SECCOMP_CONTAINER + one.name
    return one.image != other.image or _annotation(new, key) != _annotation(old, key)


def _annotation(pod: Pod, key: str) -> str:
    return (pod.metadata.annotations or {}).get(key, "")


# --- namespaces


def _check_namespace(
    exchange: "Exchange", new: Namespace, old: Namespace | None
) -> tuple[str, ...]:
    """PSA-2, PSA-5, PSA-6: raise ApiError 422 for invalid labels; warn of the pods that violate a
    stricter level, or of a policy that is ignored."""
    labels = labels_of(new.metadata.labels)
    before = labels_of(old.metadata.labels) if old is not None else ()
    if labels == before:
        return NO_WARNINGS
    name = new.metadata.name or ""
    problems = problems_of(labels)
    if problems and problems != problems_of(before):
        raise ApiError(status.invalid(resources.NAMESPACES, name, problems))
    config = exchange.config.admission.pod_security
    wanted = policy_of(labels, config.defaults)
    was = policy_of(before, config.defaults)
    if old is not None and not _is_stricter(wanted.enforce, was.enforce):
        return NO_WARNINGS
    if name in config.namespaces:
        return _warn_of_exemption(name, labels, wanted, config.defaults)
    return _warn_of_pods(exchange, name, wanted.enforce)


def _warn_of_exemption(
    name: str, labels: Labels, wanted: SecurityPolicy, defaults: SecurityPolicy
) -> tuple[str, ...]:
    """PSA-5: that the labels of an exempt namespace have no effect."""
    levels = {mode: getattr(wanted, mode) for mode in MODES}
    if wanted == defaults or all(one.level == PRIVILEGED for one in levels.values()):
        return NO_WARNINGS
    given = dict(labels)
    shown = ", ".join(
        f"{mode}={_shown(one)}"
        for mode, one in levels.items()
        if one.level != PRIVILEGED and {PREFIX + mode, f"{PREFIX}{mode}-version"} & given.keys()
    )
    words = f"is exempt from Pod Security, and the policy ({shown}) will be ignored"
    return (f'namespace "{name}" {words}',)


def _is_stricter(wanted: LevelVersion, was: LevelVersion) -> bool:
    """Whether pods that were allowed may violate the new level."""
    if wanted == was or wanted.level == PRIVILEGED:
        return False
    is_other_version = wanted.version != was.version
    return is_other_version or LEVELS.index(wanted.level) > LEVELS.index(was.level)


def _warn_of_pods(exchange: "Exchange", name: str, wanted: LevelVersion) -> tuple[str, ...]:
    prefix = f"{resources.PODS.prefix}{name}/"
    page = exchange.store.list(prefix, limit=PODS_CHECKED_MAX)
    by_reasons: dict[str, list[str]] = {}
    for record in page.records:
        pod: Pod = record.value
        if _is_exempt_class(exchange, pod):
            continue
        if found := violations(wanted, pod.metadata, pod.spec):
            by_reasons.setdefault(reasons(found), []).append(pod.metadata.name or "")
    warnings = []
    if page.more:
        total = len(page.records) + page.remaining
        words = f"checked against the first {len(page.records)} of {total} existing pods"
        warnings.append(f"new PodSecurity enforce level only {words}")
    if by_reasons:
        words = f'violate the new PodSecurity enforce level "{_shown(wanted)}"'
        warnings.append(f'existing pods in namespace "{name}" {words}')
    lines = [f"{_named(names)}: {words}" for words, names in by_reasons.items()]
    return (*warnings, *sorted(lines))


def _named(names: list[str]) -> str:
    """The first name, and how many others there are."""
    others = len(names) - 1
    if not others:
        return names[0]
    return f"{min(names)} (and {others} other {'pod' if others == 1 else 'pods'})"
