"""Missing modalities and missing steps: who loses what, drawn sample by sample.

    hidden = make_missing("rmfm", rate=0.3, seed=0)(batch)

Every mode returns the batch with fewer steps observed: a hidden step is zero and `observed` is False there, so a model
may know that it is missing. Lengths stay; padding stays padding; what the data set itself lacks stays hidden.

Common properties, unless a class says otherwise:

* a step is hidden iff its uniform is below the rate, so rates 0 and 1 are exact, the realised rate in between is
  binomial (an exact count over a set would make a sample's mask depend on the others), and masks are nested: what is
  hidden at rate .3 is hidden at .5 under the same seed;
* a modality's draw has its own stream: which other modalities there are does not matter;
* rates count steps that exist; padding is not counted.

The [CLS] and [SEP] of a text encoder: CIDer never hides them. Name the modality that carries them as its first and last
step by `special="text"`; data without such tokens leave it None. Encoders that read token ids from `Batch.extras` need
`hide_tokens` as well: `observed` alone does not change ids.

Sources: CIDer (six modes, and their training form), IMDer and RoHyDR (random missing rate, fixed subsets), Affect-Diff
(frame mask).
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import comb
from typing import Any, ClassVar, Literal

import torch
from scipy.optimize import brentq
from torch import Tensor

from affectcore.data.protocol import ByPosition, EachStep, PerBatch, Protocol, build, check_modalities, check_rate
from affectcore.data.schema import Batch
from affectcore.errors import ConfigError, DataError

__all__ = [
    "MISSING",
    "RANDOM_MR",
    "RMFM",
    "RMM",
    "STMFM",
    "TMFM",
    "Block",
    "ByPosition",
    "EachStep",
    "FrameMask",
    "Missing",
    "ModalityDropout",
    "Only",
    "PerBatch",
    "PublishedRandomMR",
    "RMFMSame",
    "RMFMTraining",
    "RandomMR",
    "RandomSubset",
    "Without",
    "hidden_share",
    "hide_tokens",
    "make_missing",
    "missing_rate",
]


@dataclass(frozen=True)
class Missing(Protocol):
    """Base of the missing modes: subclasses say which steps are kept."""

    family: ClassVar[str] = "missing"

    @abstractmethod
    def kept(self, batch: Batch) -> dict[str, Tensor]:
        """Return per modality what the draw leaves, (B, T_m) bool or, for whole modalities, (B, 1)."""

    def __call__(self, batch: Batch) -> Batch:
        return batch.with_observed({m: k.expand_as(batch.observed[m]) for m, k in self.kept(batch).items()})


# Steps, after CIDer


def _steps(batch: Batch, modality: str) -> Tensor:
    return torch.arange(batch.features[modality].shape[-2], device=batch.index.device)


@dataclass(frozen=True)
class _Steps(Missing):
    """special: the modality whose first and last steps are [CLS] and [SEP], which are never hidden."""

    special: str | None = None

    def _ends(self, batch: Batch, modality: str) -> Tensor:
        """(B, T_m) bool, True at the first and the last step that exists."""
        steps = _steps(batch, modality)
        return (steps == 0) | (steps == batch.lengths[modality].unsqueeze(-1) - 1)

    def __call__(self, batch: Batch) -> Batch:
        kept = {m: k.expand_as(batch.observed[m]) for m, k in self.kept(batch).items()}
        if self.special is not None:
            check_modalities(self.mode, (self.special,), batch)
            if self.special in kept:
                kept[self.special] = kept[self.special] | self._ends(batch, self.special)
        return batch.with_observed(kept)


@dataclass(frozen=True)
class RMFM(_Steps):
    """Random missing of modality features, test form: one uniform for every step of every modality, one rate for all.

    CIDer draws one matrix over the concatenated modalities; one stream per modality has the same distribution.
    """

    mode: ClassVar[str] = "rmfm"

    def kept(self, batch: Batch) -> dict[str, Tensor]:
        return {m: self.uniform(batch, m, x.shape[-2]) >= self.rate for m, x in batch.features.items()}


@dataclass(frozen=True)
class RMFMSame(_Steps):
    """Random missing of modality features, traditional form: draws and rates per modality.

    rates: modality -> rate; modalities it does not name have `rate`. With equal rates its distribution is RMFM's.
    """

    rates: Mapping[str, float] = field(default_factory=dict)
    mode: ClassVar[str] = "rmfm_same"

    def __post_init__(self) -> None:
        super().__post_init__()
        for m, r in self.rates.items():
            check_rate(f"rmfm_same: rates[{m!r}]", r)

    def kept(self, batch: Batch) -> dict[str, Tensor]:
        check_modalities(self.mode, tuple(self.rates), batch)
        return {
            m: self.uniform(batch, m, x.shape[-2]) >= self.rates.get(m, self.rate) for m, x in batch.features.items()
        }


@dataclass(frozen=True)
class RMFMTraining(_Steps):
    """Random missing of modality features, training form: the rates themselves are uniform in [0, `rate`).

    rate_per: "position", as CIDer's code draws it (every step its own rate: identical to hiding steps independently
    with probability rate / 2, so no sample is ever nearly empty or nearly complete); "sample", as the text describes
    it; "modality", one rate per sample and modality.
    """

    rate_per: Literal["position", "sample", "modality"] = "sample"
    mode: ClassVar[str] = "rmfm_training"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate_per not in ("position", "sample", "modality"):
            raise ConfigError(f"rmfm_training: rate_per = {self.rate_per!r} must be position, sample or modality")

    def kept(self, batch: Batch) -> dict[str, Tensor]:
        kept = {}
        for m, x in batch.features.items():
            if self.rate_per == "sample":
                rate = self.uniform(batch, "rate", 1)
            else:
                rate = self.uniform(batch, f"rate {m}", x.shape[-2] if self.rate_per == "position" else 1)
            kept[m] = self.uniform(batch, m, x.shape[-2]) >= self.rate * rate
        return kept


@dataclass(frozen=True)
class RMM(_Steps):
    """Random missing of modalities: each modality of a sample is hidden with probability `rate`, independently.

    All may vanish at once; `special` steps stay even then.
    """

    mode: ClassVar[str] = "rmm"

    def kept(self, batch: Batch) -> dict[str, Tensor]:
        return {m: self.uniform(batch, m, 1) >= self.rate for m in batch.modalities}


@dataclass(frozen=True)
class _Aligned(_Steps):
    """One mask over word positions for all modalities; DataError where their lengths differ.

    With `special`, the first and the last position are kept in every modality.
    """

    def _length(self, batch: Batch) -> Tensor:
        """(B, 1) number of words, the same in every modality."""
        lengths, sizes = list(batch.lengths.values()), {x.shape[-2] for x in batch.features.values()}
        if len(sizes) > 1 or any(not torch.equal(lengths[0], k) for k in lengths[1:]):
            raise DataError(f"{self.mode}: needs aligned data, the lengths of {', '.join(batch.modalities)} differ")
        return lengths[0].unsqueeze(-1)

    def __call__(self, batch: Batch) -> Batch:
        self._length(batch)
        kept = self.kept(batch)
        if self.special is not None:
            check_modalities(self.mode, (self.special,), batch)
            kept = {m: k | self._ends(batch, m) for m, k in kept.items()}
        return batch.with_observed(kept)


@dataclass(frozen=True)
class TMFM(_Aligned):
    """Temporal missing of modality features: words are hidden at random, in all modalities at once. Aligned only."""

    mode: ClassVar[str] = "tmfm"

    def kept(self, batch: Batch) -> dict[str, Tensor]:
        steps = next(iter(batch.features.values())).shape[-2]
        return dict.fromkeys(batch.modalities, self.uniform(batch, "words", steps) >= self.rate)


def _block(u: Tensor, steps: Tensor, first: int, length: Tensor, rate: float) -> Tensor:
    """(B, T) bool, False inside one block of round(rate * length) of the `length` steps from `first` on.

    u, length: (B, 1). The start floor(u * starts) is uniform; one step more in the block is one start less, which moves
    the start back by 0 or 1: blocks of one seed are nested. Halves round to even.
    """
    size = torch.round(rate * length.double()).long()
    start = first + (u * (length - size + 1)).long()
    return (steps < start) | (steps >= start + size)


@dataclass(frozen=True)
class STMFM(_Aligned):
    """Structural temporal missing: one block of round(rate * words) words, in all modalities at once. Aligned only.

    The start is uniform over all places where the block fits. The size is exact, not binomial. Words exclude the
    `special` steps.
    """

    mode: ClassVar[str] = "stmfm"

    def kept(self, batch: Batch) -> dict[str, Tensor]:
        ends = 0 if self.special is None else 1
        words = (self._length(batch) - 2 * ends).clamp(min=0)
        m = batch.modalities[0]
        return dict.fromkeys(
            batch.modalities, _block(self.uniform(batch, "start", 1), _steps(batch, m), ends, words, self.rate)
        )


@dataclass(frozen=True)
class Block(_Steps):
    """One block of round(rate * length) consecutive steps per modality, placed independently; any lengths.

    The size is exact. The form of STMFM for data that are not aligned: a sensor that drops out for a while.
    """

    mode: ClassVar[str] = "block"

    def kept(self, batch: Batch) -> dict[str, Tensor]:
        kept = {}
        for m in batch.modalities:
            ends = 1 if m == self.special else 0
            length = (batch.lengths[m].unsqueeze(-1) - 2 * ends).clamp(min=0)
            kept[m] = _block(self.uniform(batch, m, 1), _steps(batch, m), ends, length, self.rate)
        return kept


@dataclass(frozen=True)
class FrameMask(Missing):
    """Affect-Diff's frame mask: max(1, int(rate * T)) of the T time slots are hidden in all modalities at once.

    The count is exact and refers to slots, padding included, as published (T = 50: 5, 12, 25, 37 slots); rate 0 hides
    nothing. The published draw is shared by a batch: `PerBatch(FrameMask(...), 64)`. DataError where modalities have
    different T, or T = 1 (the rule would hide everything at any rate).
    """

    mode: ClassVar[str] = "frame_mask"

    def kept(self, batch: Batch) -> dict[str, Tensor]:
        slots = {x.shape[-2] for x in batch.features.values()}
        steps = max(slots)
        if len(slots) > 1 or steps == 1:
            raise DataError(f"frame_mask: needs one time axis of 2 or more slots for all modalities, got {slots}")
        count = max(1, int(self.rate * steps)) if self.rate > 0 else 0
        rank = self.uniform(batch, "slots", steps).argsort(-1).argsort(-1)
        return dict.fromkeys(batch.modalities, rank >= count)


# Whole modalities


@dataclass(frozen=True)
class Only(_Steps):
    """A fixed subset: only `present` stays. CIDer's SMM, the fixed missing of IMDer and RoHyDR.

    rate: share of samples on which the subset is imposed; 1 is the published form.
    """

    present: tuple[str, ...] = ()
    mode: ClassVar[str] = "only"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.present:
            raise ConfigError("only: present must name at least one modality")

    @property
    def name(self) -> str:
        return f"only:{'+'.join(self.present)}"

    def kept(self, batch: Batch) -> dict[str, Tensor]:
        check_modalities(self.name, self.present, batch)
        spared = self.uniform(batch, "sample", 1) >= self.rate
        return {m: spared for m in batch.modalities if m not in self.present}


@dataclass(frozen=True)
class Without(_Steps):
    """A fixed loss: the modalities `absent` are hidden.

    rate: share of samples that lose them; 1 is the published form.
    """

    absent: tuple[str, ...] = ()
    mode: ClassVar[str] = "without"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.absent:
            raise ConfigError("without: absent must name at least one modality")

    @property
    def name(self) -> str:
        return f"without:{'+'.join(self.absent)}"

    def kept(self, batch: Batch) -> dict[str, Tensor]:
        check_modalities(self.name, self.absent, batch)
        return dict.fromkeys(self.absent, self.uniform(batch, "sample", 1) >= self.rate)


def _ranked(u: dict[str, Tensor]) -> dict[str, Tensor]:
    """Per modality its rank (0 is lowest) among the sample's uniforms, (B, 1)."""
    ranks = torch.cat(list(u.values()), -1).argsort(-1).argsort(-1)
    return {m: ranks[:, i : i + 1] for i, m in enumerate(u)}


