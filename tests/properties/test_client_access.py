"""Kubeconfig files, token files and credential plug-ins. Rules CLIENT-8 to CLIENT-10
(spec/client.md)."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import yaml
from client_world import a_steady_server, an_answer, asked, credentials, loopback, scripted
from hypothesis import given
from hypothesis import strategies as st

from refk8s.components import certificates
from refk8s.components.client import access as access_files
from refk8s.components.client import credentials as renewed
from refk8s.components.client import tls
from refk8s.components.client.access import find_access, read_kubeconfig
from refk8s.components.client.credentials import NoCredentials, read_printed
from refk8s.components.files import CannotRun
from refk8s.components.kubeconfig import kubeconfig_of
from refk8s.core.api import resources, status
from refk8s.core.api.authentication_v1 import SelfSubjectReview
from refk8s.core.api.codec import encode
from refk8s.core.api.core_v1 import ConfigMap
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.user import ADMIN
from refk8s.core.client.kubeconfig import Access, BadKubeconfig, Pem, Plugin, read_access

GET = Request("get", resources.CONFIG_MAPS, "default", "a", user=ADMIN)
GOOD = an_answer(200, encode(ConfigMap(metadata=ObjectMeta(name="a"))))
REJECTED = an_answer(401, encode(status.unauthorized()))


async def who_am_i(client: Any) -> str:
    """The name of the user as whom the API server knows the client."""
    review = Request("create", resources.SELF_SUBJECT_REVIEWS, body=SelfSubjectReview())
    answer = await asked(client, review)
    assert answer is not None and answer.ok
    return str(answer.body.status.user_info.username)


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def a_config(**changes: Any) -> dict[str, Any]:
    """A kubeconfig with two contexts. `user` and `cluster` change those of the first."""
    data = base64.b64encode(b"PEM").decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": changes.pop("current", "one"),
        "contexts": [
            {"name": "one", "context": {"cluster": "c1", "user": "u1"}},
            {"name": "two", "context": {"cluster": "c2", "user": ""}},
        ],
        "clusters": [
            {
                "name": "c1",
                "cluster": {
                    "server": "https://one:6443",
                    "certificate-authority-data": data,
                    **changes.pop("cluster", {}),
                },
            },
            {"name": "c2", "cluster": {"server": "http://two/prefix/"}},
        ],
        "users": [{"name": "u1", "user": changes.pop("user", {"token": "t"})}],
        **changes,
    }


# --- CLIENT-8


def test_client_8_a_context_names_the_server_and_the_credentials() -> None:
    # Shows CLIENT-8.a, CLIENT-8.c, CLIENT-8.d, CLIENT-8.e, CLIENT-8.f.
    one = read_access(a_config())
    assert one == Access("https://one:6443", Pem(content=b"PEM"), token="t")
    assert read_access(a_config(), "two") == Access("http://two/prefix")
    user = {
        "client-certificate": "pki/a.crt",
        "client-key": "/etc/a.key",
        "tokenFile": "token",
        "as": "jane",
        "as-groups": ["g", "h"],
        "as-user-extra": {"a/b": ["x"]},
    }
    cluster = {
        "certificate-authority-data": "",
        "certificate-authority": "ca",
        "tls-server-name": "n",
    }
    files = read_access(a_config(user=user, cluster=cluster), directory="/home/jane")
    assert (files.certificate.path, files.key.path) == ("/home/jane/pki/a.crt", "/etc/a.key")
    assert (files.token_file, files.authority.path) == ("/home/jane/token", "/home/jane/ca")
    assert files.server_name == "n"
    assert files.impersonation == (
        ("Impersonate-User", "jane"),
        ("Impersonate-Group", "g"),
        ("Impersonate-Group", "h"),
        ("Impersonate-Extra-a%2Fb", "x"),
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"current": ""}, "no current-context"),
        ({"current": "three"}, "no contexts of the name 'three'"),
        ({"users": []}, "no users of the name 'u1'"),
        ({"clusters": [{"name": "c1"}] * 2}, "2 clusters of the name 'c1'"),
        ({"contexts": {}}, "contexts is no list"),
        ({"kind": "Pod"}, "it is a Pod"),
        ({"cluster": {"server": "one:6443"}}, "no URL"),
        ({"cluster": {"server": "https://one:port"}}, "no URL"),
        ({"cluster": {"server": "https://user@one"}}, "more than a host"),
        ({"cluster": {"server": "https://one/\r\nX: y"}}, "no URL"),
        ({"cluster": {"proxy-url": "http://proxy"}}, "proxy-url is not supported"),
        ({"cluster": {"insecure-skip-tls-verify": True}}, "does not go with"),
        ({"cluster": {"certificate-authority-data": "%"}}, "not base64"),
        ({"user": {"auth-provider": {"name": "gcp"}}}, "auth-provider is not supported"),
        ({"user": {"client-certificate": "a"}}, "require each other"),
        ({"user": {"token": "a\nb"}}, "no header"),
        ({"user": {"token": ["t"]}}, "token is no text"),
        ({"user": {"as-groups": ["g"]}}, "require `as`"),
        ({"user": {"exec": {"apiVersion": "v1", "command": "c"}}}, "exec.apiVersion"),
    ],
)  # fmt: skip
def test_client_8_a_file_that_cannot_be_used_is_refused_in_one_line(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    # Shows CLIENT-8.g.
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(a_config(**changes)))
    with pytest.raises(CannotRun) as refused:
        read_kubeconfig(path)
    assert words in str(refused.value) and str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


json_trees = st.recursive(
    st.none() | st.booleans() | st.text(max_size=3) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.data(), json_trees)
def test_client_8_any_tree_is_read_or_refused(data: st.DataObject, odd: Any) -> None:
    config = a_config()
    places = [config, config["contexts"][0], config["contexts"][0]["context"], config["users"][0]]
    places += [config["clusters"][0], config["clusters"][0]["cluster"], config["users"][0]["user"]]
    place = data.draw(st.sampled_from(places))
    fields = [*place, "exec", "as", "as-groups", "as-user-extra", "client-key-data", "extensions"]
    place[data.draw(st.sampled_from(fields))] = odd
    try:
        read_access(config)
    except BadKubeconfig as error:
        assert "secret" not in str(error)


def test_client_8_the_file_is_the_one_of_the_flag_then_of_the_environment_then_of_the_pod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shows CLIENT-8.b.
    monkeypatch.setattr(access_files, "SERVICE_ACCOUNT", tmp_path)
    for name in ("flag", "variable"):
        cluster = {"server": f"https://{name}"}
        (tmp_path / name).write_text(yaml.safe_dump(a_config(cluster=cluster)))
    variables = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(CannotRun, match="--kubeconfig"):
        find_access(None, "", variables)
    (tmp_path / "token").write_text("t")
    assert find_access(None, "", variables) == Access(
        "https://10.96.0.1:443", Pem(str(tmp_path / "ca.crt")), token_file=str(tmp_path / "token")
    )
    variables["KUBECONFIG"] = f"{tmp_path / 'variable'}:/nowhere"
    assert find_access(None, "", variables).server == "https://variable"
    assert find_access(str(tmp_path / "flag"), "", variables).server == "https://flag"
    with pytest.raises(CannotRun, match="there is no"):
        find_access(str(tmp_path / "nothing"), "", variables)


def test_client_8_the_kubeconfig_of_the_administrator_is_accepted(tmp_path: Path) -> None:
    """With a client certificate, whose key is in the file, and with an impersonation."""
    # Shows CLIENT-8.f.

    async def test() -> None:
        path = tmp_path / "config"
        path.write_text(kubeconfig_of("https://127.0.0.1:1", credentials()))
        found = read_kubeconfig(path)
        by_certificate = {"authority": found.authority, "certificate": found.certificate}
        by_certificate |= {"key": found.key, "token": ""}
        for more in (by_certificate, {"authority": found.authority, "token": found.token}):
            async with loopback(await a_steady_server(), **more) as world:
                assert await who_am_i(world.client) == "kubernetes-admin"
        jane = (("Impersonate-User", "jane"),)
        async with loopback(await a_steady_server(), impersonation=jane) as world:
            assert await who_am_i(world.client) == "jane"

    in_loop(test)


def test_client_8_the_certificate_of_the_server_is_verified(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Shows CLIENT-8.e.
    async def test() -> None:
        other = certificates.make_self_signed(certificates.make_key(), "other", certificates_now())
        for more, is_trusted in (
            ({}, True),
            ({"authority": Pem(content=other)}, False),
            ({"authority": Pem()}, False),
            ({"authority": Pem(), "insecure": True}, True),
            ({"server_name": "kubernetes"}, False),  # not one of this certificate's names
        ):
            async with loopback(await a_steady_server(), **more) as world:
                answer = await asked(world.client, GET)
                assert (answer is not None) == is_trusted, more
        assert "its certificate is not valid" in caplog.text

    in_loop(test)


def certificates_now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


# --- CLIENT-9


def test_client_9_a_token_file_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shows CLIENT-9.a, CLIENT-9.c, CLIENT-9.d.
    monkeypatch.setattr(renewed, "TOKEN_FILE_SECONDS", 0.05)
    token = tmp_path / "token"
    token.write_text("first\n")

    async def test() -> None:
        async with scripted(*[GOOD] * 5, token_file=str(token)) as (server, client):
            for text in ("first", "first", "second", "second"):
                if text == "second":
                    token.write_text("second")
                await asked(client, GET)
                await asyncio.sleep(0.1)
                assert f"Authorization: Bearer {text}\r\n".encode() in server.requests[-1]
            token.unlink()
            await asked(client, GET)
            assert b"Bearer second\r\n" in server.requests[-1]
        monkeypatch.setattr(renewed, "TOKEN_FILE_SECONDS", 60)
        token.write_text("third")
        async with scripted(GOOD, REJECTED, GOOD, REJECTED, token_file=str(token)) as (
            server,
            client,
        ):
            await asked(client, GET)
            token.write_text("fourth")
            answer = await asked(client, GET)
            assert answer is not None and answer.code == 200
            assert [b"fourth" in each for each in server.requests] == [False, False, True]
        async with scripted(REJECTED, REJECTED, token_file=str(token)) as (server, client):
            answer = await asked(client, GET)
            assert answer is not None and answer.code == 401 and len(server.requests) == 2

    in_loop(test)


def test_client_9_a_certificate_that_is_replaced_is_used_by_the_next_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shows CLIENT-9.b.
    monkeypatch.setattr(tls, "CHECK_SECONDS", 0.0)
    authority_key = credentials().authority_key.read_bytes()
    certificate, key = tmp_path / "a.crt", tmp_path / "a.key"

    def sign(name: str) -> None:
        made = certificates.make_key()
        key.write_bytes(made)
        certificate.write_bytes(
            certificates.make_client(made, authority_key, name, "nobody", certificates_now())
        )

    async def test() -> None:
        sign("jane")
        pems = {"certificate": Pem(str(certificate)), "key": Pem(str(key)), "token": ""}
        async with loopback(await a_steady_server(), **pems) as world:
            for name in ("jane", "john"):
                sign(name)
                await asyncio.sleep(1.2)
                await asyncio.gather(*[asked(world.client, GET) for _ in range(40)])
                assert await who_am_i(world.client) == name
            certificate.write_text("half of it")
            await asyncio.sleep(1.2)
            key.unlink()
            world.client.pool.retire()
            assert await who_am_i(world.client) == "john"

    in_loop(test)


# --- CLIENT-10


def a_plugin(directory: Path, text: str) -> Plugin:
    """A program in Python that notes each of its runs."""
    program = directory / "plugin"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\nopen({str(directory / 'runs')!r}, "
        f"'a').write('x')\n{text}"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return Plugin(
        "client.authentication.k8s.io/v1",
        str(program),
        ("an argument",),
        (("A", "b"),),
        {"server": "s"},
    )


PRINT = """
told = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
assert told["spec"] == {"interactive": False, "cluster": {"server": "s"}}
assert sys.argv[1] == "an argument" and os.environ["A"] == "b" and sys.stdin.read() == ""
print(json.dumps({"kind": "ExecCredential", "apiVersion": told["apiVersion"], "status": STATUS}))
"""


def runs(directory: Path) -> int:
    return len((directory / "runs").read_text())


def test_client_10_a_plug_in_is_run_once_until_its_token_expires_or_is_rejected(
    tmp_path: Path,
) -> None:
    # Shows CLIENT-10.a, CLIENT-10.c.
    async def test() -> None:
        plugin = a_plugin(tmp_path, PRINT.replace("STATUS", '{"token": "t" + str(os.getpid())}'))
        async with scripted(*[GOOD] * 5, REJECTED, GOOD, plugin=plugin) as (server, client):
            await asyncio.gather(*[asked(client, GET) for _ in range(5)])
            assert runs(tmp_path) == 1
            answer = await asked(client, GET)
            assert answer is not None and answer.code == 200 and runs(tmp_path) == 2
            assert len({each.partition(b"Bearer ")[2] for each in server.requests}) == 2
        old = '{"token": "t", "expirationTimestamp": "2020-01-01T00:00:00Z"}'
        (tmp_path / "runs").unlink()
        plugin = a_plugin(tmp_path, PRINT.replace("STATUS", old))
        async with scripted(GOOD, GOOD, plugin=plugin) as (_, client):
            for count in (1, 2):
                await asked(client, GET)
                assert runs(tmp_path) == count

    in_loop(test)


def test_client_10_a_plug_in_may_print_a_certificate(tmp_path: Path) -> None:
    admin = {
        "clientCertificateData": credentials().admin_certificate.read_text(),
        "clientKeyData": credentials().admin_key.read_text(),
    }

    async def test() -> None:
        plugin = a_plugin(tmp_path, PRINT.replace("STATUS", repr(admin)))
        async with loopback(await a_steady_server(), token="", plugin=plugin) as world:
            assert await who_am_i(world.client) == "kubernetes-admin"

    in_loop(test)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sys.exit(3)", "ended with status 3"),
        ("print('secret')", "printed no ExecCredential"),
        ("print('x' * 3_000_000)", "printed more than"),
        ("import time; time.sleep(60)", "did not end within"),
    ],
)
def test_client_10_a_plug_in_that_fails_leaves_requests_unknown_and_is_not_run_at_once_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    text: str,
    words: str,
) -> None:
    # Shows CLIENT-10.b, CLIENT-10.d.
    monkeypatch.setattr(renewed, "PLUGIN_SECONDS", 2.0)

    async def test() -> None:
        async with scripted(plugin=a_plugin(tmp_path, text)) as (server, client):
            for _ in range(3):
                assert await asked(client, GET) is None
            assert runs(tmp_path) == 1 and not server.requests
            ended: list[int] = []
            client.watch(Request("watch", resources.PODS), print, ended.append)
            await asyncio.sleep(0.05)
            assert ended == [0]

    in_loop(test)
    assert words in caplog.text and "secret" not in caplog.text


def test_client_10_a_plug_in_that_requires_a_terminal_is_refused() -> None:
    # Shows CLIENT-10.e.
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "bin/get", "args": ["a"]}
    found = read_access(a_config(user={"exec": plugin}), directory="/home/jane").plugin
    assert found is not None and found.command == "/home/jane/bin/get"
    wanted = {**plugin, "command": "get", "provideClusterInfo": True}
    found = read_access(a_config(user={"exec": wanted})).plugin
    assert found is not None and found.command == "get"
    assert found.cluster is not None and found.cluster["server"] == "https://one:6443"
    with pytest.raises(BadKubeconfig, match="terminal"):
        read_access(a_config(user={"exec": {**plugin, "interactiveMode": "Always"}}))


@given(json_trees | st.binary())
def test_client_10_any_output_is_read_or_refused(output: Any) -> None:
    version = "client.authentication.k8s.io/v1"
    texts = [output if isinstance(output, bytes) else json.dumps(output).encode()]
    if not isinstance(output, bytes):
        good = {"kind": "ExecCredential", "apiVersion": version, "status": {"token": "t"}}
        texts.append(json.dumps({**good, "status": output}).encode())
        for field in ("token", "expirationTimestamp", "clientKeyData", "clientCertificateData"):
            texts.append(json.dumps({**good, "status": {"token": "t", field: output}}).encode())
    for text in texts:
        try:
            printed = read_printed(text, version, "name")
            assert printed.token or printed.certificate
        except NoCredentials:
            pass
