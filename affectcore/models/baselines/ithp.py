"""ITHP, information-theoretic hierarchical perception: text through two bottlenecks guided by the rest [xiao2024neuro].

| symbol | name | shape |
|---|---|---|
| X_0 | steps of the prime modality, text or else the first | (B, T, D) |
| B_0, B_1 | `codes`, from X_0 and from B_0 | (B, T, 128), (B, T, 64) |
| X_1, X_2 | the other modalities, in order, foretold from B_0 and from B_1 | (B, T, D_m) |
| IB_k | KL(B_k) + beta_k |foretold - X_{k+1}|^2, beta_0 = beta = 8, beta_1 = gamma = 32 | |

    loss = task + 2 / (beta + gamma) (IB_0 + lambda IB_1)
    prediction = linear(drop(tanh(linear(first step of drop(norm(X_0 + expand(B_1)))))))

Losses: "task" (the squared error for a regression), "kl" (KL_0 + lambda KL_1) and "guide" (the errors, weighted by
beta and lambda gamma). The other modalities guide training alone; predictions do not read them. One bottleneck for each
of them: sizes and weights beyond those given repeat the last, lambda enters as its power. The published code knows
aligned steps alone; of a modality of another length, its mean over time is foretold.

Differences from the published code (joshuaxiao98/ITHP, commit c5414d5), each with its switch, on in `author`, off in
`clean`:
1. `padded`: what pads counts as steps; the first step is read (the text encoder's summary), clean takes the mean over
   observed steps, since precomputed features were not trained to summarise at their first.
2. `batch_scaled`: guides are brought to [0, 1] by the least and the largest value of the batch, and foretold through a
   sigmoid, part of which is dropped; clean foretells the features as they come by a linear map.
3. `sampled_evaluation`: codes are drawn in evaluation too, so that predictions are random.
4. `bert_start`: linear weights start at N(0, 0.02), biases at 0, as those of the text encoder it is built on.
On the same weights and draws (float32, 6 samples, one of them padded), `author` and the published code give the same
predictions and loss, gradients of the first layer differ by 2.1e-7 of the largest entry; both have 1,052,154 parameters
without the text encoder (DeBERTa), its pooler and classifier counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.losses import as_prediction, task_loss
from affectcore.nn.pooling import hide, masked_mean


@dataclass(frozen=True)
class Config:
    hidden: int = 256  # of encoders and guides; code 256
    sizes: tuple[int, ...] = (128, 64)  # of the codes; code 128, 64
    guides: tuple[float, ...] = (8.0, 32.0)  # beta, gamma; code 8, 32
    depth: float = 0.3  # lambda; code 0.3
    shift: float = 1.0  # factor on what the last code adds to the text; code 1
    code_dropout: float = 0.3  # of encoders and guides; code 0.3
    dropout: float = 0.5  # of the shifted text; code 0.5
    head_dropout: float = 0.1  # before the classifier; DeBERTa's 0.1
    padded: bool = False  # difference 1
    batch_scaled: bool = False  # difference 2
    sampled_evaluation: bool = False  # difference 3
    bert_start: bool = False  # difference 4


@dataclass(frozen=True)
class ITHPOutput(Output):
    """mu, logvar: laws of the codes (B, T, size), one each; foretold: (B, T, D_m), one for each guide."""

    mu: tuple[Tensor, ...]
    logvar: tuple[Tensor, ...]
    foretold: tuple[Tensor, ...]


class Stage(nn.Module):
    """One bottleneck: steps (B, T, D) to a code's law, and a code to what it foretells."""

    def __init__(self, features: int, hidden: int, size: int, guide: int) -> None:
        super().__init__()
        self.first, self.law = nn.Linear(features, hidden), nn.Linear(hidden, 2 * size)
        self.second, self.guide = nn.Linear(size, hidden), nn.Linear(hidden, guide)

    def encode(self, x: Tensor, noise: Noise, p: float) -> tuple[Tensor, Tensor]:
        mu, logvar = self.law(noise.dropout(F.relu(self.first(x)), p)).chunk(2, -1)
        return mu, logvar

    def foretell(self, z: Tensor, noise: Noise, p: float) -> Tensor:
        out: Tensor = self.guide(noise.dropout(F.relu(self.second(z)), p))
        return out


