"""The house tests itself: what its source must look like. Every message names the way out."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import museum.exhibit as museum
import pytest
from patched_source import patched

from refk8s.core.properties import laws
from refk8s.core.properties.law import Law

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests/formal")]
import rule_index  # noqa: E402

CORE = sorted((ROOT / "refk8s/core").rglob("*.py"))
SOURCES = sorted((ROOT / "refk8s").rglob("*.py"))

PURE = {
    "__future__", "abc", "base64", "binascii", "bisect", "builtins", "collections", "copy", "dataclasses", "datetime", "decimal", "enum",
    "fractions", "functools", "hashlib", "hmac", "heapq", "html", "importlib", "ipaddress", "itertools", "json", "math", "operator", "re", "string",
    "struct", "textwrap", "types", "typing", "unicodedata", "urllib", "zlib",
    "attrs", "immutables", "msgspec", "re2", "sortedcontainers", "refk8s",
    "cronsim", "zoneinfo",  # the calendar, and the rules of time zones, which are constants
}  # fmt: skip

# Who may import whom: a package's number must not be smaller than that of what it imports.
LAYERS = {
    "refk8s.core": 0,
    "refk8s.store": 1,
    "refk8s.adapters": 1,
    "refk8s.checking": 2,
    "refk8s.components": 2,
    "refk8s.cli": 3,
    "refk8s.testing": 3,
}
CORE_LAYERS = {
    "value": 0, "api": 0, "context": 0, "ports": 0,
    "store": 1, "store_port": 1, "machine": 1, "effects": 1,
    "loop": 2,
    "pods": 3, "quota": 3, "cel": 3,
    "apiserver": 4, "controllers": 4, "scheduler": 4, "kubelet": 4, "network": 4, "faults": 4,
    "actions": 4, "components": 5, "cluster": 5,
    "properties": 6,
}  # fmt: skip
SIBLINGS = {"apiserver", "controllers", "scheduler", "kubelet", "network", "faults"}

ADAPTERS = {"docker", "fake", "linux"}
STRANGERS = {(a, b) for a in ADAPTERS for b in ADAPTERS if a != b} - {("docker", "linux")}
"""(an adapter, one that it must not import)."""
CHOOSERS = {
    "refk8s.components.choose_nodes",
    "refk8s.components.this_machine",
    "refk8s.checking.explorer.models",
    "refk8s.checking.simulator.scenario",
}
"""Who chooses an adapter; everything else above the adapters asks through core/ports."""
DOCKER_STRANGERS = {
    ("engine", "pods"), ("engine", "streams"), ("pods", "streams"), ("streams", "pods"),
}  # fmt: skip


def imports(path: Path) -> list[str]:
    """The modules that a file imports, also inside functions; only for typing does not count."""
    found = []
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def layer(module: str) -> int | None:
    return next(
        (
            number
            for prefix, number in LAYERS.items()
            if module == prefix or module.startswith(prefix + ".")
        ),
        None,
    )


def adapter(module: str) -> str | None:
    """The adapter that a module belongs to."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["refk8s", "adapters"] and len(parts) > 2 else None


def docker_part(module: str) -> str | None:
    """The part of the Docker adapter that a module belongs to."""
    parts = module.split(".")
    return parts[3] if parts[:3] == ["refk8s", "adapters", "docker"] and len(parts) > 3 else None


def room(module: str) -> str | None:
    """The room of core that a module lies in."""
    parts = module.split(".")
    return (
        parts[2]
        if parts[:2] == ["refk8s", "core"] and len(parts) > 2 and parts[2] in CORE_LAYERS
        else None
    )


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_imports_only_what_is_pure(path):
    for module in imports(path):
        assert module.split(".")[0] in PURE, (
            f"{module}: the core takes time and chance from core/context.py and leaves I/O to "
            "drivers and adapters"
        )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downward(path):
    here = module_of(path)
    for module in imports(path):
        mine, theirs = layer(here), layer(module)
        if mine is not None and theirs is not None:
            assert theirs <= mine, (
                f"{here} imports {module}: imports go cli, "
                "testing -> components -> adapters, store -> core"
            )
            assert not (mine == theirs == 1 and here.split(".")[1] != module.split(".")[1]), (
                f"{here} imports {module}: store and adapters do not know each other"
            )
            assert (adapter(here), adapter(module)) not in STRANGERS, (
                f"{here} imports {module}: adapters.linux needs no container engine, "
                "adapters.fake nothing of this machine"
            )
            assert (docker_part(here), docker_part(module)) not in DOCKER_STRANGERS, (
                f"{here} imports {module}: in adapters.docker, "
                "pods and streams lie above engine and beside each other"
            )
            assert not (
                layer(here) == LAYERS["refk8s.components"]
                and adapter(module) in ADAPTERS
                and here not in CHOOSERS
            ), f"{here} imports {module}: what it needs of an adapter is a protocol in core/ports"
        if room(here) and room(module):
            assert CORE_LAYERS[room(module)] <= CORE_LAYERS[room(here)], (
                f"{here} imports {module}: look at the order of rooms in ARCHITECTURE.md"
            )
            both = {room(here), room(module)}
            assert not (len(both) == 2 and both <= SIBLINGS), (
                f"{here} imports {module}: siblings never import each other; "
                "what both need belongs below"
            )


