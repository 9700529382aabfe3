"""CARAT: each modality is rebuilt from the others and from prototypes, then labels are shuffled [peng2024carat].

| symbol | name | shape |
|---|---|---|
| | `features`, one vector per modality and label that attended to the steps | (B, M, q, d) |
| | `latent`, their projection | (B, M, q, k) |
| | `rebuilt`, back from the latent | (B, M, q, d) |
| alpha | `alpha`: modality m from the others' `rebuilt` and a decoded prototype in place of its own | (B, M, q, d) |
| beta | `beta`: modality m from all modalities' alpha | (B, M, q, d) |
| | `score`, of features, alpha and beta by the same weights, largest over modalities | (B, q) |
| | `aggregate`, logits of a network over the q betas of a modality | (B, M, q) |

Losses: "beta", "lsr", "alpha" BCE of the scores, "agg" of the aggregate, "shuffled" of an aggregate in which every
label slot comes from a random sample and modality, "scl" contrast of all latents with a queue, "recon", "alpha_mse",
"beta_mse". The probability is the mean of the largest beta score's and of the aggregate's over modalities; `prediction`
is its log odds. Prototypes: per modality, label and sign a running mean, sample after sample, of normalised latents.
Any number of modalities and labels; single_label and regression as in `affectcore.models.lddu`.

Differences from the published code, each with its switch, on in `author`, off in `clean`:
1. `padded`: its masks are all ones, so that the padding is attended to.
2. `anchors`, `random_queue`: the queue's rows are anchors too, and it starts with random rows; clean: the batch's rows
   are anchors, an empty queue is empty.
3. `attention_dropout`: clean draws none in the encoders, for time.
4. `hard`: in evaluation the nearer prototype is taken, in training a mixture by similarity; clean mixes in both.
Without a switch: three poolers that nothing reads (197,376 parameters) and the LSTM that aligns unaligned data are left
out; here long sequences go in as they are. The code adds 1e-12 to the contrastive denominator; queue and prototypes are
written after the step. The prototypes' update, sample after sample in the code, is one weighted sum.
On the same weights and batches (published shape, 4 batches of 8, queue of 2,048, no drop-out, nothing shuffled)
`author` and the published code differ in float64 by at most 3e-9 in the loss, in probabilities and in the gradient of
the text's embedding, by 2e-9 in the prototypes (its input norms are in float32). Parameters of `author` at the
published shape: 7,162,360, with the poolers 7,359,736.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.attention import masked_softmax
from affectcore.nn.contrastive import Queue, contrast
from affectcore.nn.labels import as_labels, from_log_odds
from affectcore.nn.pooling import hide
from affectcore.nn.transformer import EPS, Transformer, check_positions


@dataclass(frozen=True)
class Config:
    width: int = 256  # d, a multiple of `heads`
    heads: int = 8
    layers_text: int = 6
    layers: int = 4  # of the other modalities
    feedforward: int = 256
    positions_text: int = 512  # most steps of text; code 60
    positions: int = 512  # of the other modalities; code 500
    dropout: float = 0.3
    attention_dropout: float = 0.0  # difference 3
    padded: bool = False  # difference 1
    latent: int = 64  # k
    momentum: float = 0.99  # of the prototypes
    hard: bool = False  # difference 4
    queue: int = 8192
    temperature: float = 0.07
    anchors: Literal["batch", "all"] = "batch"  # difference 2
    random_queue: bool = False  # difference 2
    lsr_weight: float = 0.01
    alpha_weight: float = 0.1
    agg_weight: float = 1.0
    shuffled_weight: float = 0.1
    scl_weight: float = 1.0
    recon_weight: float = 1.0
    alpha_mse_weight: float = 1.0
    beta_mse_weight: float = 0.0


@dataclass(frozen=True)
class CaratOutput(Output):
    """See the module's table; scores: of features, alpha and beta; latents: of features, alpha and beta, in training;
    shuffled: logits (B, M, q) and labels (B, M, q) it should give, by the row that each came from, in training.
    """

    logit: Tensor
    features: Tensor
    latent: Tensor
    rebuilt: Tensor
    alpha: Tensor
    beta: Tensor
    scores: tuple[Tensor, Tensor, Tensor]
    aggregate: Tensor
    latents: tuple[Tensor, ...]
    shuffled: tuple[Tensor, Tensor] | None


def _network(*widths: int) -> nn.Sequential:
    """Linear maps with ReLU between them, Xavier weights."""
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        linear = nn.Linear(a, b)
        nn.init.xavier_uniform_(linear.weight)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Carat(AffectModel):
    prototypes: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        for m, t in shape.steps.items():
            check_positions("carat", config.positions_text if m == "text" else config.positions, {m: t})
        if not 0 <= config.momentum < 1:
            raise ConfigError(f"carat: momentum {config.momentum} must lie in [0, 1)")
        d, k, q, n = config.width, config.latent, shape.task.outputs, len(shape.dims)
        self.norms = nn.ModuleList(nn.LayerNorm(f, EPS) for f in shape.dims.values())
        self.encoders = nn.ModuleList()
        for m, f in shape.dims.items():
            layers = config.layers_text if m == "text" else config.layers
            places = config.positions_text if m == "text" else config.positions
            self.encoders.append(Transformer(f, d, config.heads, layers, config.feedforward, places))
        queries = [nn.Linear(d, q, bias=False) for _ in shape.dims]
        for query in queries:
            nn.init.xavier_uniform_(query.weight)
        self.queries = nn.ModuleList(queries)
        self.project = nn.ModuleList(_network(d, d // 2, k) for _ in shape.dims)
        self.decode = nn.ModuleList(_network(k, d // 2, d) for _ in shape.dims)
        self.rebuild = nn.ModuleList(_network(n * d, d) for _ in shape.dims)
        self.weight = nn.Parameter(torch.empty(n, q, d).uniform_(-(d**-0.5), d**-0.5))
        self.aggregate = _network(q * d, d, q)
        self.register_buffer("prototypes", torch.zeros(n, 2, q, k))  # of present, of absent labels
        self.queue = Queue(
            config.queue, k, config.temperature, 1.0 if config.random_queue else 0.0, config.anchors == "all"
        )

    def forward(self, batch: Batch, noise: Noise) -> CaratOutput:
        config, task, n = self.config, self.shape.task, len(self.shape.dims)
        vectors = []
        for (m, x), norm, encoder, query in zip(batch.features.items(), self.norms, self.encoders, self.queries):
            mask = None if config.padded else batch.observed[m]
            x = x if mask is None else hide(x, mask)
            steps = encoder(norm(x), mask, noise, config.dropout, config.attention_dropout)
            scores = query(steps).transpose(-1, -2)  # (B, q, T)
            weights = scores.softmax(-1) if mask is None else masked_softmax(scores, mask.unsqueeze(-2))
            vectors.append(weights @ steps)
        features = torch.stack(vectors, 1)  # (B, M, q, d)
        latent = self._each(self.project, features)
        rebuilt = self._each(self.decode, latent)
        near = (F.normalize(latent, dim=-1).unsqueeze(2) * self.prototypes).sum(-1)  # (B, M, 2, q)
        share = near.softmax(2)
        if config.hard and not noise.training:  # a tie goes to the absent, as in the code
            present = (near[:, :, :1] > near[:, :, 1:]).to(near.dtype)
            share = torch.cat([present, 1 - present], 2)
        filled = self._each(self.decode, (share.unsqueeze(-1) * self.prototypes).sum(2))
        own = torch.eye(n, dtype=torch.bool, device=filled.device).view(n, n, 1, 1)
        slots = torch.where(own, filled.unsqueeze(1), rebuilt.unsqueeze(1))  # (B, to, from, q, d)
        alpha = self._each(self.rebuild, slots.transpose(2, 3).flatten(-2))
        beta = self._each(self.rebuild, alpha.transpose(1, 2).flatten(-2).unsqueeze(1).expand(-1, n, -1, -1))
        first, second, third = ((x * self.weight).sum(-1).amax(1) for x in (features, alpha, beta))
        aggregate = self.aggregate(beta.flatten(-2))
        yes = (aggregate.sigmoid().mean(1) + third.sigmoid()) / 2
        no = ((-aggregate).sigmoid().mean(1) + (-third).sigmoid()) / 2
        logit = yes.clamp(min=1e-30).log() - no.clamp(min=1e-30).log()
        latents: tuple[Tensor, ...] = ()
        shuffled = None
        if noise.training:
            latents = (latent, self._each(self.project, alpha), self._each(self.project, beta))
            shuffled = self._shuffle(beta, as_labels(task, batch.target, logit), noise)
        return CaratOutput(
            from_log_odds(task, logit), logit, features, latent, rebuilt, alpha, beta, (first, second, third),
            aggregate, latents, shuffled,
        )  # fmt: skip

    def _each(self, networks: nn.ModuleList, x: Tensor) -> Tensor:
        """Apply a network to each modality of x (B, M, q, F)."""
        return torch.stack([f(x[:, i]) for i, f in enumerate(networks)], 1)

    def _shuffle(self, beta: Tensor, y: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return aggregate logits of label slots from random samples and modalities, and those samples' labels.

        Per label and modality a permutation of the samples, per label and sample one of the modalities.
        """
        b, m, q, _ = beta.shape
        sample = noise.uniform(q, m, b).argsort(-1).permute(2, 1, 0)  # (B, M, q)
        modality = noise.uniform(q, b, m).argsort(-1).permute(1, 2, 0)
        label = torch.arange(q, device=beta.device)
        return self.aggregate(beta[sample, modality, label].flatten(-2)), y[sample, label]

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        assert isinstance(output, CaratOutput)
        o, memo = output, dict[str, Tensor]()
        y = as_labels(self.shape.task, batch.target, o.logit)
        bce = F.binary_cross_entropy_with_logits
        first, second, third = o.scores
        terms = {"beta": bce(third, y), "lsr": bce(first, y), "alpha": bce(second, y)}
        terms["agg"] = bce(o.aggregate, y.unsqueeze(1).expand_as(o.aggregate))
        if o.shuffled is not None:
            terms["shuffled"] = bce(*o.shuffled)
        if o.latents:
            terms["scl"] = self._contrast(o.latents, y, memo)
        for name, x in (("recon", o.rebuilt), ("alpha_mse", o.alpha), ("beta_mse", o.beta)):
            terms[name] = (x - o.features).square().mean((0, 2, 3)).sum()
        weights = self._weights()
        return {k: v for k, v in terms.items() if weights.get(k, 1.0) > 0}, memo

    def _contrast(self, latents: tuple[Tensor, ...], y: Tensor, memo: dict[str, Tensor]) -> Tensor:
        """Contrast of the batch's latents, 2 M q classes: modality, label, present or not; fills the memo."""
        m, q = len(self.shape.dims), y.shape[-1]
        rows = F.normalize(torch.cat(latents, 1), dim=-1)  # (B, 3 M, q, k)
        slot = torch.arange(m * q, device=y.device).view(m, q)
        classes = (2 * slot + (y < 0.5).unsqueeze(1).long()).repeat(1, len(latents), 1).flatten()
        memo["latent"], memo["present"] = rows[:, :m].detach(), (y >= 0.5).to(y.dtype)
        rows = rows.flatten(0, 2)
        memo |= self.queue.entries(rows, classes)
        return contrast(rows, classes, 2 * m * q, self.queue, self.config.anchors)

    def _weights(self) -> dict[str, float]:
        c = self.config
        return {
            "lsr": c.lsr_weight,
            "alpha": c.alpha_weight,
            "agg": c.agg_weight,
            "shuffled": c.shuffled_weight,
            "scl": c.scl_weight,
            "recon": c.recon_weight,
            "alpha_mse": c.alpha_mse_weight,
            "beta_mse": c.beta_mse_weight,
        }

    def weights(self, progress: Progress) -> Mapping[str, float]:
        return {k: v for k, v in self._weights().items() if v > 0}

    @torch.no_grad()
    def remember(self, memo: Memo) -> None:
        self.queue.remember(memo)
        if "latent" in memo:
            members = torch.stack([memo["present"], 1 - memo["present"]], 1)  # (B, 2, q)
            self.prototypes.copy_(follow_each(self.prototypes, memo["latent"], members, self.config.momentum))


def follow_each(mean: Tensor, x: Tensor, members: Tensor, momentum: float) -> Tensor:
    """Return running means (M, 2, q, k) after samples x (B, M, q, k), one after another, of members (B, 2, q) 0 or 1.

    A member replaces the mean by momentum mean + (1 - momentum) x. Of n members the i-th therefore has the weight
    (1 - momentum) momentum^(n - i) in the end, and the old mean momentum^n.
    """
    later = members.flip(0).cumsum(0).flip(0) - members  # members after each
    weight = (1 - momentum) * momentum**later * members  # (B, 2, q)
    kept = momentum ** members.sum(0)
    return kept.unsqueeze(-1) * mean + torch.einsum("bsq,bmqk->msqk", weight, x)


CLEAN = Config()
AUTHOR = replace(
    CLEAN,
    padded=True,
    positions_text=60,
    positions=500,
    attention_dropout=0.3,
    anchors="all",
    random_queue=True,
    hard=True,
)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
