"""MMIM: fusion that keeps mutual information between modalities, and between them and their fusion [han2021improving].

| symbol | name | shape |
|---|---|---|
| h_m | `vectors[m]`: text's steps reduced to one, last states of a bidirectional LSTM for others | (B, D_m) |
| Z | `fused` | (B, P) |
| lld | log q(h_m given h_text), q a normal read from h_text, mean over samples, sum over m | scalar |
| H | entropy of a projection of h_m, each class a normal, mean over classes, sum over m | scalar |
| nce | -log softmax of cos(h_m, a prediction of h_m from Z) among the batch's predictions, sum over m | scalar |

lld + H is a lower bound of the mutual information of text and m (Barber-Agakov).
Two stages a step: the networks of q maximise lld ("bound"), then all others minimise task + alpha nce - beta (lld + H).
The first modality stands for text. Two or more modalities (ConfigError for one), every task: classes of H are the
positive and the negative samples of a regression, the classes of single_label; multi_label has one normal for all.
H is taken over the batch and the last `memory` projected vectors, kept in the order of the steps. A class with no more
vectors than they have features adds nothing. In clean a missing modality is the zero vector and counts in no term.

Differences from the published code (thuiar/MMSA, commit a94e65d), each with its switch, on in `author`, off in `clean`:
1. `gaps`: the code knows lengths alone: missing steps are read as zeros, missing modalities are modalities.
2. `first_step`: the code takes text's first step, the sentence vector of BERT ([CLS]); clean averages observed steps.
3. `short_likelihood`: the code leaves the log-variance itself out of lld, which then grows without bound, to 0, as the
   variance does.
4. `free_variance`: the code names a tanh for the log-variance and never applies it; clean does.
5. `ridge` 0: clean adds 1e-4 to the variances of H, whose logarithm has no lower bound.
Without a switch: the code runs the first stage over all of the data, then the second; here both are made on each batch.
It begins to count H at the third batch of every epoch; here as soon as there are vectors enough. The projection of H is
trained by no optimiser of the code, nor by a stage here.
On the same weights, `author` and the published code differ by at most 1.2e-7 in the outputs and 2e-6 in nce, lld and H
(float32; MOSI shape, aligned and unaligned, a memory of one batch), by 4e-16 and 4e-15 in float64; both have 281,673
parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape, Stage
from affectcore.nn.losses import as_prediction, task_loss
from affectcore.nn.pooling import masked_mean
from affectcore.nn.recurrent import LSTM


@dataclass(frozen=True)
class Config:
    pooled: tuple[str, ...] = ("text",)  # modalities reduced to one vector without an LSTM
    hidden: int = 16  # state of each direction of an LSTM; code: 16
    vector: int = 16  # vector of a modality read by an LSTM, 4 or more; code: 16
    fused: int = 128  # P; code: 128
    dropout: float = 0.1  # of the joined vectors; code: 0.1
    alpha: float = 0.1  # weight of nce; code: 0.1
    beta: float = 0.1  # weight of lld and H in the second stage; code: 0.1
    memory: int = 32  # earlier vectors that H remembers; code: those of one batch, of 32
    ridge: float = 1e-4  # difference 5
    gaps: bool = False  # difference 1
    first_step: bool = False  # difference 2
    short_likelihood: bool = False  # difference 3
    free_variance: bool = False  # difference 4


@dataclass(frozen=True)
class MMIMOutput(Output):
    """vectors[m]: (B, D_m); there[m]: (B,) 1 where m counts; fused: (B, P)."""

    vectors: Mapping[str, Tensor]
    there: Mapping[str, Tensor]
    fused: Tensor


class Encoder(nn.Module):
    """Bidirectional LSTM over the steps, last states through a linear layer: (B, T, D) to (B, out)."""

    def __init__(self, features: int, hidden: int, out: int) -> None:
        super().__init__()
        self.rnn, self.project = LSTM(features, hidden, bidirectional=True), nn.Linear(2 * hidden, out)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        out: Tensor = self.project(self.rnn(x, mask)[1])
        return out


class Bound(nn.Module):
    """Networks of one lower bound: mean and log-variance of y (B, E) from x (B, D), projection of y for its entropy."""

    def __init__(self, x: int, y: int, free_variance: bool, short: bool) -> None:
        super().__init__()
        self.mean = nn.ModuleList([nn.Linear(x, y), nn.Linear(y, y)])
        self.variance = nn.ModuleList([nn.Linear(x, y), nn.Linear(y, y)])
        self.project = nn.Linear(y, y // 4)
        self.free, self.short = free_variance, short

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return log q(y|x) up to a constant, (B,)."""
        mean, v = (b(F.relu(a(x))) for a, b in (self.mean, self.variance))
        v = v if self.free else torch.tanh(v)
        fit = -((mean - y).square()) / (2 * v.exp())
        return (fit if self.short else fit - v / 2).sum(-1)


