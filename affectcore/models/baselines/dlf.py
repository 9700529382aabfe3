"""DLF, disentangled language focus: shared and specific steps, the others' specific serve text's [wang2025dlf].

| symbol | name | shape |
|---|---|---|
| X_m | convolved steps of a modality | (B, T_m, d) |
| S_m, C_m | `specific`[m], `shared`[m]: by a transformer of its own, by one that all modalities use | (B, T_m, d) |
| X'_m | `rebuilt`[m], linear map of S_m and C_m side by side | (B, T_m, d) |
| S'_m | `again`[m], S of X'_m | (B, T_m, d) |
| | `aligned`[m], linear map of all steps of C_m | (B, d) |
| H_m | last step of text's S_m, attending to S of m where m is not text, after a stack of its own | (B, d) |

Losses: "task" of the fused prediction, "task_shared", "task_language" and "task_others" (each part predicts on its
own), "reconstruction" (X' to X), "specific" (S' to S), "orthogonality" (cosine of S and C, where positive), "margin"
(aligned vectors of like targets are more alike, by 0.15 times the targets' difference). Weights of the code: 1, 1, 3,
1, 0.1, 0.1, 0.01, 0.01. Two or more modalities; without "text" the first one leads.

Differences from the published code (pwang322/DLF, commit 251bf2c), each with its switch, on in `author`, off in
`clean`:
1. `padded`: padding is attended to and counted, the last padded step is read.
2. `future_mask`: key j is hidden from query i where j - i > |S - T|.
3. `same_length`: the code's convolution drops the kernel's margin; clean pads.
4. attention drop-out, 0.3 to text and shared steps, 0.2 to audio; clean draws none, see MulT.
5. `zeros_unplaced`: a step whose first feature is exactly zero has no position. A sample of zeros alone stays zero then
   in every layer, and the gradients of so many norms at zero overflow.
6. `cosine_size`: the cosine is that of pieces of 10 features in the code's MOSEI runs (0: the whole vector, MOSI).
Parts that the code never reads, or computes and drops, have no place here: heads of each modality's shared steps,
projections for a cosine, four cross-modal stacks. On the same weights (float32, MOSI shape, 4 samples, one
padded) `author` and the published code differ by at most 1.1e-7 in the predictions, 3e-7 in a loss, and by 2.4e-7 of
the largest entry in the gradient of the text convolution. Parameters at the aligned MOSI shape, without BERT:
1,628,605, and 1,294,703 in what the code never reads.
The flattened steps fix the length: longer input is cut at the data's longest sequence, shorter input is padded.
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
    heads: int = 10  # code 10
    layers: int = 2  # of every stack but those after attention to others; code 2
    memory_layers: int = 3  # of those; code 3
    kernel: int = 5  # code: 5 (MOSI), 3 (MOSEI)
    text_dropout: float = 0.5  # of text features; code: 0.5, 0.1 (MOSEI)
    embed_dropout: float = 0.2  # code: 0.2, 0 (MOSEI)
    attention_dropout: float = 0.0  # difference 4
    attention_dropout_audio: float = 0.0  # difference 4
    attention_dropout_vision: float = 0.0  # code 0
    output_dropout: float = 0.5  # of the residual blocks before predictions; code 0.5
    margin: float = 0.15  # per difference of targets; code 0.15
    auxiliary_weight: float = 0.1  # of "reconstruction" and "specific", its square of the last two losses; code 0.1
    language_weight: float = 3.0  # code 3
    padded: bool = False  # difference 1
    future_mask: bool = False  # difference 2
    same_length: bool = True  # difference 3
    zeros_unplaced: bool = False  # difference 5
    cosine_size: int = 0  # difference 6


@dataclass(frozen=True)
class DLFOutput(Output):
    """See the module's table; masks: steps that count (B, T_m); heads: predictions by each part, the shared one first.

    The order of modalities is that of the data with the leading one first.
    """

    steps: tuple[Tensor, ...]
    specific: tuple[Tensor, ...]
    shared: tuple[Tensor, ...]
    rebuilt: tuple[Tensor, ...]
    again: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]
    aligned: Tensor
    heads: tuple[Tensor, ...]


class Residual(nn.Module):
    """x + second(drop(relu(first(x)))) and what is predicted from it."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(features, features), nn.Linear(features, features)
        self.head = nn.Linear(features, outputs)

    def forward(self, x: Tensor, noise: Noise, p: float) -> tuple[Tensor, Tensor]:
        x = x + self.second(noise.dropout(F.relu(self.first(x)), p))
        return x, self.head(x)


