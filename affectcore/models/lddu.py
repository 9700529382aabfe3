"""LDDU: per modality and label a latent distribution, whose mean and spread both classify [lddu].

| symbol | name | shape |
|---|---|---|
| X^m | `batch.features[m]` | (B, T_m, D_m) |
| O^m | encoded steps, `Transformer` | (B, T_m, d) |
| Z^m | `features`, one vector per label that attended to O^m | (B, M, q, d) |
| mu, sigma | `location`, `spread` of the latent distribution of (modality, label) | (B, M, q, k) |
| y^mu, y^sigma, y^dir | sigmoids of `centre`, `uncertain`, `direct`: center, uncertainty and info classifier | (B, q) |
| p | sigmoid of `direct` | (B, q) |
| g | `gate`, the weight of y^mu; y^fnl = g y^mu + (1 - g) y^sigma, `logit` | (B, q) |
| u | `norm`, length of all modalities' spreads | (B, q) |
| e, r | \\|p - y\\|, share of past epochs in which a label of a sample was right | (B, q) |

Losses: "cls" BCE(y^fnl, y), "dir" BCE(y^dir, y), "scl" (supervised contrastive with a queue), "ocl" (ordinality
calibration: u in the order of e and of 1 - r), and where switched on "kl", "rec", "ordinal", "rank". Any number of
modalities and labels. single_label: its classes are labels of which one is present; `prediction` are log odds, whose
softmax is the probability of each given that exactly one is present. regression: one label y in [0, 1], the score on
its scale, by the same losses.

Differences from the paper (its text is known in parts alone) and from the published code, each with its switch.
Presets: `author` = the released runs, `paper` = the text as far as known, `clean` = masks and the choices that the
evidence supports, `early_variant` = byte-compiled code of November 2024 that the unaligned and M3ED runs may have used.
1. `gate`: the text weighs by a prediction difficulty of p and y, which needs y at test; the code takes g = p ("p").
   "entropy" is the reading without y: g = 1 - H(p) / ln 2; "oracle" is g = 1 - |p - y|, for analysis.
2. `calibration`: text e and r, here softmax over all B q entries and the two-way KL ("both"); code: p in place of e,
   softmax over each sample's labels against one over all entries, divided by 2 B q ("code").
3. `ocl_weight`, `scl_weight`, `dir_weight`: text 0.1, 0.8, 0.1, code 0.3, 1, 0.3.
4. history r: the code averages p and its look-up never hits; here it counts correctness, per row of the data set.
5. `scheme`: 36 classes (modality, label, present or not) in the code; the text speaks of one per modality and label.
6. `anchors`, `random_queue`: in the code the queue's rows are anchors too, and it starts with random rows, which are
   negatives of everybody; clean: the batch's rows are anchors and an empty queue is empty.
7. `contrast_spread`: sigma's direction is half of a row of the contrastive loss; off: mu alone.
8. `latent`: 128 in the code, 64 in a part of the text.
9. `separate_values`, `activation`, `latent_dropout`: the figure draws separate projections of keys and values, GELU
   and drop-out; in the code they share one, ReLU, and the drop-out's result is overwritten.
10. `padded`: the code attends to the padding; clean masks it.
11. `positions`: a table of 60 in the code, too short for unaligned data.
12. `attention_dropout`: 0.3 in the code; clean draws none, for time.
13. `joint_norm`: in the early variant [mu; sigma] is normalised as one vector.
Without a switch: 594,188 parameters of the code that nothing reads (three poolers, two second-stage heads) are left
out; modalities are concatenated in the order of the data (code: vision, audio, text); q is the number of labels (code:
6); the code adds 1e-12 to the contrastive denominator; probabilities are mixed in log space where the code clamps
logarithms at -100; the queue is written after the step.

On the same weights and batches (published shape, 9 batches of 8 through a queue of 8,192, no drop-out) `author` and the
published code differ in float64 by at most 3e-10 in probabilities (it takes input norms in float32), 2e-12 in the
calibration loss, 8e-12 in the contrastive loss, 6e-12 in the gradients compared (text's input norm and log variances).
Parameters of `author` at the published shape: 5,492,519, with what is left out 6,086,707.
What saves time and changes no value: the queue's block of the contrastive loss (`affectcore.nn.contrastive`), labels
that attend once for the whole batch, per-label heads as one batched product.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args, get_origin, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import AffectData, Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.attention import HIDDEN, masked_softmax
from affectcore.nn.contrastive import LEFT_OUT, Queue, contrast, dense_contrast
from affectcore.nn.labels import as_labels, from_log_odds
from affectcore.nn.pooling import masked_mean
from affectcore.nn.transformer import EPS, Transformer, check_positions

Gates = Literal["p", "entropy", "oracle", "scalar", "half", "mu", "sigma"]
Calibration = Literal["both", "error", "history", "code", "mse", "none"]
Family = Literal["gaussian", "low_rank", "mixture", "student", "vmf", "knn", "point", "none"]


@dataclass(frozen=True)
class Config:
    # encoders, one per modality
    width: int = 256  # d, a multiple of `heads`
    heads: int = 8
    layers: int = 3
    feedforward: int = 256
    positions: int = 512  # difference 11; most steps of a sequence
    dropout: float = 0.3
    attention_dropout: float = 0.0  # difference 12
    padded: bool = False  # difference 10
    # labels
    label_pooling: Literal["attention", "mean"] = "attention"  # mean: the steps' mean plus the label's embedding
    separate_values: bool = True  # difference 9
    label_dropout: float = 0.1  # of what a label attended to
    # latent. gaussian: diagonal; low_rank: diagonal and `rank` factors; mixture: `components` Gaussians; student: heavy
    # tails; vmf: direction and concentration; knn: points, spread = distances to `neighbours` of the queue; point: two
    # vectors without a sign; none: both classifiers read Z
    family: Family = "gaussian"
    latent: int = 128  # k; difference 8
    activation: Literal["gelu", "relu"] = "gelu"  # difference 9
    latent_dropout: float = 0.1  # difference 9
    sampled: bool = False  # the center classifier reads a draw in training, not mu
    unit_spread: bool = False  # sigma is 1, nothing learns it
    rank: int = 4
    components: int = 2
    neighbours: int = 8
    # classifiers
    head_width: int = 128
    head_dropout: float = 0.1
    gate: Gates = "p"  # difference 1; scalar: one learned number; half: 1/2; mu, sigma: one classifier alone
    gate_detached: bool = False  # no gradient through the gate
    # losses: 0 leaves a term out
    dir_weight: float = 0.1  # gamma, difference 3
    ocl_weight: float = 0.1  # lambda
    scl_weight: float = 0.8  # beta
    calibration: Calibration = "both"  # difference 2; error, history: one part alone; mse: mean of sigma^2 against e
    history_rows: int = 22_856  # samples of the data set, all splits (`batch.index`); CMU-MOSEI: 22,856
    history_threshold: float = 0.5  # of y^fnl, where a label counts as predicted
    scheme: Literal[36, 18, 12, 6] = 36  # difference 5; 18, 6: present labels alone; 12, 6: modalities merged
    anchors: Literal["batch", "all"] = "batch"  # difference 6
    random_queue: bool = False  # difference 6
    queue: int = 8192  # rows, 0..16,384
    temperature: float = 0.07
    contrast_spread: bool = True  # difference 7
    joint_norm: bool = False  # difference 13
    kl_weight: float = 0.0  # to N(0, 1); gaussian alone
    rec_weight: float = 0.0  # reconstruction of Z from the latent
    # with `batch.extras["intensity"]` (B, q) in 0..3
    ordinal_weight: float = 0.0  # a head on mu for intensity > 0, > 1, > 2
    intensity_pairs: bool = False  # positives weigh 1 - |difference| / 3
    rank_weight: float = 0.0  # among present labels the weaker is to have the larger u


@dataclass(frozen=True)
class Latent:
    """location: (..., k); spread: (..., s); row: (..., F), norm 1 or less, what the contrastive loss compares.

    scale: (..., k), of the normal part; factor: (..., k, rank); freedom: (..., 1); components: means (..., K, k) with
    scales (..., K, k) and log weights (..., K); concentration: (..., 1). Those that the family has not are None.
    """

    location: Tensor
    spread: Tensor
    row: Tensor
    scale: Tensor | None = None
    factor: Tensor | None = None
    freedom: Tensor | None = None
    components: tuple[Tensor, Tensor, Tensor] | None = None
    concentration: Tensor | None = None


@dataclass(frozen=True)
class LDDUOutput(Output):
    """See the module's table; direct, centre and uncertain are logits, None where nothing needs them.

    drawn: (B, M, q, k), what the center classifier read; reconstruction: of `features`; ordinal: (B, q, 3) logits of
    intensity > 0, > 1, > 2; both None where not asked for.
    """

    logit: Tensor
    direct: Tensor | None
    centre: Tensor | None
    uncertain: Tensor | None
    gate: Tensor
    norm: Tensor
    features: Tensor
    latent: Latent
    drawn: Tensor
    reconstruction: Tensor | None
    ordinal: Tensor | None

    @property
    def location(self) -> Tensor:
        return self.latent.location

    @property
    def spread(self) -> Tensor:
        return self.latent.spread


# --- modules ---------------------------------------------------------------------------------------------------------


class LabelAttention(nn.Module):
    """One vector per label from the steps of a modality: (q, d) labels and (B, T, d) steps to (B, q, d).

    One head; the labels are those of every sample. A sample without a step gets the output's bias.
    """

    def __init__(self, width: int, separate: bool, pooling: str) -> None:
        super().__init__()
        self.value = nn.Linear(width, width)
        attends = pooling == "attention"
        self.key = nn.Linear(width, width) if separate and attends else None
        self.query = nn.Linear(width, width) if attends else None
        self.out = nn.Linear(width, width)

    def forward(self, labels: Tensor, steps: Tensor, mask: Tensor | None, noise: Noise, p: float) -> Tensor:
        values = self.value(steps)
        if self.query is None:
            mean = values.mean(-2) if mask is None else masked_mean(values, mask)
            mixed = mean.unsqueeze(-2) + labels
        else:
            keys = values if self.key is None else self.key(steps)
            scores = (self.query(labels) / math.sqrt(labels.shape[-1])) @ keys.transpose(-1, -2)  # (B, q, T)
            weights = scores.softmax(-1) if mask is None else masked_softmax(scores, mask.unsqueeze(-2))
            mixed = weights @ values
        out: Tensor = self.out(noise.dropout(mixed, p))
        return out


class LatentEncoder(nn.Module):
    """Three layers, then the parameters of a distribution, by name: (..., d) to (..., sizes[name])."""

    def __init__(self, width: int, sizes: Mapping[str, int], activation: str, dropout: float) -> None:
        super().__init__()
        widths = (width, width // 4 * 3, width // 2, width // 2)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.heads = nn.ModuleDict({k: nn.Linear(widths[-1], n) for k, n in sizes.items()})
        for layer in [*self.layers, *self.heads.values()]:
            nn.init.xavier_uniform_(layer.weight)
        self.activation, self.dropout = F.gelu if activation == "gelu" else F.relu, dropout

    def forward(self, x: Tensor, noise: Noise) -> dict[str, Tensor]:
        for layer in self.layers:
            x = self.activation(layer(x))
        x = noise.dropout(x, self.dropout)
        return {k: head(x) for k, head in self.heads.items()}


class LatentDecoder(nn.Module):
    """(..., k) back to (..., d)."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        widths = (latent, width // 4 * 3, width)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.out = nn.Linear(width, width)
        for layer in [*self.layers, self.out]:
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        for layer in self.layers:
            x = F.relu(layer(x))
        out: Tensor = self.out(noise.dropout(x, 0.1))
        return out


