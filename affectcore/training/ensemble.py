"""An ensemble of trained seeds: the mean of their scores, and how far they disagree."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.training.fits import Fit
from affectcore.training.loop import Build, predict


def predict_ensemble(
    build: Build, fits: Sequence[Fit], batch: Batch, *, device: str = "cpu"
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return the mean and the standard deviation over fits (members) of their scores, shaped as `loop.predict`'s.

    The deep ensemble of a study's own seeds [lakshminarayanan2017simple]: no training beyond theirs. Raises ConfigError
    without fits, and what `loop.predict` raises.
    """
    if not fits:
        raise ConfigError("an ensemble needs at least one fit")
    each = np.stack([predict(build, f, batch, device=device) for f in fits])
    return each.mean(0), each.std(0)