class DLF(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        names, d, c, k = shape.modalities, config.width, shape.task.outputs, config.kernel
        if len(names) < 2:
            raise ConfigError(f"dlf: needs a second modality beside the leading one, got {', '.join(names)} alone")
        if config.same_length and k % 2 == 0:
            raise ConfigError(f"dlf: kernel {k} must be odd to keep the length of a sequence")
        if config.cosine_size and d % config.cosine_size:
            raise ConfigError(f"dlf: cosine_size {config.cosine_size} must divide width {d}")
        lead = "text" if "text" in names else names[0]
        self.modalities = (lead, *(m for m in names if m != lead))
        self.lengths = [shape.steps[m] - (0 if config.same_length else k - 1) for m in self.modalities]
        if min(self.lengths) < 1:
            short = min(shape.steps.values())
            raise ConfigError(f"dlf: a sequence has {short} steps, fewer than the kernel {k}; set same_length")
        rates = {"audio": config.attention_dropout_audio, "vision": config.attention_dropout_vision}
        p = [rates.get(m, config.attention_dropout) for m in self.modalities]

        def stack(attention: float, layers: int) -> Transformer:
            skip = config.zeros_unplaced
            return Transformer(d, config.heads, layers, Rates(attention), config.embed_dropout, skip_zeros=skip)

        margin = k // 2 if config.same_length else 0
        self.project = nn.ModuleList(
            nn.Conv1d(shape.dims[m], d, k, padding=margin, bias=False) for m in self.modalities
        )
        self.own = nn.ModuleList(stack(q, config.layers) for q in p)
        self.common = stack(config.attention_dropout, config.layers)
        self.rebuild = nn.ModuleList(nn.Linear(2 * d, d, bias=False) for _ in p)
        self.align = nn.ModuleList(nn.Linear(t * d, d) for t in self.lengths)
        self.read = nn.ModuleList(stack(q, config.layers) for q in p)  # of the shared steps
        self.cross = nn.ModuleList(stack(q, config.layers) for q in p[1:])  # the leading steps attend to the others'
        after = [config.layers, *(config.memory_layers for _ in p[1:])]
        self.memory = nn.ModuleList(stack(config.attention_dropout, n) for n in after)
        n = len(p)
        self.alone = nn.ModuleList(Residual(d, c) for _ in p)
        self.together = Residual(n * d, c)
        self.gates = nn.ModuleList([*(nn.Linear(d, d) for _ in p), nn.Linear(n * d, n * d)])
        self.last = Residual(2 * n * d, c)

    def _project(self, i: int, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return the convolved steps (B, T, d), zero where hidden, and which count (B, T)."""
        config, m = self.config, self.modalities[i]
        x, mask, t = batch.features[m], batch.observed[m], self.shape.steps[m]
        mask = F.pad(mask[..., :t], (0, max(0, t - mask.shape[-1])))
        mask = torch.ones_like(mask) if config.padded else mask
        x = hide(F.pad(x[..., :t, :], (0, 0, 0, max(0, t - x.shape[-2]))), mask)
        x = noise.dropout(x, config.text_dropout) if m == "text" else x
        x = self.project[i](x.transpose(-1, -2)).transpose(-1, -2)
        mask = mask[..., : x.shape[-2]]
        return hide(x, mask), mask

    def forward(self, batch: Batch, noise: Noise) -> DLFOutput:
        config = self.config
        x, masks = zip(*(self._project(i, batch, noise) for i in range(len(self.modalities))))
        keys = [None if config.padded else mask for mask in masks]
        self_hidden = [self._future(v, v) for v in x]

        def run(net: nn.Module, v: Tensor, i: int) -> Tensor:
            return hide(net(v, keys[i], noise, None, self_hidden[i]), masks[i])

        parts = range(len(x))
        s = [run(self.own[i], x[i], i) for i in parts]
        c = [run(self.common, x[i], i) for i in parts]
        rebuilt = [hide(self.rebuild[i](torch.cat([s[i], c[i]], -1)), masks[i]) for i in parts]
        again = [run(self.own[i], rebuilt[i], i) for i in parts]
        aligned = torch.stack([self.align[i](c[i].flatten(-2)) for i in parts])  # (M, B, d)
        ends = [last_observed(mask) for mask in masks]
        both = torch.cat([step_at(run(self.read[i], c[i], i), ends[i]) for i in parts], -1)  # (B, M d)
        h = [s[0]]
        for i, net in enumerate(self.cross, 1):  # the leading steps attend to those of another modality
            h.append(hide(net(s[0], keys[i], noise, s[i], self._future(s[0], s[i])), masks[0]))
        last = [step_at(run(net, v, 0), ends[0]) for net, v in zip(self.memory, h)]
        p = config.output_dropout
        alone = [block(v, noise, p) for block, v in zip(self.alone, last)]
        _, y_shared = self.together(both, noise, p)
        gated = [torch.sigmoid(g(v)) for g, v in zip(self.gates, [*(v for v, _ in alone), both])]
        _, y = self.last(torch.cat(gated, -1), noise, p)
        y, *heads = (as_prediction(self.shape.task, v) for v in (y, y_shared, *(v for _, v in alone)))
        return DLFOutput(
            y, tuple(x), tuple(s), tuple(c), tuple(rebuilt), tuple(again), tuple(masks), aligned, tuple(heads)
        )

    def _future(self, x: Tensor, memory: Tensor) -> Tensor | None:
        """(T, S) bool, True where key j comes more than |S - T| steps after query i; None if the mask is off."""
        if not self.config.future_mask:
            return None
        t, s = x.shape[-2], memory.shape[-2]
        return torch.ones(t, s, dtype=torch.bool, device=x.device).triu(1 + abs(s - t))

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        o, task, config = cast(DLFOutput, output), self.shape.task, self.config
        shared, lead, *others = (task_loss(task, y, batch.target) for y in o.heads)
        size = config.cosine_size or config.width
        rebuilt, specific, apart = [], [], []
        for x, s, c, r, again, mask in zip(o.steps, o.specific, o.shared, o.rebuilt, o.again, o.masks):
            rebuilt.append(_mean((r - x).square().mean(-1), mask))
            specific.append(_mean((again - s).square().mean(-1), mask))
            cos = cosine(*(v.unflatten(-1, (-1, size)) for v in (s, c)))  # (B, T, pieces)
            apart.append(_mean(cos.clamp(min=0).mean(-1), mask))
        return {
            "task": task_loss(task, o.prediction, batch.target),
            "task_shared": shared,
            "task_language": lead,
            "task_others": torch.stack(others).sum(),
            "reconstruction": torch.stack(rebuilt).sum(),
            "specific": torch.stack(specific).sum(),
            "orthogonality": torch.stack(apart).sum(),
            "margin": self.margin(o.aligned, batch.target),
        }, {}

    def margin(self, aligned: Tensor, target: Tensor) -> Tensor:
        """Return the triplet loss of all vectors (M, B, d): mean over anchors of the mean over (like, other) pairs."""
        x, y = aligned.flatten(0, 1), target.repeat(len(aligned), *(1 for _ in target.shape[1:]))
        gap = (y.unsqueeze(0) - y.unsqueeze(1)).abs()
        gap = gap.mean(-1) if gap.ndim == 3 else (gap > 0) if self.shape.task.kind == "single_label" else gap
        same, apart = gap == 0, gap.to(x.dtype)
        cos = cosine(x.unsqueeze(0), x.unsqueeze(1))  # (n, n)
        like = same & ~torch.eye(len(x), dtype=torch.bool, device=x.device)
        pairs = (like.unsqueeze(2) & ~same.unsqueeze(1)).to(x.dtype)  # (anchor, like, other)
        loss = ((self.config.margin * apart + cos).unsqueeze(1) - cos.unsqueeze(2)).clamp(min=0) * pairs
        count = pairs.sum((1, 2))
        return (loss.sum((1, 2)) / count.clamp(min=1)).sum() / (count > 0).sum().clamp(min=1)

    def weights(self, progress: Progress) -> Mapping[str, float]:
        w = self.config.auxiliary_weight
        auxiliary = {"reconstruction": w, "specific": w, "orthogonality": w * w, "margin": w * w}
        return {"task_language": self.config.language_weight} | auxiliary


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Return the cosine of vectors (..., d), 0 for a zero vector: (...)."""
    sizes = [(v.square().sum(-1) + 1e-8).sqrt() for v in (x, y)]
    return (x * y).sum(-1) / (sizes[0] * sizes[1])


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x (B, T) over the True of mask, 0 where there is none."""
    return x.masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)


CLEAN = Config()
AUTHOR = replace(
    CLEAN,
    padded=True,
    future_mask=True,
    same_length=False,
    attention_dropout=0.3,
    attention_dropout_audio=0.2,
    zeros_unplaced=True,
)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
