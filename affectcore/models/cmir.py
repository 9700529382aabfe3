"""CmIR: each modality's vector is split into a part that predicts and is alike in all environments, and a rest [cmir].

| symbol | name | shape |
|---|---|---|
| X_m | `pooled`[m], mean over time of the modality's encoded steps | (B, d) |
| X_m^(e) | `variants`[e, m] before encoding: X_m in environment e, e = 0 is X_m itself | (B, d) |
| Z_m^inv | `invariant`[m], what the predictor reads; `variants`[e, m] from X_m^(e) | (B, d) |
| Z_m^spu | `spurious`[m], read by reconstruction and decorrelation alone | (B, d) |
| g_m, r_m, h | `encoders`[m], `decoders`[m], `predictor` | |
| C^m | products of standardised codes, sample by sample | (B, B) |

    L = L_pred + sum_m lambda_1 R_inv + lambda_2 R_dec + lambda_3 R_rec           constant weights, no schedule (Eq. 9)
    X_m^(e) = X_m + alpha^(e) eps, alpha^(e) = e alpha^(1), e = 1..K              virtual environments (Eq. 3)
    R_inv = sum over the K (K + 1) / 2 pairs of |Z_m^inv(e1) - Z_m^inv(e2)|_1     (Eq. 4)
    R_dec = |diag(C) + alpha_dec (C - diag(C))|_F, C = Nor(Z^inv) Nor(Z^spu)^T    (Eq. 5-6)
    R_rec = |X_m - r_m(Z_m^inv, Z_m^spu)|^2                                       (Eq. 7-8)

Losses: "task", "invariance", "decorrelation", "reconstruction" (each the sum over modalities), and where switched on
"jacobian", "heads" and "dependence" (what the auxiliary networks learn). Any number of modalities by any names; "text"
goes through a linear map, `joined` (the humour-centric features of the paper's UR-FUNNY) is joined to it step by step.
There is no public code of this method (the authors' repository held only a description in April 2026): `paper` is the
text taken literally, `clean` resolves what the text leaves open as the evidence suggests. `TABLE_7` holds the published
settings of the six data sets as overrides of a preset; the presets carry those of CMU-MOSI.

Differences of `clean` from the text taken literally, each with its switch:
1. `padded`: the mean over time counts the padding; clean encodes and averages what is observed.
2. `invariance_features`: |.|_1 sums over features; clean takes their mean.
3. `decorrelation_scale`: C holds inner products, so that R_dec of two independent codes starts near B sqrt(d), at some
   600; clean divides C by d ("correlation"); "rms" divides the norm by B; "mean_square" squares it too.
4. `attention_dropout`: 0.5 in the authors' earlier code (TmacMai/Multimodal-Information-Bottleneck); clean draws none,
   since its numbers cost more time than the attention.
Open in the text, chosen here: all K + 1 variants (`variants`; the text also says a random one per sample), noise drawn
anew per environment (`fresh_noise`), codes standardised over the batch (`standardise`), unsquared norm, mean squares in
R_rec, no stopped gradient on its target (`stop_target`), only X_m itself in L_pred, R_dec and R_rec
(`perturbed_prediction` is the theorem's expectation over environments, noise augmentation if the weights are 0), no
noise in evaluation, layers, heads and drop-out of the sequence encoders from the authors' earlier code and the
published parameter count. One logit with binary cross-entropy is a multi_label task of one name.
The alternative R_inv ("prediction") compares the outputs of one head per modality; the heads learn from detached codes
and R_inv moves the codes alone, so that neither adds supervision nor lets the heads agree on nothing. Divergence of
classes: the mean of both KL divergences. With `environments` "true" there is one head per modality and environment, and
all are compared on every sample: P(Y | Z, e1) against P(Y | Z, e2). "coral" and "mmd" compare the codes of two true
environments among samples of like target. "oracle" environments are counterfactual features in
`batch.extras["counterfactual/<modality>"]`, (B, T, D) for one or (B, K, T, D) for K redraws of what should not matter.

Parameters at d = 150, d' = 256, three modalities: 181,548 an encoder, 181,398 a decoder, 247,297 the predictor; with
the sequence encoders 3,682,435, and with DeBERTa-v3-base (183,831,552) the 187.51 M of the paper's Table 9.
What R_dec measures (tested): of 48 samples and 150 features, it is 574 for independent codes and 85 for the same 75
numbers written in two orthogonal subspaces, 586 and 49 if the codes are standardised over features.
What saves time and changes no value: the environments are rows of one batch and skip the head of Z^spu, which nobody
reads there, and the sum over pairs is a product with ranks, sum_{i<j} |z_i - z_j| = sum_i z_i sum_j sign(z_i - z_j).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise as successive
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.crossmodal import Rates
from affectcore.nn.losses import as_prediction, task_loss
from affectcore.nn.normalisation import BatchNorm
from affectcore.nn.pooling import hide, masked_mean
from affectcore.nn.prenorm import Transformer

TINY = 1e-12  # under a root, where a norm may be zero
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the Gaussian kernels of "mmd", times the mean squared distance

Dependence = Literal["samples", "features", "misa", "hsic", "club", "adversary"]


@dataclass(frozen=True)
class Config:
    width: int = 150  # d; paper: 150 (MOSI, MOSEI, OOD), 100 (CH-SIMS v2), 128 (MUStARD), 120 (UR-FUNNY)
    hidden: int = 256  # d' of encoder, decoder and predictor; paper: 256, 128 (MOSEI), 100, 48, 120, 150 (OOD)
    # steps to X_m of every modality but text: convolution, then transformer (paper, sentiment); transformer at the
    # modality's own width, then convolution (paper, humour and sarcasm); two layers on the mean (paper, CH-SIMS v2);
    # one linear layer, as text
    sequence: Literal["conv_transformer", "transformer_conv", "mlp", "linear"] = "conv_transformer"
    joined: str = ""  # modality whose steps are joined to text's; paper: the humour-centric features; "": none
    kernel: int = 3  # odd; of the convolution
    layers: int = 4  # of a transformer; not in the paper, see Parameters above
    heads: int = 5  # divides the transformer's width; earlier code 5
    attention_dropout: float = 0.0  # difference 4
    relu_dropout: float = 0.3  # earlier code 0.3
    residual_dropout: float = 0.3  # earlier code 0.3
    embed_dropout: float = 0.2  # earlier code 0.2
    padded: bool = False  # difference 1
    representation_norm: Literal["none", "layer", "batch"] = "none"  # fixes the scale of X_m; nothing learned
    codes: bool = True  # False: the "vanilla framework", the predictor reads X_m; no encoder, no decoder
    code_norm: bool = False  # Z^inv has mean 0 and variance 1 over its features
    dropout: float = 0.0  # of the hidden units of encoders and predictor; paper: none
    # task
    regression: Literal["squared", "absolute"] = "squared"  # paper: squared, absolute for CH-SIMS v2
    label_smoothing: float = 0.0  # in [0, 1); of classes
    perturbed_prediction: bool = False  # every variant is predicted from, not X_m alone
    # environments
    environments: Literal["virtual", "true", "oracle"] = "virtual"
    count: int = 1  # K virtual or oracle environments beside the sample itself, or number of true ones; 0: none
    alpha: float = 0.1  # paper: 0.1, 1 (MOSEI)
    alpha_of: Literal["first", "last"] = "first"  # alpha^(e) = e alpha (paper), or e alpha / K
    variants: Literal["all", "one"] = "all"  # every sample in all environments, or in one drawn for it
    fresh_noise: bool = True  # one eps per environment; off: one for all
    # invariance
    invariance_weight: float = 0.1  # lambda_1; 0 leaves a term out
    invariance: Literal["l1", "prediction", "coral", "mmd"] = "l1"
    invariance_features: Literal["mean", "sum"] = "mean"  # difference 2
    pairs: Literal["sum", "mean"] = "sum"  # paper: sum over pairs of environments
    prediction_distance: Literal["absolute", "squared"] = "absolute"  # of regression under "prediction"
    label_bins: int = 4  # quantiles of a regression target within which "coral" and "mmd" compare; 1: all samples
    # decorrelation: Eq. 5-6 (samples); the (d, d) cross-correlation (features); MISA's difference loss; HSIC with
    # Gaussian kernels; CLUB's upper bound; how well an adversary foretells Z^inv from Z^spu
    decorrelation_weight: float = 0.001  # lambda_2
    decorrelation: Dependence = "samples"
    standardise: Literal["batch", "features"] = "batch"  # Nor: over the batch or over the features, "samples" alone
    decorrelation_scale: Literal["correlation", "literal", "rms", "mean_square"] = "correlation"  # difference 3
    alpha_dec: float = 1.0  # in (0, 1]; paper: 1, 0.01 (CH-SIMS v2), 0.1 (MUStARD, UR-FUNNY)
    cross_estimate: Literal["batch", "corrected", "running"] = "batch"  # "features": as is, less chance, over steps
    cross_momentum: float = 0.1  # of the running estimate
    # reconstruction
    reconstruction_weight: float = 0.05  # lambda_3
    stop_target: bool = False  # no gradient into the X_m that is to be reconstructed
    # control: mean squared gradient of the prediction by X_m, what R_inv is for small noise
    jacobian_weight: float = 0.0
    # noise on X_m (Eq. 14), of all modalities
    noise_rate: float = 0.0  # NR in [0, 1]; paper 0.1 to 0.7
    train_noise: Literal["none", "gaussian"] = "gaussian"
    test_noise: Literal["none", "gaussian", "laplace", "erase", "laplace_or_erase"] = "gaussian"
    laplace_scale: float = 0.5**0.5  # the paper gives none; this one has unit variance


TABLE_7: dict[str, dict[str, Any]] = {
    name: dict(zip(("count", "alpha", "invariance_weight", "decorrelation_weight", "reconstruction_weight", "width",
                    "hidden", "alpha_dec", "sequence", "heads", "regression"), row))
    for name, row in {
        "mosi": (1, 0.1, 0.1, 0.001, 0.05, 150, 256, 1.0, "conv_transformer", 5, "squared"),
        "mosei": (5, 1.0, 0.1, 0.1, 0.01, 150, 128, 1.0, "conv_transformer", 5, "squared"),
        "sims_v2": (2, 0.1, 0.01, 0.01, 0.1, 100, 100, 0.01, "mlp", 4, "absolute"),
        "mustard": (4, 0.1, 0.05, 0.01, 0.05, 128, 48, 0.1, "transformer_conv", 4, "squared"),
        "ur_funny": (2, 0.1, 0.001, 0.01, 0.01, 120, 120, 0.1, "transformer_conv", 4, "squared"),
        "mosi_ood": (4, 0.1, 0.01, 0.01, 0.01, 150, 150, 1.0, "conv_transformer", 5, "squared"),
    }.items()
}  # fmt: skip
"""The paper's Table 7 by data set; heads and, for the two classifications, the unused loss of a regression are ours."""


