"""MPLMM: prompts that generate a missing modality's features and tell a multimodal transformer what is missing
[guo2024multimodal].

| symbol | name | shape |
|---|---|---|
| X_m | `batch.features[m]` | (B, T_m, D_m) |
| | `generative[m]`, generative prompt | (d, l) |
| | `signal_present[m]`, `signal_missing[m]`, missing-signal prompts | (d, T_m) |
| | `kind[m]` and `mix[m]`, missing-type prompts | (l, d) and (T_m, (M - 1) d) |
| X^_m | `x[m]`: projected or, if missing, generated features plus signal prompt | (B, T_m, d) |
| | `hidden`, the last step of each memory stack | (B, M (M - 1) d) |

Two or more modalities (ConfigError otherwise). A modality is missing where a sample observes none of its steps. Its
features are generated from those of the modalities that are present, by a map for every set of them. In training whole
modalities are hidden: with probability `hide_rate` one of the patterns in which some but not all are missing, drawn
from the step's noise. Every sequence is cut or padded to the shape's T_m, since the maps mix steps.
The method trains the backbone, a MulT without prompts, on MOSEI first, then freezes it and trains the prompts; here all
is trained at once, and who wants the two stages loads a state and freezes parameters by name (`cross`, `memory`,
`first`, `second`). The code draws missing patterns for validation and test as well; here evaluation draws nothing.

Differences from the published code (zrguo/MPLMM, commit c6f8d18), each with its switch, on in `author`, off in `clean`:
1. `padded`: padding and missing steps of a modality that is present are attended to.
2. `zero_prompts`: all prompts start at 0. The missing-type prompts enter as a product whose factors are all 0, so none
   of them ever gets a gradient, and the memory stacks read 16 copies of one step that is the same for every sample and
   pattern. Clean starts them as N(0, 0.02).
3. `future_mask`: the code hides key j from query i where j - i > |S - T|, without regard to padding.
4. `skip_zero`: a step whose first feature is exactly 0 has no position.
5. `attention_dropout` .1: clean draws none, as in MulT.
Without a switch: keys and values share one drop-out mask, and so do all readers of a modality, as in MulT here. Where
all modalities are missing, no case in the code, the missing-signal prompts stand alone.

On the same weights, `author` and the published code, without drop-out, differ by 1e-6 in the predictions and by 8e-7 of
the largest entry in the gradient (float32, MOSI shape, aligned, one sample of each pattern); computed in float64, by
2e-15 and 3e-16. Both have 1,191,541 parameters on aligned MOSI and 2,219,066 on unaligned MOSI.
What saves time and changes no value: one product for all samples of a pattern where the code takes them one by one; the
rest as in MulT.
"""

from dataclasses import dataclass, replace
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.baselines.views import fit_steps
from affectcore.models.contract import AffectModel, Noise, Output, Shape
from affectcore.nn.crossmodal import PreNormStack, Rates, future, normalise, place
from affectcore.nn.losses import as_prediction
from affectcore.nn.pooling import hide


@dataclass(frozen=True)
class Config:
    width: int = 30  # d, features of every modality and of the prompts; code: 30
    prompt_length: int = 16  # l, steps of generative and missing-type prompts; code: 16
    heads: int = 5  # code: 5
    layers: int = 5  # of every stack; code: 5
    text_dropout: float = 0.25  # of text features; code: 0.25, its embedding drop-out
    embed_dropout: float = 0.25  # of the embedded steps; code: 0.25
    attention_dropout: float = 0.0  # difference 5; code: 0.1
    inner_dropout: float = 0.1  # inside the layers' networks; code: 0.1
    residual_dropout: float = 0.1  # of what layers add; code: 0.1
    output_dropout: float = 0.1  # of the last residual block; code: 0.1
    hide_rate: float = 0.7  # probability that a training sample lacks modalities, [0, 1]; code: 0.7 for MOSI
    padded: bool = False  # difference 1
    zero_prompts: bool = False  # difference 2
    future_mask: bool = False  # difference 3
    skip_zero: bool = False  # difference 4


@dataclass(frozen=True)
class MPLMMOutput(Output):
    """hidden: (B, M (M - 1) d), the fused representation; present: (B, M) bool."""

    hidden: Tensor
    present: Tensor


