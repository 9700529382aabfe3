"""Corruptions: values that are there but wrong. Noise, erasing, shuffled time, modalities swapped between samples.

    noisy = make_corruption("gaussian", rate=0.5, seed=0, scale=feature_scale(train))(batch)

Unlike `missing`, a corruption leaves `observed` alone: a model is not told. Draws are keyed per sample as there. Only
observed steps change; what is missing or padding stays zero. `modalities` names the ones that are hit (() is all).

The unit of noise is the feature's standard deviation on the training split, `scale = feature_scale(train)`, fitted by
the caller and passed explicitly; None is 1, right for data that are standardised already.

Sources: Affect-Diff (twelve perturbations), CmIR (Eq. 14 with Gaussian or Laplace noise, erasing). Noise per modality,
shuffled time and swaps are the stress tests that LDDU's uncertainty is put to; its frame dropout is `missing.RMFMSame`
with one rate named, its lost modality `missing.Without`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affectcore import streams
from affectcore.data.missing import RMFM, RMM, FrameMask, Without
from affectcore.data.protocol import Protocol, build, check_modalities, check_rate
from affectcore.data.schema import Batch
from affectcore.errors import ConfigError, DataError

__all__ = [
    "CMIR_RATES",
    "CORRUPTIONS",
    "AffectDiffAugmentation",
    "Blend",
    "Corruption",
    "Erase",
    "GaussianNoise",
    "LaplaceOrErasing",
    "Swap",
    "TimeShuffle",
    "affect_diff_perturbations",
    "cmir_noise",
    "feature_scale",
    "make_corruption",
]

CMIR_RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
Scale = Mapping[str, Tensor]


def feature_scale(train: Batch) -> dict[str, Tensor]:
    """Return per modality the standard deviation (D,) of each feature over the observed steps of `train`."""
    return {m: x[train.observed[m]].std(0, correction=0) for m, x in train.features.items()}


@dataclass(frozen=True)
class Corruption(Protocol):
    """Base of the corruptions. modalities: which are hit, () for all. scale: see `feature_scale`; None is 1."""

    modalities: tuple[str, ...] = ()
    scale: Scale | None = field(default=None, compare=False, repr=False)
    family: ClassVar[str] = "corruption"

    def hit(self, batch: Batch) -> tuple[str, ...]:
        check_modalities(self.mode, self.modalities, batch)
        return self.modalities or batch.modalities

    def unit(self, batch: Batch, modality: str) -> Tensor | float:
        """Return the standard deviation that noise on this modality is measured in, (D,) or 1."""
        if self.scale is None:
            return 1.0
        x, s = batch.features[modality], self.scale.get(modality)
        if s is None or s.shape != x.shape[-1:] or not bool((torch.isfinite(s) & (s >= 0)).all()):
            raise ConfigError(f"{self.mode}: scale[{modality!r}] must hold {x.shape[-1]} finite numbers of 0 or more")
        return s.to(x)

    def stream(self, purpose: str) -> int:
        return streams.key(self.seed, self.family, self.mode, purpose)

    def with_features(self, batch: Batch, new: Mapping[str, Tensor]) -> Batch:
        """The batch with features replaced where they are observed."""
        shown = {m: torch.where(batch.observed[m][..., None], x, torch.zeros_like(x)) for m, x in new.items()}
        return replace(batch, features={**batch.features, **shown})


# Noise

Kind = Literal["gaussian", "laplace"]


def _noise(kind: Kind, stream: int, x: Tensor, index: Tensor) -> Tensor:
    """Unit-variance noise of x's shape, dtype and device; row i depends on `stream` and index[i] alone."""
    ids = index.cpu().numpy()
    if kind == "gaussian":
        drawn: NDArray[np.float64] = streams.normal(stream, ids, *x.shape[1:])
    else:  # the difference of two exponentials is Laplace; divided by sqrt(2) it has variance 1
        u = streams.uniform(stream, ids, *x.shape[1:], 2)
        drawn = (np.log1p(-u[..., 0]) - np.log1p(-u[..., 1])) / np.sqrt(2)
    return torch.from_numpy(drawn).to(x)


@dataclass(frozen=True)
class GaussianNoise(Corruption):
    """x + rate * scale * N(0, 1). rate: standard deviations, 0 or more (Affect-Diff .1 to 2)."""

    mode: ClassVar[str] = "gaussian"
    highest: ClassVar[float] = float("inf")

    def __call__(self, batch: Batch) -> Batch:
        new = {}
        for m in self.hit(batch):
            x = batch.features[m]
            new[m] = x + self.rate * self.unit(batch, m) * _noise("gaussian", self.stream(m), x, batch.index)
        return self.with_features(batch, new)


