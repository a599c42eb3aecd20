"""All models with their twins."""

from store_twin import StoreTwin
from tie import Twin

TWINS: dict[str, type[Twin]] = {twin.model: twin for twin in (StoreTwin,)}
