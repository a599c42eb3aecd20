"""What all tests share: Hypothesis' profiles. `--profile nightly` or HYPOTHESIS_PROFILE=nightly
searches longer."""

import os

from hypothesis import HealthCheck, Phase, settings

slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile(
    "quick", max_examples=40, deadline=None, derandomize=True, suppress_health_check=slow
)
settings.register_profile("default", max_examples=80, deadline=None, suppress_health_check=slow)
settings.register_profile("nightly", max_examples=3000, deadline=None, suppress_health_check=slow)
# For tools/mutants: whether a property fails matters, not on what, so nothing is shrunk.
settings.register_profile(
    "mutants",
    parent=settings.get_profile("quick"),
    phases=[Phase.explicit, Phase.generate],
    database=None,
    report_multiple_bugs=False,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