class LabelHeads(nn.Module):
    """A two-layer classifier for each label, of its own vector: (B, q, F) to logits (B, q)."""

    def __init__(self, labels: int, features: int, hidden: int, dropout: float) -> None:
        super().__init__()
        first, second = features**-0.5, hidden**-0.5  # bounds of torch's linear layers
        self.weight = nn.Parameter(torch.empty(labels, features, hidden).uniform_(-first, first))
        self.bias = nn.Parameter(torch.empty(labels, 1, hidden).uniform_(-first, first))
        self.out_weight = nn.Parameter(torch.empty(labels, hidden, 1).uniform_(-second, second))
        self.out_bias = nn.Parameter(torch.empty(labels, 1, 1).uniform_(-second, second))
        self.dropout = dropout

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        h = F.relu(noise.dropout(x.transpose(-2, -3) @ self.weight + self.bias, self.dropout))  # (q, B, hidden)
        return (h @ self.out_weight + self.out_bias).squeeze(-1).transpose(0, 1)


class OrdinalHead(nn.Module):
    """Logits (B, q, 3) of intensity > 0, > 1, > 2: a score of each label's vector against ordered thresholds."""

    def __init__(self, labels: int, features: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.score = LabelHeads(labels, features, hidden, dropout)
        self.steps = nn.Parameter(torch.zeros(labels, 3))

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        first, rest = self.steps[:, :1], F.softplus(self.steps[:, 1:])
        return self.score(x, noise).unsqueeze(-1) - torch.cat([first, rest], -1).cumsum(-1)


# --- distributions ---------------------------------------------------------------------------------------------------


def mean_resultant(kappa: Tensor, k: int) -> Tensor:
    """Return the length of the mean of a von Mises-Fisher distribution on the sphere in R^k, by Amos's lower bound."""
    return kappa / ((k - 1) / 2 + (((k + 1) / 2) ** 2 + kappa.square()).sqrt())


def log_density(latent: Latent, x: Tensor) -> Tensor:
    """Return the log density (...) of points x (..., k) under the distributions of a latent of the same leading shape.

    vmf: x of norm 1, the normaliser by the first terms of its expansion for large k. Families without a density raise
    ConfigError.
    """
    k, d = x.shape[-1], x - latent.location
    if latent.components is not None:
        means, scales, weights = latent.components
        each = -0.5 * (((x.unsqueeze(-2) - means) / scales).square() + math.log(2 * math.pi)) - scales.log()
        return (each.sum(-1) + weights).logsumexp(-1)
    if latent.concentration is not None:
        kappa = latent.concentration.squeeze(-1)
        v = k / 2 - 1
        root = (kappa.square() + v * v).sqrt()
        bessel = root + v * (kappa / (v + root)).log() - 0.5 * (2 * math.pi * root).log()
        bessel = bessel + torch.log1p((3 - 5 * (v / root).square()) / (24 * root))
        return v * kappa.log() - k / 2 * math.log(2 * math.pi) - bessel + kappa * (x * latent.location).sum(-1)
    if latent.scale is None:
        raise ConfigError("lddu: this family of latents has no density")
    z, log_scale = d / latent.scale, latent.scale.log().sum(-1)
    if latent.freedom is not None:
        df = latent.freedom
        each = torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - 0.5 * (df * math.pi).log()
        return (each - (df + 1) / 2 * torch.log1p(z.square() / df)).sum(-1) - log_scale
    if latent.factor is not None:  # Woodbury, in the basis where the diagonal part is 1
        w = latent.factor / latent.scale.unsqueeze(-1)  # (..., k, rank)
        eye = torch.eye(w.shape[-1], dtype=w.dtype, device=w.device)
        inner, projected = eye + w.transpose(-1, -2) @ w, (z.unsqueeze(-2) @ w).squeeze(-2)
        solved = torch.linalg.solve(inner, projected.unsqueeze(-1)).squeeze(-1)
        quadratic = z.square().sum(-1) - (projected * solved).sum(-1)
        return -0.5 * (quadratic + torch.linalg.slogdet(inner)[1] + k * math.log(2 * math.pi)) - log_scale
    return -0.5 * (z.square().sum(-1) + k * math.log(2 * math.pi)) - log_scale


def mixed(gate: Tensor, rest: Tensor, centre: Tensor, uncertain: Tensor) -> Tensor:
    """Return the log odds of gate sigmoid(centre) + rest sigmoid(uncertain), where gate + rest = 1."""
    yes = gate * centre.sigmoid() + rest * uncertain.sigmoid()
    no = gate * (-centre).sigmoid() + rest * (-uncertain).sigmoid()
    return yes.clamp(min=1e-30).log() - no.clamp(min=1e-30).log()


def agree(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return KL(S(a)||S(b)) + KL(S(b)||S(a)), S the softmax over all entries, or those of mask; 0 without any."""
    a, b = a.flatten(), b.flatten()
    if mask is not None:
        seen = mask.flatten()
        a, b = a.masked_fill(~seen, HIDDEN), b.masked_fill(~seen, HIDDEN)
    log_a, log_b = a.log_softmax(-1), b.log_softmax(-1)
    out = ((log_a.exp() - log_b.exp()) * (log_a - log_b)).sum()
    return out if mask is None else out * mask.any().to(out.dtype)


# --- the model -------------------------------------------------------------------------------------------------------


class LDDU(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        _check(config, shape)
        d, k, q, m = config.width, config.latent, shape.task.outputs, len(shape.dims)
        self.norms = nn.ModuleList(nn.LayerNorm(n, EPS) for n in shape.dims.values())
        self.encoders = nn.ModuleList(
            Transformer(n, d, config.heads, config.layers, config.feedforward, config.positions)
            for n in shape.dims.values()
        )
        self.labels = nn.Parameter(torch.empty(q, d))
        nn.init.xavier_uniform_(self.labels)
        self.attention = nn.ModuleList(
            LabelAttention(d, config.separate_values, config.label_pooling) for _ in shape.dims
        )
        sizes, spread, row = _sizes(config)
        location = d if config.family == "none" else k
        self.latents = nn.ModuleList(
            LatentEncoder(d, sizes, config.activation, config.latent_dropout) for _ in shape.dims if sizes
        )
        self.info = nn.ModuleList()
        if self._direct:
            self.info.extend([nn.Linear(m * d, d // 2), nn.Linear(d // 2, 1)])
        hidden, p = config.head_width, config.head_dropout
        self.centre = LabelHeads(q, m * location, hidden, p) if config.gate != "sigma" else None
        self.uncertain = LabelHeads(q, m * spread, hidden, p) if config.gate != "mu" else None
        if config.gate == "scalar":
            self.scalar = nn.Parameter(torch.zeros(()))
        if config.rec_weight > 0:
            self.decoders = nn.ModuleList(LatentDecoder(k, d) for _ in shape.dims)
        if config.ordinal_weight > 0:
            self.ordinal = OrdinalHead(q, m * location, hidden, p)
        self.queue: Queue | None = None
        if config.scl_weight > 0 or config.family == "knn":
            every = config.anchors == "all"
            filler = 2**-0.5 if config.random_queue else 0.0
            self.queue = Queue(config.queue, row + config.intensity_pairs, config.temperature, filler, every)
        if config.ocl_weight > 0 and config.calibration in ("both", "history"):
            self.register_buffer("seen", torch.zeros(config.history_rows))  # epochs in which a row was met
            self.register_buffer("right", torch.zeros(config.history_rows, q))  # in how many a label was right

    seen: Tensor
    right: Tensor

    def accept(self, data: AffectData) -> None:
        """Raise ConfigError if the data have more samples than the history has rows."""
        if "seen" in self._buffers and len(data) > self.config.history_rows:
            raise ConfigError(
                f"lddu: history_rows {self.config.history_rows} must be at least the {len(data)} samples of {data.name}"
            )

    @property
    def _direct(self) -> bool:
        """Whether anything reads the info classifier."""
        c = self.config
        calibrated = c.ocl_weight > 0 and c.calibration in ("both", "error", "code", "mse")
        return c.dir_weight > 0 or c.gate in ("p", "entropy", "oracle") or calibrated

    def forward(self, batch: Batch, noise: Noise) -> LDDUOutput:
        config = self.config
        features, labels = [], self.labels.view_as(self.labels)  # counting products takes no leaf into a module
        for (m, x), input_norm, encoder, attention in zip(
            batch.features.items(), self.norms, self.encoders, self.attention
        ):
            mask = None if config.padded else batch.observed[m]
            x = x if mask is None else x.masked_fill(~mask.unsqueeze(-1), 0)
            steps = encoder(input_norm(x), mask, noise, config.dropout, config.attention_dropout)
            features.append(attention(labels, steps, mask, noise, config.label_dropout))
        z = torch.stack(features, 1)  # (B, M, q, d)
        latent = self._latent(z, noise)
        drawn = self._draw(latent, noise) if config.sampled and noise.training else latent.location
        direct = self._info(_join(z), noise) if self._direct else None
        centre = None if self.centre is None else self.centre(_join(drawn), noise)
        uncertain = None if self.uncertain is None else self.uncertain(_join(latent.spread), noise)
        gate, rest = self._gate(direct, z, batch)
        if centre is not None and uncertain is not None:
            logit = mixed(gate, rest, centre, uncertain)
        else:
            (logit,) = (x for x in (centre, uncertain) if x is not None)
        rec = None
        if config.rec_weight > 0:
            rec = torch.stack([f(drawn[:, i], noise) for i, f in enumerate(self.decoders)], 1)
        ordinal = self.ordinal(_join(drawn), noise) if config.ordinal_weight > 0 else None
        norm = latent.spread.square().sum((1, -1)).clamp(min=1e-24).sqrt()
        return LDDUOutput(
            from_log_odds(self.shape.task, logit),
            logit,
            direct,
            centre,
            uncertain,
            gate,
            norm,
            z,
            latent,
            drawn,
            rec,
            ordinal,
        )

    def _info(self, x: Tensor, noise: Noise) -> Tensor:
        first, second = self.info
        out: Tensor = second(F.relu(noise.dropout(first(x), self.config.head_dropout))).squeeze(-1)
        return out

    def _gate(self, direct: Tensor | None, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the weights (B, q) of the center and the uncertainty classifier."""
        kind, one = self.config.gate, torch.ones_like(z[:, 0, :, 0])
        if kind == "scalar":
            return one * self.scalar.sigmoid(), one * (-self.scalar).sigmoid()
        if kind in ("half", "mu", "sigma") or direct is None:
            g = {"half": 0.5, "mu": 1.0, "sigma": 0.0}[kind]
            return one * g, one * (1 - g)
        c = direct.detach() if self.config.gate_detached else direct
        p = c.sigmoid()
        if kind == "p":
            return p, (-c).sigmoid()
        if kind == "oracle":
            error = (p - as_labels(self.shape.task, batch.target, p)).abs()
            return 1 - error, error
        entropy = -(p * F.logsigmoid(c) + (1 - p) * F.logsigmoid(-c)) / math.log(2)
        return 1 - entropy, entropy

    # --- latent

    def _latent(self, z: Tensor, noise: Noise) -> Latent:
        config, k, family = self.config, self.config.latent, self.config.family
        if family == "none":
            return Latent(z, z, self._row(z, z))
        each = [encoder(z[:, i], noise) for i, encoder in enumerate(self.latents)]
        head = {name: torch.stack([e[name] for e in each], 1) for name in each[0]}
        mu = head["mu"]
        if family == "point":
            return Latent(mu, head["scale"], self._row(mu, head["scale"]))
        if family == "knn":
            near = self._neighbours(mu)
            return Latent(mu, near, F.normalize(mu, dim=-1))
        if family == "vmf":
            direction, kappa = F.normalize(mu, dim=-1), F.softplus(head["scale"]) + 1e-3
            length = mean_resultant(kappa, k)  # a row is a mean vector: products are expected cosines of two draws
            return Latent(direction, 1 - length, direction * length, concentration=kappa)
        scale = torch.ones_like(mu) if config.unit_spread else (0.5 * head["scale"]).exp()
        if family == "mixture":
            means, scales = mu.unflatten(-1, (-1, k)), scale.unflatten(-1, (-1, k))
            log_w = head["weight"].log_softmax(-1)
            w = log_w.exp().unsqueeze(-1)
            mean = (w * means).sum(-2)
            variance = (w * (scales.square() + (means - mean.unsqueeze(-2)).square())).sum(-2)
            row = torch.cat([self._row(means, scales).flatten(-2), log_w], -1)
            return Latent(mean, variance.sqrt(), row, components=(means, scales, log_w))
        spread, factor, freedom = scale, None, None
        if family == "low_rank":
            factor = head["factor"].unflatten(-1, (k, -1))
            spread = (scale.square() + factor.square().sum(-1)).sqrt()
        if family == "student":
            freedom = F.softplus(head["freedom"]) + 2.1  # so that there is a variance
            spread = scale * (freedom / (freedom - 2)).sqrt()
        return Latent(mu, spread, self._row(mu, spread), scale, factor, freedom)

    def _row(self, mu: Tensor, spread: Tensor) -> Tensor:
        if not self.config.contrast_spread:
            return F.normalize(mu, dim=-1)
        if self.config.joint_norm:
            return F.normalize(torch.cat([mu, spread], -1), dim=-1)
        return torch.cat([F.normalize(mu, dim=-1), F.normalize(spread, dim=-1)], -1) * 2**-0.5

    def _neighbours(self, mu: Tensor) -> Tensor:
        """Return 1 - cosine to the nearest rows of the queue of the same modality and label, (B, M, q, neighbours)."""
        queue, (_, m, q, _) = self.queue, mu.shape
        assert queue is not None
        flat = F.normalize(mu, dim=-1).flatten(0, 2)
        slot = (torch.arange(m * q, device=mu.device)).expand(len(mu), -1).flatten()
        near = flat @ queue.rows[:, : mu.shape[-1]].transpose(0, 1)
        same = slot.unsqueeze(-1) == torch.div(queue.classes, 2, rounding_mode="floor")
        best = near.masked_fill(~same, 0).topk(self.config.neighbours, -1).values  # who is missing is at distance 1
        return (1 - best).unflatten(0, (len(mu), m, q))

    def _draw(self, latent: Latent, noise: Noise) -> Tensor:
        """Return a draw with a gradient, (B, M, q, k); a mixture's is relaxed, a Student's by Wilson and Hilferty."""
        mu = latent.location
        eps = noise.normal(*mu.shape)
        if latent.components is not None:
            means, scales, log_w = latent.components
            gumbel = -(-(noise.uniform(*log_w.shape) + 1e-9).log()).log()
            chosen = ((log_w + gumbel) / 0.5).softmax(-1).unsqueeze(-1)
            return (chosen * (means + scales * eps.unsqueeze(-2))).sum(-2)
        if latent.concentration is not None:
            return F.normalize(mu + eps / latent.concentration.sqrt(), dim=-1)
        assert latent.scale is not None
        z = latent.scale * eps
        if latent.factor is not None:
            eta = noise.normal(*latent.factor.shape[:-2], latent.factor.shape[-1])
            z = z + (latent.factor @ eta.unsqueeze(-1)).squeeze(-1)
        if latent.freedom is not None:
            a = 2 / (9 * latent.freedom)
            z = z / (1 - a + noise.normal(*mu.shape) * a.sqrt()).clamp(min=0.05).pow(1.5)
        return mu + z

    # --- losses

    def classes(self, y: Tensor) -> Tensor:
        """Return the class numbers (B, M, q) of the contrastive loss, LEFT_OUT where a scheme has no class."""
        m, q = len(self.shape.dims), y.shape[-1]
        present = (y >= 0.5).unsqueeze(1).expand(-1, m, -1)
        slot = torch.arange(m * q, device=y.device).view(m, q) % (m * q if self.config.scheme in (36, 18) else q)
        if self.config.scheme in (36, 12):
            return 2 * slot + (~present).long()
        return torch.where(present, slot, LEFT_OUT)

    @property
    def n_classes(self) -> int:
        m, q = len(self.shape.dims), self.shape.task.outputs
        return (m if self.config.scheme in (36, 18) else 1) * (2 if self.config.scheme in (36, 12) else 1) * q

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        assert isinstance(output, LDDUOutput)
        o, config = output, self.config
        y = as_labels(self.shape.task, batch.target, o.logit)
        terms = {"cls": F.binary_cross_entropy_with_logits(o.logit, y)}
        memo: dict[str, Tensor] = {}
        if config.dir_weight > 0 and o.direct is not None:
            terms["dir"] = F.binary_cross_entropy_with_logits(o.direct, y)
        if config.scl_weight > 0:
            terms["scl"] = self._contrast(o, y, batch, memo)
        elif self.queue is not None:
            memo |= self.queue.entries(o.latent.row.flatten(0, 2), self.classes(y).flatten())
        if config.ocl_weight > 0 and config.calibration != "none":
            terms["ocl"] = self._calibration(o, y, batch, memo)
        if config.kl_weight > 0 and o.latent.scale is not None:
            scale, mu = o.latent.scale, o.location
            kl = 0.5 * (mu.square() + scale.square() - 1 - 2 * scale.log()).sum(-1)
            terms["kl"] = kl.mean((0, 2)).sum()  # summed over modalities, as the reconstruction
        if o.reconstruction is not None:
            terms["rec"] = (o.reconstruction - o.features).square().mean((0, 2, 3)).sum()
        if config.ordinal_weight > 0:
            terms["ordinal"] = self._ordinal(o, batch)
        if config.rank_weight > 0:
            terms["rank"] = self._rank(o, y, batch)
        return terms, memo

    def _contrast(self, o: LDDUOutput, y: Tensor, batch: Batch, memo: dict[str, Tensor]) -> Tensor:
        config, queue = self.config, self.queue
        assert queue is not None
        rows, classes = o.latent.row.flatten(0, 2), self.classes(y).flatten()
        if config.family != "mixture" and not config.intensity_pairs:
            memo |= queue.entries(rows, classes)
            return contrast(rows, classes, self.n_classes, queue, config.anchors)
        n, width = rows.shape
        if config.intensity_pairs:
            level = _intensity(batch, rows).unsqueeze(1).expand(-1, len(self.shape.dims), -1).flatten().unsqueeze(-1)
            rows = torch.cat([rows, level], -1)
        memo |= queue.entries(rows, classes)
        pool, their = torch.cat([rows, queue.rows]), torch.cat([classes, queue.classes])
        other = (their != LEFT_OUT) & (classes != LEFT_OUT).unsqueeze(-1)
        other = other & (
            torch.arange(n, device=rows.device).unsqueeze(-1) != torch.arange(len(pool), device=rows.device)
        )
        positive = (classes.unsqueeze(-1) == their).to(rows.dtype)
        if config.intensity_pairs:
            positive = positive * (1 - (rows[:, -1:] - pool[:, -1]).abs() / 3)
        return dense_contrast(self._logits(rows[:, :width], pool[:, :width]), positive, other)

    def _logits(self, rows: Tensor, pool: Tensor) -> Tensor:
        """Return similarities over temperature (n, N); of mixtures the log of the expected-likelihood kernel, in which
        two components compare as two rows do elsewhere."""
        config, t = self.config, self.config.temperature
        if config.family != "mixture":
            return rows @ pool.transpose(0, 1) / t
        c = config.components
        (a, log_a), (b, log_b) = ((x[:, :-c].unflatten(-1, (c, -1)), x[:, -c:]) for x in (rows, pool))
        each = [
            a[:, i] @ b[:, j].transpose(0, 1) / t + log_a[:, i].unsqueeze(-1) + log_b[:, j]
            for i in range(c) for j in range(c)
        ]  # fmt: skip
        return torch.stack(each).logsumexp(0)

    def _calibration(self, o: LDDUOutput, y: Tensor, batch: Batch, memo: dict[str, Tensor]) -> Tensor:
        kind, total = self.config.calibration, torch.zeros_like(o.norm[0, 0])
        if kind == "code":  # softmax over each sample's labels against one over the whole batch
            assert o.direct is not None
            p, u = o.direct.sigmoid().log_softmax(-1).flatten(), o.norm.flatten().log_softmax(-1)
            return ((p.exp() - u.exp()) * (p - u)).sum() / (2 * p.shape[0])
        if kind in ("both", "error", "mse"):
            assert o.direct is not None
            error = (o.direct.sigmoid() - y).abs()
            if kind == "mse":
                return (o.spread.square().mean((1, -1)) - error).square().mean()
            total = total + 0.5 * agree(error, o.norm)
        if kind in ("both", "history"):
            seen = self.seen[batch.index].unsqueeze(-1)
            wrong = 1 - self.right[batch.index] / seen.clamp(min=1)
            total = total + 0.5 * agree(wrong, o.norm, (seen > 0).expand_as(wrong))
            t = self.config.history_threshold
            memo["index"] = batch.index
            memo["correct"] = ((o.logit.detach().sigmoid() > t) == (y >= 0.5)).to(o.norm.dtype)
        return total

    def _ordinal(self, o: LDDUOutput, batch: Batch) -> Tensor:
        logits = o.ordinal
        assert logits is not None
        above = _intensity(batch, logits).unsqueeze(-1) > torch.arange(3, device=logits.device)
        return F.binary_cross_entropy_with_logits(logits, above.to(logits.dtype))

    def _rank(self, o: LDDUOutput, y: Tensor, batch: Batch) -> Tensor:
        """Return the mean logistic loss over pairs of samples with the label, the weaker against the stronger."""
        level, u = _intensity(batch, o.norm), o.norm
        weaker = (level.unsqueeze(0) < level.unsqueeze(1)) & (y >= 0.5).unsqueeze(0) & (y >= 0.5).unsqueeze(1)
        pair = weaker.to(u.dtype)  # (strong, weak, q)
        return (F.softplus(u.unsqueeze(1) - u.unsqueeze(0)) * pair).sum() / pair.sum().clamp(min=1)

    def weights(self, progress: Progress) -> Mapping[str, float]:
        c = self.config
        out = {"dir": c.dir_weight, "scl": c.scl_weight, "kl": c.kl_weight, "rec": c.rec_weight}
        out |= {"ordinal": c.ordinal_weight, "rank": c.rank_weight}
        if c.calibration != "none":
            out["ocl"] = c.ocl_weight
        return {k: v for k, v in out.items() if v > 0}

    @torch.no_grad()
    def remember(self, memo: Memo) -> None:
        if self.queue is not None:
            self.queue.remember(memo)
        if "index" in memo:
            index, one = memo["index"], torch.ones_like(memo["correct"][:, 0])
            self.seen.copy_(self.seen.index_add(0, index, one))
            self.right.copy_(self.right.index_add(0, index, memo["correct"]))


def _join(x: Tensor) -> Tensor:
    """Return (B, M, q, k) as (B, q, M k)."""
    return x.transpose(1, 2).flatten(-2)


def _intensity(batch: Batch, like: Tensor) -> Tensor:
    if "intensity" not in batch.extras:
        raise ConfigError("lddu: ordinal_weight, intensity_pairs and rank_weight need batch.extras['intensity']")
    return batch.extras["intensity"].to(like.dtype).clamp(0, 3)


def _sizes(config: Config) -> tuple[dict[str, int], int, int]:
    """Return the parameters of a family by name, the length of its spread, and that of a contrastive row."""
    k, family = config.latent, config.family
    both = 2 if config.contrast_spread else 1
    if family == "none":
        return {}, config.width, both * config.width
    if family == "knn":
        return {"mu": k}, config.neighbours, k
    if family == "vmf":
        return {"mu": k, "scale": 1}, 1, k
    n = config.components if family == "mixture" else 1
    sizes = {"mu": n * k} if config.unit_spread else {"mu": n * k, "scale": n * k}
    if family == "mixture":
        return sizes | {"weight": n}, k, n * (both * k + 1)
    if family == "low_rank":
        sizes["factor"] = k * config.rank
    if family == "student":
        sizes["freedom"] = 1
    return sizes, k, both * k


def _check(config: Config, shape: Shape) -> None:
    def need(ok: bool, rule: str) -> None:
        if not ok:
            raise ConfigError(f"lddu: {rule}")

    for name, hint in get_type_hints(Config).items():
        if get_origin(hint) is Literal:
            value, known = getattr(config, name), get_args(hint)
            need(value in known, f"{name} {value!r} must be one of {', '.join(map(str, known))}")
    check_positions("lddu", config.positions, dict(shape.steps))
    need(config.width % 4 == 0, f"width {config.width} must be a multiple of 4")
    family = config.family
    dense = family == "mixture" or config.intensity_pairs
    need(not dense or (config.anchors == "batch" and not config.random_queue),
         "mixtures and intensity_pairs compare pairs one by one: use anchors 'batch' and no random_queue")  # fmt: skip
    need(family != "knn" or (config.queue >= config.neighbours and config.scheme == 36 and not config.random_queue),
         f"family 'knn' looks for {config.neighbours} neighbours in a queue whose classes tell modality and label: "
         "use scheme 36, a queue of as many rows at least, and no random_queue")  # fmt: skip
    need(config.kl_weight == 0 or family == "gaussian", f"kl_weight needs family 'gaussian', got {family!r}")
    need(config.rec_weight == 0 or family != "none", "rec_weight needs a latent, got family 'none'")
    need(not config.sampled or family not in ("knn", "point", "none"), f"family {family!r} cannot be sampled")
    need(not config.unit_spread or family in ("gaussian", "low_rank", "mixture", "student"),
         f"unit_spread needs a family with a scale, got {family!r}")  # fmt: skip
    scored = config.ordinal_weight > 0 or config.rank_weight > 0 or config.intensity_pairs
    need(not scored or shape.task.kind == "multi_label",
         f"intensities belong to the labels of a multi_label task, got {shape.task.kind}")  # fmt: skip


CLEAN = Config()
PAPER = replace(CLEAN, gate="entropy", scheme=18, padded=True, positions=60, attention_dropout=0.3)
AUTHOR = replace(
    CLEAN,
    padded=True,
    positions=60,
    attention_dropout=0.3,
    separate_values=False,
    activation="relu",
    latent_dropout=0.0,
    dir_weight=0.3,
    ocl_weight=0.3,
    scl_weight=1.0,
    calibration="code",
    anchors="all",
    random_queue=True,
)
EARLY = replace(
    AUTHOR,
    gate="mu",
    dir_weight=0.0,
    ocl_weight=0.0,
    calibration="none",
    scl_weight=0.1,  # this and the next: defaults of the command line; those of the runs are not known
    rec_weight=0.1,
    joint_norm=True,
)
PRESETS = {"clean": CLEAN, "author": AUTHOR, "paper": PAPER, "early_variant": EARLY}
