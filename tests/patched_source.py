"""Replaces a fragment of a function's source, however the formatter has broken its lines.

The fragment and the source are compared token by token. Comments and line breaks do not count.
The source may have parentheses and trailing commas that the fragment lacks: the formatter adds
them where it breaks a line.
"""

import io
import textwrap
import tokenize

IGNORED = {
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.COMMENT,
    tokenize.ENDMARKER,
}
ADDED = ("(", ")", ",")


def tokens(text: str) -> list[tokenize.TokenInfo]:
    """The tokens of a text that need not be complete: it may end inside parentheses."""
    found = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type not in IGNORED:
                found.append(token)
    except (tokenize.TokenError, IndentationError):
        pass
    return found


def end_of_match(source: list[str], start: int, fragment: list[str]) -> int | None:
    """The index of the last token that matches, if the fragment matches from `start`."""
    at, depth = start, 0  # depth: of the parentheses that the fragment lacks
    for i, wanted in enumerate(fragment):
        while at < len(source) and source[at] != wanted and i and source[at] in ADDED:
            depth += {"(": 1, ")": -1, ",": 0}[source[at]]
            at += 1
        if at == len(source) or source[at] != wanted:
            return None
        at += 1
    while depth > 0 and source[at : at + 1] in ([","], [")"]):
        depth -= source[at] == ")"
        at += 1
    return at - 1


def patched(source: str, old: str, new: str) -> str:
    """The source with `new` in place of `old`. Raises ValueError unless `old` occurs once.

    `old` and `new` are lines without the indentation that they share.
    """
    margins = [" " * columns for columns in range(0, 33, 4)]
    found = [margin for margin in margins if source.count(textwrap.indent(old, margin)) == 1]
    if found:
        return source.replace(textwrap.indent(old, found[-1]), textwrap.indent(new, found[-1]))
    all_tokens = tokens(source)
    strings = [token.string for token in all_tokens]
    wanted = [token.string for token in tokens(old.strip())]
    matches = [
        (start, end)
        for start in range(len(strings))
        if (end := end_of_match(strings, start, wanted)) is not None
    ]
    if len(matches) != 1:
        raise ValueError(
            f"the source has {len(matches)} times {old!r}, not once: name another place"
        )
    first, last = (all_tokens[i] for i in matches[0])
    lines = source.splitlines(keepends=True)
    before = "".join(lines[: first.start[0] - 1]) + lines[first.start[0] - 1][: first.start[1]]
    after = lines[last.end[0] - 1][last.end[1] :] + "".join(lines[last.end[0] :])
    row = lines[first.start[0] - 1]
    indent = row[: len(row) - len(row.lstrip())]
    return before + new.strip().replace("\n", "\n" + indent) + after
