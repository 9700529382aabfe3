"""TFN, Tensor Fusion Network: the outer product of all modalities' vectors, each with a 1 appended [zadeh2017tensor].

The product holds every modality alone, every pair and the triple; three layers read it.

| symbol | name | shape |
|---|---|---|
| z^l, z^v, z^a | `vectors[m]` | (B, H_m) |
| [z; 1] | | (B, H_m + 1) |
| z^m = [z^l; 1] x [z^v; 1] x [z^a; 1] | `fused`, in the order of the modalities | (B, product of H_m + 1) |
| U_s | `post` | |

Any number of modalities as long as the product has at most 2,000,000 entries (ConfigError otherwise).
`Config.sequential` are read by an LSTM, all others as their mean over time. A missing modality is the zero vector: its
1 remains, so that the products of the others pass.

Differences from the published code (thuiar/MMSA, commit a94e65d), each with its switch, on in `author`, off in `clean`:
1. `padded_state`: the text LSTM runs over the padding and its state after the padding is used.
2. `padded_mean`: audio and vision are averaged over the padded length, zeros included.
3. `batch_norm`: pooled audio and vision are normalised by batch. Off in `clean`, since missing samples shift the
   statistics of the others; features are scaled by the data's transform instead.
4. `text_dropout` 0: the code passes the drop-out of text to a one-layer LSTM and sets it to 0 there.
On the same weights, `author` and the published code give equal outputs (float32, difference 0 on six samples of the
MOSI shape; the code orders the product audio, vision, text); it has 9,497,043 trained parameters.
In both presets, as in the code, a regression output is bounded by a sigmoid to the scale of the target (`bounded`).
"""

from dataclasses import dataclass, replace
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.baselines.encoders import EncoderConfig, Encoders, FusionOutput
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.losses import as_prediction

LARGEST = 2_000_000


@dataclass(frozen=True)
class Config(EncoderConfig):
    post_hidden: int = 64  # layers after the product; code, MOSI: 64
    post_dropout: float = 0.5  # of the product; code, MOSI: 0.5
    bounded: bool = True  # regression: sigmoid to the scale of the target


class TFN(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        self.encoders = Encoders(config, shape)
        size = prod(n + 1 for n in self.encoders.sizes)
        if size > LARGEST:
            factors = " x ".join(str(n + 1) for n in self.encoders.sizes)
            raise ConfigError(
                f"tfn: the product {factors} = {size} exceeds {LARGEST} entries; use smaller vectors or lmf"
            )
        h, c = config.post_hidden, shape.task.outputs
        self.post = nn.ModuleList([nn.Linear(size, h), nn.Linear(h, h), nn.Linear(h, c)])

    def forward(self, batch: Batch, noise: Noise) -> FusionOutput:
        vectors, statistics = self.encoders(batch, noise)
        first, *others = (F.pad(z, (1, 0), value=1.0) for z in vectors.values())  # each (B, H_m + 1)
        fused = first
        for z in others:
            fused = (fused.unsqueeze(-1) @ z.unsqueeze(-2)).flatten(-2)
        h = F.relu(self.post[0](noise.dropout(fused, self.config.post_dropout)))  # (B, post_hidden)
        h = F.relu(self.post[1](h))
        y = as_prediction(self.shape.task, self.post[2](h))
        if self.config.bounded and self.shape.task.kind == "regression":
            low, high = self.shape.task.low, self.shape.task.high
            y = torch.sigmoid(y) * (high - low) + low
        return FusionOutput(y, vectors, statistics, representation=h)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        terms, _ = super().losses(output, batch, progress)
        return terms, output.statistics if isinstance(output, FusionOutput) else {}

    def remember(self, memo: Memo) -> None:
        self.encoders.remember(memo)


CLEAN = Config()
AUTHOR = replace(CLEAN, text_dropout=0.0, padded_state=True, padded_mean=True, batch_norm=True)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
