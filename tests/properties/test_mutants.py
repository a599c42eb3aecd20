"""The table of mutation testing (tools/mutants.toml): what it names is there, and nothing stands
twice."""

import re
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETUP = tomllib.loads((ROOT / "tools/mutants.toml").read_text())


def modules_of(group) -> set[Path]:
    found = {path for pattern in group["modules"] for path in ROOT.glob(pattern)}
    return found - {path for pattern in group.get("except", ()) for path in ROOT.glob(pattern)}


def test_every_pattern_finds_modules_and_every_module_is_in_one_group():
    for group in SETUP["groups"].values():
        for pattern in (*group["modules"], *group.get("except", ())):
            assert list(ROOT.glob(pattern)), f"{pattern} finds nothing"
    counted = Counter(path for group in SETUP["groups"].values() for path in modules_of(group))
    assert [path for path, count in counted.items() if count > 1] == []


def test_every_test_file_is_there():
    for group in SETUP["groups"].values():
        for test in group["tests"]:
            assert (ROOT / "tests/properties" / test).exists(), test


def test_controllers_scheduler_loop_and_kubelet_are_all_in_it():
    counted = {path for group in SETUP["groups"].values() for path in modules_of(group)}
    for part in ("controllers", "scheduler", "loop", "kubelet"):
        left_out = {
            path for path in (ROOT / "refk8s/core" / part).rglob("*.py") if path.read_text()
        } - counted
        assert not left_out, f"add {sorted(left_out)} to tools/mutants.toml"


def test_every_explanation_can_be_searched_for_and_says_something():
    for entry in SETUP["explained"]:
        assert set(entry) == {"where", "diff", "why"} and len(entry["why"].split()) >= 3
        re.compile(entry["where"]), re.compile(entry["diff"], re.S)
