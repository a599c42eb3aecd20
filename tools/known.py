#!/usr/bin/env python3
"""Writes the tables of spec/evidence/known.md: for every rule, its evidence. `--check` writes
nothing and only prints whether the page is current.

`--explore SECONDS` searches each of the explorer's models again, with some budgets of faults, each
for at most so long, and writes which were exhausted. Without it that table is not changed. Kinds of
evidence, from the strongest:

    exhausted    a law that applied in a model of the explorer whose states were all examined
    modelled     named by a formal model (spec/formal/*.qnt)
    simulated    a law that checks every step, or the end, of every simulated run
    drawn        named by a test whose inputs are drawn
    examples     named by a test of chosen inputs

The name of a rule does not show which of its clauses is tested. So tests also name clauses,
`API-16.b`: the second sentence, bullet or row of a table of the rule. If a clause of a rule is
named anywhere, the page lists all clauses of the rule, and which of them no test names.
"""

import argparse
import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from rule_index import CLAUSE, EVIDENCE, HEADING, cited_in, clauses, pages, statements  # noqa: E402

PAGE = EVIDENCE / "known.md"
SEARCHED = (
    "<!-- what was searched, by tools/known.py --explore -->",
    "<!-- so far the searches -->",
)
RULES = ("<!-- rules, by tools/known.py -->", "<!-- so far the rules -->")
BUDGETS: tuple[dict[str, int], ...] = (
    {},
    {"crash": 1},
    {"lose": 1},
    {"duplicate": 1},
    {"cut": 1, "compact": 1},
)
WAYS = ("exhausted", "modelled", "simulated", "drawn", "examples")


def rules() -> dict[str, list[str]]:
    """Every rule, by page, in the order of the pages."""
    found = {}
    for page in pages():
        if here := [rule for rule, _, _ in HEADING.findall(page.read_text())]:
            found[str(page.relative_to(ROOT / "spec"))] = here
    return found


def texts_of_tests() -> Iterator[str]:
    """The source of every test function and state machine."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        text = path.read_text()
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            is_machine = isinstance(node, ast.ClassDef) and any(
                "StateMachine" in ast.unparse(base) for base in node.bases
            )
            if is_machine or (isinstance(node, ast.FunctionDef) and node.name.startswith("test_")):
                yield "\n".join(lines[node.lineno - 1 : node.end_lineno])


def shown_clauses() -> dict[str, set[str]]:
    """For each rule the letters of the clauses that tests name."""
    found: dict[str, set[str]] = defaultdict(set)
    for text in texts_of_tests():
        for rule, letter in CLAUSE.findall(text):
            found[rule].add(letter)
    return found


def table_of_clauses() -> list[str]:
    """Every rule that was read clause by clause, and how many were not."""
    shown, stated = shown_clauses(), {rule: clauses(text) for rule, text in statements().items()}
    several = [rule for rule, parts in stated.items() if len(parts) > 1]
    read = [rule for here in rules().values() for rule in here if rule in shown]
    total = sum(len(stated[rule]) for rule in read)
    count = sum(len(shown[rule] & set(LETTERS[: len(stated[rule])])) for rule in read)
    lines = [
        "", "### Clauses", "",
        f"{len(several)} of {len(stated)} rules have several clauses, "
        f"{sum(len(stated[rule]) for rule in several)} together. "
        f"{len(read)} rules were read clause by clause:",
        f"of their {total} clauses {count} are named by a test, and {total - count} are not. "
        "For every other rule the tables above",
        "say that some of it is tested, and not that all of it is.", "",
        "| clause | named by a test | says |", "|---|---|---|",
    ]  # fmt: skip
    for rule in read:
        for letter, text in zip(LETTERS, stated[rule], strict=False):
            is_shown = "yes" if letter in shown[rule] else "**no**"
            words = LINKED.sub(r"\1", text).replace("|", "/")
            lines.append(f"| {rule}.{letter} | {is_shown} | {words} |")
    return lines


# links of another page, which lead nowhere from here
LINKED = re.compile(r"\[([^\]]+)\]\([^)]+\)")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def tested() -> dict[str, set[str]]:
    """For each rule how the tests that name it get their inputs."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("*.py")):
        text = path.read_text()
        lines = text.splitlines()
        tree = ast.parse(text)
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        machines = [
            node
            for node in classes
            if any("StateMachine" in ast.unparse(base) for base in node.bases)
        ]
        tables = [node for node in tree.body if isinstance(node, (ast.Assign, ast.AnnAssign))]
        for node in tables:  # of cases, which tests go through
            for rule in cited_in("\n".join(lines[node.lineno - 1 : node.end_lineno])):
                found[rule].add("examples")
        for node in ast.walk(tree):
            if node not in machines and not (
                isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
            ):
                continue
            drawn = node in machines or any(
                "given" in ast.unparse(each) or "rule(" in ast.unparse(each)
                for each in node.decorator_list
            )
            begin = min([node.lineno, *[each.lineno for each in node.decorator_list]])
            for rule in cited_in("\n".join(lines[begin - 1 : node.end_lineno])):
                found[rule].add("drawn" if drawn else "examples")
    return found