@dataclass(frozen=True)
class Blend(Corruption):
    """(1 - rate) x + rate * scale * N, CmIR's Eq. 14, with N Gaussian or Laplace of variance 1.

    The equation shrinks x towards 0, so the features should be centred. The paper applies it to pooled representations,
    in training and test: there, use `cmir_noise`.
    """

    kind: Kind = "gaussian"
    mode: ClassVar[str] = "blend"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in ("gaussian", "laplace"):
            raise ConfigError(f"blend: kind = {self.kind!r} must be gaussian or laplace")

    @property
    def name(self) -> str:
        return f"blend_{self.kind}"

    def __call__(self, batch: Batch) -> Batch:
        new = {}
        for m in self.hit(batch):
            x = batch.features[m]
            noise = self.unit(batch, m) * _noise(self.kind, self.stream(f"{self.kind} {m}"), x, batch.index)
            new[m] = (1 - self.rate) * x + self.rate * noise
        return self.with_features(batch, new)


@dataclass(frozen=True)
class Erase(Corruption):
    """Every feature of every step is set to zero with probability `rate`, independently; the rest is not rescaled.

    Nested: what is erased at rate .3 is erased at .5.
    """

    mode: ClassVar[str] = "erase"

    def __call__(self, batch: Batch) -> Batch:
        hit = self.hit(batch)
        kept = {m: self.uniform(batch, m, *batch.features[m].shape[1:]) >= self.rate for m in hit}
        return self.with_features(batch, {m: batch.features[m] * kept[m].to(batch.features[m]) for m in hit})


@dataclass(frozen=True)
class LaplaceOrErasing(Corruption):
    """CmIR's unseen noise: each sample gets, with probability 1/2 each, a Laplace `Blend` or `Erase`, at one rate."""

    mode: ClassVar[str] = "laplace_or_erasing"

    def __call__(self, batch: Batch) -> Batch:
        same = (self.rate, self.seed, self.modalities, self.scale)
        blended, erased = Blend(*same, kind="laplace")(batch), Erase(*same)(batch)
        coin = (self.uniform(batch, "coin") < 0.5)[:, None, None]
        return self.with_features(
            batch, {m: torch.where(coin, blended.features[m], erased.features[m]) for m in self.hit(batch)}
        )


def cmir_noise(
    x: Tensor,
    index: Tensor,
    rate: float,
    seed: int,
    modality: str,
    kind: Literal["gaussian", "laplace", "erase", "laplace_or_erasing"] = "gaussian",
) -> Tensor:
    """Return a pooled representation x (B, d) under CmIR's noise of that kind, where the paper puts it.

    Row i's noise depends on (seed, modality, kind, index[i]) alone. rate: NR in [0, 1], in the paper `CMIR_RATES`.
    Unit variance for Laplace (the paper names no scale).
    """
    if kind not in ("gaussian", "laplace", "erase", "laplace_or_erasing"):
        raise ConfigError(f"cmir_noise: kind = {kind!r} must be gaussian, laplace, erase or laplace_or_erasing")
    if x.ndim != 2:
        raise DataError(f"cmir_noise: x has shape {tuple(x.shape)}, expected (batch, features)")
    step = x[:, None]
    ones = torch.ones(len(x), 1, dtype=torch.int64, device=x.device)
    batch = Batch({modality: step}, {modality: ones[:, 0]}, {modality: ones.bool()}, index, index, index)
    protocol: Corruption
    if kind == "erase":
        protocol = Erase(rate, seed)
    elif kind == "laplace_or_erasing":
        protocol = LaplaceOrErasing(rate, seed)
    else:
        protocol = Blend(rate, seed, kind=kind)
    return protocol(batch).features[modality][:, 0]


# Order and identity


@dataclass(frozen=True)
class TimeShuffle(Corruption):
    """The existing steps of a modality in random order; observed flags move with them, padding stays behind.

    rate: share of (sample, modality) pairs that are hit, 1 for all. Modalities are shuffled independently.
    extras: names of (B, T_m) extras that move along, such as token ids; they need `modalities` to name exactly one.
    """

    extras: tuple[str, ...] = ()
    mode: ClassVar[str] = "time_shuffle"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.extras and len(self.modalities) != 1:
            raise ConfigError("time_shuffle: extras move with a modality, name exactly one in modalities")

    def __call__(self, batch: Batch) -> Batch:
        features, observed, extras = dict(batch.features), dict(batch.observed), dict(batch.extras)
        for m in self.hit(batch):
            steps = torch.arange(features[m].shape[-2], device=batch.index.device)
            moves = batch.valid(m) & (self.uniform(batch, f"hit {m}", 1) < self.rate)
            order = torch.where(moves, self.uniform(batch, m, len(steps)), steps + 1.0).argsort(-1)
            features[m] = features[m].gather(1, order[..., None].expand_as(features[m]))
            observed[m] = observed[m].gather(1, order)
            for name in self.extras:
                extras[name] = extras[name].gather(1, order)
        return replace(batch, features=features, observed=observed, extras=extras)


