"""One cache of worlds for all tests of the worlds."""

import pytest

from affectcore.data.worlds import Sizes, World, make


@pytest.fixture(scope="session")
def draw():
    """make() with a cache: worlds are read-only, so tests share them."""
    made: dict[object, World] = {}

    def get(name, seed=0, settings="headline", sizes: Sizes | None = None) -> World:
        key = (name, seed, settings, sizes)
        if key not in made:
            made[key] = make(name, seed, settings, sizes)
        return made[key]

    return get
