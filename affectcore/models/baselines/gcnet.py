"""GCNet, Graph Completion Network: utterances of a conversation complete one another over two graphs [lian2023gcnet].

Every step is an utterance. A recurrent network reads the visible features of all modalities, two graph networks pass
messages between steps at most `window` apart, one by order in time (past, now, future), one by who speaks to whom, and
their sum gives a prediction and the features of all modalities at every step.

| symbol | name | shape |
|---|---|---|
| x_i | visible features of all modalities at step i, concatenated | (B, T, D), D the sum of D_m |
| g_i | `context`, two bidirectional LSTM layers | (B, T, 2 H) |
| | graph: r_i = W g_i + b + sum_r mean_{j in N_r(i)} W_r g_j, then U r_i + c + V sum_{j in N(i)} r_j | (B, T, H / 2) |
| h_i | `hidden`: [g_i; graph], two LSTM layers, attention over steps, ReLU layer; both graphs' sum | (B, T, 2.5 H) |
| | `steps`, linear in h_i | (B, T, C) |
| x^_i | `reconstruction`, linear in h_i | (B, T, D_m) each |

Losses: "task", and "reconstruction": the squared error of x^ where the model hid a feature from itself, over D_m,
summed over modalities and steps, over the number of steps. In training a share `missing_rate` of the modalities is
hidden.

What a row must be. `conversation` (presets clean and author): a row is a conversation, its steps are utterance vectors;
modalities are hidden utterance by utterance; the prediction is that of the utterance at `extras["position"]` (B,), or
of the last one that exists. `extras["speaker"]` (B, T) holds 0 .. `speakers` - 1 (without it all steps are speaker 0:
CMU-MOSI and CMU-MOSEI have one), and with `extras["step_target"]` (B, T) or (B, T, C) the task loss is that of all
utterances, as published. A batch has one target a row, so data of this form repeat a conversation for each utterance
that is to be scored.

Data whose rows are single utterances know nothing of their neighbours: `lite` takes the steps of an utterance (words,
frames) for the conversation, hides modalities sample by sample and reads the mean over all steps. That is the same
network on another question; what it cannot have is the context of other utterances, the paper's point.

Modalities of unequal length are padded to the longest and joined step by step.

Differences from the published code (zeroQiaoba/GCNet, commit 8cce4a0), each with its switch, on in `author`, off in
`clean`:
1. `padded`: the recurrent layers run over the padding, so that a prediction depends on the longest row of its batch.
2. `squared`: a regression is trained by the squared error, not by the absolute one.
3. `crossed_mask`: the reconstruction loss lays the mask of existing steps, conversation by conversation, over errors
   that go step by step, so that rows of unequal length lend one another their masks: existing steps are left out and
   padding, whose features are zero, is reconstructed instead. No effect where all rows are equally long.
4. `unread_gru`: a second recurrent network is built and never read.
Without a switch: the numbering of the relations follows the order of a Python set there and differs between processes,
which shuffles the roles of W_r among saved models and changes nothing in training.
On the same weights, masks and conversations of 12, 7, 1 and 10 utterances (drop-out off, one and two speakers, with and
without attention), `author` and the published code differ in float64 by at most 6e-17 in the steps, 3e-16 in the
losses, 4e-15 of the largest entry in gradients; in float32 by 2e-8, 0 and 3e-6. Parameters at `mosi_videos`:
10,630,111, of which 1,778,400 belong to the unread GRU (without attention the code keeps its 501,000 unread as well).
What saves time and changes no value: edges are masks of one (T, T) band, so that a graph layer is a few products for
all conversations; attention over the steps is one product. Running the LSTMs of both graphs in lock step saved nothing
(H = 100, 32 conversations of 63 steps, one thread).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.attention import masked_softmax
from affectcore.nn.hiding import hide_share
from affectcore.nn.losses import as_prediction, task_loss
from affectcore.nn.pooling import hide, last_observed, masked_mean, step_at
from affectcore.nn.recurrent import GRU, LSTM


@dataclass(frozen=True)
class Config:
    hidden: int = 100  # H, even; code 50, 100 and 200
    window: int = 2  # a step hears steps at most so far away; code 2
    speakers: int = 1  # in `extras["speaker"]`; code: MOSI, MOSEI 1, IEMOCAP 2
    attention: bool = True  # over the steps of each graph's states; code: with and without
    dropout: float = 0.5  # between the two layers of each LSTM; code 0.5
    missing_rate: float = 0.5  # share of modalities hidden in training, in [0, 1), at most (M - 1) / M; code 0.0 to 0.7
    reconstruction_weight: float = 1.0  # code 1
    conversation: bool = True  # steps are utterances; off: pieces of one utterance, see above
    padded: bool = False  # difference 1
    squared: bool = False  # difference 2
    crossed_mask: bool = False  # difference 3
    unread_gru: bool = False  # difference 4


@dataclass(frozen=True)
class GCNetOutput(Output):
    """steps (B, T, C); reconstruction[m] (B, T, D_m); exists (B, T) bool; hidden (B, T, 2.5 H);
    target[m] (B, T, D_m) and asked[m] (B, T) bool: features that the model hid from itself, and where."""

    steps: Tensor
    reconstruction: Mapping[str, Tensor]
    exists: Tensor
    hidden: Tensor
    target: Mapping[str, Tensor]
    asked: Mapping[str, Tensor]


class Context(nn.Module):
    """Two bidirectional LSTM layers: (B, T, D) to (B, T, 2H). mask (B, T): steps that count (None: all)."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = LSTM(features, hidden, True), LSTM(2 * hidden, hidden, True)

    def forward(self, x: Tensor, mask: Tensor | None, noise: Noise, p: float) -> Tensor:
        out: Tensor = self.second(noise.dropout(self.first(x, mask)[0], p), mask)[0]
        return out


