"""Affect-Diff: a variational fusion gated by a graph over modalities, and a diffusion prior [affectdiff].

| symbol | name | shape |
|---|---|---|
| X^m | `batch.features[m]`, padded with zeros to the longest modality | (B, L, D_m) |
| h^m | encodings of the modalities' steps | (B, L, H) |
| A | `graph`, A[i, j] the edge i -> j | (B, M, M) |
| w | `gate`, softmax of A's column sums: what arrives at each modality | (B, M) |
| F | fused steps | (B, L, H) |
| mu, log sigma^2 | `mu`, `logvar` | (B, L, d_z) |
| z | `z` = mu + sigma eps in training, mu in evaluation | (B, L, d_z) |
| h(A) | acyclicity of A, `affectcore.nn.acyclicity` | () |
| eps_theta | `unet`, predicts the noise in z_t from time, class and column sums | (B, d_z, L) |

Losses: "task" (focal cross-entropy, or the task's own loss), "kl", "causal" (h(A) + sparsity), "diffusion", and where
switched on "reconstruction", "replay", "fit". Any number of modalities of any lengths, "text" by a linear map, the
others by a convolution. The prior is never read by the classifier unless `prior`, `replay` or `inference` says so.

Differences from the paper's text, each with its switch. Presets: `author` = the published code, `paper` = the text,
`clean` = masks instead of padding and the choices that the evidence supports.
1. `heads`: text 4, code 8.   2. `pooling`: text attention alone, code the average of that and the mean.
3. `classifier_layers`, `classifier_dropout`: text 2 and 0.3, code 3 and 0.4.
4. `unet_width`: text 128 (14.7 M parameters, against its own count), code 64.
5. `condition`: text the gate w, code the raw column sums, clipped to [0, 5] and detached.
6. `sparsity`: the code adds 0.1 mean |A| to the causal loss.
7. `free_bits`: text 0.25, logged runs 0.   8. `kl_schedule`: text linear over 30 epochs, code cycles of 20.
9. `diffusion_start`: text 0 in one place, 9 in another; code 9.
10. `focal`: the code takes the focal factor from the weighted, smoothed loss ("loss"), which boosts rare classes twice;
"probability" takes it from the probability of the class (Lin et al. 2017).
11. `class_weights`: the code uses sqrt(n_max / n_c), at most 8, which the text does not mention. They depend on the
data, so no preset has them: pass `class_weights=root_weights(counts)`.
Quirks of the published code, on in `author`, off in `clean`:
12. `padded` (in `paper` too): no mask anywhere; padding is encoded, averaged, normalised over and pooled.
13. `shared_noise`: the prior's draws displace the classifier's, so that the same seed gives other noise without
a prior. Off: they come last in the step's pool. With this off and gradients clipped per part
(`Recipe.clip_prefixes=(("unet", 1.0),)`) a stopped prior leaves the classifier the same bit for bit.
14. `unread_gate`: 24,835 parameters that nothing reads.   15. `copied_layers`: all layers of an encoder start equal.
16. `sampling`: times 980, 960 ... 0, and the sample keeps the noise of time 0; clean goes from 999 to the data.
17. `gumbel_in_evaluation`: the gate "gumbel" draws in evaluation too.
18. `attention_dropout`: 0.3 as elsewhere; clean draws none there, for time.
19. `denoiser` "mlp" is in neither: for features pooled over time, where a U-Net over time has nothing to see.
Without a switch: half precision, replacing NaN by 0 and falling back to the task loss are left out (the training loop
names what is not finite); the temperature of "gumbel" lags one step behind the epoch; a sequence of fewer than 4 steps
is padded to 4 inside the U-Net; the U-Net sees the padded length (its loss and its input's values do not).
The published code cannot take modalities of unequal length; here all are padded to the longest, as its loader does.

On the same weights and draws `author` and the published code (public state of 30 April 2026, published shape, gates
"graph" and "gumbel", decoder on) differ in float64 by at most 1e-15 in logits and in each loss, 2e-15 in any gradient,
5e-13 in DDIM samples of size 12; in float32 by 5e-7, 2e-7, 9e-7 and 4e-4.
Parameters at the published shape: 1,473,353 without prior, 5,194,953 with it, 8,916,553 with its moving average.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, cast, get_args, get_origin, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn import diffusion
from affectcore.nn.acyclicity import Penalty, acyclicity, augmented, multipliers
from affectcore.nn.attention import MultiheadAttention, masked_softmax
from affectcore.nn.average import follow, frozen_copy
from affectcore.nn.losses import as_prediction, task_loss
from affectcore.nn.pooling import hide, masked_mean

GROUPS = 8  # of every group norm
Z_BOUND, LOGVAR_BOUNDS, X0_BOUND, SCORE_BOUND, INPUT_BOUND = 10.0, (-10.0, 5.0), 12.0, 20.0, 10.0  # of the code

Gates = Literal["none", "uniform", "softmax", "mlp", "attention", "graph", "gumbel", "lagrangian"]
GATES: tuple[str, ...] = get_args(Gates)
Penalties = Literal[Penalty, "none"]
PENALISED = ("graph", "gumbel", "lagrangian")


@dataclass(frozen=True)
class Config:
    # encoders
    width: int = 128  # H, a multiple of 8 and of `heads`
    heads: int = 8  # difference 1
    layers: int = 2  # of every encoder
    kernel_audio: int = 5  # odd; of the convolution of "audio"
    kernel: int = 3  # odd; of the other modalities but "text"
    dropout: float = 0.3  # of the encoders
    attention_dropout: float = 0.0  # difference 18
    padded: bool = False  # difference 12
    copied_layers: bool = False  # difference 15
    # augmentation, in training alone
    frame_mask: float = 0.1  # share of steps hidden, per sample, step and modality
    feature_noise: float = 0.01  # deviation of noise on all modalities but text
    modality_dropout: float = 0.1  # share of modalities hidden, per sample
    # gate: none; uniform 1/M; softmax of M numbers; mlp on the pooled encodings; attention among them (softmax rows);
    # graph: sigmoid edges; gumbel: Gumbel-softmax rows; lagrangian: one graph for all samples, see `Gate`
    gate: Gates = "graph"
    gate_scaled: bool = False  # the gate times M, so that a uniform one changes no scale
    strength: Literal["in", "out"] = "in"  # column sums of A (what arrives) or row sums (what leaves)
    penalty: Penalties = "exponential"  # h of the causal loss; none: gate "graph" with its sparsity alone
    sparsity: float = 0.1  # difference 6
    causal_weight: float = 0.05  # lambda_c
    fit_weight: float = 1.0  # of "fit", gate "lagrangian" alone
    lagrangian_steps: int = 50  # optimiser steps between updates of the multipliers
    lagrangian_most: float = 1e6  # bound of rho
    gumbel_in_evaluation: bool = False  # difference 17
    unread_gate: bool = False  # difference 14
    # latent
    latent: int = 128  # d_z, a multiple of 2
    sampled: bool = True  # z = mu + sigma eps in training; off: z = mu
    kl_weight: float = 0.1  # beta; 0 leaves the term out
    free_bits: float = 0.0  # difference 7; nats per dimension that cost nothing
    kl_schedule: Literal["cyclic", "linear", "constant"] = "cyclic"  # difference 8
    kl_epochs: int = 20  # length of a cycle, whose first half rises, or of the linear rise
    kl_class_scale: tuple[float, ...] = ()  # factor on a sample's KL by its class, () for 1; single_label alone
    pooling: Literal["both", "attention"] = "both"  # difference 2
    decoder: bool = False  # reconstruct the features from z
    reconstruction_weight: float = 0.5  # lambda_r, rises over 20 epochs
    decoder_dropout: float = 0.1
    # classifier
    classifier_layers: int = 3  # difference 3; 2 or 3
    classifier_dropout: float = 0.4  # difference 3
    label_smoothing: float = 0.1  # single_label alone, as the next three
    focal: Literal["probability", "loss", "none"] = "probability"  # difference 10
    focal_gamma: float = 2.0
    class_weights: tuple[float, ...] = ()  # difference 11
    # prior: off; stop: z is detached, the prior learns alone; joint: its loss reaches the encoders
    prior: Literal["off", "stop", "joint"] = "stop"
    diffusion_weight: float = 0.05  # lambda_d
    diffusion_start: int = 9  # difference 9; epoch from which the weight rises ...
    diffusion_epochs: int = 20  # ... over so many
    diffusion_steps: int = 1000  # T, cosine schedule
    denoiser: Literal["unet", "mlp"] = "unet"  # mlp: each step alone, a variant for pooled features, in no source
    unet_width: int = 64  # difference 4; a multiple of 8
    condition: Literal["sums", "gate", "ones"] = "sums"  # difference 5; ones where the gate has no graph
    label_dropout: float = 0.2  # share of labels hidden from the prior, for guidance; 0: no guidance
    ema_decay: float | None = 0.999  # of the copy of the U-Net that samples; None: the U-Net itself samples
    guidance: float = 3.0  # s; 1 is none
    sampling_steps: int = 50  # DDIM
    sampling: Literal["trailing", "leading"] = "trailing"  # difference 16
    shared_noise: bool = False  # difference 13
    # priors that act
    replay: int = 0  # latents sampled per step, classes in turn, that train the classifier as well; single_label alone
    replay_weight: float = 0.1  # from the epoch on in which the diffusion weight is full
    inference: Literal["classifier", "prior", "both"] = "classifier"  # who predicts in evaluation
    ratio_draws: int = 8  # noise levels at which the prior compares classes
    ratio_scale: float = 1.0  # of its log odds


@dataclass(frozen=True)
class Draws:
    """What the prior drew: level (B,) in [0, 1), eps (B, d_z, L), hidden (B,) in [0, 1), start (n, d_z, L) or None."""

    level: Tensor
    eps: Tensor
    hidden: Tensor
    start: Tensor | None


@dataclass(frozen=True)
class AffectDiffOutput(Output):
    """mu, logvar, z: (B, L, d_z); seen: (B, L) or None (every step counts); gate: (B, M); graph: (B, M, M) or None;
    nodes: (B, M, H), the means of the encodings; strengths: (B, M), what conditions the prior; pooled: (B, d_z);
    reconstruction: (B, L, D_m) each or None; draws: in training with a prior; replay: logits (n, C) of sampled latents.
    """

    mu: Tensor
    logvar: Tensor
    z: Tensor
    seen: Tensor | None
    gate: Tensor
    graph: Tensor | None
    nodes: Tensor
    strengths: Tensor
    pooled: Tensor
    reconstruction: tuple[Tensor, ...] | None
    draws: Draws | None
    replay: Tensor | None


def root_weights(counts: Sequence[float], most: float = 8.0) -> tuple[float, ...]:
    """Return the class weights of the published code, sqrt(n_max / n_c), at most `most`."""
    return tuple(min((max(counts) / n) ** 0.5, most) for n in counts)


# --- encoders --------------------------------------------------------------------------------------------------------


class GroupNorm(nn.GroupNorm):
    """Group norm of (B, C, T); with a mask (B, T) the statistics are those of the observed steps."""

    def __init__(self, features: int) -> None:
        super().__init__(GROUPS, features)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            return super().forward(x)
        g, m = x.unflatten(-2, (GROUPS, -1)), mask.unsqueeze(-2).unsqueeze(-2).to(x.dtype)  # (B, G, C / G, T)
        n = (m.sum((-2, -1), keepdim=True) * g.shape[-2]).clamp(min=1)
        mean = (g * m).sum((-2, -1), keepdim=True) / n
        variance = ((g - mean).square() * m).sum((-2, -1), keepdim=True) / n
        y = ((g - mean) * torch.rsqrt(variance + self.eps)).flatten(-3, -2)
        return y * self.weight.unsqueeze(-1) + self.bias.unsqueeze(-1)


def positions(steps: int, like: Tensor) -> Tensor:
    """Return (steps, F): sin and cos of p 10000^(-2i / F) in turn, p from 0 (Vaswani et al. 2017), F = like's last."""
    features = like.shape[-1]
    p, i = torch.arange(steps, device=like.device), torch.arange(0, features, 2, device=like.device)
    angle = p.unsqueeze(1) * 10000.0 ** (-i.to(torch.float64) / features)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)[:, :features].to(like.dtype)


