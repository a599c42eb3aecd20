"""The objects of a list, a watch or a deletecollection: resource, namespace, labels, fields. Rule
LIST-3 (spec/watch_api.md).

Source: Kubernetes documentation, "Labels and Selectors" and "Field Selectors".
"""

from collections.abc import Callable
from typing import Any

from refk8s.core.api import status
from refk8s.core.api.resources import Resource
from refk8s.core.api.selector import FieldSelector, Selector, SelectorError, parse, parse_fields
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.strategy import Strategy, strategy_of
from refk8s.core.memo import remember
from refk8s.core.value import Value

Matches = Callable[[Any], bool]


class Selection(Value, frozen=True, eq=False):
    """Every object below `prefix` for which `matches` is true (None: every object). `name` is set
    if at most the object at `key` can be selected."""

    resource: Resource
    namespace: str
    name: str
    prefix: str
    labels: Selector
    fields: FieldSelector
    matches: Matches | None

    @property
    def key(self) -> str:
        return self.prefix + self.name


@remember(1024)
def select(
    resource: Resource, namespace: str, label_selector: str, field_selector: str
) -> Selection:
    """The selection of these texts. Raises ApiError 400 for an invalid selector, and for a field
    that is not selectable."""
    try:
        labels = parse(label_selector)
        fields = parse_fields(field_selector)
    except SelectorError as error:
        raise ApiError(status.bad_request(str(error))) from None
    strategy = strategy_of(resource)
    tests: list[Matches] = []
    if not labels.is_everything:
        matches_labels = labels.matches
        tests.append(lambda obj: matches_labels(obj.metadata.labels))
    name = ""
    for requirement in fields.requirements:
        key, operator, value = requirement.key, requirement.operator, requirement.value
        reader = strategy.fields.get(key)
        if reader is None:
            raise ApiError(status.bad_request(_unknown_field(strategy, key)))
        if (
            key == "metadata.namespace"
            and operator == "="
            and resource.namespaced
            and namespace in ("", value)
            and value
        ):
            namespace = value
            continue
        if key == "metadata.name" and operator == "=" and value and "/" not in value:
            name = value
        tests.append(_field_test(reader, operator, value))
    prefix = (
        f"{resource.prefix}{namespace}/" if resource.namespaced and namespace else resource.prefix
    )
    if resource.namespaced and not namespace:
        point = ""  # the name alone is not a key
    else:
        point = name
    return Selection(resource, namespace, point, prefix, labels, fields, _all_of(tests))


def _field_test(reader: Callable[[Any], str], operator: str, value: str) -> Matches:
    if operator == "!=":
        return lambda obj: reader(obj) != value
    return lambda obj: reader(obj) == value


def _all_of(tests: list[Matches]) -> Matches | None:
    if not tests:
        return None
    if len(tests) == 1:
        return tests[0]
    return lambda obj: all(test(obj) for test in tests)


def _unknown_field(strategy: Strategy, key: str) -> str:
    if strategy.knows_own_fields:
        return f"field label not supported: {key}"
    return (
        f'{status.show(key)} is not a known field selector: only "metadata.name", '
        '"metadata.namespace"'
    )
