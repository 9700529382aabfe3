"""Naive CIDer: one masked softmax per subset of modalities, scores written out, time first, two steps a batch."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.cider import CausalHead, CIDer, Layer, Pool, ends_of, position_code
from affectcore.models.naive import Case, Twin
from affectcore.models.naive.layers import linear

CASES = {
    "cider": Case("cider", batch=128, shape="cider"),
    "cider_mosei": Case("cider", batch=128, shape="cider_mosei"),
    "cider_fusion": Case("cider", batch=128, shape="cider", part="fusion"),
    "cider_clean": Case("cider", batch=128, shape="cider", preset="clean"),
}


class NaiveAttention(nn.Module):
    """Every subset of modalities by itself: scores copied, masked, a softmax over all steps, a projection."""

    def __init__(self, layer: Layer, lengths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        a = layer.attention
        self.features, self.heads, self.lengths, self.p = a.features, a.heads, lengths, dropout
        self.groups, self.members = a.groups, a.members
        self.project = nn.Linear(a.features, 3 * a.features)
        self.project.load_state_dict({"weight": a.in_proj_weight, "bias": a.in_proj_bias})
        self.group_proj = nn.ModuleList(linear(x) for x in a.group_proj)
        self.summary = nn.ModuleList(linear(x) for x in a.summary)
        self.out_proj = linear(a.out_proj)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        t, b, d = x.shape
        e = d // self.heads
        q, k, v = self.project(x).chunk(3, -1)
        q, k, v = (y.contiguous().view(t, b * self.heads, e).transpose(0, 1) for y in (q * e**-0.5, k, v))
        scores = torch.bmm(q, k.transpose(1, 2))
        block = torch.repeat_interleave(torch.arange(len(self.lengths)), torch.tensor(self.lengths))
        outs = []
        for group, project in zip(self.groups, self.group_proj):
            if len(group) == len(self.lengths):
                weights = F.dropout(F.softmax(scores.clone(), -1), self.p, self.training)
                mixed = torch.bmm(weights, v.clone())
            else:
                inside = torch.isin(block, torch.tensor(group))
                mask = inside.to(x.dtype).expand(b * self.heads, t)
                values = v.clone() * mask.unsqueeze(-1).expand(v.shape)
                hidden = torch.zeros_like(scores)
                hidden[:, :, ~inside] = -1e9
                hidden[:, ~inside, :] = -1e9
                weights = F.softmax(scores.clone() + hidden, -1) * mask.unsqueeze(-1).expand(scores.shape)
                mixed = torch.bmm(weights, values)
            outs.append(project(mixed.transpose(0, 1).contiguous().view(t, b, d)))
        rows = []
        for i, summary in enumerate(self.summary):
            rows.append(summary(torch.cat([outs[g][block == i] for g in self.members[i]], -1)))
        return self.out_proj(torch.cat(rows, 0)), scores


class NaiveLayer(nn.Module):
    def __init__(self, layer: Layer, lengths: tuple[int, ...]) -> None:
        super().__init__()
        self.config = layer.config
        self.attention = NaiveAttention(layer, lengths, layer.config.attention_dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(layer.attention.features) for _ in range(2))
        self.norms[0].load_state_dict(layer.norm_attention.state_dict())
        self.norms[1].load_state_dict(layer.norm_network.state_dict())
        self.up, self.down = linear(layer.up), linear(layer.down)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        c, training = self.config, self.training
        y, scores = self.attention(self.norms[0](x))
        x = x + F.dropout(y, c.residual_dropout, training)
        y = self.down(F.dropout(F.relu(self.up(self.norms[1](x))), c.relu_dropout, training))
        return x + F.dropout(y, c.residual_dropout, training), scores


class NaiveAlign(nn.Module):
    """Single-head attention of the words over a modality's frames, pairs masked by an outer product."""

    def __init__(self, align: Any) -> None:
        super().__init__()
        a = align.attention
        self.features = a.features
        self.project = nn.Linear(a.features, 3 * a.features)
        self.project.load_state_dict({"weight": a.in_proj_weight, "bias": a.in_proj_bias})
        self.out_proj = linear(a.out_proj)

    def forward(self, words: Tensor, frames: Tensor, asks: Tensor, valid: Tensor) -> Tensor:
        """words (T, B, d), frames (T_m, B, d), asks (B, T), valid (B, T_m): (T, B, d)."""
        d = self.features
        w, b = self.project.weight, self.project.bias
        q = (F.linear(words, w[:d], b[:d]) * d**-0.5).transpose(0, 1)
        k, v = (y.transpose(0, 1) for y in F.linear(frames, w[d:], b[d:]).chunk(2, -1))
        mask = torch.bmm(asks.to(q.dtype).unsqueeze(-1), valid.to(q.dtype).unsqueeze(1))
        inner = mask.clone()
        inner[inner == 0] = -1e9
        inner[inner == 1] = 0
        weights = F.softmax(torch.bmm(q, k.transpose(1, 2)) + inner, -1) * mask
        out: Tensor = self.out_proj(torch.bmm(weights, v).transpose(0, 1).contiguous())
        return out


