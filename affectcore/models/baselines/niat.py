"""NIAT: a noisy copy of every sample, made to fuse, be judged and be restored like the clean one [yuan2023noise].

| symbol | name | shape |
|---|---|---|
| X_m | `batch.features[m]`, brought to the steps of the first modality | (B, T, D_m) |
| | convolutions of all modalities side by side | (B, T, d) |
| F, F' | `fused` of the complete and of the noisy view: the first step after self-attention | (B, d) |
| | `restored`, a decoder's F from F'; in training only | (B, d) |

Any number of modalities, meant for aligned ones; a modality of other lengths is averaged over the steps that fall on
each of the first modality's, in proportion to both lengths. In training the complete view is what the batch observes;
the noisy view loses the same steps of all modalities at `hide_rate`, drawn from the step's noise. Losses: "task" and
"complete", the error on the noisy and on the complete view; "reconstruction" (L1); "adversarial" (the noisy vector
shall pass for a clean one); "discriminator" (which shall not believe it), whose gradient stops at the vectors, while
the adversarial one stops at the discriminator's weights: one step trains both sides.
The code draws its noisy copies once per seed when the data are loaded; here every step draws anew. A hidden token is a
zero vector, where the code feeds [UNK] to its text encoder.

Differences from the published code (Columbine21/NIAT, commit ad1cb40), each with its switch, on in `author`, off in
`clean`:
1. `future_mask`: no step sees a later one, and the first step alone is read: the fused vector therefore knows the first
   step and what the kernels reach, and no other; the sentence enters through the text encoder's [CLS]. Clean lets the
   first step see all observed ones.
2. `padded`: padding and missing steps are convolved and attended to.
3. `frozen_discriminator`: the code computes the discriminator's loss and never follows its gradient: the adversary
   keeps its random weights.
4. `attached_targets`: the complete view's vector, the target of the reconstruction, is trained to be an easy one.
5. `batch_norm` in classifier, decoder and discriminator. Off in `clean`, as in TFN.
6. `attention_dropout` .5: clean draws none, as in MulT.
Without a switch: the decoder ends in tanh, as published, although F is not bounded. In both presets, as in the code, a
regression output is bounded by a sigmoid to the scale of the target (`bounded`). Batch normalisation of decoder and
discriminator acts in training alone; its running statistics, which nobody reads, are not kept.

On the same weights and the same incomplete view, `author` and the published code, without drop-out, differ not at
all in the predictions and the loss and by 5e-7 of the largest entry in the gradient (float32, MOSI shape, in training
with batch normalisation); running statistics by 2e-7. Both have 1,235,802 trained parameters. The published fused
vector changes by 0 when text after step 1 or vision after step 4 is replaced.
What saves time and changes no value: the last layer is computed at the one step that is read; both views are one batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.baselines.views import hide_steps, joined, normalise_batch
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.crossmodal import PreNormStack, Rates, future, place
from affectcore.nn.losses import as_prediction, task_loss
from affectcore.nn.normalisation import BatchNorm
from affectcore.nn.pooling import hide


@dataclass(frozen=True)
class Config:
    text_width: int = 96  # features after the convolution; code, MOSI: 96
    audio_width: int = 24  # code, MOSI: 24
    vision_width: int = 40  # code, MOSI: 40
    other_width: int = 24  # of a modality by another name
    text_kernel: int = 3  # odd, steps of the convolution; code, MOSI: 3
    audio_kernel: int = 3  # code, MOSI: 3
    vision_kernel: int = 9  # code, MOSI: 9
    other_kernel: int = 3
    heads: int = 8  # must divide the sum of the widths; code, MOSI: 8
    layers: int = 3  # code: 3
    decoder_first: int = 80  # inner features of the decoder; code, MOSI: 80
    decoder_second: int = 96  # code, MOSI: 96
    discriminator_first: int = 128  # code, MOSI: 128
    discriminator_second: int = 64  # code, MOSI: 64
    class_hidden: int = 80  # of the classifier; code, MOSI: 80
    embed_dropout: float = 0.5  # code, MOSI: 0.5
    attention_dropout: float = 0.0  # difference 6; code, MOSI: 0.5
    inner_dropout: float = 0.0  # code, MOSI: 0
    residual_dropout: float = 0.4  # code, MOSI: 0.4
    decoder_dropout: float = 0.4  # code, MOSI: 0.4
    class_dropout: float = 0.3  # code, MOSI: 0.3
    hide_rate: float = 0.2  # share of steps hidden in training, [0, 1]; code: 0.2
    ends: tuple[str, ...] = ("text", "audio", "vision")  # whose first and last step is never hidden; code: all
    alpha: float = 0.6  # share of the adversarial in the generator's loss, the rest is reconstruction; code: 0.6
    generator_weight: float = 0.2  # code: 0.2
    discriminator_weight: float = 0.1  # code: 0.1
    beta: float = 1.0  # weight of the noisy view's error relative to the complete view's; code: 1
    bounded: bool = True  # regression: sigmoid to the scale of the target
    future_mask: bool = False  # difference 1
    padded: bool = False  # difference 2
    frozen_discriminator: bool = False  # difference 3
    attached_targets: bool = False  # difference 4
    batch_norm: bool = False  # difference 5


@dataclass(frozen=True)
class NIATOutput(Output):
    """fused: (B, d) of the noisy view. In training also, else None: complete: prediction of the complete view; target
    and restored: (B, d); passed, real, fake: (B,) logits of the discriminator on the noisy view for the adversarial
    loss, and on both views for its own (None if frozen). statistics: of batch normalisation."""

    fused: Tensor
    complete: Tensor | None
    target: Tensor | None
    restored: Tensor | None
    passed: Tensor | None
    real: Tensor | None
    fake: Tensor | None
    statistics: Memo


class Normalised(nn.Module):
    """Batch normalisation with learned scale and shift that acts in training alone: (B, D) to (B, D)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm_weight, self.norm_bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        return normalise_batch(x) * self.norm_weight + self.norm_bias


