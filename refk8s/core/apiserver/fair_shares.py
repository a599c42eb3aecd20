"""Which flow a request belongs to, and how many seats each priority level has by its shares. Rules
FAIR-1 to FAIR-3, FAIR-6 (spec/fair_shares.md).

    FlowSchema                    requests -> a flow (its distinguisher) of a priority level
    PriorityLevelConfiguration    a level -> seats, and queues for what finds none

Source: Kubernetes documentation, "API Priority and Fairness".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from math import ceil, floor
from typing import Any, Final

from refk8s.core.api import resources
from refk8s.core.api.user import SERVICE_ACCOUNT_PREFIX, User
from refk8s.core.apiserver.borrowing import Bounds
from refk8s.core.apiserver.config import Attributes
from refk8s.core.value import Value

SEATS: Final = 600
"""How many requests may run at once in all levels: upstream's limits for reads and writes
together."""

ANY: Final = "*"
KINDS: Final = (resources.FLOW_SCHEMAS, resources.PRIORITY_LEVEL_CONFIGURATIONS)


WIDTH_MAX: Final = 10
OBJECTS_A_SEAT: Final = 100
_LEVEL_PART: Final = 0.15


class Level(Value, frozen=True):
    """A priority level. An exempt one has no bounds; without `queues`, what finds no seat is
    refused. `width_max`: the most seats that one of its requests takes."""

    name: str
    uid: str
    bounds: Bounds = Bounds(0, 0, 0)
    is_exempt: bool = False
    queues: int = 0
    hand_size: int = 0
    queue_length: int = 0
    width_max: int = WIDTH_MAX


class Flow(Value, frozen=True):
    """The flow of a request: the uid and the name of its schema, its level, and the numbers of the
    queues in which it may wait."""

    schema_uid: str
    level: Level
    hand: tuple[int, ...] = ()
    schema_name: str = ""


class Shares(Value, frozen=True, eq=False):
    """The schemas in the order of their precedence, and all levels by name."""

    schemas: tuple[tuple[Any, Level], ...]
    levels: Mapping[str, Level]

    def flow_of(self, attributes: Attributes) -> Flow | None:
        """The flow of a request (FAIR-1); None if no schema matches. O(schemas)."""
        for schema, level in self.schemas:
            if any(_matches(rule, attributes) for rule in schema.spec.rules or ()):
                flow = _distinguished(schema, attributes)
                uid, name = schema.metadata.uid or "", schema.metadata.name or ""
                return Flow(uid, level, _hand(schema, level, flow), name)
        return None


def compile_shares(objects: Sequence[Sequence[Any]]) -> Shares:
    """The shares of all flow schemas and priority levels."""
    schemas, configurations = objects
    nominal = _seats(configurations)
    levels = {one.metadata.name: _level(one, nominal) for one in configurations}
    ordered = sorted(
        schemas, key=lambda one: (one.spec.matching_precedence, str(one.metadata.name))
    )
    known = [
        (one, levels[one.spec.priority_level_configuration.name])
        for one in ordered
        if one.spec.priority_level_configuration.name in levels
    ]
    return Shares(tuple(known), levels)


def _shares_of(configuration: Any) -> int:
    spec = configuration.spec
    part = spec.exempt if spec.type == "Exempt" else spec.limited
    return (part.nominal_concurrency_shares or 0) if part is not None else 0


def _seats(configurations: Iterable[Any]) -> dict[str, int]:
    """The nominal seats of each level: its share of all, at least the part of one (FAIR-2)."""
    listed = list(configurations)
    total = sum(map(_shares_of, listed)) or 1
    return {one.metadata.name: ceil(SEATS * _shares_of(one) / total) for one in listed}


def _level(configuration: Any, nominal: dict[str, int]) -> Level:
    name, uid = configuration.metadata.name, configuration.metadata.uid or ""
    limited, exempt = configuration.spec.limited, configuration.spec.exempt
    if configuration.spec.type == "Exempt" or limited is None:
        lendable = (exempt.lendable_percent or 0) if exempt is not None else 0
        return Level(name, uid, _bounds(nominal[name], lendable, None), is_exempt=True)
    bounds = _bounds(nominal[name], limited.lendable_percent or 0, limited.borrowing_limit_percent)
    queuing = limited.limit_response.queuing
    if limited.limit_response.type != "Queue" or queuing is None:
        return Level(name, uid, bounds)
    hand_size = min(queuing.hand_size, queuing.queues)
    width_max = min(ceil(_LEVEL_PART * bounds.nominal), bounds.nominal // (hand_size or 1))
    return Level(
        name,
        uid,
        bounds,
        queues=queuing.queues,
        hand_size=hand_size,
        queue_length=queuing.queue_length_limit,
        width_max=max(1, min(WIDTH_MAX, width_max)),
    )


def _bounds(nominal: int, lendable: int, borrowed: int | None) -> Bounds:
    """The bounds of these nominal seats, by percentages of what is lent and borrowed."""
    most = SEATS if borrowed is None else floor(nominal * borrowed / 100 + 0.5)
    return Bounds(nominal, nominal - floor(nominal * lendable / 100 + 0.5), nominal + most)


def compute_width(stored: int, level: Level, is_single: bool) -> int:
    """The seats that a list takes (FAIR-6). `stored`: how many objects of the resource there are;
    `is_single`: whether the list names one of them."""
    if is_single:
        return 1
    return max(1, min(level.width_max, -(-stored // OBJECTS_A_SEAT)))


# --- which requests


def _matches(rule: Any, attributes: Attributes) -> bool:
    """Whether the user is a subject of the rule, and the request one of its requests."""
    if not any(_is_subject(one, attributes.user) for one in rule.subjects):
        return False
    if attributes.path:
        return any(_is_path(one, attributes) for one in rule.non_resource_rules or ())
    return any(_is_resource(one, attributes) for one in rule.resource_rules or ())


def _is_subject(subject: Any, user: User) -> bool:
    match subject.kind:
        case "User":
            return bool(subject.user is not None and subject.user.name in (ANY, user.name))
        case "Group":
            name = subject.group.name if subject.group is not None else ""
            return name == ANY or name in user.groups
        case "ServiceAccount":
            account = subject.service_account
            if account is None:
                return False
            prefix = f"{SERVICE_ACCOUNT_PREFIX}{account.namespace}:"
            if account.name == ANY:
                return user.name.startswith(prefix)
            return bool(user.name == prefix + account.name)
    return False


def _has(values: Iterable[str], value: str) -> bool:
    return any(one in (ANY, value) for one in values)


def _is_path(rule: Any, attributes: Attributes) -> bool:
    path = attributes.path
    return _has(rule.verbs, attributes.verb) and any(
        one in (ANY, path) or (one.endswith("/*") and path.startswith(one[:-1]))
        for one in rule.non_resource_urls
    )


def _is_resource(rule: Any, attributes: Attributes) -> bool:
    part = attributes.subresource
    name = f"{attributes.resource}/{part}" if part else attributes.resource
    if not (
        _has(rule.verbs, attributes.verb)
        and _has(rule.api_groups, attributes.group)
        and _has(rule.resources, name)
    ):
        return False
    if not attributes.namespace:
        return bool(rule.cluster_scope)
    return _has(rule.namespaces or (), attributes.namespace)


# --- which queue


def _distinguished(schema: Any, attributes: Attributes) -> str:
    """What tells the flows of a schema apart."""
    method = schema.spec.distinguisher_method
    match "" if method is None else method.type:
        case "ByUser":
            return attributes.user.name
        case "ByNamespace":
            return attributes.namespace
    return ""


def _hand(schema: Any, level: Level, flow: str) -> tuple[int, ...]:
    """The queues that are dealt to a flow, by a hash of it: different ones (FAIR-3)."""
    if not level.queues:
        return ()
    seed = blake2b(f"{schema.metadata.name}\0{flow}".encode("utf-8", "surrogatepass")).digest()
    left, number = list(range(level.queues)), int.from_bytes(seed, "big")
    hand = []
    for _ in range(level.hand_size):
        number, place = divmod(number, len(left))
        hand.append(left.pop(place))
    return tuple(hand)
