"""StorageVersionMigrations. Rule VAL-72 (spec/validation.md).

Source: API reference, "StorageVersionMigration"; KEP-4192.
"""

from refk8s.core.api.conditions import get_condition
from refk8s.core.api.integer import parse_uint64
from refk8s.core.api.storagemigration_v1 import StorageVersionMigration
from refk8s.core.apiserver.validation.conditions import validate_conditions
from refk8s.core.apiserver.validation.field import Causes, invalid, malformed, required, unchanged
from refk8s.core.apiserver.validation.names import dns_label_1035, dns_subdomain

SUCCEEDED, FAILED, RUNNING = "Succeeded", "Failed", "Running"


def validate_migration(migration: StorageVersionMigration) -> Causes:
    """VAL-72: a resource, of a group unless it is of the core."""
    target = migration.spec.resource
    at = "spec.resource.resource"
    causes = (
        malformed(at, target.resource, dns_label_1035)
        if target.resource
        else [required(at, "resource is required to be set")]
    )
    if target.group:
        causes += malformed("spec.resource.group", target.group, dns_subdomain)
    return causes


def validate_migration_update(new: StorageVersionMigration, old: StorageVersionMigration) -> Causes:
    """VAL-72: the spec is immutable."""
    return validate_migration(new) + unchanged("spec", new.spec, old.spec)


def validate_migration_status(new: StorageVersionMigration, old: StorageVersionMigration) -> Causes:
    """VAL-72: it runs, has succeeded or has failed, and an outcome is not taken back."""
    at = "status.conditions"
    version, before = new.status.resource_version or "", old.status.resource_version or ""
    causes: Causes = []
    try:
        parse_uint64(version or "0")
    except ValueError as error:
        causes.append(invalid("status.resourceVersion", version, str(error)))
    conditions = new.status.conditions or ()
    causes += validate_conditions(conditions, at)
    if before and version != before:
        causes += unchanged("status.resourceVersion", version, before)
    for one, other, words in (
        (SUCCEEDED, FAILED, "Both success and failed conditions cannot be true at the same time"),
        (SUCCEEDED, RUNNING, "Running condition cannot be true when success condition is true"),
        (FAILED, RUNNING, "Running condition cannot be true when failed condition is true"),
    ):
        if _is_true(new, one) and _is_true(new, other):
            causes.append(invalid(at, conditions, words))
    for one, name in ((SUCCEEDED, "Success"), (FAILED, "Failed")):
        if _is_true(old, one) and not _is_true(new, one):
            words = f"{name} condition cannot be set to false once it is true"
            causes.append(invalid(at, conditions, words))
    return causes


def _is_true(migration: StorageVersionMigration, kind: str) -> bool:
    found = get_condition(migration.status.conditions, kind)
    return found is not None and found.status == "True"
