"""MMIN, Missing Modality Imagination Network: the embeddings of what is missing are imagined [zhao2021missing].

A teacher learns embeddings of complete samples. The model itself sees some modalities as zeros, and a cascade of
residual autoencoders turns its embedding into the one that the teacher has of the missing part; a second cascade leads
back. The latents of the first cascade are the joint representation that the prediction is read from.

| symbol | name | shape |
|---|---|---|
| x^m | mean over observed steps of modality m | (B, D_m) |
| h | `embedding`, of every modality, zeros where one is hidden, concatenated | (B, M E) |
| h^ | `target`: the teacher's embedding of what is hidden, of zeros for what is shown | (B, M E) |
| h' | `imagined`, first cascade | (B, M E) |
| h'' | `cycled`, second cascade, of h' | (B, M E) |
| C | `latent`, of all blocks of the first cascade | (B, blocks x last of `cascade`) |

Losses: "task", "imagine" |h' - h^|^2, "cycle" |h'' - h|^2 (h detached), both means, and "teacher", the teacher's own
task loss on complete input. The teacher is the model's encoders with a head of their own in the first `teacher_share`
of the epochs; what the encoders are then is kept in buffers and never moves again, while the encoders themselves go on
with the other losses: the published order, a teacher first and encoders that start from it, within one run. A run
whose `patience` is shorter than the teacher's epochs can stop before the model has learnt. Where the batch itself lacks
a modality there is no target, and the term leaves that modality out.

In training a share `missing_rate` of the modalities is hidden, one at least kept, anew at every step; in evaluation
only what the batch lacks is missing. Any number of modalities; sequences enter by their mean.

The paper's model reads frames (LSTM with max-pooling, text CNN); what later work reports on CMU-MOSI under this name is
the port in zeroQiaoba/GCNet (commit 8cce4a0) on one vector a modality and utterance, which is followed here.
Differences from that port, each with its switch, on in `author`, off in `clean`:
1. `squared`: a regression is trained by the squared error, not by the absolute one.
2. `small_init`: all weights start at N(0, 0.02^2), biases at zero.
3. `teacher_share` .5: teacher and model are trained for as many epochs; clean gives the teacher a quarter.
Without a switch: the port draws each sample's mask once, before training, and trains one model for every missing rate.
Its gradient is clipped at norm 5 network by network: that is the recipe's part (`clip_prefixes`).
On the same weights and mask the port and `author` (drop-out off, published sizes) give equal predictions, losses within
2e-17 and gradients within 7e-16 of the largest entry in float64; 8e-9 and 3e-7 in float32. The port trains 3,873,665
parameters, and 65,921 of the teacher's head before; here both count, 3,939,586.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.average import frozen_copy
from affectcore.nn.hiding import hide_share
from affectcore.nn.losses import as_prediction, task_loss
from affectcore.nn.pooling import masked_mean


@dataclass(frozen=True)
class Config:
    embedding: int = 128  # E, of each modality; code 128
    hidden: tuple[int, ...] = (128, 128)  # layers of every encoder and head; code (128, 128)
    cascade: tuple[int, ...] = (256, 128, 64)  # layers of an autoencoder's encoder, mirrored in its decoder; code
    blocks: int = 5  # autoencoders in a cascade; code: 5, and 2 and 8 as variants
    dropout: float = 0.5  # of encoders and heads; code 0.5
    missing_rate: float = 0.5  # share of modalities hidden in training, in [0, 1), at most (M - 1) / M; code 0.0 to 0.7
    imagine_weight: float = 4.0  # code 4
    cycle_weight: float = 2.0  # code 2
    teacher_share: float = 0.25  # difference 3, in [0, 1)
    squared: bool = False  # difference 1
    small_init: bool = False  # difference 2


@dataclass(frozen=True)
class MMINOutput(Output):
    """latent (B, blocks L) always; the others are None in evaluation: embedding, target, imagined and cycled (B, M E),
    known (B, M) bool, what the batch has; teacher: predictions on complete input."""

    latent: Tensor
    embedding: Tensor | None = None
    target: Tensor | None = None
    imagined: Tensor | None = None
    cycled: Tensor | None = None
    known: Tensor | None = None
    teacher: Tensor | None = None


class Dense(nn.Module):
    """Linear layers with ReLU and drop-out between them."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor, noise: Noise | None = None, p: float = 0.0) -> Tensor:
        *first, last = self.layers
        for layer in first:
            x = F.relu(layer(x))
            x = x if noise is None else noise.dropout(x, p)
        out: Tensor = last(x)
        return out


