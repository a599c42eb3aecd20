"""The parameters of a binding. Rule POL-7 (spec/admission_policies.md).

Source: Kubernetes documentation, "Validating Admission Policy" (Parameter resources); API
reference, "ParamRef".
"""

from __future__ import annotations

from typing import Any

from refk8s.core.api.admissionregistration_v1 import ParamKind, ParamRef
from refk8s.core.api.resources import Resource, by_kind
from refk8s.core.api.selector import SelectorError, from_label_selector
from refk8s.core.apiserver.custom.definitions import custom_resources
from refk8s.core.apiserver.outcome import Reader


class Misconfigured(Exception):
    """A policy or binding cannot be evaluated. The message says why."""


def parameter_resource(kind: ParamKind | None, store: Reader) -> Resource | None:
    """The resource of a policy's kind of parameters; None if it has none. Raises Misconfigured if
    it is not served. O(definitions) for a custom one."""
    if kind is None:
        return None
    version, name = kind.api_version or "", kind.kind or ""
    found = by_kind(version, name)
    if found is not None:
        return found
    for one in custom_resources(store):
        if one.api_version == version and one.kind == name:
            return one
    words = "failed to find resource referenced by paramKind"
    raise Misconfigured(f"{words}: '{version}, Kind={name}'")


def find_parameters(
    kind: ParamKind | None,
    resource: Resource | None,
    ref: ParamRef | None,
    namespace: str,
    store: Reader,
) -> tuple[Any, ...]:
    """The parameters with which a policy is evaluated for a binding; None stands for none.

    An empty result means that the binding does not apply. `namespace`: that of the request. Raises
    Misconfigured, also if there are no parameters and the binding denies that.
    """
    if kind is None or ref is None:
        return (None,)
    assert resource is not None
    if ref.namespace and not resource.namespaced:
        raise Misconfigured(
            "paramRef.namespace must not be provided for a cluster-scoped `paramKind`"
        )
    where = ""
    if resource.namespaced:
        where = ref.namespace or namespace
        if not where:
            raise Misconfigured(
                "cannot use namespaced paramRef in policy binding that matches "
                "cluster-scoped resources"
            )
    found = (
        _named(resource, ref.name, where, store)
        if ref.name
        else _selected(resource, ref, where, store)
    )
    if not found and ref.parameter_not_found_action == "Deny":
        raise Misconfigured(
            "no params found for policy binding with `Deny` parameterNotFoundAction"
        )
    return found


def _named(resource: Resource, name: str, where: str, store: Reader) -> tuple[Any, ...]:
    record = store.get(resource.key(where, name))
    return () if record is None else (record.value,)


def _selected(resource: Resource, ref: ParamRef, where: str, store: Reader) -> tuple[Any, ...]:
    try:
        selector = from_label_selector(ref.selector)
    except SelectorError as error:
        raise Misconfigured(str(error)) from None
    prefix = f"{resource.prefix}{where}/" if where else resource.prefix
    return tuple(
        [
            record.value
            for record in store.list(prefix).records
            if selector.matches(record.value.metadata.labels)
        ]
    )
