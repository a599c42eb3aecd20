"""The type check of a ValidatingAdmissionPolicy, for its status. Rule POL-15
(spec/admission_policies.md).

The expressions are checked once more with the types of the kinds that the rules name. What is found
are warnings: the policy takes effect nevertheless. Source: Kubernetes documentation, "Validating
Admission Policy" (Type checking).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec.structs import replace

from refk8s.core.api import codec, resources
from refk8s.core.api.admissionregistration_v1 import (
    ExpressionWarning,
    TypeChecking,
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyStatus,
)
from refk8s.core.api.meta_v1 import ManagedFieldsEntry, ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.admission.policies.parameters import Misconfigured, parameter_resource
from refk8s.core.apiserver.apply import managers
from refk8s.core.apiserver.apply.compare import applied_paths
from refk8s.core.apiserver.apply.types import type_of
from refk8s.core.apiserver.custom.definitions import find_custom
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.cel.admission import Environment, variable_types
from refk8s.core.cel.check import CelTypeError, check
from refk8s.core.cel.records import record_type
from refk8s.core.cel.syntax import CelSyntaxError, parse
from refk8s.core.cel.types import DYN, Type
from refk8s.core.context import Context, timestamp

MANAGER: Final = "validatingadmissionpolicy-status"
"""The manager of the status, as upstream's controller is called."""

TYPES_MAX: Final = 10
"""How many kinds are checked."""


def check_types(
    request: Request,
    new: ValidatingAdmissionPolicy,
    old: ValidatingAdmissionPolicy | None,
    store: Reader,
    context: Context,
) -> ValidatingAdmissionPolicy:
    """POL-15: the policy with the warnings about its expressions in its status, if its spec is new.
    A dry run is not checked."""
    if request.options.dry_run or (old is not None and old.spec == new.spec):
        return new
    generation = new.metadata.generation or 1 if old is None else (old.metadata.generation or 0) + 1
    warnings = tuple(warnings_of(new, store))
    status = replace(
        new.status,
        observed_generation=generation,
        type_checking=TypeChecking(expression_warnings=warnings or None),
    )
    entries = managers.encode(_owners(new.metadata.managed_fields, status, context))
    metadata = replace(new.metadata, managed_fields=entries)
    return replace(new, metadata=metadata, status=status)


def _owners(
    entries: Sequence[ManagedFieldsEntry] | None,
    status: ValidatingAdmissionPolicyStatus,
    context: Context,
) -> managers.Managed:
    """The managers, of which one has applied this status."""
    kind = resources.VALIDATING_ADMISSION_POLICIES
    who = managers.owner(MANAGER, managers.APPLY, kind.api_version, "status")
    fields = applied_paths(type_of(kind), {"status": codec.to_tree(status)})
    owned = managers.Owned(fields, kind.api_version, timestamp(context.now))
    return {**managers.decode_or_nobody(entries), who: owned}


def warnings_of(policy: ValidatingAdmissionPolicy, store: Reader) -> Iterator[ExpressionWarning]:
    """What is wrong with each expression for some kind."""
    kinds = [*_kinds(policy, store)]
    try:
        parameters = parameter_resource(policy.spec.param_kind, store)
    except Misconfigured:
        parameters = None
    params = None if parameters is None else declared_type(parameters)
    for place, validation in enumerate(policy.spec.validations or ()):
        at = f"spec.validations[{place}]"
        for field, text in (
            (f"{at}.expression", validation.expression),
            (f"{at}.messageExpression", validation.message_expression or ""),
        ):
            found = "\n".join(_problems(policy, kinds, params, text)) if text else ""
            if found:
                yield ExpressionWarning(field_ref=field, warning=found)


def _problems(
    policy: ValidatingAdmissionPolicy, kinds: list[Resource], params: Type | None, text: str
) -> Iterator[str]:
    """The errors of an expression for each kind for which it has some."""
    for kind in kinds:
        types = variable_types(Environment(), ())
        types["object"] = types["oldObject"] = declared_type(kind)
        if params is not None:
            types["params"] = params
        known: dict[str, Type] = {}
        for variable in policy.spec.variables or ():
            known = {**known, variable.name: _type_or_dyn(variable.expression, types)}
            types["variables"] = Type("kubernetes.variables", fields=known)
        try:
            check(parse(text), types, text)
        except (CelSyntaxError, CelTypeError) as error:
            yield f"{kind.group}/{kind.version}, Kind={kind.kind}: {error}\n"


def _type_or_dyn(text: str, types: dict[str, Type]) -> Type:
    try:
        return check(parse(text), types, text).type
    except (CelSyntaxError, CelTypeError):
        return DYN


def declared_type(resource: Resource) -> Type:
    """The type of the objects of a resource."""
    if not resource.is_custom:
        return record_type(resource.type)
    from refk8s.core.apiserver.custom.rules import type_of
    from refk8s.core.apiserver.custom.schema import schema_of

    found = type_of(schema_of(resource.definition), is_root=True)
    if found.fields is None:
        return found
    fields = {**found.fields, "metadata": record_type(ObjectMeta)}
    return Type(resource.kind, fields=fields, size=len(fields))


def _kinds(policy: ValidatingAdmissionPolicy, store: Reader) -> list[Resource]:
    """The resources that the rules name without wildcards, in the order of their kinds."""
    found: dict[tuple[str, str, str], Resource] = {}
    match: Any = policy.spec.match_constraints
    for rule in (match.resource_rules if match is not None else None) or ():
        groups, versions = rule.api_groups or (), rule.api_versions or ()
        if any("*" in one for one in (*groups, *versions)):
            continue
        for group in sorted(groups):
            for version in sorted(versions):
                for plural in sorted(rule.resources or ()):
                    one = resources.by_path(group, version, plural) or find_custom(
                        group, version, plural, store
                    )
                    if one is not None and len(found) < TYPES_MAX:
                        found[one.group, one.version, one.kind] = one
    return [found[key] for key in sorted(found)]
