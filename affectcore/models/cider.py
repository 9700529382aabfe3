"""CIDer, Causal Inference Distiller: self-distillation against missing steps, a causal head [cider].

One network sees each training sample twice, complete and with steps missing, and learns to answer alike (MSSD). Its
head mixes one classifier per class, each told that class's mean features (MCM); at inference the score of a text whose
words are hidden but for the label-biased ones may be subtracted (MACI = MCM + counterfactual).

| symbol | name | shape |
|---|---|---|
| X_m | `batch.features[m]` | (B, T_m, D_m) |
| H_m | states of modality m, one slot per step of the anchor (text) | (B, T, d) |
| S | scores of all slots with all, `Scores` | (B, heads, M T, M T) |
| h | `joint`, pooled states through a residual block | (B, M d) |
| mu_i, P(i) | `classes`: mean features and share of class i | (C, sum D), (C,) |
| u_i | `head` encodings of mu_i | (C, M d) |
| P(Y given do(L)) | sum_i P(i) softmax(W_i [h; u_i] + b_i) | (B, C) |

Losses: "task" (complete), "task_missing", "feature" (smooth L1 at what was hidden), "attention" (KL of the last layer's
attention), "joint" (1 - cosine). Any number of modalities of any lengths. Regression mixes C = 3 strata by the sign of
the target, several labels mix sigmoids. The text encoder is not part of it: text comes as features, a missing step is
a zero vector, and the target of the text decoder is the features themselves. The published code fine-tunes BERT, which
turns missing tokens into [UNK] and hidden words of the counterfactual into [MASK]; in features both are zero (or
`extras["counterfactual"]` holds encoded ones, (B, T, D)).
mu_i and P(i) are summed up in the first epoch (then fixed, and exact); `class_statistics` gives them beforehand.

Differences from the paper and quirks of its code, each with its switch, on in `author`, off in `clean`.
1. `positions` "batch": the sinusoidal code is added along the batch, so a prediction depends on the sample's place
   in its batch, and the transformer knows no order. clean restarts at every modality; "time" counts on through all.
2. `padded`: no mask of the padding in the recurrences, the transformer, the pooling and the attention loss.
3. `missing` "position": each position draws a rate of its own, which is Bernoulli(0.5); clean draws one a sample.
4. `steps` "accumulated": the complete view makes one Adam step, the other a second one whose gradient still holds
   the first, with teacher targets from before it. "two" clears it; clean sums all losses into one step.
5. `evaluation_prior` "uniform", `evaluation_means` "average": in evaluation P(i) = 1/C and one mean for all.
   `evaluation_class_means` takes the means of the split itself, which are made with its labels.
6. `summed_log`: the log of the sum without a floor; clean sums logs.
7. `fixed_slices`: the fused sequence is cut at the lengths of training, whatever the length of the batch.
8. `special` "text": first and last step of the text are [CLS] and [SEP]: never hidden, never aligned; in clean
   their slots of other modalities are left out of the pooling. None where the text has no such tokens.
9. `unread_alignment`: aligned data leave 2 (4 d^2 + 4 d) parameters unread.
10. `bias_words`: raw counts, neg and pos alone of three classes, and the previous word's value for words that
   occur in neutral samples alone.
Kept in both, with switches: `attention_loss` sums over query rows, drop-out acts in the teacher's pass, scores are
subtracted as logs. Names say which weight is which.
Without a switch: keys of padded frames are hidden from the alignment in both, as in the code. Stacked seeds need room
for the fused sequence alone, since no score is ever written.

On the same weights and masks, without drop-out, `author` and the published code (state of 9 July 2025, BERT replaced by
given features; 16 samples with padding, unaligned and aligned CMU-MOSI shapes, 3 layers) differ in float64 by at most
4e-16 in log-probabilities, 4e-16 in each loss and 1e-15 in any gradient; in float32 by 5e-7, 8e-7 and 5e-7. One batch's
two Adam steps leave parameters that differ by at most 1e-14 in float64.
Parameters: those of the published code in its twelve settings, 276,566 for unaligned CMU-MOSI, three classes, N = 3.
What saves time and changes no value: attention over seven subsets from three blocks' sums, the attention loss without
written scores (`affectcore.nn.subset_attention`); three linear layers after the attention folded into one; projections
of frames folded into keys and values; class means encoded once a pass; the head as one product.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args, get_origin, get_type_hints

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from affectcore.data.schema import Batch, Task
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape, Stage
from affectcore.nn.attention import MultiheadAttention, attend, masked_softmax
from affectcore.nn.average import follow, frozen_copy
from affectcore.nn.losses import as_prediction
from affectcore.nn.pooling import hide
from affectcore.nn.recurrent import GRU
from affectcore.nn.subset_attention import Scores, SubsetAttention, divergence, subsets

Encodings = Literal["means", "learned", "zeros", "shuffled", "random"]
Path = tuple[str, str, float]  # modality, kind, tau
KINDS = ("words", "deleted", "mean", "shuffle", "zeros", "prior")
FLOOR = 1e-12
SPECIAL_TOKENS = (0, 100, 101, 102, 103)  # [PAD], [UNK], [CLS], [SEP], [MASK] of BERT's vocabulary


@dataclass(frozen=True)
class CausalConfig:
    """Settings of MACI, shared by CIDer and by the wrapper of other models."""

    head: Literal["mixture", "linear"] = "mixture"  # the mixture over classes (MCM) or an ordinary classifier
    # u_i: encoded class means; a learned table; zeros; the means of another class; fixed random vectors
    encodings: Encodings = "means"
    class_modalities: tuple[str, ...] | None = None  # whose means enter u_i; None: all
    class_norm: bool = False  # norms in the encoders of all modalities but text; code: cross-corpus runs
    class_means: tuple[
        tuple[float, ...], ...
    ] = ()  # mu_i of the training split, C rows; () is summed up while training
    class_shares: tuple[float, ...] = ()  # P(i) beside `class_means`
    evaluation_prior: Literal["train", "uniform"] = "train"  # difference 5
    evaluation_means: Literal["class", "average"] = "class"  # difference 5
    evaluation_class_means: tuple[tuple[float, ...], ...] = ()  # difference 5: of another split
    summed_log: bool = False  # difference 6
    # counterfactual passes (modality, kind, tau), score' = score - sum of tau * score of each. Kinds: words (all but
    # `words` zero), deleted (the same, and out of every mask), mean (the training mean at every step), shuffle (steps
    # in another order), zeros, prior (log P(i) for a score, no pass)
    paths: tuple[Path, ...] = ()
    difference: Literal["log", "probability"] = "log"  # what is subtracted; probability for single_label alone
    words: tuple[int, ...] = ()  # token ids that the counterfactual text keeps, from `bias_words`
    tokens: str = "tokens"  # name of the token ids in `batch.extras`, (B, T)


@dataclass(frozen=True)
class Config(CausalConfig):
    width: int = 32  # d; code 32
    heads: int = 8  # of the transformer, a divisor of d; code 8 (searched over 1, 2, 4, 8)
    layers: int = 3  # N; code 3 (searched over 1 to 4)
    embed_dropout: float = 0.2  # of the fused sequence; code 0.2 (searched)
    attention_dropout: float = 0.0  # of the attention over all modalities; code 0 (searched)
    relu_dropout: float = 0.1  # inside the feed-forward part; code 0.1
    residual_dropout: float = 0.1  # of what is added; code 0.1
    output_dropout: float = 0.3  # of the joint representation's block; code 0.3 (searched)
    anchor: str = "text"  # the modality whose steps the others are aligned to; the first one if it is not there
    # WSAM attention; mean over equal chunks; strided convolution; none (all steps). Skipped if all lengths are equal
    alignment: Literal["attention", "chunks", "convolution", "none"] = "attention"
    special: str | None = None  # difference 8
    composite: bool = True  # attend over every subset of modalities (MCT) or over all at once
    positions: Literal["restart", "time", "batch", "none"] = "restart"  # difference 1
    padded: bool = False  # difference 2
    fixed_slices: bool = False  # difference 7
    unread_alignment: bool = False  # difference 9
    # MSSD. Steps are hidden with one rate a sample; one per sample and modality; that, and none in half of the samples;
    # one per position; a fixed rate; whole modalities with one rate a sample; or there is no second view
    missing: Literal["sample", "modality", "half", "position", "fixed", "whole", "none"] = "sample"  # difference 3
    missing_rate: float = 0.5  # of "fixed", in [0, 1]
    steps: Literal["one", "two", "accumulated"] = "one"  # difference 4
    # who makes the targets: the network itself; its moving average; a network of its own
    teacher: Literal["shared", "average", "own"] = "shared"
    teacher_decay: float = 0.999  # of "average"
    teacher_width: int | None = None  # of "own"; None: as the student
    teacher_layers: int | None = None  # of "own"; None: as the student
    teacher_epochs: int = 0  # of "own": it learns alone so long, then stands still; 0: both learn all along
    teacher_dropout: bool = True  # drop-out in the complete view
    feature_weight: float = 0.6  # alpha; 0 leaves the decoders out
    attention_weight: float = 0.1  # beta
    joint_weight: float = 0.5  # gamma
    attention_loss: Literal["kl", "kl_mean", "mse_logits", "mse_probabilities"] = "kl"  # kl sums over query rows
    attention_groups: Literal["whole", "subsets"] = "whole"  # attention over all modalities, or over every subset
    attention_layers: Literal["last", "all"] = "last"


# Class means and shares


def classes_of(task: Task, target: Tensor, like: Tensor) -> Tensor:
    """Return the strata of targets as weights (B, C): the class, the labels, or the sign (-, 0, +) of a regression."""
    if task.kind == "multi_label":
        return target.to(like.dtype)
    codes = target.sign().long() + 1 if task.kind == "regression" else target
    return (codes.unsqueeze(-1) == torch.arange(strata(task), device=target.device)).to(like.dtype)


def strata(task: Task) -> int:
    """Return the number of strata C of `classes_of`."""
    return 3 if task.kind == "regression" else task.outputs


class ClassMeans(nn.Module):
    """Mean features (C, sum D) and shares (C,) of the classes of training: given, or summed up in the first epoch.

    A sample's features are averaged over time; a modality of which it shows nothing does not count (padded: the mean
    runs over the padding, zeros included).
    """

    total: Tensor
    count: Tensor
    members: Tensor

    def __init__(self, config: CausalConfig, shape: Shape, padded: bool = False) -> None:
        super().__init__()
        c, self.dims = strata(shape.task), list(shape.dims.values())
        self.task, self.padded, self.given = shape.task, padded, bool(config.class_means)
        self.register_buffer("total", torch.zeros(c, sum(self.dims)))
        self.register_buffer("count", torch.zeros(c, len(self.dims)))
        self.register_buffer("members", torch.zeros(c))
        if self.given:
            self.total.copy_(torch.tensor(config.class_means))
            self.count.fill_(1)
            self.members.copy_(torch.tensor(config.class_shares))

    def means(self) -> Tensor:
        count = torch.cat([self.count[:, i : i + 1].expand(-1, d) for i, d in enumerate(self.dims)], -1)
        return self.total / count.clamp(min=1)

    def shares(self) -> Tensor:
        """Return P(i); uniform before anything was counted."""
        n = self.members.sum()
        return torch.where(
            n > 0, self.members / n.clamp(min=FLOOR), torch.full_like(self.members, 1 / len(self.members))
        )

    def gather(self, batch: Batch, progress: Progress) -> Memo:
        """Return what a batch adds, nothing after the first epoch."""
        if self.given:
            return {}
        vectors, seen = [], []
        for m, x in batch.features.items():
            mask = torch.ones_like(batch.observed[m]) if self.padded else batch.observed[m]
            n = mask.sum(-1, keepdim=True)
            vectors.append(hide(x, mask).sum(-2) / n.clamp(min=1))
            seen.append((n > 0).to(x.dtype))
        y = classes_of(self.task, batch.target, vectors[0]) * (progress.epoch == 0)
        weights = torch.cat(seen, -1)  # (B, M)
        return {
            "class_total": (y.transpose(-1, -2) @ torch.cat(vectors, -1)).detach(),
            "class_count": y.transpose(-1, -2) @ weights,
            "class_members": y.sum(0),
        }

    def remember(self, memo: Memo) -> None:
        if not self.given:
            self.total.add_(memo["class_total"])
            self.count.add_(memo["class_count"])
            self.members.add_(memo["class_members"])


def class_statistics(
    batch: Batch, task: Task, padded: bool = False
) -> tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]:
    """Return `class_means` and `class_shares` of a split, for a configuration."""
    shape = Shape({m: x.shape[-1] for m, x in batch.features.items()}, {}, task)
    classes = ClassMeans(CausalConfig(), shape, padded).double()
    classes.remember(classes.gather(batch.to("cpu", torch.float64), Progress(0, 0, 1, 1)))
    rows = cast(list[list[float]], classes.means().tolist())
    return tuple(tuple(r) for r in rows), tuple(classes.shares().tolist())


# Bias words and counterfactual text


def bias_words(
    tokens: NDArray[np.integer],
    classes: NDArray[np.integer],
    *,
    most: int | None = 100,
    cv: float = 0.1,
    normalised: bool = True,
    neutral: bool = True,
    filter_first: bool = True,
    stale: bool = False,
    special: Iterable[int] = SPECIAL_TOKENS,
) -> tuple[int, ...]:
    """Return the ids of words whose frequency varies with the class, frequent ones first, at most `most` (None: all).

    tokens (N, T), classes (N,) of a training split, where every occurrence counts. A word passes if std / mean of its
    class frequencies is at least `cv`: of raw counts, or, if normalised, of (count + 0.5) / tokens of the class.
    neutral: whether the middle one of three classes counts. filter_first: take `most` of those that pass, or else those
    that pass of the `most` frequent. stale: a word of neutral samples alone takes the value of the word met before it.
    The published code: normalised=False, neutral=False, stale=True.
    """
    c = int(classes.max()) + 1
    ids, first, codes = np.unique(tokens, return_index=True, return_inverse=True)
    counts = np.zeros((len(ids), c))
    np.add.at(counts, (codes.reshape(tokens.shape), np.broadcast_to(classes[:, None], tokens.shape)), 1)
    met = np.argsort(first)  # the order of first occurrence, by which ties are broken
    met = met[~np.isin(ids[met], list(special))]
    ids, counts = ids[met], counts[met]
    used = counts[:, [0, 2]] if c == 3 and not neutral else counts
    rates = (used + 0.5) / np.maximum(used.sum(0), 1) if normalised else used
    with np.errstate(invalid="ignore"):
        spread = rates.std(1) / rates.mean(1)  # NaN for a word of neutral samples alone
    for i in range(1, len(spread)) if stale else ():
        if np.isnan(spread[i]):
            spread[i] = spread[i - 1]
    passes = np.nan_to_num(spread) >= cv
    order = np.argsort(-counts.sum(1), kind="stable")
    order = order[passes[order]][:most] if filter_first else order[:most][passes[order[:most]]]
    return tuple(int(i) for i in ids[order])


def counterfactual_tokens(
    tokens: Tensor, words: Sequence[int], token: int = 103, special: Iterable[int] = SPECIAL_TOKENS
) -> Tensor:
    """Return token ids (B, T) with all but `words` and `special` replaced by `token` ([MASK]), for a text encoder."""
    kept = torch.isin(tokens, torch.tensor([*words, *special], device=tokens.device, dtype=tokens.dtype))
    return torch.where(kept, tokens, torch.full_like(tokens, token))


def kept_words(batch: Batch, config: CausalConfig, modality: str) -> Tensor:
    """Return (B, T) bool: steps whose token is one of `config.words`."""
    if config.tokens not in batch.extras:
        raise ConfigError(
            f"the path 'words' needs token ids in extras[{config.tokens!r}] or features in extras['counterfactual'], "
            f"the batch has {', '.join(batch.extras) or 'none'}"
        )
    tokens = batch.extras[config.tokens]
    words = torch.tensor(config.words, device=tokens.device, dtype=tokens.dtype)
    return (tokens.unsqueeze(-1) == words).any(-1)


def shuffled(x: Tensor, valid: Tensor) -> Tensor:
    """Return x (B, T, D) with its valid steps in another order, the same for all sequences of one length."""
    t = torch.arange(x.shape[-2], dtype=torch.float64, device=x.device)
    place = torch.frac(torch.sin(12.9898 * (t + 1)) * 43758.5453).abs()
    order = torch.where(valid, place, 2 + t).argsort(-1)
    return x.gather(-2, order.unsqueeze(-1).expand_as(x))


def replaced(
    batch: Batch, modality: str, kind: str, config: CausalConfig, classes: ClassMeans
) -> tuple[Tensor, Tensor | None]:
    """Return features (B, T, D) of a counterfactual path, and the steps that it keeps if it deletes the others."""
    x = hide(batch.features[modality], batch.observed[modality])
    if kind in ("words", "deleted"):
        if "counterfactual" in batch.extras and kind == "words":
            return hide(batch.extras["counterfactual"].to(x.dtype), batch.observed[modality]), None
        kept = kept_words(batch, config, modality)
        return hide(x, kept), kept if kind == "deleted" else None
    if kind == "mean":
        start = sum(batch.features[m].shape[-1] for m in batch.modalities[: batch.modalities.index(modality)])
        mean = (classes.shares() @ classes.means())[start : start + x.shape[-1]]
        return hide(mean.expand_as(x), batch.valid(modality)), None
    if kind == "shuffle":
        return shuffled(x, batch.valid(modality)), None
    return torch.zeros_like(x), None


def effect(config: CausalConfig, task: Task, factual: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Return the factual prediction less tau times that of each counterfactual path."""
    if config.difference == "probability" and others:
        factual, others = factual.softmax(-1), [y.softmax(-1) for y in others]
    for (_, _, tau), y in zip(config.paths, others):
        factual = factual - tau * y
    return factual


