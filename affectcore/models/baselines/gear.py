"""GEAR, debiasing by inverse probability weighting: samples that biased features explain weigh little [sun2023gear].

| symbol | name | shape |
|---|---|---|
| c_m, b_m | robust and biased features of a modality, by two extractors | (B, d) each |
| z_m | `robust[m]` = ReLU(W_c [c_m, sg b_m]), what the fusion reads | (B, d) |
| f_m | `biased[m]`, a layer on ReLU(W_b [sg c_m, b_m]): prediction by the biased features | (B, C) |
| l, l_m | task loss of a sample's prediction, of f_m | (B,) each |
| psi(l) | tanh(l^-q) or 2 sigmoid(-l), without gradient: large where a sample is easy | (B,) |
| W | l_b / (l_b + l), without gradient, l_b the mean or the least of the l_m: small where bias suffices | (B,) |
| pi_m | `partner[m]`, a permutation of the batch for each modality, in training | (B,) |

sg: without gradient. Losses: "task", mean of W l; "bias", sum over m of mean psi(l_m) l_m, which lets the biased
features take what is learned easily; from `swap_start` on "swap", mean of W l' where the fusion reads z'_m with the
biased features of sample pi_m beside one's own robust ones, and "bias_swap", "bias" of f'_m with the same features and
the target of pi_m. The extractors: a text's steps reduced to one vector, others by an LSTM, then linear layers.

The fusion is a backbone: any model of the registry with one optimisation stage, which reads z_m as a modality of one
step, and whose other losses stay; "" is the published code's transformer over the modalities. Published for regression
(l is the absolute error); other tasks use their own loss of a sample. A missing modality has zero features, no f_m
and no part in l_b; a sample without any has l_b = 0, hence W = 0.

Differences from the published code (Teng-Sun/GEAR, commit cab45ac, its model IFL_ES), each with its switch, on in
`author`, off in `clean`:
1. `gaps`: the code knows lengths alone: missing steps are read as zeros, missing modalities are modalities.
2. `first_step`: the code takes text's first step, the sentence vector of BERT ([CLS]); with other features the first
   step is a word. Clean averages the observed steps.
3. `swap_in_weight`: once features are swapped, the code's l in W is l + swap_weight l'. Its second model (IFL_LS,
   which its `run.py` does not reach) keeps l.
Without a switch: the code fine-tunes two BERTs, one for each extractor of the text, here both read the batch's
features; three layers that it never reads are left out. Its parser's defaults have neither psi (no bias
loss) nor W; here tanh and the mean. q is 1 by its parser, as in `author`, and 0.7 in its configuration file, which
`run.py` does not load. The formulas are those of the code: the paper's text was not compared.

Beside the published modules on the same weights, with psi tanh and W mean, psi sigmoid and W min, no W, q 1 and 0.7,
before and after `swap_start`, eight samples of random features at the sizes of CMU-MOSI and CMU-MOSEI, drop-out off:
predictions differ by at most 2.2e-16 in float64 and 1.3e-7 in float32, summed losses of up to 95 by 1.4e-14 and 7.6e-6,
gradients of up to 12 by 8.9e-16 and 4.8e-7. Parameters without BERT: MOSI 371,972 (code: 372,071, 99 of them unread),
MOSEI 384,644 (384,743).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.baselines.misa import TransformerLayer
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.models.wrapper import Wrapper, WrapperConfig
from affectcore.nn.losses import as_prediction, sample_loss
from affectcore.nn.pooling import hide, masked_mean
from affectcore.nn.recurrent import LSTM


@dataclass(frozen=True)
class Config(WrapperConfig):
    backbone: str = ""  # the fusion: a model's name in the registry, or "" for the transformer of the published code
    pooled: tuple[str, ...] = ("text",)  # modalities reduced to one vector without an LSTM
    audio_hidden: int = 16  # state and vector of audio; code 16
    vision_hidden: int = 32  # state and vector of vision; code 32
    other_hidden: int = 32  # state and vector of a modality by another name
    width: int = 32  # d, of all features; code 32
    dropout: float = 0.3  # in the extractors; code, MOSI: 0.3, MOSEI: 0
    amplification: Literal["tanh", "sigmoid"] = "tanh"  # psi
    q: float = 0.7  # of psi "tanh", > 0; code 1 or 0.7, see above
    weighting: Literal["mean", "min", "none"] = "mean"  # l_b; none: W = 1
    bias_weight: float = 15.0  # of "bias", and of "bias_swap" times swap_weight; code 15
    swap_weight: float = 1.0  # of "swap", >= 0; code 1
    swap_start: int = 5  # 0-based epoch from which features are swapped; code 5
    layers: int = 2  # of the transformer; code 2
    heads: int = 4  # of the transformer, a divisor of width; code 4
    feedforward: int = 2048  # of the transformer; code 2048
    fused: int = 128  # units after the transformer; code 128
    fusion_dropout: float = 0.1  # of the transformer and after it; code 0.1
    gaps: bool = False  # difference 1
    first_step: bool = False  # difference 2
    swap_in_weight: bool = False  # difference 3


@dataclass(frozen=True)
class Swap:
    """The pass with swapped features: prediction, biased[m] of the pairs, partner[m] (B,), whose target they get."""

    prediction: Tensor
    biased: Mapping[str, Tensor]
    partner: Mapping[str, Tensor]


@dataclass(frozen=True)
class GEAROutput(Output):
    """inner: the backbone's output for `reduced`, the batch of robust features; present[m]: (B,) 1 where m counts."""

    inner: Output
    reduced: Batch
    robust: Mapping[str, Tensor]
    biased: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    swap: Swap | None


