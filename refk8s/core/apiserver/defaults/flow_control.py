"""Defaults of flow schemas and priority levels. Rule DEF-31 (spec/defaults.md).

Source: Kubernetes API reference (the defaults named with each field).
"""

from typing import Final

from msgspec.structs import replace

from refk8s.core.api.flowcontrol_v1 import (
    ExemptPriorityLevelConfiguration,
    FlowSchema,
    LimitedPriorityLevelConfiguration,
    PriorityLevelConfiguration,
)

PRECEDENCE: Final = 1_000
SHARES: Final = 30
QUEUES, HAND_SIZE, QUEUE_LENGTH_LIMIT = 64, 8, 50


def default_flow_schema(schema: FlowSchema) -> FlowSchema:
    """DEF-31: the matching precedence is 1,000."""
    if schema.spec.matching_precedence:
        return schema
    return replace(schema, spec=replace(schema.spec, matching_precedence=PRECEDENCE))


def default_priority_level(level: PriorityLevelConfiguration) -> PriorityLevelConfiguration:
    """DEF-31: shares, and the queues of a level that queues."""
    spec = level.spec
    limited, exempt = spec.limited, spec.exempt
    fresh = replace(
        spec,
        limited=None if limited is None else _default_limited(limited),
        exempt=None if exempt is None else _default_exempt(exempt),
    )
    return level if fresh == spec else replace(level, spec=fresh)


def _default_limited(
    limited: LimitedPriorityLevelConfiguration,
) -> LimitedPriorityLevelConfiguration:
    shares, lendable = limited.nominal_concurrency_shares, limited.lendable_percent
    response = limited.limit_response
    if response.queuing is not None:
        queuing = response.queuing
        queuing = replace(
            queuing,
            queues=queuing.queues or QUEUES,
            hand_size=queuing.hand_size or HAND_SIZE,
            queue_length_limit=queuing.queue_length_limit or QUEUE_LENGTH_LIMIT,
        )
        response = replace(response, queuing=queuing)
    return replace(
        limited,
        nominal_concurrency_shares=SHARES if shares is None else shares,
        lendable_percent=0 if lendable is None else lendable,
        limit_response=response,
    )


def _default_exempt(exempt: ExemptPriorityLevelConfiguration) -> ExemptPriorityLevelConfiguration:
    return replace(
        exempt,
        nominal_concurrency_shares=exempt.nominal_concurrency_shares or 0,
        lendable_percent=exempt.lendable_percent or 0,
    )
