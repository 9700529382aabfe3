"""TFR-Net: attend within and across incomplete sequences, rebuild what was hidden, fuse summaries
[yuan2021transformer].

| symbol | name | shape |
|---|---|---|
| X_m | `batch.features[m]` | (B, T_m, D_m) |
| X^_m | convolution of X_m along time | (B, T_m, d) |
| H_m | `hidden[m]`: attention of m within itself and to every other modality, side by side | (B, T_m, M d) |
| H^*_m | H_m after the temporal stack, read by the generator alone | (B, T_m, M d) |
| X'_m | `rebuilt[m]`, a linear map of H^*_m; in training only | (B, T_m, D_m) |
| U_m | `vectors[m]`: a GRU gated by a convolution, the maximum over time | (B, h_m) |

Any number of modalities. In training the complete view is what the batch observes; steps are hidden from it at
`hide_rate`, drawn from the step's noise, and rebuilt. In evaluation nothing is drawn: the batch is the incomplete view.
The code draws one mask per sample when the data are loaded, at one rate per model, and keeps it for all epochs; here
every step draws anew. A hidden token is a zero vector, where the code feeds [UNK] to its text encoder.

Differences from the published code (thuiar/MMSA, commit a94e65d), each with its switch, on in `author`, off in `clean`:
1. `padded`: steps that are padding or missing are attended to, and the maximum over time includes the padding; clean
   hides from attention what is not observed and takes the maximum over steps that exist.
2. `future_mask`: the code hides key j from query i where j - i > |S - T|, without regard to padding.
3. `across_batch`: the temporal stack receives (batch, features, time) where its layers expect (sequence, batch,
   features): samples attend to the samples before them in the batch. Clean attends over the M d features of a sample,
   each a sequence in time. The predictions do not depend on it, the generation loss does.
4. `skip_zero`: a step whose first convolved feature is exactly 0, so every hidden token (kernel 1), has no position.
5. `similarity_weight`: MMSA adds a central moment discrepancy, over all steps of the batch with zeros where nothing was
   hidden and divided a second time by the number of hidden values; the paper has none.
6. `batch_norm`: of the fused vectors. Off in `clean`, as in TFN.
7. `attention_dropout` and its two relatives: clean draws none, as in MulT.
8. `hide_rate` .2 and `rate_per_sample` off: one model a rate. In `clean` each sample's rate is uniform in [0, 1), so
   that one model serves all rates, as CIDer is trained.
9. `generation_start` 1: the code leaves the generation loss out in the first epoch; clean has it from the start.
Without a switch: keys and values share one drop-out mask, and so do all readers of a modality, as in MulT here. A
modality that already has d features is convolved too. A modality of one step has no temporal stack: its norm would
leave nothing.

On the same weights and the same incomplete view, `author` and the published code, without drop-out, differ by 1e-6 in
the predictions, not at all in the loss and by 1.3e-5 of the largest entry in the gradient (float32, MOSI shape, in
training with batch normalisation); computed in float64 throughout, by 3e-15, 4e-15 and 2e-14. Both have 936,345
parameters on aligned MOSI and 14,850,620 on unaligned MOSI, nine tenths of them in the temporal stacks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.baselines.views import drawn_rate, fit_steps, hide_steps, smooth_l1_at
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.crossmodal import PreNormStack, Rates, future, normalise, place
from affectcore.nn.losses import as_prediction, task_loss
from affectcore.nn.normalisation import BatchNorm
from affectcore.nn.pooling import hide
from affectcore.nn.recurrent import GRU

EPS = 1e-4


@dataclass(frozen=True)
class Config:
    width: int = 30  # d, features of every modality after the convolution; code: 30
    heads: int = 6  # of attention over steps; code: 6
    layers: int = 3  # of each stack; code: 3
    temporal_heads: int = 25  # of the temporal stack, must divide every T_m; code: 25
    text_kernel: int = 1  # odd, steps of the convolution; code: 1
    audio_kernel: int = 5  # code: 5
    vision_kernel: int = 3  # code: 3
    other_kernel: int = 3  # of a modality by another name
    text_hidden: int = 36  # h, state of the GRU in each direction; code: 36
    audio_hidden: int = 20  # code: 20
    vision_hidden: int = 48  # code: 48
    other_hidden: int = 36
    gru_layers: int = 3  # code: 3
    class_hidden: int = 128  # of the classifier; code: 128
    text_dropout: float = 0.2  # of text features; code: 0.2
    embed_dropout: float = 0.2  # of the embedded steps; code: 0.2
    inner_dropout: float = 0.2  # inside the layers' networks; code: 0.2
    residual_dropout: float = 0.2  # of what layers add; code: 0.2
    attention_dropout: float = 0.0  # of attention to text and others, and of the temporal stacks; code: 0.2
    attention_dropout_audio: float = 0.0  # of attention to audio; code: 0.1
    attention_dropout_vision: float = 0.0  # of attention to vision; code: 0
    fusion_dropout: float = 0.2  # of each modality's vector; code: 0.2
    class_dropout: float = 0.0  # of the classifier; code: 0
    hide_rate: float = 1.0  # share of steps hidden in training, [0, 1]; code: the rate of the test, 0.2 by default
    rate_per_sample: bool = True  # difference 8: every sample's rate is uniform in [0, hide_rate)
    ends: tuple[str, ...] = ("text",)  # modalities whose first and last step is never hidden; code: text
    generation_start: int = 0  # difference 9, first epoch (from 0) with a generation loss; code: 1
    text_weight: float = 5.0  # of the generation loss; code: 5
    audio_weight: float = 2.0  # code: 2
    vision_weight: float = 20.0  # code: 20
    other_weight: float = 5.0
    similarity_weight: float = 0.0  # difference 5; code: 5
    padded: bool = False  # difference 1
    future_mask: bool = False  # difference 2
    across_batch: bool = False  # difference 3
    skip_zero: bool = False  # difference 4
    batch_norm: bool = False  # difference 6


@dataclass(frozen=True)
class TFRNetOutput(Output):
    """vectors[m]: (B, h_m); rebuilt[m]: (B, T_m, D_m) and removed[m]: (B, T_m) bool, the steps that were hidden from
    the model, both empty in evaluation; statistics: of batch normalisation."""

    vectors: Mapping[str, Tensor]
    rebuilt: Mapping[str, Tensor]
    removed: Mapping[str, Tensor]
    statistics: Memo


def central_moments(x: Tensor, y: Tensor, moments: int = 3) -> Tensor:
    """Return the central moment discrepancy of the rows of x and y (N, D): distances of means and central moments."""

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return ((a - b).square().sum() + 1e-12).sqrt()

    mx, my = x.mean(0), y.mean(0)
    out = distance(mx, my)
    for k in range(2, moments + 1):
        out = out + distance((x - mx).pow(k).mean(0), (y - my).pow(k).mean(0))
    return out


class GatedSummary(nn.Module):
    """A bidirectional GRU gated by a convolution beside its input, the maximum over time: (B, T, D) to (B, h)."""

    def __init__(self, features: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.gru = nn.ModuleList(GRU(features if i == 0 else 2 * hidden, hidden, True) for i in range(layers))
        self.gate = nn.Conv1d(2 * hidden, 1, 3, padding=1)
        self.out = nn.Linear(2 * hidden + features, hidden)

    def forward(self, x: Tensor, valid: Tensor, padded: bool) -> Tensor:
        """padded: let the padding take part in the maximum."""
        h = x
        for layer in self.gru:
            h = layer(h, valid)[0]
        h = hide(h, valid)  # (B, T, 2h)
        gate = torch.sigmoid(self.gate(h.transpose(-1, -2)).transpose(-1, -2))  # (B, T, 1)
        y = torch.tanh(self.out(torch.cat([x, torch.tanh(h) * gate], -1)))  # (B, T, h)
        if not padded:
            y = y.masked_fill(~valid.unsqueeze(-1), -1)  # the bound of tanh
        return y.max(-2).values


class TFRNet(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        d, names = config.width, shape.modalities
        kernels = {"text": config.text_kernel, "audio": config.audio_kernel, "vision": config.vision_kernel}
        states = {"text": config.text_hidden, "audio": config.audio_hidden, "vision": config.vision_hidden}
        for m, t in shape.steps.items():
            if kernels.get(m, config.other_kernel) % 2 == 0:
                raise ConfigError(f"tfr_net: kernel {kernels.get(m, config.other_kernel)} of {m} must be odd")
            if t > 1 and t % config.temporal_heads:
                raise ConfigError(
                    f"tfr_net: {t} steps of {m} cannot be split into temporal_heads {config.temporal_heads}"
                )
        if not 0 <= config.hide_rate <= 1:
            raise ConfigError(f"tfr_net: hide_rate {config.hide_rate} must lie in [0, 1]")
        self.project = nn.ModuleList()
        for m, n in shape.dims.items():
            k = kernels.get(m, config.other_kernel)
            self.project.append(nn.Conv1d(n, d, k, padding=k // 2, bias=False))
        n = len(names)
        self.pairs = [(i, j) for i in range(n) for j in range(n) if i != j]  # modality i attends to modality j
        self.within = nn.ModuleList(PreNormStack(d, config.heads, config.layers, xavier=True) for _ in names)
        self.cross = nn.ModuleList(PreNormStack(d, config.heads, config.layers, xavier=True) for _ in self.pairs)
        self.temporal = nn.ModuleList(
            PreNormStack(t, config.temporal_heads, config.layers, xavier=True) if t > 1 else nn.Identity()
            for t in shape.steps.values()
        )
        self.generate = nn.ModuleList(nn.Linear(n * d, k) for k in shape.dims.values())
        sizes = [states.get(m, config.other_hidden) for m in names]
        self.summaries = nn.ModuleList(GatedSummary(n * d, h, config.gru_layers) for h in sizes)
        self.norm = BatchNorm(sum(sizes)) if config.batch_norm else None
        self.first = nn.Linear(sum(sizes), config.class_hidden)
        self.last = nn.Linear(config.class_hidden, shape.task.outputs)

    def view(self, batch: Batch, noise: Noise) -> Batch:
        """Return the incomplete view of a training batch."""
        rate = drawn_rate(batch, noise, self.config.hide_rate, self.config.rate_per_sample)
        return hide_steps(batch, noise, dict.fromkeys(batch.modalities, rate), self.config.ends)

    def _rates(self, modality: str | None) -> Rates:
        c = self.config
        own = {"audio": c.attention_dropout_audio, "vision": c.attention_dropout_vision}
        return Rates(own.get(modality or "", c.attention_dropout), c.inner_dropout, c.residual_dropout)

    def _attended(self, batch: Batch, noise: Noise) -> list[Tensor]:
        """Return H_m of every modality, (B, T_m, M d)."""
        config, names = self.config, self.shape.modalities
        masks = [None if config.padded else batch.observed[m] for m in names]
        x = []
        for m, conv, mask in zip(names, self.project, masks):
            v = batch.features[m] if mask is None else hide(batch.features[m], mask)
            v = noise.dropout(v, config.text_dropout) if m == "text" else v
            v = conv(v.transpose(-1, -2)).transpose(-1, -2)
            x.append(noise.dropout(place(v, True, config.skip_zero), config.embed_dropout))
        memory = [normalise(v) for v in x]
        parts = []
        for i, m in enumerate(names):
            parts.append([self.within[i](x[i], None, masks[i], self._future(x[i], x[i]), noise, self._rates(m))])
        for (i, j), stack in zip(self.pairs, self.cross):
            rates = self._rates(names[j])
            parts[i].append(stack(x[i], memory[j], masks[j], self._future(x[i], x[j]), noise, rates))
        return [torch.cat(p, -1) for p in parts]

    def _future(self, x: Tensor, memory: Tensor) -> Tensor | None:
        return future(x, memory) if self.config.future_mask else None

    def _rebuilt(self, i: int, h: Tensor, valid: Tensor, noise: Noise) -> Tensor:
        """Return X'_m (B, T_m, D_m) from H_m, through the temporal stack."""
        config, stack = self.config, self.temporal[i]
        if isinstance(stack, PreNormStack):
            steps = h.shape[-2]
            h = fit_steps(h if config.padded else hide(h, valid), stack.features)
            axes = (-1, 0, 1) if config.across_batch else (0, -1, 1)
            x = h.permute(*axes)  # (M d, B, T) or (B, M d, T): the middle axis is attended over
            x = noise.dropout(place(x, False), config.embed_dropout)
            hidden = future(x, x) if config.future_mask else None
            x = stack(x, None, None, hidden, noise, self._rates(None))
            h = fit_steps(x.permute(1, 2, 0) if config.across_batch else x.transpose(-1, -2), steps)
        out: Tensor = self.generate[i](h)
        return out

    def forward(self, batch: Batch, noise: Noise) -> TFRNetOutput:
        config, names = self.config, self.shape.modalities
        view = self.view(batch, noise) if noise.training else batch
        attended = self._attended(view, noise)
        valid = [batch.valid(m) for m in names]
        vectors, rebuilt, removed = {}, {}, {}
        for i, m in enumerate(names):
            if noise.training:
                rebuilt[m] = self._rebuilt(i, attended[i], valid[i], noise)
                removed[m] = batch.observed[m] & ~view.observed[m]
            u = self.summaries[i](attended[i], valid[i], config.padded)
            vectors[m] = noise.dropout(u, config.fusion_dropout)
        u, statistics = torch.cat(list(vectors.values()), -1), {}
        if self.norm is not None:
            u, statistics["norm"] = self.norm(u, noise.training)
        y = self.last(noise.dropout(F.leaky_relu(self.first(u)), config.class_dropout))
        return TFRNetOutput(as_prediction(self.shape.task, y), vectors, rebuilt, removed, statistics)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        """Return "task" and, by modality m, "generation_m" and "similarity_m"."""
        assert isinstance(output, TFRNetOutput)
        terms = {"task": task_loss(self.shape.task, output.prediction, batch.target)}
        for m, x in output.rebuilt.items():
            where, target = output.removed[m], batch.features[m]
            terms[f"generation_{m}"] = smooth_l1_at(x, target, where, EPS)
            if self.config.similarity_weight:
                a, b = (v.masked_fill(~where.unsqueeze(-1), 0).flatten(0, 1) for v in (x, target))
                terms[f"similarity_{m}"] = central_moments(a, b) / ((where.sum() * x.shape[-1]).to(a.dtype) + EPS)
        return terms, output.statistics

    def weights(self, progress: Progress) -> Mapping[str, float]:
        c, out = self.config, {}
        on = float(progress.epoch >= c.generation_start)
        by_name = {"text": c.text_weight, "audio": c.audio_weight, "vision": c.vision_weight}
        for m in self.shape.modalities:
            out[f"generation_{m}"] = on * by_name.get(m, c.other_weight)
            if c.similarity_weight:
                out[f"similarity_{m}"] = out[f"generation_{m}"] * c.similarity_weight
        return out

    def remember(self, memo: Memo) -> None:
        if self.norm is not None and "norm" in memo:
            self.norm.remember(memo["norm"])


CLEAN = Config()
AUTHOR = replace(
    CLEAN,
    attention_dropout=0.2,
    attention_dropout_audio=0.1,
    hide_rate=0.2,
    rate_per_sample=False,
    generation_start=1,
    similarity_weight=5.0,
    padded=True,
    future_mask=True,
    across_batch=True,
    skip_zero=True,
    batch_norm=True,
)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
