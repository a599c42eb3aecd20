"""The objects of priority and fairness. Rules FAIR-7, FAIR-8 (spec/fair_shares.md).

| the object | what the controllers do |
|---|---|
| a FlowSchema | report in the condition Dangling whether its priority level exists |
| one that every cluster has, absent | create it |
| one that every cluster has, with another spec, and `apf.kubernetes.io/autoupdate-spec: "true"` | give it its spec back |

The API server runs them, as upstream. Source: Kubernetes documentation, "API Priority and Fairness"
(Defaults; Maintenance of the Mandatory and Suggested Configuration Objects).
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from refk8s.core.api.conditions import get_condition, transition_time
from refk8s.core.api.request import Request
from refk8s.core.api.resources import (
    FLOW_SCHEMAS,
    PRIORITY_LEVEL_CONFIGURATIONS,
    Resource,
)
from refk8s.core.api.user import API_SERVER
from refk8s.core.context import Instant, timestamp
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import Index, View

AUTO_UPDATE: Final = "apf.kubernetes.io/autoupdate-spec"
DANGLING: Final = "Dangling"
_LEVEL: Final = "level"


def _level_of(schema: Any) -> str:
    return str(schema.spec.priority_level_configuration.name)


def _schemas(view: View, old: Any | None, new: Any | None) -> Iterable[Key]:
    """The schemas of a level that came or went."""
    if old is not None and new is not None:
        return ()
    name = (new if new is not None else old).metadata.name  # type: ignore[union-attr]
    return [one.metadata.name for one in view.indexed(FLOW_SCHEMAS, _LEVEL, name)]


class FlowSchemaStatus(Reconciler):
    """Reconciles the status of one FlowSchema."""

    name = "flow-schema-status"
    user = API_SERVER
    interests = (
        Interest(FLOW_SCHEMAS, own_key),
        Interest(PRIORITY_LEVEL_CONFIGURATIONS, _schemas),
    )
    indexes = (Index(_LEVEL, FLOW_SCHEMAS, lambda schema: (_level_of(schema),)),)

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Decide by the table above."""
        # Observe
        schema = view.get(FLOW_SCHEMAS, key)
        if schema is None:
            return NOTHING
        level = _level_of(schema)
        exists = view.get(PRIORITY_LEVEL_CONFIGURATIONS, level) is not None

        # Decide
        known = get_condition(schema.status.conditions, DANGLING)
        status, reason = ("False", "Found") if exists else ("True", "NotFound")
        end = "and it exists" if exists else "but there is no such object"
        message = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}" {end}'
        if known is not None and (known.status, known.reason, known.message) == (
            status, reason, message,
        ):  # fmt: skip
            return NOTHING

        # Report
        made = _condition(status, reason, message, transition_time(known, status, timestamp(now)))
        others = [one for one in schema.status.conditions or () if one.type != DANGLING]
        body = replace(schema, status=replace(schema.status, conditions=(*others, made)))
        because = "its priority level exists" if exists else "its priority level does not exist"
        return Plan(
            ((Request("update", FLOW_SCHEMAS, "", key, "status", body=body, because=because),),)
        )


def _condition(status: str, reason: str, message: str, since: str | None) -> Any:
    from refk8s.core.api.flowcontrol_v1 import FlowSchemaCondition

    return FlowSchemaCondition(
        type=DANGLING, status=status, reason=reason, message=message, last_transition_time=since
    )


class SuggestedObjects(Reconciler):
    """Reconciles one object of a kind with what every cluster has of it."""

    user = API_SERVER

    def __init__(self, resource: Resource, objects: Iterable[Any]) -> None:
        """`objects`: those of the kind that every cluster has."""
        self.name = f"suggested-{resource.plural}"
        self.interests = (Interest(resource, own_key),)
        self._resource = resource
        self._objects = {one.metadata.name: one for one in objects if one.kind == resource.kind}

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Decide by the table above."""
        # Observe
        wanted = self._objects.get(key)
        found = view.get(self._resource, key)
        if wanted is None:
            return NOTHING

        # Decide
        if found is None:
            because = "every cluster has it"
            request = Request("create", self._resource, "", key, body=wanted, because=because)
        elif found.spec != wanted.spec and _is_ours(found):
            body = replace(found, spec=wanted.spec)
            because = "its annotation says that its spec is kept"
            request = Request("update", self._resource, "", key, body=body, because=because)
        else:
            return NOTHING

        # Act
        return Plan(((request,),))


def _is_ours(found: Any) -> bool:
    """Whether the spec is kept: an administrator may say otherwise. The numbers of an exempt level
    are the administrator's."""
    if getattr(found.spec, "type", "") == "Exempt":
        return False
    return (found.metadata.annotations or {}).get(AUTO_UPDATE) == "true"


def flow_control(objects: Iterable[Any]) -> tuple[Reconciler, ...]:
    """The reconcilers that an API server runs. `objects`: those that every cluster has."""
    known = tuple(objects)
    return (
        FlowSchemaStatus(),
        SuggestedObjects(FLOW_SCHEMAS, known),
        SuggestedObjects(PRIORITY_LEVEL_CONFIGURATIONS, known),
    )