class Layer(nn.Module):
    """Pre-norm self-attention and a network of four times the width: (B, T, H) to (B, T, H)."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.attention = MultiheadAttention(features, heads)
        self.up, self.down = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)
        self.norm_attention, self.norm_network = nn.LayerNorm(features), nn.LayerNorm(features)

    def forward(self, x: Tensor, mask: Tensor | None, noise: Noise, p: float, p_attention: float) -> Tensor:
        y = self.norm_attention(x)
        x = x + noise.dropout(self.attention(y, y, mask, noise, p_attention), p)
        y = noise.dropout(F.gelu(self.up(self.norm_network(x))), p)
        return x + noise.dropout(self.down(y), p)


class Encoder(nn.Module):
    """One modality: (B, L, D) and the observed steps (B, L) or None to (B, L, H)."""

    def __init__(self, features: int, kernel: int, config: Config) -> None:
        super().__init__()
        self.config, h = config, config.width
        self.project: nn.Module
        self.norm: nn.Module
        if kernel:
            self.project, self.norm = nn.Conv1d(features, h, kernel, padding=kernel // 2), GroupNorm(h)
        else:
            self.project, self.norm = nn.Linear(features, h), nn.LayerNorm(h)
        self.layers = nn.ModuleList(Layer(h, config.heads) for _ in range(config.layers))
        if config.copied_layers:
            for layer in self.layers:
                layer.load_state_dict(self.layers[0].state_dict())
        self.last = nn.LayerNorm(h)

    def forward(self, x: Tensor, mask: Tensor | None, noise: Noise) -> Tensor:
        p = self.config.dropout
        if isinstance(self.project, nn.Conv1d):
            h = self.project(x.transpose(-1, -2))
            h = self.norm(h, mask).transpose(-1, -2)
        else:
            h = self.norm(self.project(x))
        h = noise.dropout(F.gelu(h), p)
        h = noise.dropout(h + positions(h.shape[-2], h), p)
        for layer in self.layers:
            h = layer(h, mask, noise, p, self.config.attention_dropout)
        h = self.last(h)
        return h if mask is None else hide(h, mask)


# --- gate ------------------------------------------------------------------------------------------------------------


class Gate(nn.Module):
    """How much of each modality passes: nodes (B, M, H) to w (B, M) and, where there is one, the graph (B, M, M).

    "lagrangian" learns the graph that NOTEARS means: one W for all samples, zero diagonal, whose edges predict every
    node from its parents by least squares ("fit"), under alpha h(W) + rho h(W)^2 / 2; w is the softmax of |W|'s sums.
    """

    temperature: Tensor
    h_best: Tensor
    alpha: Tensor
    rho: Tensor

    def __init__(self, config: Config, modalities: int) -> None:
        super().__init__()
        self.config, h, kind = config, config.width, config.gate
        if kind == "mlp" or config.unread_gate:
            half = max(h // 2, 1)
            self.network = nn.Sequential(nn.Linear(modalities * h, half), nn.GELU(), nn.Linear(half, modalities))
        if kind in ("attention", "graph", "gumbel"):
            self.query, self.key = nn.Linear(h, h), nn.Linear(h, h)
        if kind == "softmax":
            self.scores = nn.Parameter(torch.zeros(modalities))
        if kind == "gumbel":
            self.register_buffer("temperature", torch.tensor(1.0))
        if kind == "lagrangian":
            self.edges = nn.Parameter(torch.zeros(modalities, modalities))
            for name, start in (("h_best", 1e30), ("alpha", 0.0), ("rho", 1.0)):
                self.register_buffer(name, torch.tensor(start))

    def forward(self, nodes: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None]:
        kind, graph = self.config.gate, self._graph(nodes, noise)
        if kind == "none":
            return torch.ones_like(nodes[..., 0]), None
        if kind == "uniform":
            w = torch.full_like(nodes[..., 0], 1 / nodes.shape[-2])
        elif kind == "softmax":
            w = self.scores.softmax(-1).expand(nodes.shape[:-1])
        elif kind == "mlp":
            w = self.network(nodes.flatten(-2)).softmax(-1)
        elif kind == "attention":
            w = self.sums(cast(Tensor, graph)) / nodes.shape[-2]
        else:
            w = self.sums(cast(Tensor, graph).abs()).softmax(-1)
        return (w * nodes.shape[-2] if self.config.gate_scaled else w), graph

    def sums(self, graph: Tensor) -> Tensor:
        """Return the strength (B, M) of every node: what arrives there, or what leaves."""
        return graph.sum(-2 if self.config.strength == "in" else -1)

    def _graph(self, nodes: Tensor, noise: Noise) -> Tensor | None:
        kind, m = self.config.gate, nodes.shape[-2]
        apart = 1 - torch.eye(m, dtype=nodes.dtype, device=nodes.device)
        if kind == "lagrangian":
            return (self.edges * apart).expand(*nodes.shape[:-2], m, m)
        if kind not in ("attention", "graph", "gumbel"):
            return None
        s = self.query(nodes) @ self.key(nodes).transpose(-1, -2) / nodes.shape[-1] ** 0.5
        s = s.clamp(-SCORE_BOUND, SCORE_BOUND)
        if kind == "attention":
            return s.softmax(-1)
        if kind == "graph":
            return s.sigmoid() * apart
        if noise.training or self.config.gumbel_in_evaluation:
            u = noise.uniform(*s.shape) + 2.0**-25
            s = s - torch.log(-torch.log(u))
        return (s / self.temperature).softmax(-1) * apart


# --- prior -----------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """Convolution, group norm, SiLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.project, self.norm = nn.Conv1d(inputs, outputs, 3, padding=1), GroupNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(self.project(x)))


