"""Files of authentication and authorization that change: AUTHZ-13 (spec/authorization.md), OIDC-9
(spec/oidc.md)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from test_authz_webhook import MAPS, WEBHOOK, a_file
from test_http import TOKEN, a_server, asked

from refk8s.components import config_reload
from refk8s.components.config_reload import INTERVAL_SECONDS, ConfigReload
from refk8s.components.http import Front
from refk8s.core.api.user import AUTHENTICATED, User
from refk8s.core.apiserver.authorize.modes import authorizers
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.oidc.issuers import Anonymous

JANE = User("jane", groups=(AUTHENTICATED,))
HEAD = {"apiVersion": "apiserver.config.k8s.io/v1"}
RBAC = {"type": "RBAC", "name": "rbac"}


def an_authorization(directory: Path, *modes: str) -> str:
    """A file with these modes. The server of a webhook does not exist, so it fails."""
    kubeconfig = directory / "kubeconfig"
    cluster = {"server": "https://127.0.0.1:9/w"}
    tree = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "contexts": [{"name": "x", "context": {"cluster": "c"}}],
        "current-context": "x",
    }
    kubeconfig.write_text(json.dumps(tree))
    connection = {"type": "KubeConfigFile", "kubeConfigFile": str(kubeconfig)}
    webhook = {**WEBHOOK, "connectionInfo": connection}
    kinds = {
        "Webhook": {"type": "Webhook", "name": "hook", "webhook": webhook},
        "AlwaysAllow": {"type": "AlwaysAllow", "name": "all"},
        "AlwaysDeny": {"type": "AlwaysDeny", "name": "none"},
    }
    return json.dumps(a_file(authorizers=[kinds[mode] for mode in modes]))


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (("AlwaysAllow",), 200, "is followed"),
        (("Webhook", "AlwaysAllow"), 500, "is followed"),
        (("AlwaysAllow", "Webhook"), 200, "is followed"),
        (("AlwaysDeny",), 200, "AlwaysAllow: can only be added or removed by a restart"),
        (("AlwaysAllow", "AlwaysDeny"), 200, "AlwaysDeny: can only be added or removed"),
        ("{", 200, "cannot be followed"),
        ("{}", 200, "must be of kind AuthorizationConfiguration"),
        (None, 200, "there is no such file"),
    ],
)
def test_authz_13_a_change_is_followed_if_it_can_be(
    tmp_path: Path,
    change: Any,
    code: int,
    words: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("refk8s.components.review_webhook.DELAY_SECONDS", 0.001)

    async def test() -> None:
        file = tmp_path / "authorization"
        file.write_text(an_authorization(tmp_path, "AlwaysAllow"))
        authorizer, _ = authorizers(("AlwaysAllow",))
        config = Config(users={TOKEN: JANE}, authorizer=authorizer, modes=("AlwaysAllow",))
        front = Front(await a_server(config=config))
        reload = ConfigReload(front)
        reload.watch_authorization(str(file))
        assert await reload.round() == INTERVAL_SECONDS and not caplog.messages
        if change is None:
            file.unlink()
        elif isinstance(change, str):
            file.write_text(change)
        else:
            # one space more: the first case says the same as before
            file.write_text(an_authorization(tmp_path, *change) + " ")
        await reload.round()
        assert words in caplog.messages[-1]
        assert (await asked(front, "GET", MAPS))[0] == code
        count = len(caplog.messages)
        await reload.round()
        assert [one for one in caplog.messages[count:] if "changed" in one] == []
        front.api.stop()

    asyncio.run(test())


def test_authz_13_an_answer_of_a_webhook_that_is_gone_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request waits for the webhook when the file changes: it is decided by the new one."""
    monkeypatch.setattr("refk8s.components.review_webhook.DELAY_SECONDS", 0.2)

    async def test() -> None:
        file = tmp_path / "authorization"
        file.write_text(an_authorization(tmp_path, "Webhook", "AlwaysAllow"))
        authorizer, _ = authorizers(("AlwaysAllow",))
        config = Config(users={TOKEN: JANE}, authorizer=authorizer, modes=("AlwaysAllow",))
        front = Front(await a_server(config=config))
        reload = ConfigReload(front)
        reload.watch_authorization(str(file))
        file.write_text(an_authorization(tmp_path, "Webhook", "AlwaysAllow") + " ")
        await reload.round()
        waiting = asyncio.create_task(asked(front, "GET", MAPS))
        await asyncio.sleep(0.1)
        file.write_text(an_authorization(tmp_path, "AlwaysAllow"))
        await reload.round()
        assert not waiting.done() and not front.api.webhooks
        assert (await waiting)[0] == 200
        front.api.stop()

    asyncio.run(test())


def an_authentication(*urls: str, anonymous: bool = True) -> str:
    mappings = {"username": {"claim": "sub", "prefix": ""}}
    issuers = [
        {"issuer": {"url": url, "audiences": ["a"]}, "claimMappings": mappings} for url in urls
    ]
    tree = {**HEAD, "kind": "AuthenticationConfiguration", "jwt": issuers}
    return json.dumps({**tree, "anonymous": {"enabled": anonymous}})


@pytest.mark.parametrize(
    ("text", "issuers", "words"),
    [
        (an_authentication("https://a", "https://b"), ["https://a", "https://b"], "is followed"),
        (an_authentication(), [], "is followed"),
        (an_authentication("https://b", anonymous=False), None, "anonymous: cannot be changed"),
        (an_authentication("http://b"), None, "URL scheme must be https"),
        ("{", None, "cannot be followed"),
    ],
)
def test_oidc_9_a_change_is_followed_if_it_can_be(
    tmp_path: Path,
    text: str,
    issuers: list[str] | None,
    words: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetched: list[list[str]] = []

    class Issuers(config_reload.Issuers):
        async def refresh(self) -> None:
            fetched.append(sorted(self.keys))

    monkeypatch.setattr(config_reload, "Issuers", Issuers)

    async def test() -> None:
        file = tmp_path / "authentication"
        file.write_text(an_authentication("https://a"))
        front = Front(await a_server(config=Config(users={TOKEN: JANE})))
        reload = ConfigReload(front)
        reload.watch_authentication(str(file), Anonymous(), "https://own")
        await reload.round()
        file.write_text(text)
        await reload.round()
        assert words in caplog.messages[-1]
        assert sorted(front.api.config.issuers) == (issuers or [])
        assert fetched == ([issuers] if issuers is not None else [])
        assert (front.issuers is None) == (issuers is None)
        front.api.stop()

    asyncio.run(test())
