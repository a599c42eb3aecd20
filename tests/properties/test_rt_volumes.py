"""Volumes: changes that are whole, paths that stay inside, links that are not followed. Rules RT-6,
RT-7, RT-30 ... RT-34."""

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from test_rt import IMAGE, UID, make_engine, operations

from refk8s.adapters.docker.operations import Operations
from refk8s.adapters.docker.pods.volumes import Volumes
from refk8s.adapters.linux import mounts, tree
from refk8s.adapters.linux.abilities import Abilities
from refk8s.adapters.linux.atomic_files import DATA, File
from refk8s.adapters.linux.atomic_files import write_files as write_into
from refk8s.adapters.linux.tree import NotPossible
from refk8s.core.ports import (
    ContainerConfig,
    ContainerCreated,
    CreateContainer,
    Done,
    Failed,
    Mount,
    RemoveContainer,
    RemovePodSandbox,
    RunPodSandbox,
    SandboxConfig,
    StartContainer,
    WriteVolume,
)

PARTS = st.sampled_from(["a", "b", "key.txt", ".hidden", "dir"])
PATHS = st.lists(PARTS, min_size=1, max_size=2).map("/".join)
CONTENTS = st.binary(max_size=20)


def fits(files: dict[str, bytes]) -> bool:
    """No path is a file and a directory at once."""
    return not any(other.startswith(path + "/") for path in files for other in files)


FILES = st.dictionaries(PATHS, CONTENTS, max_size=5).filter(fits)
MODES = st.sampled_from([0o400, 0o644, 0o755])


def write_files(place: Path, files: dict[str, bytes], mode: int, group: int = -1) -> bool:
    """Make the directory hold these files, as the volume of a pod does."""
    place.mkdir(exist_ok=True)
    with tree.opened(place) as directory:
        return write_into(
            directory, {path: File(content, mode) for path, content in files.items()}, group
        )


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
    return {
        str(path.relative_to(data)): path.read_bytes()
        for path in sorted(data.rglob("*"))
        if path.is_file()
    }


@given(st.lists(st.tuples(FILES, MODES), min_size=1, max_size=5))
def test_rt_6_a_volume_holds_exactly_the_files_of_its_last_version(
    versions: list[tuple[dict[str, bytes], int]],
) -> None:
    # Shows RT-6.b.
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "volume"
        for files, mode in versions:
            write_files(place, files, mode)
            assert seen(place) == held(place) == files
            tops = {path.partition("/")[0] for path in files}
            assert {
                entry.name for entry in place.iterdir() if not entry.name.startswith("..")
            } == tops
            for path in files:
                assert (place / path).stat().st_mode & 0o777 == mode
            assert (
                len(
                    [
                        entry
                        for entry in place.iterdir()
                        if entry.is_dir() and not entry.is_symlink()
                    ]
                )
                == 1
            ), "old versions are left"
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
def test_rt_6_whenever_the_agent_is_killed_the_version_is_whole(
    old: dict[str, bytes], new: dict[str, bytes], step: int
) -> None:
    # Shows RT-6.b RT-6.c RT-6.d.
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "volume"
        write_files(place, old, 0o644)
        with killed_at(step):
            write_files(place, new, 0o644)
        assert held(place) in (old, new), "neither the old version nor the new"
        write_files(place, new, 0o644)
        assert seen(place) == held(place) == new, "the next attempt does not mend it"


def test_rt_6_the_kill_does_happen_in_the_midst() -> None:
    """The premise of the property above is reached: some steps leave the old version, some the new
    one."""
    outcomes = set()
    for step in range(1, 40):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "volume"
            write_files(place, {"key": b"old"}, 0o644)
            with killed_at(step):
                write_files(place, {"key": b"new", "more": b"new"}, 0o644)
            outcomes.add((held(place)["key"], "more" in seen(place)))
    assert {(b"old", False), (b"new", False), (b"new", True)} <= outcomes


# --- paths ----------------------------------------------------------------------------------------

TARGETS = st.sampled_from(["/", "..", "../..", "a", "/etc", ".", "loop", "deep"])
LINKS = st.dictionaries(
    st.sampled_from(["inside", "out", "loop", "deep/link"]), TARGETS, max_size=3
)
STEPS = st.sampled_from(["a", "b", "..", ".", "inside", "out", "loop", "deep", "link", "etc"])
INNER = st.lists(STEPS, min_size=1, max_size=4).map("/".join)


