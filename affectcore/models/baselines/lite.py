"""TFN, MulT, MISA, MMIM and TETFN as the Affect-Diff paper ran them, at a fraction of their size [affectdiff].

| model | structure |
|---|---|
| lite_tfn | mean over time; a layer of 16 per modality; outer product of the vectors, each with a 1; 128, 64, C |
| lite_mult | every modality attends to every other, one layer; joined step by step, 128; mean over time; 64, C |
| lite_misa | a layer of 128, mean over time; tanh codes of 64, "shared" and private, of each modality; joined, 128, C |
| lite_mmim | mean over time; two layers of 128 per modality; 256, 128 fused; all four joined, 128, C |
| lite_tetfn | two convolutions per modality; others attend to text; all steps to all; mean over time; 128, C |

Losses besides the task's: lite_misa "moments", squared error of the moments 1 .. 5 of the shared codes, mean over pairs
of modalities, and "overlap", squared inner product of shared and private; lite_mmim "contrast", symmetric InfoNCE
between the fused vector and each modality. Any number of modalities (ConfigError for one); lite_tetfn needs one named
text. Every task. lite_mult joins sequences of different lengths at equal shares of the text's (or first) length.

Differences from the public code of April 2026, with its switch, on in `author`, off in `clean`:
1. `padded`: the code has no mask: means count the padding, attention sees it; clean sees observed steps alone, and a
   missing modality is the zero vector (in lite_mult and lite_tetfn a sequence without steps).
No code of these models was at hand. The counts of the paper's table are met exactly at its shapes (300, 74 and 35
features, six classes); where the table leaves room (the norms of lite_mmim, the query of lite_mult, which has an extra
map before the attention's own) the choice that meets the count was taken. Parity of values cannot be shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.affect_diff import GroupNorm
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.attention import MultiheadAttention
from affectcore.nn.losses import as_prediction, task_loss
from affectcore.nn.pooling import hide, masked_mean


@dataclass(frozen=True)
class Config:
    """Settings of all five; each model reads those that it has a use for."""

    width: int = 128  # features of a modality, in lite_tfn's head and elsewhere; code: 128
    small: int = 16  # vector of a modality in lite_tfn; code: 16
    heads: int = 4  # of attention; code: 4
    dropout: float = 0.3  # code: 0.3
    label_smoothing: float = 0.1  # single_label alone; code: 0.1
    moments: int = 5  # compared by lite_misa; code: 5
    moment_weight: float = 0.1  # of lite_misa's "moments"; code: 0.1
    overlap_weight: float = 0.1  # of lite_misa's "overlap"; code: 0.1
    contrast_weight: float = 0.1  # of lite_mmim's "contrast"; code: 0.1
    temperature: float = 0.07  # of lite_mmim's "contrast"; code: 0.07
    padded: bool = False  # difference 1


@dataclass(frozen=True)
class LiteOutput(Output):
    """there[m]: (B,) 1 where m counts; shared, private: lite_misa's codes; views: lite_mmim's, fused first."""

    there: Mapping[str, Tensor]
    shared: tuple[Tensor, ...] = ()
    private: tuple[Tensor, ...] = ()
    views: tuple[Tensor, ...] = ()


class Lite(AffectModel):
    """What the five share: masks, means and the task's loss."""

    config: Config

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        names = shape.modalities
        if len(names) < 2:
            raise ConfigError(f"{type(self).__name__}: needs two modalities or more, got {', '.join(names)} alone")

    def mask(self, m: str, batch: Batch) -> Tensor:
        """Return the steps that count, (B, T_m) bool."""
        return torch.ones_like(batch.observed[m]) if self.config.padded else batch.observed[m]

    def mean(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the mean over the steps that count, (B, D)."""
        return x.mean(-2) if self.config.padded else masked_mean(x, mask)

    def there(self, batch: Batch) -> dict[str, Tensor]:
        return {m: self.mask(m, batch).any(-1) for m in self.shape.modalities}

    def output(self, out: Tensor, batch: Batch, **codes: Any) -> LiteOutput:
        there = {m: t.to(out.dtype) for m, t in self.there(batch).items()}
        return LiteOutput(as_prediction(self.shape.task, out), there, **codes)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        y = output.prediction
        if self.shape.task.kind == "single_label":
            return {"task": F.cross_entropy(y, batch.target, label_smoothing=self.config.label_smoothing)}, {}
        return {"task": task_loss(self.shape.task, y, batch.target)}, {}


def only(x: Tensor, there: Tensor) -> Tensor:
    """Return rows x (B, D), zero where `there` (B,) is False."""
    return x.masked_fill(~there.unsqueeze(-1), 0)


class LiteTFN(Lite):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        n, w = config.small, config.width
        self.encode = nn.ModuleList([nn.Linear(d, n) for d in shape.dims.values()])
        product = (n + 1) ** len(shape.dims)
        self.post = nn.ModuleList([nn.Linear(product, w), nn.Linear(w, w // 2)])
        self.last = nn.Linear(w // 2, shape.task.outputs)

    def forward(self, batch: Batch, noise: Noise) -> LiteOutput:
        p, vectors, there = self.config.dropout, [], self.there(batch)
        for m, layer in zip(self.shape.modalities, self.encode):
            h = noise.dropout(F.relu(layer(self.mean(batch.features[m], self.mask(m, batch)))), p)
            vectors.append(F.pad(only(h, there[m]), (0, 1), value=1.0))
        h = reduce(lambda a, b: (a.unsqueeze(-1) * b.unsqueeze(-2)).flatten(-2), vectors)  # (B, 17^M)
        for layer in self.post:
            h = noise.dropout(F.relu(layer(h)), p)
        return self.output(self.last(h), batch)


class Cross(nn.Module):
    """Attention of one sequence to another behind maps of its own, residual and norm: (B, T, d) to (B, T, d)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query, self.memory = nn.Linear(width, width), nn.Linear(width, width)
        self.attention, self.norm = MultiheadAttention(width, heads), nn.LayerNorm(width)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None, noise: Noise, p: float) -> Tensor:
        out: Tensor = self.norm(x + self.attention(self.query(x), self.memory(memory), mask, noise, p))
        return out


