"""EMT-DLFR: global tokens and local sequences promote each other; two views of a sample attract [sun2023efficient].

| symbol | name | shape |
|---|---|---|
| X_m | `batch.features[m]` | (B, T_m, D_m) |
| h_m | `vectors[m]`: text's sentence vector, the last LSTM state of others through a linear map | (B, h_m) |
| G | `tokens`: one global multimodal token a modality | (B, M, d) |
| H_m | local features of m, updated by attention to G and within m | (B, T_m, d) |
| z, p | projected and predicted vectors of SimSiam; in training only | (B, h_m) or (B, M d) |

Any number of modalities. In training the complete view is what the batch observes; the incomplete view loses steps at
`hide_rate`, drawn from the step's noise. Both views pass the same weights: each is told to predict the target, the
incomplete one to rebuild what it lost ("reconstruction", low level) and both to predict each other's vectors
("attraction", high level). In evaluation nothing is drawn, and the batch is the only view.
The code draws one mask per sample when the data are loaded, at one rate per model, and keeps it for all epochs; here
every step draws anew. A hidden token is a zero vector, where the code feeds [UNK] to its text encoder.

Differences from the published code (sunlicai/EMT-DLFR, commit e9f0960), each with its switch, on in `author`, off in
`clean`:
1. `read_missing`: steps that exist but are missing are read as zeros, by the LSTM and as keys; clean sees observed
   steps alone. The code does keep the padding out.
2. `first_token`: the first step of `encoded` modalities is their sentence vector ([CLS]), the steps between it and the
   last ([SEP]) are their sequence. Clean takes the mean of the observed steps and all of them, whatever the encoder.
3. `attention_dropout` .3: clean draws none, as in MulT.
4. `hide_rate` .2 and `rate_per_sample` off: one model a rate. In `clean` each sample's rate is uniform in [0, 1).
Without a switch: all units share their weights, across directions, modalities and layers, as in all published
configurations. The batch normalisation of SimSiam is kept in both presets, for without it the vectors collapse; it acts
in training alone, on each view, and nobody reads its running statistics, which are not kept. Sequences of one or two
steps keep one step after `first_token`; the code would attend to nothing.

On the same weights and the same incomplete view, `author` and the published code, without drop-out, differ by 6e-8 in
the predictions, by 3e-7 in the loss and by 5e-6 of the largest entry in the gradient (float32, MOSI shape, aligned and
unaligned, in training); computed in float64, by 2e-16, 1e-16 and 1e-14. Both have 2,322,779 parameters.
What saves time and changes no value: weights being shared, all modalities' steps pass them in one product; both views
are one batch; the last layer's local features are computed only where they are rebuilt.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.baselines.views import drawn_rate, hide_steps, joined, normalise_batch, smooth_l1_at
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.attention import attend
from affectcore.nn.losses import as_prediction, task_loss
from affectcore.nn.pooling import hide, masked_mean
from affectcore.nn.recurrent import LSTM

EPS = 1e-6


@dataclass(frozen=True)
class Config:
    width: int = 128  # d; code, MOSI: 128
    layers: int = 3  # rounds of promotion, of shared weights; code, MOSI: 3
    heads: int = 4  # code: 4
    expansion: int = 4  # of the feed-forward network; code: 4
    encoded: tuple[str, ...] = ("text",)  # modalities that come from a text encoder, read without an LSTM
    audio_state: int = 32  # of the LSTM; code, MOSI: 32
    vision_state: int = 64  # code, MOSI: 64
    other_state: int = 32  # of a modality by another name
    audio_out: int = 16  # h; code: 16
    vision_out: int = 32  # code: 32
    other_out: int = 16
    token_inner: int = 128  # inner features of the tokens' predictor; code: 128
    encoded_inner: int = 256  # of the predictor of `encoded` modalities; code: 256
    audio_inner: int = 8  # code: 8
    vision_inner: int = 16  # code: 16
    other_inner: int = 8
    post_hidden: int = 256  # of the prediction; code, MOSI: 256
    post_dropout: float = 0.3  # code, MOSI: 0.3
    attention_dropout: float = 0.0  # difference 3; code, MOSI: 0.3
    network_dropout: float = 0.1  # of the feed-forward network; code, MOSI: 0.1
    hide_rate: float = 1.0  # share of steps hidden in training, [0, 1]; code: the rate of the test
    rate_per_sample: bool = True  # difference 4
    ends: tuple[str, ...] = ("text",)  # modalities whose first and last step is never hidden; code: text
    attraction_weight: float = 1.0  # of the attraction and of the complete view's prediction; code: 1
    reconstruction_weight: float = 1.0  # code: 1
    read_missing: bool = False  # difference 1
    first_token: bool = False  # difference 2


@dataclass(frozen=True)
class EMTOutput(Output):
    """tokens: (B, M, d); vectors[m]: (B, h_m), of the incomplete view. In training also, else empty:
    complete: prediction of the complete view; rebuilt[m] (B, T', D_m), with the targets and steps that count;
    pairs: (p, z) of the complete and of the incomplete view, by name."""

    tokens: Tensor
    vectors: Mapping[str, Tensor]
    complete: Tensor | None
    rebuilt: Mapping[str, tuple[Tensor, Tensor, Tensor]]
    pairs: Mapping[str, tuple[Tensor, Tensor, Tensor, Tensor]]


class Local(NamedTuple):
    """A modality's sequence (B, T', h), its vector (B, h) and the steps that may be attended to (B, T')."""

    steps: Tensor
    vector: Tensor
    mask: Tensor


def interleaved_sinusoids(steps: int, features: int, like: Tensor) -> Tensor:
    """Return (steps, features): sin(t w_i) at even, cos(t w_i) at odd columns, w_i = 10000^(-2i/features), t from 0."""
    t = torch.arange(steps, dtype=torch.float64, device=like.device).unsqueeze(1)
    i = torch.arange(0, features, 2, dtype=torch.float64, device=like.device)
    angle = t * torch.exp(i * (-math.log(10000) / features))
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :features].to(like.dtype)