@dataclass(frozen=True)
class _Subsets(Missing):
    """A random number of modalities is hidden, then which ones at random, at least one kept.

    Modalities that a sample lacks by nature are the first to count as hidden, so one that has any keeps one.
    """

    def tails(self, modalities: int) -> list[float]:
        """Return P(at least k modalities are hidden) for k = 1, 2, ..., at most `modalities` - 1 of them."""
        raise NotImplementedError

    def kept(self, batch: Batch) -> dict[str, Tensor]:
        tails = torch.tensor(self.tails(len(batch.modalities)), dtype=torch.float64, device=batch.index.device)
        hidden = (self.uniform(batch, "count", 1) < tails).sum(-1, keepdim=True)
        u = {m: self.uniform(batch, m, 1) for m in batch.modalities}
        u = {m: torch.where(batch.observed[m].any(-1, keepdim=True), v, v - 1) for m, v in u.items()}
        return {m: rank >= hidden for m, rank in _ranked(u).items()}


# Share of samples that miss two and one of three modalities, per missing rate (IMDer, DiCMoR, RoHyDR): 2 a + b = 3 MR
RANDOM_MR: dict[float, tuple[float, float]] = {
    0.0: (0.0, 0.0),
    0.1: (0.1, 0.1),
    0.2: (0.2, 0.2),
    0.3: (0.3, 0.3),
    0.4: (0.5, 0.2),
    0.5: (0.7, 0.1),
    0.6: (0.9, 0.0),
    0.7: (1.0, 0.0),
}


