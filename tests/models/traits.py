"""What the grid and other tests of models must know of each: small settings, and what its presets get wrong."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Traits:
    """small: settings that make the grid fast. golden: settings for the golden numbers. padded: presets that read the
    padding, as published code does. gaps: presets that know lengths, not which steps within them are
    missing. unread: preset -> prefixes of parameters that the published code has and never reads or trains. company:
    presets in which a sample's prediction depends on the other samples of its batch. one_step: parts of the names of
    parameters that act between steps, whose gradient is zero where all sequences have one step (unless other samples
    stand in for steps: not asked of `company`). ignored: preset -> modalities that serve in training alone and that no
    prediction reads.
    kinds: for a model of some kinds of task alone, further settings by kind (`small_data.make`).
    skips_missing: a modality missing as a whole is never read, also by presets that read padding or gaps.
    twin: settings of the comparison with the naive twin, beside the small ones.
    steps, rates, eps: of the grid's descent: more steps where layers start at zero, a smaller rate by preset where
    losses are sums, a larger epsilon of Adam where gradients are zero but for rounding, which it would scale up.
    """

    small: dict[str, Any] = field(default_factory=dict)
    golden: dict[str, Any] = field(default_factory=dict)
    padded: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    unread: dict[str, tuple[str, ...]] = field(default_factory=dict)
    company: tuple[str, ...] = ()
    one_step: tuple[str, ...] = ()
    ignored: dict[str, tuple[str, ...]] = field(default_factory=dict)
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)
    skips_missing: bool = False
    twin: dict[str, Any] = field(default_factory=dict)
    steps: int = 3
    rates: dict[str, float] = field(default_factory=dict)
    eps: float = 1e-8


TRAITS: dict[str, Traits] = {
    "tfn": Traits(
        {
            "text_hidden": 6,
            "text_out": 4,
            "audio_hidden": 6,
            "vision_hidden": 5,
            "other_hidden": 4,
            "post_hidden": 8,
        },
        golden={"text_hidden": 6, "text_out": 3, "audio_hidden": 4, "vision_hidden": 5, "post_hidden": 7},
        padded=("author",),
    ),
    "lmf": Traits(
        {"text_hidden": 6, "text_out": 4, "audio_hidden": 8, "vision_hidden": 5, "other_hidden": 4},
        golden={"text_hidden": 6, "text_out": 3, "audio_hidden": 4, "vision_hidden": 5, "rank": 2},
        padded=("author",),
    ),
    "mult": Traits(
        {"width": 8, "heads": 2, "layers": 2, "memory_layers": 2, "kernel": 3},
        golden={"width": 8, "heads": 2, "layers": 3, "memory_layers": 3, "kernel": 3},
        padded=("author",),
    ),
    "misa": Traits(
        {"width": 8, "feedforward": 16},
        golden={"width": 8, "feedforward": 16},
        gaps=("author",),
        unread={"author": ("spare",)},
    ),
    "self_mm": Traits(
        {
            "audio_hidden": 4,
            "vision_hidden": 5,
            "other_hidden": 4,
            "fusion_features": 8,
            "text_features": 6,
            "rows": 24,
            "first_epoch": 0,  # heads of a regression learn only once labels differ
        },
        golden={"audio_hidden": 4, "vision_hidden": 5, "fusion_features": 8, "text_features": 6, "rows": 3},
        gaps=("author",),
    ),
    "mmim": Traits(
        {"hidden": 4, "vector": 4, "fused": 8, "memory": 8},
        golden={"hidden": 4, "vector": 4, "fused": 8},
        gaps=("author",),
    ),
    "tetfn": Traits(
        {
            "width": 6,
            "heads": 2,
            "audio_hidden": 4,
            "vision_hidden": 5,
            "other_hidden": 4,
            "fusion_features": 7,
            "text_features": 5,
            "audio_features": 4,
            "vision_features": 3,
            "rows": 24,
            "first_epoch": 0,
        },
        golden={
            "width": 6,
            "heads": 2,
            "audio_hidden": 4,
            "vision_hidden": 5,
            "other_hidden": 4,
            "fusion_features": 7,
            "text_features": 5,
            "audio_features": 4,
            "vision_features": 3,
            "rows": 3,
        },
        padded=("author",),
    ),
    "gcnet": Traits(
        {"hidden": 8},
        golden={"hidden": 6},
        padded=("author",),
        unread={"author": ("unread_gru",)},
        one_step=("weight_hh", ".query."),
    ),
    "mctn": Traits(
        {"hidden": 6},
        golden={"hidden": 5},
        padded=("author",),
        company=("author",),
        unread={"author": tuple(f"chains.0.decoders.{k}.rnn.weight_hh" for k in range(2))},
        one_step=(".encoders.0.rnn.weight_hh", "chains.0.rnn.weight_hh", "chains.1.rnn.weight_hh", ".mix.", ".score."),
        ignored={"author": ("audio", "vision", "face")},
    ),
    "mmin": Traits(
        {
            "embedding": 8,
            "hidden": (12,),
            "cascade": (10, 6),
            "blocks": 2,
            "teacher_share": 0.0,
            "small_init": False,  # so many layers of such weights leave predictions without visible differences
        },
        golden={"embedding": 4, "hidden": (5, 6), "cascade": (6, 4), "blocks": 3},
    ),
    **{
        f"lite_{name}": Traits(
            {"width": 16, "small": 4},
            golden={"width": 16, "small": 4},
            padded=("author",),
            one_step=(".query.",) if name == "mult" else (),
        )
        for name in ("tfn", "mult", "misa", "mmim", "tetfn")
    },
    "affect_diff": Traits(
        {
            "width": 16,
            "heads": 4,
            "layers": 1,
            "latent": 8,
            "unet_width": 16,  # two channels a group: over one value a group norm has no gradient but rounding
            "kl_schedule": "constant",
            "diffusion_start": -20,  # the prior learns from the first epoch on
        },
        golden={"width": 16, "latent": 16, "unet_width": 8},
        padded=("author", "paper"),
        unread={"author": ("gate.network",)},
    ),
    "carat": Traits(
        {
            "width": 16,
            "heads": 4,
            "layers_text": 1,
            "layers": 1,
            "feedforward": 16,
            "positions_text": 16,
            "positions": 16,
            "latent": 8,
            "queue": 96,
            "dropout": 0.1,
        },
        golden={
            "width": 16,
            "heads": 4,
            "layers_text": 2,
            "layers": 1,
            "feedforward": 12,
            "positions_text": 9,
            "positions": 9,
            "latent": 6,
            "queue": 64,
        },
        padded=("author",),
    ),
    "tailor": Traits(
        {
            "width": 128,  # weights start as N(0, 0.02): in 16 features hardly anything passes
            "heads": 4,
            "layers_text": 1,
            "layers": 1,
            "joint_layers": 1,
            "feedforward": 16,
            "positions": 16,
            "joint_positions": 64,
            "dropout": 0.1,
        },
        golden={
            "width": 16,
            "heads": 4,
            "layers_text": 2,
            "layers": 1,
            "joint_layers": 2,
            "feedforward": 12,
            "positions": 9,
            "joint_positions": 40,
        },
        padded=("author",),
    ),
    "hhmpn": Traits(
        {
            "width": 32,
            "heads": 2,
            "layers": 1,
            "label_heads": 2,
            "label_layers": 1,
            "label_feedforward": 16,
            "future_mask": False,  # with it nothing sees padding behind, if all lengths are equal
        },
        golden={"width": 8, "heads": 2, "layers": 2, "label_heads": 4, "label_layers": 2, "label_feedforward": 6},
        padded=("author",),
        skips_missing=True,
    ),
    "lddu": Traits(
        {
            "width": 16,
            "heads": 4,
            "layers": 2,  # in one, of a single step, too much cannot move
            "feedforward": 16,
            "positions": 16,
            "latent": 8,
            "head_width": 8,
            "queue": 96,
            "history_rows": 24,
            "dropout": 0.1,
        },
        golden={"width": 16, "heads": 4, "layers": 2, "feedforward": 12, "positions": 9, "latent": 6, "head_width": 5},
        padded=("author", "paper", "early_variant"),
    ),
    "cmir": Traits(
        {"width": 10, "hidden": 12, "heads": 2, "layers": 1, "count": 2},
        golden={"width": 8, "hidden": 10, "heads": 2, "layers": 2},
        padded=("paper",),
    ),
    "tfr_net": Traits(
        {
            "width": 8,
            "heads": 2,
            "layers": 2,
            "temporal_heads": 1,
            "gru_layers": 2,
            "text_hidden": 4,
            "audio_hidden": 3,
            "vision_hidden": 5,
            "other_hidden": 4,
            "class_hidden": 8,
            "generation_start": 0,  # the generators learn from the first epoch on
        },
        golden={
            "width": 8,
            "heads": 2,
            "layers": 3,
            "temporal_heads": 1,
            "text_hidden": 4,
            "audio_hidden": 3,
            "vision_hidden": 5,
            "class_hidden": 6,
        },
        twin={"skip_zero": False},  # empty steps without a position tie in the maximum, and rounding decides
        padded=("author",),
    ),
    "emt_dlfr": Traits(
        {
            "width": 8,
            "layers": 2,
            "heads": 2,
            "expansion": 2,
            "audio_state": 4,
            "vision_state": 5,
            "audio_out": 3,
            "vision_out": 4,
            "token_inner": 6,
            "encoded_inner": 5,
            "post_hidden": 8,
        },
        golden={"width": 8, "heads": 2, "post_hidden": 8},
        gaps=("author",),
    ),
    "niat": Traits(
        {
            "text_width": 6,
            "audio_width": 4,
            "vision_width": 6,
            "other_width": 4,
            "vision_kernel": 5,
            "heads": 2,
            "layers": 2,
            "decoder_first": 6,
            "decoder_second": 6,
            "discriminator_first": 8,
            "discriminator_second": 4,
            "class_hidden": 6,
        },
        golden={"text_width": 6, "audio_width": 4, "vision_width": 6, "vision_kernel": 5, "heads": 2},
        gaps=("author",),
        unread={"author": ("discriminator",)},
    ),
    "lnln": Traits(
        {"width": 8, "tokens": 2, "heads": 2, "head_width": 4},
        golden={"width": 16, "heads": 2},
        padded=("author",),
    ),
    "mplmm": Traits(
        {"width": 8, "heads": 2, "layers": 2, "prompt_length": 3},
        skips_missing=True,
        golden={"width": 8, "heads": 2, "layers": 3, "prompt_length": 3},
        gaps=("author",),
    ),
    "clue": Traits({"text_hidden": 4, "hidden": 6}, one_step=("weight_hh",)),
    "gear": Traits(
        {
            "audio_hidden": 4,
            "vision_hidden": 5,
            "other_hidden": 4,
            "width": 8,
            "heads": 2,
            "layers": 1,
            "feedforward": 16,
            "fused": 10,
            "swap_start": 0,  # swapped features count from the first epoch on
        },
        golden={"audio_hidden": 4, "vision_hidden": 5, "width": 8, "heads": 2, "feedforward": 12, "fused": 6},
        gaps=("author",),
        one_step=("weight_hh",),
    ),
    "cider": Traits(
        {"width": 8, "heads": 2, "layers": 1, "unread_alignment": False},
        golden={"width": 8, "heads": 2, "layers": 2},
        padded=("author",),
        company=("author",),
        one_step=("weight_hh", "pool."),
    ),
    **{n: Traits({"environments": 3}) for n in ("irm", "vrex", "ib_irm", "groupdro", "coral")},
    "erm": Traits({"environments": 3}),
    "imbalance": Traits(
        kinds={"single_label": {"counts": (5, 4, 3)}, "multi_label": {"counts": (5, 3), "samples": 12}}
    ),
    "ensemble": Traits({"members": 3}),
    "mc_dropout": Traits({"draws": 0}),  # its draws belong to the rows of a batch
    "c_mib": Traits(
        {"width": 8, "hidden": 12, "heads": 2, "layers": 1, "bert_start": False},  # 0.02 is too little to see anything
        golden={"width": 8, "hidden": 10, "heads": 2, "layers": 2},
        padded=("author",),
    ),
    "ithp": Traits(
        {"hidden": 10, "sizes": (6, 4)},
        golden={"hidden": 10, "sizes": (6, 5)},
        gaps=("author",),
        ignored={"clean": ("audio", "vision", "face"), "author": ("audio", "vision", "face")},
    ),
    "dlf": Traits(
        {
            "width": 8,
            "heads": 2,
            "layers": 1,
            "memory_layers": 1,
            "kernel": 3,
            "zeros_unplaced": False,  # the sample without any observation would make gradients overflow, as published
        },
        golden={"width": 8, "heads": 2, "layers": 2, "memory_layers": 1, "kernel": 3},
        gaps=("author",),  # it reads padding too, but its length is fixed: there is never more of it
    ),
    "rohydr": Traits(
        {
            "width": 8,
            "kernel": 1,
            "heads": 2,
            "layers": 1,
            "memory_layers": 1,
            "denoiser_width": 8,
            "denoiser_depth": 1,
            "denoiser_heads": 2,
            "diffusion_steps": 20,
            "sampling_steps": 4,
            "sampling_steps_test": 4,
            "reconstructor_blocks": 1,
            "reduction": 4,
            "mrec_hidden": (6, 5),
            "discriminator_hidden": (6, 5),
            "pretraining": 0.2,
            "recoverable": ("text",),
        },
        golden={
            "width": 8,
            "kernel": 3,
            "heads": 2,
            "layers": 2,
            "memory_layers": 2,
            "denoiser_width": 8,
            "denoiser_depth": 2,
            "denoiser_heads": 2,
            "sampling_steps_test": 4,
            "reconstructor_blocks": 2,
            "reduction": 4,
            "mrec_hidden": (6, 5),
            "discriminator_hidden": (6, 5),
        },
        padded=("author_may", "author_dec"),
        unread={"author_may": ("project",), "author_dec": ("project",)},
        skips_missing=True,
        twin={"draws": 0, "recoverable": (), "kernel": 3},
        steps=5,
        rates={"author_may": 1e-4},
        eps=1.0,
    ),
    "imder": Traits(
        {
            "width": 8,
            "kernel": 1,
            "heads": 2,
            "layers": 1,
            "memory_layers": 1,
            "denoiser_heads": 2,
            "sampling_steps": 16,
            "sampling_steps_test": 1,  # the last of several steps of the published sampler multiplies rounding
            "reconstructor_blocks": 1,
            "reduction": 4,
            "recoverable": ("text",),
        },
        golden={
            "width": 8,
            "heads": 2,
            "layers": 3,
            "memory_layers": 3,
            "denoiser_heads": 2,
            "reconstructor_blocks": 2,
            "reduction": 4,
            "sampling_steps_test": 4,
        },
        padded=("author",),
        unread={"author": ("project",)},
        skips_missing=True,
        steps=5,
        rates={"author": 1e-4},
        eps=1.0,
    ),
    "dicmor": Traits(
        {
            "width": 8,
            "kernel": 1,
            "heads": 2,
            "layers": 1,
            "memory_layers": 1,
            "couplings": 3,
            "coupling_width": 6,
            "reconstructor_blocks": 1,
            "reduction": 4,
        },
        golden={
            "width": 8,
            "heads": 2,
            "kernel": 3,
            "layers": 3,
            "memory_layers": 3,
            "couplings": 4,
            "coupling_width": 6,
            "reconstructor_blocks": 2,
            "reduction": 4,
        },
        padded=("author",),
        unread={"author": ("project", "spare")},
        skips_missing=True,
    ),
}


def traits(name: str) -> Traits:
    """Return a model's traits; most small models need none."""
    return TRAITS.get(name, Traits())