class Attention(nn.Module):
    """Pre-norm attention of x (..., T, d) to memory (..., S, d); `across` has a norm of its own for the memory."""

    def __init__(self, width: int, heads: int, across: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.norm_memory = nn.LayerNorm(width) if across else None
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def queries(self, x: Tensor) -> Tensor:
        q: Tensor = self.to_q(self.norm(x))
        return q

    def memory(self, x: Tensor) -> Tensor:
        """Return keys and values side by side, (..., S, 2d)."""
        kv: Tensor = self.to_kv((self.norm if self.norm_memory is None else self.norm_memory)(x))
        return kv

    def mix(self, q: Tensor, kv: Tensor, mask: Tensor | None, noise: Noise, p: float) -> Tensor:
        k, v = kv.chunk(2, -1)
        return attend(q, k, v, self.heads, mask, None, noise, p)


class Unit(nn.Module):
    """Half a mutual promotion unit: attention to the other side, attention within, a gated network. All pre-norm."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.across, self.within = Attention(width, heads, True), Attention(width, heads, False)
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * expansion * width), nn.Linear(expansion * width, width)

    def network(self, x: Tensor, noise: Noise, p: float) -> Tensor:
        value, gate = self.up(self.norm(x)).chunk(2, -1)
        return x + noise.dropout(self.down(value * F.gelu(gate)), p)


class Attraction(nn.Module):
    """SimSiam's projector and predictor: (B, D) to p and z, each (B, D)."""

    def __init__(self, features: int, inner: int) -> None:
        super().__init__()
        self.project = nn.Linear(features, features)
        self.up, self.down = nn.Linear(features, inner, bias=False), nn.Linear(inner, features)
        self.norm_weight, self.norm_bias = nn.Parameter(torch.ones(inner)), nn.Parameter(torch.zeros(inner))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # a bias before batch normalisation has no effect: its gradient is 0 here, not the rounding of 0
        z = normalise_batch(F.linear(x, self.project.weight)) + 0 * self.project.bias
        p = self.down(F.relu(normalise_batch(self.up(z)) * self.norm_weight + self.norm_bias))
        return p, z.detach()


class EMTDLFR(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        c, d, n = config, config.width, len(shape.modalities)
        if d % c.heads:
            raise ConfigError(f"emt_dlfr: width {d} cannot be split into {c.heads} heads of equal size")
        if not 0 <= c.hide_rate <= 1:
            raise ConfigError(f"emt_dlfr: hide_rate {c.hide_rate} must lie in [0, 1]")
        states = {"audio": c.audio_state, "vision": c.vision_state}
        outs = {"audio": c.audio_out, "vision": c.vision_out}
        inners = {"audio": c.audio_inner, "vision": c.vision_inner}
        self.sizes = [k if m in c.encoded else outs.get(m, c.other_out) for m, k in shape.dims.items()]
        self.recurrent = nn.ModuleDict()
        self.shrink = nn.ModuleDict()
        for (m, k), h in zip(shape.dims.items(), self.sizes):
            if m not in c.encoded:
                state = states.get(m, c.other_state)
                self.recurrent[m] = LSTM(k, state)
                self.shrink[m] = nn.Linear(state, h) if state != h else nn.Identity()
        self.project = nn.ModuleList(nn.Linear(h, d, bias=False) if h != d else nn.Identity() for h in self.sizes)
        self.unit = Unit(d, c.heads, c.expansion)
        self.pool_hidden, self.pool_score = nn.Linear(n * d, n * d), nn.Linear(n * d, 1)
        self.attract = nn.ModuleDict(
            {
                m: Attraction(h, c.encoded_inner if m in c.encoded else inners.get(m, c.other_inner))
                for m, h in zip(shape.modalities, self.sizes)
            }
        )
        self.attract_tokens = Attraction(n * d, c.token_inner)
        self.rebuild = nn.ModuleList(nn.Linear(d, k) for k in shape.dims.values())
        self.post = nn.ModuleList([nn.Linear(sum(self.sizes) + n * d, c.post_hidden)])
        self.post.append(nn.Linear(c.post_hidden, c.post_hidden))
        self.post.append(nn.Linear(c.post_hidden, shape.task.outputs))

    def view(self, batch: Batch, noise: Noise) -> Batch:
        """Return the incomplete view of a training batch."""
        rate = drawn_rate(batch, noise, self.config.hide_rate, self.config.rate_per_sample)
        return hide_steps(batch, noise, dict.fromkeys(batch.modalities, rate), self.config.ends)

    def _after_token(self, x: Tensor) -> Tensor:
        """Return x (B, T, ...) without the first step, which is the sentence vector, if there is more than one."""
        return x[:, 1:] if self.config.first_token and x.shape[1] > 1 else x

    def _local(self, m: str, batch: Batch) -> Local:
        """Return a modality's sequence, vector and steps that may be attended to."""
        c, valid = self.config, batch.valid(m)
        seen = valid if c.read_missing else batch.observed[m]
        x = batch.features[m] if c.read_missing else hide(batch.features[m], seen)
        if m in c.encoded:
            if not c.first_token:
                return Local(x, masked_mean(x, seen), seen)
            steps = self._after_token(x)
            words = (batch.lengths[m] - 2).clamp(min=1).unsqueeze(-1)
            counted = torch.arange(steps.shape[1], device=x.device) < words
            if not c.read_missing:
                counted = counted & self._after_token(seen)
            return Local(steps, x[:, 0], counted)
        h, last = self.recurrent[m](x, seen)
        return Local(self.shrink[m](hide(h, valid)), self.shrink[m](last), seen)

    def _promote(
        self, tokens: Tensor, x: list[Tensor], masks: list[Tensor], noise: Noise, rebuild: int
    ) -> Sequence[Tensor]:
        """Return G (B, M, d) and the local features of the last `rebuild` rows, all modalities' steps in one tensor."""
        c, unit, n = self.config, self.unit, len(x)
        p, q_ff = c.attention_dropout, c.network_dropout
        lengths = [v.shape[1] for v in x]
        steps = torch.cat(x, 1)  # (B, sum of T', d)
        for layer in range(c.layers):
            old, context = steps, tokens
            # global <- local: the same queries to each modality, then a unit for every one
            q = unit.across.queries(tokens)
            kv = unit.across.memory(old).split(lengths, 1)
            mixed = torch.cat([unit.across.mix(q, one, mask, noise, p) for one, mask in zip(kv, masks)])  # (M B, M, d)
            g = tokens.repeat(n, 1, 1) + unit.across.out(mixed)
            own = unit.within
            g = g + own.out(own.mix(own.queries(g), own.memory(g), None, noise, p))
            g = unit.network(g, noise, q_ff).unflatten(0, (n, -1)).transpose(0, 1).flatten(2)  # (B, M, M d)
            score = self.pool_score(torch.tanh(self.pool_hidden(g))).softmax(1)
            tokens = (score * g).sum(1).unflatten(-1, (n, -1))
            # local <- global
            rows = slice(None)
            if layer == c.layers - 1:
                if not rebuild:
                    break
                rows = slice(len(old) - rebuild, None)
            old, context = old[rows], context[rows]
            mixed = unit.across.mix(unit.across.queries(old), unit.across.memory(context), None, noise, p)
            steps = old + unit.across.out(mixed)
            q_all = own.queries(steps).split(lengths, 1)
            kv_all = own.memory(steps).split(lengths, 1)
            parts = [own.mix(a, b, mask[rows], noise, p) for a, b, mask in zip(q_all, kv_all, masks)]
            steps = unit.network(steps + own.out(torch.cat(parts, 1)), noise, q_ff)
        return tokens, steps

    def forward(self, batch: Batch, noise: Noise) -> EMTOutput:
        c, names = self.config, self.shape.modalities
        both, view = batch, batch
        if noise.training:
            view = self.view(batch, noise)
            both = joined(batch, view)
        local = {m: self._local(m, both) for m in names}
        vectors = [one.vector for one in local.values()]
        tokens = torch.stack([p(v) for p, v in zip(self.project, vectors)], 1)
        x = [p(one.steps) for p, one in zip(self.project, local.values())]
        x = [v + interleaved_sinusoids(v.shape[1], c.width, v) for v in x]
        rows = len(batch) if noise.training else 0
        masks = [one.mask for one in local.values()]
        tokens, steps = self._promote(tokens, x, masks, noise, rows)
        h = torch.cat([*vectors, tokens.flatten(1)], -1)
        h = F.relu(self.post[0](noise.dropout(h, c.post_dropout)))
        y = as_prediction(self.shape.task, self.post[2](F.relu(self.post[1](h))))
        if not noise.training:
            return EMTOutput(y, tokens, dict(zip(names, vectors)), None, {}, {})
        rebuilt = {}
        for m, layer, part in zip(names, self.rebuild, steps.split([v.shape[1] for v in x], 1)):
            target, removed = batch.features[m], batch.observed[m] & ~view.observed[m]
            if m in c.encoded:
                target, removed = self._after_token(target), self._after_token(removed)
            rebuilt[m] = (layer(part), target.detach(), removed)
        pairs = {}
        named = {**dict(zip(names, vectors)), "tokens": tokens.flatten(1)}
        for k, v in named.items():
            attraction = self.attract_tokens if k == "tokens" else self.attract[k]
            (p, z), (p_view, z_view) = (attraction(half) for half in v.chunk(2))
            pairs[k] = (p, z, p_view, z_view)
        half = {m: v[rows:] for m, v in zip(names, vectors)}
        return EMTOutput(y[rows:], tokens[rows:], half, y[:rows], rebuilt, pairs)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        """Return "task", "complete" (the complete view's task), "attraction" and "reconstruction"."""
        assert isinstance(output, EMTOutput)
        terms = {"task": task_loss(self.shape.task, output.prediction, batch.target)}
        if output.complete is not None:
            terms["complete"] = task_loss(self.shape.task, output.complete, batch.target)
            terms["attraction"] = -torch.stack(
                [
                    (F.cosine_similarity(p_view, z, 1).mean() + F.cosine_similarity(p, z_view, 1).mean()) / 2
                    for p, z, p_view, z_view in output.pairs.values()
                ]
            ).sum()
            terms["reconstruction"] = torch.stack([smooth_l1_at(*one, EPS) for one in output.rebuilt.values()]).sum()
        return terms, {}

    def weights(self, progress: Progress) -> Mapping[str, float]:
        c = self.config
        return {
            "complete": c.attraction_weight,
            "attraction": c.attraction_weight,
            "reconstruction": c.reconstruction_weight,
        }


CLEAN = Config()
AUTHOR = replace(
    CLEAN, attention_dropout=0.3, hide_rate=0.2, rate_per_sample=False, read_missing=True, first_token=True
)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
