"""The extenders of a KubeSchedulerConfiguration. Rules SCHED-54, SCHED-57
(spec/scheduler_profiles.md).

Source: Kubernetes documentation, "kube-scheduler Configuration (v1)" (Extender), and what
kube-scheduler answers.
"""

from base64 import b64decode
from binascii import Error
from collections.abc import Sequence
from urllib.parse import urlsplit

from refk8s.core.api.cron_schedule import ScheduleError, parse_duration
from refk8s.core.apiserver.validation.field import Causes, invalid
from refk8s.core.apiserver.validation.names import qualified_name
from refk8s.core.apiserver.validation.resources import is_extended
from refk8s.core.context import SECOND
from refk8s.core.ports import Tls
from refk8s.core.scheduler.extenders import (
    EXTENDERS_MAX,
    SECONDS_DEFAULT,
    SECONDS_MAX,
    Extender,
)
from refk8s.core.scheduler_configuration.types import ExtenderRecord, TlsConfig
from refk8s.core.value import Value

DATA = ("ca_data", "cert_data", "key_data")
VERBS = ("filter_verb", "prioritize_verb", "preempt_verb", "bind_verb")


class TlsFiles(Value, frozen=True):
    """The files with certificates and keys that an extender names; data in the file comes first."""

    authorities: str = ""
    certificate: str = ""
    key: str = ""


def check(records: Sequence[ExtenderRecord]) -> Causes:
    """What is wrong with the extenders, in upstream's words where upstream checks it."""
    causes: Causes = []
    managed: set[str] = set()
    if len(records) > EXTENDERS_MAX:
        causes.append(invalid("extenders", len(records), f"at most {EXTENDERS_MAX} extenders"))
    for number, record in enumerate(records):
        at = f"extenders[{number}]"
        causes += _check_address(record, at)
        if record.prioritize_verb and record.weight <= 0:
            words = "must have a positive weight applied to it"
            causes.append(invalid(f"{at}.weight", record.weight, words))
        elif record.weight > WEIGHT_MAX:
            causes.append(invalid(f"{at}.weight", record.weight, f"at most {WEIGHT_MAX}"))
        for index, resource in enumerate(record.managed_resources):
            here, name = f"{at}.managedResources[{index}].name", resource.name
            wrong = qualified_name(name)
            causes += [invalid(here, name, words) for words in wrong]
            if not wrong and not is_extended(name):
                causes.append(invalid(here, name, "is an invalid extended resource name"))
            if name in managed:
                causes.append(invalid(here, name, "duplicate extender managed resource name"))
            managed.add(name)
    binders = sum(bool(record.bind_verb) for record in records)
    if binders > 1:
        found = f"found {binders} extenders implementing bind"
        causes.append(invalid("extenders", found, "only one extender can implement bind"))
    return causes


WEIGHT_MAX = 1_000_000


def _check_address(record: ExtenderRecord, at: str) -> Causes:
    causes: Causes = []
    try:
        parts = urlsplit(record.url_prefix)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or not _is_plain(record.url_prefix) or "?" in record.url_prefix:
        words = "must be a URL such as http://127.0.0.1:8888/scheduler"
        causes.append(invalid(f"{at}.urlPrefix", record.url_prefix, words))
    for field, name in zip(VERBS, ("filter", "prioritize", "preempt", "bind"), strict=True):
        verb = getattr(record, field)
        if not _is_plain(verb):
            causes.append(invalid(f"{at}.{name}Verb", verb, "must be a part of a URL"))
    try:
        seconds = _seconds(record)
        if not 0 < seconds <= SECONDS_MAX:
            words = f"must be greater than 0 and at most {SECONDS_MAX:.0f}s"
            causes.append(invalid(f"{at}.httpTimeout", record.http_timeout, words))
    except ScheduleError as error:
        causes.append(invalid(f"{at}.httpTimeout", record.http_timeout, str(error)))
    tls = record.tls_config or TlsConfig()
    for field in DATA:
        try:
            b64decode(getattr(tls, field), validate=True)
        except (Error, ValueError):
            name = field.replace("_d", "D")
            causes.append(invalid(f"{at}.tlsConfig.{name}", "", "must be data in Base64"))
    return causes


def _is_plain(text: str) -> bool:
    """Whether the text can be a part of a request line."""
    return text.isascii() and text.isprintable() and " " not in text and "#" not in text


def _seconds(record: ExtenderRecord) -> float:
    if not record.http_timeout:
        return SECONDS_DEFAULT
    return parse_duration(record.http_timeout) / SECOND or SECONDS_DEFAULT


def extender_of(record: ExtenderRecord) -> Extender:
    """The extender of a record that is right, without the content of files."""
    tls = record.tls_config or TlsConfig()
    has_authorities = bool(tls.ca_file or tls.ca_data)
    return Extender(
        url=record.url_prefix,
        filter_verb=record.filter_verb,
        prioritize_verb=record.prioritize_verb,
        preempt_verb=record.preempt_verb,
        bind_verb=record.bind_verb,
        weight=record.weight,
        has_node_cache=record.node_cache_capable,
        managed=frozenset([one.name for one in record.managed_resources]),
        is_ignorable=record.ignorable,
        seconds=_seconds(record),
        tls=Tls(
            # as upstream: with enableHTTPS and no authorities, any certificate is accepted
            is_verified=not tls.insecure and (has_authorities or not record.enable_https),
            server_name=tls.server_name,
            authorities=b64decode(tls.ca_data),
            certificate=b64decode(tls.cert_data),
            key=b64decode(tls.key_data),
        ),
    )


def files_of(record: ExtenderRecord) -> TlsFiles:
    """The files that the record names, where it has no data."""
    tls = record.tls_config or TlsConfig()
    return TlsFiles(
        "" if tls.ca_data else tls.ca_file,
        "" if tls.cert_data else tls.cert_file,
        "" if tls.key_data else tls.key_file,
    )


def ignored(records: Sequence[ExtenderRecord]) -> tuple[str, ...]:
    """The resources that no node is checked for, because extenders manage them alone."""
    return tuple(
        [
            one.name
            for record in records
            for one in record.managed_resources
            if one.ignored_by_scheduler
        ]
    )
