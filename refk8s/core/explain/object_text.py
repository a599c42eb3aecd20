"""The account of an object as text for people. Rule EXPLAIN-3 (spec/explain.md)."""

from collections.abc import Iterator, Sequence

from refk8s.core.explain.object import EventShown, ObjectAccount, Write
from refk8s.core.explain.pod_text import table

FIELDS_MAX = 60  # of one write; the JSON form has all


def object_text(account: ObjectAccount) -> str:
    """The account in lines: what it is, for whom, who wrote what, conditions, Events, history."""
    return "\n".join(_lines(account)) + "\n"


def _lines(account: ObjectAccount) -> Iterator[str]:
    yield f"Object:      {account.kind} {account.key} ({account.api_version})"
    yield f"Created:     {account.created_at}, uid {account.uid}"
    yield f"Version:     {account.resource_version}" + (
        f", generation {account.generation}" if account.generation else ""
    )
    if account.deletion:
        yield f"Deletion:    {account.deletion}"
    for owner in account.owners:
        role = "controlled by" if owner.is_controller else "owned by"
        missing = "" if owner.is_found else " (it does not exist)"
        yield (
            f"{'Owner:' if owner.depth == 1 else '':<13}{'  ' * (owner.depth - 1)}{role} "
            f"{owner.kind} {owner.name}{missing}"
        )
    if account.writes:
        yield ""
        yield "Writes, the latest first (who, how, when, and the fields that it owns since):"
        for write in account.writes:
            yield from _write(write)
    if account.conditions:
        yield ""
        yield "Conditions:"
        rows = [["SINCE", "TYPE", "STATUS", "REASON", "MESSAGE"]]
        rows += [
            [one.since, one.type, one.status, one.reason, one.message] for one in account.conditions
        ]
        yield from table(rows)
    if account.events:
        yield ""
        yield "Events:"
        yield from _events(account.events, "")
    if account.history:
        yield ""
        yield "History:"
        for step in account.history:
            yield f"  {step.revision}  {step.lines[0]}"
            for line in step.lines[1:]:
                yield f"      {line}"
    if account.story:
        yield ""
        yield "Story:"
        for line in account.story:
            yield f"  {line}"


def _write(write: Write) -> Iterator[str]:
    part = f" of {write.subresource}" if write.subresource else ""
    yield f"  {write.time}  {write.manager} ({write.operation}{part})"
    for field in write.fields[:FIELDS_MAX]:
        yield f"      {field.path}" + (f" = {field.value}" if field.value else "")
    if len(write.fields) > FIELDS_MAX:
        yield f"      and {len(write.fields) - FIELDS_MAX} more (-o json has all)"
    if write.events:
        yield "      at that time:"
        yield from _events(write.events, "      ")


def _events(events: Sequence[EventShown], indent: str) -> Iterator[str]:
    rows = [
        [one.time, f"x{one.count}" if one.count > 1 else "", one.source, one.reason, one.message]
        for one in events
    ]
    for line in table(rows):
        yield f"{indent}{line}"
