"""What tests plant into the records of a study: numbers whose effects are known."""

from functools import cache
from typing import Any

import numpy as np


@cache
def noise(name: str, seeds: int = 10, *, sd: float) -> Any:
    """Return noise of a name over its seeds (seeds,), always the same, of mean 0."""
    e = np.random.default_rng([1, *name.encode()]).normal(0, sd, seeds)
    return e - e.mean()