@dataclass(frozen=True)
class CmIROutput(Output):
    """M modalities, E variants (the sample itself first; 1 in evaluation).

    pooled: X_m (M, B, d); variants: Z^inv in all environments (E, M, B, d); spurious: (M, B, d) or None;
    perturbed: predictions of all variants (E, B[, C]) or None; statistics: of batch normalisation or None.
    """

    pooled: Tensor
    variants: Tensor
    spurious: Tensor | None
    perturbed: Tensor | None
    statistics: Tensor | None

    @property
    def invariant(self) -> Tensor:
        """Z^inv of the samples themselves, (M, B, d)."""
        return self.variants[0]


# --- networks --------------------------------------------------------------------------------------------------------


class Steps(nn.Module):
    """One modality's steps: (B, T, D) and what is observed (B, T), or None for all, to (B, T, d)."""

    def __init__(self, features: int, kind: str, config: Config) -> None:
        super().__init__()
        d, k = config.width, config.kernel
        self.kind = kind
        wide = d if kind == "conv_transformer" else features
        rates = Rates(config.attention_dropout, config.relu_dropout, config.residual_dropout)
        if kind in ("conv_transformer", "transformer_conv"):
            self.project: nn.Module = nn.Conv1d(features, d, k, padding=k // 2)
            self.transformer = Transformer(wide, config.heads, config.layers, rates, config.embed_dropout)
        else:
            self.project = nn.Linear(features, d)
        self.second = nn.Linear(d, d) if kind == "mlp" else None

    def forward(self, x: Tensor, mask: Tensor | None, noise: Noise) -> Tensor:
        if self.kind == "conv_transformer":
            return cast(Tensor, self.transformer(shown(self._convolve(x), mask), mask, noise))
        if self.kind == "transformer_conv":
            return self._convolve(shown(self.transformer(x, mask, noise), mask))
        x = self.project(x)
        return x if self.second is None else cast(Tensor, self.second(F.relu(x)))

    def _convolve(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.project(x.transpose(-1, -2)).transpose(-1, -2))


class Encoder(nn.Module):
    """g_m of Figure 7: X (..., d) to Z^inv and Z^spu (..., d)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, hidden)
        self.invariant, self.spurious = nn.Linear(hidden, width), nn.Linear(hidden, width)

    def forward(self, x: Tensor, drop: "Drop") -> tuple[Tensor, Tensor]:
        """x (E, B, d): Z^inv of all variants (E, B, d) and Z^spu of the first (B, d)."""
        h = drop(F.relu(self.second(drop(F.relu(self.first(x))))))
        return self.invariant(h), self.spurious(h[0])


class Network(nn.Module):
    """Linear layers; `relu` names those that a ReLU follows. With frozen=True no gradient reaches the weights."""

    def __init__(self, sizes: tuple[int, ...], relu: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in successive(sizes))
        self.relu = relu

    def forward(self, x: Tensor, drop: "Drop | None" = None, frozen: bool = False) -> Tensor:
        for i, layer in enumerate(cast(list[nn.Linear], self.layers)):
            w, b = layer.weight, layer.bias
            x = F.linear(x, w.detach() if frozen else w, b.detach() if frozen else b)
            if i in self.relu:
                x = F.relu(x) if drop is None else drop(F.relu(x))
        return x


class Drop:
    """A noise and a rate."""

    def __init__(self, noise: Noise | None = None, rate: float = 0.0) -> None:
        self.noise, self.rate = noise, rate

    def __call__(self, x: Tensor) -> Tensor:
        return x if self.noise is None else self.noise.dropout(x, self.rate)


def shown(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else hide(x, mask)


# --- what codes share, and how far variants lie apart ----------------------------------------------------------------


def standardised(z: Tensor, axis: int) -> Tensor:
    """Return z less its mean, over its (unbiased) deviation, along an axis; zeros where it does not vary."""
    n = z.shape[axis]
    z = z - z.mean(axis, keepdim=True)
    variance = z.square().sum(axis, keepdim=True) / max(n - 1, 1)
    return z * torch.rsqrt(variance + TINY) * (variance > TINY)


def norm(x: Tensor) -> Tensor:
    """Return the Frobenius norm of the last two axes; its gradient is finite at zero."""
    return (x.square().sum((-2, -1)) + TINY).sqrt()


def sample_dependence(
    inv: Tensor, spu: Tensor, alpha: float = 1.0, standardise: str = "batch", scale: str = "literal"
) -> Tensor:
    """Return R_dec of Eq. 5-6 for codes (..., B, d): (...)."""
    axis, (n, d) = {"batch": -2, "features": -1}[standardise], inv.shape[-2:]
    c = standardised(inv, axis) @ standardised(spu, axis).transpose(-1, -2)  # (..., B, B)
    c = c * (alpha + (1 - alpha) * torch.eye(n, dtype=c.dtype, device=c.device))
    if scale == "mean_square":
        return c.square().mean((-2, -1))
    return norm(c) / {"literal": 1, "correlation": d, "rms": n}[scale]


def cross_correlation(inv: Tensor, spu: Tensor) -> Tensor:
    """Return the correlations of all features of codes (..., B, d): (..., d, d)."""
    n = inv.shape[-2]
    return standardised(inv, -2).transpose(-1, -2) @ standardised(spu, -2) / max(n - 1, 1)


def misa_difference(inv: Tensor, spu: Tensor) -> Tensor:
    """Return MISA's difference loss of codes (..., B, d): mean square of the product of centred, row-normed codes."""
    a, b = (z - z.mean(-2, keepdim=True) for z in (inv, spu))
    a, b = (z / (z.square().sum(-1, keepdim=True) + TINY).sqrt() for z in (a, b))
    return (a.transpose(-1, -2) @ b).square().mean((-2, -1))


def squared_distances(z: Tensor) -> Tensor:
    """Return the squared distances (..., B, B) of the rows of z (..., B, d)."""
    s = z.square().sum(-1)
    return (s.unsqueeze(-1) + s.unsqueeze(-2) - 2 * z @ z.transpose(-1, -2)).clamp(min=0)


def hsic(inv: Tensor, spu: Tensor) -> Tensor:
    """Return the biased HSIC of codes (..., B, d), Gaussian kernels as wide as the mean squared distance."""
    n = inv.shape[-2]
    kernels = []
    for z in (inv, spu):
        k = squared_distances(z)
        k = torch.exp(-k / (k.detach().mean((-2, -1), keepdim=True) + TINY))
        kernels.append(k - k.mean(-1, keepdim=True))
    k, m = kernels
    return (k * m.transpose(-1, -2)).sum((-2, -1)) / max(n - 1, 1) ** 2


def pairwise_l1(z: Tensor) -> Tensor:
    """Return sum over pairs i < j of |z_i - z_j|, summed over all axes, of z (E, ...): ()."""
    ranks = torch.zeros_like(z)
    with torch.no_grad():
        for k in range(1, len(z)):
            s = torch.sign(z[k:] - z[:-k])
            ranks[k:] += s
            ranks[:-k] -= s
    return (z * ranks).sum()


def pairwise(values: Tensor, distance: str) -> Tensor:
    """Return the mean over samples of the summed distances of all pairs of outputs (E, ..., C): ().

    distance: "absolute", "squared", "classes" (logits of a softmax) or "labels" (logits of sigmoids); the last two are
    the mean of both KL divergences.
    """
    i, j = torch.triu_indices(len(values), len(values), 1, device=values.device)
    if distance in ("absolute", "squared"):
        gap = values[i] - values[j]
        apart = gap.abs() if distance == "absolute" else gap.square()
    else:
        p, log = (values.softmax(-1), values.log_softmax(-1)) if distance == "classes" else (values.sigmoid(), values)
        apart = 0.5 * (p[i] - p[j]) * (log[i] - log[j])
    return apart.sum(-1).flatten(1).mean(1).sum()


def relative_invariance(variants: Tensor) -> Tensor:
    """Return how far variants (E, ..., B, d) lie apart, over how far samples do: (), free of the codes' scale.

    Mean over pairs of environments of mean |z_i - z_j|, divided by the mean of |z - mean over samples|.
    """
    e, z = len(variants), variants[0]
    apart = pairwise_l1(variants) / (max(e * (e - 1) // 2, 1) * z.numel())
    return apart / (z - z.mean(-2, keepdim=True)).abs().mean().clamp(min=TINY)


# --- model -----------------------------------------------------------------------------------------------------------


class CmIR(AffectModel):
    cross: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        _check(config, shape)
        d, h, c = config.width, config.hidden, shape.task.outputs
        kinds = {m: "linear" if m == "text" else config.sequence for m in shape.modalities}
        self.steps = nn.ModuleList(Steps(n, kinds[m], config) for m, n in shape.dims.items())
        self.join = nn.Linear(2 * d, d) if config.joined else None
        self.modalities = tuple(m for m in shape.modalities if m != config.joined)
        m = len(self.modalities)
        self.scale = BatchNorm(m * d) if config.representation_norm == "batch" else None
        if self.scale is not None:
            for p in self.scale.parameters():
                p.requires_grad_(False)  # a learned scale could undo what it is for
        if config.codes:
            self.encoders = nn.ModuleList(Encoder(d, h) for _ in range(m))
        if config.codes and config.reconstruction_weight > 0:
            self.decoders = nn.ModuleList(Network((2 * d, h, h, d), (0, 1)) for _ in range(m))
        self.predictor = Network((m * d, h, h, h, c), (0, 2))
        if config.invariance_weight > 0 and config.invariance == "prediction":
            n = config.count if config.environments == "true" else 1
            self.heads = nn.ModuleList(
                nn.ModuleList(Network((d, h, c), (0,)) for _ in range(n)) for _ in self.modalities
            )
        if config.decorrelation_weight > 0 and config.decorrelation in ("club", "adversary"):
            out = 2 * d if config.decorrelation == "club" else d
            self.foretell = nn.ModuleList(Network((d, h, out), (0,)) for _ in range(m))
        if config.decorrelation == "features" and config.cross_estimate == "running":
            self.register_buffer("cross", torch.zeros(m, d, d))

    # --- from features to codes

    def pooled(self, features: Mapping[str, Tensor], observed: Mapping[str, Tensor], noise: Noise) -> Tensor:
        """Return X_m, (M, B, d): zero (before noise) for a modality of which nothing was observed."""
        config, h = self.config, {}
        for m, steps in zip(self.shape.modalities, self.steps):
            mask = None if config.padded else observed[m]
            x = shown(features[m], mask)
            if config.sequence == "mlp" and m != "text":
                x = (x.mean(-2) if mask is None else masked_mean(x, mask)).unsqueeze(-2)
                mask = None if mask is None else mask.any(-1, keepdim=True)
            h[m] = (shown(steps(x, mask, noise), mask), mask)
        if self.join is not None:
            text, mask = h["text"]
            h["text"] = self.join(torch.cat([text, h[config.joined][0]], -1)), mask
        vectors = [x.mean(-2) if mask is None else masked_mean(x, mask) for x, mask in (h[m] for m in self.modalities)]
        return torch.stack(vectors)

    def _scaled(self, x: Tensor, training: bool) -> tuple[Tensor, Tensor | None]:
        """Return X (M, B, d) at the scale that is asked for, and statistics to remember."""
        if self.config.representation_norm == "layer":
            return F.layer_norm(x, x.shape[-1:]), None
        if self.scale is None:
            return x, None
        y, statistics = self.scale(x.transpose(0, 1).flatten(1), training)
        return y.unflatten(1, (len(x), -1)).transpose(0, 1), statistics

    def disturbed(self, x: Tensor, noise: Noise) -> Tensor:
        """Return X (M, B, d) under the noise of the protocol, Eq. 14."""
        config = self.config
        kind, r = config.train_noise if noise.training else config.test_noise, config.noise_rate
        if r == 0 or kind == "none":
            return x
        if kind == "gaussian":
            return (1 - r) * x + r * noise.normal(*x.shape)
        u = noise.uniform(*x.shape) + 2.0**-25  # never 0, where the logarithm would be infinite
        erased = x * (u >= r)
        laplace = -torch.sign(u - 0.5) * torch.log(1 - 2 * (u - 0.5).abs()) * config.laplace_scale
        laplace = (1 - r) * x + r * laplace
        if kind != "laplace_or_erase":
            return erased if kind == "erase" else laplace
        return torch.where((noise.uniform(x.shape[1]) < 0.5).unsqueeze(-1), laplace, erased)

    def environments(self, x: Tensor, batch: Batch, noise: Noise) -> Tensor:
        """Return X of the environments (E, M, B, d), without x (M, B, d) itself; E may be 0."""
        config, k = self.config, self.config.count
        used = config.perturbed_prediction or (
            config.invariance_weight > 0 and config.invariance in ("l1", "prediction")
        )
        if not (noise.training and used and k > 0) or config.environments == "true":
            return x.unsqueeze(0)[:0]
        if config.environments == "oracle":
            return self._counterfactual(batch, noise)
        step = config.alpha / (1 if config.alpha_of == "first" else k)
        if config.variants == "one":
            e = 1 + torch.floor(noise.uniform(x.shape[1]) * k)  # 1..K, one per sample
            return (x + step * e.unsqueeze(-1) * noise.normal(*x.shape)).unsqueeze(0)
        e = torch.arange(1, k + 1, dtype=x.dtype, device=x.device).view(-1, 1, 1, 1)
        return x + step * e * noise.normal(k if config.fresh_noise else 1, *x.shape)

    def _counterfactual(self, batch: Batch, noise: Noise) -> Tensor:
        k, features = self.config.count, {}
        for m in self.shape.modalities:
            name = f"counterfactual/{m}"
            if name not in batch.extras:
                raise ConfigError(f"cmir: oracle environments need the batch's extra {name!r}")
            x = batch.extras[name].to(batch.features[m].dtype)
            x = x.unsqueeze(1) if x.ndim == batch.features[m].ndim else x
            if x.shape[1] < k:
                raise ConfigError(f"cmir: count {k} needs as many counterfactuals, {name!r} has {x.shape[1]}")
            features[m] = x[:, :k].transpose(0, 1).flatten(0, 1)  # environments are rows: (K B, T, D)
        observed = {m: o.repeat(k, 1) for m, o in batch.observed.items()}
        x, _ = self._scaled(self.pooled(features, observed, noise), noise.training)
        return x.unflatten(1, (k, -1)).transpose(0, 1)

    def encode(self, x: Tensor, drop: Drop) -> tuple[Tensor, Tensor | None]:
        """Return Z^inv (E, M, B, d) of variants x (E, M, B, d), and Z^spu (M, B, d) of the first."""
        if not self.config.codes:
            return x, None
        parts = [g(x[:, m], drop) for m, g in enumerate(self.encoders)]
        inv = torch.stack([p[0] for p in parts], 1)
        return F.layer_norm(inv, inv.shape[-1:]) if self.config.code_norm else inv, torch.stack([p[1] for p in parts])

    def decode(self, inv: Tensor, spu: Tensor) -> Tensor:
        """Return the reconstruction of X (M, B, d) from codes (M, B, d)."""
        return torch.stack([r(torch.cat([i, s], -1)) for r, i, s in zip(self.decoders, inv, spu)])

    def predict(self, inv: Tensor, drop: Drop) -> Tensor:
        """Return the outputs (..., B, C) of h from codes (..., M, B, d)."""
        out: Tensor = self.predictor(inv.transpose(-3, -2).flatten(-2), drop)
        return out

    def forward(self, batch: Batch, noise: Noise) -> CmIROutput:
        config, drop = self.config, Drop(noise, self.config.dropout)
        x, statistics = self._scaled(self.pooled(batch.features, batch.observed, noise), noise.training)
        x = self.disturbed(x, noise)  # (M, B, d)
        inv, spu = self.encode(torch.cat([x.unsqueeze(0), self.environments(x, batch, noise)]), drop)
        y = as_prediction(self.shape.task, self.predict(inv if config.perturbed_prediction else inv[:1], drop))
        read = inv[0].transpose(0, 1).flatten(1)  # (B, M d), what the predictor reads
        perturbed = y if config.perturbed_prediction else None
        return CmIROutput(y[0], x, inv, spu, perturbed, statistics, representation=read)

    # --- losses

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        o, config = cast(CmIROutput, output), self.config
        memo = {} if o.statistics is None else {"statistics": o.statistics}
        if o.perturbed is None:
            terms = {"task": self._task(o.prediction, batch.target)}
        else:
            terms = {"task": torch.stack([self._task(y, batch.target) for y in o.perturbed.unbind()]).mean()}
        if self._invariant():
            terms |= self.invariance(o, batch)
        if o.spurious is not None and config.decorrelation_weight > 0:
            terms |= self.decorrelation(o, memo)
        if o.spurious is not None and config.reconstruction_weight > 0:
            terms["reconstruction"] = self.reconstruction(o)
        if config.jacobian_weight > 0:
            terms["jacobian"] = self.jacobian(o.pooled)
        return terms, memo

    def _invariant(self) -> bool:
        return self.config.invariance_weight > 0 and self.config.count > 0

    def _task(self, y: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The task's loss; with `weight` (B,) the weighted mean over samples."""
        config, task, s = self.config, self.shape.task, self.config.label_smoothing
        if task.kind == "multi_label":
            return task_loss(task, y, target * (1 - s) + s / 2, weight)
        if task.kind == "regression" and config.regression == "squared":
            loss = (y - target).square()
        elif task.kind == "single_label" and s > 0:
            loss = F.cross_entropy(y, target, reduction="none", label_smoothing=s)
        else:
            return task_loss(task, y, target, weight)
        return loss.mean() if weight is None else (loss * weight).sum() / weight.sum().clamp(min=1e-6)

    def invariance(self, o: CmIROutput, batch: Batch) -> dict[str, Tensor]:
        """Return "invariance", R_inv summed over modalities and, where there are heads, what those learn."""
        config, z = self.config, o.variants
        e = config.count if config.environments == "true" else len(z)
        share = 1 / max(e * (e - 1) // 2, 1) if config.pairs == "mean" else 1.0
        if config.invariance == "l1":
            n = z.shape[2] * (z.shape[3] if config.invariance_features == "mean" else 1)
            return {"invariance": pairwise_l1(z) * (share / n)}
        if config.invariance == "prediction":
            apart, learn = self._heads(o, batch)
            return {"invariance": apart * share, "heads": learn}
        groups = self._groups(batch).to(z.dtype)
        distance = coral if config.invariance == "coral" else mmd
        return {"invariance": torch.stack([distance(x, groups) for x in o.invariant]).sum() * share}

    def _heads(self, o: CmIROutput, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the distances of the heads' outputs, by codes alone, and the heads' own loss, by heads alone."""
        task, true = self.shape.task, self.config.environments == "true"
        distance = {"single_label": "classes", "multi_label": "labels"}.get(task.kind, self.config.prediction_distance)
        apart, learn = [], []
        known = one_hot(environment_of(batch), self.config.count).to(o.variants.dtype) if true else None
        for m, heads in enumerate(cast(list[nn.ModuleList], self.heads)):
            z, fixed = o.variants[:, m], o.variants[0, m].detach()
            if known is None:
                outputs = heads[0](z, frozen=True)
                learn.append(self._task(as_prediction(task, heads[0](fixed)), batch.target))
            else:
                outputs = torch.stack([head(z[0], frozen=True) for head in heads])
                for head, mine in zip(heads, known):
                    learn.append(self._task(as_prediction(task, head(fixed)), batch.target, mine))
            apart.append(pairwise(outputs, distance))
        return torch.stack(apart).sum(), torch.stack(learn).sum()

    def _groups(self, batch: Batch) -> Tensor:
        """Return which samples (E, bins, B) are of each true environment and bin of the target."""
        task, bins, y = self.shape.task, self.config.label_bins, batch.target
        if bins == 1:
            part = torch.zeros_like(batch.index)
        elif task.kind == "single_label":
            bins, part = task.outputs, y
        else:
            part = y.argsort().argsort() * bins // len(y)
        return one_hot(environment_of(batch), self.config.count).unsqueeze(1) & one_hot(part, bins).unsqueeze(0)

    def decorrelation(self, o: CmIROutput, memo: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return "decorrelation", R_dec summed over modalities and, where a network foretells, what it learns."""
        config, inv, spu = self.config, o.invariant, cast(Tensor, o.spurious)
        kind, n = config.decorrelation, inv.shape[-2]
        if kind in ("club", "adversary"):
            return self._foretold(inv, spu)
        if kind == "samples":
            by = partial(sample_dependence, alpha=config.alpha_dec, standardise=config.standardise)
            return {"decorrelation": by(inv, spu, scale=config.decorrelation_scale).sum()}
        if kind in ("misa", "hsic"):
            return {"decorrelation": (misa_difference if kind == "misa" else hsic)(inv, spu).sum()}
        c = cross_correlation(inv, spu)  # (M, d, d)
        if config.cross_estimate == "corrected":  # an estimate of the squared norm that is 0 on average by chance
            return {"decorrelation": (c.square() - 1 / max(n - 1, 1)).sum((-2, -1)).clamp(min=0).sum()}
        if config.cross_estimate == "running":
            c = (1 - config.cross_momentum) * self.cross + config.cross_momentum * c
            memo["cross"] = c.detach()
        return {"decorrelation": norm(c).sum()}

    def _foretold(self, inv: Tensor, spu: Tensor) -> dict[str, Tensor]:
        """CLUB: mean log q(spu_i | inv_i) less mean log q(spu_j | inv_i). Adversary: explained share of Z^inv."""
        bound: list[Tensor] = []
        learn: list[Tensor] = []
        for q, a, b in zip(self.foretell, inv, spu):
            for frozen, into in ((True, bound), (False, learn)):
                x, y = (a, b) if frozen else (a.detach(), b.detach())
                if self.config.decorrelation == "adversary":
                    y = standardised(x, -2)
                    error = (q(b if frozen else b.detach(), frozen=frozen) - y).square().mean()
                    into.append(1 - error if frozen else error)
                    continue
                mean, logvar = q(x, frozen=frozen).chunk(2, -1)
                logvar = torch.tanh(logvar)
                own = (y - mean).square()
                if frozen:
                    every = (mean - y.mean(-2)).square() + y.var(-2, correction=0)  # mean over j of (y_j - mean)^2
                    into.append((0.5 * (every - own) * torch.exp(-logvar)).sum(-1).mean())
                else:
                    into.append(0.5 * (own * torch.exp(-logvar) + logvar).sum(-1).mean())
        return {"decorrelation": torch.stack(bound).sum(), "dependence": torch.stack(learn).sum()}

    def reconstruction(self, o: CmIROutput) -> Tensor:
        """Return R_rec summed over modalities, the mean squared error of each."""
        target = o.pooled.detach() if self.config.stop_target else o.pooled
        made = self.decode(o.invariant, cast(Tensor, o.spurious))
        return (made - target).square().mean((-2, -1)).sum()

    def jacobian(self, x: Tensor) -> Tensor:
        """Return the mean over samples of the squared gradient of all outputs by X (M, B, d), without drop-out."""

        def outputs(x: Tensor) -> Tensor:
            return self.predict(self.encode(x.unsqueeze(0), Drop())[0][0], Drop())

        y, pull = cast(Any, torch.func.vjp(outputs, x))
        every = torch.eye(y.shape[-1], dtype=y.dtype, device=y.device)
        total = torch.stack([pull(row.expand_as(y))[0].square().sum() for row in every]).sum()
        return total / x.shape[-2]

    def weights(self, progress: Progress) -> Mapping[str, float]:
        config, out = self.config, {}
        if self._invariant():
            out["invariance"] = config.invariance_weight
        if config.codes and config.decorrelation_weight > 0:
            out["decorrelation"] = config.decorrelation_weight
        if config.codes and config.reconstruction_weight > 0:
            out["reconstruction"] = config.reconstruction_weight
        if config.jacobian_weight > 0:
            out["jacobian"] = config.jacobian_weight
        return out

    @torch.no_grad()
    def remember(self, memo: Memo) -> None:
        if self.scale is not None and "statistics" in memo:
            self.scale.remember(memo["statistics"])
        if "cross" in memo:
            self.cross.copy_(memo["cross"])


def one_hot(codes: Tensor, n: int) -> Tensor:
    """Return (n, B) bool from numbers (B,); a number outside 0..n-1 is in no row."""
    return codes.unsqueeze(0) == torch.arange(n, device=codes.device).unsqueeze(1)


def environment_of(batch: Batch) -> Tensor:
    if batch.environment is None:
        raise ConfigError("cmir: true environments need data with environments, this batch has none")
    return batch.environment


def _moments(z: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sizes (E, bins), means (E, bins, d) and covariances (E, bins, d, d) of the groups (E, bins, B) of z (B, d)."""
    n = groups.sum(-1)
    mean = groups @ z / n.clamp(min=1).unsqueeze(-1)
    centred = (z - mean.unsqueeze(-2)) * groups.unsqueeze(-1)  # (E, bins, B, d)
    return n, mean, centred.transpose(-1, -2) @ centred / (n - 1).clamp(min=1).unsqueeze(-1).unsqueeze(-1)


def _over_bins(apart: Tensor, both: Tensor) -> Tensor:
    """Sum over pairs of environments of the mean of (pairs, bins) over the bins in which both have samples."""
    return ((apart * both).sum(-1) / both.sum(-1).clamp(min=1)).sum()


def coral(z: Tensor, groups: Tensor) -> Tensor:
    """Return CORAL's distance of codes z (B, d), summed over pairs of environments, groups (E, bins, B) of 0 and 1.

    Mean squared difference of the means and of the covariances, mean over the bins in which both have two samples.
    """
    n, mean, cov = _moments(z, groups)
    i, j = torch.triu_indices(len(groups), len(groups), 1, device=z.device)
    apart = (mean[i] - mean[j]).square().mean(-1) + (cov[i] - cov[j]).square().mean((-2, -1))
    return _over_bins(apart, ((n[i] > 1) & (n[j] > 1)).to(z.dtype))


def mmd(z: Tensor, groups: Tensor) -> Tensor:
    """Return the squared maximum mean discrepancy of codes z (B, d), summed over pairs of environments.

    groups (E, bins, B) of 0 and 1; Gaussian kernels of several widths, mean over the bins in which both have samples.
    """
    n = groups.sum(-1)
    share = groups / n.clamp(min=1).unsqueeze(-1)
    d = squared_distances(z)
    unit = d.detach().mean() + TINY
    k = torch.stack([torch.exp(-d / (b * unit)) for b in BANDWIDTHS]).mean(0)
    s = share.transpose(0, 1)  # (bins, E, B)
    g = s @ k @ s.transpose(-1, -2)  # (bins, E, E)
    i, j = torch.triu_indices(len(groups), len(groups), 1, device=z.device)
    apart = (g[:, i, i] + g[:, j, j] - 2 * g[:, i, j]).transpose(0, 1)
    return _over_bins(apart, ((n[i] > 0) & (n[j] > 0)).to(z.dtype))


def _check(config: Config, shape: Shape) -> None:
    def need(ok: bool, rule: str) -> None:
        if not ok:
            raise ConfigError(f"cmir: {rule}")

    for name, hint in get_type_hints(Config).items():
        if get_origin(hint) is Literal:
            value, known = getattr(config, name), get_args(hint)
            need(value in known, f"{name} {value!r} must be one of {', '.join(known)}")
    need(config.kernel % 2 == 1, f"kernel {config.kernel} must be odd to keep the length of a sequence")
    need(config.count >= 0, f"count {config.count} must be at least 0")
    need(0 < config.alpha_dec <= 1, f"alpha_dec {config.alpha_dec} must lie in (0, 1]")
    need(0 <= config.noise_rate <= 1, f"noise_rate {config.noise_rate} must lie in [0, 1]")
    need(0 <= config.label_smoothing < 1, f"label_smoothing {config.label_smoothing} must lie in [0, 1)")
    need(0 < config.cross_momentum <= 1, f"cross_momentum {config.cross_momentum} must lie in (0, 1]")
    need(config.label_bins >= 1, f"label_bins {config.label_bins} must be at least 1")
    for name in ("invariance_weight", "decorrelation_weight", "reconstruction_weight", "jacobian_weight", "alpha"):
        need(getattr(config, name) >= 0, f"{name} {getattr(config, name)} must be at least 0")
    joined, names = config.joined, shape.modalities
    if joined:
        need(joined in names and "text" in names and joined != "text",
             f"joined {joined!r} needs modalities of that name and text, got {', '.join(names)}")  # fmt: skip
        need(shape.steps[joined] == shape.steps["text"] and config.sequence != "mlp",
             f"joined {joined!r} needs the steps of text, got {shape.steps[joined]} and {shape.steps['text']}, and a "
             f"sequence other than mlp, got {config.sequence}")  # fmt: skip
    if config.invariance_weight == 0 and not config.perturbed_prediction:
        return
    kind, true = config.invariance, config.environments == "true"
    if true:
        need(kind != "l1", "invariance 'l1' compares one sample in several environments; with true environments use "
             "prediction, coral or mmd")  # fmt: skip
        need(config.count >= 2, f"true environments need count >= 2, their number, got {config.count}")
        need(not config.perturbed_prediction, "perturbed_prediction needs virtual or oracle environments, got true")
        need(kind == "prediction" or shape.task.kind != "multi_label" or config.label_bins == 1,
             f"invariance {kind!r} needs label_bins 1 for a multi_label task, got {config.label_bins}")  # fmt: skip
    else:
        need(kind in ("l1", "prediction"), f"invariance {kind!r} needs environments 'true', got {config.environments}")


CLEAN = Config()
PAPER = replace(
    CLEAN, padded=True, invariance_features="sum", decorrelation_scale="literal", attention_dropout=0.5
)  # fmt: skip
PRESETS = {"clean": CLEAN, "paper": PAPER}