class Graph(nn.Module):
    """Messages along typed edges (mean over each type), then along all (sum), then along the steps."""

    def __init__(self, features: int, hidden: int, relations: int, attention: bool) -> None:
        super().__init__()
        wide = features + hidden
        self.relations = nn.Parameter(torch.empty(relations, features, hidden))  # W_r
        self.root = nn.Parameter(torch.empty(features, hidden))  # W
        self.bias = nn.Parameter(torch.zeros(hidden))
        for w in (self.relations, self.root):
            nn.init.uniform_(w, -((6 / (features + hidden)) ** 0.5), (6 / (features + hidden)) ** 0.5)
        self.neighbours, self.itself = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden, bias=False)
        self.context = Context(wide, wide)
        self.query = nn.Linear(2 * wide, 2 * wide) if attention else None
        self.last = nn.Linear(2 * wide, wide)

    def forward(
        self,
        x: Tensor,
        edges: Tensor,
        relations: Tensor,
        exists: Tensor,
        mask: Tensor | None,
        noise: Noise,
        p: float,
    ) -> Tensor:
        """x (B, T, F), edges (B, T, T) from the second step to the first, relations (R, B, T, T): (B, T, F + H / 2)."""
        means = relations / relations.sum(-1, keepdim=True).clamp(min=1)
        r = x @ self.root + self.bias + (means @ (x @ self.relations.unsqueeze(1))).sum(0)
        r = self.neighbours(edges @ r) + self.itself(r)
        states = self.context(hide(torch.cat([x, r], -1), exists), mask, noise, p)
        if self.query is not None:
            scores = torch.tanh(self.query(states) @ states.transpose(-1, -2))  # (B, T, T)
            states = masked_softmax(scores, exists.unsqueeze(-2).expand(scores.shape)) @ states
        return F.relu(self.last(states))