PROPERTIES = ROOT / "refk8s/core/properties"
PREDICATES, LAWS = (
    sorted((PROPERTIES / each).glob("[a-z]*.py")) for each in ("predicates", "laws")
)
OF_RUNS = (
    "refk8s.core.actions", "refk8s.core.cluster", "refk8s.core.properties.law",
    "refk8s.core.properties.laws",
)  # fmt: skip


@pytest.mark.parametrize("path", PREDICATES, ids=lambda path: path.name)
def test_predicates_judge_plain_values(path):
    """They know neither the cluster nor its actions, so they judge any recorded history."""
    for module in imports(path):
        assert not any(module == each or module.startswith(f"{each}.") for each in OF_RUNS), (
            f"{path.name} imports {module}: let a law in properties/laws/ select the values"
        )


def test_every_predicate_is_named_after_a_rule_and_laws_have_the_same_nouns():
    assert [path.name for path in PREDICATES] == [path.name for path in LAWS], (
        "properties/predicates/ and properties/laws/ have a file for the same nouns"
    )
    known = set(rules())
    for path in PREDICATES:
        found = re.findall(r"^def ([a-z]+)_(\d+)_\w+", path.read_text(), re.M)
        assert found, f"{path.name} has no predicate: name it after its rule, rs_2_..."
        odd = [f"{a}_{n}" for a, n in found if f"{a.upper()}-{n}" not in known]
        assert not odd, f"{path.name}: no page in spec/ has the rules of {odd}"


def test_every_list_of_laws_is_among_all_laws():
    everything = {id(law) for law in laws.all_laws()}
    for path in LAWS:
        for name, found in vars(getattr(laws, path.stem)).items():
            each = [law for law in found if isinstance(law, Law)] if name.startswith("OF_") else []
            assert {id(law) for law in each} <= everything, f"{path.name}: {name} is not judged by"


CLOCKS_AND_CHANCE = re.compile(
    r"\b(datetime\.now|datetime\.today|utcnow|date\.today|time\.time|uuid4|random\.)"
)


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_reads_no_clock_and_draws_no_number(path):
    found = CLOCKS_AND_CHANCE.search(path.read_text())
    assert not found, f"{found[0]}: take the instant from `now` and chance from core/context.py"


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_iterates_over_no_set_display(path):
    """The order of a set shows the hash seed. This finds the plain cases; the replay test finds the
    rest."""
    for node in ast.walk(ast.parse(path.read_text())):
        iterated = node.iter if isinstance(node, (ast.For, ast.comprehension)) else None
        is_set = isinstance(iterated, (ast.Set, ast.SetComp)) or (
            isinstance(iterated, ast.Call)
            and isinstance(iterated.func, ast.Name)
            and iterated.func.id in ("set", "frozenset")
        )
        assert not is_set, f"{path.name}:{iterated.lineno}: iterate over sorted(...) instead"


STEP_LAWS = (*laws.OF_CHANGES, *laws.OF_REQUESTS, *laws.OF_DECISIONS, *laws.OF_STEPS)

RULE = re.compile(r"^#{2,4} ([A-Z]{2,12}-\d+)\b", re.M)
CITED = re.compile(r"\b([A-Z]{2,12}-\d{1,3})\b")  # not DNS-1123, which is an RFC's label
# a test that keeps several rules names the others in its docstring
NAMED = re.compile(r"test_([a-z]{2,12})_(\d+)_")