class NaiveHead(nn.Module):
    """One classifier after the other, class means encoded anew for every sample."""

    def __init__(self, head: CausalHead, dims: list[int]) -> None:
        super().__init__()
        self.dims, self.task = dims, head.task
        self.encoders = nn.ModuleList(nn.ModuleList(linear(x) for x in cast(Any, e)) for e in head.encoders)
        self.experts = nn.ModuleList(linear(e) for e in head.experts)

    def forward(self, h: Tensor, means: Tensor, share: Tensor) -> Tensor:
        total: Tensor | float = 0.0
        for i, expert in enumerate(self.experts):
            u = []
            for mu, layers in zip(means[i].expand(len(h), -1).split(self.dims, -1), cast(list[Any], self.encoders)):
                u.append(layers[2](F.relu(layers[1](F.relu(layers[0](mu))))))
            y = expert(torch.cat([h, *u], -1))
            y = y.sigmoid() if self.task.kind == "multi_label" else y
            total = total + share[i] * (y.softmax(-1) if self.task.kind == "single_label" else y)
        p = cast(Tensor, total)
        if self.task.kind == "regression":
            return p.squeeze(-1)
        return p.log() if self.task.kind == "single_label" else p.log() - (1 - p).log()


class NaivePool(nn.Module):
    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.project, self.score = linear(pool.project), linear(pool.score)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.score(torch.tanh(self.project(x)))
        return torch.matmul(scores.softmax(1).transpose(1, 2), x).squeeze(1)