class Extractor(nn.Module):
    """A modality's features (B, T, D) to (B, d), not negative, zero if no step counts."""

    def __init__(self, features: int, hidden: int | None, config: Config) -> None:
        super().__init__()
        self.rnn = None if hidden is None else LSTM(features, hidden)
        self.project = None if hidden is None else nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden or features, config.width)
        self.config = config

    def forward(self, x: Tensor, mask: Tensor, noise: Noise) -> Tensor:
        c = self.config
        if self.rnn is not None and self.project is not None:
            h = self.project(noise.dropout(self.rnn(x, mask)[1], c.dropout))
        else:
            h = x[..., 0, :].masked_fill(~mask[..., :1], 0) if c.first_step else masked_mean(x, mask)
        out = F.relu(self.last(noise.dropout(h, c.dropout)))
        return out.masked_fill(~mask.any(-1, keepdim=True), 0)


class Branches(nn.Module):
    """What a modality has: two extractors, and layers that mix their features."""

    def __init__(self, features: int, hidden: int | None, config: Config, outputs: int) -> None:
        super().__init__()
        d = config.width
        self.robust, self.biased = Extractor(features, hidden, config), Extractor(features, hidden, config)
        self.mix_robust, self.mix_biased = nn.Linear(2 * d, d), nn.Linear(2 * d, d)
        self.head = nn.Linear(d, outputs)

    def mixed(self, c: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (B, d) and f (B, C) of robust and biased features."""
        z = F.relu(self.mix_robust(torch.cat([c, b.detach()], -1)))
        return z, self.head(F.relu(self.mix_biased(torch.cat([c.detach(), b], -1))))


class Fusion(AffectModel):
    """The published fusion: transformer layers over the modalities of a sample, all read by two linear layers."""

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        c, n = config, len(shape.modalities)
        self.layers = nn.ModuleList(
            TransformerLayer(c.width, c.heads, c.feedforward, c.fusion_dropout) for _ in range(c.layers)
        )
        self.first, self.last = nn.Linear(n * c.width, c.fused), nn.Linear(c.fused, shape.task.outputs)

    def forward(self, batch: Batch, noise: Noise) -> Output:
        seen = torch.cat([batch.observed[m] for m in self.shape.modalities], -1)  # (B, M)
        hidden = ~seen.unsqueeze(-1)
        h = torch.cat([batch.features[m] for m in self.shape.modalities], -2).masked_fill(hidden, 0)
        for layer in self.layers:
            h = layer(h, seen, noise)
        h = h.masked_fill(hidden, 0).flatten(-2)
        h = F.relu(noise.dropout(self.first(h), self.config.fusion_dropout))
        return Output(as_prediction(self.shape.task, self.last(h)), representation=h)


class GEAR(Wrapper):
    added: ClassVar[tuple[str, ...]] = ("bias", "swap", "bias_swap")

    def __init__(self, config: Config, shape: Shape) -> None:
        for name, value, legal in (
            ("amplification", config.amplification, ("tanh", "sigmoid")),
            ("weighting", config.weighting, ("mean", "min", "none")),
        ):
            if value not in legal:
                raise ConfigError(f"gear: {name} {value!r} must be one of {', '.join(legal)}")
        if config.q <= 0:
            raise ConfigError(f"gear: q = {config.q} must be > 0")
        super().__init__(config, shape)
        widths = {"audio": config.audio_hidden, "vision": config.vision_hidden}
        self.branches = nn.ModuleDict(
            {
                m: Branches(
                    d, None if m in config.pooled else widths.get(m, config.other_hidden), config, shape.task.outputs
                )
                for m, d in shape.dims.items()
            }
        )

    def built(self, shape: Shape) -> AffectModel:
        c = self.config
        reduced = Shape(dict.fromkeys(shape.dims, c.width), dict.fromkeys(shape.dims, 1), shape.task)
        return super().built(reduced) if c.backbone else Fusion(c, reduced)

    def check(self, backbone: AffectModel) -> None:
        super().check(backbone)
        if len(stages := backbone.stages()) > 1 or stages[0].parameters:
            raise ConfigError(f"gear: backbone {self.config.backbone!r} has several optimisation stages, one is needed")

    def forward(self, batch: Batch, noise: Noise) -> GEAROutput:
        pairs, present = {}, {}
        for m, branches in self._branches.items():
            x = batch.features[m]
            mask = batch.valid(m) if self.config.gaps else batch.observed[m]
            pairs[m] = (branches.robust(x, mask, noise), branches.biased(x, mask, noise))
            present[m] = mask.any(-1).to(x.dtype)  # always 1 where lengths alone are known
        robust, biased = self._mixed(pairs)
        reduced = self._reduced(batch, robust, present)
        inner: Output = self.backbone(reduced, noise)
        swap = self._swapped(batch, pairs, present, noise) if noise.training else None
        prediction, representation = inner.prediction, inner.representation
        return GEAROutput(prediction, inner, reduced, robust, biased, present, swap, representation=representation)

    @property
    def _branches(self) -> dict[str, Branches]:
        return {m: cast(Branches, self.branches[m]) for m in self.shape.modalities}

    def _mixed(self, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        both = {m: branches.mixed(*pairs[m]) for m, branches in self._branches.items()}
        return {m: z for m, (z, _) in both.items()}, {
            m: as_prediction(self.shape.task, f) for m, (_, f) in both.items()
        }

    def _swapped(
        self, batch: Batch, pairs: Mapping[str, tuple[Tensor, Tensor]], present: Mapping[str, Tensor], noise: Noise
    ) -> Swap:
        partner = {m: noise.uniform(len(batch)).argsort() for m in pairs}
        robust, biased = self._mixed({m: (c, b[partner[m]]) for m, (c, b) in pairs.items()})
        again: Output = self.backbone(self._reduced(batch, robust, present), noise)
        return Swap(again.prediction, biased, partner)

    def _reduced(self, batch: Batch, robust: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Batch:
        """Return the batch as the backbone reads it: robust features as modalities of one step."""
        seen = {m: present[m].unsqueeze(-1) > 0 for m in robust}
        return replace(
            batch,
            features={m: hide(z.unsqueeze(-2), seen[m]) for m, z in robust.items()},
            observed=seen,
            lengths={m: torch.ones_like(batch.lengths[m]) for m in robust},
            extras={},
        )

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        o, c, task = cast(GEAROutput, output), self.config, self.shape.task
        terms, memo = self.backbone.losses(o.inner, o.reduced, progress)
        loss = sample_loss(task, o.prediction, batch.target)
        alone = {m: sample_loss(task, f, batch.target) for m, f in o.biased.items()}
        own = {"bias": torch.stack([self.amplified(x, o.present[m]) for m, x in alone.items()]).sum()}
        weighed, hard = {c.term: loss}, loss
        if o.swap is not None:
            weighed["swap"] = sample_loss(task, o.swap.prediction, batch.target)
            if c.swap_in_weight:
                hard = loss + self.swap_now(progress) * weighed["swap"]
            pairs = [
                (sample_loss(task, o.swap.biased[m], batch.target[p]), o.present[m][p])
                for m, p in o.swap.partner.items()
            ]
            own["bias_swap"] = torch.stack([self.amplified(x, present) for x, present in pairs]).sum()
        w = self.sample_weight(alone, o.present, hard)
        own |= {k: (w * x).mean() for k, x in weighed.items()}
        return self.merged(terms, own), memo

    def amplified(self, loss: Tensor, present: Tensor) -> Tensor:
        """Return the mean of psi(l) l over the samples (B,) that have the modality."""
        still = loss.detach()
        psi = (
            torch.tanh((1 / still) ** self.config.q)
            if self.config.amplification == "tanh"
            else 2 * torch.sigmoid(-still)
        )
        return (psi * loss * present).sum() / present.sum().clamp(min=1)

    def sample_weight(self, alone: Mapping[str, Tensor], present: Mapping[str, Tensor], loss: Tensor) -> Tensor:
        """Return W (B,), without gradient."""
        if self.config.weighting == "none":
            return torch.ones_like(loss)
        each, seen = torch.stack([x.detach() for x in alone.values()]), torch.stack([present[m] for m in alone])
        if self.config.weighting == "mean":
            bias = (each * seen).sum(0) / seen.sum(0).clamp(min=1)
        else:
            least = each.masked_fill(seen == 0, torch.inf).amin(0)
            bias = torch.where(seen.sum(0) > 0, least, 0)
        return bias / (bias + loss.detach() + 1e-8)

    def swap_now(self, progress: Progress) -> float:
        """Return the weight of "swap" at this epoch."""
        return float(self.config.swap_weight) * (progress.epoch >= self.config.swap_start)

    def weights(self, progress: Progress) -> dict[str, float]:
        c, now = self.config, self.swap_now(progress)
        return {**super().weights(progress), "bias": c.bias_weight, "swap": now, "bias_swap": c.bias_weight * now}


CLEAN = Config()
AUTHOR = replace(CLEAN, q=1.0, gaps=True, first_step=True, swap_in_weight=True)
PRESETS: dict[str, Any] = {"clean": CLEAN, "author": AUTHOR}