class Decoder(nn.Module):
    """The complete view's vector from the noisy view's: (B, d) to (B, d)."""

    def __init__(self, features: int, config: Config) -> None:
        super().__init__()
        a, b = config.decoder_first, config.decoder_second
        self.layers = nn.ModuleList([nn.Linear(features, a), nn.Linear(a, b), nn.Linear(b, features)])
        self.norm = Normalised(b) if config.batch_norm else None
        self.p = config.decoder_dropout

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        h = F.leaky_relu(noise.dropout(self.layers[0](x), self.p), 0.2)
        h = noise.dropout(self.layers[1](h), self.p)
        h = h if self.norm is None else self.norm(h)
        return torch.tanh(self.layers[2](F.leaky_relu(h, 0.2)))


class Discriminator(nn.Module):
    """Logit of being the complete view's vector: (B, d) to (B,)."""

    def __init__(self, features: int, config: Config) -> None:
        super().__init__()
        a, b = config.discriminator_first, config.discriminator_second
        self.norm = Normalised(features) if config.batch_norm else None
        self.layers = nn.ModuleList([nn.Linear(features, a), nn.Linear(a, b), nn.Linear(b, 1)])

    def forward(self, x: Tensor, frozen: bool) -> Tensor:
        """frozen: no gradient reaches the weights."""
        own = {k: p.detach() if frozen else p for k, p in self.named_parameters()}
        if self.norm is not None:
            x = normalise_batch(x) * own["norm.norm_weight"] + own["norm.norm_bias"]
        weights = [(own[f"layers.{i}.weight"], own[f"layers.{i}.bias"]) for i in range(3)]
        h = torch.tanh(F.linear(F.leaky_relu(F.linear(x, *weights[0]), 0.2), *weights[1]))
        return F.linear(h, *weights[2]).squeeze(-1)


def align(batch: Batch) -> Batch:
    """Return the batch with every modality brought to the steps of the first.

    Step t of a sequence of length L falls on step floor(t L_0 / L) of the first modality's L_0; several are averaged
    over those observed, and a step on which none falls is not observed.
    """
    first = batch.modalities[0]
    steps, goal = batch.features[first].shape[-2], batch.lengths[first]
    x, seen = {first: batch.features[first]}, {first: batch.observed[first]}
    for m in batch.modalities[1:]:
        own = torch.arange(batch.features[m].shape[-2], device=goal.device)
        place_of = own * goal.unsqueeze(-1) // batch.lengths[m].unsqueeze(-1)  # (B, T_m)
        lands = place_of.unsqueeze(-2) == torch.arange(steps, device=goal.device).unsqueeze(-1)  # (B, T, T_m)
        lands = lands & batch.observed[m].unsqueeze(-2)
        total = lands.to(batch.features[m].dtype) @ hide(batch.features[m], batch.observed[m])
        count = lands.sum(-1)
        x[m], seen[m] = total / count.clamp(min=1).unsqueeze(-1).to(total.dtype), count > 0
    return replace(batch, features=x, observed=seen, lengths=dict.fromkeys(batch.modalities, goal))


