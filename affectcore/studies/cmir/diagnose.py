"""The study's executor: trains and scores as ever, and looks at what the codes hold and what the prediction uses.

An arm asks for it by `execute="affectcore.studies.cmir.diagnose:train_and_diagnose"` and by the option `look`, a list
of words, each a function here and an entry of `extra`:

| word | what is measured |
|---|---|
| `use` | how far the prediction moves when one true factor is drawn anew and the others are kept (worlds) |
| `codes` | what can be read off X, Z^inv and Z^spu: factors, target, environment; see `codes` and `codes_of_corpus` |
| `dependence` | R_dec as published, and four measures of dependence of Z^inv and Z^spu |
| `scale` | size of X, how far virtual environments lie apart in Z^inv, R_inv and R_rec |
| `laws` | what differs between environments, true ones and virtual ones (worlds) |
| `classes` | how well neighbours and a linear model find three classes in one modality's vector under the test noise |

In `extra` always: `mse[split][condition]`. Numbers carry six significant digits; what is not defined is null. Probes
are ridge regressions on the values and on 300 random ReLU features of them, fitted on one half of the items and scored
on the other. Draws come from streams of the run's seed, none of which training uses. Wrapped models are looked at
through their backbone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial import cKDTree
from scipy.special import digamma
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from affectcore.data.schema import AffectData, Batch
from affectcore.data.shift import sign_classes
from affectcore.data.worlds.environments import MODALITIES
from affectcore.errors import AffectError, ConfigError
from affectcore.evaluation.metrics import balanced_accuracy
from affectcore.evaluation.recovery import mean_correlation_coefficient
from affectcore.models.cmir import CmIR, CmIROutput, hsic, pairwise_l1, relative_invariance, sample_dependence
from affectcore.models.contract import AffectModel
from affectcore.nn.noise import Pool, Tape, fill
from affectcore.streams import rng
from affectcore.studies import execute
from affectcore.studies.brief import short
from affectcore.studies.execute import Fitted, train_and_score
from affectcore.studies.outcome import Outcome
from affectcore.studies.spec import RunSpec

__all__ = ["modules", "train_and_diagnose"]

LOOKS = ("use", "codes", "dependence", "scale", "laws", "classes")
FEATURES = 300  # random ReLU features of a probe
BATCH = 64  # items of one estimate of R_dec, a training batch of the study
NEIGHBOURS = 10
Array = NDArray[np.float64]


def modules(spec: RunSpec) -> tuple[str, ...]:
    """Return the modules that the executor looks up for a spec: those of `execute`, and the lexical split's."""
    lexical = ("affectcore.data.shift",) if spec.data.options.get("lexical") is not None else ()
    return (*execute.modules(spec), *lexical)


def train_and_diagnose(specs: Sequence[RunSpec], device: str = "cpu") -> list[Outcome | AffectError]:
    """Return what `train_and_score` returns, with what the arm's option `look` asks for."""
    for name, value in specs[0].options.items():
        unknown = [w for w in value if w not in LOOKS] if name == "look" else [name]
        if unknown:
            raise ConfigError(f"{specs[0].label}: option {unknown[0]!r} is unknown: use look, {', '.join(LOOKS)}")
    return train_and_score(specs, device, complete=complete, inspect=inspect)


def complete(spec: RunSpec, data: AffectData) -> dict[str, Any]:
    """Return the number of training environments, for models that are told which environment a sample is from."""
    if spec.model in ("vrex", "irm", "ib_irm", "groupdro", "coral"):
        return {"environments": _environments(data)}
    true = spec.model == "cmir" and spec.overrides.get("environments") == "true"
    return {"count": _environments(data)} if true else {}


def _environments(data: AffectData) -> int:
    environment = data.split("train").environment
    if environment is None:
        raise ConfigError(f"{data.name} names no environments")
    return int(environment.max()) + 1


def inspect(f: Fitted) -> dict[str, Any]:
    """Return what goes into `extra`."""
    mse: dict[str, dict[str, Any]] = {}
    for (split, condition), s in f.scores.items():
        y = f.data.split(split, f.selection).target.numpy()
        mse.setdefault(split, {})[condition] = np.square(s - y).mean(dtype=np.float64)
    out: dict[str, Any] = {"mse": mse}
    chosen = f.spec.options.get("look", ())
    if chosen and not isinstance(core(f.model), CmIR):
        raise ConfigError(f"{f.spec.label}: there is nothing to look at in a model that is no cmir and wraps none")
    for word in chosen:
        if word in ("use", "laws") and f.world is None:
            continue  # a corpus has no known factors
        of = {"use": use, "dependence": dependence, "scale": scale, "laws": laws, "classes": classes}.get(word)
        out[word] = (of or (codes_of_corpus if f.world is None else codes))(f)
    return cast(dict[str, Any], short(out))