class LiteMulT(Lite):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        names, w = shape.modalities, config.width
        self.project = nn.ModuleDict({m: nn.Linear(d, w) for m, d in shape.dims.items()})
        self.pairs = [(a, b) for a in names for b in names if a != b]  # a attends to b
        self.cross = nn.ModuleList([Cross(w, config.heads) for _ in self.pairs])
        self.join, self.norm = nn.Linear(len(self.pairs) * w, w), nn.LayerNorm(w)
        self.post, self.last = nn.Linear(w, w // 2), nn.Linear(w // 2, shape.task.outputs)

    def forward(self, batch: Batch, noise: Noise) -> LiteOutput:
        p, names = self.config.dropout, self.shape.modalities
        masks = {m: self.mask(m, batch) for m in names}
        x = {m: self.project[m](hide(batch.features[m], masks[m])) for m in names}
        first = names[0]
        steps = torch.arange(x[first].shape[-2], device=batch.index.device)
        parts, seen = [], []
        for (a, b), cross in zip(self.pairs, self.cross):
            h = hide(cross(x[a], x[b], None if self.config.padded else masks[b], noise, p), masks[a])
            share = steps * batch.lengths[a].unsqueeze(-1) // batch.lengths[first].unsqueeze(-1)  # (B, T)
            where = share.clamp(max=h.shape[-2] - 1)
            parts.append(h.gather(-2, where.unsqueeze(-1).expand(*where.shape, h.shape[-1])))
            seen.append(masks[a].gather(-1, where))
        mask = torch.stack(seen).any(0) & (torch.ones_like(masks[first]) if self.config.padded else batch.valid(first))
        h = noise.dropout(F.gelu(self.norm(self.join(torch.cat(parts, -1)))), p)  # (B, T, w)
        h = only(self.mean(h, mask), mask.any(-1))
        return self.output(self.last(noise.dropout(F.relu(self.post(h)), p)), batch)


class LiteMISA(Lite):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        names, w = shape.modalities, config.width
        self.project = nn.ModuleList([nn.Linear(d, w) for d in shape.dims.values()])
        self.norm = nn.ModuleList([nn.LayerNorm(w) for _ in names])
        self.shared, self.private = (nn.ModuleList([nn.Linear(w, w // 2) for _ in names]) for _ in range(2))
        self.join, self.last = nn.Linear(len(names) * w, w), nn.Linear(w, shape.task.outputs)

    def forward(self, batch: Batch, noise: Noise) -> LiteOutput:
        p, there = self.config.dropout, self.there(batch)
        shared, private = [], []
        parts = zip(self.shape.modalities, self.project, self.norm, self.shared, self.private)
        for m, project, norm, to_shared, to_private in parts:
            mask = self.mask(m, batch)
            h = self.mean(noise.dropout(F.gelu(norm(project(hide(batch.features[m], mask)))), p), mask)
            shared.append(only(torch.tanh(to_shared(h)), there[m]))
            private.append(only(torch.tanh(to_private(h)), there[m]))
        h = noise.dropout(F.relu(self.join(torch.cat([*shared, *private], -1))), p)
        return self.output(self.last(h), batch, shared=tuple(shared), private=tuple(private))

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        assert isinstance(output, LiteOutput)
        terms, memo = super().losses(output, batch, progress)
        there = [t.unsqueeze(-1) for t in output.there.values()]
        found = []
        for x, w in zip(output.shared, there):  # absent rows of x are zero
            n = w.sum().clamp(min=1)
            found.append(torch.stack([x.pow(k).sum(0) / n for k in range(1, self.config.moments + 1)]))
        gaps = [(a - b).square().mean() for a, b in combinations(found, 2)]
        terms["moments"] = torch.stack(gaps).mean()
        inner = [(a * b).sum(-1).square().sum() for a, b in zip(output.shared, output.private)]
        terms["overlap"] = torch.stack([v / w.sum().clamp(min=1) for v, w in zip(inner, there)]).mean()
        return terms, memo

    def weights(self, progress: Progress) -> dict[str, float]:
        return {"moments": self.config.moment_weight, "overlap": self.config.overlap_weight}


class LiteMMIM(Lite):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        names, w = shape.modalities, config.width
        self.first = nn.ModuleList([nn.Linear(d, w) for d in shape.dims.values()])
        self.norm = nn.ModuleList([nn.LayerNorm(w) for _ in names])
        self.second = nn.ModuleList([nn.Linear(w, w) for _ in names])
        self.fuse, self.norm_fused = nn.Linear(len(names) * w, 2 * w), nn.LayerNorm(2 * w)
        self.fused = nn.Linear(2 * w, w)
        self.project = nn.ModuleList([nn.Linear(w, w) for _ in range(len(names) + 1)])  # fused first
        self.post, self.last = nn.Linear((len(names) + 1) * w, w), nn.Linear(w, shape.task.outputs)

    def forward(self, batch: Batch, noise: Noise) -> LiteOutput:
        p, there, vectors = self.config.dropout, self.there(batch), []
        for m, first, norm, second in zip(self.shape.modalities, self.first, self.norm, self.second):
            h = noise.dropout(F.gelu(norm(first(self.mean(batch.features[m], self.mask(m, batch))))), p)
            vectors.append(only(second(h), there[m]))
        h = noise.dropout(F.gelu(self.norm_fused(self.fuse(torch.cat(vectors, -1)))), p)
        vectors = [self.fused(h), *vectors]
        views = tuple(f(v) for f, v in zip(self.project, vectors))
        h = noise.dropout(F.gelu(self.post(torch.cat(vectors, -1))), p)
        return self.output(self.last(h), batch, views=views)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        assert isinstance(output, LiteOutput)
        terms, memo = super().losses(output, batch, progress)
        fused, *views = (F.normalize(v, dim=-1) for v in output.views)
        each = [info_nce(fused, v, t, self.config.temperature) for v, t in zip(views, output.there.values())]
        terms["contrast"] = torch.stack(each).mean()
        return terms, memo

    def weights(self, progress: Progress) -> dict[str, float]:
        return {"contrast": self.config.contrast_weight}


def info_nce(a: Tensor, b: Tensor, there: Tensor, temperature: float) -> Tensor:
    """Return the symmetric InfoNCE of unit rows a and b (B, D) over the samples where `there` (B,) is 1: scalar."""
    scores = a @ b.transpose(-1, -2) / temperature
    gone = there == 0
    own = scores.diagonal()
    rows = scores.masked_fill(gone.unsqueeze(-2), -1e4).logsumexp(-1)
    columns = scores.masked_fill(gone.unsqueeze(-1), -1e4).logsumexp(-2)
    return ((rows + columns) / 2 - own).masked_fill(gone, 0).sum() / there.sum().clamp(min=1)


class Convolutions(nn.Module):
    """Two convolutions over three steps, each with a group norm and GELU: (B, T, D) to (B, T, width)."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv1d(n, width, 3, padding=1) for n in (features, width)])
        self.norm = nn.ModuleList([GroupNorm(width) for _ in range(2)])

    def forward(self, x: Tensor, mask: Tensor | None, noise: Noise, p: float) -> Tensor:
        for layer, norm in zip(self.layers, self.norm):
            x = x if mask is None else hide(x, mask)
            x = noise.dropout(F.gelu(norm(layer(x.transpose(-1, -2)), mask)), p).transpose(-1, -2)
        return x if mask is None else hide(x, mask)


class LiteTETFN(Lite):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        names, w = shape.modalities, config.width
        if "text" not in names:
            raise ConfigError(f"LiteTETFN: needs a modality named text, got {', '.join(names)}")
        self.encode = nn.ModuleDict({m: Convolutions(d, w) for m, d in shape.dims.items()})
        self.others = [m for m in names if m != "text"]
        self.enhance = nn.ModuleDict({m: MultiheadAttention(w, config.heads) for m in self.others})
        self.norm = nn.ModuleDict({m: nn.LayerNorm(w) for m in self.others})
        self.attention, self.norm_all = MultiheadAttention(w, config.heads), nn.LayerNorm(w)
        self.post, self.last = nn.Linear(len(names) * w, w), nn.Linear(w, shape.task.outputs)

    def forward(self, batch: Batch, noise: Noise) -> LiteOutput:
        p, names = self.config.dropout, self.shape.modalities
        masks = {m: None if self.config.padded else batch.observed[m] for m in names}
        x = {m: self.encode[m](batch.features[m], masks[m], noise, p) for m in names}
        for m in self.others:
            x[m] = self.norm[m](x[m] + self.enhance[m](x[m], x["text"], masks["text"], noise, p))
        steps = torch.cat(list(x.values()), -2)  # (B, sum of T_m, w)
        mask = None if self.config.padded else torch.cat([batch.observed[m] for m in names], -1)
        steps = self.norm_all(steps + self.attention(steps, steps, mask, noise, p))
        parts = steps.split([v.shape[-2] for v in x.values()], -2)
        means = [self.mean(v, self.mask(m, batch)) for m, v in zip(names, parts)]
        return self.output(self.last(noise.dropout(F.gelu(self.post(torch.cat(means, -1))), p)), batch)


CLEAN = Config()
AUTHOR = replace(CLEAN, padded=True)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
