"""Naive MCTN: decoders step by step through torch's own LSTM, recurrences along the batch as published."""

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.models.baselines.mctn import MCTN, Chain, Decoder, Encoder
from affectcore.models.naive import Case, Twin
from affectcore.models.naive.layers import linear

CASES = {"mctn": Case("mctn", batch=32), "mctn_clean": Case("mctn", batch=32, preset="clean")}


def lstm(cell: Any, bidirectional: bool) -> nn.LSTM:
    """Return one layer with the same weights."""
    out = nn.LSTM(cell.weight_ih_l0.shape[1], cell.hidden, bidirectional=bidirectional)
    out.load_state_dict(cell.state_dict())
    return out


def unbiased(layer: Any) -> nn.Linear:
    """Return a copy of a linear layer without bias."""
    out = nn.Linear(layer.in_features, layer.out_features, bias=False)
    out.load_state_dict(layer.state_dict())
    return out


class NaiveEncoder(nn.Module):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.rnn, self.start = lstm(encoder.rnn, True), unbiased(encoder.start)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        states, (last, _) = self.rnn(x)
        n = states.shape[-1] // 2
        return states[:, :, :n] + states[:, :, n:], torch.tanh(self.start(last[-1] + last[-2]))


class NaiveDecoder(nn.Module):
    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.mix, self.score = unbiased(decoder.mix), unbiased(decoder.score)
        self.rnn, self.out = lstm(decoder.rnn, True), linear(decoder.out)

    def forward(self, step: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        query, rows = state.unsqueeze(1).repeat(1, len(memory), 1), memory.transpose(0, 1)
        scores = self.score(torch.tanh(self.mix(torch.cat((query, rows), 2)))).squeeze(2)
        context = torch.bmm(F.softmax(scores, 1).unsqueeze(1), rows).transpose(0, 1)
        out, (last, _) = self.rnn(torch.cat((step.unsqueeze(0), context), 2))
        n = out.shape[-1] // 2
        out = out[:, :, :n] + out[:, :, n:]
        return self.out(torch.cat((out.squeeze(0), context.squeeze(0)), 1)), last[-1] + last[-2]


class NaiveMCTN(Twin):
    def __init__(self, model: MCTN) -> None:
        super().__init__(model)
        chain = cast(Chain, model.chains[0])
        self.encoders = nn.ModuleList(NaiveEncoder(e) for e in cast(list[Encoder], chain.encoders))
        self.decoders = nn.ModuleList(NaiveDecoder(d) for d in cast(list[Decoder], chain.decoders))
        self.rnn, self.score, self.last = lstm(chain.rnn, False), linear(chain.score), linear(chain.last)
        self.width = model.width

    def inputs(self, batch: Batch) -> list[Tensor]:
        """Return text, then its targets, at the longest length and the largest width."""
        longest = max(x.shape[1] for x in batch.features.values())
        names = ["text", *(m for m in reversed(self.shape.modalities) if m != "text")]
        x = [batch.features[m] for m in names]
        return [F.pad(v, (0, self.width - v.shape[2], 0, longest - v.shape[1])) for v in x]

    def translate(self, k: int, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        memory, state = self.encoders[k](source)
        out = torch.zeros_like(target)
        for t in range(1, len(target)):
            out[t], state = self.decoders[k](target[t - 1], state, memory)
        return memory, out

    def read(self, joint: Tensor) -> Tensor:
        states, _ = self.rnn(joint)
        weights = F.softmax(torch.tanh(self.score(states)).squeeze(2), 1)
        y: Tensor = self.last((states * weights.unsqueeze(2)).sum(1)).squeeze(1)
        return y

    def forward(self, batch: Batch) -> Tensor:
        joint = self.inputs(batch)[0]
        for encoder in self.encoders:
            joint = encoder(joint)[0]
        return self.read(joint)

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        text, first, *others = self.inputs(batch)
        joint, found = self.translate(0, text, first)
        errors = F.mse_loss(found, first) + F.mse_loss(self.translate(0, found, text)[1], text)
        for k, target in enumerate(others, 1):
            joint, found = self.translate(k, joint, target)
            errors = errors + F.mse_loss(found, target)
        yield F.l1_loss(self.read(joint), batch.target) + self.config.translation_weight * errors


TWIN = NaiveMCTN