def rules() -> list[str]:
    return [rule for page in rule_index.pages() for rule in RULE.findall(page.read_text())]


def citations(paths: list[Path]) -> set[str]:
    text = "\n".join(path.read_text() for path in paths)
    return set(CITED.findall(text)) | {f"{a.upper()}-{n}" for a, n in NAMED.findall(text)}


def test_every_rule_stands_once():
    found = rules()
    assert sorted(set(found)) == sorted(found), (
        f"twice in spec/: {sorted({rule for rule in found if found.count(rule) > 1})}"
    )


def test_every_rule_is_cited_by_code_and_by_a_property():
    known = set(rules())
    enforcing = [path for path in SOURCES if "properties" not in path.parts]
    code, tests = citations(enforcing), citations(sorted((ROOT / "tests").rglob("*.py")))
    assert not known - code, (
        f"no code outside core/properties/ cites {sorted(known - code)}: "
        "name the rule where it is enforced"
    )
    assert not known - tests, (
        f"no test cites {sorted(known - tests)}: write the property, or withdraw the rule"
    )


def test_no_citation_dangles():
    known = set(rules())
    prefixes = {rule.rpartition("-")[0] for rule in known}
    cited = citations(SOURCES) | citations(sorted((ROOT / "tests").rglob("*.py")))
    dangling = sorted(rule for rule in cited - known if rule.rpartition("-")[0] in prefixes)
    assert not dangling, f"no page in spec/ has {dangling}"


def test_no_named_clause_dangles():
    """A test that names a clause by its letter means a sentence, bullet or row that there is."""
    from known import LETTERS, shown_clauses

    stated = {
        rule: LETTERS[: len(rule_index.clauses(text))]
        for rule, text in rule_index.statements().items()
    }
    dangling = sorted(
        f"{rule}.{letter}"
        for rule, letters in shown_clauses().items()
        for letter in letters - set(stated.get(rule, ""))
    )
    assert not dangling, (
        f"spec/ has no {dangling}: count the sentences, "
        "bullets and rows of tables of the rule (tools/known.py)"
    )


A_TEST = re.compile(r"\btest_[a-z0-9_]+\b(?!\.py)")


def names_of_tests() -> set[str]:
    return {
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }


def rows(page: str, first: str) -> list[list[str]]:
    """The cells of the rows of a page's tables whose first cell looks so."""
    text = (ROOT / "spec" / page).read_text().replace("||", "or")
    cells = [
        [cell.strip() for cell in line.strip().strip("|").split(" |")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    return [each for each in cells if re.fullmatch(first, each[0])]


def test_every_divergence_names_a_test_that_shows_it():
    known, found = names_of_tests(), rows("divergences.md", r"D-\d+")
    assert len(found) > 40
    numbers = [row[0] for row in found]
    assert not sorted({each for each in numbers if numbers.count(each) > 1}), "twice"
    for row in found:
        named = A_TEST.findall(row[-1])
        assert named, (
            f"{row[0]} of spec/divergences.md: name the test that fails when this difference goes"
        )
        assert set(named) <= known, (
            f"{row[0]} names {sorted(set(named) - known)}, which is not there"
        )


def test_the_catalogue_names_rules_laws_and_tests_that_there_are():
    known, there = set(rules()), names_of_tests()
    found = rows("catalogue.md", r"\d+")
    assert [int(row[0]) for row in found] == [*range(1, 38), 63, *range(38, 49), 64]
    steps, rest = {law.rule for law in STEP_LAWS}, {law.rule for law in laws.OF_REST}
    for number, _, _, named, judged in found:
        named = CITED.findall(named)
        tests = A_TEST.findall(judged)
        assert named and set(named) <= known, (
            f"{number}: no page in spec/ has {sorted(set(named) - known)}"
        )
        assert set(tests) <= there, f"{number}: there is no {sorted(set(tests) - there)}"
        words = re.sub(A_TEST, "", judged)
        assert "law" not in words or steps & set(named), (
            f"{number}: none of {named} is a law of a step"
        )
        assert "rest" not in words or rest & set(named), (
            f"{number}: none of {named} is a law of a rest"
        )
        assert tests or "law" in words or "rest" in words or set(named) & {"SIM-3", "SIM-4"}, (
            f"{number}: by what is it judged?"
        )


def test_what_is_known_is_current():
    found = subprocess.run(
        [sys.executable, str(ROOT / "tools/known.py"), "--check"], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_index_of_rules_is_current():
    found = subprocess.run(
        [sys.executable, str(ROOT / "tools/rule_index.py"), "--check"],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_index_lists_a_test_that_is_named_after_the_rule():
    named = [f"{a.upper()}-{n}" for name in names_of_tests() for a, n in NAMED.findall(name)]
    found = rule_index.ranked("tests")
    for rule in set(named) & set(rules()):
        prefix, _, number = rule.lower().partition("-")
        text = (ROOT / found[rule][0]).read_text()
        assert re.search(rf"\bdef test_\w*?{prefix}_{number}_", text), (rule, found[rule][0])


LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)|^\[[^]]+\]: (?!https?:)(\S+)$", re.M)


def test_links_between_pages_lead_somewhere():
    pages = [*rule_index.pages(), *rule_index.EVIDENCE.glob("*.md"), *ROOT.glob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for groups in LINK.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.S))
        for target in groups
        if target and not (page.parent / target).exists()
    ]
    assert not broken, f"{broken}: no such file"


