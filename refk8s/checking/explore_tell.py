"""An explored history told line by line: who heard what, who asked for what, what became of it."""

from collections.abc import Iterator
from typing import Any

from refk8s.checking.explore_moves import ROW, Move, Moves, State
from refk8s.core.context import SECOND


def tell(moves: Moves, history: list[tuple[State, Move]]) -> Iterator[str]:
    """A line for each move."""
    for number, (state, move) in enumerate(history, 1):
        if move:
            passed = (state[0] - moves.model.start) / SECOND
            yield f"{number:4d}. {passed:8.3f} s  {_words(moves, state, move)}"


def _words(moves: Moves, state: State, move: Move) -> str:
    parts = moves.parts
    kind = move[0]
    if kind == "elapse":
        return f"time passes until {(move[1] - moves.model.start) / SECOND:.3f} s"
    if kind in ("user", "environment"):
        _, answer, _ = parts.decide(state[ROW], move[1], state[0])
        who = "the user" if kind == "user" else "somebody outside"
        return f"{who}: {_request(parts.values[move[1]])} -> {_answer(parts.values[answer])}"
    if kind == "compact":
        return "FAULT the store forgets all changes up to now"
    if kind == "restart server":
        return "FAULT the API server restarts: every connection breaks"
    who = parts.names[move[1]]
    if kind in ("arrive", "orphan", "duplicate"):
        request = move[2] if kind == "orphan" else move[2][2]
        _, answer, _ = parts.decide(state[ROW], request, state[0])
        note = {"orphan": " (its sender does not wait for it any more)", "duplicate": " FAULT once more than it was sent"}.get(kind, "")
        return f"the API server: {_request(parts.values[request])} of {who}{note} -> {_answer(parts.values[answer])}"
    if kind == "open":
        return f"{who} begins to watch {parts.values[move[2][2]].resource.plural}"
    if kind == "answer":
        return f"{who} hears {_answer(parts.values[move[2][3]])} of its {_request(parts.values[move[2][2]])}"
    if kind == "notify":
        what = parts.values[move[2][1]].resource.plural
        return f"{who} hears of {move[3]} change{'s' if move[3] > 1 else ''} of {what}{_changes(moves, state, move)}"
    if kind == "operate":
        return f"the runtime of {who}: {type(parts.values[move[2][1]]).__name__}"
    if kind == "wake":
        return f"the timer of {who} goes off"
    if kind == "crash":
        return f"FAULT {who} crashes and starts again"
    if kind == "cut":
        return f"FAULT the watch of {parts.values[move[2][1]].resource.plural} of {who} breaks off"
    if kind == "disturb":
        return f"FAULT on the node of {who}: {move[2]} {move[3]}"
    request = move[2] if kind == "lose orphan" else move[2][2]
    return f"FAULT {kind}: {_request(parts.values[request])} of {who}"


def _changes(moves: Moves, state: State, move: Move) -> str:
    parts = moves.parts
    stream = parts.values[move[2][1]]
    shelf = parts.book.shelf(parts.rows[state[ROW]], parts.book.place(stream.resource.prefix))
    history = parts.book.shelves[shelf].history
    if move[2][2] < history.compacted:
        return ": they are compacted (410)"
    told = [f"{'-' if c.record is None else '+' if c.previous is None else '~'}{c.key.rsplit('/', 1)[-1]}"
            for c in history.changes(stream.prefix, move[2][2], move[3])]  # fmt: skip
    return f": {' '.join(told)}" if told else ""


def _request(request: Any) -> str:
    part = f"/{request.subresource}" if request.subresource else ""
    because = f" ({request.because})" if request.because else ""
    return f"{request.verb} {request.resource.kind}{part} {request.name}{because}".rstrip()


def _answer(response: Any) -> str:
    if response is None:
        return "nothing"
    reason = getattr(response.body, "reason", None)
    return f"{response.code} {reason}" if isinstance(reason, str) and not response.ok else str(response.code)

