"""Which sources a run is made of: found for every arm of every study, without running it."""

import pytest

from affectcore.models import registry
from affectcore.studies.runner import find_study, study_names
from affectcore.studies.sources import closure, code, modules


@pytest.mark.parametrize("study", study_names())
@pytest.mark.parametrize("profile", ["smoke", "standard", "full"])
def test_every_arm_finds_the_sources_of_its_models(study: str, profile: str) -> None:
    specs = {(s.arm, s.data.name): s for s in find_study(study).specs(profile, 1)}
    assert all("affectcore.errors" in closure(modules(s)) for s in specs.values())


def test_a_wrapper_with_its_own_fusion_wraps_no_model() -> None:
    assert registry.modules("gear") == (registry.entry("gear").location.partition(":")[0],)
    assert registry.entry("misa").location.partition(":")[0] in registry.modules("gear", backbone="misa")


PLAIN = """class A:
    b = 1

    def f(self, x):
        return '# no comment', x
"""
TOLD = '''"""A module, told
over two lines."""
# why
class A:
    """A class."""
    b = 1  # a field

    def f(self, x):
        """Return it."""

        return '# no comment', x
'''


def test_what_is_only_told_does_not_make_records_stale() -> None:
    assert code(TOLD) == code(PLAIN)
    assert "# no comment" in code(PLAIN)
    for old, new in (("b = 1", "b = 2"), ("'# no comment'", "'# a comment'"), ("x):", "y):")):
        assert code(TOLD.replace(old, new)) != code(PLAIN)


@pytest.mark.parametrize(("a", "b"), [("x = 1\n'a'\n", "x = 1\n'b'\n"), ("x = '''\n\n'''", "x = '''\n'''"),
                                      ("x = f'''{1} \n'''", "x = f'''{1}\n'''")])  # fmt: skip
def test_strings_that_are_no_docstrings_are_code(a: str, b: str) -> None:
    assert code(a) != code(b)