NAMED_FILE = re.compile(r"`((?:refk8s|spec|tests|tools)/[\w./]+)`")


def test_the_recipes_name_files_that_there_are():
    """NAME stands for the file that a contributor adds."""
    named = NAMED_FILE.findall((ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) > 40
    there = {path: ROOT / path for path in named}
    missing = sorted(
        path
        for path, file in there.items()
        if not (file.parent if "NAME" in file.name else file).exists()
    )
    assert not missing, f"CONTRIBUTING.md names {missing}: no such file"


GENERATED = re.compile(r"/core/api/[a-z]+_v\d\.py$|fields\.py$")


def test_no_file_needs_a_table_of_contents():
    long = [
        f"{path.relative_to(ROOT)} ({n} lines)"
        for path in SOURCES
        if not GENERATED.search(str(path)) and (n := len(path.read_text().splitlines())) > 600
    ]
    assert not long, f"{long}: make two files of it"


def test_what_a_start_loads_has_no_records_of_attrs():
    """attrs takes 15 ms to load and half a millisecond for each record class: 40 ms of a start."""
    program = """
import sys
import refk8s.cli.main, refk8s.components.running_cluster, refk8s.components.cluster_components
import refk8s.store.sqlite, refk8s.adapters.fake.streams
assert "attr" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_the_api_is_served_before_the_other_components_are_loaded():
    """They take as long to load as the API server. Keys are made by another process."""
    program = """
import sys
import refk8s.cli.main, refk8s.components.run, refk8s.components.running_cluster
later = ("controllers.", "kubelet.", "scheduler.", "components")
found = {name for name in sys.modules for part in later if name.startswith(f"refk8s.core.{part}")}
assert not found, found
found = {name for name in sys.modules if name.startswith("refk8s.components.kubelet")}
assert not found, found
assert "cryptography" not in sys.modules
import refk8s.components.cluster_components
assert "refk8s.core.kubelet.kubelet" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


LONG_LINES_MAX = 0.0115


def test_lines_fit_a_screen():
    """At most 100 columns, as the formatter has it; a few strings and tables are longer."""
    files = [
        path
        for root in ("refk8s", "tests", "tools", "benchmarks")
        for path in (ROOT / root).rglob("*.py")
    ]
    lines = [
        line
        for path in files
        if "node_modules" not in path.parts
        for line in path.read_text().splitlines()
    ]
    long = sum(len(line) > 100 for line in lines)
    assert long <= LONG_LINES_MAX * len(lines), (
        f"{long} of {len(lines)} lines have over 100 columns"
    )


def test_every_planted_bug_names_lines_that_the_source_has():
    """Bugs of the museum and of the formal models replace lines of the core. If this fails, change
    the `old` lines there with those of the core."""
    for name in museum.names():
        for change in museum.load(name).changes:
            change.source()
    for path in sorted((ROOT / "tests/formal").glob("*_twin.py")):
        module = importlib.import_module(path.stem)
        for twin in vars(module).values():
            for bug in getattr(twin, "core_bugs", ()) if isinstance(twin, type) else ():
                source = textwrap.dedent(inspect.getsource(bug.function))
                assert patched(source, bug.old, bug.new) != source, bug.name