# The causal head


class CausalHead(nn.Module):
    """MCM: a mixture over classes i of linear experts told the encoding u_i, (B, F) to predictions."""

    noise: Tensor

    def __init__(self, config: CausalConfig, shape: Shape, features: int, width: int) -> None:
        super().__init__()
        self.config, self.task, self.modalities = config, shape.task, shape.modalities
        chosen = shape.modalities if config.class_modalities is None else config.class_modalities
        self.chosen, self.dims = chosen, dict(shape.dims)
        c, o, n = strata(shape.task), shape.task.outputs, len(chosen) * width
        if config.head == "linear":
            self.linear = nn.Linear(features, o)
            return
        if config.encodings in ("means", "shuffled"):
            self.encoders = nn.ModuleList(
                nn.ModuleList([nn.Linear(d, width), nn.Linear(width, width), nn.Linear(width, width)])
                for d in (shape.dims[m] for m in chosen)
            )
        elif config.encodings == "learned":
            self.table = nn.Parameter(0.1 * torch.randn(c, n))
        elif config.encodings == "random":
            self.register_buffer("noise", torch.randn(c, n))
        self.size = 0 if config.encodings == "zeros" else n
        self.experts = nn.ModuleList(nn.Linear(features + self.size, o) for _ in range(c))

    def encodings(self, means: Tensor) -> Tensor:
        """Return u (C, n) of class means (C, sum D)."""
        config = self.config
        if config.encodings == "learned":
            return self.table
        if config.encodings == "random":
            return self.noise
        if config.encodings == "shuffled":
            means = means.roll(1, 0)
        parts = dict(zip(self.modalities, means.split(list(self.dims.values()), -1)))
        out = []
        for m, layers in zip(self.chosen, cast(list[nn.ModuleList], self.encoders)):
            u = parts[m]
            for i, layer in enumerate(layers):
                u = layer(u)
                if i < 2:
                    u = F.relu(F.layer_norm(u, u.shape[-1:]) if config.class_norm and m != "text" else u)
            out.append(u)
        return torch.cat(out, -1)

    def forward(self, h: Tensor, classes: ClassMeans, training: bool) -> Tensor:
        """Return predictions: log-probabilities, log odds or scores."""
        if self.config.head == "linear":
            return as_prediction(self.task, self.linear(h))
        means, share = classes.means(), classes.shares()
        if not training:
            if self.config.evaluation_class_means:
                means = means.new_tensor(self.config.evaluation_class_means)
            if self.config.evaluation_means == "average":
                means = means.mean(0, keepdim=True).expand_as(means)
            if self.config.evaluation_prior == "uniform":
                share = torch.full_like(share, 1 / len(share))
        weight, bias = (torch.stack([getattr(e, k) for e in self.experts]) for k in ("weight", "bias"))
        f, sizes = h.shape[-1], bias.shape
        if self.size:  # u_i is the same for all samples: it only moves the bias
            bias = bias + (weight[..., f:] @ self.encodings(means).unsqueeze(-1)).squeeze(-1)
        logits = F.linear(h, weight[..., :f].flatten(0, 1), bias.flatten()).unflatten(-1, sizes)  # (B, C, O)
        return self.mix(logits, share)

    def mix(self, logits: Tensor, share: Tensor) -> Tensor:
        """Return the mixture of experts' outputs (B, C, O) with weights (C,)."""
        p = share.unsqueeze(-1)
        if self.task.kind == "regression":
            return as_prediction(self.task, (logits * p).sum(-2))
        if self.task.kind == "single_label":
            if self.config.summed_log:
                return (logits.softmax(-1) * p).sum(-2).log()
            return (logits.log_softmax(-1) + p.clamp(min=FLOOR).log()).logsumexp(-2)
        if self.config.summed_log:
            yes = (logits.sigmoid() * p).sum(-2)
            return yes.log() - (1 - yes).log()
        log = p.clamp(min=FLOOR).log()
        return (F.logsigmoid(logits) + log).logsumexp(-2) - (F.logsigmoid(-logits) + log).logsumexp(-2)


