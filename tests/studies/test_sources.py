"""Which sources a run is made of: found for every arm of every study, without running it."""

import pytest

from affectcore.models import registry
from affectcore.studies.runner import find_study, study_names
from affectcore.studies.sources import closure, modules


@pytest.mark.parametrize("study", study_names())
@pytest.mark.parametrize("profile", ["smoke", "standard", "full"])
def test_every_arm_finds_the_sources_of_its_models(study: str, profile: str) -> None:
    specs = {(s.arm, s.data.name): s for s in find_study(study).specs(profile, 1)}
    assert all("affectcore.errors" in closure(modules(s)) for s in specs.values())


def test_a_wrapper_with_its_own_fusion_wraps_no_model() -> None:
    assert registry.modules("gear") == (registry.entry("gear").location.partition(":")[0],)
    assert registry.entry("misa").location.partition(":")[0] in registry.modules("gear", backbone="misa")
