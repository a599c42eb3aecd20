"""Keys and certificates made by a child process. Rule HOST-6 (spec/host.md).

Each test forks a process with one thread, which a process of pytest is not.
"""

import subprocess
import sys
from pathlib import Path

from refk8s.components.credentials import load_credentials, load_front_proxy_authority

HOSTS = ("127.0.0.1", "machine")

BEGIN = f"""
import os, signal, sys
from pathlib import Path
from refk8s.components import certificates
from refk8s.components.credentials import load_credentials, load_front_proxy_authority
from refk8s.components.key_maker import start_key_maker
directory = Path(sys.argv[1])
keys = start_key_maker(directory)
def load():
    load_credentials(directory, {HOSTS}, keys=keys or certificates)
    load_front_proxy_authority(directory, keys or certificates)
"""


def run(program: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program, str(directory)],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout + done.stderr


def check_keys(directory: Path, caplog) -> None:
    """They are accepted by the next start, which changes nothing."""
    before = {file.name: file.read_bytes() for file in directory.iterdir()}
    assert len(before) == 11, before.keys()
    load_credentials(directory, HOSTS)
    load_front_proxy_authority(directory)
    assert {file.name: file.read_bytes() for file in directory.iterdir()} == before
    assert not caplog.records


def test_host_6_a_child_makes_the_keys_of_a_first_start(tmp_path: Path, caplog) -> None:
    """So the library is not loaded here; and the child has ended when it is released."""
    said = run(
        """
load()
assert "cryptography" not in sys.modules
child = keys._child
keys.close()
import threading
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(60)
try:
    os.kill(child, 0)
except ProcessLookupError:
    print("it has ended")
""",
        tmp_path / "pki",
    )
    assert said == "it has ended\n"
    check_keys(tmp_path / "pki", caplog)


def test_host_6_without_the_child_this_process_makes_them(tmp_path: Path, caplog) -> None:
    run(
        """
os.kill(keys._child, signal.SIGKILL)
load()
assert "cryptography" in sys.modules
keys.close()
""",
        tmp_path / "pki",
    )
    check_keys(tmp_path / "pki", caplog)


def test_host_6_what_the_child_cannot_make_is_an_error_here(tmp_path: Path) -> None:
    said = run(
        """
from datetime import UTC, datetime
try:
    keys.make_self_signed(b"no key", "name", datetime.now(UTC))
except ValueError:
    print("refused")
assert keys.make_key().startswith(b"-----BEGIN PRIVATE KEY-----")  # and it goes on
keys.close()
""",
        tmp_path / "pki",
    )
    assert said == "refused\n"


def test_host_6_a_later_start_has_no_child(tmp_path: Path) -> None:
    load_credentials(tmp_path / "pki", HOSTS)
    assert run("assert keys is None; load(); print('loaded')", tmp_path / "pki") == "loaded\n"