def _random_mr(mode: str, rate: float) -> tuple[float, float]:
    for listed, shares in RANDOM_MR.items():
        if abs(rate - listed) < 1e-9:  # 0.1 * 3 is meant to be 0.3
            return shares
    raise ConfigError(f"{mode}: rate = {rate} must be one of {', '.join(map(str, RANDOM_MR))}")


@dataclass(frozen=True)
class RandomMR(_Subsets):
    """Random missing of IMDer, DiCMoR and RoHyDR, idealised: the table `RANDOM_MR`, drawn per sample.

    rate: MR = 1 - mean number of available modalities / 3, one of 0, .1, ..., .7; ".7" is 2/3, the most that leaves one
    modality. Three modalities; `RandomSubset` takes any number and any rate.
    """

    mode: ClassVar[str] = "random_mr"
    highest: ClassVar[float] = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        _random_mr(self.mode, self.rate)

    def tails(self, modalities: int) -> list[float]:
        if modalities != 3:
            raise DataError(f"{self.mode}: defined for three modalities, got {modalities}; use random_subset")
        two, one = _random_mr(self.mode, self.rate)
        return [two + one, two]


@dataclass(frozen=True)
class RandomSubset(_Subsets):
    """Random missing for any number M of modalities and any rate up to (M - 1) / M, at least one modality kept.

    Each modality is hidden independently with probability p, given that not all are; p is solved for such that the
    expected share of hidden modalities is `rate`. Of all distributions over non-empty subsets with that rate it has the
    largest entropy.
    """

    mode: ClassVar[str] = "random_subset"

    def tails(self, modalities: int) -> list[float]:
        n, most = modalities, (modalities - 1) / modalities
        if self.rate > most + 1e-9:
            rule = f"at most (M - 1) / M = {most:.3f} for M = {n} modalities"
            raise ConfigError(f"random_subset: rate = {self.rate} must be {rule}")
        if self.rate > most - 1e-6:  # the limit p -> 1: exactly one modality stays
            return [1.0] * (n - 1)
        p = brentq(lambda p: (p - p**n) / (1 - p**n) - self.rate, 0.0, 1 - 1e-9)
        share = [comb(n, k) * p**k * (1 - p) ** (n - k) / (1 - p**n) for k in range(n)]
        return [sum(share[k:]) for k in range(1, n)]


