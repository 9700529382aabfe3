"""Small files of predictions for the tests."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

CLASSES = ("angry", "happy", "neutral", "sad")
LABELS = ("happy", "sad", "angry")


def regression(
    n: int = 120, seeds: int = 3, models: Sequence[str] = ("LMF", "TFN"), groups: int = 12, seed: int = 0,
    error: Sequence[float] = (0.8, 0.8), between: float = 0.02,
) -> pd.DataFrame:  # fmt: skip
    """Sentiment from -3 to 3 in thirds; every model has the items' shared error, its own, and one per seed."""
    r = np.random.default_rng(seed)
    y = np.clip(np.round(r.normal(0.2, 1.2, n) * 3) / 3, -3, 3)
    shared = r.normal(0, 0.4, n)
    parts = []
    for name, sd in zip(models, error):
        for s in range(seeds):
            p = 0.7 * y + shared + r.normal(0, sd, n) + r.normal(0, between)
            parts.append(
                pd.DataFrame(
                    {"id": [f"clip{i}" for i in range(n)], "group": np.arange(n) % groups, "model": name, "seed": s,
                     "target": y, "prediction": p}
                )
            )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def single(n: int = 150, seeds: int = 3, models: Sequence[str] = ("A", "B"), seed: int = 0) -> pd.DataFrame:
    """Four classes with scores; `neutral` holds half of the items."""
    r = np.random.default_rng(seed)
    y = r.choice(4, n, p=[0.15, 0.2, 0.5, 0.15])
    parts = []
    for name in models:
        for s in range(seeds):
            z = 1.5 * np.eye(4)[y] + r.normal(0, 1, (n, 4))
            p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
            frame = pd.DataFrame({"id": np.arange(n), "model": name, "seed": s, "target": [CLASSES[i] for i in y]})
            for i, c in enumerate(CLASSES):
                frame[f"score_{c}"] = p[:, i]
            parts.append(frame)
    return pd.concat(parts, ignore_index=True)


def multi(n: int = 150, seeds: int = 2, models: Sequence[str] = ("A", "B"), seed: int = 0) -> pd.DataFrame:
    """Three labels with scores; about a quarter of the items have none."""
    r = np.random.default_rng(seed)
    y = (r.random((n, 3)) < [0.5, 0.3, 0.2]).astype(int)
    parts = []
    for name in models:
        for s in range(seeds):
            p = 1 / (1 + np.exp(-(1.5 * (2 * y - 1) + r.normal(0, 1.5, (n, 3)) - 0.5)))
            frame = pd.DataFrame({"id": np.arange(n), "model": name, "seed": s})
            for i, c in enumerate(LABELS):
                frame[f"target_{c}"], frame[f"score_{c}"] = y[:, i], p[:, i]
            parts.append(frame)
    return pd.concat(parts, ignore_index=True)