class Residual(nn.Module):
    """Two blocks, the condition (B, C) added between them, and a residual."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.condition = nn.Linear(condition, outputs)
        self.first, self.second = Block(inputs, outputs), Block(outputs, outputs)
        self.shortcut = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.first(x) + self.condition(F.silu(condition)).unsqueeze(-1)
        out: Tensor = self.second(h) + self.shortcut(x)
        return out


class Stage(nn.Module):
    """Two residual blocks and a change of length."""

    def __init__(self, inputs: int, outputs: int, condition: int, change: nn.Module) -> None:
        super().__init__()
        self.first, self.second = Residual(inputs, outputs, condition), Residual(inputs, outputs, condition)
        self.change = change


def joined(x: Tensor, skip: Tensor) -> Tensor:
    """Return x and skip side by side in channels, the shorter one padded with zeros at the end."""
    n = max(x.shape[-1], skip.shape[-1])
    return torch.cat([F.pad(x, (0, n - x.shape[-1])), F.pad(skip, (0, n - skip.shape[-1]))], -2)


class Condition(nn.Module):
    """What the denoiser is told: time t (B,), label weights (B, C + 1), strengths (B, M) to one vector (B, 4 base)."""

    def __init__(self, base: int, classes: int, modalities: int) -> None:
        super().__init__()
        wide = 4 * base
        self.time_in, self.time_out = nn.Linear(base, wide), nn.Linear(wide, wide)
        self.labels = nn.Embedding(classes + 1, wide)
        self.strength_in, self.strength_out = nn.Linear(modalities, wide // 2), nn.Linear(wide // 2, wide)

    def forward(self, t: Tensor, labels: Tensor, strengths: Tensor) -> Tensor:
        c = diffusion.timestep_embedding(t.to(labels.dtype), self.time_in.in_features)
        c = self.time_out(F.gelu(self.time_in(c)))
        out: Tensor = c + labels @ self.labels.weight + self.strength_out(F.silu(self.strength_in(strengths)))
        return out


class StepDenoiser(nn.Module):
    """The U-Net's stand-in for latents of a single step: same shapes, same condition, two residual layers a step."""

    def __init__(self, latent: int, base: int, classes: int, modalities: int) -> None:
        super().__init__()
        wide = 4 * base
        self.start, self.condition = nn.Linear(latent, wide), Condition(base, classes, modalities)
        self.norms = nn.ModuleList(nn.LayerNorm(wide) for _ in range(2))
        self.shifts = nn.ModuleList(nn.Linear(wide, wide) for _ in range(2))
        self.layers = nn.ModuleList(nn.Linear(wide, wide) for _ in range(2))
        self.out = nn.Linear(wide, latent)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor, strengths: Tensor) -> Tensor:
        c = F.silu(self.condition(t, labels, strengths)).unsqueeze(-2)
        h = self.start(x.transpose(-1, -2))  # (B, L, 4 base)
        for norm, shift, layer in zip(self.norms, self.shifts, self.layers):
            h = h + layer(F.silu(norm(h) + shift(c)))
        return self.out(h).transpose(-1, -2)