@dataclass(frozen=True)
class Swap(Corruption):
    """The modalities named are taken from another sample: values, lengths and observed flags of the partner.

    Call it with a whole split. Its samples, sorted by a keyed uniform of their ids, form one random cycle, and each
    takes from its successor: a partner is never oneself, everyone gives once at rate 1, and who it is depends on the
    *set* of ids, not on their order in the batch. (Parts of a split would give other partners.)
    rate: share of samples that are hit, 1 for all. extras: names of extras that come along, such as token ids.
    """

    extras: tuple[str, ...] = ()
    mode: ClassVar[str] = "swap"

    def partners(self, batch: Batch) -> Tensor:
        """Return for each sample the position (B,) of the one it takes from; its own where it is not hit."""
        if len(batch) < 2 or len(batch.index.unique()) < len(batch):
            raise DataError(f"swap: needs two or more samples with distinct ids, got {len(batch)}; give a whole split")
        cycle = self.uniform(batch, "cycle").argsort()
        partner = torch.empty_like(cycle)
        partner[cycle] = cycle.roll(-1)
        own = torch.arange(len(batch), device=cycle.device)
        return torch.where(self.uniform(batch, "hit") < self.rate, partner, own)

    def __call__(self, batch: Batch) -> Batch:
        source, hit = self.partners(batch), self.hit(batch)
        missing = [name for name in self.extras if name not in batch.extras]
        if missing:
            raise ConfigError(f"swap: extra {missing[0]!r} is unknown, the batch has {', '.join(batch.extras)}")

        def taken(old: Mapping[str, Tensor], names: tuple[str, ...]) -> dict[str, Tensor]:
            return {k: v[source] if k in names else v for k, v in old.items()}

        return replace(
            batch,
            features=taken(batch.features, hit),
            lengths=taken(batch.lengths, hit),
            observed=taken(batch.observed, hit),
            extras=taken(batch.extras, self.extras),
        )


# By name


@dataclass(frozen=True)
class AffectDiffAugmentation(Corruption):
    """Affect-Diff's three augmentations for training: what its own models do inside, for any other model. Unlike the
    other corruptions it also hides, and says so in `observed`.

    rate: share of steps hidden, per sample, step and modality (paper .1); noise: standard deviations added to every
    modality but text (.01); dropout: share of modalities hidden, which may be all of a sample's (.1). Use it through
    `EachStep`.
    """

    noise: float = 0.01
    dropout: float = 0.1
    mode: ClassVar[str] = "affect_diff_augmentation"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rate(f"{self.mode}: dropout", self.dropout)
        if not 0 <= self.noise < float("inf"):
            raise ConfigError(f"{self.mode}: noise = {self.noise!r} must be a finite number of 0 or more")

    def __call__(self, batch: Batch) -> Batch:
        noisy = tuple(m for m in self.hit(batch) if m != "text")
        out = RMFM(self.rate, self.seed)(batch)
        if noisy:
            out = GaussianNoise(self.noise, self.seed, modalities=noisy, scale=self.scale)(out)
        return RMM(self.dropout, self.seed)(out)


CORRUPTIONS: dict[str, type[Corruption]] = {
    c.mode: c for c in (GaussianNoise, Blend, Erase, LaplaceOrErasing, TimeShuffle, Swap, AffectDiffAugmentation)
}


def make_corruption(name: str, rate: float, seed: int = 0, **options: Any) -> Corruption:
    """Return the corruption of that name, a key of `CORRUPTIONS`; "blend_gaussian" and "blend_laplace" are known too.

    Raises ConfigError for an unknown name or option, and for a rate outside the mode's range.
    """
    if name in ("blend_gaussian", "blend_laplace"):
        name, options["kind"] = "blend", name.removeprefix("blend_")
    return build(CORRUPTIONS, name, rate, seed, options)


def affect_diff_perturbations(seed: int = 0, scale: Scale | None = None) -> dict[str, Protocol]:
    """Return Affect-Diff's twelve perturbations by name, in the order of its record.

    Three lost modalities, five levels of Gaussian noise on all modalities, four frame masks. The paper's table shows
    nine of them (without noise .25 and 1, mask .75). It draws once, unseeded, and shares a frame mask among a batch:
    `PerBatch(mask, 64)`. It adds noise to padding as well, since its models know no padding; here padding stays zero.
    """
    lost = {f"no_{m}": Without(1.0, seed, absent=(m,)) for m in ("text", "audio", "vision")}
    noise = {f"noise_{s:g}": GaussianNoise(s, seed, scale=scale) for s in (0.1, 0.25, 0.5, 1.0, 2.0)}
    masks = {f"mask_{p:g}": FrameMask(p, seed) for p in (0.1, 0.25, 0.5, 0.75)}
    return {**lost, **noise, **masks}
