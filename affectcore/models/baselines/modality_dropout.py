"""Modality dropout: any model of the registry, trained with modalities hidden at random; zeros stand for them.

In a training step every modality of a sample is hidden with probability p, but never all that the sample has; the
backbone sees the rest as if no more had been observed. In evaluation nothing is hidden. It recovers nothing and has no
parameters of its own: the control for every method that imagines what is missing. `rate` 0 is zero-filling alone.

| symbol | name | shape |
|---|---|---|
| p | `rate` | |
| u | uniform numbers of the step | (B, M) |
| | modality m stays where u_m >= p or u_m is the largest of those present | |

One drawing serves a whole optimisation stage: forward and losses of the backbone see the same batch. Losses that
compare with features (reconstructions) see the visible ones only. A backbone that reads `batch.extras` (token ids) must
itself look at `observed`. No source is followed; the drawing is that of `affectcore.data.missing.ModalityDropout`: the
wrapper has the same law as training on that protocol, drawn anew at every step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape, Stage
from affectcore.nn.hiding import hide_each
from affectcore.nn.pooling import hide


@dataclass(frozen=True)
class Config:
    rate: float = 0.3  # p in [0, 1]: probability with which a modality of a sample is hidden in a training step
    backbone: str = "mlp"  # name of a gradient model
    backbone_preset: str = "clean"
    backbone_settings: tuple[tuple[str, Any], ...] = ()  # that differ from its preset, (name, value) pairs


@dataclass(frozen=True)
class HiddenOutput(Output):
    """inner: the backbone's output; batch: what it saw; kept: (B, M) bool, modalities that stayed."""

    inner: Output
    batch: Batch
    kept: Tensor


class ModalityDropout(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        if not 0 <= config.rate <= 1:
            raise ConfigError(f"modality_dropout: rate = {config.rate} must lie in [0, 1]")
        if registry.entry(config.backbone).kind != "gradient":
            raise ConfigError(f"modality_dropout: backbone {config.backbone!r} is not trained by gradients")
        self.backbone: AffectModel = registry.build(
            config.backbone, shape, config.backbone_preset, **dict(config.backbone_settings)
        )

    def _hide(self, batch: Batch, noise: Noise) -> tuple[Batch, Tensor]:
        """Return the batch as the backbone sees it and which modalities stayed, (B, M)."""
        present = torch.stack([batch.observed[m].any(-1) for m in self.shape.modalities], -1)
        if not noise.training or self.config.rate == 0:
            return batch, present
        kept = hide_each(present, noise.uniform(*present.shape), self.config.rate)
        observed = {m: batch.observed[m] & kept[..., i : i + 1] for i, m in enumerate(self.shape.modalities)}
        return replace(
            batch, observed=observed, features={m: hide(batch.features[m], o) for m, o in observed.items()}
        ), kept

    def forward(self, batch: Batch, noise: Noise) -> HiddenOutput:
        seen, kept = self._hide(batch, noise)
        inner = self.backbone(seen, noise)
        return HiddenOutput(inner.prediction, inner, seen, kept)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        if not isinstance(output, HiddenOutput):
            raise TypeError("modality dropout needs its own output")
        return self.backbone.losses(output.inner, output.batch, progress)

    def stage_losses(
        self, stage: Stage, batch: Batch, noise: Noise, progress: Progress
    ) -> tuple[dict[str, Tensor], Memo]:
        inner = next(s for s in self.backbone.stages() if s.name == stage.name)
        return self.backbone.stage_losses(inner, self._hide(batch, noise)[0], noise, progress)

    def weights(self, progress: Progress) -> Mapping[str, float]:
        return self.backbone.weights(progress)

    def stages(self) -> tuple[Stage, ...]:
        return tuple(
            replace(s, parameters=tuple(f"backbone.{p}" for p in s.parameters)) for s in self.backbone.stages()
        )

    def remember(self, memo: Memo) -> None:
        self.backbone.remember(memo)


CLEAN = Config()
PRESETS = {"clean": CLEAN, "zero_fill": replace(CLEAN, rate=0.0)}
