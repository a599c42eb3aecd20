"""The process's own files: modes, lock, keys. Rules HOST-1 and HOST-3 ... HOST-6 (spec/host.md),
STORE-20 (spec/store.md)."""

import logging
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refk8s.adapters.linux.address import choose_address, device_addresses, is_own_address
from refk8s.components import certificates, files
from refk8s.components.certificates import Pair
from refk8s.components.credentials import (
    load_credentials,
    read_cluster_id,
    write_cluster_id,
)
from refk8s.components.files import (
    CannotRun,
    DirectoryLock,
    make_directory,
    make_private,
    read_file,
    write_file,
)
from refk8s.components.listening import listen, names_of, url_of
from refk8s.components.options import ServerOptions
from refk8s.components.token_signer import token_signer
from refk8s.core.apiserver.token_key import EcKey, RsaKey, parse_key
from refk8s.store.sqlite import SqliteEngine

HOSTS = names_of("127.0.0.1", "machine", "192.0.2.11")
ANOTHER_DEVICE = next(name for _, name in socket.if_nameindex() if name != "lo")
FILES = (
    "ca.crt",
    "ca.key",
    "server.crt",
    "server.key",
    "admin.crt",
    "admin.key",
    "admin.token",
    "sa.key",
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once, and only copied from."""
    directory = tmp_path_factory.mktemp("made") / "pki"
    load_credentials(directory, HOSTS)
    return directory


def copy_of(pki: Path, directory: Path) -> Path:
    copied = directory / "pki"
    copied.mkdir(mode=0o700)
    for file in pki.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
        (copied / file.name).chmod(0o600)
    return copied


# --- HOST-1


def test_host_1_the_names_and_the_address_follow_from_bind() -> None:
    # Shows HOST-1.c, HOST-1.d, HOST-1.e.
    assert url_of("127.0.0.1", 6443) == url_of("0.0.0.0", 6443) == "https://127.0.0.1:6443"
    assert url_of("192.0.2.11", 1) == "https://192.0.2.11:1"
    assert url_of("::1", 6443) == "https://[::1]:6443"
    assert "192.0.2.11" not in HOSTS
    assert {"192.0.2.11", "10.96.0.1", "localhost"} <= set(
        names_of("0.0.0.0", "machine", "192.0.2.11")
    )
    assert "198.51.100.7" in names_of("198.51.100.7", "machine", "192.0.2.11")


def test_host_1_an_address_of_another_machine_and_a_port_in_use_are_refused() -> None:
    # Shows HOST-1.b, HOST-1.f.
    with pytest.raises(CannotRun, match="--bind"):
        listen("192.0.2.250", 0)
    taken = listen("127.0.0.1", 0)
    with pytest.raises(CannotRun, match="--port"):
        listen("127.0.0.1", taken.getsockname()[1])
    assert taken.getsockname()[0] == "127.0.0.1"
    taken.close()
    everywhere = listen("0.0.0.0", 0)
    for address in ("127.0.0.1", "127.0.0.2"):
        socket.create_connection((address, everywhere.getsockname()[1]), timeout=5).close()
    everywhere.close()


# --- HOST-19


@pytest.mark.parametrize(("bind", "flag", "expected"), [
    ("127.0.0.1", "", ""), ("0.0.0.0", "", ""), ("::", "", ""), ("::1", "", ""),
    ("2001:db8::7", "", ""), ("192.0.2.7", "", "192.0.2.7"), ("0.0.0.0", "192.0.2.8", "192.0.2.8"),
])  # fmt: skip
def test_host_19_flags_say_which_address_others_use(bind: str, flag: str, expected: str) -> None:
    # Shows HOST-19.b.
    assert ServerOptions(bind=bind, advertise_address=flag).machine_address == expected


DEVICES = st.lists(
    st.tuples(st.just("d"), st.sampled_from(["127.0.0.1", "10.0.0.5", "192.0.2.7"]), st.booleans()),
    max_size=4,
)


@given(DEVICES)
def test_host_19_without_a_route_it_is_that_of_the_first_device(devices) -> None:
    # Shows HOST-19.a.
    others = [one for one in devices if one[1] != "127.0.0.1"]
    first = next((one for one in others if not one[2]), next(iter(others), ("", "127.0.0.1")))
    assert choose_address(devices) == first[1]


def test_host_19_the_kernel_says_which_devices_there_are() -> None:
    # Shows HOST-19.a.
    found = device_addresses()
    assert ("lo", "127.0.0.1", False) in found
    assert all(is_own_address(address) for _, address, _ in found)
    assert is_own_address("127.0.0.1")
    for other in ("192.0.2.250", "0.0.0.0", "::", "2001:db8::7", "x", ""):
        assert not is_own_address(other)


# --- HOST-3


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_host_3_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    # Shows HOST-3.a, HOST-3.b, STORE-20.a.
    before = os.umask(umask)
    try:
        data = tmp_path / "a/b"
        make_directory(data, "--data-dir")
        make_private(data)
        DirectoryLock(data).release()
        load_credentials(data / "pki", HOSTS)
        write_cluster_id(data, "11111111-1111-1111-1111-111111111111")
        SqliteEngine(data / "store.db", lambda v: b"", lambda k, w: None).close()
    finally:
        os.umask(before)
    for directory in (tmp_path / "a", data, data / "pki"):
        assert mode(directory) == 0o700, directory
    for file in (*data.glob("*"), *(data / "pki").iterdir()):
        assert file.is_dir() or mode(file) == 0o600, file


def test_host_3_a_looser_data_directory_of_ours_is_corrected(
    tmp_path: Path, pki: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Shows HOST-3.c.
    directory = copy_of(pki, tmp_path)
    directory.chmod(0o755)
    for file in directory.iterdir():
        file.chmod(0o644)
    (tmp_path / "cluster-id").write_text("x")
    tmp_path.chmod(0o777)
    make_private(tmp_path)
    load_credentials(directory, HOSTS)
    assert mode(tmp_path) == mode(directory) == 0o700
    assert {mode(directory / name) for name in FILES if not name.endswith(".crt")} == {0o600}
    assert {record.args[0].name for record in caplog.records} == {
        name for name in FILES if not name.endswith(".crt")
    }  # type: ignore[index,union-attr]


def test_host_3_a_directory_that_others_use_is_left_alone(tmp_path: Path) -> None:
    # Shows HOST-3.e.
    (tmp_path / "theirs").write_text("x")
    tmp_path.chmod(0o755)
    with pytest.raises(CannotRun, match="chmod 700"):
        make_private(tmp_path)
    assert mode(tmp_path) == 0o755
    (tmp_path / "theirs").unlink()
    tmp_path.chmod(0o1777)
    with pytest.raises(CannotRun, match="1777"):
        make_private(tmp_path)
    assert mode(tmp_path) == 0o1777


def test_host_3_a_directory_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shows HOST-3.d.
    user = os.geteuid()
    monkeypatch.setattr(files.os, "geteuid", lambda: user + 1)
    with pytest.raises(CannotRun, match=rf"belongs to another user \({user}\)"):
        make_private(tmp_path)
    # root, started by sudo for that user, may use it
    monkeypatch.setattr(files.os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", str(user))
    make_private(tmp_path)


def test_store_20_an_open_store_is_made_private(tmp_path: Path) -> None:
    # Shows STORE-20.b.
    path = tmp_path / "store.db"
    SqliteEngine(path, lambda v: b"", lambda k, w: None).close()
    path.chmod(0o666)
    engine = SqliteEngine(path, lambda v: b"", lambda k, w: None)
    assert {mode(file) for file in tmp_path.glob("store.db*")} == {0o600}
    engine.close()


def test_store_20_a_file_that_is_refused_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    path.chmod(0o644)
    with pytest.raises(Exception, match="another application"):
        SqliteEngine(path, lambda v: b"", lambda k, w: None)
    assert mode(path) == 0o644


# --- HOST-4


def test_host_4_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    # Shows HOST-4.c, HOST-4.d.
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        held = DirectoryLock(tmp_path)
        os.write(tell, b"held")
        signal.pause()
        held.release()
        os._exit(0)
    os.read(told, 4)
    try:
        with pytest.raises(CannotRun, match=rf"in use by another refk8s \(process {child}\)"):
            DirectoryLock(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    DirectoryLock(tmp_path).release()


def test_host_4_a_lock_whose_file_was_removed_locks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = files.fcntl.flock
    removed = []

    def remove_first(descriptor: int, how: int) -> None:
        flock(descriptor, how)
        if not removed:
            removed.append(1)
            (tmp_path / "lock").unlink()

    monkeypatch.setattr(files.fcntl, "flock", remove_first)
    first = DirectoryLock(tmp_path)
    assert removed
    with pytest.raises(CannotRun):
        DirectoryLock(tmp_path)
    first.release()


# --- HOST-5


def test_host_5_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shows HOST-5.b.
    path = tmp_path / "file"
    write_file(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(CannotRun, match="No space left"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_host_5_a_file_and_its_name_are_synchronised_before_and_after_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shows HOST-5.a.
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        done.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def replaced(path: Path, target: Path) -> Path:
        done.append("rename")
        return replace(path, target)

    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_file(tmp_path / "file", b"new")
    assert done == [".file.refk8s-new", "rename", tmp_path.name]


def test_host_5_a_link_planted_beside_a_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (tmp_path / ".file.refk8s-new").symlink_to(victim)
    (tmp_path / "file.new").write_text("a user's own")
    write_file(tmp_path / "file", b"new")
    assert victim.read_text() == "kept" and (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "file.new").read_text() == "a user's own"


def test_host_5_what_is_no_plain_file_or_too_large_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(CannotRun):
            read_file(path)
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(CannotRun, match="more than 10 bytes"):
        read_file(tmp_path / "large", 10)


# --- HOST-6


def test_host_6_a_second_start_changes_nothing(
    tmp_path: Path, pki: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = copy_of(pki, tmp_path)
    before = {file.name: file.read_bytes() for file in directory.iterdir()}
    load_credentials(directory, HOSTS)
    assert {
        file.name: file.read_bytes() for file in directory.iterdir()
    } == before and not caplog.records


@given(
    name=st.sampled_from(FILES),
    how=st.sampled_from(["missing", "empty", "cut", "altered", "of another"]),
    place=st.floats(0, 1),
)
@settings(deadline=None)
def test_host_6_nothing_damaged_is_ever_used(pki: Path, name: str, how: str, place: float) -> None:
    # Shows HOST-6.a, HOST-6.b, HOST-6.c, HOST-6.d, HOST-6.e, HOST-6.f, HOST-6.g, HOST-6.h,
    # HOST-6.j.
    """After any damage to one file, a start is refused in one line or all is whole: each pair
    matches and is trusted."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = copy_of(pki, Path(temporary))
        content = (directory / name).read_bytes()
        at = int(place * (len(content) - 1))
        damaged = {
            "empty": b"", "cut": content[:at], "altered": content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :],
            "of another": certificates.make_key(), "missing": None,
        }[how]  # fmt: skip
        if damaged is None:
            (directory / name).unlink()
        else:
            (directory / name).write_bytes(damaged)
        try:
            credentials = load_credentials(directory, HOSTS)
        except CannotRun as refused:
            assert "\n" not in str(refused) and name.partition(".")[0] in str(refused)
            assert name in ("ca.crt", "ca.key", "admin.token", "sa.key"), refused
            assert damaged is None or (directory / name).read_bytes() == damaged
            return
        now = datetime.now(UTC)
        assert len(credentials.admin_token) >= 16
        server, authority = Pair(credentials.certificate, credentials.key), credentials.authority
        assert not certificates.problem_of_self_signed(Pair(authority, credentials.authority_key))
        signer = token_signer(credentials.token_key)
        assert signer.verify(b"data", signer.sign(b"data"))
        assert not certificates.problem_of_server(server, authority, HOSTS, now)
        admin = Pair(credentials.admin_certificate, credentials.admin_key)
        assert not certificates.problem_of_client(
            admin, server, authority, "kubernetes-admin", "system:masters", now
        )


