"""TETFN: MulT whose audio and vision meet by way of the text, with Self-MM's labels [wang2023tetfn].

| symbol | name | shape |
|---|---|---|
| X^_m | `steps[m]`: convolution of text; LSTM, then convolution of others | (B, T_m, d) |
| Z_{b->a} | `cross`, steps of a that attended to b, where a or b is text | (B, T_a, d) |
| | `enhanced`, steps of a that attended to steps of b that attended to text | (B, T_a, d) |
| Z_a | `memory[a]` over the concatenation of all Z_{b->a} | (B, T_a, (M - 1) d) |
| | one step of every Z_a, joined, through the fused head | (B, M (M - 1) d) |
| y_m | `unimodal[m]`, a head on the largest of the steps of X^_m | (B, C) |

Needs a modality named text and one or more others (ConfigError otherwise), every task; the labels of the heads are made
for regression alone, classes give each head the sample's target (`unimodal_labels`). In clean a missing modality is
hidden from the others, its part of the fused vector is zero, its head learns nothing from the sample.

Differences from the published code (thuiar/MMSA, commit a94e65d), each with its switch, on in `author`, off in `clean`:
1. `padded`: LSTMs run over the padding, the padding is attended to and taken into the largest step, and the last padded
   step is read; clean sees observed steps alone and reads the last of them.
2. `positions`: the code adds sinusoidal positions in `enhanced` alone, not to a step whose first feature is exactly
   zero; clean adds them in every stack.
3. `future_mask`: the code hides key j from query i where j - i > |S - T|; in clean every step sees every observed step.
4. `attention_dropout`: clean draws none (see MulT).
Without a switch: keys and values share one drop-out mask. The code's kernel of vision's convolution (3) is read by
nobody: audio's is used for both.
On the same weights, `author` and the published code differ by at most 4e-7 in the outputs, 4e-6 in the labels after
four epochs of three batches and 4e-6 of the largest entry in the gradient of text's convolution (float32; MOSI shape,
aligned and unaligned; the code's softmax is float32 always); both have 1,254,224 parameters.
What saves time and changes no value: as in MulT, the norm's affine map is folded into the projections of all layers
that read a memory, and the last memory layer is evaluated at the one step that is read.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.baselines.unimodal_labels import Head, UnimodalLabels, unimodal_losses
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.attention import sinusoids
from affectcore.nn.crossmodal import PreNormStack, Rates, future, normalise
from affectcore.nn.losses import as_prediction
from affectcore.nn.pooling import hide, last_observed
from affectcore.nn.recurrent import LSTM


@dataclass(frozen=True)
class Config:
    width: int = 50  # d; code, MOSI: 50
    heads: int = 5  # code, MOSI: 5
    layers: int = 2  # of each stack; code: 2, and 1 for the part of `enhanced` that reads text
    audio_hidden: int = 16  # state of audio's LSTM; code, MOSI: 16
    vision_hidden: int = 64  # state of vision's LSTM; code, MOSI: 64
    other_hidden: int = 32  # state of a modality by another name
    attention_dropout: float = 0.0  # of attention to text, in `enhanced` and `memory`; code, MOSI: 0.1
    attention_dropout_audio: float = 0.0  # of the text's attention to audio; code, MOSI: 0
    attention_dropout_vision: float = 0.0  # of the text's attention to vision and others; code, MOSI: 0.1
    residual_dropout: float = 0.1  # of what a layer adds; code, MOSI: 0.1
    fusion_features: int = 64  # of the fused head; code, MOSI: 64
    text_features: int = 32  # of text's head; code, MOSI: 32
    audio_features: int = 32  # of audio's head; code, MOSI: 32
    vision_features: int = 16  # of vision's and others' heads; code, MOSI: 16
    rows: int = 24_000  # room for labels and features by `batch.index`; MOSEI has 22,856 segments
    first_epoch: int = 1  # 0-based epoch from which labels are made; code: 1
    padded: bool = False  # difference 1
    positions: bool = True  # difference 2: in every stack
    future_mask: bool = False  # difference 3


@dataclass(frozen=True)
class TETFNOutput(Output):
    """unimodal[m]: (B, C) outputs of the heads; features: (B, sum of sizes); there[m]: (B,) 1 where m counts."""

    unimodal: Mapping[str, Tensor]
    features: Tensor
    there: Mapping[str, Tensor]


@dataclass(frozen=True)
class Steps:
    """A sequence (B, T, D) as a stack reads it, and which steps count: (B, T) bool, None for all."""

    x: Tensor
    mask: Tensor | None


class Stack(PreNormStack):
    """MulT's layers with drop-out of what they add: queries (B, T, d) attend to a memory, or to themselves."""

    def cross(self, query: Tensor, memory: Steps, p: float, config: Config, noise: Noise) -> Tensor:
        """Return the queries after all layers, (B, T, d)."""
        hidden = future(query, memory.x) if config.future_mask else None
        return self(query, normalise(memory.x), memory.mask, hidden, noise, Rates(p, 0.0, config.residual_dropout))

    def last(self, steps: Steps, position: Tensor, p: float, config: Config, noise: Noise) -> Tensor:
        """Return the step at `position` (B,) after all layers of attention among the steps themselves, (B, d)."""
        x, hidden = steps.x, future(steps.x, steps.x) if config.future_mask else None
        rates = Rates(p, 0.0, config.residual_dropout)
        out: Tensor = self(x, None, steps.mask, hidden, noise, rates, position).squeeze(-2)
        return out


