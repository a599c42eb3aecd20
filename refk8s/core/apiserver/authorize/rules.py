"""What one rule of a role allows, and whether rules cover others. Rules RBAC-1, RBAC-2, RBAC-6
(spec/authorization.md).

Source: Kubernetes documentation, "Using RBAC Authorization" (role and cluster role; restrictions on
role creation or update).
"""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Final

from msgspec.structs import replace

from refk8s.core.api.rbac_v1 import PolicyRule
from refk8s.core.apiserver.config import Attributes

ALL: Final = "*"


def selects(rule: PolicyRule, attributes: Attributes) -> bool:
    """Whether the rule allows the request for some name (RBAC-1) or the path (RBAC-2)."""
    if attributes.verb not in rule.verbs and ALL not in rule.verbs:
        return False
    if attributes.path:
        return any(_is_path(url, attributes.path) for url in rule.non_resource_urls or ())
    groups, resources = rule.api_groups or (), rule.resources or ()
    if attributes.group not in groups and ALL not in groups:
        return False
    if ALL in resources:
        return True
    part = attributes.subresource
    if not part:
        return attributes.resource in resources
    return f"{attributes.resource}/{part}" in resources or f"*/{part}" in resources


def allows(rule: PolicyRule, attributes: Attributes) -> bool:
    """Whether the rule allows the request. A rule with resourceNames needs one of these names: a
    create, or a list without a field selector for the name, has none."""
    names = () if attributes.path else rule.resource_names
    return selects(rule, attributes) and (not names or attributes.name in names)


def _is_path(url: str, path: str) -> bool:
    return url in (ALL, path) or (url.endswith(ALL) and path.startswith(url.rstrip(ALL)))


# --- escalation


def missing_rules(held: Iterable[PolicyRule], wanted: Iterable[PolicyRule]) -> list[PolicyRule]:
    """The parts of the wanted rules that no held rule covers, each with one verb and one resource
    or path."""
    owned = tuple(held)
    return [
        part
        for rule in wanted
        for part in _parts(rule)
        if not any(_covers(rule, part) for rule in owned)
    ]


def _parts(rule: PolicyRule) -> Iterable[PolicyRule]:
    """The rule as rules with one verb each, and one resource of one group and at most one name, or
    one path."""
    names: Sequence[str | None] = rule.resource_names or (None,)
    for group, resource, verb, name in product(
        rule.api_groups or (), rule.resources or (), rule.verbs, names
    ):
        yield PolicyRule(
            verbs=(verb,),
            api_groups=(group,),
            resources=(resource,),
            resource_names=None if name is None else (name,),
        )
    for url, verb in product(rule.non_resource_urls or (), rule.verbs):
        yield PolicyRule(verbs=(verb,), non_resource_urls=(url,))


def _covers(rule: PolicyRule, part: PolicyRule) -> bool:
    if not {ALL, *part.verbs} & set(rule.verbs):
        return False
    if part.non_resource_urls:
        [url] = part.non_resource_urls
        return any(_is_path(held, url) for held in rule.non_resource_urls or ())
    groups, resources = rule.api_groups or (), rule.resources or ()
    [group], [resource] = part.api_groups or (), part.resources or ()
    _, slash, subresource = resource.partition("/")
    if not {ALL, group} & set(groups):
        return False
    if not {ALL, resource, *([f"*/{subresource}"] if slash else [])} & set(resources):
        return False
    names = rule.resource_names or ()
    return not names or bool(part.resource_names and part.resource_names[0] in names)


def describe(missing: Iterable[PolicyRule]) -> list[str]:
    """The missing parts in upstream's words, sorted. Those that differ only in the verb are one
    line."""
    together: dict[tuple[object, ...], PolicyRule] = {}
    for part in missing:
        key = (part.api_groups, part.resources, part.resource_names, part.non_resource_urls)
        found = together.get(key)
        if found is None or part.non_resource_urls:
            together[(*key, part.verbs) if part.non_resource_urls else key] = part
        elif part.verbs[0] not in found.verbs:
            together[key] = replace(found, verbs=found.verbs + part.verbs)
    return sorted({_describe_rule(rule) for rule in together.values()})


def _describe_rule(rule: PolicyRule) -> str:
    fields = (
        ("APIGroups", rule.api_groups),
        ("Resources", rule.resources),
        ("NonResourceURLs", rule.non_resource_urls),
        ("ResourceNames", rule.resource_names),
        ("Verbs", rule.verbs),
    )
    shown = [f"{name}:[{quoted(values)}]" for name, values in fields if values]
    return "{" + ", ".join(shown) + "}"


def quoted(texts: Iterable[str]) -> str:
    """Texts in quotes, as Go shows a list of strings."""
    return " ".join(f'"{text}"' for text in texts)
