"""The account of a pod as text for people. Rule EXPLAIN-2 (spec/explain.md)."""

from collections.abc import Iterator, Sequence

from refk8s.core.context import duration_text
from refk8s.core.explain.pod import (
    BOUND,
    FINISHED,
    FOREIGN,
    GATED,
    NodeAccount,
    Permission,
    PodAccount,
)

NODES_MAX = 50  # rows of each table; the JSON form has all


def pod_text(account: PodAccount) -> str:
    """The account in lines: the answer first, then the nodes that can run the pod, then the
    others."""
    return "\n".join(_lines(account)) + "\n"


def _lines(account: PodAccount) -> Iterator[str]:
    yield f"Pod:        {account.pod}"
    yield f"Scheduler:  {account.scheduler_name}"
    yield f"Priority:   {account.priority}"
    if account.condition:
        yield f"Condition:  {account.condition}"
    yield f"Answer:     {_answer(account)}"
    for one in account.permissions:
        yield f"Permit:     {one.plugin}: {one.answer}{_why(one)}"
    for url in account.extenders:
        yield f"Extender:   {url} is not asked here: it may reject nodes, and add points"
    able = [one for one in account.nodes if not one.refusals]
    unable = [one for one in account.nodes if one.refusals]
    if able:
        yield ""
        yield from _scores(able)
    if unable:
        yield ""
        yield from _refusals(unable)
    if account.candidates:
        yield ""
        yield from _candidates(account)


def _answer(account: PodAccount) -> str:
    best = account.best
    if account.state == FINISHED:
        return "it has finished, and is not scheduled"
    if account.state == FOREIGN:
        return f"no profile has the name {account.scheduler_name}: it is left to another scheduler"
    if account.state == BOUND:
        would = f"{best} would be chosen now" if best else "no other node could run it now"
        if best == account.node:
            would = "it would be chosen again now"
        elif account.message:
            would = f"now: {account.message}"
        return f"it is bound to {account.node}; {would}"
    first = ""
    if account.state == GATED:
        first = f"it waits until its scheduling gates are removed ({', '.join(account.gates)}); "
    waits = [one.plugin for one in account.permissions if one.answer == "wait"]
    if account.is_reserved and waits:
        return f"{best} is reserved for it, and it waits there for {', '.join(waits)}"
    if best:
        return f"{first}{best} would be chosen now"
    return f"{first}{account.message}"


def _why(permission: Permission) -> str:
    reason = f": {permission.reason}" if permission.reason else ""
    if permission.answer != "wait":
        return reason
    return f"{reason} (for {duration_text(permission.timeout_seconds)} at most)"


def _scores(nodes: Sequence[NodeAccount]) -> Iterator[str]:
    """A row for each node: the total, and the points of each plugin times its weight."""
    yield f"Nodes that can run it ({len(nodes)}), with score x weight = points:"
    plugins = [one.plugin for one in nodes[0].points]
    rows = [["NODE", "TOTAL", "PODS", *plugins]]
    for node in nodes[:NODES_MAX]:
        cells = [f"{one.points} x {one.weight} = {one.points * one.weight}" for one in node.points]
        rows.append([node.name, str(node.total), str(node.pods), *cells])
    yield from table(rows)
    yield from _rest(nodes)


def _refusals(nodes: Sequence[NodeAccount]) -> Iterator[str]:
    """A row for each plugin that rejects a node; the first one of a node is the reason that
    FailedScheduling counts."""
    yield f"Nodes that cannot ({len(nodes)}); the first plugin of a node is the one that counts:"
    rows = [["NODE", "PLUGIN", "REASON", "PREEMPTION"]]
    for node in nodes[:NODES_MAX]:
        for number, one in enumerate(node.refusals):
            helps = "may help" if one.resolvable else "does not help"
            name = node.name if number == 0 else ""
            rows.append([name, one.plugin, ", ".join(one.messages), helps])
    yield from table(rows)
    yield from _rest(nodes)


def _candidates(account: PodAccount) -> Iterator[str]:
    yield f"Preemption would delete pods of lower priority on {account.candidates[0].node}:"
    rows = [["NODE", "VICTIMS (PRIORITY)", "VIOLATED BUDGETS"]]
    for one in account.candidates[:NODES_MAX]:
        victims = ", ".join([f"{key} ({priority})" for key, priority in one.victims])
        rows.append([one.node, victims, str(one.violations)])
    yield from table(rows)


def _rest(nodes: Sequence[NodeAccount]) -> Iterator[str]:
    if len(nodes) > NODES_MAX:
        yield f"  and {len(nodes) - NODES_MAX} more (-o json has all)"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns of equal width, indented."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield f"  {'   '.join(cells)}".rstrip()