class Cascade(nn.Module):
    """Autoencoders in a row, each on the sum of all before it and the input: (B, D) to (B, D) and the latents."""

    def __init__(self, features: int, sizes: Sequence[int], blocks: int) -> None:
        super().__init__()
        down, up = [features, *sizes], [*reversed(sizes), features]
        self.down = nn.ModuleList(Dense(down) for _ in range(blocks))
        self.up = nn.ModuleList(Dense(up) for _ in range(blocks))
        self.last = Dense([features] * 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        latents = []
        for down, up in zip(cast(list[Dense], self.down), self.up):
            z = x
            for i, layer in enumerate(down.layers):
                z = layer(F.leaky_relu(z) if i else z)
            latents.append(z)
            x = x + up(z)
        return self.last(x), torch.cat(latents, -1)


class MMIN(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        if not 0 <= config.missing_rate < 1 or not 0 <= config.teacher_share < 1:
            rates = f"missing_rate = {config.missing_rate} and teacher_share = {config.teacher_share}"
            raise ConfigError(f"mmin: {rates} must lie in [0, 1)")
        if config.blocks < 1 or not config.cascade:
            raise ConfigError("mmin: a cascade needs one block and one layer or more")
        wide, c = config.embedding * len(shape.dims), shape.task.outputs
        self.encoders = nn.ModuleList(Dense([d, *config.hidden, config.embedding]) for d in shape.dims.values())
        self.imagine = Cascade(wide, config.cascade, config.blocks)
        self.back = Cascade(wide, config.cascade, config.blocks)
        self.head = Dense([config.cascade[-1] * config.blocks, *config.hidden, c])
        self.teacher_head = Dense([wide, *config.hidden, c])
        if config.small_init:
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, 0, 0.02)
                    nn.init.zeros_(layer.bias)
        self.teacher = frozen_copy(self.encoders)

    def forward(self, batch: Batch, noise: Noise) -> MMINOutput:
        names, p = self.shape.modalities, self.config.dropout
        x = [masked_mean(batch.features[m], batch.observed[m]) for m in names]
        known = torch.stack([batch.observed[m].any(-1) for m in names], -1)  # (B, M)
        kept = known
        if noise.training and self.config.missing_rate > 0:
            v, u = noise.uniform(*known.shape), noise.uniform(*known.shape)
            kept = hide_share(known, v, u, self.config.missing_rate)
        shown = [v.masked_fill(~kept[..., i : i + 1], 0) for i, v in enumerate(x)]
        h = torch.cat([e(v, noise, p) for e, v in zip(self.encoders, shown)], -1)  # (B, M E)
        imagined, latent = self.imagine(h)
        y = self._read(self.head, latent, noise)
        if not noise.training:
            return MMINOutput(y, latent)
        hidden = [v.masked_fill(kept[..., i : i + 1], 0) for i, v in enumerate(x)]
        target = torch.cat([e(v) for e, v in zip(cast(nn.ModuleList, self.teacher), hidden)], -1).detach()
        complete = torch.cat([e(v, noise, p) for e, v in zip(self.encoders, x)], -1)
        teacher = self._read(self.teacher_head, complete, noise)
        return MMINOutput(y, latent, h, target, imagined, self.back(imagined)[0], known, teacher)

    def _read(self, head: nn.Module, x: Tensor, noise: Noise) -> Tensor:
        return as_prediction(self.shape.task, head(x, noise, self.config.dropout))

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        if not isinstance(output, MMINOutput):
            raise TypeError("mmin needs its own output")
        terms = {"task": self._task(output.prediction, batch.target)}
        if output.embedding is None or output.imagined is None or output.target is None or output.cycled is None:
            return terms, {}
        known, teacher = cast(Tensor, output.known), cast(Tensor, output.teacher)
        weight = known.unsqueeze(-1).to(output.target.dtype)  # (B, M, 1)
        gap = (output.imagined - output.target).square().unflatten(-1, (known.shape[-1], -1)).mean(-1, keepdim=True)
        terms["imagine"] = (gap * weight).sum() / weight.sum().clamp(min=1)
        terms["cycle"] = (output.cycled - output.embedding.detach()).square().mean()
        terms["teacher"] = self._task(teacher, batch.target)
        return terms, {"learns": teacher.new_full((), self._teaching(progress))}

    def _task(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.config.squared and self.shape.task.kind == "regression":
            return F.mse_loss(prediction, target)
        return task_loss(self.shape.task, prediction, target)

    def _teaching(self, progress: Progress) -> float:
        """Return 1 while the teacher learns, then 0."""
        return float(progress.epoch < self.config.teacher_share * progress.epochs)

    def weights(self, progress: Progress) -> Mapping[str, float]:
        t, c = self._teaching(progress), self.config
        rest = {"task": 1.0, "imagine": c.imagine_weight, "cycle": c.cycle_weight}
        return {"teacher": t} | {k: (1 - t) * v for k, v in rest.items()}

    def remember(self, memo: Memo) -> None:
        """While the teacher learns, the buffers follow the encoders."""
        if "learns" in memo:
            new = memo["learns"]
            for slow, fast in zip(self.teacher.buffers(), self.encoders.parameters(), strict=True):
                slow.mul_(1 - new).add_(fast * new)


CLEAN = Config()
AUTHOR = replace(CLEAN, teacher_share=0.5, squared=True, small_init=True)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
