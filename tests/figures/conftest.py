"""Every test of a figure draws in the house's style, and leaves none behind."""

from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from affectcore.figures.style import use_style


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    mpl.use("Agg")
    with mpl.rc_context():
        use_style()
        yield
    plt.close("all")