class UNet(nn.Module):
    """The noise in z_t (B, d_z, L), from time t (B,), label weights (B, C + 1) and strengths (B, M): (B, d_z, L).

    Widths b, b, 2b, 4b; 50 steps become 25, 12 and 12. Label weights: one-hot; the last column is "no label".
    """

    def __init__(self, latent: int, base: int, classes: int, modalities: int) -> None:
        super().__init__()
        widths, wide = (base, base, 2 * base, 4 * base), 4 * base
        self.start = nn.Conv1d(latent, base, 7, padding=3)
        self.condition = Condition(base, classes, modalities)
        pairs = list(pairwise(widths))

        def down(i: int, o: int) -> nn.Module:
            return nn.Conv1d(i, o, 4, 2, 1) if o != widths[-1] else nn.Conv1d(i, o, 3, padding=1)

        def up(i: int, o: int, last: bool) -> nn.Module:
            return nn.Conv1d(o, i, 3, padding=1) if last else nn.ConvTranspose1d(o, i, 4, 2, 1)

        self.down = nn.ModuleList(Stage(i, i, wide, down(i, o)) for i, o in pairs)
        self.middle = nn.ModuleList(Residual(wide, wide, wide) for _ in range(2))
        self.up = nn.ModuleList(Stage(i + o, o, wide, up(i, o, k == 0)) for k, (i, o) in reversed([*enumerate(pairs)]))
        self.last = Residual(2 * base, base, wide)
        self.out = nn.Conv1d(base, latent, 1)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor, strengths: Tensor) -> Tensor:
        c, steps = self.condition(t, labels, strengths), x.shape[-1]
        x = self.start(F.pad(x, (0, max(0, 4 - steps))))  # two halvings need four steps
        first, skips = x, []
        for stage in cast(list[Stage], self.down):
            skips.append(stage.first(x, c))
            skips.append(stage.second(skips[-1], c))
            x = stage.change(skips[-1])
        for block in self.middle:
            x = block(x, c)
        for stage in cast(list[Stage], self.up):
            x = stage.first(joined(x, skips.pop()), c)
            x = stage.change(stage.second(joined(x, skips.pop()), c))
        out: Tensor = self.out(self.last(joined(x, first), c))
        return out[..., :steps]