@given(LINKS, INNER)
@example({"inside": "../data-2"}, "inside/a")
def test_rt_7_no_path_inside_a_volume_leads_out_of_it(links: dict[str, str], inner: str) -> None:
    # Shows RT-7.a.
    """`data-2` lies beside `data` and begins with its name."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        for place in (root / "deep", root / "a", Path(folder) / "data-2/a"):
            place.mkdir(parents=True)
        for name, target in sorted(links.items()):
            (root / name).symlink_to(target)
        before = {str(path) for path in Path(folder).rglob("*") if root not in path.parents}
        with tree.opened(root) as volume:
            try:
                found = tree.open_inside(volume, str(root), inner, 0o755)
            except (NotPossible, OSError):
                pass  # refused: a link in a circle is an error of the system
            else:
                real = Path(os.readlink(f"/proc/self/fd/{found}"))
                os.close(found)
                assert real == root or root in real.parents
        assert {
            str(path) for path in Path(folder).rglob("*") if root not in path.parents
        } == before, "something was made outside"


@given(LINKS, INNER)
def test_rt_7_a_path_that_stays_inside_is_found_where_its_links_lead(
    links: dict[str, str], inner: str
) -> None:
    """The premise of the property above is reached: what is inside is not refused."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        for place in (root / "deep", root / "a"):
            place.mkdir(parents=True)
        for name, target in sorted(links.items()):
            (root / name).symlink_to(target)
        try:
            expected = (root / inner).resolve(strict=True)
        except (OSError, RuntimeError):
            return
        assume(".." not in inner.split("/") and (expected == root or root in expected.parents))
        with tree.opened(root) as volume:
            found = tree.open_inside(volume, str(root), inner, 0o755)
            assert os.readlink(f"/proc/self/fd/{found}") == str(expected)
            os.close(found)


@given(
    st.lists(st.sampled_from(["v", "v-2", "a", "v2"]), max_size=3),
    st.lists(st.sampled_from(["v", "v-2", "a", "v2"]), max_size=3),
)
def test_rt_7_a_directory_is_no_parent_of_one_whose_name_begins_like_its_own(
    path: list[str], root: list[str]
) -> None:
    assert tree.is_inside("/" + "/".join(path), "/" + "/".join(root)) is (path[: len(root)] == root)


# --- links that a container has made --------------------------------------------------------------

ENTRIES = st.sampled_from(
    ["..data", "..data_tmp", "a", "b", "dir", "dir/a", "key.txt", ".hidden", "..evil"]
)
MADE = st.dictionaries(
    ENTRIES,
    st.sampled_from(["link to a directory", "link to a file", "link up", "directory", "file"]),
    max_size=4,
)


def tamper(place: Path, made: dict[str, str], outside: Path) -> None:
    """What a container that may write to its volume makes of it."""
    for name, kind in sorted(made.items()):
        target = place / name
        if target.is_symlink() or target.is_file():
            target.unlink()
        elif target.is_dir():
            shutil.rmtree(target)
        with suppress(OSError):
            match kind:
                case "link to a directory":
                    target.symlink_to(outside / "folder")
                case "link to a file":
                    target.symlink_to(outside / "file")
                case "link up":
                    target.symlink_to("..")
                case "directory":
                    (target / "inner").mkdir(parents=True)
                case "file":
                    target.write_text("a container's")


