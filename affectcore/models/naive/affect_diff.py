"""Naive Affect-Diff: encoders by `nn.TransformerEncoder`, drop-out layer by layer, the prior as published."""

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.models.affect_diff import LOGVAR_BOUNDS, SCORE_BOUND, Z_BOUND, AffectDiff, Encoder, positions
from affectcore.models.naive import Case, Twin

CASES = {
    "affect_diff": Case("affect_diff", batch=64, shape="mosei_classes"),
    "affect_diff_clean": Case("affect_diff", batch=64, preset="clean", shape="mosei_classes"),
}


class NaiveEncoder(nn.Module):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        c = encoder.config
        self.project, self.norm, self.last = (copy.deepcopy(x) for x in (encoder.project, encoder.norm, encoder.last))
        layer = nn.TransformerEncoderLayer(
            c.width, c.heads, 4 * c.width, c.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, c.layers, enable_nested_tensor=False)
        pairs = {"self_attn": "attention", "linear1": "up", "linear2": "down"}
        pairs |= {"norm1": "norm_attention", "norm2": "norm_network"}
        for mine, theirs in zip(self.layers.layers, encoder.layers):
            for a, b in pairs.items():
                mine.get_submodule(a).load_state_dict(theirs.get_submodule(b).state_dict())
        self.p = c.dropout

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.project, nn.Conv1d):
            h = self.norm(self.project(x.transpose(1, 2)))
            h = F.dropout(F.gelu(h), self.p, self.training).transpose(1, 2)
        else:
            h = F.dropout(F.gelu(self.norm(self.project(x))), self.p, self.training)
        h = F.dropout(h + positions(h.shape[1], h), self.p, self.training)
        out: Tensor = self.last(self.layers(h))
        return out


class NaiveAffectDiff(Twin):
    def __init__(self, model: AffectDiff) -> None:
        super().__init__(model)
        self.body = copy.deepcopy(model)  # for what has one order of operations only: maps, classifier, U-Net, losses
        self.encoders = nn.ModuleList(NaiveEncoder(e) for e in model.encoders if isinstance(e, Encoder))
        del self.body.encoders

    def _run(self, batch: Batch) -> tuple[Tensor, ...]:
        c, body = self.config, self.body
        xs = []
        for m, x in batch.features.items():
            if self.training:
                x = x * (torch.rand(x.shape[:2]) >= c.frame_mask).to(x.dtype).unsqueeze(-1)
                if m != "text":
                    x = x + c.feature_noise * torch.randn_like(x)
                x = x * (torch.rand(len(x), 1, 1) >= c.modality_dropout).to(x.dtype)
            xs.append(x)
        longest = max(x.shape[1] for x in xs)
        h = [e(F.pad(x, (0, 0, 0, longest - x.shape[1]))) for e, x in zip(self.encoders, xs)]
        nodes = torch.stack([v.mean(1) for v in h], 1)
        scores = torch.bmm(body.gate.query(nodes), body.gate.key(nodes).transpose(1, 2)) / nodes.shape[-1] ** 0.5
        eye = torch.eye(len(h), dtype=nodes.dtype).unsqueeze(0)
        graph = torch.sigmoid(scores.clamp(-SCORE_BOUND, SCORE_BOUND)) * (1 - eye)
        gate = torch.softmax(graph.abs().sum(1), -1)
        fused = torch.cat([v * gate[:, i].view(-1, 1, 1) for i, v in enumerate(h)], -1)
        fused = body.fuse_out(F.gelu(body.fuse_norm(body.fuse_in(fused))))
        mu, logvar = body.mu(fused), body.logvar(fused).clamp(*LOGVAR_BOUNDS)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar) if self.training and c.sampled else mu
        z = z.clamp(-Z_BOUND, Z_BOUND)
        weights = torch.softmax((z @ body.pool_query.t()).squeeze(-1) / z.shape[-1] ** 0.5, -1)
        pooled = 0.5 * (z.mean(1) + (weights.unsqueeze(-1) * z).sum(1))
        for block in body.hidden:
            pooled = F.dropout(block(pooled), c.classifier_dropout, self.training)
        return body.head(pooled), graph, mu, logvar, z

    def forward(self, batch: Batch) -> Tensor:
        logits = self._run(batch)[0]
        return logits.squeeze(-1) if self.shape.task.kind == "regression" else logits

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        """The sum of task, KL, acyclicity and the noise's prediction, weights as published after the warm-ups."""
        c, body = self.config, self.body
        logits, graph, mu, logvar, z = self._run(batch)
        logits = logits.squeeze(-1) if self.shape.task.kind == "regression" else logits
        loss = body._task(logits, batch.target)
        loss = loss + c.kl_weight * (-0.5 * (1 + logvar - mu**2 - logvar.exp())).sum(-1).mean()
        trace = torch.diagonal(torch.matrix_exp(graph * graph), dim1=1, dim2=2).sum(-1)
        loss = loss + c.causal_weight * ((trace - graph.shape[-1]).mean() + c.sparsity * graph.abs().mean())
        if c.prior != "off":
            z0, n = z.detach().transpose(1, 2), len(z)
            t, eps = torch.randint(0, c.diffusion_steps, (n,)), torch.randn_like(z0)
            bar = body.bars[t].view(-1, 1, 1)
            hidden = torch.rand(n) < c.label_dropout
            labels = body.labels(batch.target, z, hidden)
            said = body.unet(bar.sqrt() * z0 + (1 - bar).sqrt() * eps, t, labels, graph.sum(1).clamp(0, 5).detach())
            loss = loss + c.diffusion_weight * F.mse_loss(said, eps)
        yield loss
        if c.prior != "off" and c.ema_decay is not None:
            with torch.no_grad():
                for slow, fast in zip(body.average.parameters(), body.unet.parameters()):
                    slow.mul_(c.ema_decay).add_(fast, alpha=1 - c.ema_decay)


TWIN = NaiveAffectDiff
