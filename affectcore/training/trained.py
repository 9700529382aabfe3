"""A trained model as one object: its configuration, its seeds, the scaling of its features; `train` makes it.

    trained = train("cider", data, missing="rmm", rate=0.5, seeds=5)
    scores = trained.predict(data.split("test", trained.selection))      # (seeds, N, classes)

`affectcore.training.pretrained` stores it in a folder or on the Hugging Face Hub, `affectcore.training.estimator` wears
it as a scikit-learn estimator.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affectcore.data.missing import make_missing
from affectcore.data.protocol import EachStep
from affectcore.data.schema import AffectData, Batch, Selection
from affectcore.errors import ConfigError, DataError
from affectcore.models import registry
from affectcore.models.contract import Shape
from affectcore.models.wrapper import frozen
from affectcore.training import loop
from affectcore.training import recipe as recipes
from affectcore.training.fits import Fit
from affectcore.training.recipe import Recipe
from affectcore.training.seeds import fit_seeds

if TYPE_CHECKING:
    from affectcore.training.pretrained import Card

Scale = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Trained:
    """A registered model, trained with one or more seeds.

    name, preset: of the registry. config: the model's settings, of the class `registry.entry(name).config`.
    shape: of the training data. recipe: None for an estimator without gradients.
    fits: one a seed; () for an estimator, whose fitted objects, one a seed, are in `estimators`.
    scale: mean and standard deviation (D_m,) of every modality over the observed training steps; {} unscaled.
    about: what the training data and the protocol were, in words and numbers that JSON can hold.
    """

    name: str
    preset: str
    config: Any
    shape: Shape
    recipe: Recipe | None
    seeds: tuple[int, ...]
    fits: tuple[Fit, ...]
    scale: Mapping[str, Scale] = field(default_factory=dict)
    estimators: tuple[Any, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def selection(self) -> Selection:
        """How the epoch of the first seed was chosen; it opens the test split of a data set."""
        return self.fits[0].selection if self.fits else Selection("fixed")

    @property
    def threshold(self) -> float:
        """The score from which a label of a label set counts as predicted: the seeds' mean."""
        return float(np.mean([f.threshold for f in self.fits])) if self.fits else 0.5

    @property
    def build(self) -> loop.Build:
        """What makes an untrained model of this configuration."""
        return partial(registry.entry(self.name).build, self.config, self.shape)

    def predict(self, batch: Batch, device: str = "cpu") -> NDArray[np.floating]:
        """Return the scores of every seed: (S, N) for regression, (S, N, C) probabilities for labels.

        batch: unscaled, as the data set gives it, with or without values hidden.
        Raises DataError for a batch of other modalities, features or longer sequences than the training data.
        """
        batch = scaled(fitting(batch, self.shape, self.name), self.scale)
        if self.estimators:
            return np.stack([e.predict(batch) for e in self.estimators])
        return np.stack([loop.predict(self.build, f, batch, device=device) for f in self.fits])

    def mean(self, batch: Batch, device: str = "cpu") -> NDArray[np.floating]:
        """Return the scores averaged over seeds, (N,) or (N, C)."""
        return np.asarray(self.predict(batch, device).mean(0))

    def save_pretrained(self, folder: str | Path, card: "Card | None" = None) -> Path:
        """Store the model in a folder and return it: see `affectcore.training.pretrained.save_pretrained`."""
        from affectcore.training.pretrained import save_pretrained

        return save_pretrained(self, folder, card)

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> "Trained":
        """Return a stored model: see `affectcore.training.pretrained.from_pretrained`."""
        from affectcore.training.pretrained import from_pretrained

        return from_pretrained(source, **options)


