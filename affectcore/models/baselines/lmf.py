"""LMF, Low-rank Multimodal Fusion: TFN's product read by a weight tensor of low rank, never formed [liu2018efficient].

A weight tensor of rank r is a sum of r outer products of one factor per modality; applied to the outer product of the
vectors it is the sum over r of the products of each vector's image: W (z^1 x ... x z^M) = sum_i prod_m w_m^i z^m.

| symbol | name | shape |
|---|---|---|
| z_m | `vectors[m]` | (B, H_m) |
| r | `Config.rank` | |
| w_m^(i) | `factors[m]` | (r, H_m + 1, C) |

Any number of modalities. `Config.sequential` are read by an LSTM, all others as their mean over time. A missing
modality is the zero vector: its 1 remains, so that the products of the others pass.

Differences from the paper: the r terms are summed with learned weights (`rank_weights`), as in the published code.
Differences from the published code (thuiar/MMSA, commit a94e65d), each with its switch, on in `author`, off in `clean`:
1. `padded_state`: the text LSTM runs over the padding and its state after the padding is used.
2. `padded_mean`: audio and vision are averaged over the padded length, zeros included.
3. `batch_norm`: pooled audio and vision are normalised by batch. Off in `clean`, since missing samples shift the
   statistics of the others; features are scaled by the data's transform instead.
4. `text_dropout` 0: the code passes the drop-out of text to a one-layer LSTM and sets it to 0 there.
On the same weights, `author` and the published code differ by at most 2e-9 (float32, MOSI shape); both have 505,071
parameters. The code declares a drop-out after fusion that it never applies; it has no place here.
"""

from dataclasses import dataclass, replace
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.models.baselines.encoders import EncoderConfig, Encoders, FusionOutput
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.losses import as_prediction


@dataclass(frozen=True)
class Config(EncoderConfig):
    text_out: int = 64  # code, MOSI: 64, half of the LSTM's state
    audio_hidden: int = 16  # code, MOSI: 16
    rank: int = 3  # code, MOSI: 3
    rank_weights: bool = True  # learned weights of the r terms (code); a plain sum otherwise (paper)


class LMF(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.encoders = Encoders(config, shape)
        r, c = config.rank, shape.task.outputs
        self.factors = nn.ParameterList([torch.empty(r, n + 1, c) for n in self.encoders.sizes])
        self.mix = nn.Parameter(torch.empty(1, r)) if config.rank_weights else None
        self.bias = nn.Parameter(torch.zeros(c))
        for p in [*self.factors, *([] if self.mix is None else [self.mix])]:
            nn.init.xavier_normal_(p)

    def forward(self, batch: Batch, noise: Noise) -> FusionOutput:
        vectors, statistics = self.encoders(batch, noise)
        images = [F.pad(z, (1, 0), value=1.0) @ w for z, w in zip(vectors.values(), self.factors)]  # each (r, B, C)
        product = reduce(torch.mul, images)
        mixed = product.sum(0) if self.mix is None else torch.einsum("r,rbc->bc", self.mix[0], product)
        y = as_prediction(self.shape.task, mixed + self.bias)
        return FusionOutput(y, vectors, statistics, representation=torch.cat([*vectors.values()], -1))

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        terms, _ = super().losses(output, batch, progress)
        return terms, output.statistics if isinstance(output, FusionOutput) else {}

    def remember(self, memo: Memo) -> None:
        self.encoders.remember(memo)


CLEAN = Config()
AUTHOR = replace(CLEAN, text_dropout=0.0, padded_state=True, padded_mean=True, batch_norm=True)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
