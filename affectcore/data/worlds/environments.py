"""World "environments": causal, spurious and nuisance factors, the spurious tied to the label differently by place.

    c_m causal, s_m spurious, n_m nuisance factors of modality m;  y* = sum_m <w_m, c_m>, sum |w_m|^2 = 1
    Y = (y* + tau eps + gamma U) / sd                                    gamma = 0 but in regime C
    A  s_m = mu_{m,e} + sigma_e nu            independent of Y (the published graph, read literally)
    B  s_m = beta_e Y + sqrt(1 - beta_e^2) nu          the label causes s
    C  s_m = beta_e U + sqrt(1 - beta_e^2) nu          a hidden U causes both
    D  as B, and c moves with the environment so that E[Y | e] = eta_e, P(Y | c) unchanged
    X_m = standardise(A2 leaky_relu_0.3(2 A1 [c; s; n]))                 A1, A2 orthonormal, so X determines c, s and n

`oracle` is E[Y | c]: the best predictor whose loss no environment can spoil; its error in A, B and D is
tau^2 / (1 + tau^2), 0.265 at tau = 0.6. `bayes` is E[Y | c, s, e], which knows the item's own law.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affectcore.data.schema import AffectData, Batch, Task
from affectcore.data.worlds.base import Array, Sizes, World, consecutive, groups, partners, require
from affectcore.streams import key, normal, rng

NAME = "environments"
MODALITIES = ("text", "audio", "vision")


@dataclass(frozen=True)
class Settings:
    """What defines an environments world beside its seed.

    regime: "A", "B", "C" or "D", see the module; train_betas, test_betas: correlation of s with Y (C: with U) in each
    environment, in (-1, 1), in regime A only their number counts; tau: label noise, > 0; gamma: pull of U on Y in
    regime C, > 0; eta: largest shift of E[Y | e] in regime D, >= 0; sharing: loading of c on a part that all modalities
    share, in [0, 1) (its square is their correlation); mixing: "nonlinear" or "linear"; masked: modality without causal
    factor, or None; causal, spurious, nuisance: factors per modality, >= 1; dim: features per modality, at least their
    sum; video: mean samples per video, >= 1; redraws: K >= 0 counterfactuals of every sample among the data's extras;
    redrawn: what they draw anew, "spurious", or "nuisance" (negative control: what should stay does, so does s).
    """

    regime: str = "B"
    train_betas: tuple[float, ...] = (0.9, 0.1)
    test_betas: tuple[float, ...] = (0.9, 0.4, 0.0, -0.4, -0.9)
    tau: float = 0.6
    gamma: float = 0.6
    eta: float = 0.5
    sharing: float = 0.0
    mixing: str = "nonlinear"
    masked: str | None = None
    causal: int = 2
    spurious: int = 2
    nuisance: int = 4
    dim: int = 16
    video: float = 7.0
    redraws: int = 1
    redrawn: str = "spurious"

    def __post_init__(self) -> None:
        require(self.regime in tuple("ABCD"), "regime", self.regime, "one of A, B, C, D")
        for name in ("train_betas", "test_betas"):
            v = getattr(self, name)
            require(len(v) >= 1 and all(-1 < b < 1 for b in v), name, v, "one or more correlations in (-1, 1)")
        for name in ("tau", "gamma"):
            require(getattr(self, name) > 0, name, getattr(self, name), "a positive number")
        require(self.eta >= 0, "eta", self.eta, "at least 0")
        require(0 <= self.sharing < 1, "sharing", self.sharing, "a loading in [0, 1)")
        require(self.mixing in ("nonlinear", "linear"), "mixing", self.mixing, "nonlinear or linear")
        require(self.masked in (None, *MODALITIES), "masked", self.masked, "None, text, audio or vision")
        for name in ("causal", "spurious", "nuisance"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        total = self.causal + self.spurious + self.nuisance
        require(self.dim >= total, "dim", self.dim, f"at least the number of factors, {total}")
        require(self.video >= 1, "video", self.video, "a mean number of samples, at least 1")
        require(self.redrawn in ("spurious", "nuisance"), "redrawn", self.redrawn, "spurious or nuisance")
        require(self.redraws >= 0, "redraws", self.redraws, "a number of counterfactuals, at least 0")


DIFFICULTIES = {
    "easy": Settings(train_betas=(0.8, 0.4, 0.0, -0.4)),
    "headline": Settings(),
    "hard": Settings(train_betas=(0.9, 0.8, 0.6, 0.4)),
}
# Training environments in which every method succeeds, and in which none can.
CONTROLS = {
    "interventional": Settings(train_betas=(0.0, 0.0)),
    "one_environment": Settings(train_betas=(0.9, 0.9)),
}
SIZES = Sizes(4000, 1000, 6000)


@dataclass(frozen=True)
class Truth:
    """The known constants: label weights (3, d_c); mixing matrices by modality; the law of every environment.

    betas, etas, sigmas: (E,), training environments first; mus: (E, 3, d_s).
    """

    settings: Settings
    seed: int
    weights: Array
    first: dict[str, Array]
    second: dict[str, Array]
    centre: dict[str, Array]
    scale: dict[str, Array]
    betas: Array
    etas: Array
    sigmas: Array
    mus: Array

    @property
    def label_sd(self) -> float:
        """Standard deviation of y* + tau eps + gamma U, by which the label is divided."""
        s = self.settings
        cross = s.sharing**2 * (np.sum(self.weights.sum(0) ** 2) - 1)  # shared c add covariance between modalities
        return float(np.sqrt(1 + cross + s.tau**2 + (s.gamma**2 if s.regime == "C" else 0)))

    @property
    def bayes_error(self) -> float:
        """Mean squared error of `oracle` in every environment."""
        s = self.settings
        return float((s.tau**2 + (s.gamma**2 if s.regime == "C" else 0)) / self.label_sd**2)

    def mixed(self, m: str, c: Array, s: Array, n: Array) -> Array:
        z = np.concatenate([c, s, n], 1)
        if self.settings.mixing == "nonlinear":
            z = 2 * z @ self.first[m].T
            z = np.where(z > 0, z, 0.3 * z)
        else:
            z = z @ self.first[m].T
        return np.asarray(z @ self.second[m].T)

    def render(self, m: str, c: Array, s: Array, n: Array) -> NDArray[np.float32]:
        """Return the values (N, 1, dim) of modality m."""
        x = (self.mixed(m, c, s, n) - self.centre[m]) / self.scale[m]
        return x.astype(np.float32)[:, None]

    def law(self, e: int) -> tuple[Array, Array]:
        """Return mean (V,) and covariance (V, V) of (Y, c_text.., c_vision, s_text.., s_vision) in environment e."""
        s = self.settings
        dc, ds, sd = s.causal, s.spurious, self.label_sd
        nc, ns = 3 * dc, 3 * ds
        # Every variable as a linear map of independent standard normals: shared u, own v (c), eps, U, nu (s).
        size = dc + nc + 2 + ns
        c = np.zeros((nc, size))
        for m in range(3):
            rows = np.arange(dc) + m * dc
            c[rows, np.arange(dc)] = s.sharing
            c[rows, dc + rows] = np.sqrt(1 - s.sharing**2)
        y = self.weights.ravel() @ c
        y[dc + nc] = s.tau
        y[dc + nc + 1] = s.gamma if s.regime == "C" else 0
        y /= sd
        noise = np.zeros((ns, size))
        noise[np.arange(ns), dc + nc + 2 + np.arange(ns)] = 1
        mean_c, mean_s, mean_y = np.zeros(nc), np.zeros(ns), 0.0
        beta = self.betas[e]
        if s.regime == "A":
            spur, mean_s = self.sigmas[e] * noise, self.mus[e].ravel()
        elif s.regime == "C":
            spur = np.sqrt(1 - beta**2) * noise
            spur[:, dc + nc + 1] += beta
        else:
            spur = np.sqrt(1 - beta**2) * noise + beta * y
            if s.regime == "D":
                mean_y, mean_c = self.etas[e], self.move(e).ravel()
                mean_s = np.full(ns, beta * mean_y)
        a = np.concatenate([y[None], c, spur])
        return np.concatenate([[mean_y], mean_c, mean_s]), a @ a.T

    def move(self, e: int) -> Array:
        """Return the shift (3, d_c) of the causal factors that moves E[Y | e] to eta_e."""
        return np.asarray(self.etas[e] * self.label_sd * self.weights / np.sum(self.weights**2))

    def expected(self, batch: Batch, known: dict[str, NDArray[Any]], spurious: bool) -> Array:
        """Return E[Y | c] or E[Y | c, s] of the modalities seen, by Gaussian conditioning; e is the item's or, for
        E[Y | c], a training law (P(Y | c) is the same in all of them)."""
        s = self.settings
        values = np.concatenate([known["causal"].reshape(len(batch), -1), known["spurious"].reshape(len(batch), -1)], 1)
        seen = np.zeros((len(batch), 3), bool)
        for i, m in enumerate(MODALITIES):
            if m in batch.features:
                seen[:, i] = batch.observed[m].numpy().any(1)
        columns = [np.repeat(seen, s.causal, 1), np.repeat(seen, s.spurious, 1) & spurious]
        use = np.concatenate(columns, 1)
        e = known["environment"] if spurious else np.zeros(len(batch), np.int64)
        out = np.empty(len(batch))
        for case in np.unique(np.concatenate([e[:, None], seen], 1), axis=0):
            rows = (e == case[0]) & (seen == case[1:]).all(1)
            mean, cov = self.law(int(case[0]))
            if not spurious:
                mean = np.zeros_like(mean)  # regime D moves Y and c together along E[Y | c]
            j = 1 + np.flatnonzero(use[rows][0])
            slope = np.linalg.solve(cov[np.ix_(j, j)], cov[j, 0]) if len(j) else np.zeros(0)
            out[rows] = mean[0] + (values[rows][:, j - 1] - mean[j]) @ slope
        return out

    def oracle(self, batch: Batch, known: dict[str, NDArray[Any]]) -> Array:
        return self.expected(batch, known, spurious=False)

    def bayes(self, batch: Batch, known: dict[str, NDArray[Any]]) -> Array:
        return self.expected(batch, known, spurious=True)

    def counterfactual(
        self, rows: NDArray[np.integer], known: dict[str, NDArray[Any]], draw: int = 0
    ) -> dict[str, Any]:
        """Return the values (B, 1, dim) by modality of the same samples: c and n kept, s drawn anew, untied from Y.

        draw: number of the redraw, any whole number; rows: (B,) rows of the data set that `known` belongs to. With the
        setting redrawn = "nuisance", c and s are kept and n is drawn anew.
        """
        s = self.settings
        if s.redrawn == "nuisance":
            n = normal(key(self.seed, "world", NAME, "redraw nuisance", draw), rows, 3, s.nuisance)
            return {
                m: self.render(m, known["causal"][:, i], known["spurious"][:, i], n[:, i])
                for i, m in enumerate(MODALITIES)
            }
        nu = normal(key(self.seed, "world", NAME, "redraw", draw), rows, 3, s.spurious)
        if s.regime == "A":  # as if recorded in another training environment
            n_train = len(s.train_betas)
            e = rng(self.seed, "world", NAME, "redraw environment", draw).integers(n_train, size=1)[0]
            nu = self.mus[e] + self.sigmas[e] * nu
        return {
            m: self.render(m, known["causal"][:, i], nu[:, i], known["nuisance"][:, i])
            for i, m in enumerate(MODALITIES)
        }

    def mechanism(self, world: World, batch: Batch, shuffled: bool) -> dict[str, NDArray[Any]]:
        """Counterfactual values by modality (B, 1, dim); shuffled: the counterfactuals of another sample."""
        rows = batch.index.numpy()
        rows = world.partner[rows] if shuffled else rows
        return self.counterfactual(rows, world.known(batch, shuffled=shuffled))


def build(seed: int, settings: Settings, sizes: Sizes) -> World:
    """Return the environments world of this seed.

    Splits: train and valid (environments in equal shares), test (the same law), test_e0, test_e1, ... (one for each of
    test_betas, sizes.test items each) and test_ood, the last of them by another name.
    """
    s = settings
    betas = np.array(s.train_betas + s.test_betas)
    n_train, n_test = len(s.train_betas), len(s.test_betas)
    dims = (s.causal, s.spurious, s.nuisance)

    w = rng(seed, "world", NAME, "weights").standard_normal((3, s.causal))
    if s.masked:
        w[MODALITIES.index(s.masked)] = 0
    w /= np.sqrt((w**2).sum())
    laws = rng(seed, "world", NAME, "laws")
    sigmas = laws.uniform(0.5, 1.5, len(betas))
    mus = laws.standard_normal((len(betas), 3, s.spurious))
    etas = s.eta * np.concatenate([(-1.0) ** np.arange(n_train), np.linspace(-1, 1, n_test)])
    first, second = {}, {}
    for m in MODALITIES:
        g = rng(seed, "world", NAME, "mixing", m)
        first[m] = np.linalg.qr(g.standard_normal((s.dim, sum(dims))))[0]
        second[m] = np.linalg.qr(g.standard_normal((s.dim, s.dim)))[0]
    unit = {m: np.ones(s.dim) for m in MODALITIES}
    truth = Truth(s, seed, w, first, second, {m: 0 * v for m, v in unit.items()}, dict(unit), betas, etas, sigmas, mus)
    for m in MODALITIES:  # standardised with the statistics of beta = 0, from a reference draw
        z = rng(seed, "world", NAME, "reference", m).standard_normal((20000, sum(dims)))
        x = truth.mixed(m, *np.split(z, np.cumsum(dims)[:2], 1))
        truth.centre[m], truth.scale[m] = x.mean(0), x.std(0)

    parts = consecutive(
        {"train": sizes.train, "valid": sizes.valid, "test": sizes.test}
        | {f"test_e{j}": sizes.test for j in range(n_test)}
    )
    made: dict[str, list[NDArray[Any]]] = {
        k: [] for k in ("causal", "spurious", "nuisance", "environment", "y", "group")
    }
    for part, rows in parts.items():
        n, stream = len(rows), ("world", NAME, part)
        if part.startswith("test_e"):
            e = np.full(n, n_train + int(part.removeprefix("test_e")))
        else:
            e = rng(seed, *stream, "environments").permutation(np.arange(n) % n_train)
        g = rng(seed, *stream, "causal")
        c = np.sqrt(1 - s.sharing**2) * g.standard_normal((n, 3, s.causal))
        c += s.sharing * rng(seed, *stream, "shared causal").standard_normal((n, 1, s.causal))
        if s.regime == "D":
            c += np.stack([truth.move(k) for k in range(len(betas))])[e]
        hidden = rng(seed, *stream, "hidden cause").standard_normal(n)
        y = np.einsum("nmk,mk->n", c, w) + s.tau * rng(seed, *stream, "label noise").standard_normal(n)
        y = (y + (s.gamma * hidden if s.regime == "C" else 0)) / truth.label_sd
        nu = rng(seed, *stream, "spurious").standard_normal((n, 3, s.spurious))
        if s.regime == "A":
            spur = mus[e] + sigmas[e, None, None] * nu
        else:
            cause = hidden if s.regime == "C" else y
            b = betas[e, None, None]
            spur = b * cause[:, None, None] + np.sqrt(1 - b**2) * nu
        code = groups(rng(seed, *stream, "groups"), n, s.video)
        code += made["group"][-1][-1] + 1 if made["group"] else 0
        nuisance = rng(seed, *stream, "nuisance").standard_normal((n, 3, s.nuisance))
        for k, v in zip(made, (c, spur, nuisance, e, y, code)):
            made[k].append(v)
    all_ = {k: np.concatenate(v) for k, v in made.items()}
    factors = {k: all_[k] for k in ("causal", "spurious", "nuisance", "environment")}
    rows = np.arange(len(all_["y"]))
    drawn = [truth.counterfactual(rows, factors, k) for k in range(s.redraws)]
    extras = {f"counterfactual/{m}": _together([d[m] for d in drawn]) for m in MODALITIES if drawn}
    data = AffectData(
        f"world/{NAME}",
        Task("regression", ("sentiment",), -8.0, 8.0),
        {
            m: truth.render(m, *(factors[k][:, i] for k in ("causal", "spurious", "nuisance")))
            for i, m in enumerate(MODALITIES)
        },
        all_["y"],
        parts | {"test_ood": parts[f"test_e{n_test - 1}"]},
        group=all_["group"],
        environment=all_["environment"],
        extras=extras,
    )
    return World(NAME, seed, s, data, truth, factors, "oracle", partners(seed, NAME, parts))


def _together(draws: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return one redraw (N, 1, D) as it is, several as (N, K, 1, D)."""
    return draws[0] if len(draws) == 1 else np.stack(draws, 1)