@dataclass(frozen=True)
class PublishedRandomMR(Missing):
    """Random missing as the codes of IMDer and RoHyDR draw it: one subset per mini-batch, the hardest batches first.

    Call it with a whole split in the loader's order. Batch after batch, two modalities are missing while (such batches
    so far) / D < a, then one while (such batches) / D < b, then none, where D is the number of batches rounded to tens:
    the realised rate departs from the nominal one. Which modalities: uniform, once per batch. Three modalities.
    The codes draw anew in every forward call (another seed each) and take rate 0 for all-two-missing; here 0 is 0.
    """

    batch_size: int = 32
    mode: ClassVar[str] = "published_random_mr"
    highest: ClassVar[float] = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        _random_mr(self.mode, self.rate)
        if self.batch_size < 1:
            raise ConfigError(f"{self.mode}: batch_size = {self.batch_size} must be 1 or more")

    def counts(self, batches: int) -> list[int]:
        """Return how many modalities are missing in each of this many batches."""
        divisor = round(batches, -1)
        if divisor == 0:
            raise DataError(f"{self.mode}: divides by the number of batches rounded to tens, 0 for {batches} batches")
        (two, one), seen, counts = _random_mr(self.mode, self.rate), {0: 0, 1: 0, 2: 0}, []
        for _ in range(batches):
            k = 2 if seen[2] / divisor < two else 1 if seen[1] / divisor < one else 0
            seen[k] += 1
            counts.append(k)
        return counts

    def kept(self, batch: Batch) -> dict[str, Tensor]:
        if len(batch.modalities) != 3:
            raise DataError(f"{self.mode}: defined for three modalities, got {len(batch.modalities)}")
        number = torch.arange(len(batch), device=batch.index.device) // self.batch_size
        hidden = torch.tensor(self.counts(int(number[-1]) + 1), device=batch.index.device)[number].unsqueeze(-1)
        drawn = replace(batch, index=number)
        return {
            m: rank >= hidden for m, rank in _ranked({m: self.uniform(drawn, m, 1) for m in batch.features}).items()
        }