class ITHP(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        names = shape.modalities
        if len(names) < 2:
            raise ConfigError(f"ithp: needs a second modality to guide the first, got {', '.join(names)} alone")
        if not config.sizes or not config.guides:
            raise ConfigError(f"ithp: sizes {config.sizes} and guides {config.guides} need at least one value each")
        self.prime = "text" if "text" in names else names[0]
        self.others = tuple(m for m in names if m != self.prime)
        n, d = len(self.others), shape.dims[self.prime]
        sizes = [config.sizes[min(i, len(config.sizes) - 1)] for i in range(n)]
        self.guides = [config.guides[min(i, len(config.guides) - 1)] for i in range(n)]
        self.bottlenecks = nn.ModuleList(
            Stage(into, config.hidden, size, shape.dims[m]) for into, size, m in zip([d, *sizes], sizes, self.others)
        )
        self.expand, self.norm = nn.Linear(sizes[-1], d), nn.LayerNorm(d)
        self.pooler, self.head = nn.Linear(d, d), nn.Linear(d, shape.task.outputs)
        if config.bert_start:
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=0.02)
                    nn.init.zeros_(module.bias)

    def forward(self, batch: Batch, noise: Noise) -> ITHPOutput:
        config, mask = self.config, batch.observed[self.prime]
        x = batch.features[self.prime]
        x = z = x if config.padded else hide(x, mask)
        laws, foretold = [], []
        for stage in cast(list[Stage], self.bottlenecks):
            mu, logvar = stage.encode(z, noise, config.code_dropout)
            drawn = noise.training or config.sampled_evaluation
            z = mu + noise.normal(*mu.shape) * torch.exp(0.5 * logvar) if drawn else mu
            laws.append((mu, logvar))
            y = stage.foretell(z, noise, config.code_dropout)
            foretold.append(noise.dropout(torch.sigmoid(y), config.code_dropout) if config.batch_scaled else y)
        h = noise.dropout(self.norm(config.shift * self.expand(z) + x), config.dropout)
        h = torch.tanh(self.pooler(h[..., 0, :] if config.padded else masked_mean(h, mask)))
        outputs = self.head(noise.dropout(h, config.head_dropout))
        mus, logvars = zip(*laws)
        return ITHPOutput(as_prediction(self.shape.task, outputs), mus, logvars, tuple(foretold))

    def _guide(self, m: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return what is to be foretold of a modality (B, T, D_m), T the steps of the prime one, and where (B, T)."""
        x, mask, mine = batch.features[m], batch.observed[m], batch.observed[self.prime]
        if self.config.padded:
            mask, mine = torch.ones_like(mask), torch.ones_like(mine)
        x = hide(x, mask)
        if self.config.batch_scaled:
            x = (x - x.amin()) / (x.amax() - x.amin() + 1e-12)
        if x.shape[-2] == mine.shape[-1]:
            return x, mask & mine
        mean = masked_mean(x, mask).unsqueeze(-2).expand(*mine.shape, x.shape[-1])
        return mean, mine & mask.any(-1, keepdim=True)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        o, config, task = cast(ITHPOutput, output), self.config, self.shape.task
        squared = task.kind == "regression"
        error = (
            (o.prediction - batch.target).square().mean() if squared else task_loss(task, o.prediction, batch.target)
        )
        kl, guide = [], []
        mine = batch.observed[self.prime]
        mine = torch.ones_like(mine) if config.padded else mine
        for k, (mu, logvar, foretold, m) in enumerate(zip(o.mu, o.logvar, o.foretold, self.others)):
            kl.append(config.depth**k * _mean(-0.5 * (1 + logvar - mu.square() - logvar.exp()).mean(-1), mine))
            target, seen = self._guide(m, batch)
            guide.append(config.depth**k * self.guides[k] * _mean((foretold - target).square().mean(-1), seen))
        return {"task": error, "kl": torch.stack(kl).sum(), "guide": torch.stack(guide).sum()}, {}

    def weights(self, progress: Progress) -> Mapping[str, float]:
        share = 2 / sum(self.guides)
        return {"kl": share, "guide": share}


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x (B, T) over the True of mask, 0 where there is none."""
    return x.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)


CLEAN = Config()
AUTHOR = replace(CLEAN, padded=True, batch_scaled=True, sampled_evaluation=True, bert_start=True)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
