"""The rules of an audit policy, and the level of a request. Rules AUDIT-1, AUDIT-2
(spec/audit.md).

Source: Kubernetes documentation, "Auditing" (Audit policy); API reference, "kube-apiserver Audit
Configuration (v1)".
"""

from collections.abc import Iterable
from typing import Any, Final

from refk8s.core.apiserver.config import Attributes
from refk8s.core.value import Value

NONE, METADATA, REQUEST, REQUEST_RESPONSE = "None", "Metadata", "Request", "RequestResponse"
LEVELS: Final = (NONE, METADATA, REQUEST, REQUEST_RESPONSE)
"""From least to most."""

RECEIVED, STARTED, COMPLETE, PANIC = (
    "RequestReceived",
    "ResponseStarted",
    "ResponseComplete",
    "Panic",
)
STAGES: Final = (RECEIVED, STARTED, COMPLETE, PANIC)
RULES_MAX: Final = 1024


class BadPolicy(ValueError):
    """The policy cannot be used. The message names the field and the reason."""


class Resources(Value, frozen=True):
    """Resources of one group, all of it if none is named. `names`: of objects; all if empty."""

    group: str
    resources: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def match(self, attributes: Attributes) -> bool:
        """Whether the resource of the request is one of them."""
        if self.group != attributes.group:
            return False
        if not self.resources:
            return True
        if self.names and attributes.name not in self.names:
            return False
        part = attributes.subresource
        whole = f"{attributes.resource}/{part}" if part else attributes.resource
        return any(
            one in ("*", whole)
            or (one.startswith("*/") and part == one[2:])
            or (one.endswith("/*") and attributes.resource == one[:-2])
            for one in self.resources
        )


class Rule(Value, frozen=True):
    """A rule: the level of the requests that match it. An empty part matches everything."""

    level: str
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    resources: tuple[Resources, ...] = ()
    namespaces: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    omitted_stages: frozenset[str] = frozenset()
    omits_managed_fields: bool = False

    def match(self, attributes: Attributes) -> bool:
        """Whether the request matches (AUDIT-2)."""
        user = attributes.user
        if self.users and user.name not in self.users:
            return False
        if self.groups and not set(self.groups) & set(user.groups):
            return False
        if self.verbs and attributes.verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            if attributes.path:
                return False
            if self.namespaces and attributes.namespace not in self.namespaces:
                return False
            return not self.resources or any(one.match(attributes) for one in self.resources)
        if self.urls:
            return bool(attributes.path) and any(
                _is_path(attributes.path, one) for one in self.urls
            )
        return True


def _is_path(path: str, pattern: str) -> bool:
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return path == pattern


class Policy(Value, frozen=True):
    """The rules; the first one that matches decides."""

    rules: tuple[Rule, ...]

    def rule_of(self, attributes: Attributes) -> Rule | None:
        """The rule of a request; None if it is not recorded. O(rules)."""
        found = next((one for one in self.rules if one.match(attributes)), None)
        return None if found is None or found.level == NONE else found


def read_policy(tree: Any) -> Policy:
    """The policy of a document. Raises BadPolicy (AUDIT-1)."""
    if not isinstance(tree, dict):
        raise BadPolicy("the document is not a mapping")
    version, kind = tree.get("apiVersion"), tree.get("kind")
    if (version, kind) != ("audit.k8s.io/v1", "Policy"):
        raise BadPolicy("must be of kind Policy, audit.k8s.io/v1")
    known = {"apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields"}
    _only(tree, known, "")
    omitted = _stages(tree.get("omitStages"), "omitStages")
    omits = _flag(tree, "omitManagedFields", "") or False
    rules = tree.get("rules")
    if not isinstance(rules, list) or not rules:
        raise BadPolicy("rules: must have at least one")
    if len(rules) > RULES_MAX:
        raise BadPolicy(f"rules: must have at most {RULES_MAX}")
    return Policy(
        tuple([_read_rule(one, f"rules[{at}]", omitted, omits) for at, one in enumerate(rules)])
    )


_RULE: Final = {
    "level", "users", "userGroups", "verbs", "resources", "namespaces", "nonResourceURLs",
    "omitStages", "omitManagedFields",
}  # fmt: skip


def _read_rule(tree: Any, at: str, omitted: frozenset[str], omits: bool) -> Rule:
    if not isinstance(tree, dict):
        raise BadPolicy(f"{at}: must be a mapping")
    _only(tree, _RULE, f"{at}.")
    level = tree.get("level")
    if level not in LEVELS:
        raise BadPolicy(f"{at}.level: must be one of {', '.join(LEVELS)}")
    urls = _texts(tree, "nonResourceURLs", at)
    namespaces = _texts(tree, "namespaces", at)
    resources = _resources(tree.get("resources"), f"{at}.resources")
    if urls and (resources or namespaces):
        words = "rules cannot apply to both regular resources and non-resource URLs"
        raise BadPolicy(f"{at}.nonResourceURLs: {words}")
    for url in urls:
        if url != "*" and (not url.startswith("/") or "*" in url[:-1]):
            raise BadPolicy(f"{at}.nonResourceURLs: must begin with / and may end with *: {url}")
    own = _flag(tree, "omitManagedFields", at)
    return Rule(
        level,
        _texts(tree, "users", at),
        _texts(tree, "userGroups", at),
        _texts(tree, "verbs", at),
        resources,
        namespaces,
        urls,
        omitted | _stages(tree.get("omitStages"), f"{at}.omitStages"),
        omits if own is None else own,
    )


def _resources(value: Any, at: str) -> tuple[Resources, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadPolicy(f"{at}: must be a list")
    found = []
    for place, one in enumerate(value):
        here = f"{at}[{place}]"
        if not isinstance(one, dict):
            raise BadPolicy(f"{here}: must be a mapping")
        _only(one, {"group", "resources", "resourceNames"}, f"{here}.")
        group = one.get("group") or ""
        if not isinstance(group, str) or "/" in group:
            raise BadPolicy(f"{here}.group: must be a group without a version")
        resources, names = _texts(one, "resources", here), _texts(one, "resourceNames", here)
        if names and not resources:
            raise BadPolicy(f"{here}.resourceNames: requires at least one resource")
        found.append(Resources(group, resources, names))
    return tuple(found)


def _texts(tree: dict[str, Any], name: str, at: str) -> tuple[str, ...]:
    value = tree.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadPolicy(f"{at}.{name}: must be a list of texts")
    return tuple(value)


def _stages(value: Any, at: str) -> frozenset[str]:
    listed = [] if value is None else value
    if not isinstance(listed, list) or any(one not in STAGES for one in listed):
        raise BadPolicy(f"{at}: must be some of {', '.join(STAGES)}")
    return frozenset(listed)


def _flag(tree: dict[str, Any], name: str, at: str) -> bool | None:
    value = tree.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadPolicy(f"{at}.{name}: must be true or false".lstrip("."))
    return value


def _only(tree: Iterable[Any], known: Iterable[str], at: str) -> None:
    unknown = sorted(str(one) for one in tree if one not in set(known))
    if unknown:
        raise BadPolicy(f"{at}{unknown[0]}: not known")