def test_host_6_an_rsa_key_of_an_earlier_version_is_kept_and_goes_on_signing(
    tmp_path: Path, pki: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Shows HOST-6.h.
    assert isinstance(parse_key((pki / "sa.key").read_bytes()), EcKey), "what is made anew is EC"
    directory = copy_of(pki, tmp_path)
    made = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        capture_output=True,
        check=True,
    ).stdout
    (directory / "sa.key").write_bytes(made)
    key = load_credentials(directory, HOSTS).token_key
    assert isinstance(key, RsaKey) and key == parse_key(made)
    assert (directory / "sa.key").read_bytes() == made and not caplog.records
    signer = token_signer(key)
    assert signer.verify(b"data", signer.sign(b"data"))


def test_host_6_an_empty_token_key_is_refused(tmp_path: Path, pki: Path) -> None:
    directory = copy_of(pki, tmp_path)
    for empty in (b"", b"\n", b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"):
        (directory / "sa.key").write_bytes(empty)
        with pytest.raises(CannotRun, match=r"sa\.key.*remove it"):
            load_credentials(directory, HOSTS)


def test_host_6_a_certificate_is_signed_anew_where_names_change_or_it_expires(
    tmp_path: Path, pki: Path
) -> None:
    directory = copy_of(pki, tmp_path)
    before = (directory / "server.crt").read_bytes()
    load_credentials(directory, (*HOSTS, "192.0.2.77"))
    changed = (directory / "server.crt").read_bytes()
    assert (
        changed != before and (directory / "ca.crt").read_bytes() == (pki / "ca.crt").read_bytes()
    )
    key, then = certificates.make_key(), datetime.now(UTC) - certificates.VALID + timedelta(days=20)
    (directory / "server.key").write_bytes(key)
    old = certificates.make_server(key, (directory / "ca.key").read_bytes(), HOSTS, then)
    (directory / "server.crt").write_bytes(old)
    load_credentials(directory, HOSTS)
    assert (directory / "server.crt").read_bytes() != old


def test_host_6_a_certificate_of_another_user_is_not_the_administrators(
    tmp_path: Path, pki: Path
) -> None:
    directory = copy_of(pki, tmp_path)
    key = certificates.make_key()
    (directory / "admin.key").write_bytes(key)
    other = certificates.make_client(
        key, (directory / "ca.key").read_bytes(), "somebody", "system:masters", datetime.now(UTC)
    )
    (directory / "admin.crt").write_bytes(other)
    load_credentials(directory, HOSTS)
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-subject", "-in", directory / "admin.crt"],
        capture_output=True,
        text=True,
    ).stdout
    assert "kubernetes-admin" in shown and "system:masters" in shown


