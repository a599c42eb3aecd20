"""A model of the kernel in Python: what happens to a packet under the programmed rules. Rules
NET-2, NET-11 to NET-15, NET-21, NET-24.

`Programmed` is the state of the kernel: elements by map, and chains. `apply` and `load` are as
strict as the kernel: a transaction fails if it deletes an absent element, adds an existing one, or
refers to a chain that does not exist. So the properties check rules for any services and slices
without a kernel. `tests/integration/test_rules_kernel.py` compares the kernel with this model.
"""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from immutables import Map

from refk8s.core.machine import Impossible
from refk8s.core.network.nftables import (
    CLUSTER,
    DROP,
    INSIDE,
    INSIDE_FIRST,
    LOCAL,
    MARK_FIRST,
    OUTSIDE,
    REFUSE,
    SIX,
    Change,
    Element,
    Picker,
    key_of,
)
from refk8s.core.ports import Target
from refk8s.core.value import Value, field

Sticky: TypeAlias = Map[str, int]
"""The entries that packets have added: client and front -> id of a target. The kernel removes them
after the timeout."""

NO_STICKY: Sticky = Map()

SENT, REFUSED, DROPPED, PASSES = "sent", "refused", "dropped", "passes"


class Packet(Value, frozen=True):
    """The first packet of a connection, as the node receives it. `to_node`: it is sent to one of
    the node's own addresses; `from_node`: from one of them."""

    source: str
    destination: str
    protocol: str
    port: int
    from_node: bool = False
    to_node: bool = False


class Verdict(Value, frozen=True):
    """What happens to a packet: SENT to the target, with the node's address as the source if
    `masquerade`; REFUSED; DROPPED; or PASSES unchanged."""

    kind: str
    target: Target | None = None
    masquerade: bool = False


class Programmed(Value, frozen=True):
    """The rules in the kernel."""

    pods: IPv4Network
    pods6: IPv6Network | None = None
    pickers: Map[str, Picker] = field(default_factory=Map)  # by key
    maps: Map[str, Map[str, str]] = field(default_factory=Map)

    def look_up(self, map: str, key: str) -> str | None:
        return self.maps.get(map, _EMPTY).get(key)

    def is_pod(self, address: str) -> bool:
        """Whether it is an address of a pod of this node."""
        if ":" in address:
            return self.pods6 is not None and ip_address(address) in self.pods6
        return ip_address(address) in self.pods


_EMPTY: Map[str, str] = Map()


def load(programmed: Programmed, change: Change) -> Programmed:
    """A complete load: it replaces everything (NET-11)."""
    return apply(Programmed(programmed.pods, programmed.pods6), change)


def apply(programmed: Programmed, change: Change) -> Programmed:
    """The transaction. Raises Impossible if the kernel would reject it."""
    pickers = programmed.pickers.update({picker.key: picker for picker in change.pickers})
    for picker in change.pickers:
        if picker.kind == LOCAL and picker.inside and picker.within.key not in pickers:
            raise Impossible(
                f"the chain {picker.name} goes to {picker.within.name}, which does not exist"
            )
    maps = programmed.maps
    for element in change.removed:
        maps = _without(maps, element)
    for element in change.added:
        maps = _with(maps, element, pickers)
    for picker in change.idle:
        pickers = pickers.delete(picker.key)
    _check_chains(maps, pickers, change.idle)
    return Programmed(programmed.pods, programmed.pods6, pickers, maps)


def _check_chains(
    maps: Map[str, Map[str, str]], pickers: Map[str, Picker], idle: tuple[Picker, ...]
) -> None:
    """Raise Impossible if a chain was deleted to which something goes."""
    gone = {picker.key for picker in idle}
    for picker in pickers.values() if gone else ():
        if picker.kind == LOCAL and picker.inside and picker.within.key in gone:
            raise Impossible(f"the chain {picker.name} goes to {picker.within.name}")
    for map, entries in maps.items() if gone else ():
        six = SIX if map.startswith(SIX) else ""
        for value in entries.values():
            if value.startswith("goto ") and six + value.removeprefix("goto ") in gone:
                raise Impossible(f"{map} has {value!r}, and the chain is deleted")


