"""Naive TFR-Net: every stack by `nn.MultiheadAttention`, time first, packed `nn.GRU`, losses masked by products."""

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from affectcore.data.schema import Batch
from affectcore.models.baselines.tfr_net import EPS, GatedSummary, TFRNet
from affectcore.models.naive import Case, Twin
from affectcore.models.naive.layers import NaivePreNormStack, hidden_view, linear
from affectcore.nn.losses import as_prediction, task_loss

CASES = {
    "tfr_net_aligned": Case("tfr_net", batch=24),
    "tfr_net_unaligned": Case("tfr_net", batch=4, shape="mosi_unaligned"),
    "tfr_net_aligned_clean": Case("tfr_net", batch=24, preset="clean"),
    "tfr_net_unaligned_clean": Case("tfr_net", batch=4, preset="clean", shape="mosi_unaligned"),
}


class NaiveSummary(nn.Module):
    def __init__(self, summary: GatedSummary, p: float) -> None:
        super().__init__()
        n, layers = summary.out.out_features, len(summary.gru)
        self.gru = nn.GRU(summary.out.in_features - 2 * n, n, layers, bidirectional=True)
        state: dict[str, Tensor] = {}
        for i, layer in enumerate(summary.gru):
            state |= {k.replace("_l0", f"_l{i}"): v for k, v in layer.state_dict().items()}
        self.gru.load_state_dict(state)
        self.gate = nn.Conv1d(2 * n, 1, 3, padding=1)
        self.gate.load_state_dict(summary.gate.state_dict())
        self.out, self.drop = linear(summary.out), nn.Dropout(p)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        ordered, order = torch.sort(lengths, descending=True)
        packed = pack_padded_sequence(x.transpose(0, 1).index_select(1, order), ordered)
        h = pad_packed_sequence(self.gru(packed)[0], total_length=x.shape[1])[0]
        h = h.index_select(1, torch.sort(order)[1]).transpose(0, 1)
        gate = torch.sigmoid(self.gate(h.transpose(1, 2)).transpose(1, 2))
        y = torch.tanh(self.out(torch.cat([x, torch.tanh(h) * gate], -1)))
        out: Tensor = self.drop(torch.max(y, 1)[0])
        return out


def moments(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    mx, my = torch.mean(x, 0), torch.mean(y, 0)
    sx, sy = x - mx, y - my
    total = (torch.sum(torch.pow(mx - my, 2)) + 1e-12) ** 0.5
    for k in (2, 3):
        a, b = torch.mean(torch.pow(sx, k), 0), torch.mean(torch.pow(sy, k), 0)
        total = total + (torch.sum(torch.pow(a - b, 2)) + 1e-12) ** 0.5
    return total


class NaiveTFRNet(Twin):
    def __init__(self, model: TFRNet) -> None:
        super().__init__(model)
        c, self.names, self.pairs = model.config, model.shape.modalities, model.pairs
        own = {"audio": c.attention_dropout_audio, "vision": c.attention_dropout_vision}
        p = [own.get(m, c.attention_dropout) for m in self.names]

        def stack(s: Any, attention: float, positions: bool) -> NaivePreNormStack:
            rates = (c.embed_dropout, attention, c.inner_dropout, c.residual_dropout)
            return NaivePreNormStack(s, *rates, positions, c.skip_zero, c.future_mask)

        self.project = nn.ModuleList()
        for conv in cast(list[nn.Conv1d], model.project):
            k = conv.kernel_size[0]
            self.project.append(nn.Conv1d(conv.in_channels, conv.out_channels, k, padding=k // 2, bias=False))
            self.project[-1].load_state_dict(conv.state_dict())
        self.within = nn.ModuleList(stack(s, q, True) for s, q in zip(model.within, p))
        self.cross = nn.ModuleList(stack(s, p[j], True) for (_, j), s in zip(model.pairs, model.cross))
        self.temporal = nn.ModuleList(stack(s, c.attention_dropout, False) for s in model.temporal)
        self.generate = nn.ModuleList(linear(x) for x in model.generate)
        self.summaries = nn.ModuleList(NaiveSummary(cast(GatedSummary, s), c.fusion_dropout) for s in model.summaries)
        assert model.norm is not None
        self.norm = nn.BatchNorm1d(len(model.norm.weight))
        state = model.norm.state_dict()
        state["running_mean"], state["running_var"] = state.pop("mean"), state.pop("variance")
        self.norm.load_state_dict(state, strict=False)
        self.first, self.last, self.drop = linear(model.first), linear(model.last), nn.Dropout(c.class_dropout)

    def _pass(self, view: Batch) -> tuple[Tensor, list[Tensor]]:
        """Return the predictions and what the temporal stacks make of each modality, (B, T, M d)."""
        x = []
        for m, conv in zip(self.names, self.project):
            v = view.features[m].transpose(1, 2)
            v = F.dropout(v, self.config.text_dropout, self.training) if m == "text" else v
            x.append(conv(v).permute(2, 0, 1))
        parts = [[stack(v)] for v, stack in zip(x, self.within)]
        for (i, j), stack in zip(self.pairs, self.cross):
            parts[i].append(stack(x[i], x[j]))
        h = [torch.cat(p, 2) for p in parts]  # (T, B, M d)
        after = (
            [stack(v.permute(1, 2, 0)).permute(0, 2, 1) for v, stack in zip(h, self.temporal)] if self.training else []
        )
        u = [s(v.transpose(0, 1), view.lengths[m]) for m, v, s in zip(self.names, h, self.summaries)]
        y = self.last(self.drop(F.leaky_relu(self.first(self.norm(torch.cat(u, 1))))))
        return as_prediction(self.shape.task, y), after

    def forward(self, batch: Batch) -> Tensor:
        return self._pass(batch)[0]

    def total(self, batch: Batch, view: Batch, weights: Any) -> Tensor:
        """Return the loss on a view of a batch."""
        y, after = self._pass(view)
        loss = task_loss(self.shape.task, y, batch.target)
        for m, h, layer in zip(self.names, after, self.generate):
            x, target = layer(h), batch.features[m]
            mask = (batch.observed[m].to(x.dtype) - view.observed[m].to(x.dtype)).unsqueeze(-1).expand(x.shape)
            size = torch.sum(mask) + EPS
            loss = loss + weights[f"generation_{m}"] * F.smooth_l1_loss(x * mask, target * mask, reduction="sum") / size
            loss = loss + weights[f"similarity_{m}"] * moments(x * mask, target * mask) / size
        return loss

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        c = self.config
        by_name = {"text": c.text_weight, "audio": c.audio_weight, "vision": c.vision_weight}
        weights = {f"generation_{m}": by_name.get(m, c.other_weight) for m in self.names}
        weights |= {k.replace("generation", "similarity"): w * c.similarity_weight for k, w in weights.items()}
        yield self.total(batch, hidden_view(batch, dict.fromkeys(self.names, c.hide_rate), c.ends), weights)


TWIN = NaiveTFRNet
