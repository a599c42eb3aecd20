"""The user's kubeconfig: merged into, and taken out of. Rules HOST-7, HOST-8 (spec/host.md)."""

import json
import os
import stat
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from refk8s.components import kubeconfig
from refk8s.components.files import CannotRun
from refk8s.components.kubeconfig import (
    check_kubeconfig,
    default_path,
    merge_kubeconfig,
    remove_from_kubeconfig,
)

OURS = """apiVersion: v1
kind: Config
current-context: refk8s
clusters:
- name: refk8s
  cluster:
    server: https://127.0.0.1:6443
users:
- name: refk8s-admin
  user:
    token: secret
contexts:
- name: refk8s
  context:
    cluster: refk8s
    user: refk8s-admin
"""
NAMES = {"clusters": "refk8s", "users": "refk8s-admin", "contexts": "refk8s"}
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8) | st.sampled_from(
    ["12:30", "yes", "0123", "null", "=", "1e3"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["prod", "refk8s", "refk8s-admin", "a", "1", "yes"])
named = st.builds(
    lambda name, more: {**more, "name": name}, names, st.dictionaries(texts, values, max_size=2)
)
entries = st.none() | st.lists(named, max_size=4)


@st.composite
def kubeconfigs(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = draw(
        st.dictionaries(st.sampled_from(["preferences", "extensions", "x"]), values)
    )
    for field in (*NAMES, "current-context"):
        if draw(st.booleans()):
            found[field] = draw(names if field == "current-context" else entries)
    return found


def without_ours(tree: dict[str, Any]) -> dict[str, Any]:
    """What must stay as it is."""
    kept = {
        key: value
        for key, value in tree.items()
        if key not in (*NAMES, "current-context", "apiVersion", "kind")
    }
    return {
        **kept,
        **{
            field: [e for e in tree.get(field) or [] if e["name"] != name]
            for field, name in NAMES.items()
        },
    }


@given(kubeconfigs(), st.booleans())
def test_host_7_every_other_entry_is_kept_and_ours_is_there_once(
    before: dict[str, Any], as_json: bool
) -> None:
    # Shows HOST-7.a, HOST-7.b, HOST-8.a, HOST-8.b.
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "config"
        path.write_text(
            json.dumps(before, ensure_ascii=False)
            if as_json
            else yaml.safe_dump(before, sort_keys=False, allow_unicode=True)
        )
        # as YAML reads it: some texts of JSON are other things there
        before = yaml.safe_load(path.read_text())
        merge_kubeconfig(path, OURS)
        after = yaml.safe_load(path.read_text())
        assert without_ours(after) == without_ours(before)
        mine = yaml.safe_load(OURS)
        for field, name in NAMES.items():
            assert [entry for entry in after[field] if entry["name"] == name] == mine[field]
        assert after["current-context"] == "refk8s"
        once = path.read_bytes()
        merge_kubeconfig(path, OURS)
        assert path.read_bytes() == once
        assert remove_from_kubeconfig(path)
        left = yaml.safe_load(path.read_text())
        assert without_ours(left) == without_ours(before) and left["current-context"] == ""
        assert not any(
            entry["name"] == name for field, name in NAMES.items() for entry in left[field] or []
        )
        assert not remove_from_kubeconfig(path)


@given(kubeconfigs())
def test_host_8_removal_leaves_the_current_context_of_others(before: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "config"
        before["current-context"] = "prod"
        path.write_text(yaml.safe_dump(before))
        remove_from_kubeconfig(path)
        left = yaml.safe_load(path.read_text())
        assert left["current-context"] == "prod" and without_ours(left) == without_ours(before)


BROKEN = {
    "a: [": "not a kubeconfig", "- a": "not a mapping", "clusters: 3": "clusters is not a list", "users: [{user: {}}]": r"users\[0\] has no name",
    "kind: Pod": "it is a Pod", "\x00": "not a kubeconfig", "contexts: [1]": "has no name", "[" * 50_000: "not a kubeconfig",
    "a: *b": "not a kubeconfig", "kind: [x]": "kind", "{}\n---\n{}": "not a kubeconfig",
}  # fmt: skip


@pytest.mark.parametrize("content", BROKEN, ids=lambda text: repr(text[:12]))
def test_host_7_a_broken_file_is_refused_in_one_line_and_left_alone(
    tmp_path: Path, content: str
) -> None:
    # Shows HOST-7.g.
    path = tmp_path / "config"
    path.write_text(content)
    for use in (
        check_kubeconfig,
        lambda path: merge_kubeconfig(path, OURS),
        remove_from_kubeconfig,
    ):
        with pytest.raises(CannotRun, match=BROKEN[content]) as refused:
            use(path)
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 600
    assert path.read_text() == content and list(tmp_path.iterdir()) == [path]


def test_host_7_mode_and_links_are_kept_and_a_new_file_is_private(tmp_path: Path) -> None:
    # Shows HOST-7.d.
    real, link = tmp_path / "real/config", tmp_path / "config"
    real.parent.mkdir()
    real.write_text("apiVersion: v1\nkind: Config\nclusters: []\n")
    real.chmod(0o640)
    link.symlink_to(real)
    merge_kubeconfig(link, OURS)
    assert (
        link.is_symlink()
        and "refk8s-admin" in real.read_text()
        and stat.S_IMODE(real.stat().st_mode) == 0o640
    )
    merge_kubeconfig(tmp_path / "new", OURS)
    assert (
        stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
        and (tmp_path / "new").read_text() == OURS
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config", "new", "real"]


def test_host_7_values_of_others_keep_their_spelling(tmp_path: Path) -> None:
    # Shows HOST-7.b, HOST-7.c.
    path = tmp_path / "config"
    kept = (
        "users:\n- name: prod\n  user: {token: '0123', expiry: 2026-01-01, n: 0o17, y: yes, e: =}\n"
    )
    path.write_text(f"# a comment\n{kept}")
    merge_kubeconfig(path, OURS)
    assert kept in path.read_text()
    path.write_text("users:\n- name: prod\n  user: {t: 12:30:45}\n")
    merge_kubeconfig(path, OURS)
    assert "user: {t: '12:30:45'}" in path.read_text()


def test_host_7_a_lock_is_waited_for_and_then_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shows HOST-7.f.
    path, lock = tmp_path / "config", tmp_path / "config.lock"
    lock.touch()
    waiting = threading.Event()
    monkeypatch.setattr(
        kubeconfig.time, "sleep", lambda seconds: (waiting.set(), lock.unlink(missing_ok=True))
    )
    merge_kubeconfig(path, OURS)
    assert waiting.is_set() and path.read_text() == OURS and not lock.exists()
    lock.touch()
    monkeypatch.setattr(kubeconfig, "LOCK_SECONDS_MAX", 0.0)
    with pytest.raises(CannotRun, match=r"config\.lock: wait for the program"):
        remove_from_kubeconfig(path)
    assert lock.exists() and path.read_text() == OURS


def test_host_7_the_lock_of_a_killed_refk8s_is_taken_over(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / "config.lock").write_text(f"{ended.pid}\n")
    merge_kubeconfig(tmp_path / "config", OURS)
    assert [path.name for path in tmp_path.iterdir()] == ["config"]


def test_host_8_the_file_is_the_one_that_kubectl_reads(tmp_path: Path) -> None:
    # Shows HOST-8.c.
    first, second = tmp_path / "a", tmp_path / "b"
    assert default_path({"KUBECONFIG": f"{first}{os.pathsep}{second}"}) == first
    second.touch()
    assert default_path({"KUBECONFIG": f"{first}{os.pathsep}{os.pathsep}{second}"}) == second
    assert (
        default_path({}) == default_path({"KUBECONFIG": ""}) == Path("~/.kube/config").expanduser()
    )
    assert not remove_from_kubeconfig(first)


def test_host_7_the_lock_is_there_while_the_file_is_read_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shows HOST-7.e.
    path, seen = tmp_path / "config", []
    for name in ("read_file", "write_file"):
        real = getattr(kubeconfig, name)

        def watched(*arguments: Any, real: Any = real) -> Any:
            seen.append((tmp_path / "config.lock").exists())
            return real(*arguments)

        monkeypatch.setattr(kubeconfig, name, watched)
    merge_kubeconfig(path, OURS)
    assert seen == [True, True] and not (tmp_path / "config.lock").exists()
