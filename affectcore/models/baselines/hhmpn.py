"""HHMPN: messages between modalities, from modalities to labels, and among labels [zhang2021hhmpn].

| symbol | name | shape |
|---|---|---|
| | steps of modality i that attended to each other modality, then to themselves | (B, T_i, (M - 1) d) |
| | `steps`, back to d features | (B, T_i, d) |
| | `states`, of each label after attending to the steps of a modality, layer by layer | (B, M, q, d) |
| | a label's state: attention over the modalities' | (B, q, d) |

Loss: "task", BCE of the dot product of a label's state with a vector of the label. Two or more modalities (ConfigError
for one); single_label and regression as in `affectcore.models.lddu`.

Differences from the published code, each with its switch, on in `author`, off in `clean`:
1. `padded`: the padding is attended to between modalities (the labels' attention hides it in the code too).
2. `exchanged`: labels of text read the steps of vision, those of audio text's, those of vision audio's (in the code
   the last two have each other's names).
3. `among_labels` is off: a flag in the code removes the messages among labels, and the graph that would mask them.
   In clean labels attend to one another where `label_graph` allows; compute it by `co_occurrence`.
4. `tied` is off: the code ties the last map to the labels' embedding under a name that is not used.
5. `future_mask`: key j is hidden from query i where j - i > |S - T|.
6. `attention_dropout`: clean draws none between modalities, for time.
7. `over_labels`: a softmax without a dimension runs over the labels where the modalities' weights are meant.
Without a switch: modules of the code that nothing reads are left out; attention over a modality's steps hides what is
not observed of that modality (code: rows of zeros, of the modality that the labels are of); keys and values share a
drop-out mask.
On the same weights and batch (published shape and widths, 2 layers in place of 6, padded samples, no drop-out) `author`
and the published code differ in float64 by at most 3e-10 in logits and 1e-11 in the gradient's norm (its positions are
in float32). Parameters of `author` at the published shape: 368,306,753, with what nothing reads 405,289,673.
"""

import math
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.attention import MultiheadAttention, attend, sinusoids
from affectcore.nn.labels import as_labels, from_log_odds
from affectcore.nn.pooling import hide


@dataclass(frozen=True)
class Config:
    width: int = 512  # d, a multiple of both numbers of heads
    heads: int = 4  # between modalities
    layers: int = 6  # of every stack between modalities and within one
    embed_dropout: float = 0.25
    relu_dropout: float = 0.1
    residual_dropout: float = 0.1
    attention_dropout: float = 0.0  # difference 6; to text: code 0.1, to others 0
    label_heads: int = 8
    label_layers: int = 3
    label_feedforward: int = 512
    label_dropout: float = 0.2
    graph_dropout: float = 0.5  # of attention among labels
    label_graph: tuple[tuple[int, ...], ...] = ()  # q rows of q, 1 where row may see column; (): all see all
    padded: bool = False  # difference 1
    exchanged: bool = False  # difference 2
    among_labels: bool = True  # difference 3
    tied: bool = True  # difference 4
    future_mask: bool = False  # difference 5
    over_labels: bool = False  # difference 7


@dataclass(frozen=True)
class HHMPNOutput(Output):
    """See the module's table; weight: (B, q, M), of the modalities."""

    logit: Tensor
    steps: tuple[Tensor, ...]
    states: Tensor
    weight: Tensor


def co_occurrence(target: Tensor, cut: float = 0.2) -> tuple[tuple[int, ...], ...]:
    """Return the label graph of training targets (N, q): samples with both over the root of both counts, cut, and
    oneself."""
    y = target.double()
    both, count = y.T @ y, y.sum(0)
    share = both / (count.unsqueeze(0) * count.unsqueeze(1)).sqrt().clamp(min=1e-12)
    seen = (share >= cut) | torch.eye(len(count), dtype=torch.bool)
    return tuple(tuple(int(x) for x in row) for row in seen.tolist())