class GCNet(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        if config.hidden < 2 or config.hidden % 2:
            raise ConfigError(f"gcnet: hidden = {config.hidden} must be even and positive")
        if config.window < 0 or config.speakers < 1:
            raise ConfigError(
                f"gcnet: window = {config.window} must be 0 or more, speakers = {config.speakers} 1 or more"
            )
        if not 0 <= config.missing_rate < 1:
            raise ConfigError(f"gcnet: missing_rate = {config.missing_rate} must lie in [0, 1)")
        h, features = config.hidden, sum(shape.dims.values())
        self.context = Context(features, h)
        self.unread_gru = nn.ModuleList()
        if config.unread_gru:
            self.unread_gru.extend(GRU(d, h, True) for d in (features, 2 * h))
        self.temporal = Graph(2 * h, h // 2, 3, config.attention)
        self.speaker = Graph(2 * h, h // 2, config.speakers**2, config.attention)
        self.predict = nn.Linear(2 * h + h // 2, shape.task.outputs)
        self.reconstruct = nn.Linear(2 * h + h // 2, features)

    def forward(self, batch: Batch, noise: Noise) -> GCNetOutput:
        names, config = self.shape.modalities, self.config
        longest = max(x.shape[-2] for x in batch.features.values())
        room = {m: longest - batch.features[m].shape[-2] for m in names}
        exists = torch.stack([F.pad(batch.valid(m), (0, room[m])) for m in names]).any(0)  # (B, T)
        seen = {m: F.pad(batch.observed[m], (0, room[m])) for m in names}
        x = {m: F.pad(batch.features[m], (0, 0, 0, room[m])) for m in names}
        if not config.padded:
            x = {m: hide(v, seen[m]) for m, v in x.items()}
        known = torch.stack([seen[m] for m in names], -1)  # (B, T, M)
        if config.crossed_mask:
            known = known | ~exists.unsqueeze(-1)
        gone = known & ~self._kept(known, noise)
        asked = dict(zip(names, gone.unbind(-1)))
        shown = torch.cat([hide(x[m], ~asked[m]) for m in names], -1)  # (B, T, D)
        mask = None if config.padded else exists
        g = self.context(shown, mask, noise, config.dropout)  # (B, T, 2 H)
        edges, time, talk = self._edges(batch, exists, g)
        h = self.temporal(g, edges, time, exists, mask, noise, config.dropout)  # (B, T, 2.5 H)
        h = h + self.speaker(g, edges, talk, exists, mask, noise, config.dropout)
        steps = self.predict(h)  # (B, T, C)
        parts = self.reconstruct(h).split(list(self.shape.dims.values()), -1)
        if config.conversation:
            y = step_at(steps, batch.extras["position"] if "position" in batch.extras else last_observed(exists))
        else:
            y = masked_mean(steps, exists)
        return GCNetOutput(as_prediction(self.shape.task, y), steps, dict(zip(names, parts)), exists, h, x, asked)

    def _kept(self, seen: Tensor, noise: Noise) -> Tensor:
        """Return what the model lets itself see of seen (B, T, M): one drawing a sample unless steps are utterances."""
        if not noise.training or self.config.missing_rate == 0:
            return seen
        present = seen if self.config.conversation else seen.any(-2, keepdim=True)
        v, u = noise.uniform(*present.shape), noise.uniform(*present.shape)
        return seen & hide_share(present, v, u, self.config.missing_rate)

    def _edges(self, batch: Batch, exists: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return edges (B, T, T), target first, those by time (3, B, T, T) and those by speakers (S^2, B, T, T)."""
        t, s = torch.arange(exists.shape[-1], device=exists.device), self.config.speakers
        away = t - t.unsqueeze(-1)  # (target, source), negative: the source comes before
        edges = (away.abs() <= self.config.window) & exists.unsqueeze(-2)
        time = torch.stack([edges & side for side in (away < 0, away == 0, away > 0)])
        if s == 1:
            talk = edges.unsqueeze(0)
        else:
            who = batch.extras["speaker"] if "speaker" in batch.extras else torch.zeros_like(exists, dtype=torch.int64)
            pair = who.unsqueeze(-1) * s + who.unsqueeze(-2)  # target speaker, source speaker
            talk = torch.stack([edges & (pair == k) for k in range(s * s)])
        return edges.to(like.dtype), time.to(like.dtype), talk.to(like.dtype)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        if not isinstance(output, GCNetOutput):
            raise TypeError("gcnet needs its own output")
        task, exists = self.shape.task, output.exists.to(output.steps.dtype)
        if self.config.conversation and "step_target" in batch.extras:
            y, target = as_prediction(task, output.steps).flatten(0, 1), batch.extras["step_target"].flatten(0, 1)
            weight = exists.flatten()
        else:
            y, target, weight = output.prediction, batch.target, torch.ones_like(exists[:, 0])
        if self.config.squared and task.kind == "regression":
            terms = {"task": ((y - target).square() * weight).sum() / weight.sum()}
        else:
            terms = {"task": task_loss(task, y, target, weight)}
        there = output.exists
        if self.config.crossed_mask:
            there = there.reshape(there.shape[1], there.shape[0]).t()
        gaps = [
            hide((output.reconstruction[m] - output.target[m]).square(), asked & there).sum() / self.shape.dims[m]
            for m, asked in output.asked.items()
        ]
        terms["reconstruction"] = cast(Tensor, sum(gaps)) / exists.sum()
        return terms, {}

    def weights(self, progress: Progress) -> Mapping[str, float]:
        return {"reconstruction": self.config.reconstruction_weight}


CLEAN = Config()
AUTHOR = replace(CLEAN, padded=True, squared=True, crossed_mask=True, unread_gru=True)
PRESETS = {"clean": CLEAN, "lite": replace(CLEAN, conversation=False), "author": AUTHOR}
