"""Scalers fitted on the observed steps of the training split alone; each returns new data and adds a note.

After either scaler zero is the training mean (standardise) or median (gaussianise) of a feature, so that a hidden
value, which a Batch holds as zero, is the plainest possible imputation.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import QuantileTransformer
from torch import Tensor

from affectcore.data.schema import AffectData
from affectcore.errors import ConfigError, DataError

__all__ = ["gaussianise", "pool", "standardise", "standardise_within"]

Fit = Callable[[NDArray[np.float64]], Callable[[NDArray[np.float64]], NDArray[np.float64]]]


def _fitted(data: AffectData, fit: Fit, modalities: Sequence[str] | None, note: str) -> AffectData:
    """Fit one function per modality on (observed training steps, D) and apply it to every step."""
    if "train" not in data.splits:
        raise ConfigError(f"{data.name}: a scaler is fitted on the split 'train', which this data lacks")
    train = data.split("train")
    functions = {}
    for m in modalities or data.modalities:
        if m not in train.features:
            raise ConfigError(f"{data.name}: modality {m!r} is unknown, it has {', '.join(data.modalities)}")
        values = train.features[m][train.observed[m]].double().numpy()
        if len(values) < 2:
            raise DataError(f"{data.name}: {m} has {len(values)} observed steps in train, a scaler needs two or more")
        functions[m] = _on_tensors(fit(values))
    scaled = data.map_features(functions)
    return scaled._with(notes=(*data.notes, f"{', '.join(functions)} {note}"))


def _on_tensors(f: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Callable[[Tensor], Tensor]:
    def on(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1]).double().numpy()
        return torch.as_tensor(f(flat), dtype=x.dtype).reshape(x.shape)

    return on


def standardise(data: AffectData, modalities: Sequence[str] | None = None) -> AffectData:
    """Return the data with mean 0 and standard deviation 1 per feature over the observed training steps.

    A feature that is constant in training is only centred. modalities: all by default.
    """

    def fit(train: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        mean, sd = train.mean(0), train.std(0)
        sd = np.where(sd > 1e-6 * np.maximum(np.abs(mean), 1e-6), sd, 1.0)
        return lambda x: (x - mean) / sd

    return _fitted(data, fit, modalities, "standardised on the training split")


def gaussianise(data: AffectData, modalities: Sequence[str] | None = None, n_quantiles: int = 100) -> AffectData:
    """Return the data with each feature mapped through its training quantiles to a standard normal.

    Robust against the heavy tails of acoustic and facial features; values beyond the training range are clipped to it
    (about -5.2 and 5.2). This is the scaling of the stored sanity baselines. modalities: all by default.
    """
    if n_quantiles < 2:
        raise ConfigError(f"n_quantiles={n_quantiles} must be at least 2")

    def fit(train: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        count = min(n_quantiles, len(train))
        q = QuantileTransformer(n_quantiles=count, output_distribution="normal", random_state=0).fit(train)
        return q.transform

    return _fitted(data, fit, modalities, "mapped to normal quantiles of the training split")


def standardise_within(data: AffectData, modalities: Sequence[str] | None = None) -> AffectData:
    """Return the data with mean 0 and standard deviation 1 per feature inside each group's observed steps.

    Uses no label, but all samples of a group, those of the test split included: name it where it is used. It removes
    levels that differ between people. A feature that is constant inside a group becomes 0 there.
    """
    b = data._all
    functions = {}
    for m in modalities or data.modalities:
        seen = b.observed[m]

        def within(x: Tensor, seen: Tensor = seen) -> Tensor:
            out = x.clone()
            for g in b.group.unique():
                steps = seen & (b.group == g)[:, None]
                v = x[steps].double()
                if len(v):
                    sd = v.std(0, unbiased=False)
                    out[steps] = ((v - v.mean(0)) / torch.where(sd > 1e-9, sd, torch.ones(()).double())).to(x.dtype)
            return out

        functions[m] = within
    return data.map_features(functions)._with(notes=(*data.notes, f"{', '.join(functions)} standardised per group"))


def pool(data: AffectData, modalities: Sequence[str] | None = None) -> AffectData:
    """Return the data with each sequence replaced by the mean of its observed steps, (1, D).

    A sample of which no step is observed stays unobserved. modalities: all by default.
    """
    b = data._all
    x, length, seen = dict(b.features), dict(b.lengths), dict(b.observed)
    for m in modalities or data.modalities:
        if m not in x:
            raise ConfigError(f"{data.name}: modality {m!r} is unknown, it has {', '.join(data.modalities)}")
        count = seen[m].sum(1, keepdim=True)
        x[m] = (x[m].sum(1) / count.clamp(min=1))[:, None]
        length[m], seen[m] = torch.ones_like(length[m]), count > 0
    pooled = replace(b, features=x, lengths=length, observed=seen)
    return data._with(
        _all=pooled, notes=(*data.notes, f"{', '.join(modalities or data.modalities)} averaged over time")
    )
