"""What several naive twins share: copies of layers, and the published encoders of TFN and LMF."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.models.baselines.encoders import Encoders, PooledEncoder, SequenceEncoder


def linear(layer: Any) -> nn.Linear:
    """Return a copy of a linear layer."""
    out = nn.Linear(layer.in_features, layer.out_features)
    out.load_state_dict(layer.state_dict())
    return out


class NaiveEncoders(nn.Module):
    """Text through `nn.LSTM`; other modalities averaged over all steps, `nn.BatchNorm1d`, three layers."""

    def __init__(self, encoders: Encoders) -> None:
        super().__init__()
        self.modalities, self.each = encoders.modalities, nn.ModuleList()
        for e in encoders.each:
            if isinstance(e, SequenceEncoder):
                rnn = nn.LSTM(e.features, e.rnn.hidden, batch_first=True)
                rnn.load_state_dict(e.rnn.state_dict())
                self.each.append(nn.ModuleList([rnn, linear(e.project)]))
            elif isinstance(e, PooledEncoder) and e.norm is not None:
                norm = nn.BatchNorm1d(len(e.norm.weight))
                state = e.norm.state_dict()
                state["running_mean"], state["running_var"] = state.pop("mean"), state.pop("variance")
                norm.load_state_dict(state, strict=False)
                self.each.append(nn.ModuleList([norm, nn.Dropout(e.dropout), *(linear(x) for x in e.layers)]))

    def forward(self, batch: Batch) -> list[Tensor]:
        vectors = []
        for m, parts in zip(self.modalities, cast(list[Any], self.each)):
            x = batch.features[m]
            if isinstance(parts[0], nn.LSTM):
                vectors.append(parts[1](parts[0](x)[1][0].squeeze(0)))
                continue
            h = parts[1](parts[0](x.mean(1)))
            for layer in parts[2:]:
                h = F.relu(layer(h))
            vectors.append(h)
        return [torch.cat([v.new_ones(len(v), 1), v], 1) for v in vectors]  # each (B, H_m + 1)