def core(model: Any) -> Any:
    """Return the model inside its wrappers."""
    while hasattr(model, "backbone"):
        model = model.backbone
    return model


def read(f: Fitted, batch: Batch) -> CmIROutput:
    """Return a model's outputs on a batch in evaluation, with noise from a stream of its own where it draws any."""
    model: AffectModel = core(f.model)
    like = next(model.parameters()).detach()
    batch = batch.to(like.device, like.dtype)
    with torch.no_grad():
        tape = Tape(like, training=False)
        output = model(batch, tape)
        if tape.words:
            words = fill([f.spec.seed], tape.words, like.device, "diagnose", "read")[0]
            output = model(batch, Pool(words, like, training=False))
    return cast(CmIROutput, output)


def predicted(f: Fitted, batch: Batch) -> Array:
    return read(f, batch).prediction.double().cpu().numpy()


def _some(batch: Batch, most: int) -> Batch:
    """Return the first rows of a batch, at most so many."""
    return batch.rows(torch.arange(min(most, len(batch))))


def flat(x: Tensor) -> Array:
    """Return codes (M, B, d) as (B, M d)."""
    return x.transpose(0, 1).flatten(1).double().cpu().numpy()


def centre(f: Fitted) -> str:
    """Return the name of the world's split whose spurious factors say nothing of the target: beta nearest to 0."""
    return f"test_e{int(np.argmin(np.abs(cast(Any, f.world).settings.test_betas)))}"


# --- use -------------------------------------------------------------------------------------------------------------


def use(f: Fitted) -> dict[str, Any]:
    """Return {"causal", "spurious", "nuisance"}: mean squared change of the prediction when that factor is drawn anew,
    of the items where spurious factors say nothing of the target."""
    world = cast(Any, f.world)
    batch = f.data.split(centre(f), f.selection)
    known, y = world.known(batch), predicted(f, batch)
    out = {}
    for name in ("causal", "spurious", "nuisance"):
        order = rng(f.spec.seed, "diagnose", "use", name).permutation(len(batch))
        other = known | {name: known[name][order]}  # the factor of another item: drawn anew from its own law
        parts = [[other[k][:, i] for k in ("causal", "spurious", "nuisance")] for i in range(len(MODALITIES))]
        x = {m: torch.from_numpy(world.truth.render(m, *p)) for m, p in zip(MODALITIES, parts)}
        moved = Batch(x, batch.lengths, batch.observed, batch.target, batch.index, batch.group, batch.environment)
        out[name] = np.square(predicted(f, moved) - y).mean()
    return out


# --- probes ----------------------------------------------------------------------------------------------------------


class Probe:
    """Reads targets off values (N, D), fitted on the first half of the rows and scored on the second."""

    def __init__(self, x: Array, seed: int, fit: int | None = None, linear: bool = False) -> None:
        self.half = len(x) // 2 if fit is None else fit
        mean, sd = x[: self.half].mean(0), x[: self.half].std(0)
        x = (x - mean) / np.where(sd > 1e-9, sd, 1.0)
        if not linear:
            g = rng(seed, "diagnose", "probe")
            weights = g.standard_normal((x.shape[1], FEATURES)) / np.sqrt(x.shape[1])
            x = np.concatenate([x, np.maximum(x @ weights + 0.5 * g.standard_normal(FEATURES), 0)], 1)
        self.x = np.concatenate([x, np.ones((len(x), 1))], 1)
        a = self.x[: self.half]
        self.gram = a.T @ a + np.eye(a.shape[1])

    def guess(self, y: Array) -> Array:
        """Return the guesses (N - half, K) of targets (N, K) on the second half."""
        y = y.reshape(len(y), -1)
        m = y[: self.half].mean(0)
        a = self.x[: self.half]
        return np.asarray(self.x[self.half :] @ np.linalg.solve(self.gram, a.T @ (y[: self.half] - m)) + m)

    def r2(self, y: Array) -> float:
        """Return the mean over targets (N,) or (N, K) of the explained share of variance on the second half."""
        y = y.reshape(len(y), -1)
        z, g = y[self.half :], self.guess(y)
        return float((1 - np.square(z - g).mean(0) / z.var(0)).mean())

    def correlation(self, y: Array) -> float:
        """Return the correlation of guess and target (N,) on the second half, 0 where the guess does not vary."""
        g = self.guess(y)[:, 0]
        return float(np.corrcoef(g, y[self.half :])[0, 1]) if g.std() > 1e-12 else 0.0

    def environment(self, e: NDArray[np.integer]) -> float:
        """Return the balanced accuracy for numbers e (N,) on the second half."""
        classifier = RidgeClassifier(alpha=1.0, class_weight="balanced", fit_intercept=False)
        found = classifier.fit(self.x[: self.half], e[: self.half]).predict(self.x[self.half :])
        return float(balanced_accuracy(e[self.half :], found))


