"""Worlds: synthetic data whose truth, floor and ceiling are known.

`make(name, seed, settings, sizes)` draws a world; `WORLDS` lists them. Every seed draws its own world; a world is the
same for the same seed, settings and sizes, and its training rows do not depend on how many test rows are drawn.
"""

from typing import Any

from affectcore.data.worlds import ambiguity, environments, imbalance, lexicon, recovery
from affectcore.data.worlds.base import Entry, Sizes, World
from affectcore.errors import ConfigError

__all__ = ["WORLDS", "Entry", "Sizes", "World", "make"]

WORLDS: dict[str, Entry] = {
    e.name: e
    for e in (
        Entry(
            "imbalance",
            "six very unequal classes; modalities tied by a chain, fork, collider, hidden speaker or cycle",
            "Affect-Diff 1.6, Q1-Q4",
            "single_label",
            imbalance.build, imbalance.Settings, imbalance.DIFFICULTIES, imbalance.SIZES,
        ),
        Entry(
            "environments",
            "causal, spurious and nuisance factors; the spurious ones tied to the label differently by environment",
            "CmIR Q1-Q9, Q14, Q19",
            "regression",
            environments.build, environments.Settings, environments.DIFFICULTIES, environments.SIZES,
        ),
        Entry(
            "ambiguity",
            "label sets with MOSEI's co-occurrence; a known noise scale for every sample and modality",
            "LDDU Q13, Q1, Q4, Q7, Q8",
            "multi_label",
            ambiguity.build, ambiguity.Settings, ambiguity.DIFFICULTIES, ambiguity.SIZES,
        ),
        Entry(
            "lexicon",
            "sentences with stable and spurious sentiment words, aligned or unaligned audio and vision",
            "CIDer 1.6, 1.7, Q1, Q18",
            "single_label",
            lexicon.build, lexicon.Settings, lexicon.DIFFICULTIES, lexicon.SIZES,
        ),
        Entry(
            "recovery",
            "any number of modalities that share a latent by a known correlation; exact ceiling for every subset",
            "RoHyDR Q2, Q5",
            "regression",
            recovery.build, recovery.Settings, recovery.DIFFICULTIES, recovery.SIZES,
        ),
    )
}  # fmt: skip


def make(name: str, seed: int, settings: Any = "headline", sizes: Sizes | None = None) -> World:
    """Return the world `name` of this seed.

    settings: "easy", "headline", "hard", or the world's own Settings; sizes: samples per split, the world's by default.
    Raises ConfigError for an unknown world or difficulty and for settings of another world.
    """
    if name not in WORLDS:
        raise ConfigError(f"world {name!r} is unknown: use one of {', '.join(WORLDS)}")
    entry = WORLDS[name]
    if isinstance(settings, str):
        if settings not in entry.difficulties:
            raise ConfigError(f"difficulty {settings!r} of world {name} is unknown: use easy, headline or hard")
        settings = entry.difficulties[settings]
    if not isinstance(settings, entry.settings):
        raise ConfigError(f"world {name} takes its own Settings, got {type(settings).__name__}")
    return entry.build(seed, settings, sizes or entry.sizes)