def picture(place: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a directory, with its permissions."""
    return {
        str(path.relative_to(place)): (
            path.lstat().st_mode,
            path.read_bytes() if path.is_file() and not path.is_symlink() else b"",
        )
        for path in sorted(place.rglob("*"))
    }


@given(FILES, FILES, MADE, MODES)
@example({"a": b"old"}, {"a": b"new"}, {"..data": "link to a directory"}, 0o644)
@example({"a": b"old"}, {"a": b"old"}, {"..data": "link up"}, 0o644)
@example({"a": b"old"}, {"a": b"new"}, {"..data_tmp": "link to a directory"}, 0o644)
def test_rt_30_an_update_writes_nothing_outside_whatever_the_container_did(
    old: dict[str, bytes], new: dict[str, bytes], made: dict[str, str], mode: int
) -> None:
    # Shows RT-30.a RT-30.b RT-30.c.
    with tempfile.TemporaryDirectory() as folder:
        place, outside = Path(folder) / "volume", Path(folder) / "outside"
        (outside / "folder").mkdir(parents=True)
        (outside / "file").write_text("the host's")
        write_files(place, old, mode)
        tamper(place, made, outside)
        before = {
            name: seen
            for name, seen in picture(Path(folder)).items()
            if not name.startswith("volume/")
        }
        write_files(place, new, mode)
        assert {
            name: seen
            for name, seen in picture(Path(folder)).items()
            if not name.startswith("volume/")
        } == before
        assert held(place) == new
        for path, content in new.items():
            assert (place / path).read_bytes() == content and place in (
                place / path
            ).resolve().parents
        with tree.opened(folder) as top:
            tree.remove("volume", top)
        assert {name for name, _ in picture(Path(folder)).items()} == set(before) - {"volume"}


@pytest.mark.parametrize("target", ["{outside}", "../outside", ".."])
def test_rt_30_a_link_to_the_right_files_elsewhere_is_replaced(tmp_path: Path, target: str) -> None:
    """What lies outside is not even looked at: it could be exchanged at any time."""
    # Shows RT-30.c.
    place, outside = tmp_path / "volume", tmp_path / "outside"
    outside.mkdir()
    (outside / "key").write_bytes(b"1")
    (outside / "key").chmod(0o644)
    write_files(place, {"key": b"1"}, 0o644)
    (place / DATA).unlink()
    (place / DATA).symlink_to(target.format(outside=outside))
    assert write_files(place, {"key": b"1"}, 0o644)
    assert (place / DATA).resolve().parent == place and held(place) == {"key": b"1"}


def test_rt_30_a_tree_of_any_depth_is_removed() -> None:
    """Deeper than a path may be long, than functions may call each other and than directories may
    be open."""
    # Shows RT-30.d.
    with tempfile.TemporaryDirectory() as folder, tree.opened(folder) as top:
        at = os.dup(top)
        for _ in range(3000):
            with tree.made("deep", at) as inner:
                os.close(at)
                at = os.dup(inner)
        os.close(at)
        tree.remove("deep", top)
        assert os.listdir(folder) == []


def test_rt_30_a_file_of_the_pod_is_written_and_read_without_following_a_link() -> None:
    # Shows RT-30.a RT-30.b.
    with tempfile.TemporaryDirectory() as folder:
        volumes = Volumes(Path(folder) / "pods", Abilities(frozenset()))
        outside = Path(folder) / "outside"
        outside.write_text("the host's")
        place = volumes.write_file("uid", "main.0.message", b"", 0o666)
        place.write_bytes(b"x" * 10_000)
        assert volumes.read_file("uid", "main.0.message", 4096) == b"x" * 4096
        place.unlink()
        place.symlink_to(outside)
        assert volumes.read_file("uid", "main.0.message", 4096) is None
        volumes.write_file("uid", "main.0.message", b"new", 0o666)
        assert (
            outside.read_text() == "the host's"
            and volumes.read_file("uid", "main.0.message", 4096) == b"new"
        )
        place.unlink()
        os.mkfifo(place)
        assert volumes.read_file("uid", "main.0.message", 4096) is None, "a pipe was waited for"


@given(FILES, MODES, st.dictionaries(PARTS, MODES), st.sampled_from([-1, os.getgid()]))
def test_rt_32_files_have_their_modes_and_the_group_may_read_them(
    files: dict[str, bytes], mode: int, modes: dict[str, int], group: int
) -> None:
    # Shows RT-32.b.
    with tempfile.TemporaryDirectory() as folder:
        volumes = Volumes(Path(folder) / "pods", Abilities(frozenset()))
        operation = WriteVolume("uid", "data", files, mode, modes=modes, fs_group=group)
        assert volumes.write(operation) == volumes.write(operation) == Done()
        place = volumes.path("uid", "data")
        for path in files:
            found = (place / path).stat()
            assert found.st_mode & 0o777 == modes.get(path, mode) | (0o440 if group >= 0 else 0)
        assert bool(place.stat().st_mode & 0o2000) is (group >= 0)
        assert volumes.write(WriteVolume("uid", "empty", mode=0o777, fs_group=group)) == Done()
        assert volumes.path("uid", "empty").stat().st_mode & 0o7777 == (
            0o2777 if group >= 0 else 0o777
        )


# --- mounts ---------------------------------------------------------------------------------------


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A directory in which nothing stays mounted, also where a test fails."""
    yield tmp_path
    mounts.unmount_below(str(tmp_path))


@pytest.fixture
def engine_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An engine's socket, held by this very process."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "sock"))
        listening.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'sock'}")
        yield