def _without(maps: Map[str, Map[str, str]], element: Element) -> Map[str, Map[str, str]]:
    map, key, value = element
    entries = maps.get(map, _EMPTY)
    if entries.get(key) != value:
        raise Impossible(f"{map} has {entries.get(key)!r} and not {value!r} at {key}")
    entries = entries.delete(key)
    return maps.set(map, entries) if entries else maps.delete(map)


def _with(
    maps: Map[str, Map[str, str]], element: Element, pickers: Map[str, Picker]
) -> Map[str, Map[str, str]]:
    map, key, value = element
    entries = maps.get(map, _EMPTY)
    if key in entries:
        raise Impossible(f"{map} has {entries[key]!r} at {key} already")
    six = SIX if map.startswith(SIX) else ""
    if value.startswith("goto ") and value != REFUSE:
        chain = six + value.removeprefix("goto ")
        if chain not in pickers:
            raise Impossible(f"{value!r}: there is no such chain")
    return maps.set(map, entries.set(key, value))


def route(
    programmed: Programmed, packet: Packet, number: int, sticky: Sticky = NO_STICKY
) -> tuple[Verdict, Sticky]:
    """The verdict on a packet if the kernel chooses this random number."""
    six = SIX if ":" in packet.destination else ""
    front, prefix = key_of((packet.destination, packet.protocol, packet.port)), six
    if not _is_allowed(programmed, front, packet.source):
        return Verdict(DROPPED), sticky
    verdict = programmed.look_up(f"{six}services", front)
    if verdict is None and packet.to_node and packet.destination != "::1":
        front, prefix = key_of(("", packet.protocol, packet.port)), f"{six}node_"
        verdict = programmed.look_up(f"{six}node_ports", front)
    if verdict is None:
        return Verdict(PASSES), sticky
    if verdict == REFUSE:
        return Verdict(REFUSED), sticky
    if verdict == DROP:
        return Verdict(DROPPED), sticky
    picker = programmed.pickers[six + verdict.removeprefix("goto ")]
    from_pod = programmed.is_pod(packet.source)
    if picker.kind == LOCAL and picker.inside and (from_pod or packet.from_node):
        picker = programmed.pickers[picker.within.key]
    if not picker.count:
        return Verdict(DROPPED), sticky
    target, sticky = _pick(
        programmed, picker, prefix, front, f"{packet.source} . {front}", number, sticky
    )
    if target is None:
        return Verdict(DROPPED), sticky
    masquerade = picker.kind == OUTSIDE or (picker.kind in (CLUSTER, INSIDE) and not from_pod)
    hairpin = programmed.look_up(f"{six}hairpin", f"{packet.source} . {target.address}") is not None
    return Verdict(SENT, target, masquerade or hairpin), sticky


def _is_allowed(programmed: Programmed, front: str, source: str) -> bool:
    """Whether a client may use a front that may be restricted (NET-21). O(ranges); the kernel's
    sets of intervals are faster."""
    six = SIX if ":" in source else ""
    if programmed.look_up(f"{six}restricted", front) is None:
        return True
    return any(
        key.startswith(f"{front} . ")
        and ip_address(source) in ip_network(key.removeprefix(f"{front} . "))
        for key in programmed.maps.get(f"{six}allowed", _EMPTY)
    )


def _pick(
    programmed: Programmed,
    picker: Picker,
    prefix: str,
    front: str,
    client: str,
    number: int,
    sticky: Sticky,
) -> tuple[Target | None, Sticky]:
    """What the chain of the picker does, line by line (`nft_script.picker_lines`)."""
    first = MARK_FIRST + (INSIDE_FIRST if picker.kind == INSIDE else 0)
    mark = first + number % picker.count
    if not picker.affinity_seconds:
        found = programmed.look_up(f"{prefix}endpoints", f"{front} . {mark}")
        return _target(
            found or programmed.look_up(f"{prefix}endpoints", f"{front} . {first}")
        ), sticky
    held = sticky.get(client)
    if held is not None:
        found = programmed.look_up(prefix + "by_id", f"{front} . {held}")
        if found is not None:
            return _target(found), sticky
        sticky = sticky.delete(client)
    id = programmed.look_up(prefix + "ids", f"{front} . {mark}")
    if id is None:
        return None, sticky
    return _target(programmed.look_up(prefix + "by_id", f"{front} . {id}")), sticky.set(
        client, int(id)
    )


def _target(text: str | None) -> Target | None:
    if text is None:
        return None
    address, _, port = text.partition(" . ")
    return Target(address, int(port))
