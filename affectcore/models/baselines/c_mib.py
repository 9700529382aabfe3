"""C-MIB, complete multimodal information bottleneck: each vector passes a noisy code that is kept small [mai2022mib].

| symbol | name | shape |
|---|---|---|
| x_m | `vectors[m]`, last step of the modality's encoded steps | (B, d) |
| mu_m, sigma_m | `mu[i]`, `sigma[i]`; the last i is the fused vector's | (B, d) |
| z_m = mu_m + sigma_m eps | | (B, d) |
| | `fuse`, ReLU of a linear map of all z_m side by side, through a bottleneck of its own | (B, d) |

Losses: "task" of the fused code's prediction, "unimodal" (sum over modalities, each code predicting on its own), "kl"
(sum over all codes of KL(N(mu, sigma^2) || N(0, 1)), mean over features). Any number of modalities; "text" by a
convolution, the others by a convolution and a transformer. A missing modality is the zero vector before its bottleneck.

Differences from the published code (TmacMai/Multimodal-Information-Bottleneck, commit f6d006b), each with its switch,
on in `author`, off in `clean`:
1. `padded`: padding is convolved and attended to, the last padded step is read; frames whose first convolved feature is
   exactly zero have no position.
2. `sampled_evaluation`: codes are drawn in evaluation too, so that predictions are random.
3. `bert_start`: linear weights start at N(0, 0.02), biases at 0, as those of the text encoder it is built on.
4. `attention_dropout` 0.5: clean draws none, since its numbers cost more time than the attention.
`task_weight` is 2 in both: the code adds the fused prediction's loss once by itself and once with its bottleneck.
On the same weights and draws (float32, 6 samples, two of them padded), `author` and the published code differ by at
most 1.1e-6 in the vectors, 2e-8 in the predictions, not at all in the loss and by 5e-7 of the largest entry in the
gradient of the audio convolution; both have 944,100 parameters without the text encoder (BERT).
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
from affectcore.nn.crossmodal import Rates
from affectcore.nn.losses import as_prediction, task_loss
from affectcore.nn.pooling import hide, last_observed, step_at
from affectcore.nn.prenorm import Transformer


@dataclass(frozen=True)
class Config:
    width: int = 50  # d; code 50
    hidden: int = 1024  # of every bottleneck; code 1024
    kernel: int = 3  # odd; code 3
    layers: int = 3  # of the transformers; code 3
    heads: int = 5  # code 5
    attention_dropout: float = 0.0  # difference 4
    relu_dropout: float = 0.3  # code 0.3
    residual_dropout: float = 0.3  # code 0.3
    embed_dropout: float = 0.2  # code 0.2
    beta: float = 1e-3  # weight of "kl"; code 1e-3
    task_weight: float = 2.0  # code: 2, see above
    padded: bool = False  # difference 1
    sampled_evaluation: bool = False  # difference 2
    bert_start: bool = False  # difference 3


@dataclass(frozen=True)
class CMIBOutput(Output):
    """vectors: (M, B, d); mu, sigma: (M + 1, B, d), the fused code last; unimodal: predictions (M, B[, C])."""

    vectors: Tensor
    mu: Tensor
    sigma: Tensor
    unimodal: Tensor


class Bottleneck(nn.Module):
    """A vector (B, d) to a code's mean and deviation (B, d), and a code to a prediction (B, C)."""

    def __init__(self, width: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, hidden)
        self.mu, self.sigma = nn.Linear(hidden, width), nn.Linear(hidden, width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.first(x))
        return self.mu(h), F.softplus(self.sigma(h) - 5)


class CMIB(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        d, k = config.width, config.kernel
        if k % 2 == 0:
            raise ConfigError(f"c_mib: kernel {k} must be odd to keep the length of a sequence")
        rates, padded = Rates(config.attention_dropout, config.relu_dropout, config.residual_dropout), config.padded
        self.project = nn.ModuleList(nn.Conv1d(n, d, k, padding=k // 2, bias=False) for n in shape.dims.values())
        self.transformers = nn.ModuleDict(
            {
                m: Transformer(d, config.heads, config.layers, rates, config.embed_dropout, skip_zeros=padded)
                for m in shape.modalities
                if m != "text"
            }
        )
        n = len(shape.modalities)
        self.bottlenecks = nn.ModuleList(Bottleneck(d, config.hidden, shape.task.outputs) for _ in range(n + 1))
        self.fuse = nn.Linear(n * d, d)
        if config.bert_start:
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=0.02)
                    nn.init.zeros_(module.bias)

    def vector(self, i: int, m: str, batch: Batch, noise: Noise) -> Tensor:
        """Return the last step (B, d) of a modality, zero if nothing of it was observed."""
        x, mask = batch.features[m], None if self.config.padded else batch.observed[m]
        x = self.project[i]((x if mask is None else hide(x, mask)).transpose(-1, -2)).transpose(-1, -2)
        if m != "text":
            x = self.transformers[m](x if mask is None else hide(x, mask), mask, noise)
        if mask is None:
            return x[..., -1, :]
        return step_at(x, last_observed(mask)) * mask.any(-1, keepdim=True).to(x.dtype)

    def forward(self, batch: Batch, noise: Noise) -> CMIBOutput:
        vectors = [self.vector(i, m, batch, noise) for i, m in enumerate(self.shape.modalities)]
        *each, fused = cast(list[Bottleneck], self.bottlenecks)
        laws = [b(x) for b, x in zip(each, vectors)]
        codes = [self._drawn(mu, sigma, noise) for mu, sigma in laws]
        laws.append(fused(F.relu(self.fuse(torch.cat(codes, -1)))))
        codes.append(self._drawn(laws[-1][0], laws[-1][1], noise))
        y = torch.stack([as_prediction(self.shape.task, b.head(z)) for b, z in zip([*each, fused], codes)])
        mu, sigma = (torch.stack(v) for v in zip(*laws))
        return CMIBOutput(y[-1], torch.stack(vectors), mu, sigma, y[:-1])

    def _drawn(self, mu: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        if not noise.training and not self.config.sampled_evaluation:
            return mu
        return mu + sigma * noise.normal(*mu.shape)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        o, task = cast(CMIBOutput, output), self.shape.task
        unimodal = torch.stack([task_loss(task, y, batch.target) for y in o.unimodal.unbind()]).sum()
        kl = 0.5 * (o.mu.square() + o.sigma.square() - 2 * o.sigma.log() - 1).mean((-2, -1)).sum()
        return {"task": task_loss(task, o.prediction, batch.target), "unimodal": unimodal, "kl": kl}, {}

    def weights(self, progress: Progress) -> Mapping[str, float]:
        return {"task": self.config.task_weight, "kl": self.config.beta}


CLEAN = Config()
AUTHOR = replace(CLEAN, padded=True, sampled_evaluation=True, bert_start=True, attention_dropout=0.5)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
