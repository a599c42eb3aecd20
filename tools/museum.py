"""Searches the museum's bugs, and writes into spec/evidence/museum.md what found each of them, and
after how many steps or examples.

    tools/museum.py                   all of them; writes the page
    tools/museum.py NAME ...          these; prints what was found and writes nothing
    tools/museum.py --check           exit status 1 if the page is not current (figures are not compared)

The table's figures are measured by this run: steps of a simulation and examples of a property are
the same everywhere, seconds are those of this machine's processor.
"""

import platform
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "spec/evidence/museum.md"
BEGIN, END = "<!-- written by tools/museum.py -->", "<!-- end -->"

sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "properties"), str(ROOT / "tests")]

from museum import exhibit as museum  # noqa: E402

Measured = dict[str, list[museum.Found] | None]


def table(found: Measured) -> list[str]:
    """A line for each way in which an exhibit is found. A figure that was not measured is left
    out."""
    lines = [
        "| bug | source | rule broken | found by | after | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, results in found.items():
        one = museum.load(name)
        for number, way in enumerate(one.ways):
            what = f"[{one.title}](#{name}) | [{one.source}]({one.url})" if number == 0 else "... |"
            result = results[number] if results is not None else None
            after, seconds = (
                ("", "")
                if result is None
                else (f"{result.count:,} {result.unit}", f"{result.seconds:.1f}")
            )
            lines.append(f"| {what} | {way.rule} | {way.finder.words} | {after} | {seconds} |")
    return lines


def story(name: str) -> list[str]:
    """The story, its source, and the change that reproduces it here."""
    one = museum.load(name)
    title, _, body = one.story.strip().partition("\n\n")
    lines = [
        f"### {name}",
        "",
        title,
        "",
        body,
        "",
        f'Source: {one.source}, "{one.said}".',
        "",
        "```diff",
    ]
    for change in one.changes:
        lines.append(f"  {change.where}")
        lines += [f"- {line}" for line in change.old.splitlines()] + [
            f"+ {line}" for line in change.new.splitlines()
        ]
    return [*lines, "```", ""]


def page(found: Measured) -> str:
    """The generated part of the page."""
    on = f"Measured with Python {platform.python_version()} on {platform.machine()}, seconds of processor time."
    words = [BEGIN, "", f"{len(found)} bugs. {on}", "", *table(found), "", "## The stories", ""]
    for name in found:
        words += story(name)
    return "\n".join([*words, END])


def without_figures(text: str) -> str:
    """The page without what a machine measures."""
    return re.sub(r"\| [\d,]* ?\w* \| [\d.]* \|\n", "|\n", re.sub(r"Measured with.*", "", text))


def main() -> int:
    """Run as described at the top of this file."""
    arguments = sys.argv[1:]
    text = PAGE.read_text()
    if arguments == ["--check"]:
        written = text[text.index(BEGIN) : text.index(END) + len(END)]
        if without_figures(written) == without_figures(page(dict.fromkeys(museum.names()))):
            return 0
        print("spec/evidence/museum.md is not current: run tools/museum.py")
        return 1
    found: Measured = {}
    wrong = 0
    for name in arguments or museum.names():
        one = museum.load(name)
        results = found[name] = []
        for way in one.ways:
            result = one.search(way)
            results.append(result)
            right = bool(result.wrong) and way.is_right(result)
            wrong += not right
            words = f"{result.count} {result.unit}" + (f" (run {result.run})" if result.run else "")
            print(
                f"{'ok ' if right else 'BAD'} {name}: {words}, {result.seconds:.1f} s: {result.wrong[:150]}",
                flush=True,
            )
    if not arguments and not wrong:
        PAGE.write_text(
            text[: text.index(BEGIN)] + page(found) + text[text.index(END) + len(END) :]
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