class StepLayer(nn.Module):
    """Pre-norm attention and a two-layer network of four times the width; one norm for queries and keys."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.attention = MultiheadAttention(features, heads)
        nn.init.xavier_uniform_(self.attention.out_proj.weight)
        self.norm_attention, self.norm_network = nn.LayerNorm(features), nn.LayerNorm(features)
        self.up, self.down = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)
        for linear in (self.up, self.down):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self, x: Tensor, memory: Tensor, mask: Tensor | None, hidden: Tensor | None, noise: Noise, config: Config,
        p: float,
    ) -> Tensor:  # fmt: skip
        a, d = self.attention, self.attention.features
        q = F.linear(self.norm_attention(x), a.in_proj_weight[:d], a.in_proj_bias[:d])
        k, v = F.linear(self.norm_attention(memory), a.in_proj_weight[d:], a.in_proj_bias[d:]).chunk(2, -1)
        x = x + noise.dropout(a.out_proj(attend(q, k, v, a.heads, mask, hidden, noise, p)), config.residual_dropout)
        h = self.down(noise.dropout(F.relu(self.up(self.norm_network(x))), config.relu_dropout))
        return x + noise.dropout(h, config.residual_dropout)


class Stack(nn.Module):
    """Steps that attend to a fixed memory, or to themselves (memory None), layer by layer: (B, T, D) to the same."""

    def __init__(self, features: int, heads: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(StepLayer(features, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(features)

    def forward(
        self, x: Tensor, memory: Tensor | None, mask: Tensor | None, noise: Noise, config: Config, p: float
    ) -> Tensor:
        length = x.shape[-2] if memory is None else memory.shape[-2]
        hidden = None
        if config.future_mask:
            gap = abs(length - x.shape[-2])
            hidden = torch.ones(x.shape[-2], length, dtype=torch.bool, device=x.device).triu(1 + gap)
        x = _place(x, noise, config)
        memory = None if memory is None else _place(memory, noise, config)
        for layer in self.layers:
            x = layer(x, x if memory is None else memory, mask, hidden, noise, config, p)
        out: Tensor = self.norm(x)
        return out


def _place(x: Tensor, noise: Noise, config: Config) -> Tensor:
    x = x * math.sqrt(x.shape[-1]) + sinusoids(x.shape[-2], x.shape[-1], x)
    return noise.dropout(x, config.embed_dropout)


class LabelAttention(nn.Module):
    """Multi-head attention without biases, drop-out, residual, norm: (B, q, d) labels and (B, S, d) memory."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(features, features, bias=False) for _ in range(3))
        for linear in (self.query, self.key, self.value):
            nn.init.normal_(linear.weight, std=math.sqrt(2 / (features + features // heads)))
        self.out = nn.Linear(features, features, bias=False)
        nn.init.xavier_normal_(self.out.weight)
        self.norm = nn.LayerNorm(features)

    def forward(
        self, x: Tensor, memory: Tensor, mask: Tensor | None, hidden: Tensor | None, noise: Noise, p: float, drop: float
    ) -> Tensor:
        """p: of attention weights; drop: of the result."""
        mixed = attend(
            self.query(x), self.key(memory), self.value(memory), self.heads, mask, hidden, noise, p
        )  # (B, q, d)
        out: Tensor = self.norm(x + noise.dropout(self.out(mixed), drop))
        return out


class Network(nn.Module):
    """Two layers, drop-out, residual, norm."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down, self.norm = nn.Linear(features, hidden), nn.Linear(hidden, features), nn.LayerNorm(features)

    def forward(self, x: Tensor, noise: Noise, p: float) -> Tensor:
        out: Tensor = self.norm(x + noise.dropout(self.down(F.relu(self.up(x))), p))
        return out


class LabelLayer(nn.Module):
    """From steps to labels, a network, among labels if asked for, a network."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        d, hidden = config.width, config.label_feedforward
        self.steps, self.first, self.second = (
            LabelAttention(d, config.label_heads),
            Network(d, hidden),
            Network(d, hidden),
        )
        self.among = LabelAttention(d, config.label_heads) if config.among_labels else None

    def forward(
        self, x: Tensor, steps: Tensor, mask: Tensor, hidden: Tensor | None, noise: Noise, config: Config
    ) -> Tensor:
        p = config.label_dropout
        x = self.first(self.steps(x, steps, mask, None, noise, p, p), noise, p)
        if self.among is not None:
            x = self.among(x, x, None, hidden, noise, config.graph_dropout, p)
        out: Tensor = self.second(x, noise, p)
        return out


class HHMPN(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        names, d, q = shape.modalities, config.width, shape.task.outputs
        n = len(names)
        if n < 2:
            raise ConfigError(f"hhmpn: needs two modalities or more to send messages, got {', '.join(names)} alone")
        graph = config.label_graph
        if graph and (len(graph) != q or any(len(row) != q for row in graph)):
            raise ConfigError(f"hhmpn: label_graph needs {q} rows of {q}, one for each label")
        if graph and not all(row[i] for i, row in enumerate(graph)):
            raise ConfigError("hhmpn: label_graph must let every label see itself")
        self.project = nn.ModuleList(nn.Linear(f, d) for f in shape.dims.values())
        self.pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
        self.cross = nn.ModuleList(Stack(d, config.heads, config.layers) for _ in self.pairs)
        wide = (n - 1) * d
        self.within = nn.ModuleList(Stack(wide, config.heads, config.layers) for _ in names)
        self.narrow = nn.ModuleList(
            nn.Sequential(nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, wide), nn.Linear(wide, d)) for _ in names
        )
        self.labels = nn.Parameter(torch.randn(q, d))
        self.decoders = nn.ModuleList(
            nn.ModuleList(LabelLayer(config) for _ in range(config.label_layers)) for _ in names
        )
        self.angle = nn.ModuleList(nn.Linear(d, d) for _ in names)
        self.score = nn.Sequential(nn.Linear(d, 32), nn.Linear(32, 1))
        self.join = nn.Linear(d, d)
        if not config.tied:
            self.vectors = nn.Parameter(torch.empty(q, d))
            nn.init.xavier_normal_(self.vectors)

    def forward(self, batch: Batch, noise: Noise) -> HHMPNOutput:
        config, names = self.config, self.shape.modalities
        n = len(names)
        rates = [config.attention_dropout if m == "text" else 0.0 for m in names]
        x = [
            f(v if config.padded else hide(v, batch.observed[m]))
            for f, (m, v) in zip(self.project, batch.features.items())
        ]
        masks = [None if config.padded else batch.observed[m] for m in names]
        each: list[list[Tensor]] = [[] for _ in names]
        for (i, j), stack in zip(self.pairs, self.cross):
            each[i].append(stack(x[i], x[j], masks[j], noise, config, rates[j]))
        steps = []
        for i in range(n):
            h = self.within[i](torch.cat(each[i], -1), None, masks[i], noise, config, rates[i])
            to = (i + 1) % n if config.exchanged else i  # whose map and labels read these steps
            steps.append(self.narrow[to](h))
        hidden = None
        if config.label_graph:
            hidden = torch.tensor(config.label_graph, device=self.labels.device) == 0
        states = []
        for i, decoder in enumerate(self.decoders):
            source = (i - 1) % n if config.exchanged else i
            h, seen = self.labels.expand(len(batch), -1, -1), batch.observed[names[source]]
            for layer in cast(list[LabelLayer], decoder):
                h = layer(h, hide(steps[source], seen), seen, hidden, noise, config)
            states.append(self.angle[i](h))
        both = torch.stack(states, 1)  # (B, M, q, d)
        weight = self.score(both).softmax(2 if config.over_labels else 1)
        state = self.join((weight * both).sum(1))
        logit = (state * (self.labels if config.tied else self.vectors)).sum(-1)
        return HHMPNOutput(
            from_log_odds(self.shape.task, logit), logit, tuple(steps), both, weight.squeeze(-1).transpose(1, 2)
        )

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        assert isinstance(output, HHMPNOutput)
        y = as_labels(self.shape.task, batch.target, output.logit)
        return {"task": F.binary_cross_entropy_with_logits(output.logit, y)}, {}


CLEAN = Config()
AUTHOR = replace(
    CLEAN,
    attention_dropout=0.1,
    padded=True,
    exchanged=True,
    among_labels=False,
    tied=False,
    future_mask=True,
    over_labels=True,
)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
