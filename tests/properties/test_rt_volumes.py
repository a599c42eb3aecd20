"""Volumes on disk: changes that are whole, and paths that stay inside. Rules RT-6, RT-7."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from refk8s.adapters.docker.abilities import Abilities
from refk8s.adapters.docker.volume import DATA, LeadsOut, Volumes, write_files
from refk8s.core.ports import Done, WriteVolume

PARTS = st.sampled_from(["a", "b", "key.txt", ".hidden", "dir"])
PATHS = st.lists(PARTS, min_size=1, max_size=2).map("/".join)
CONTENTS = st.binary(max_size=20)


def fits(files: dict[str, bytes]) -> bool:
    """No path is a file and a directory at once."""
    return not any(other.startswith(path + "/") for path in files for other in files)


FILES = st.dictionaries(PATHS, CONTENTS, max_size=5).filter(fits)
MODES = st.sampled_from([0o400, 0o644, 0o755])


def seen(place: Path) -> dict[str, bytes]:
    """What a container sees: every file below the names that do not begin with two dots."""
    found = {}
    for top in sorted(place.iterdir()):
        if top.name.startswith(".."):
            continue
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file():
                found[str(path.relative_to(place))] = path.read_bytes()
    return found


def held(place: Path) -> dict[str, bytes]:
    """What the link to the version that counts leads to."""
    data = place / DATA
    return {str(path.relative_to(data)): path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file()}


@given(st.lists(st.tuples(FILES, MODES), min_size=1, max_size=5))
def test_rt_6_a_volume_holds_exactly_the_files_of_its_last_version(versions: list[tuple[dict[str, bytes], int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "volume"
        for files, mode in versions:
            write_files(place, files, mode)
            assert seen(place) == held(place) == files
            tops = {path.partition("/")[0] for path in files}
            assert {entry.name for entry in place.iterdir() if not entry.name.startswith("..")} == tops
            for path in files:
                assert (place / path).stat().st_mode & 0o777 == mode
            assert len([entry for entry in place.iterdir() if entry.is_dir() and not entry.is_symlink()]) == 1, "old versions are left"
            assert not write_files(place, files, mode), "what is there already is written again"


class Killed(BaseException):
    """The process ends here."""


_AT = [0]
_TOUCHES = ("open", "os.mkdir", "os.rename", "os.symlink", "os.chmod", "os.remove", "os.rmdir")


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    """Ends the process, as it were, at the n-th touch of the file system."""
    if _AT[0] and event in _TOUCHES:
        _AT[0] -= 1
        if _AT[0] == 0:
            raise Killed


sys.addaudithook(_audit)


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    _AT[0] = step
    try:
        yield
    except Killed:
        pass
    finally:
        _AT[0] = 0


@given(FILES, FILES, st.integers(1, 40))
def test_rt_6_whenever_the_agent_is_killed_the_version_is_whole(old: dict[str, bytes], new: dict[str, bytes], step: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "volume"
        write_files(place, old, 0o644)
        with killed_at(step):
            write_files(place, new, 0o644)
        assert held(place) in (old, new), "neither the old version nor the new"
        write_files(place, new, 0o644)
        assert seen(place) == held(place) == new, "the next attempt does not mend it"


def test_rt_6_the_kill_does_happen_in_the_midst() -> None:
    """The premise of the property above is reached: some steps leave the old version, some the new one."""
    outcomes = set()
    for step in range(1, 40):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "volume"
            write_files(place, {"key": b"old"}, 0o644)
            with killed_at(step):
                write_files(place, {"key": b"new", "more": b"new"}, 0o644)
            outcomes.add((held(place)["key"], "more" in seen(place)))
    assert {(b"old", False), (b"new", False), (b"new", True)} <= outcomes


# --- paths ------------------------------------------------------------------------------------------------------------------

TARGETS = st.sampled_from(["/", "..", "../..", "a", "/etc", ".", "loop", "deep"])
LINKS = st.dictionaries(st.sampled_from(["inside", "out", "loop", "deep/link"]), TARGETS, max_size=3)
STEPS = st.sampled_from(["a", "b", "..", ".", "inside", "out", "loop", "deep", "link", "etc"])
INNER = st.lists(STEPS, min_size=1, max_size=4).map("/".join)


@given(LINKS, INNER)
def test_rt_7_no_path_inside_a_volume_leads_out_of_it(links: dict[str, str], inner: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        volumes = Volumes(Path(folder) / "pods", Abilities(frozenset()))
        assert volumes.write(WriteVolume("uid", "data", mode=0o777)) == Done()
        root = volumes.path("uid", "data")
        (root / "deep").mkdir()
        (root / "a").mkdir()
        for name, target in sorted(links.items()):
            (root / name).symlink_to(target)
        before = {str(path) for path in Path(folder).rglob("*") if root not in path.parents}
        try:
            found = volumes.source("uid", f"data/{inner}")
        except (LeadsOut, OSError):
            pass  # refused: a link in a circle is an error of the system
        else:
            real = Path(os.path.realpath(found))
            assert real == root or root in real.parents
            assert real.exists()
        assert {str(path) for path in Path(folder).rglob("*") if root not in path.parents} == before, "something was made outside"


@given(st.text(max_size=6))
def test_rt_7_names_are_single_parts_of_a_path(name: str) -> None:
    assume("\0" not in name)
    volumes = Volumes(Path("/nowhere/pods"), Abilities(frozenset()))
    try:
        path = volumes.path("uid", name)
    except LeadsOut:
        assert name in ("", ".", "..") or "/" in name
    else:
        assert path.parent == Path("/nowhere/pods/uid/volumes")


@given(st.sampled_from(["../x", "/x", "a/../../x", ""]))
def test_rt_7_files_of_a_volume_stay_in_it(path: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "volume"
        try:
            write_files(place, {path: b"x"}, 0o644)
        except LeadsOut:
            return
        raise AssertionError(f"{path!r} was written")
