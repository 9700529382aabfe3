"""What an executor notes in `extra`, made short: plain JSON with few digits."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor


def short(x: Any) -> Any:
    """Return nested numbers, arrays and tensors as plain JSON with six significant digits, null where not finite."""
    if isinstance(x, Mapping):
        return {k: short(v) for k, v in x.items()}
    if isinstance(x, Tensor | np.ndarray | np.generic):
        return short(x.tolist())
    if isinstance(x, list | tuple):
        return [short(v) for v in x]
    return (float(f"{x:.6g}") if np.isfinite(x) else None) if isinstance(x, float) else x