class MPLMM(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        c, names = config, shape.modalities
        n, d, length = len(names), config.width, config.prompt_length
        if n < 2:
            raise ConfigError(
                f"mplmm: needs two modalities or more to generate one from others, got {', '.join(names)}"
            )
        if d % c.heads:
            raise ConfigError(f"mplmm: width {d} cannot be split into {c.heads} heads of equal size")
        if not 0 <= c.hide_rate <= 1:
            raise ConfigError(f"mplmm: hide_rate {c.hide_rate} must lie in [0, 1]")
        steps = [shape.steps[m] for m in names]

        def prompt(*size: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(size) if c.zero_prompts else 0.02 * torch.randn(size))

        self.pairs = [
            (i, j) for i in range(n) for j in range(n) if i != j
        ]  # modality i from or attending to modality j
        self.sources = [  # (missing modality, modalities that are present)
            (i, s) for i in range(n) for k in range(1, n) for s in combinations([j for j in range(n) if j != i], k)
        ]
        self.project = nn.ModuleList(nn.Linear(k, d, bias=False) for k in shape.dims.values())
        self.translate = nn.ModuleList(nn.Linear(shape.dims[names[j]], d) for _, j in self.pairs)
        self.blend = nn.ModuleList(
            nn.Linear(length + sum(steps[j] for j in s), steps[i]) for i, s in self.sources
        )  # over steps
        self.generative = nn.ParameterList(prompt(d, length) for _ in names)
        self.signal_present = nn.ParameterList(prompt(d, t) for t in steps)
        self.signal_missing = nn.ParameterList(prompt(d, t) for t in steps)
        self.kind = nn.ParameterList(prompt(length, d) for _ in names)
        self.mix = nn.ParameterList(prompt(t, (n - 1) * d) for t in steps)
        self.cross = nn.ModuleList(PreNormStack(d, c.heads, c.layers, xavier=True) for _ in self.pairs)
        self.memory = nn.ModuleList(PreNormStack((n - 1) * d, c.heads, c.layers, xavier=True) for _ in names)
        total = n * (n - 1) * d
        self.first, self.second = nn.Linear(total, total), nn.Linear(total, total)
        self.last = nn.Linear(total, shape.task.outputs)

    def view(self, batch: Batch, noise: Noise) -> Batch:
        """Return the training batch with whole modalities hidden."""
        some, which = noise.uniform(len(batch), 2).unbind(-1)
        n = len(batch.modalities)
        pattern = 1 + (which * (2**n - 2)).floor().to(torch.int64)  # bits of those that are missing: some, not all
        pattern = torch.where(some < self.config.hide_rate, pattern, 0)
        kept = {m: ((pattern >> i) & 1 == 0).unsqueeze(-1) for i, m in enumerate(batch.modalities)}
        return batch.with_observed({m: k.expand_as(batch.observed[m]) for m, k in kept.items()})

    def _embedded(self, batch: Batch, present: Tensor, noise: Noise) -> list[Tensor]:
        """Return X^_m of every modality, (B, T_m, d): projected or generated, with the signal prompt."""
        c, raw = self.config, []
        for m in self.shape.modalities:
            x = batch.features[m] if c.padded else hide(batch.features[m], batch.observed[m])
            x = fit_steps(x, self.shape.steps[m])
            raw.append(noise.dropout(x, c.text_dropout) if m == "text" else x)
        own = [layer(x) + prompt.t() for layer, x, prompt in zip(self.project, raw, self.signal_present)]
        translated = {
            pair: F.gelu(layer(raw[pair[1]])).transpose(-1, -2) for pair, layer in zip(self.pairs, self.translate)
        }  # (B, d, T_j)
        generated = [prompt.t().expand_as(x) for prompt, x in zip(self.signal_missing, own)]
        for (i, s), layer in zip(self.sources, self.blend):
            start = self.generative[i].expand(len(present), *self.generative[i].shape)
            made = F.gelu(layer(torch.cat([start, *(translated[i, j] for j in s)], -1)))  # (B, d, T_i)
            fits = torch.stack([present[:, j] == (j in s) for j in range(len(raw)) if j != i]).all(0)
            made = (made + self.signal_missing[i]).transpose(-1, -2)
            generated[i] = torch.where(fits[:, None, None], made, generated[i])
        return [torch.where(present[:, i, None, None], x, g) for i, (x, g) in enumerate(zip(own, generated))]

    def _kinds(self, present: Tensor) -> list[Tensor]:
        """Return the missing-type prompts of every modality's memory, (B, l, (M - 1) d)."""
        told = torch.stack(
            [
                torch.where(present[:, i, None, None], yes @ mix, no @ mix)
                for i, (yes, no, mix) in enumerate(zip(self.signal_present, self.signal_missing, self.mix))
            ]
        ).sum(0)  # (B, d, (M - 1) d)
        return [kind @ told for kind in self.kind]

    def _ready(self, x: Tensor, noise: Noise) -> Tensor:
        return noise.dropout(place(x, True, self.config.skip_zero), self.config.embed_dropout)

    def _future(self, x: Tensor, memory: Tensor) -> Tensor | None:
        return future(x, memory) if self.config.future_mask else None

    def forward(self, batch: Batch, noise: Noise) -> MPLMMOutput:
        c, names = self.config, self.shape.modalities
        batch = self.view(batch, noise) if noise.training else batch
        present = torch.stack([batch.observed[m].any(-1) for m in names], -1)  # (B, M)
        x = [self._ready(v, noise) for v in self._embedded(batch, present, noise)]
        masks: list[Tensor | None] = []
        for i, m in enumerate(names):  # generated features fill the steps that exist
            seen = torch.where(present[:, i, None], batch.observed[m], batch.valid(m))
            masks.append(None if c.padded else F.pad(seen, (0, self.shape.steps[m] - seen.shape[-1])))
        rates = Rates(c.attention_dropout, c.inner_dropout, c.residual_dropout)
        memory = [normalise(v) for v in x]
        z: list[list[Tensor]] = [[] for _ in names]
        for (i, j), stack in zip(self.pairs, self.cross):
            hidden = self._future(x[i], x[j])
            z[i].append(stack(x[i], memory[j], masks[j], hidden, noise, rates))
        last = []
        for parts, mask, kind, stack in zip(z, masks, self._kinds(present), self.memory):
            h = self._ready(torch.cat([torch.cat(parts, -1), kind], 1), noise)  # (B, T_m + l, (M - 1) d)
            if mask is not None:
                mask = F.pad(mask, (0, kind.shape[1]), value=True)
            hidden = self._future(h, h)
            last.append(stack(h, None, mask, hidden, noise, rates, slice(-1, None)).squeeze(1))
        h = torch.cat(last, -1)
        out = h + self.second(noise.dropout(F.relu(self.first(h)), c.output_dropout))
        return MPLMMOutput(as_prediction(self.shape.task, self.last(out)), h, present)


CLEAN = Config()
AUTHOR = replace(CLEAN, attention_dropout=0.1, padded=True, zero_prompts=True, future_mask=True, skip_zero=True)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