# --- model -----------------------------------------------------------------------------------------------------------


class AffectDiff(AffectModel):
    bars: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        _check(config, shape)
        names, h, d, c = shape.modalities, config.width, config.latent, shape.task.outputs
        self.pool_query = nn.Parameter(torch.randn(1, d))
        kernels = [0 if m == "text" else config.kernel_audio if m == "audio" else config.kernel for m in names]
        self.encoders = nn.ModuleList(Encoder(n, k, config) for n, k in zip(shape.dims.values(), kernels))
        self.gate = Gate(config, len(names))
        self.fuse_in, self.fuse_norm, self.fuse_out = nn.Linear(len(names) * h, h), nn.LayerNorm(h), nn.Linear(h, h)
        self.mu, self.logvar = nn.Linear(h, d), nn.Linear(h, d)
        widths = [d, d, max(d // 2, 1)][: config.classifier_layers]
        self.hidden = nn.ModuleList(
            nn.Sequential(nn.Linear(i, o), nn.LayerNorm(o), nn.GELU()) for i, o in pairwise(widths)
        )
        self.head = nn.Linear(widths[-1], c)
        if config.prior != "off":  # after the classifier: with and without prior it starts from the same weights
            kind = UNet if config.denoiser == "unet" else StepDenoiser
            self.unet: UNet | StepDenoiser = kind(d, config.unet_width, c, len(names))
            betas = diffusion.cosine_betas(config.diffusion_steps, low=1e-4, high=0.9999)
            self.register_buffer("bars", diffusion.alpha_bars(betas).to(self.pool_query.dtype), persistent=False)
            if config.ema_decay is not None:
                self.average = frozen_copy(self.unet)
        if config.decoder:
            self.decoders = nn.ModuleList(
                nn.ModuleList([nn.Sequential(nn.Linear(d, h), nn.LayerNorm(h), nn.GELU()), nn.Linear(h, n)])
                for n in shape.dims.values()
            )

    # --- forward

    def forward(self, batch: Batch, noise: Noise) -> AffectDiffOutput:
        config = self.config
        draws = self._draw(batch, noise) if config.shared_noise else None
        x, masks = self._inputs(batch, noise)  # (B, L, D_m) and (B, L) or None
        h = [encode(v, mask, noise) for encode, v, mask in zip(self.encoders, x, masks)]  # (B, L, H)
        nodes = torch.stack([_mean(v, mask) for v, mask in zip(h, masks)], -2)  # (B, M, H)
        gate, graph = self.gate(nodes, noise)
        w = gate.unsqueeze(-1).unsqueeze(-1).unbind(-3)
        fused = self.fuse_norm(self.fuse_in(torch.cat([v * g for v, g in zip(h, w)], -1)))
        fused = self.fuse_out(F.gelu(fused))  # (B, L, H)
        seen = None if config.padded else torch.stack([m for m in masks if m is not None]).any(0)
        mu, logvar = self.mu(fused), self.logvar(fused).clamp(*LOGVAR_BOUNDS)  # (B, L, d_z)
        z = mu
        if config.sampled and noise.training:
            z = mu + noise.normal(*mu.shape) * torch.exp(0.5 * logvar)
        z = z.clamp(-Z_BOUND, Z_BOUND)
        z = z if seen is None else hide(z, seen)
        pooled = self.pool(z, seen)
        logits = self.classify(pooled, noise)
        strengths = self._strengths(gate, graph)
        if not config.shared_noise:
            draws = self._draw(batch, noise)
        replay = None if draws is None or draws.start is None else self._replay(draws.start, strengths, noise)
        if config.inference != "classifier" and not noise.training:
            logits = self._by_prior(logits, z, seen, strengths, noise)
        prediction = as_prediction(self.shape.task, logits)
        return AffectDiffOutput(
            prediction,
            mu,
            logvar,
            z,
            seen,
            gate,
            graph,
            nodes,
            strengths,
            pooled,
            self._decode(z, noise),
            draws,
            replay,
        )

    def _inputs(self, batch: Batch, noise: Noise) -> tuple[list[Tensor], list[Tensor | None]]:
        """Return features and masks of equal length, augmented in training."""
        config, steps = self.config, max(x.shape[-2] for x in batch.features.values())
        xs: list[Tensor] = []
        masks: list[Tensor | None] = []
        for m, x in batch.features.items():
            room = steps - x.shape[-2]
            x, seen = F.pad(x, (0, 0, 0, room)), F.pad(batch.observed[m], (0, room))
            if not config.padded:
                x = hide(x, seen)
            if noise.training:
                frames = noise.uniform(*seen.shape) >= config.frame_mask
                x = hide(x, frames)
                if m != "text" and config.feature_noise > 0:
                    x = x + config.feature_noise * noise.normal(*x.shape)
                kept = (noise.uniform(seen.shape[-2], 1) >= config.modality_dropout).expand(seen.shape)
                seen = seen & frames & kept
                x = hide(x, kept if config.padded else seen)
            xs.append(x)
            masks.append(None if config.padded else seen)
        return xs, masks

    def pool(self, z: Tensor, seen: Tensor | None) -> Tensor:
        """Return the vector (B, d_z) of z (B, L, d_z): attention pooling, averaged with the mean if so configured."""
        scores = (z @ self.pool_query.transpose(-1, -2)).squeeze(-1) / z.shape[-1] ** 0.5  # (B, L)
        weights = scores.softmax(-1) if seen is None else masked_softmax(scores, seen)
        attended = (weights.unsqueeze(-2) @ z).squeeze(-2)
        return attended if self.config.pooling == "attention" else (_mean(z, seen) + attended) * 0.5

    def classify(self, pooled: Tensor, noise: Noise) -> Tensor:
        """Return the outputs (B, C) of pooled latents."""
        for block in self.hidden:
            pooled = noise.dropout(block(pooled), self.config.classifier_dropout)
        out: Tensor = self.head(pooled)
        return out

    def _decode(self, z: Tensor, noise: Noise) -> tuple[Tensor, ...] | None:
        if not self.config.decoder:
            return None
        parts = [cast(nn.ModuleList, d) for d in self.decoders]
        return tuple(last(noise.dropout(first(z), self.config.decoder_dropout)) for first, last in parts)

    # --- the prior

    def _draw(self, batch: Batch, noise: Noise) -> Draws | None:
        if self.config.prior == "off" or not noise.training:
            return None
        n, d, steps = len(batch), self.config.latent, max(x.shape[-2] for x in batch.features.values())
        level, eps, hidden = noise.uniform(n), noise.normal(n, d, steps), noise.uniform(n)
        return Draws(level, eps, hidden, noise.normal(self.config.replay, d, steps) if self.config.replay else None)

    def _strengths(self, gate: Tensor, graph: Tensor | None) -> Tensor:
        """Return what the prior is told of the modalities (B, M); no gradient passes."""
        if self.config.condition == "gate":
            return gate.detach()
        if self.config.condition == "ones" or graph is None:
            return torch.ones_like(gate)
        return self.gate.sums(graph).clamp(0, 5).detach()

    def labels(self, target: Tensor, like: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return label weights (B, C + 1): one-hot, the labels' vector, or the score over its bound; last: no label."""
        task = self.shape.task
        if task.kind == "single_label":
            y = target.unsqueeze(-1) == torch.arange(task.outputs, device=target.device)
        else:
            y = target if task.kind == "multi_label" else (target / max(abs(task.low), abs(task.high))).unsqueeze(-1)
        y, none = F.pad(y.to(like.dtype), (0, 1)), F.pad(torch.zeros_like(y, dtype=like.dtype), (0, 1), value=1.0)
        return y if hidden is None else torch.where(hidden.unsqueeze(-1), none, y)

    def denoising_loss(self, z: Tensor, output: AffectDiffOutput, target: Tensor) -> Tensor:
        """Return the mean squared error of the predicted noise at latents z (B, L, d_z), over the steps that count."""
        draws = cast(Draws, output.draws)
        t = (draws.level * self.config.diffusion_steps).long().clamp(max=self.config.diffusion_steps - 1)
        z0 = z.transpose(-1, -2)
        alpha, sigma = diffusion.rates(self.bars, t, z0)
        mask = None if output.seen is None else output.seen.unsqueeze(-2).to(z.dtype)
        noisy = diffusion.noised(z0, draws.eps, alpha, sigma)
        hidden = draws.hidden < self.config.label_dropout
        said = self.unet(noisy if mask is None else noisy * mask, t, self.labels(target, z, hidden), output.strengths)
        error = (said - draws.eps).square().mean(-2)  # (B, L)
        return error.mean() if output.seen is None else _mean_over(error, output.seen)

    def sample(self, start: Tensor, target: Tensor, strengths: Tensor, guidance: float | None = None) -> Tensor:
        """Return latents (n, L, d_z) sampled by DDIM for labels `target` (n,) from normals `start` (n, d_z, L).

        strengths: (n, M). By the averaged U-Net if there is one. guidance None is the config's.
        """
        config, scale = self.config, self.config.guidance if guidance is None else guidance
        unet = self.unet if config.ema_decay is None else self.average
        y = self.labels(target, start)
        none = F.pad(torch.zeros_like(y[..., 1:]), (0, 1), value=1.0)

        def denoise(x: Tensor, time: int) -> tuple[Tensor, Tensor]:
            t = torch.full_like(x[:, 0, 0], time).long()
            said = unet(x, t, y, strengths)
            if scale != 1:
                said = diffusion.guided(said, unet(x, t, none, strengths), scale)
            bar = self.bars[time]
            return diffusion.estimates("eps", said, x, bar.sqrt(), (1 - bar).sqrt(), X0_BOUND)

        times = diffusion.spacing(config.diffusion_steps, config.sampling_steps, config.sampling)
        with torch.no_grad():
            z = diffusion.ddim(start, denoise, self.bars, times, to_data=config.sampling == "trailing")
        return z.transpose(-1, -2)

    def replayed(self, like: Tensor) -> Tensor:
        """Return the labels (n,) of replayed latents: the classes in turn."""
        return torch.arange(self.config.replay, device=like.device) % self.shape.task.outputs

    def _replay(self, start: Tensor, strengths: Tensor, noise: Noise) -> Tensor:
        mean = strengths.mean(0).expand(len(start), -1)
        z = self.sample(start, self.replayed(start), mean).clamp(-Z_BOUND, Z_BOUND)
        return self.classify(self.pool(z, None), noise)

    def _by_prior(self, logits: Tensor, z: Tensor, seen: Tensor | None, strengths: Tensor, noise: Noise) -> Tensor:
        """Return log odds by which class explains the noise best: -scale times the error summed over features.

        Levels are spread evenly, and all samples and classes share the noise, so that neither order nor company counts.
        """
        config, n, x = self.config, self.config.ratio_draws, z.transpose(-1, -2)
        unet = self.unet if config.ema_decay is None else self.average
        mask = None if seen is None else seen.unsqueeze(-2).to(z.dtype)
        eps = noise.normal(n, *x.shape[1:])
        error = [torch.zeros_like(logits[:, 0]) for _ in range(logits.shape[-1])]
        for k in range(n):
            time = int((k + 0.5) / n * config.diffusion_steps)
            bar, t = self.bars[time], torch.full_like(z[:, 0, 0], time).long()
            noisy = diffusion.noised(x, eps[k], bar.sqrt(), (1 - bar).sqrt())
            for c in range(len(error)):
                y = self.labels(torch.full_like(t, c), z)
                wrong = (unet(noisy if mask is None else noisy * mask, t, y, strengths) - eps[k]).square()
                error[c] = error[c] + _mean(wrong.transpose(-1, -2), seen).sum(-1) / n
        by_prior = (-config.ratio_scale * torch.stack(error, -1)).log_softmax(-1)
        return by_prior if config.inference == "prior" else by_prior + logits.log_softmax(-1)

    # --- losses

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        o, config = cast(AffectDiffOutput, output), self.config
        terms = {"task": self._task(o.prediction, batch.target)}
        memo: dict[str, Tensor] = {}
        if config.kl_weight > 0:
            terms["kl"] = self._kl(o, batch.target)
        if config.gate in PENALISED:
            terms |= self._causal(o, progress, memo)
        if config.decoder:
            terms["reconstruction"] = self._reconstruction(o, batch)
        if o.draws is not None:
            z = o.z.detach() if config.prior == "stop" else o.z
            terms["diffusion"] = self.denoising_loss(z, o, batch.target)
            if config.ema_decay is not None:
                memo["decay"] = torch.full_like(o.mu[0, 0, 0].detach(), config.ema_decay)
        if o.replay is not None:
            terms["replay"] = F.cross_entropy(o.replay, self.replayed(o.replay))
        return terms, memo

    def _task(self, prediction: Tensor, target: Tensor) -> Tensor:
        config, task = self.config, self.shape.task
        if task.kind != "single_label":
            return task_loss(task, prediction, target)
        log_p, y = prediction.log_softmax(-1), self.labels(target, prediction)[..., :-1]
        w = torch.ones_like(log_p[0]) if not config.class_weights else log_p.new_tensor(config.class_weights)
        s = config.label_smoothing
        ce = -(log_p * w * ((1 - s) * y + s / task.outputs)).sum(-1)  # (B,), torch's smoothed, weighted form
        if config.focal == "none":
            return ce.mean()
        p = torch.exp(-ce.detach()) if config.focal == "loss" else (log_p * y).sum(-1).exp()
        return ((1 - p) ** config.focal_gamma * ce).mean()

    def _kl(self, o: AffectDiffOutput, target: Tensor) -> Tensor:
        config = self.config
        kl = -0.5 * (1 + o.logvar - o.mu.square() - o.logvar.exp())  # (B, L, d_z)
        if config.free_bits > 0:
            kl = (kl - config.free_bits).clamp(min=0)
        kl = kl.sum(-1)
        if config.kl_class_scale:
            y = self.labels(target, kl)[..., :-1]
            kl = kl * (y @ kl.new_tensor(config.kl_class_scale)).unsqueeze(-1)
        return kl.mean() if o.seen is None else _mean_over(kl, o.seen)

    def _causal(self, o: AffectDiffOutput, progress: Progress, memo: dict[str, Tensor]) -> dict[str, Tensor]:
        config, graph = self.config, cast(Tensor, o.graph)
        if config.gate == "gumbel":
            memo["temperature"] = (torch.ones_like(graph[0, 0, 0].detach()) - 0.05 * progress.epoch).clamp(min=0.5)
            return {"causal": graph.abs().mean()}
        if config.gate == "graph":
            h = 0.0 if config.penalty == "none" else acyclicity(graph, config.penalty).mean()
            return {"causal": h + config.sparsity * graph.abs().mean()}
        w, x = graph[0], o.nodes.detach()  # one graph; node j is predicted as sum over i of W[i, j] x_i
        h = acyclicity(w, cast(Penalty, config.penalty))
        memo["h"] = h.detach()
        memo["due"] = torch.zeros_like(memo["h"]) + ((progress.step + 1) % config.lagrangian_steps == 0)
        rest = x - w.transpose(-1, -2) @ x
        fit = 0.5 * rest.square().sum(-2).mean() + config.sparsity * w.abs().sum()
        return {"fit": fit, "causal": augmented(h, self.gate.alpha, self.gate.rho)}

    def _reconstruction(self, o: AffectDiffOutput, batch: Batch) -> Tensor:
        """Mean over modalities of the squared error against the features as they came, bounded."""
        errors = []
        for y, (m, x) in zip(cast(tuple[Tensor, ...], o.reconstruction), batch.features.items()):
            y, seen = y[..., : x.shape[-2], :], batch.observed[m]
            x = x if self.config.padded else hide(x, seen)
            error = (y - x.clamp(-INPUT_BOUND, INPUT_BOUND)).square().mean(-1)
            errors.append(error.mean() if self.config.padded else _mean_over(error, seen))
        return torch.stack(errors).mean()

    def weights(self, progress: Progress) -> Mapping[str, float]:
        config, e = self.config, progress.epoch
        out = {}
        if config.kl_weight > 0:
            rise = {
                "constant": 1.0,
                "linear": min(1.0, e / config.kl_epochs),
                "cyclic": min(1.0, (e % config.kl_epochs) / (config.kl_epochs / 2)),
            }
            out["kl"] = config.kl_weight * rise[config.kl_schedule]
        if config.gate in PENALISED:
            out["causal"] = 1.0 if config.gate == "lagrangian" else config.causal_weight
        if config.gate == "lagrangian":
            out["fit"] = config.fit_weight
        if config.decoder:
            out["reconstruction"] = config.reconstruction_weight * min(1.0, (e + 1) / 20)
        if config.prior != "off":
            full = min(1.0, max(0.0, (e - config.diffusion_start) / config.diffusion_epochs))
            out["diffusion"] = config.diffusion_weight * full
            if config.replay:
                out["replay"] = config.replay_weight * float(full == 1)
        return out

    @torch.no_grad()
    def remember(self, memo: Memo) -> None:
        gate = self.gate
        if "decay" in memo:
            follow(self.average, self.unet, cast(float, self.config.ema_decay))
        if "temperature" in memo:
            gate.temperature.copy_(memo["temperature"])
        if "h" in memo:
            new = multipliers(memo["h"], gate.h_best, gate.alpha, gate.rho, most=self.config.lagrangian_most)
            for buffer, value in zip((gate.h_best, gate.alpha, gate.rho), new):
                buffer.copy_(torch.where(memo["due"] > 0, value, buffer))


def _mean(x: Tensor, mask: Tensor | None) -> Tensor:
    return x.mean(-2) if mask is None else masked_mean(x, mask)


def _mean_over(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x (B, L) over the True of mask, 0 where there is none."""
    return (x * mask).sum() / mask.sum().clamp(min=1)


def _check(config: Config, shape: Shape) -> None:
    def need(ok: bool, rule: str) -> None:
        if not ok:
            raise ConfigError(f"affect_diff: {rule}")

    task = shape.task
    for name, hint in get_type_hints(Config).items():
        if get_origin(hint) is Literal:
            value, known = getattr(config, name), get_args(hint)
            need(value in known, f"{name} {value!r} must be one of {', '.join(known)}")
    need(config.width % GROUPS == 0, f"width {config.width} must be a multiple of {GROUPS}, for the group norms")
    need(config.unet_width % GROUPS == 0, f"unet_width {config.unet_width} must be a multiple of {GROUPS}")
    for name in ("kernel", "kernel_audio"):
        k = getattr(config, name)
        need(k % 2 == 1, f"{name} {k} must be odd to keep the length of a sequence")
    need(config.classifier_layers in (2, 3), f"classifier_layers {config.classifier_layers} must be 2 or 3")
    need(config.diffusion_epochs >= 1, f"diffusion_epochs {config.diffusion_epochs} must be at least 1")
    need(config.kl_epochs >= 1, f"kl_epochs {config.kl_epochs} must be at least 1")
    decay, n = config.ema_decay, config.sampling_steps
    need(decay is None or 0 <= decay < 1, f"ema_decay {decay} must lie in [0, 1) or be None")
    need(1 <= n <= config.diffusion_steps, f"sampling_steps {n} must lie in 1..{config.diffusion_steps}")
    need(not (config.gate == "lagrangian" and config.penalty in ("log_det", "none")),
         f"gate 'lagrangian' cannot have penalty {config.penalty!r}, which is for weights in [0, 1] or for no "
         "multipliers: use exponential")  # fmt: skip
    need(config.label_dropout > 0 or config.guidance == 1,
         f"guidance {config.guidance} needs label_dropout > 0: the prior has never seen a hidden label")  # fmt: skip
    acts = config.replay > 0 or config.inference != "classifier"
    need(not acts or config.prior != "off", "replay and inference by the prior need a prior, got prior 'off'")
    single = task.kind == "single_label"
    need(not acts or single, f"replay and inference by the prior need a single_label task, got {task.kind}")
    for name in ("class_weights", "kl_class_scale"):
        given = getattr(config, name)
        need(not given or (single and len(given) == task.outputs),
             f"{name} has {len(given)} values: a single_label task of as many classes is needed, got {task.kind} "
             f"with {task.outputs}")  # fmt: skip


CLEAN = Config()
AUTHOR = replace(
    CLEAN,
    padded=True,
    copied_layers=True,
    attention_dropout=0.3,
    gumbel_in_evaluation=True,
    unread_gate=True,
    focal="loss",
    sampling="leading",
    shared_noise=True,
)
PAPER = replace(
    CLEAN,
    padded=True,
    attention_dropout=0.3,
    heads=4,
    pooling="attention",
    classifier_layers=2,
    classifier_dropout=0.3,
    unet_width=128,
    condition="gate",
    sparsity=0.0,
    free_bits=0.25,
    kl_schedule="linear",
    kl_epochs=30,
    diffusion_start=0,
    sampling="leading",
)
PRESETS = {"clean": CLEAN, "author": AUTHOR, "paper": PAPER}
