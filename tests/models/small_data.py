"""Small data of three kinds for the grid over the registry, and small settings of the large models."""

import numpy as np
import torch

from affectcore.data.schema import AffectData, Batch, Kind, Task

SIZES: dict[str, tuple[dict[str, int], dict[str, int]]] = {  # features and steps by modality
    "pooled": ({"text": 6, "face": 4}, {"text": 1, "face": 1}),
    "aligned": ({"text": 6, "audio": 3, "vision": 4}, {"text": 5, "audio": 5, "vision": 5}),
    "unaligned": ({"text": 6, "audio": 3, "vision": 4}, {"text": 4, "audio": 9, "vision": 7}),
}


def make(size: str, kind: Kind = "regression", n: int = 24, seed: int = 0) -> AffectData:
    """Return learnable data: the target follows the mean of the first feature of every modality."""
    rng = np.random.default_rng(seed)
    dims, steps = SIZES[size]
    features = {m: rng.normal(size=(n, steps[m], d)).astype(np.float32) for m, d in dims.items()}
    lengths, observed = {}, {}
    for m, t in steps.items():
        same = m != "text" and size == "aligned"
        lengths[m] = lengths["text"] if same else rng.integers(max(1, t // 2), t + 1, n)
        observed[m] = (np.arange(t) < lengths[m][:, None]) & (rng.random((n, t)) > 0.15)
    observed["text"][0] = False  # one modality wholly missing, and a sample with nothing at all
    for m in dims:
        observed[m][1] = False
    signal = sum(features[m][:, 0, 0] for m in dims)
    if kind == "regression":
        task, target = Task(kind, ("sentiment",)), np.clip(signal, -3, 3)
    elif kind == "single_label":
        task, target = Task(kind, ("low", "mid", "high")), np.digitize(signal, [-0.7, 0.7])
    else:
        task = Task(kind, ("a", "b"))
        target = np.stack([signal > 0, signal > 1], 1).astype(np.float32)
    part = np.array_split(np.arange(n), [n // 2, 3 * n // 4])
    splits = dict(zip(("train", "valid", "test"), part))
    environment = np.arange(n) % 3
    return AffectData(
        "small", task, features, target, splits, lengths=lengths, observed=observed, environment=environment
    )


def spoil(batch: Batch, value: float, padding_only: bool = False) -> Batch:
    """Return the batch with `value` and more wherever nothing is observed, or in the padding alone.

    The features of a step differ, since a norm over features maps equal ones to those of the zero vector.
    """
    hidden = {m: ~(batch.valid(m) if padding_only else batch.observed[m]) for m in batch.modalities}
    x = {
        m: torch.where(hidden[m].unsqueeze(-1), value + torch.arange(v.shape[-1], dtype=v.dtype), v)
        for m, v in batch.features.items()
    }
    return Batch(x, batch.lengths, batch.observed, batch.target, batch.index, batch.group)


def longer(batch: Batch, more: int) -> Batch:
    """Return the batch with `more` padded steps at the end of every sequence."""
    x = {m: torch.nn.functional.pad(v, (0, 0, 0, more)) for m, v in batch.features.items()}
    o = {m: torch.nn.functional.pad(v, (0, more)) for m, v in batch.observed.items()}
    return Batch(x, batch.lengths, o, batch.target, batch.index, batch.group)