@dataclass(frozen=True)
class ModalityDropout(Missing):
    """Modality dropout for training: each modality hidden with probability `rate`, but never all of them.

    Where all would vanish, the one with the largest uniform stays: a modality is hidden with probability
    rate - rate^M / M. Use it through `EachStep`. Affect-Diff's dropout, which may hide all, is `RMM`.
    """

    mode: ClassVar[str] = "modality_dropout"

    def kept(self, batch: Batch) -> dict[str, Tensor]:
        u = {m: self.uniform(batch, m, 1) for m in batch.modalities}
        u = {m: torch.where(batch.observed[m].any(-1, keepdim=True), v, v - 1) for m, v in u.items()}
        last = len(u) - 1
        return {m: (u[m] >= self.rate) | (rank == last) for m, rank in _ranked(u).items()}


# By name

MISSING: dict[str, type[Missing]] = {
    c.mode: c
    for c in (
        RMFM,
        RMFMTraining,
        RMFMSame,
        RMM,
        TMFM,
        STMFM,
        Only,
        Without,
        RandomMR,
        RandomSubset,
        PublishedRandomMR,
        Block,
        FrameMask,
        ModalityDropout,
    )
}


def make_missing(name: str, rate: float, seed: int = 0, **options: Any) -> Protocol | PerBatch | ByPosition:
    """Return the missing protocol of that name.

    name: a key of `MISSING`; fixed subsets may carry theirs ("only:text+audio", "without:text"); "per_batch:..." with
    option batch_size, and "by_position:...", give the published drawings of any mode.
    Raises ConfigError for an unknown name or option, and for a rate outside the mode's range.
    """
    kind, _, rest = name.partition(":")
    if kind == "per_batch":
        size = options.pop("batch_size", None)
        if not isinstance(size, int):
            raise ConfigError(f"{name}: option batch_size must be given as a whole number")
        return PerBatch(build(MISSING, rest, rate, seed, options), size)
    if kind == "by_position":
        return ByPosition(build(MISSING, rest, rate, seed, options))
    if kind in ("only", "without") and rest:
        options["present" if kind == "only" else "absent"] = tuple(rest.split("+"))
        name = kind
    return build(MISSING, name, rate, seed, options)


# What a draw did


def missing_rate(batch: Batch) -> float:
    """Return MR = 1 - (available modalities, summed over samples) / (samples x modalities), as RoHyDR defines it.

    A modality is available where at least one of its steps is observed.
    """
    available = [o.any(-1).double().mean() for o in batch.observed.values()]
    return 1 - float(torch.stack(available).mean())


def hidden_share(before: Batch, after: Batch) -> dict[str, float]:
    """Return per modality the share of the steps observed before that are hidden after; NaN where none was observed."""
    share = {}
    for m, seen in before.observed.items():
        n = int(seen.sum())
        share[m] = 1 - int((seen & after.observed[m]).sum()) / n if n else float("nan")
    return share


def hide_tokens(batch: Batch, extra: str = "tokens", modality: str = "text", unknown: int = 100) -> Batch:
    """Return the batch with the ids `extras[extra]` (B, T) of existing but hidden steps replaced by `unknown`.

    100 is [UNK] in BERT's vocabularies. Padding keeps its ids. CIDer hides text so; apply it after the mask.
    """
    if extra not in batch.extras:
        raise ConfigError(f"hide_tokens: extra {extra!r} is unknown, the batch has {', '.join(batch.extras) or 'none'}")
    check_modalities("hide_tokens", (modality,), batch)
    ids, gone = batch.extras[extra], batch.valid(modality) & ~batch.observed[modality]
    if ids.shape != gone.shape:
        raise DataError(f"hide_tokens: {extra!r} has shape {tuple(ids.shape)}, expected {tuple(gone.shape)}")
    return replace(batch, extras={**batch.extras, extra: torch.where(gone, torch.full_like(ids, unknown), ids)})
