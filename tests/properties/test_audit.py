"""The audit log (spec/audit.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refk8s.components.audit_log import AuditLog
from refk8s.components.auditing import Auditor, make_auditor
from refk8s.components.clock import Clock
from refk8s.components.files import CannotRun
from refk8s.core.api import resources
from refk8s.core.api.codec import from_tree
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.user import ADMIN, AUTHENTICATED, User
from refk8s.core.apiserver.audit.event import EVENT_BYTES_MAX
from refk8s.core.apiserver.audit.policy import LEVELS, BadPolicy, read_policy
from refk8s.core.apiserver.config import Attributes, Config, Decision
from refk8s.core.apiserver.http import WireRequest
from refk8s.core.apiserver.respond import Reply
from refk8s.core.store import EMPTY

JANE = User("jane", uid="u", groups=("team", AUTHENTICATED), extra=(("k", ("v",)),))


def policy(*rules: dict[str, Any], **more: Any) -> Any:
    return read_policy({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules), **more})  # fmt: skip


def level(rule: dict[str, Any], **attributes: Any) -> str | None:
    given_user = attributes.pop("user", JANE)
    verb = attributes.pop("verb", "get")
    found = policy({"level": "Metadata", **rule}).rule_of(
        Attributes(given_user, verb, **attributes)
    )
    return None if found is None else found.level


PODS = {"resource": "pods", "namespace": "n", "name": "p"}
LOG = {**PODS, "subresource": "log"}


@pytest.mark.parametrize(
    ("rule", "attributes", "matches"),
    [
        ({}, PODS, True),
        ({"users": ["jane"]}, PODS, True),
        ({"users": ["joe"]}, PODS, False),
        ({"userGroups": ["x", "team"]}, PODS, True),
        ({"verbs": ["get", "list"]}, PODS, True),
        ({"verbs": ["list"]}, PODS, False),
        ({"resources": [{"group": "", "resources": ["pods"]}]}, PODS, True),
        ({"resources": [{"group": "", "resources": ["pods"]}]}, LOG, False),
        ({"resources": [{"group": "", "resources": ["pods/log"]}]}, LOG, True),
        ({"resources": [{"group": "", "resources": ["pods/*"]}]}, LOG, True),
        ({"resources": [{"group": "", "resources": ["*/log"]}]}, LOG, True),
        ({"resources": [{"group": "", "resources": ["*/log"]}]}, PODS, False),
        ({"resources": [{"group": "", "resources": ["*"]}]}, LOG, True),
        ({"resources": [{"group": ""}]}, PODS, True),
        ({"resources": [{"group": "apps"}]}, PODS, False),
        ({"resources": [{"group": "", "resources": ["pods"], "resourceNames": ["p"]}]}, PODS, True),
        (
            {"resources": [{"group": "", "resources": ["pods"], "resourceNames": ["q"]}]},
            PODS,
            False,
        ),
        ({"namespaces": ["n"]}, PODS, True),
        ({"namespaces": [""]}, PODS, False),
        ({"namespaces": [""]}, {"resource": "nodes"}, True),
        ({"nonResourceURLs": ["/healthz*"]}, {"path": "/healthz/etcd"}, True),
        ({"nonResourceURLs": ["/healthz"]}, {"path": "/healthz/etcd"}, False),
        ({"nonResourceURLs": ["*"]}, {"path": "/version"}, True),
        ({"nonResourceURLs": ["/version"]}, PODS, False),
        ({"namespaces": ["n"]}, {"path": "/version"}, False),
        ({"level": "None"}, PODS, False),
    ],
)
def test_audit_2_a_rule_matches_users_verbs_and_resources_or_paths(rule, attributes, matches):
    assert (level(rule, **attributes) is not None) is matches


@given(st.lists(st.sampled_from(LEVELS), min_size=1, max_size=4))
def test_audit_2_the_first_rule_that_matches_decides(levels):
    rules = [{"level": one, "users": ["jane"]} for one in levels]
    found = policy({"level": "Request", "users": ["joe"]}, *rules).rule_of(Attributes(JANE, "get"))
    assert (None if found is None else found.level) == (None if levels[0] == "None" else levels[0])


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({}, "rules: must have at least one"),
        ({"rules": [{"level": "All"}]}, r"rules\[0\].level: must be one of"),
        ({"rules": [{"level": "None", "x": 1}]}, r"rules\[0\].x: not known"),
        ({"rules": [{"level": "None", "verbs": "get"}]}, "must be a list of texts"),
        ({"rules": [{"level": "None", "nonResourceURLs": ["/"], "namespaces": ["a"]}]}, "both regular resources"),
        ({"rules": [{"level": "None", "nonResourceURLs": ["a"]}]}, "must begin with /"),
        ({"rules": [{"level": "None", "resources": [{"resourceNames": ["a"]}]}]}, "at least one resource"),
        ({"rules": [{"level": "None", "resources": [{"group": "apps/v1"}]}]}, "without a version"),
        ({"rules": [{"level": "None"}], "omitStages": ["x"]}, "omitStages: must be some of"),
        ({"rules": [{"level": "None"}], "omitManagedFields": 1}, "omitManagedFields: must be true"),
    ],
)  # fmt: skip
def test_audit_1_a_policy_that_cannot_be_followed_is_refused(tree, words):
    with pytest.raises(BadPolicy, match=words):
        read_policy({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", **tree})


def test_audit_1_the_flags_say_what_is_missing(tmp_path):
    assert make_auditor({"policy_file": "", "log_path": ""}, Clock()) is None
    path = tmp_path / "p.yaml"
    for flags, words in (
        ({"log_path": "-"}, "--audit-log-path: needs"),
        ({"policy_file": str(path)}, "--audit-policy-file: needs"),
        ({"policy_file": str(path), "log_path": "-"}, "there is no such file"),
    ):
        with pytest.raises(CannotRun, match=words):
            make_auditor(flags, Clock())
    path.write_text("kind: Policy\napiVersion: audit.k8s.io/v1\nrules: []\n")
    with pytest.raises(CannotRun, match="at least one"):
        make_auditor({"policy_file": str(path), "log_path": "-"}, Clock())


class Recorder:
    """An auditor whose log is kept."""

    def __init__(self, *rules: dict[str, Any], **more: Any) -> None:
        self.lines: list[bytes] = []
        log: Any = self
        self.auditor = Auditor(policy(*rules, **more), log, Clock())

    def write(self, line: bytes) -> None:
        self.lines.append(line)

    @property
    def events(self) -> list[Any]:
        assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in self.lines)
        return [json.loads(line) for line in self.lines]

    def request(
        self,
        method: str,
        path: str,
        code: int,
        body: Any = None,
        answer: Any = None,
        original: User | None = None,
        headers: dict[str, str] | None = None,
        config: Config = Config(),  # noqa: B008
    ) -> Any:
        wire = WireRequest(method, path, "x=1", headers or {})
        trail = self.auditor.begin(wire, JANE, original, "10.0.0.1", config, EMPTY)
        verbs = {"POST": "create", "PATCH": "patch"}
        trail.request = Request(verbs.get(method, "get"), resources.CONFIG_MAPS, "n", body=body)
        trail.reply = Reply(code, json.dumps(answer or {}).encode())
        trail.complete(code)
        return trail


MAPS = "/api/v1/namespaces/n/configmaps"


def a_map(**metadata: Any) -> Any:
    tree = {"metadata": {"name": "a", **metadata}, "data": {"k": "v"}}
    return from_tree(resources.CONFIG_MAPS.type, tree)


def test_audit_3_a_request_has_its_stages_with_one_id():
    recorder = Recorder({"level": "Metadata"})
    trail = recorder.request("POST", MAPS, 201, a_map(), headers={"audit-id": "mine"})
    assert [one["stage"] for one in recorder.events] == ["RequestReceived", "ResponseComplete"]
    assert {one["auditID"] for one in recorder.events} == {trail.id} == {"mine"}
    assert recorder.request("GET", MAPS, 200, headers={"audit-id": "x" * 65}).id != "x" * 65
    some = Recorder({"level": "Metadata", "omitStages": ["RequestReceived"]})
    some.request("GET", MAPS, 200)
    assert [one["stage"] for one in some.events] == ["ResponseComplete"]
    watching = Recorder({"level": "Metadata"}, omitStages=["RequestReceived"])
    wire = WireRequest("GET", MAPS, "watch=1", {})
    trail = watching.auditor.begin(wire, JANE, None, "", Config(), EMPTY)
    trail.started()
    trail.complete(200)
    assert [one["stage"] for one in watching.events] == ["ResponseStarted", "ResponseComplete"]
    assert {one["verb"] for one in watching.events} == {"watch"}


def test_audit_2_a_rule_is_about_the_user_of_the_credentials():
    # Shows AUDIT-2.d.
    for users, count in (([ADMIN.name], 2), (["jane"], 0)):
        recorder = Recorder({"level": "Metadata", "users": users})
        recorder.request("GET", MAPS, 200, original=ADMIN)
        assert len(recorder.events) == count


def test_audit_4_an_event_says_who_did_what_and_what_came_of_it():
    decide = Config(authorizer=lambda *_: Decision(True, "because"))
    recorder = Recorder({"level": "Metadata"})
    recorder.request("POST", MAPS, 201, a_map(), original=ADMIN, config=decide)
    event = recorder.events[-1]
    assert event["user"]["username"] == ADMIN.name
    assert event["impersonatedUser"] == {"username": "jane", "uid": "u", "groups": ["team", AUTHENTICATED], "extra": {"k": ["v"]}}  # fmt: skip
    assert event["objectRef"] == {"resource": "configmaps", "namespace": "n", "name": "a", "apiVersion": "v1"}  # fmt: skip
    assert (event["verb"], event["requestURI"], event["sourceIPs"]) == ("create", f"{MAPS}?x=1", ["10.0.0.1"])  # fmt: skip
    assert event["responseStatus"] == {"metadata": {}, "code": 201}
    assert event["annotations"] == {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "because"}  # fmt: skip
    # Shows AUDIT-4.c: of one who may not act as another, without a decision about the other's request
    trail = recorder.auditor.begin(WireRequest("GET", MAPS), None, JANE, "", decide, EMPTY)
    trail.complete(403)
    refused = recorder.events[-1]
    assert refused["user"]["username"] == "jane" and not refused.get("annotations")
    assert "impersonatedUser" not in refused
    failure = {"kind": "Status", "reason": "NotFound", "message": "none", "status": "Failure"}
    recorder.request("GET", f"{MAPS}/b", 404, answer=failure)
    found = recorder.events[-1]["responseStatus"]
    assert (found["code"], found["reason"], found["message"]) == (404, "NotFound", "none")


@pytest.mark.parametrize(
    ("given_level", "objects"),
    [("Metadata", ()), ("Request", ("requestObject",)), ("RequestResponse", ("requestObject", "responseObject"))],
)  # fmt: skip
def test_audit_5_the_level_decides_about_objects(given_level, objects):
    recorder = Recorder({"level": given_level})
    fields = [{"manager": "m"}]
    recorder.request("POST", MAPS, 201, a_map(), {"metadata": {"managedFields": fields}})
    first, last = recorder.events
    assert [key for key in ("requestObject", "responseObject") if key in last] == list(objects)
    assert "requestObject" not in first
    if objects:
        assert last["requestObject"]["data"] == {"k": "v"}
    if "responseObject" in objects:
        assert last["responseObject"]["metadata"]["managedFields"] == fields
        bare = Recorder({"level": given_level}, omitManagedFields=True)
        bare.request(
            "POST", MAPS, 201, a_map(), {"items": [{"metadata": {"managedFields": fields}}]}
        )
        assert bare.events[-1]["responseObject"] == {"items": [{"metadata": {}}]}


def test_audit_5_a_patch_is_recorded_as_it_was_sent_and_a_long_event_without_objects():
    recorder = Recorder({"level": "RequestResponse"})
    recorder.request("PATCH", f"{MAPS}/a", 200, Patch("application/merge-patch+json", b'{"data":{}}'))  # fmt: skip
    assert recorder.events[-1]["requestObject"] == {"data": {}}
    recorder.request("POST", MAPS, 201, a_map(), {"x": "y" * EVENT_BYTES_MAX})
    event = recorder.events[-1]
    assert "responseObject" not in event
    assert event["annotations"]["audit.k8s.io/truncated"] == "true"


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(0, 3))
def test_audit_6_files_are_bounded_in_size_and_number(tmp_path_factory, lengths, backups):
    directory: Path = tmp_path_factory.mktemp("audit")
    log = AuditLog(str(directory / "audit.log"), 100, backups, 0)
    lines = [f"{number:03}".encode() + b"x" * length + b"\n" for number, length in enumerate(lengths)]  # fmt: skip
    for line in lines:
        log.write(line)
    log.close()
    old = sorted(directory.glob("audit-*.log"))
    files = [*old, directory / "audit.log"]
    assert all(path.stat().st_size <= 100 for path in files)
    assert not backups or len(old) <= backups
    kept = b"".join(path.read_bytes() for path in files)
    assert b"".join(lines).endswith(kept) and (backups or kept == b"".join(lines))


def test_audit_6_a_log_that_cannot_be_written_fails_no_request(tmp_path):
    with pytest.raises(CannotRun, match="--audit-log-path"):
        AuditLog(str(tmp_path / "none/audit.log"), 0, 0, 0)
    log = AuditLog(str(tmp_path / "audit.log"), 0, 0, 0)
    log.close()
    log.write(b"x\n")