def test_host_6_a_directory_without_the_authoritys_key_gets_a_new_authority(
    tmp_path: Path, pki: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Shows HOST-6.k.
    directory = copy_of(pki, tmp_path)
    for name in ("ca.key", "admin.key", "admin.crt", "sa.key"):
        (directory / name).unlink()
    (directory / "server.names").write_text("localhost")
    (directory / "token.key").write_bytes(b"x" * 32)
    load_credentials(directory, HOSTS)
    assert {file.name for file in directory.iterdir()} == {*FILES, "lock"}
    assert (directory / "admin.token").read_bytes() == (pki / "admin.token").read_bytes()
    assert any("new authority" in record.getMessage() for record in caplog.records)


def test_host_6_an_id_is_read_back_or_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Shows HOST-6.i.
    caplog.set_level(logging.WARNING)
    assert read_cluster_id(tmp_path, False) == ""
    write_cluster_id(tmp_path, "11111111-1111-1111-1111-111111111111")
    assert read_cluster_id(tmp_path, False) == "11111111-1111-1111-1111-111111111111"
    for damaged in (b"", b"\xff\xfe", b"../../etc", b"1111"):
        (tmp_path / "cluster-id").write_bytes(damaged)
        assert read_cluster_id(tmp_path, True) == ""
        with pytest.raises(CannotRun, match="remove it"):
            read_cluster_id(tmp_path, False)


def test_host_2_a_listener_takes_only_what_arrives_at_its_devices() -> None:
    # Shows HOST-2.f.
    """The socket for pods takes packets of their bridge and of the loopback device; a device
    without any traffic stands for others."""
    for devices, answered in (
        (("lo",), True),
        ((ANOTHER_DEVICE, "lo"), True),
        ((ANOTHER_DEVICE,), False),
    ):
        server = listen("127.0.0.1", 0, devices)
        with socket.socket() as client:
            client.settimeout(5 if answered else 0.3)
            if answered:
                client.connect(server.getsockname())
            else:
                with pytest.raises(TimeoutError):
                    client.connect(server.getsockname())
        server.close()
    with pytest.raises(CannotRun):
        listen("127.0.0.1", 0, ("no-such-device",))


def test_host_3_another_process_may_make_the_same_directory(tmp_path, monkeypatch):
    """It is made between the look and the making: the API servers of one cluster start together."""
    directory, in_the_way = tmp_path / "a" / "pki", tmp_path / "file"
    directory.mkdir(parents=True)
    in_the_way.write_text("")
    monkeypatch.setattr(Path, "exists", lambda path: not path.is_relative_to(tmp_path))
    assert make_directory(directory, "--pki") == []
    with pytest.raises(CannotRun, match="a file is in the way; choose another with --pki"):
        make_directory(in_the_way, "--pki")