class MMIM(AffectModel):
    codes: Tensor
    owner: Tensor

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        names = shape.modalities
        if len(names) < 2:
            raise ConfigError(f"mmim: compares modalities, it needs two or more, got {', '.join(names)} alone")
        if config.vector < 4:
            raise ConfigError(f"mmim: vector {config.vector} must be 4 or more, its entropy is taken of a quarter")
        size = {m: d if m in config.pooled else config.vector for m, d in shape.dims.items()}
        first, self.others = names[0], names[1:]
        self.encoders = nn.ModuleDict(
            {m: Encoder(d, config.hidden, config.vector) for m, d in shape.dims.items() if m not in config.pooled}
        )
        bound = (config.free_variance, config.short_likelihood)
        self.bounds = nn.ModuleDict({m: Bound(size[first], size[m], *bound) for m in self.others})
        self.predict = nn.ModuleDict({m: nn.Linear(config.fused, n) for m, n in size.items()})
        self.first, self.second = nn.Linear(sum(size.values()), config.fused), nn.Linear(config.fused, config.fused)
        self.last = nn.Linear(config.fused, shape.task.outputs)
        for p in self.parameters():
            if p.ndim > 1:
                nn.init.xavier_normal_(p)
        self.widths = [size[m] // 4 for m in self.others]
        task = shape.task
        groups = {"regression": 2, "single_label": task.outputs, "multi_label": 1}[task.kind]
        self.register_buffer("codes", torch.zeros(config.memory, sum(self.widths)))
        self.register_buffer("owner", torch.zeros(config.memory, len(self.others), groups))

    def stages(self) -> tuple[Stage, ...]:
        rest = ("encoders", "predict", "first", "second", "last")
        terms = ("task", "nce", "lld", "entropy")
        return (Stage("bound", ("bounds",), ("bound",)), Stage("main", rest, terms))

    def weights(self, progress: Progress) -> dict[str, float]:
        return {"nce": self.config.alpha, "lld": self.config.beta, "entropy": self.config.beta}

    def _vectors(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        config, vectors, there = self.config, {}, {}
        for m in self.shape.modalities:
            x = batch.features[m]
            mask = batch.valid(m) if config.gaps else batch.observed[m]
            seen = mask.any(-1)  # always, where lengths alone are known
            if m in config.pooled:
                h = x[..., 0, :].masked_fill(~mask[..., :1], 0) if config.first_step else masked_mean(x, mask)
            else:
                h = self.encoders[m](x, mask).masked_fill(~seen.unsqueeze(-1), 0)
            vectors[m], there[m] = h, seen.to(x.dtype)
        return vectors, there

    def forward(self, batch: Batch, noise: Noise) -> MMIMOutput:
        vectors, there = self._vectors(batch)
        h = torch.tanh(self.first(noise.dropout(torch.cat(list(vectors.values()), -1), self.config.dropout)))
        fused = torch.tanh(self.second(h))
        return MMIMOutput(as_prediction(self.shape.task, self.last(fused)), vectors, there, fused)

    def _lld(self, vectors: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> Tensor:
        first = self.shape.modalities[0]
        total = torch.zeros_like(there[first].sum())
        for m in self.others:
            both = there[first] * there[m]
            total = total + (self.bounds[m](vectors[first], vectors[m]) * both).sum() / both.sum().clamp(min=1)
        return total

    def stage_losses(
        self, stage: Stage, batch: Batch, noise: Noise, progress: Progress
    ) -> tuple[dict[str, Tensor], Memo]:
        if stage.name != "bound":
            return self._main(self(batch, noise), batch)
        with torch.no_grad():
            vectors, there = self._vectors(batch)
        return {"bound": -self._lld(vectors, there)}, {}

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        assert isinstance(output, MMIMOutput)
        terms, memo = self._main(output, batch)
        return {"bound": terms["lld"], **terms}, memo

    def _main(self, output: MMIMOutput, batch: Batch) -> tuple[dict[str, Tensor], Memo]:
        entropy, memo = self._entropy(output, batch)
        terms = {
            "task": task_loss(self.shape.task, output.prediction, batch.target),
            "nce": self._nce(output),
            "lld": -self._lld(output.vectors, output.there),
            "entropy": -entropy,
        }
        return terms, memo

    def _nce(self, output: MMIMOutput) -> Tensor:
        total = torch.zeros_like(output.fused.sum())
        for m, h in output.vectors.items():
            there = output.there[m]
            x, guess = unit(h), unit(self.predict[m](output.fused))
            scores = x @ guess.transpose(-1, -2)  # (B, B): modality of row i against the prediction for column j
            seen = scores.masked_fill(there.unsqueeze(-2) == 0, -1e4)
            each = seen.logsumexp(-1) - (x * guess).sum(-1)
            total = total + (each * there).sum() / there.sum().clamp(min=1)
        return total

    def _groups(self, target: Tensor) -> Tensor:
        """Return to which normals of H each sample belongs, (B, G) of 0 and 1."""
        task = self.shape.task
        if task.kind == "regression":
            middle = (task.low + task.high) / 2
            return torch.stack([target > middle, target < middle], -1)
        if task.kind == "single_label":
            return target.unsqueeze(-1) == torch.arange(task.outputs, device=target.device)
        return torch.ones_like(target[..., :1])

    def _entropy(self, output: MMIMOutput, batch: Batch) -> tuple[Tensor, Memo]:
        new = [torch.tanh(cast(Bound, self.bounds[m]).project(output.vectors[m])) for m in self.others]
        groups = self._groups(batch.target).to(output.fused.dtype)
        owner = torch.stack([groups * output.there[m].unsqueeze(-1) for m in self.others], -2)  # (B, M - 1, G)
        total = torch.zeros_like(output.fused.sum())
        for i, (code, old) in enumerate(zip(new, self.codes.split(self.widths, -1))):
            w = torch.cat([self.owner[:, i], owner[..., i, :]], 0)
            total = total + class_entropy(torch.cat([old, code], 0), w, self.config.ridge)
        kept = self.config.memory
        codes = torch.cat([self.codes, torch.cat(new, -1).detach()])[-kept:]
        return total, {"codes": codes, "owner": torch.cat([self.owner, owner])[-kept:]}

    def remember(self, memo: Memo) -> None:
        self.codes.copy_(memo["codes"])
        self.owner.copy_(memo["owner"])


def unit(x: Tensor) -> Tensor:
    """Return rows of length 1; zero rows stay zero."""
    return x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12)


def class_entropy(x: Tensor, owner: Tensor, ridge: float) -> Tensor:
    """Return the mean over classes of half the log determinant of a class's covariance (N, E), members owner (N, G).

    A class of E members or fewer has a singular covariance: it adds 0.
    """
    n, features = owner.sum(0), x.shape[-1]  # (G,)
    share = (owner / n.clamp(min=1)).t()  # (G, N)
    centred = x - (share @ x).unsqueeze(-2)  # (G, N, E)
    covariance = (centred * share.unsqueeze(-1)).transpose(-1, -2) @ centred  # (G, E, E)
    eye = torch.eye(features, dtype=x.dtype, device=x.device)
    enough = (n > features).unsqueeze(-1).unsqueeze(-1)
    return torch.logdet(torch.where(enough, covariance + ridge * eye, eye)).mean() / 2


CLEAN = Config()
AUTHOR = replace(CLEAN, ridge=0.0, gaps=True, first_step=True, short_likelihood=True, free_variance=True)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
