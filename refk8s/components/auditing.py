"""Records the requests of the HTTP front in the audit log. Rules AUDIT-1 to AUDIT-6
(spec/audit.md).

Nothing of it is loaded without a policy file.
"""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from refk8s.components.audit_log import AuditLog
from refk8s.components.clock import Clock
from refk8s.components.files import CannotRun, read_file
from refk8s.core.api.request import Request
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import ANONYMOUS, User
from refk8s.core.apiserver.aggregation.remotes import find_remote
from refk8s.core.apiserver.audit.event import Audited, Ended, write_event
from refk8s.core.apiserver.audit.policy import (
    COMPLETE,
    RECEIVED,
    REQUEST_RESPONSE,
    STARTED,
    BadPolicy,
    Policy,
    read_policy,
)
from refk8s.core.apiserver.authorize import attributes_of, decide
from refk8s.core.apiserver.authorize.paths import attributes_of_path
from refk8s.core.apiserver.config import Attributes, Config
from refk8s.core.apiserver.http import WireRequest
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.respond import Reply
from refk8s.core.apiserver.route import Target, find_target
from refk8s.core.value import evolve

FILE_BYTES_MAX: Final = 1 << 20
ID_LENGTH_MAX: Final = 64
_DECISION, _REASON = "authorization.k8s.io/decision", "authorization.k8s.io/reason"


class Trail:
    """One request on its way. `rule` of its `audited` is None if it is not recorded."""

    __slots__ = ("_auditor", "annotations", "audited", "id", "is_long", "reply", "request")

    def __init__(self, auditor: "Auditor", id: str, audited: Audited | None) -> None:
        self._auditor, self.id, self.audited = auditor, id, audited
        self.request: Request | None = None
        self.reply: Reply | None = None
        self.is_long = False
        self.annotations: dict[str, str] = {}

    def started(self) -> None:
        """The answer of a watch or stream has begun."""
        self.is_long = True
        self._auditor.record(self, STARTED, Ended(200, self.request, annotations=self.annotations))

    def complete(self, code: int) -> None:
        """The request has been answered, or its connection is gone."""
        reply, audited = self.reply, self.audited
        body = b""
        if reply is not None and audited is not None and not reply.encoding:
            is_whole = audited.rule.level == REQUEST_RESPONSE
            if "json" in reply.media_type and (is_whole or reply.code >= 400):
                body = reply.whole().content if reply.more else reply.content
        ended = Ended(code, self.request, body, self.annotations, self.is_long)
        self._auditor.record(self, COMPLETE, ended)


class Auditor:
    """Records requests by a policy."""

    def __init__(self, policy: Policy, log: AuditLog, clock: Clock) -> None:
        self.policy, self.log, self.clock = policy, log, clock

    def begin(
        self,
        wire: WireRequest,
        user: User | None,
        original: User | None,
        address: str,
        config: Config,
        store: Reader,
    ) -> Trail:
        """A request has been authenticated, or has failed to be. `original`: its own user, if it
        acts as another one, or may not (then `user` is None)."""
        given = wire.headers.get("audit-id", "")
        id = given if given and len(given) <= ID_LENGTH_MAX else str(uuid.uuid4())
        caller = user or ANONYMOUS
        attributes, version = _attributes(wire, caller, store)
        own = original or caller  # the policy is about them (AUDIT-2)
        rule = self.policy.rule_of(evolve(attributes, user=own))
        if rule is None:
            return Trail(self, id, None)
        audited = Audited(
            id=id,
            rule=rule,
            uri=f"{wire.path}?{wire.query}" if wire.query else wire.path,
            attributes=attributes,
            user=own,
            impersonated=user if original is not None else None,
            address=address,
            agent=wire.headers.get("user-agent", ""),
            api_version=version,
            received=self.clock.now(),
        )
        decision = None if user is None else decide(attributes, store, config)
        trail = Trail(self, id, audited)
        if decision is not None:
            trail.annotations[_DECISION] = "allow" if decision.allowed else "forbid"
            trail.annotations[_REASON] = decision.reason
        self.record(trail, RECEIVED, None)
        return trail

    def record(self, trail: Trail, stage: str, ended: Ended | None) -> None:
        """Write the event of a stage, unless the rule omits it."""
        audited = trail.audited
        if audited is None or stage in audited.rule.omitted_stages:
            return
        self.log.write(write_event(audited, stage, self.clock.now(), ended))


def _attributes(wire: WireRequest, user: User, store: Reader) -> tuple[Attributes, str]:
    """The attributes of the request line, and the version of its resource."""
    if (remote := find_remote(wire.path, store)) is not None:
        return attributes_of_path(user, wire.method, wire.path, wire.query), remote.version
    try:
        target = find_target(wire.method, wire.path, wire.query, store)
    except ApiError:
        return Attributes(user, wire.method.lower(), path=wire.path), ""
    if type(target) is Target:
        return attributes_of(user, target, wire.method), target.resource.version
    return Attributes(user, wire.method.lower(), path=target.path), ""


def make_auditor(flags: Mapping[str, Any], clock: Clock) -> Auditor | None:
    """The auditor of the flags `--audit-*`; None if there is none. Raises CannotRun."""
    path, where = flags.get("policy_file"), flags.get("log_path")
    if not path and not where:
        return None
    if not path:
        raise CannotRun("--audit-log-path: needs --audit-policy-file")
    if not where:
        raise CannotRun("--audit-policy-file: needs --audit-log-path, - for standard output")
    log = AuditLog(
        where,
        int(flags.get("log_maxsize", 0)) << 20,
        int(flags.get("log_maxbackup", 0)),
        int(flags.get("log_maxage", 0)),
    )
    return Auditor(_read_policy(path), log, clock)


def _read_policy(path: str) -> Policy:
    from refk8s.components.yaml_reader import BadYaml, read_yaml

    data = read_file(Path(path).expanduser(), FILE_BYTES_MAX)
    if data is None:
        raise CannotRun(f"--audit-policy-file {path}: there is no such file")
    try:
        return read_policy(read_yaml(data).tree)
    except (BadYaml, BadPolicy, UnicodeError) as error:
        raise CannotRun(f"--audit-policy-file {path}: {error}") from None
