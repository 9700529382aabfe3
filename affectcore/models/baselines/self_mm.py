"""Self-MM: late fusion and a task for every modality, whose labels it makes itself [yu2021learning].

| symbol | name | shape |
|---|---|---|
| F_m | vector of a modality: text's steps reduced to one, last state of an LSTM for others | (B, D_m) |
| F*_k | `features`, of the fused head and of each modality's, side by side | (B, sum of sizes) |
| y_k | outputs of the heads: `prediction` and `unimodal[m]` | (B, C) |
| y_m label | `unimodal_labels.UnimodalLabels` (its docstring has the formulas) | (rows, M) |

Any number of modalities, every task; labels are made for regression alone, classes give each head the sample's target
(`unimodal_labels`). In clean a missing modality is the zero vector, its head learns nothing from the sample, and its
label stays.

Differences from the published code (thuiar/MMSA, commit a94e65d), each with its switch, on in `author`, off in `clean`:
1. `gaps`: the code knows lengths alone: missing steps are read as zeros, missing modalities are modalities.
2. `first_step`: the code takes text's first step, the sentence vector of BERT ([CLS]); with other features the first
   step is a word. Clean averages the observed steps.
On the same weights, `author` and the published code differ by at most 1.2e-7 in the outputs and 9e-6 in the labels
after four epochs of three batches (float32; MOSI shape, aligned and unaligned), by 5e-16 and 4e-14 in float64; both
have 159,332 parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.models.baselines.unimodal_labels import Head, UnimodalLabels, unimodal_losses
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.losses import as_prediction
from affectcore.nn.pooling import masked_mean
from affectcore.nn.recurrent import LSTM


@dataclass(frozen=True)
class Config:
    pooled: tuple[str, ...] = ("text",)  # modalities reduced to one vector without an LSTM
    audio_hidden: int = 16  # state and vector of audio; code, MOSI: 16
    vision_hidden: int = 32  # state and vector of vision; code, MOSI: 32
    other_hidden: int = 32  # state and vector of a modality by another name
    fusion_features: int = 128  # of the fused head; code, MOSI: 128
    text_features: int = 32  # of text's head; code, MOSI: 32; other heads have as many as their vectors
    fusion_dropout: float = 0.0  # before the fused head; code, MOSI: 0
    text_dropout: float = 0.1  # before text's head; code, MOSI: 0.1
    audio_dropout: float = 0.1  # before audio's head; code, MOSI: 0.1
    vision_dropout: float = 0.0  # before vision's and others'; code, MOSI: 0
    rows: int = 24_000  # room for labels and features by `batch.index`; MOSEI has 22,856 segments
    first_epoch: int = 1  # 0-based epoch from which labels are made; code: 1
    gaps: bool = False  # difference 1
    first_step: bool = False  # difference 2


@dataclass(frozen=True)
class SelfMMOutput(Output):
    """unimodal[m]: (B, C) outputs of the heads; features: (B, sum of sizes); there[m]: (B,) 1 where m counts."""

    unimodal: Mapping[str, Tensor]
    features: Tensor
    there: Mapping[str, Tensor]


class Encoder(nn.Module):
    """LSTM over the steps, last state through a linear layer: (B, T, D) to (B, hidden)."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.rnn, self.project = LSTM(features, hidden), nn.Linear(hidden, hidden)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        out: Tensor = self.project(self.rnn(x, mask)[1])
        return out


class SelfMM(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        task = shape.task
        hidden = {"audio": config.audio_hidden, "vision": config.vision_hidden}
        drop = {"text": config.text_dropout, "audio": config.audio_dropout}
        self.encoders = nn.ModuleDict()
        self.heads = nn.ModuleList()
        width, sizes = 0, [config.fusion_features]
        for m, d in shape.dims.items():
            n = hidden.get(m, config.other_hidden)
            vector = d if m in config.pooled else n
            if m not in config.pooled:
                self.encoders[m] = Encoder(d, n)
            sizes.append(config.text_features if m in config.pooled else n)
            self.heads.append(Head(vector, sizes[-1], task.outputs, drop.get(m, config.vision_dropout)))
            width += vector
        self.fused = Head(width, config.fusion_features, task.outputs, config.fusion_dropout)
        regression = task.kind == "regression"
        self.labels = UnimodalLabels(task, sizes, config.rows, config.first_epoch) if regression else None

    def forward(self, batch: Batch, noise: Noise) -> SelfMMOutput:
        config, vectors, there = self.config, {}, {}
        for m in self.shape.modalities:
            x = batch.features[m]
            mask = batch.valid(m) if config.gaps else batch.observed[m]
            seen = mask.any(-1)  # always, where lengths alone are known
            if m in config.pooled:
                h = x[..., 0, :].masked_fill(~mask[..., :1], 0) if config.first_step else masked_mean(x, mask)
            else:
                h = self.encoders[m](x, mask).masked_fill(~seen.unsqueeze(-1), 0)
            vectors[m], there[m] = h, seen.to(x.dtype)
        features, outputs = zip(*[head(h, noise) for head, h in zip(self.heads, vectors.values())])
        fused, out = self.fused(torch.cat(list(vectors.values()), -1), noise)
        prediction = as_prediction(self.shape.task, out)
        return SelfMMOutput(prediction, dict(zip(vectors, outputs)), torch.cat([fused, *features], -1), there)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        assert isinstance(output, SelfMMOutput)
        terms, _ = super().losses(output, batch, progress)
        labels: Tensor | None = None
        memo: Memo = {}
        if self.labels is not None:
            labels = self.labels.labels(batch.index, batch.target)
            present = torch.stack([torch.ones_like(batch.target), *output.there.values()], -1)
            memo = self.labels.update(output.features.detach(), present, batch.index, batch.target, progress)
        there = output.there
        return terms | unimodal_losses(self.shape.task, output.unimodal, batch.target, labels, there), memo

    def remember(self, memo: Memo) -> None:
        if self.labels is not None:
            self.labels.remember(memo)


CLEAN = Config()
AUTHOR = replace(CLEAN, gaps=True, first_step=True)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