class TETFN(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        task, d = shape.task, config.width
        self.others = [m for m in shape.modalities if m != "text"]
        if "text" not in shape.modalities or not self.others:
            names = ", ".join(shape.modalities)
            raise ConfigError(f"tetfn: needs a modality named text and others that it enhances, got {names}")
        hidden = {"audio": config.audio_hidden, "vision": config.vision_hidden}
        self.recurrent = nn.ModuleDict(
            {m: LSTM(shape.dims[m], hidden.get(m, config.other_hidden)) for m in self.others}
        )
        self.project = nn.ModuleDict({"text": nn.Linear(shape.dims["text"], d, bias=False)})  # kernels of one step
        for m in self.others:
            self.project[m] = nn.Linear(hidden.get(m, config.other_hidden), d, bias=False)
        layers, heads = config.layers, config.heads
        self.to_text = nn.ModuleDict({m: Stack(d, heads, layers) for m in self.others})  # text attends to m
        self.from_text = nn.ModuleDict({m: Stack(d, heads, layers) for m in self.others})  # m attends to text
        self.pairs = [(a, b) for a in self.others for b in self.others if a != b]  # a attends to b by way of text
        self.lower = nn.ModuleList([Stack(d, heads, 1) for _ in self.pairs])
        self.upper = nn.ModuleList([Stack(d, heads, layers) for _ in self.pairs])
        wide = len(self.others) * d
        self.memory = nn.ModuleDict({m: Stack(wide, heads, layers) for m in shape.modalities})
        features = {"text": config.text_features, "audio": config.audio_features}
        sizes = [features.get(m, config.vision_features) for m in shape.modalities]
        self.heads = nn.ModuleDict({m: Head(d, n, task.outputs, 0.0) for m, n in zip(shape.modalities, sizes)})
        self.fused = Head(len(shape.modalities) * wide, config.fusion_features, task.outputs, 0.0)
        self.labels = None
        if task.kind == "regression":
            self.labels = UnimodalLabels(task, [config.fusion_features, *sizes], config.rows, config.first_epoch)

    def _steps(self, m: str, batch: Batch) -> Steps:
        """Return the steps of a modality as (B, T, d), zero where hidden."""
        mask = None if self.config.padded else batch.observed[m]
        x = batch.features[m] if mask is None else hide(batch.features[m], mask)
        if m != "text":
            x, _ = self.recurrent[m](x, mask)
        x = self.project[m](x)
        return Steps(x if mask is None else hide(x, mask), mask)

    def _place(self, x: Tensor, enhanced: bool = False) -> Tensor:
        """Return the input of a stack: scaled by the root of its features, positions added."""
        scaled = x * math.sqrt(x.shape[-1])
        if self.config.positions:
            return scaled + sinusoids(x.shape[-2], x.shape[-1], x)
        if enhanced:
            return scaled + sinusoids(x.shape[-2], x.shape[-1], x) * (x[..., :1] != 0).to(x.dtype)
        return scaled

    def forward(self, batch: Batch, noise: Noise) -> TETFNOutput:
        config = self.config
        rates = {"audio": config.attention_dropout_audio}
        raw = {m: self._steps(m, batch) for m in self.shape.modalities}
        placed = {m: Steps(self._place(s.x), s.mask) for m, s in raw.items()}
        aware = {m: Steps(self._place(s.x, enhanced=True), s.mask) for m, s in raw.items()}
        p = config.attention_dropout
        z: dict[str, list[Tensor]] = {m: [] for m in raw}  # (B, T_m, d) each
        for m in self.others:
            p_text = rates.get(m, config.attention_dropout_vision)
            z["text"].append(self._stack(self.to_text[m]).cross(placed["text"].x, placed[m], p_text, config, noise))
            z[m].append(self._stack(self.from_text[m]).cross(placed[m].x, placed["text"], p, config, noise))
        for (a, b), lower, upper in zip(self.pairs, self.lower, self.upper):
            c = self._stack(lower).cross(aware[b].x, aware["text"], p, config, noise)  # (B, T_b, d)
            memory = Steps(self._place(c, enhanced=True), aware[b].mask)
            z[a].append(self._stack(upper).cross(aware[a].x, memory, p, config, noise))
        last, features, outputs, there = [], [], {}, {}
        for m, (x, mask) in ((m, (s.x, s.mask)) for m, s in raw.items()):
            end = torch.full_like(batch.lengths[m], x.shape[-2] - 1) if mask is None else last_observed(mask)
            steps = Steps(self._place(torch.cat(z[m], -1)), mask)
            h, top = self._stack(self.memory[m]).last(steps, end, p, config, noise), x.amax(-2)
            seen = torch.ones_like(end, dtype=torch.bool) if mask is None else mask.any(-1)
            if mask is not None:
                top = x.masked_fill(~mask.unsqueeze(-1), -math.inf).amax(-2).masked_fill(~seen.unsqueeze(-1), 0)
                h = h.masked_fill(~seen.unsqueeze(-1), 0)
            last.append(h)
            f, outputs[m] = self.heads[m](top, noise)
            features.append(f)
            there[m] = seen.to(x.dtype)
        fused, out = self.fused(torch.cat(last, -1), noise)
        prediction = as_prediction(self.shape.task, out)
        return TETFNOutput(prediction, outputs, torch.cat([fused, *features], -1), there)

    @staticmethod
    def _stack(module: nn.Module) -> Stack:
        return cast(Stack, module)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        assert isinstance(output, TETFNOutput)
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
AUTHOR = replace(
    CLEAN,
    attention_dropout=0.1,
    attention_dropout_vision=0.1,
    padded=True,
    positions=False,
    future_mask=True,
)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