def causal_loss(config: CausalConfig, task: Task, prediction: Tensor, target: Tensor) -> Tensor:
    """Return the task's loss; predictions of the mixture are log-probabilities already."""
    if task.kind == "single_label":
        log_p = prediction if config.head == "mixture" else prediction.log_softmax(-1)
        return -log_p.gather(-1, target.unsqueeze(-1)).mean()
    if task.kind == "regression":
        return (prediction - target).abs().mean()
    return F.binary_cross_entropy_with_logits(prediction, target.to(prediction.dtype))


# The network


def position_code(steps: int, features: int, like: Tensor) -> Tensor:
    """Return sinusoidal positions (steps, features), sines in even columns and cosines in odd ones, counted from 0."""
    step = torch.arange(steps, dtype=torch.float64, device=like.device).unsqueeze(-1)
    place = torch.arange(0, features, 2, dtype=torch.float64, device=like.device)
    angle = step * torch.exp(place * (-math.log(10000.0) / features))
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)[..., :features].to(like.dtype)


class WordAttention(nn.Module):
    """WSAM: steps of the anchor attend to a modality's frames; (B, T, d) and (B, T_m, D_m) to (B, T, d).

    Rows that may not ask (`asks` False) are the bias of the output layer.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.attention = MultiheadAttention(features, 1)
        nn.init.xavier_uniform_(self.attention.out_proj.weight)

    def forward(self, query: Tensor, x: Tensor, project: nn.Linear, asks: Tensor, valid: Tensor) -> Tensor:
        """x: frames before their projection, which is folded into keys and values where that is cheaper."""
        a = self.attention
        d = a.features
        q = F.linear(query, a.in_proj_weight[:d], a.in_proj_bias[:d])
        w, b = a.in_proj_weight[d:], a.in_proj_bias[d:]
        kv = F.linear(x, w @ project.weight, b) if x.shape[-1] < 2 * d else F.linear(project(x), w, b)
        k, v = kv.chunk(2, -1)
        mixed = hide(attend(q, k, v, 1, valid), asks)
        out: Tensor = a.out_proj(mixed)
        return out


def chunk_means(x: Tensor, valid: Tensor, slots: int, lengths: Tensor) -> Tensor:
    """Return means (B, slots, D) of a sequence cut into `lengths` (B,) equal chunks; empty chunks are zero."""
    n = valid.sum(-1, keepdim=True)
    place = torch.arange(x.shape[-2], device=x.device) * lengths.unsqueeze(-1) // n.clamp(min=1)
    member = (place.unsqueeze(-2) == torch.arange(slots, device=x.device).unsqueeze(-1)) & valid.unsqueeze(-2)
    member = member.to(x.dtype)
    return (member @ x) / member.sum(-1, keepdim=True).clamp(min=1)


class Layer(nn.Module):
    """Pre-norm subset attention and a two-layer network of four times the width, both with a residual."""

    def __init__(self, config: Config, features: int, blocks: int) -> None:
        super().__init__()
        groups = subsets(blocks) if config.composite else (tuple(range(blocks)),)
        self.config = config
        self.attention = SubsetAttention(features, config.heads, blocks, groups)
        self.norm_attention, self.norm_network = nn.LayerNorm(features), nn.LayerNorm(features)
        self.up, self.down = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)
        for linear in (self.up, self.down):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, lengths: Sequence[int], mask: Tensor | None, noise: Noise) -> tuple[Tensor, Scores]:
        c = self.config
        y, scores = self.attention(self.norm_attention(x), lengths, mask, noise, c.attention_dropout)
        x = x + noise.dropout(y, c.residual_dropout)
        y = self.down(noise.dropout(F.relu(self.up(self.norm_network(x))), c.relu_dropout))
        return x + noise.dropout(y, c.residual_dropout), scores


class Pool(nn.Module):
    """Attention pooling: weights softmax(v . tanh(W x + b) + c) over the steps; (B, T, d) to (B, d)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.project, self.score = nn.Linear(features, features), nn.Linear(features, 1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        scores = self.score(torch.tanh(self.project(x))).squeeze(-1)
        weights = scores.softmax(-1) if mask is None else masked_softmax(scores, mask)
        return (weights.unsqueeze(-2) @ x).squeeze(-2)


@dataclass(frozen=True)
class Target:
    """What the teacher shows the student, detached: its joint representation, and its attention in some layers."""

    joint: Tensor
    scores: tuple[Scores, ...]


@dataclass(frozen=True)
class View:
    """What the network makes of one view of the samples. states[i]: (B, T_i, d); scores: of every layer."""

    prediction: Tensor
    joint: Tensor
    states: tuple[Tensor, ...]
    scores: tuple[Scores, ...]
    lengths: tuple[int, ...]
    mask: Tensor | None

    def target(self, layers: slice) -> Target:
        """Return what a student learns from."""
        return Target(self.joint.detach(), tuple(s.detach() for s in self.scores[layers]))


def slots_of(config: Config, shape: Shape) -> dict[str, int]:
    """Return how many slots each modality has in the fused sequence."""
    anchor = anchor_of(config, shape)
    return {m: t if config.alignment == "none" else shape.steps[anchor] for m, t in shape.steps.items()}


def anchor_of(config: Config, shape: Shape) -> str:
    return config.anchor if config.anchor in shape.dims else shape.modalities[0]


class Network(nn.Module):
    """Everything from features to the prediction."""

    def __init__(self, config: Config, shape: Shape, width: int, layers: int) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        n, self.anchor = len(shape.dims), anchor_of(config, shape)
        self.others = [m for m in shape.dims if m != self.anchor]
        self.aligned = len(set(shape.steps.values())) == 1 or config.alignment == "none"
        self.project = nn.ModuleList(nn.Linear(d, width, bias=False) for d in shape.dims.values())
        if config.alignment == "attention" and (not self.aligned or config.unread_alignment):
            self.align = nn.ModuleList(WordAttention(width) for _ in self.others)
        if config.alignment == "convolution" and not self.aligned:
            self.strides = [-(-shape.steps[m] // shape.steps[self.anchor]) for m in self.others]
            self.align = nn.ModuleList(nn.Conv1d(width, width, s, s) for s in self.strides)
        self.encode = nn.ModuleList(GRU(width, width) for _ in range(n))
        self.layers = nn.ModuleList(Layer(config, width, n) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.pool = nn.ModuleList(Pool(width) for _ in range(n))
        self.first, self.second = nn.Linear(n * width, n * width), nn.Linear(n * width, n * width)
        self.head = CausalHead(config, shape, n * width, width)

    def forward(self, x: Mapping[str, Tensor], valid: Mapping[str, Tensor], classes: ClassMeans, noise: Noise) -> View:
        """x[m]: (B, T_m, D_m), zero where hidden; valid[m]: (B, T_m), steps that exist."""
        config = self.config
        slots, masks, pooled = self._slots(x, valid)
        blind = config.padded
        h = [g(s, None if blind else m)[0] for g, s, m in zip(self.encode, slots, masks)]
        z = torch.cat(h, -2)  # (B, sum T_i, d)
        lengths = [s.shape[-2] for s in h]
        z = noise.dropout(z + self._positions(z, lengths), config.embed_dropout)
        lengths = self._cuts(lengths)
        mask = None if blind else torch.cat(masks, -1)
        scores = []
        for layer in self.layers:
            z, s = layer(z, lengths, mask, noise)
            scores.append(s)
        states = self.norm(z).split(lengths, -2)
        g = torch.cat([p(s, None if blind else m) for p, s, m in zip(self.pool, states, pooled)], -1)
        joint = g + self.second(noise.dropout(F.relu(self.first(g)), config.output_dropout))
        prediction = self.head(joint, classes, noise.training)
        return View(prediction, joint, tuple(states), tuple(scores), tuple(lengths), mask)

    def _slots(
        self, x: Mapping[str, Tensor], valid: Mapping[str, Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return per modality its slots (B, T, d), which of them exist, and which the pooling sees."""
        config, anchor = self.config, self.anchor
        ends = ends_of(valid[anchor]) if config.special == anchor else None
        asks = valid[anchor] if ends is None else valid[anchor] & ~ends
        words = self.project[self._index(anchor)](x[anchor])
        slots, masks, pooled = [], [], []
        for m in self.shape.modalities:
            project = cast(nn.Linear, self.project[self._index(m)])
            mask = pool = valid[anchor] if m != anchor and not self.aligned else valid[m]
            if m == anchor:
                s = words
            elif self.aligned:
                s = project(x[m])
            elif config.alignment == "attention":
                s, pool = self.align[self.others.index(m)](words, x[m], project, asks, valid[m]), asks
            elif config.alignment == "chunks":
                s = chunk_means(project(x[m]), valid[m], words.shape[-2], valid[anchor].sum(-1))
            else:
                stride = self.strides[self.others.index(m)]
                room = stride * self.shape.steps[anchor] - x[m].shape[-2]
                v = F.pad(project(x[m]), (0, 0, 0, max(room, 0)))
                s = self.align[self.others.index(m)](v.transpose(-1, -2)).transpose(-1, -2)
                mask = pool = F.pad(valid[m], (0, max(room, 0)))[..., ::stride][..., : s.shape[-2]]
            slots.append(s)
            masks.append(mask)
            pooled.append(pool)
        if ends is not None:  # a text of nothing but its ends would leave no slot to pool
            pooled = [torch.where(p.any(-1, keepdim=True), p, m) for p, m in zip(pooled, masks)]
        return slots, masks, pooled

    def _index(self, modality: str) -> int:
        return self.shape.modalities.index(modality)

    def _positions(self, z: Tensor, lengths: Sequence[int]) -> Tensor:
        kind, d = self.config.positions, z.shape[-1]
        if kind == "none":
            return torch.zeros_like(z[:1])
        if kind == "batch":
            return position_code(z.shape[0], d, z).unsqueeze(-2)
        if kind == "time":
            return position_code(z.shape[-2], d, z)
        code = position_code(max(lengths), d, z)
        return torch.cat([code[:t] for t in lengths])

    def _cuts(self, lengths: list[int]) -> list[int]:
        """Return the lengths of the blocks: as they are, or cut at those of training."""
        if not self.config.fixed_slices or len(lengths) < 2:
            return lengths
        left, cuts = sum(lengths), []
        for t in list(slots_of(self.config, self.shape).values())[:-1]:
            cuts.append(min(t, left))
            left -= cuts[-1]
        return [*cuts, left]


def ends_of(valid: Tensor) -> Tensor:
    """Return (B, T) bool, True at the first and at the last step that exists."""
    steps = torch.arange(valid.shape[-1], device=valid.device)
    return valid & ((steps == 0) | (steps == valid.sum(-1, keepdim=True) - 1))


class Decoders(nn.Module):
    """From states back to features: (B, T_i, d) to (B, T_m, D_m). The anchor's by step, the others' over time too."""

    def __init__(self, config: Config, shape: Shape, width: int) -> None:
        super().__init__()
        self.slots, self.steps, self.anchor = slots_of(config, shape), dict(shape.steps), anchor_of(config, shape)
        self.over_time = nn.ModuleList(nn.Linear(self.slots[m], shape.steps[m]) for m in shape.dims if m != self.anchor)
        self.features = nn.ModuleList(nn.Linear(width, d) for d in shape.dims.values())

    def forward(self, states: Sequence[Tensor], mask: Tensor | None, lengths: Sequence[int]) -> list[Tensor]:
        """mask (B, sum T_i): slots that count; None means all."""
        masks = [None] * len(states) if mask is None else mask.split(list(lengths), -1)
        over_time, out = iter(self.over_time), []
        for m, s, seen, features in zip(self.steps, states, masks, self.features):
            s = s if seen is None else hide(s, seen)
            if m != self.anchor:
                room = self.slots[m] - s.shape[-2]
                s = F.relu(next(over_time)(F.pad(s, (0, 0, 0, room)).transpose(-1, -2))).transpose(-1, -2)
            out.append(features(s))
        return out


# The model


class _Still:
    """A pass without drop-out in training; everything else is drawn as usual."""

    def __init__(self, noise: Noise) -> None:
        self.training, self._noise = noise.training, noise

    def dropout(self, x: Tensor, p: float) -> Tensor:
        return x

    def normal(self, *shape: int) -> Tensor:
        return self._noise.normal(*shape)

    def uniform(self, *shape: int) -> Tensor:
        return self._noise.uniform(*shape)


@dataclass(frozen=True)
class CIDerOutput(Output):
    """joint: (B, M d); counterfactuals: predictions of `Config.paths`, in evaluation.

    In training: complete: the view with all steps; target: what the teacher shows of them; missing: the other view,
    with decoded features; hidden[m]: (B, T_m) bool, what it was not shown.
    """

    joint: Tensor
    counterfactuals: tuple[Tensor, ...] = ()
    complete: View | None = None
    target: Target | None = None
    missing: View | None = None
    decoded: tuple[Tensor, ...] = ()
    hidden: Mapping[str, Tensor] | None = None


class CIDer(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        _check(config, shape)
        self.classes = ClassMeans(config, shape, config.padded)
        self.network = Network(config, shape, config.width, config.layers)
        two = config.missing != "none"
        if config.feature_weight > 0 and two:
            self.decoders = Decoders(config, shape, config.width)
        if config.teacher == "average":
            self.average = frozen_copy(self.network)
        if config.teacher == "own":
            width, layers = config.teacher_width or config.width, config.teacher_layers or config.layers
            self.teacher = Network(config, shape, width, layers)
            if config.joint_weight > 0 and width != config.width:
                n = len(shape.dims)
                self.to_teacher = nn.Linear(n * config.width, n * width)

    def forward(self, batch: Batch, noise: Noise) -> CIDerOutput:
        if not noise.training:
            return self._infer(batch, noise)
        target, complete = self._complete(batch, noise)
        return self._distil(batch, noise, target, complete)

    def _read(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return features by modality, zero where nothing was observed, and the steps that exist."""
        blind = self.config.padded
        x = {m: v if blind else hide(v, batch.observed[m]) for m, v in batch.features.items()}
        return x, {m: batch.valid(m) for m in batch.modalities}

    # --- inference

    def _infer(self, batch: Batch, noise: Noise) -> CIDerOutput:
        x, valid = self._read(batch)
        view = self.network(x, valid, self.classes, noise)
        others = tuple(self._other(batch, x, valid, noise, m, kind, view) for m, kind, _ in self.config.paths)
        prediction = effect(self.config, self.shape.task, view.prediction, others)
        return CIDerOutput(prediction, view.joint, others)

    def _other(
        self,
        batch: Batch,
        x: Mapping[str, Tensor],
        valid: Mapping[str, Tensor],
        noise: Noise,
        modality: str,
        kind: str,
        view: View,
    ) -> Tensor:
        """Return the prediction of one counterfactual path."""
        if kind == "prior":
            return self.classes.shares().clamp(min=FLOOR).log().expand_as(view.prediction)
        new, kept = replaced(batch, modality, kind, self.config, self.classes)
        if self.config.special == modality and kind in ("words", "deleted"):
            ends = ends_of(valid[modality])
            new = torch.where(ends.unsqueeze(-1), x[modality], new)
            kept = None if kept is None else kept | ends
        steps = valid if kept is None else {**valid, modality: valid[modality] & kept}
        out: View = self.network({**x, modality: new}, steps, self.classes, noise)
        return out.prediction

    # --- training

    @property
    def _layers(self) -> slice:
        """Layers whose attention is distilled."""
        return slice(None) if self.config.attention_layers == "all" else slice(-1, None)

    def _complete(self, batch: Batch, noise: Noise) -> tuple[Target, View]:
        """Return the teacher's targets from the complete samples, and the view that is trained on them."""
        x, valid = self._read(batch)
        noise = noise if self.config.teacher_dropout else _Still(noise)
        network = self.teacher if self.config.teacher == "own" else self.network
        view: View = network(x, valid, self.classes, noise)
        if self.config.teacher == "average":
            with torch.no_grad():
                taught: View = self.average(x, valid, self.classes, noise)
            return taught.target(self._layers), view
        return view.target(self._layers), view

    def _distil(self, batch: Batch, noise: Noise, target: Target, complete: View | None) -> CIDerOutput:
        """Return the complete view with the other one beside it, or that alone if the complete one is not at hand."""
        if complete is not None and self.config.missing == "none":
            return CIDerOutput(complete.prediction, complete.joint, (), complete, target)
        x, valid = self._read(batch)
        kept = self._kept(batch, valid, noise)
        x = {m: hide(v, kept[m]) for m, v in x.items()}
        view: View = self.network(x, valid, self.classes, noise)
        decoded = tuple(self.decoders(view.states, view.mask, view.lengths)) if self.config.feature_weight > 0 else ()
        hidden = {m: batch.observed[m] & ~kept[m] for m in batch.modalities}
        shown = view if complete is None else complete
        return CIDerOutput(shown.prediction, shown.joint, (), complete, target, view, decoded, hidden)

    def _kept(self, batch: Batch, valid: Mapping[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """Return per modality (B, T_m) bool: steps that the second view shows."""
        kind, n = self.config.missing, len(batch)
        shared = noise.uniform(n, 1) if kind in ("sample", "whole") else None
        kept = {}
        for m, v in valid.items():
            rate: Tensor | float
            if shared is not None:
                rate = shared
            elif kind == "position":
                rate = noise.uniform(*v.shape)
            elif kind == "fixed":
                rate = self.config.missing_rate
            else:
                rate = noise.uniform(n, 1)
                if kind == "half":
                    rate = torch.where(noise.uniform(n, 1) < 0.5, torch.zeros_like(rate), rate)
            kept[m] = (noise.uniform(n, 1 if kind == "whole" else v.shape[-1]) >= rate).expand_as(v)
            if m == self.config.special:
                kept[m] = kept[m] | ends_of(v)
        return kept

    # --- losses

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        o = cast(CIDerOutput, output)
        terms = {"task": self._task(cast(View, o.complete), batch)} | self._distilled(o, batch)
        return terms, self._memo(batch, progress)

    def _task(self, view: View, batch: Batch) -> Tensor:
        return causal_loss(self.config, self.shape.task, view.prediction, batch.target)

    def _distilled(self, o: CIDerOutput, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the view with missing steps."""
        config = self.config
        if o.missing is None:
            return {}
        view, target = o.missing, cast(Target, o.target)
        terms = {"task_missing": self._task(view, batch)}
        if config.feature_weight > 0:
            terms["feature"] = self._feature(o, batch)
        if config.attention_weight > 0:
            terms["attention"] = self._attention(target, view)
        if config.joint_weight > 0:
            joint = self.to_teacher(view.joint) if hasattr(self, "to_teacher") else view.joint
            terms["joint"] = 1 - F.cosine_similarity(joint, target.joint, dim=-1).mean()
        return terms

    def _feature(self, o: CIDerOutput, batch: Batch) -> Tensor:
        """Sum over modalities of the mean smooth L1 error at the steps that were hidden."""
        total = torch.zeros_like(o.prediction.sum())
        x, _ = self._read(batch)
        for (m, hidden), y in zip(cast(Mapping[str, Tensor], o.hidden).items(), o.decoded):
            t, d = x[m].shape[-2:]
            error = F.smooth_l1_loss(hide(y[..., :t, :], hidden), hide(x[m], hidden), reduction="sum")
            total = total + error / (hidden.sum() * d + 1e-6)
        return total

    def _attention(self, target: Target, view: View) -> Tensor:
        """Return the attention loss, averaged over samples and heads, and over layers and groups if there are some."""
        blocks = len(view.lengths)
        groups = subsets(blocks) if self.config.attention_groups == "subsets" else (tuple(range(blocks)),)
        losses = []
        for t, s in zip(target.scores, view.scores[self._layers]):
            for g in groups:
                rows = _rows(g, view.lengths, s.query)
                mask = None if view.mask is None else view.mask[..., rows]
                if len(g) < blocks:
                    t_g, s_g = _restricted(t, rows, mask), _restricted(s, rows, mask)
                else:
                    t_g, s_g = t, s
                losses.append(self._row_loss(t_g, s_g, mask))
        return torch.stack(losses).mean()

    def _row_loss(self, teacher: Scores, student: Scores, mask: Tensor | None) -> Tensor:
        kind = self.config.attention_loss
        if kind.startswith("kl"):
            rows = divergence(teacher, student, mask)  # (B, heads, T)
        else:
            pair = [teacher.written(), student.written()]
            if mask is not None:
                pair = [s.masked_fill(~mask.unsqueeze(-2).unsqueeze(-2), -1e4) for s in pair]
            if kind == "mse_probabilities":
                pair = [s.softmax(-1) for s in pair]
            square = (pair[0] - pair[1]).square()
            seen = square.shape[-1] if mask is None else mask.sum(-1).unsqueeze(-1).unsqueeze(-1).to(square.dtype)
            rows = square.sum(-1) / seen
        if mask is not None:
            rows = rows.masked_fill(~mask.unsqueeze(-2), 0)
        total = rows.sum(-1)
        if kind != "kl":
            total = total / (rows.shape[-1] if mask is None else mask.sum(-1, keepdim=True).to(total.dtype))
        return total.mean()

    def _memo(self, batch: Batch, progress: Progress) -> Memo:
        memo = dict(self.classes.gather(batch, progress))
        if self.config.teacher == "average":
            memo["decay"] = torch.full_like(
                batch.features[self.shape.modalities[0]][0, 0, 0], self.config.teacher_decay
            )
        return memo

    def stages(self) -> tuple[Stage, ...]:
        """One step, or two: the complete view by itself, then the other one, on the parameters that the first left.

        Both share one optimiser, and the targets of the second were made in the first.
        """
        if self.config.steps == "one" or self.config.missing == "none":
            return (Stage(),)
        keep = self.config.steps == "accumulated"
        return (
            Stage("complete", ("network",), ("task",), "both", hands=tuple(self._handed(None))),  # decoders rest
            Stage("missing", optimizer="both", keep_gradients=keep),
        )

    def _handed(self, target: Target | None) -> dict[str, Tensor]:
        """Return the tensors of a target by name; None gives the names with nothing behind them."""
        nothing = torch.zeros(())
        out = {"teacher_joint": nothing if target is None else target.joint}
        for i in range(self.config.layers if self.config.attention_layers == "all" else 1):
            for k in ("query", "key", "total"):
                out[f"teacher_{k}_{i}"] = nothing if target is None else getattr(target.scores[i], k)
        return out

    def stage_losses(
        self, stage: Stage, batch: Batch, noise: Noise, progress: Progress
    ) -> tuple[dict[str, Tensor], Memo]:
        if stage.name == "complete":
            target, view = self._complete(batch, noise)
            return {"task": self._task(view, batch)}, self._handed(target)
        if stage.name == "missing":
            given = batch.extras
            layers = [i for i in range(self.config.layers) if f"teacher_total_{i}" in given]
            scores = (Scores(*(given[f"teacher_{k}_{i}"] for k in ("query", "key", "total"))) for i in layers)
            target = Target(given["teacher_joint"], tuple(scores))
            return self._distilled(self._distil(batch, noise, target, None), batch), self._memo(batch, progress)
        return super().stage_losses(stage, batch, noise, progress)

    def weights(self, progress: Progress) -> Mapping[str, float]:
        config = self.config
        alone = config.teacher == "own" and config.teacher_epochs > 0
        learns, taught = 1.0, 1.0
        if alone:
            learns, taught = (
                float(progress.epoch < config.teacher_epochs),
                float(progress.epoch >= config.teacher_epochs),
            )
        out = {"task": learns}
        if config.missing != "none":
            out["task_missing"] = taught
            named = {
                "feature": config.feature_weight,
                "attention": config.attention_weight,
                "joint": config.joint_weight,
            }
            out |= {k: taught * w for k, w in named.items() if w > 0}
        return out

    @torch.no_grad()
    def remember(self, memo: Memo) -> None:
        if "class_total" in memo:
            self.classes.remember(memo)
        if "decay" in memo:
            follow(self.average, self.network, self.config.teacher_decay)


def _rows(group: tuple[int, ...], lengths: Sequence[int], like: Tensor) -> Tensor:
    """Return the places of a group's slots in the fused sequence."""
    starts = np.cumsum([0, *lengths])
    return torch.cat([torch.arange(starts[i], starts[i + 1], device=like.device) for i in group])


def _restricted(scores: Scores, rows: Tensor, mask: Tensor | None) -> Scores:
    """Return the attention among some slots alone."""
    q, k = scores.query[..., rows, :], scores.key[..., rows, :]
    s = q @ k.transpose(-1, -2)
    if mask is not None:
        s = s.masked_fill(~mask.unsqueeze(-2).unsqueeze(-2), -1e4)
    return Scores(q, k, s.logsumexp(-1))


def check_causal(name: str, config: CausalConfig, shape: Shape) -> None:
    """Raise ConfigError for settings of MACI that cannot hold."""

    def need(ok: bool, rule: str) -> None:
        if not ok:
            raise ConfigError(f"{name}: {rule}")

    for field, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal:
            value, known = getattr(config, field), get_args(hint)
            need(value in known, f"{field} {value!r} must be one of {', '.join(known)}")
    c, total = strata(shape.task), sum(shape.dims.values())
    for field in ("class_means", "evaluation_class_means"):
        rows = getattr(config, field)
        ok = not rows or (len(rows) == c and all(len(r) == total for r in rows))
        need(ok, f"{field} must hold {c} rows of {total} numbers, one for each class, or nothing")
    n = len(config.class_shares)
    need(n == (c if config.class_means else 0), f"class_shares has {n} numbers: {c} beside class_means, none without")
    unknown = [m for m in config.class_modalities or () if m not in shape.dims]
    need(not unknown, f"class_modalities {unknown} are unknown, the data have {', '.join(shape.modalities)}")
    need(config.class_modalities != (), "class_modalities must name a modality; for none set encodings 'zeros'")
    for m, kind, _ in config.paths:
        need(kind in KINDS, f"path kind {kind!r} must be one of {', '.join(KINDS)}")
        need(
            kind == "prior" or m in shape.dims,
            f"path modality {m!r} is unknown, the data have {', '.join(shape.modalities)}",
        )
        need(
            kind != "prior" or shape.task.kind == "single_label",
            f"path 'prior' needs single_label, got {shape.task.kind}",
        )
    need(config.difference == "log" or shape.task.kind == "single_label",
         f"difference 'probability' needs a single_label task, got {shape.task.kind}")  # fmt: skip


def _check(config: Config, shape: Shape) -> None:
    def need(ok: bool, rule: str) -> None:
        if not ok:
            raise ConfigError(f"cider: {rule}")

    check_causal("cider", config, shape)
    need(config.special is None or config.special in shape.dims,
         f"special {config.special!r} is unknown, the data have {', '.join(shape.modalities)}")  # fmt: skip
    need(0 <= config.missing_rate <= 1, f"missing_rate {config.missing_rate} must lie in [0, 1]")
    need(0 <= config.teacher_decay < 1, f"teacher_decay {config.teacher_decay} must lie in [0, 1)")
    need(config.teacher_epochs >= 0, f"teacher_epochs {config.teacher_epochs} must be 0 or more")
    need(config.teacher == "own" or not (config.teacher_width or config.teacher_layers or config.teacher_epochs),
         f"teacher_width, teacher_layers and teacher_epochs need teacher 'own', got {config.teacher!r}")  # fmt: skip
    need(config.teacher == "shared" or config.steps == "one",
         f"steps {config.steps!r} needs teacher 'shared': another teacher learns by itself in one step")  # fmt: skip
    need(not (config.padded and any(k == "deleted" for _, k, _ in config.paths)),
         "path 'deleted' needs masks: set padded False")  # fmt: skip
    for name in ("feature_weight", "attention_weight", "joint_weight"):
        need(getattr(config, name) >= 0, f"{name} {getattr(config, name)} must be 0 or more")
    for name in ("width", "layers"):
        need(getattr(config, name) >= 1, f"{name} {getattr(config, name)} must be 1 or more")


CLEAN = Config()
AUTHOR = replace(
    CLEAN,
    positions="batch",
    padded=True,
    missing="position",
    steps="accumulated",
    evaluation_prior="uniform",
    evaluation_means="average",
    summed_log=True,
    fixed_slices=True,
    special="text",
    unread_alignment=True,
)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