@pytest.mark.parametrize("may_mount", [True, False])
def test_rt_34_a_sub_path_shows_what_was_checked_though_it_is_exchanged(
    tmp_path: Path, engine_beside: None, may_mount: bool
) -> None:
    """Without the right to mount the first case is the second: the open directory is named to the
    engine."""
    # Shows RT-34.a RT-34.b RT-34.c RT-34.d.
    volumes = Volumes(tmp_path / "pods", Abilities(frozenset()))
    volumes._may_mount = may_mount
    assert volumes.write(WriteVolume("uid", "data", mode=0o777)) == Done()
    root = volumes.path("uid", "data")
    (root / "logs").mkdir()
    (root / "logs/mine").touch()
    (root / "file").write_text("one file")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/hosts-own").touch()
    folder = volumes.source("uid", Mount("data/logs", "/m"), "main", 0)
    if volumes._may_mount:
        file = volumes.source("uid", Mount("data/file", "/m"), "main", 1)
    else:
        assert volumes.is_held(str(folder))
        with pytest.raises(NotPossible):
            volumes.source("uid", Mount("data/file", "/m"), "main", 1)
    (root / "logs").rename(root / "away")
    (root / "logs").symlink_to(tmp_path / "outside")
    (root / "file").unlink()
    (root / "file").symlink_to(tmp_path / "outside/hosts-own")
    assert os.listdir(folder) == ["mine"] and (
        not volumes._may_mount or file.read_bytes() == b"one file"
    )
    with pytest.raises(NotPossible):
        volumes.source("uid", Mount("data/logs", "/m"), "main", 0)
    volumes.release("uid", "main")
    assert not volumes.is_held(str(folder)), "a number that is closed may be another file's"
    made = volumes.source("uid", Mount("data/new/deep", "/m"), "main", 2)
    assert (root / "new/deep").stat().st_mode & 0o777 == 0o777 and os.listdir(made) == []
    volumes.remove("uid")
    assert not (tmp_path / "pods/uid").exists() and mounts.mounted(str(tmp_path)) == []
    assert os.listdir(tmp_path / "outside") == ["hosts-own"]


def test_rt_34_a_container_that_an_earlier_agent_made_is_not_started_with_its_numbers(
    tmp_path: Path, engine_beside: None
) -> None:
    # Shows RT-34.c RT-34.e RT-34.f.
    engine = make_engine()
    agent = operations(engine, data=tmp_path)
    agent.volumes._may_mount = False
    agent.carry_out(WriteVolume(UID, "data", mode=0o777))
    agent.carry_out(WriteVolume(UID, "map", {"key": b"1"}))
    agent.carry_out(RunPodSandbox(SandboxConfig(UID, "default", "pod")))
    [box] = engine.containers
    mounts_ = (Mount("data/logs", "/logs"), Mount("map/key", "/key", True, True))

    def make(agent: Operations, attempt: int) -> str:
        made = agent.carry_out(
            CreateContainer(
                box, ContainerConfig(UID, "default", "pod", "main", IMAGE, attempt, mounts=mounts_)
            )
        )
        assert isinstance(made, ContainerCreated)
        return made.status.id

    first = make(agent, 0)
    shown = {mount["Target"]: mount for mount in engine.one(first)["HostConfig"]["Mounts"]}
    assert (
        shown["/key"]["Source"] == str(tmp_path / "pods" / UID / "volumes/map/key")
        and shown["/logs"]["Type"] == "volume"
    )
    assert os.path.samefile(
        engine.volumes[shown["/logs"]["Source"]]["Options"]["device"],
        tmp_path / "pods" / UID / "volumes/data/logs",
    )
    later = operations(engine, data=tmp_path)
    later.volumes._may_mount = False
    assert isinstance(later.carry_out(StartContainer(UID, first)), Failed) and not engine.starts[1:]
    second = make(later, 1)
    assert isinstance(later.carry_out(StartContainer(UID, second)), Done)
    later.carry_out(RemoveContainer(UID, first))
    assert len(engine.volumes) == 1
    later.carry_out(RemovePodSandbox(UID, box))
    assert engine.volumes == {} and not (tmp_path / "pods" / UID).exists()


def test_rt_34_where_the_engine_does_not_see_this_process_a_sub_path_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shows RT-34.d.
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'none'}")
    volumes = Volumes(tmp_path / "pods", Abilities(frozenset()))
    volumes._may_mount = False
    assert volumes.write(WriteVolume("uid", "data", mode=0o777)) == Done()
    with pytest.raises(NotPossible):
        volumes.source("uid", Mount("data/logs", "/m"))
    assert volumes.source("uid", Mount("data", "/m")) == volumes.path("uid", "data")