def train(
    name: str,
    data: AffectData,
    *,
    preset: str = "clean",
    settings: Mapping[str, Any] | None = None,
    recipe: str | Recipe = "small",
    epochs: int | None = None,
    seeds: int | Sequence[int] = 5,
    missing: str | Callable[[Batch], Batch] | None = None,
    rate: float = 0.5,
    scale: bool = True,
    device: str = "cpu",
    how: Literal["auto", "stacked", "processes", "one_by_one"] = "one_by_one",
    folder: Path | None = None,
) -> Trained:
    """Return a registered model trained on the split `train`, its epoch chosen on `valid`.

    preset, settings: of the model. recipe: a preset's name or a `Recipe`; epochs: most epochs, if not the recipe's.
    seeds: how many (0, 1, ...), or which.
    missing: a protocol that hides values anew in every training batch, or its name in `MISSING` with its `rate`.
    scale: bring every feature to mean 0 and standard deviation 1 over the observed training steps, so that what is
    hidden, which a batch holds as zero, is the plainest imputation. how: see `fit_seeds`. folder: for checkpoints.
    Raises ConfigError (names, settings, recipe), DataError (data), TrainingError (device, a loss that is not finite).
    """
    entry = registry.entry(name)
    config = registry.config(name, preset, **{k: frozen(v) for k, v in (settings or {}).items()})
    chosen = recipes.preset(recipe) if isinstance(recipe, str) else recipe
    chosen = chosen if epochs is None else chosen.but(epochs=epochs)
    which = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(s) for s in seeds)
    if not which:
        raise ConfigError(f"seeds = {seeds!r} must be a number >= 1 or a list of seeds")
    scales = scales_of(data.split("train")) if scale else {}
    inside = data.map_features({m: partial(_scaled, scale=s) for m, s in scales.items()}) if scales else data
    shape = Shape.of(inside)
    about = {
        "data": data.name,
        "fingerprint": data.fingerprint(),
        "samples": data.splits,
        "notes": list(data.notes),
        "missing": None if missing is None else f"{missing if isinstance(missing, str) else repr(missing)}",
        "rate": rate if isinstance(missing, str) else None,
    }
    made = partial(Trained, name, preset, config, shape, scale=scales, about=about)
    build = partial(entry.build, config, shape)
    if entry.kind == "estimator":
        if missing is not None:
            raise ConfigError(f"{name} has no training steps in which values could be hidden: leave out `missing`")
        fitted = [build() for _ in which]
        for estimator, seed in zip(fitted, which):
            estimator.fit(inside, seed)
        return made(recipe=None, seeds=which, fits=(), estimators=tuple(fitted))
    hides = make_missing(missing, rate) if isinstance(missing, str) else missing
    augment = None if hides is None else EachStep(hides)  # type: ignore[arg-type]
    fits = fit_seeds(build, inside, chosen, which, device=device, how=how, folder=folder, augment=augment)
    return made(recipe=chosen, seeds=which, fits=tuple(fits))


def scales_of(batch: Batch) -> dict[str, Scale]:
    """Return mean and standard deviation (D_m,) of every feature over the observed steps; 1 for a constant feature."""
    out = {}
    for m, x in batch.features.items():
        seen = x[batch.observed[m]].double()
        if not len(seen):
            seen = torch.zeros(1, x.shape[-1], dtype=torch.float64)
        mean, sd = seen.mean(0), seen.std(0, unbiased=False)
        flat = sd <= 1e-6 * mean.abs().clamp(min=1e-6)
        out[m] = mean.float(), torch.where(flat, torch.ones_like(sd), sd).float()
    return out


def _scaled(x: Tensor, scale: Scale) -> Tensor:
    return (x - scale[0].to(x)) / scale[1].to(x)


def scaled(batch: Batch, scale: Mapping[str, Scale]) -> Batch:
    """Return the batch with scaled features, zero where nothing is observed."""
    if not scale:
        return batch
    x = {
        m: torch.where(batch.observed[m].unsqueeze(-1), _scaled(v, scale[m]), torch.zeros((), dtype=v.dtype))
        for m, v in batch.features.items()
    }
    return replace(batch, features=x)


def fitting(batch: Batch, shape: Shape, name: str) -> Batch:
    """Return the batch with sequences padded to the shape's steps and modalities in its order; DataError if it cannot.

    Models may hold tables as long as the training data's sequences, and some published ones read the padding.
    """
    given = {m: tuple(x.shape[-2:]) for m, x in batch.features.items()}
    for m, d in shape.dims.items():
        if m not in given:
            raise DataError(f"{name}: modality {m!r} is not there; the model reads {', '.join(shape.modalities)}")
        if given[m][1] != d:
            raise DataError(f"{name}: {m!r} has {given[m][1]} features, the model was trained with {d}")
        if given[m][0] > shape.steps[m]:
            rule = f"the model was trained with at most {shape.steps[m]}"
            raise DataError(f"{name}: {m!r} has sequences of {given[m][0]} steps, {rule}")
    extra = [m for m in given if m not in shape.dims]
    if extra:
        raise DataError(f"{name}: modality {extra[0]!r} is unknown; the model reads {', '.join(shape.modalities)}")
    if given == {m: (shape.steps[m], d) for m, d in shape.dims.items()} and tuple(given) == shape.modalities:
        return batch
    x, seen = {}, {}
    for m in shape.modalities:
        more = shape.steps[m] - given[m][0]
        x[m] = torch.nn.functional.pad(batch.features[m], (0, 0, 0, more))
        seen[m] = torch.nn.functional.pad(batch.observed[m], (0, more))
    return replace(batch, features=x, observed=seen, lengths={m: batch.lengths[m] for m in shape.modalities})
