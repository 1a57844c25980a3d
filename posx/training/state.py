"""The state that all steps of a run share: the model, its optimizer and its batches."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from posx.config.catalog import PACKAGED, Catalog
from posx.config.schema import OptimConfig, RunConfig
from posx.data.corpus import Corpus
from posx.data.sampling import Slices, check_long_enough
from posx.extensions.base import NONE, Applied
from posx.models.attention.context import Call
from posx.models.attention.tiled import hide_from_compiler
from posx.models.binding import bind, parse_extension
from posx.models.build import build_model
from posx.models.decoder import Decoder, initialise
from posx.runtime import device as devices
from posx.runtime.threads import pieces, set_threads
from posx.utils.files import cache_dir

MOST_SHARED = 50_000_000  # the largest model that several threads train together: 200 MB of gradients for each


@dataclass
class Session:
    """What the steps of a run share."""

    config: RunConfig
    model: Decoder
    optimizer: torch.optim.Optimizer
    slices: Slices
    device: torch.device
    dtype: torch.dtype
    compiled: bool
    note: str  # the reason why it is not compiled
    extension: Applied = NONE  # extensions of the training
    backends: set[str] = field(default_factory=set)  # attention backends that ran

    @property
    def sequences(self) -> int:
        """Windows of one optimizer step."""
        return self.config.train.batch_tokens // self.config.train.context

    @property
    def tokens_a_step(self) -> int:
        """Input tokens of one optimizer step."""
        return self.sequences * self.config.train.context

    def hidden(self, ids: Tensor, positions: Tensor | None = None) -> Tensor:
        """Final hidden states of token ids [B, T] with the extensions of the training; stores the backends that ran."""
        model = self.model
        if positions is None:
            positions = model.scheme.positions(ids.shape[1], ids.device)
        prepared = model.prepare(positions, self.extension, Call(len(ids), model.config.n_heads))
        self.backends.update(prepared.backends)
        return model.run(ids, prepared)

    def pieces(self, sequences: int) -> int:
        """The number of pieces of a batch that are computed concurrently. Each has its own gradients."""
        if self.compiled or sum(p.numel() for p in self.model.parameters()) > MOST_SHARED:
            return 1
        return pieces(self.device, sequences)


def start(config: RunConfig, corpus: Corpus, catalog: Catalog = PACKAGED) -> Session:
    """Model, optimizer and batches of a run at step 0. Raises PosxError if the corpus is too small."""
    train = config.train
    check_long_enough(corpus, train.context)
    device = devices.pick_device(train.device)
    dtype = devices.pick_dtype(train.dtype, device)
    set_threads(train.threads)
    devices.prepare_for(device, exact=False)
    model = build_model(config, corpus.vocab_size, catalog)
    initialise(model, train.seed)
    model.to(device)
    work = 3 * flops_per_token(model, train.context) * train.steps * train.batch_tokens
    compiled, note = devices.pick_compile(train.compile, device, work)
    if compiled:
        devices.keep_compiled(cache_dir(config.data.cache_dir) / "compiled")
    set_compiled(model, compiled)
    optimizer = make_optimizer(model, config.optim, device)
    specs = parse_extension(train.extension, catalog)
    extension = bind((), model.scheme, train.context, specs, train.reached)
    slices = Slices(corpus.splits["train"], train.context)
    return Session(config, model, optimizer, slices, device, dtype, compiled, note, extension)


def flops_per_token(model: Decoder, context: int) -> float:
    """Floating-point operations per token of a forward pass: 2 per weight in a product, and attention's products."""
    matrices = sum(p.numel() for p in model.blocks.parameters() if p.ndim == 2) + model.head_weight.numel()
    return 2 * matrices + 4 * model.config.n_layers * context * model.config.d_model


def set_compiled(model: Decoder, compiled: bool) -> None:
    """Compile each block, or undo it. Blocks share their code, so it is compiled once."""
    if compiled:
        hide_from_compiler()
        # If the code depends on the layer's number, each layer is compiled separately, for training and for validation.
        limit = (
            "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
        )  # torch 2.5
        programs = max(getattr(torch._dynamo.config, limit), 2 * len(model.blocks) + 8)
        setattr(torch._dynamo.config, limit, programs)
    for block in model.blocks:
        if compiled:
            block.compile(dynamic=False)
        else:
            block._compiled_call_impl = None


def make_optimizer(model: Decoder, optim: OptimConfig, device: torch.device) -> torch.optim.Optimizer:
    """AdamW. Weight decay applies to the model's matrices, never to norms or the scheme's parameters."""
    decayed: list[Tensor] = []
    free: list[Tensor] = []
    for name, parameter in model.named_parameters():
        (decayed if parameter.ndim >= 2 and not name.startswith("scheme.") else free).append(parameter)
    groups = [{"params": decayed, "weight_decay": optim.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        groups,
        lr=optim.lr,
        betas=(optim.beta1, optim.beta2),
        eps=optim.eps,
        fused=device.type in ("cpu", "cuda"),
    )