class NIAT(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        c = config
        widths = {"text": c.text_width, "audio": c.audio_width, "vision": c.vision_width}
        kernels = {"text": c.text_kernel, "audio": c.audio_kernel, "vision": c.vision_kernel}
        d = sum(widths.get(m, c.other_width) for m in shape.modalities)
        if d % c.heads:
            raise ConfigError(f"niat: the widths' sum {d} cannot be split into {c.heads} heads of equal size")
        if not 0 <= c.hide_rate <= 1:
            raise ConfigError(f"niat: hide_rate {c.hide_rate} must lie in [0, 1]")
        self.project = nn.ModuleList()
        for m, n in shape.dims.items():
            k = kernels.get(m, c.other_kernel)
            if k % 2 == 0:
                raise ConfigError(f"niat: kernel {k} of {m} must be odd")
            self.project.append(nn.Conv1d(n, widths.get(m, c.other_width), k, padding=k // 2, bias=False))
        self.aligned = len(set(shape.steps.values())) == 1
        self.stack = PreNormStack(d, c.heads, c.layers, xavier=True)
        self.decoder, self.discriminator = Decoder(d, c), Discriminator(d, c)
        self.norm = BatchNorm(d) if c.batch_norm else None
        self.first, self.last = nn.Linear(d, c.class_hidden), nn.Linear(c.class_hidden, shape.task.outputs)

    def view(self, batch: Batch, noise: Noise) -> Batch:
        """Return the noisy view of an aligned training batch."""
        rates = dict.fromkeys(batch.modalities, self.config.hide_rate)
        return hide_steps(batch, noise, rates, self.config.ends, shared=True)

    def _fused(self, batch: Batch, noise: Noise) -> Tensor:
        """Return F (B, d) of an aligned batch."""
        c, parts = self.config, []
        for m, conv in zip(self.shape.modalities, self.project):
            x = batch.features[m] if c.padded else hide(batch.features[m], batch.observed[m])
            parts.append(conv(x.transpose(-1, -2)).transpose(-1, -2))
        x = noise.dropout(place(torch.cat(parts, -1), False), c.embed_dropout)
        mask = None if c.padded else torch.stack([batch.observed[m] for m in batch.modalities]).any(0)
        hidden = future(x, x) if c.future_mask else None
        rates = Rates(c.attention_dropout, c.inner_dropout, c.residual_dropout)
        return self.stack(x, None, mask, hidden, noise, rates, slice(0, 1)).squeeze(1)

    def _predict(self, f: Tensor, noise: Noise) -> tuple[Tensor, Memo]:
        statistics = {}
        if self.norm is not None:
            f, statistics["norm"] = self.norm(f, noise.training)
        y = self.last(F.relu(self.first(noise.dropout(f, self.config.class_dropout))))
        y = as_prediction(self.shape.task, y)
        if self.config.bounded and self.shape.task.kind == "regression":
            low, high = self.shape.task.low, self.shape.task.high
            y = torch.sigmoid(y) * (high - low) + low
        return y, statistics

    def forward(self, batch: Batch, noise: Noise) -> NIATOutput:
        c = self.config
        batch = batch if self.aligned else align(batch)
        if not noise.training:
            fused = self._fused(batch, noise)
            y, statistics = self._predict(fused, noise)
            return NIATOutput(y, fused, None, None, None, None, None, None, statistics)
        complete, fused = self._fused(joined(batch, self.view(batch, noise)), noise).chunk(2)
        restored = self.decoder(fused, noise)
        passed = self.discriminator(fused, True)
        (y_complete, one), (y, two) = self._predict(complete, noise), self._predict(fused, noise)
        statistics = {"complete": one["norm"], "noisy": two["norm"]} if one else {}
        real, fake = None, None
        if not c.frozen_discriminator:
            real, fake = (self.discriminator(f.detach(), False) for f in (complete, fused))
        target = complete if c.attached_targets else complete.detach()
        return NIATOutput(y, fused, y_complete, target, restored, passed, real, fake, statistics)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        """Return "task" and, in training, "complete", "reconstruction", "adversarial", "discriminator"."""
        assert isinstance(output, NIATOutput)
        task, o = self.shape.task, output
        terms = {"task": task_loss(task, o.prediction, batch.target)}
        if o.complete is not None and o.target is not None and o.restored is not None and o.passed is not None:
            terms["complete"] = task_loss(task, o.complete, batch.target)
            terms["reconstruction"] = F.l1_loss(o.restored, o.target)
            terms["adversarial"] = F.softplus(-o.passed).mean()  # cross-entropy against "complete"
        if o.real is not None and o.fake is not None:
            terms["discriminator"] = F.softplus(-o.real).mean() + F.softplus(o.fake).mean()
        return terms, o.statistics

    def weights(self, progress: Progress) -> Mapping[str, float]:
        c = self.config
        out = {
            "task": c.beta / (1 + c.beta),
            "complete": 1 / (1 + c.beta),
            "reconstruction": c.generator_weight * (1 - c.alpha),
            "adversarial": c.generator_weight * c.alpha,
        }
        return out if c.frozen_discriminator else out | {"discriminator": c.discriminator_weight}

    def remember(self, memo: Memo) -> None:
        if self.norm is not None:
            for view in ("complete", "noisy"):
                if view in memo:
                    self.norm.remember(memo[view])


CLEAN = Config()
AUTHOR = replace(
    CLEAN,
    attention_dropout=0.5,
    future_mask=True,
    padded=True,
    frozen_discriminator=True,
    attached_targets=True,
    batch_norm=True,
)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