def codes(f: Fitted) -> dict[str, Any]:
    """Return what probes read off "raw" (X), "inv", "spu" and "both", of a world; without codes off "raw" alone.

    3,000 items, half of them to fit.
    causal, spurious: R2 of the factors where they are independent; score: of what the causal factors of each modality
    add to the target; causal_linear, spurious_linear: of linear probes; y: R2 of the target in training's law; y_apart,
    y_correlation: of the target where spurious factors say nothing of it; environment: balanced accuracy for the true
    environment, in training's law; mcc: [causal, spurious] of matched single coordinates; gain: R2 of the target by
    inv, spu and environment less that without spu. Under "factors": the same probes on the true factors c ("inv") and s
    ("spu"), the best a code could do; "chance": of the environment.
    """
    world, seed = cast(Any, f.world), f.spec.seed
    apart, law = (_some(f.data.split(s, f.selection), 3000) for s in (centre(f), "test"))
    factors = {k: _factors(world, b) for k, b in (("apart", apart), ("law", law))}
    y = {"apart": apart.target.double().numpy(), "law": law.target.double().numpy()}
    e = world.known(law)["environment"]
    several = len(np.unique(e)) > 1

    def told(x: Mapping[str, Array]) -> tuple[dict[str, Any], Probe]:
        a, b = Probe(x["apart"], seed), Probe(x["law"], seed)
        found = {
            "y": b.r2(y["law"]), "y_correlation": a.correlation(y["apart"]), "y_apart": a.r2(y["apart"]),
            "environment": b.environment(e) if several else np.nan,
        }  # fmt: skip
        return found, a

    values = {"apart": _views(f, apart), "law": _views(f, law)}
    out: dict[str, Any] = {"chance": 1 / len(np.unique(e)), "factors": {}}
    for name, k in (("inv", "causal"), ("spu", "spurious")):
        out["factors"][name] = told({where: factors[where][k] for where in factors})[0]
    for name in values["law"]:
        z = {where: values[where][name] for where in values}
        out[name], probe = told(z)
        straight = Probe(z["apart"], seed, linear=True)
        known = factors["apart"]
        out[name] |= {k: probe.r2(v) for k, v in known.items()}
        out[name] |= {f"{k}_linear": straight.r2(known[k]) for k in ("causal", "spurious")}
        out[name]["mcc"] = [mean_correlation_coefficient(known[k], z["apart"]) for k in ("causal", "spurious")]
    if "spu" in values["law"]:
        hot = (e[:, None] == np.unique(e)).astype(float)
        both, one = (
            Probe(np.concatenate([*(values["law"][k] for k in ks), hot], 1), seed) for ks in (("inv", "spu"), ("inv",))
        )
        out["gain"] = both.r2(y["law"]) - one.r2(y["law"])
    return out


def _factors(world: Any, batch: Batch) -> dict[str, Array]:
    """Return the causal and spurious factors (B, 6) and the causal ones' parts of the target (B, 3)."""
    known = world.known(batch)
    flat = {k: np.asarray(known[k], float).reshape(len(batch), -1) for k in ("causal", "spurious")}
    return flat | {"score": np.einsum("bmk,mk->bm", known["causal"], world.truth.weights)}


def codes_of_corpus(f: Fitted) -> dict[str, Any]:
    """Return {"raw", "inv", "spu", "both": {"y", "y_correlation"}} of test items, by linear probes fitted on train."""
    train, test = f.data.split("train"), f.data.split("test", f.selection)
    a, b = _views(f, train), _views(f, test)
    y = torch.cat([train.target, test.target]).double().numpy()
    found = {k: Probe(np.concatenate([a[k], b[k]]), f.spec.seed, len(train), linear=True) for k in a}
    return {k: {"y": p.r2(y), "y_correlation": p.correlation(y)} for k, p in found.items()}