class NaiveCIDer(Twin):
    def __init__(self, model: CIDer) -> None:
        super().__init__(model)
        c, n = model.config, model.network
        if c.alignment != "attention" or c.head != "mixture" or c.encodings != "means" or c.teacher != "shared":
            raise ConfigError("cider: the naive twin is of the published network alone")
        self.names, self.anchor, self.others, self.aligned = model.shape.modalities, n.anchor, n.others, n.aligned
        width = c.width
        self.project = nn.ModuleList()
        for lin in cast(list[nn.Linear], n.project):
            self.project.append(nn.Conv1d(lin.in_features, width, 1, bias=False))
            self.project[-1].load_state_dict({"weight": lin.weight.unsqueeze(-1)})
        self.align = nn.ModuleList(NaiveAlign(a) for a in n.align) if hasattr(n, "align") else None
        self.encode = nn.ModuleList()
        for g in cast(list[Any], n.encode):
            self.encode.append(nn.GRU(width, width))
            self.encode[-1].load_state_dict(g.state_dict())
        lengths = (model.shape.steps[self.anchor],) * len(self.names)
        self.lengths = lengths
        self.layers = nn.ModuleList(NaiveLayer(cast(Layer, layer), lengths) for layer in n.layers)
        self.norm = nn.LayerNorm(width)
        self.norm.load_state_dict(n.norm.state_dict())
        self.pool = nn.ModuleList(NaivePool(cast(Pool, p)) for p in n.pool)
        self.first, self.second = linear(n.first), linear(n.second)
        self.head = NaiveHead(n.head, list(model.shape.dims.values()))
        self.over_time = nn.ModuleList(linear(x) for x in model.decoders.over_time)
        self.features = nn.ModuleList(linear(x) for x in model.decoders.features)
        self.register_buffer("means", model.classes.means().detach().clone())
        self.register_buffer("shares", model.classes.shares().detach().clone())

    def _once(self, x: dict[str, Tensor], valid: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Return prediction, joint representation, the last layer's scores and the states (B, T, d)."""
        projected = {m: conv(x[m].transpose(1, 2)).permute(2, 0, 1) for m, conv in zip(self.names, self.project)}
        asks = valid[self.anchor]
        if self.config.special == self.anchor:
            asks = asks & ~ends_of(asks)
        slots = dict(projected)
        if not self.aligned:
            for m, align in zip(self.others, cast(nn.ModuleList, self.align)):
                slots[m] = align(projected[self.anchor], projected[m], asks, valid[m])
        z = torch.cat([gru(slots[m])[0] for m, gru in zip(self.names, self.encode)], 0)
        z = z + position_code(z.shape[1], z.shape[2], z)  # along the batch
        z = F.dropout(z, self.config.embed_dropout, self.training)
        scores = z
        for layer in self.layers:
            z, scores = layer(z)
        states = [s.transpose(0, 1) for s in self.norm(z).split(self.lengths, 0)]
        g = torch.cat([p(s) for p, s in zip(self.pool, states)], -1)
        joint = g + self.second(F.dropout(F.relu(self.first(g)), self.config.output_dropout, self.training))
        means, share = cast(Tensor, self.means), cast(Tensor, self.shares)
        if not self.training:
            means = means.mean(0, keepdim=True).expand_as(means)
            share = torch.full_like(share, 1 / len(share))
        return self.head(joint, means, share), joint, scores, states

    def forward(self, batch: Batch) -> Tensor:
        return self._once(dict(batch.features), {m: batch.valid(m) for m in self.names})[0]

    def _task(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.shape.task.kind == "single_label":
            return F.nll_loss(prediction, target)
        if self.shape.task.kind == "regression":
            return F.l1_loss(prediction, target)
        return F.binary_cross_entropy_with_logits(prediction, target)

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        """The complete view; then, on the parameters of that step, the view with a rate of its own at every position.

        (The published code does not clear the gradients in between, the benchmark does; it costs the same.)
        """
        x, valid = dict(batch.features), {m: batch.valid(m) for m in self.names}
        prediction, joint, scores, _ = self._once(x, valid)
        yield self._task(prediction, batch.target)
        kept = {m: torch.rand(v.shape) > torch.rand(v.shape) for m, v in valid.items()}
        if self.config.special is not None:
            kept[self.config.special] |= ends_of(valid[self.config.special])
        seen = {m: v * kept[m].unsqueeze(-1).to(v.dtype) for m, v in x.items()}
        student, joint_m, scores_m, states = self._once(seen, valid)
        loss = self._task(student, batch.target)
        loss = loss + self.config.joint_weight * (1 - F.cosine_similarity(joint_m, joint.detach(), dim=-1).mean())
        attention = F.kl_div(F.log_softmax(scores_m, -1), F.softmax(scores.detach(), -1), reduction="batchmean")
        loss = loss + self.config.attention_weight * attention
        over_time = iter(self.over_time)
        for m, s, features in zip(self.names, states, self.features):
            y = (
                features(s)
                if m == self.anchor
                else features(F.relu(next(over_time)(s.transpose(1, 2))).transpose(1, 2))
            )
            mask = (valid[m] & ~kept[m]).unsqueeze(-1).expand(y.shape).to(y.dtype)
            error = F.smooth_l1_loss(y * mask, x[m] * mask, reduction="sum") / (mask.sum() + 1e-6)
            loss = loss + self.config.feature_weight * error
        yield loss


def _fusion(model: CIDer, batch: Batch) -> tuple[Callable[[], object], Callable[[], object]]:
    """One fusion layer, forward and backward, on normal states: ours and naive."""
    layer = cast(Layer, model.network.layers[0])
    lengths = (model.shape.steps[model.network.anchor],) * len(model.shape.modalities)
    theirs = NaiveLayer(layer, lengths).eval()
    x = torch.randn(len(batch), sum(lengths), model.config.width, generator=torch.Generator().manual_seed(0))
    still = _Silent()

    def ours() -> None:
        v = x.clone().requires_grad_()
        layer(v, lengths, None, still)[0].square().sum().backward()

    def naive() -> None:
        v = x.transpose(0, 1).contiguous().requires_grad_()
        theirs(v)[0].square().sum().backward()

    return ours, naive


class _Silent:
    training = False

    def dropout(self, x: Tensor, p: float) -> Tensor:
        return x

    def normal(self, *shape: int) -> Tensor:
        raise NotImplementedError

    def uniform(self, *shape: int) -> Tensor:
        raise NotImplementedError


TWIN = NaiveCIDer
PARTS = {"fusion": _fusion}