def ways() -> dict[str, set[str]]:
    """For each rule all its evidence."""
    from refk8s.core.properties import laws

    found = tested()
    for law in laws.all_laws():
        found[law.rule].add("simulated")
    for path in sorted((ROOT / "spec/formal").glob("*.qnt")):
        for rule in cited_in(path.read_text().partition("\nmodule ")[2]):
            found[rule].add("modelled")
    for rule in exhausted():
        found[rule].add("exhausted")
    return found


def exhausted() -> set[str]:
    """The rules that were checked in an exhaustive search, by the table of searches."""
    rows = [
        line for line in part(PAGE.read_text(), SEARCHED).splitlines() if "| exhausted |" in line
    ]
    return {rule for row in rows for rule in cited_in(row)}


def search(seconds: float) -> str:
    """The table of searches, computed again."""
    from refk8s.checking.explorer.models import MODELS
    from refk8s.checking.explorer.search import BROKE, HELD, Bounds, explore

    said = {HELD: "exhausted", BROKE: "**a rule broke**"}
    lines = [
        "| model | faults | outcome | states | depth | seconds of CPU | rules put to the test |",
        "|---|---|---|--:|--:|--:|---|",
    ]
    for name in sorted(MODELS):
        for budget in BUDGETS:
            result = explore(MODELS[name](), Bounds(budget, seconds=seconds))
            faults = ", ".join(f"{fault} {count}" for fault, count in budget.items()) or "none"
            rules = ", ".join(sorted(result.tested))
            figures = f"{result.states:,} | {result.depth} | {result.cpu_seconds:.1f}"
            lines.append(
                f"| {name} | {faults} | {said.get(result.verdict, 'UNDETERMINED')} | "
                f"{figures} | {rules} |"
            )
            print(lines[-1][:100], flush=True)
    return "\n".join(lines)


def part(text: str, marks: tuple[str, str]) -> str:
    """The text between two marks of the page."""
    return text.split(marks[0])[1].split(marks[1])[0]


def put(text: str, marks: tuple[str, str], new: str) -> str:
    """The page with another text between two marks."""
    return text.replace(
        f"{marks[0]}{part(text, marks)}{marks[1]}", f"{marks[0]}\n{new}\n{marks[1]}"
    )


def table() -> str:
    """The generated part of the page."""
    found = ways()
    totals = dict.fromkeys(WAYS, 0)
    lines = []
    for page, here in rules().items():
        lines += ["", f"### [{page.removesuffix('.md')}](../{page})", ""]
        lines += ["| rule | " + " | ".join(WAYS) + " |", "|---" * (len(WAYS) + 1) + "|"]
        for rule in here:
            lines.append(
                f"| {rule} | "
                + " | ".join("yes" if way in found[rule] else "" for way in WAYS)
                + " |"
            )
            for way in WAYS:
                totals[way] += way in found[rule]
    count = sum(len(here) for here in rules().values())
    only = sum(1 for here in rules().values() for rule in here if found[rule] == {"examples"})
    head = [
        f"Of {count} rules:", "", "| known by | rules |", "|---|---|", *[f"| {way} | {totals[way]} |" for way in WAYS],
        f"| examples only | {only} |",
    ]  # fmt: skip
    return "\n".join([*head, *lines, *table_of_clauses()])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit with 1 where the page is not current",
    )
    parser.add_argument(
        "--explore",
        type=float,
        metavar="SECONDS",
        help="search the models anew, each for so long at most",
    )
    arguments = parser.parse_args()
    if arguments.explore:
        found = search(arguments.explore)
        PAGE.write_text(put(PAGE.read_text(), SEARCHED, found))
    text = PAGE.read_text()
    wanted = put(text, RULES, table())
    if arguments.check:
        if text != wanted:
            print("spec/evidence/known.md is not current: run tools/known.py")
        return 0 if text == wanted else 1
    if text != wanted:
        PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