def _views(f: Fitted, batch: Batch) -> dict[str, Array]:
    o = read(f, batch)
    out = {"raw": flat(o.pooled)}
    if o.spurious is None:
        return out
    out |= {"inv": flat(o.invariant), "spu": flat(o.spurious)}
    return out | {"both": np.concatenate([out["inv"], out["spu"]], 1)}


# --- what the two codes share ----------------------------------------------------------------------------------------


def dependence(f: Fitted) -> dict[str, Any]:
    """Return measures of how Z^inv and Z^spu depend on each other, means over modalities, of at most 1,000 test items.

    published: R_dec of Eq. 5-6 in batches of 64, as printed, alpha_dec = 1; chance: the same with Z^spu of other items;
    hsic: with Gaussian kernels; information: Kraskov's estimate in nats on five principal components of each; linear,
    nonlinear: R2 of Z^spu's principal components read off Z^inv.
    """
    o = read(f, _some(f.data.split("test", f.selection), 1000))
    if o.spurious is None:
        raise ConfigError(f"{f.spec.label}: dependence needs codes")
    n = o.invariant.shape[1]
    inv, spu = o.invariant.double(), o.spurious.double()
    g = rng(f.spec.seed, "diagnose", "dependence")
    other = spu[:, torch.from_numpy(g.permutation(n))]
    whole = n // BATCH * BATCH
    size = (len(inv), max(whole // BATCH, 1), min(BATCH, n), -1)
    cut = [x[:, : max(whole, min(n, BATCH))].reshape(size) for x in (inv, spu, other)]
    out: dict[str, Any] = {
        "published": sample_dependence(cut[0], cut[1]).mean(), "chance": sample_dependence(cut[0], cut[2]).mean(),
        "hsic": hsic(inv[:, :500], spu[:, :500]).mean(),
    }  # fmt: skip
    a, b = ([components(z.cpu().numpy(), 5) for z in x] for x in (inv, spu))
    out["information"] = float(np.mean([information(x, y) for x, y in zip(a, b)]))
    for name, linear in (("linear", True), ("nonlinear", False)):
        probes = [Probe(z.cpu().numpy(), f.spec.seed, linear=linear).r2(y) for z, y in zip(inv, b)]
        out[name] = float(np.mean(probes))
    return out


def components(z: Array, k: int) -> Array:
    """Return the first k principal components (N, k) of z (N, D), each of variance 1; those that do not vary are 0."""
    u, s, _ = np.linalg.svd(z - z.mean(0), full_matrices=False)
    return np.asarray(u[:, :k] * np.sqrt(len(z)) * (s[:k] > 1e-6 * max(s[0], 1e-12)))


def information(x: Array, y: Array, k: int = 3) -> float:
    """Return Kraskov, Stoegbauer and Grassberger's first estimate of the mutual information of x and y (N, D), nats."""
    both = np.concatenate([x, y], 1)
    radius = cKDTree(both).query(both, k + 1, p=np.inf)[0][:, -1]
    inside = [cKDTree(z).query_ball_point(z, radius - 1e-12, p=np.inf, return_length=True) for z in (x, y)]
    return float(digamma(k) + digamma(len(x)) - np.mean(sum(digamma(n) for n in inside)))


# --- sizes -----------------------------------------------------------------------------------------------------------


def scale(f: Fitted) -> dict[str, Any]:
    """Return sizes of at most 1,500 test items.

    pooled, inv: root mean squares of X and Z^inv; apart: how far four virtual environments (alpha .1, .2, .3, .4) lie
    apart in Z^inv, over how far items do; invariance: R_inv of the arm's own environments, mean over features;
    reconstruction: R_rec over the variance of X, summed over modalities, where there is a decoder.
    """
    model = core(f.model)
    o = read(f, _some(f.data.split("test", f.selection), 1500))
    out: dict[str, Any] = {"pooled": o.pooled.square().mean().sqrt(), "inv": o.invariant.square().mean().sqrt()}
    if o.spurious is None:
        return out
    g = rng(f.spec.seed, "diagnose", "scale")

    def variants(alpha: float, count: int) -> Tensor:
        noise = torch.from_numpy(g.standard_normal((count, *o.pooled.shape))).to(o.pooled)
        steps = torch.arange(1, count + 1).to(o.pooled).view(-1, 1, 1, 1)
        with torch.no_grad():
            return cast(
                Tensor, model.encode(torch.cat([o.pooled[None], o.pooled + alpha * steps * noise]), lambda h: h)[0]
            )

    c = model.config
    out["apart"] = relative_invariance(variants(0.1, 4))
    if c.count:
        own = variants(c.alpha / (c.count if c.alpha_of == "last" else 1), c.count)
        out["invariance"] = pairwise_l1(own) / (own.shape[2] * own.shape[3])
    if c.reconstruction_weight > 0:
        with torch.no_grad():
            error = (model.decode(o.invariant, o.spurious) - o.pooled).square().mean((-2, -1))
        out["reconstruction"] = (error / o.pooled.var((-2, -1), correction=0)).sum()
    return out


# --- laws ------------------------------------------------------------------------------------------------------------


def laws(f: Fitted) -> dict[str, Any]:
    """Return what a test finds to differ between the training environments, of 6,000 items in their law (a world).

    shift: p of tests that Y has one mean (F) and one variance (Levene), the smaller, doubled; causal: p of a Chow test
    that Y has one linear law given c; slopes: of Y on s (mean over factors) in every true environment; virtual: slopes
    of Y on s as a linear probe reads it off X, in every virtual environment of the arm, the clean one first.
    """
    world = cast(Any, f.world)
    batch = f.data.split("test", f.selection)
    known, y = world.known(batch), batch.target.double().numpy()
    e = known["environment"]
    groups = [y[e == k] for k in np.unique(e)]
    c, s = known["causal"].reshape(len(y), -1), known["spurious"].reshape(len(y), -1)
    out: dict[str, Any] = {"slopes": [np.mean([slope(v, y[e == k]) for v in s[e == k].T]) for k in np.unique(e)]}
    if len(groups) > 1:
        out["shift"] = min(1.0, 2 * min(stats.f_oneway(*groups).pvalue, stats.levene(*groups).pvalue))
        out["causal"] = chow(c, y, e)
    o = read(f, batch)
    clean, g = flat(o.pooled), rng(f.spec.seed, "diagnose", "laws")
    one = np.concatenate([clean, np.ones((len(y), 1))], 1)
    reader = np.linalg.lstsq(one, s, rcond=None)[0]
    config = core(f.model).config
    out["virtual"] = []
    for k in range(config.count + 1):
        x = one.copy()
        x[:, :-1] += config.alpha * k * g.standard_normal(clean.shape)
        out["virtual"].append(np.mean([slope(v, y) for v in (x @ reader).T]))
    return out


def slope(x: Array, y: Array) -> float:
    return float(np.cov(x, y)[0, 1] / max(np.var(x, ddof=1), 1e-12))


def chow(x: Array, y: Array, e: NDArray[np.integer]) -> float:
    """Return p of the test that one linear law y = a + b x holds in all environments e."""

    def rest(rows: NDArray[np.bool_]) -> float:
        a = np.concatenate([x[rows], np.ones((rows.sum(), 1))], 1)
        return float(np.square(y[rows] - a @ np.linalg.lstsq(a, y[rows], rcond=None)[0]).sum())

    names = np.unique(e)
    own, k = sum(rest(e == n) for n in names), x.shape[1] + 1
    first, second = (len(names) - 1) * k, len(y) - len(names) * k
    return float(stats.f.sf((rest(np.ones(len(y), bool)) - own) / first / (own / second), first, second))


def classes(f: Fitted) -> dict[str, Any]:
    """Return how clear three classes (sign of a corpus's target, thirds of a world's) are in text's vector under noise.

    The vector is Z^inv of text, X of text where there are no codes; of at most 1,500 test items, two thirds to fit.
    neighbours: balanced accuracy of 10 nearest neighbours; linear: of a ridge classifier; silhouette. On a world also
    "factors": the same of the true causal factors of text.
    """
    batch = _some(f.data.split("test", f.selection), 1500)
    y = batch.target.double().numpy()
    label = sign_classes(y) if f.world is None else np.searchsorted(np.quantile(y, (1 / 3, 2 / 3)), y)
    o, half = read(f, batch), 2 * len(y) // 3

    def clear(z: Array) -> dict[str, float]:
        z = (z - z.mean(0)) / np.maximum(z.std(0), 1e-9)
        fits = {
            "neighbours": KNeighborsClassifier(min(NEIGHBOURS, half), algorithm="brute"),
            "linear": RidgeClassifier(class_weight="balanced"),
        }
        made = {k: c.fit(z[:half], label[:half]).predict(z[half:]) for k, c in fits.items()}
        found = {k: float(balanced_accuracy(label[half:], v)) for k, v in made.items()}
        return found | {"silhouette": float(silhouette_score(z, label)) if len(np.unique(label)) > 1 else np.nan}

    out: dict[str, Any] = clear(o.invariant[0].double().cpu().numpy())
    if f.world is not None:
        out["factors"] = clear(f.world.known(batch)["causal"][:, 0])
    return out