@pytest.mark.parametrize("may_mount", [True, False])
def test_rt_31_secrets_are_in_memory_and_leave_it_with_their_pod(
    tmp_path: Path, may_mount: bool
) -> None:
    # Shows RT-31.a RT-31.b RT-31.c.
    volumes = Volumes(tmp_path / "pods", Abilities(frozenset()))
    volumes._may_mount = may_mount
    secret = WriteVolume("uid", "keys", {"password": b"hidden"}, medium="Memory")
    for operation in (
        secret,
        secret,
        WriteVolume("uid", "quick", mode=0o777, medium="Memory", fs_group=os.getgid()),
    ):
        assert volumes.write(operation) == Done()
        place = volumes.source("uid", Mount(operation.volume, "/m"))
        assert mounts.is_in_memory(str(place))
        assert place.stat().st_mode & 0o7777 == (0o2777 if operation.fs_group >= 0 else 0o755)
    assert (volumes.source("uid", Mount("keys", "/m")) / "password").read_bytes() == b"hidden"
    bounded = WriteVolume("uid", "bounded", mode=0o777, medium="Memory", size_limit_bytes=65536)
    result = volumes.write(bounded)
    if volumes._may_mount:
        with pytest.raises(OSError):
            (volumes.source("uid", Mount("bounded", "/m")) / "large").write_bytes(b"x" * 100_000)
    else:
        assert isinstance(result, Failed) and "sizeLimit" in result.message
    places = [volumes.source("uid", Mount(name, "/m")) for name in ("keys", "quick")]
    Volumes(tmp_path / "pods", Abilities(frozenset())).remove("uid")  # A later agent.
    volumes.remove_all()
    assert mounts.mounted(str(tmp_path)) == [] and not any(place.exists() for place in places)


def test_rt_31_files_in_memory_of_a_pod_whose_directory_is_gone_are_removed(
    tmp_path: Path,
) -> None:
    volumes = Volumes(tmp_path / "pods", Abilities(frozenset()))
    volumes._may_mount = False
    assert volumes.write(WriteVolume("uid", "keys", {"a": b"b"}, medium="Memory")) == Done()
    memory = mounts.memory_directory(str(tmp_path / "pods"), {}, make=False)
    assert memory is not None
    shutil.rmtree(tmp_path / "pods")
    volumes.remove_all()
    assert not Path(memory).exists()


def test_rt_31_a_directory_that_others_may_enter_is_not_used(tmp_path: Path) -> None:
    # Shows RT-31.b.
    owner = str(tmp_path)
    place = mounts.memory_directory(owner, {})
    assert place is not None and os.stat(place).st_mode & 0o777 == 0o700
    try:
        os.chmod(place, 0o750)
        assert mounts.memory_directory(owner, {}) is None
    finally:
        os.rmdir(place)
    os.symlink(tmp_path, place)
    try:
        assert mounts.memory_directory(owner, {}) is None
    finally:
        os.unlink(place)


PLACES = st.lists(
    st.text("ab /\\\n", min_size=1, max_size=5).map(lambda text: "/" + text.strip("/")),
    min_size=1,
    max_size=4,
)


@given(PLACES, st.sampled_from(["/a", "/a b", "/"]))
def test_rt_31_the_table_of_mounts_is_read_with_its_escapes(places: list[str], below: str) -> None:
    def written(place: str) -> str:
        return "".join(
            f"\\{ord(letter):03o}" if letter in " \t\n\\" else letter for letter in place
        )

    text = "\n".join(
        f"36 35 98:0 / {written(place)} rw,noatime shared:1 - tmpfs none rw" for place in places
    )
    expected = [
        (place, "tmpfs")
        for place in places
        if place == below or place.startswith(below.rstrip("/") + "/")
    ]
    assert mounts.mounted(below, text) == expected


@given(st.text(max_size=6))
def test_rt_7_names_are_single_parts_of_a_path(name: str) -> None:
    # Shows RT-7.b.
    assume("\0" not in name)
    volumes = Volumes(Path("/nowhere/pods"), Abilities(frozenset()))
    try:
        path = volumes.path("uid", name)
    except NotPossible:
        assert name in ("", ".", "..") or "/" in name
    else:
        assert path.parent == Path("/nowhere/pods/uid/volumes")


@given(st.sampled_from(["../x", "/x", "a/../../x", ""]))
def test_rt_7_files_of_a_volume_stay_in_it(path: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "volume"
        try:
            write_files(place, {path: b"x"}, 0o644)
        except NotPossible:
            return
        raise AssertionError(f"{path!r} was written")
