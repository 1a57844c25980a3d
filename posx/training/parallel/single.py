"""single: one process. On a CPU each thread takes some of the windows, and their gradients are added up in order."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from posx.models.loss import head_cross_entropy
from posx.runtime import device as devices
from posx.runtime.threads import at_once
from posx.training.parallel.base import Batch
from posx.training.state import Session


class Single:
    """The gradients of a batch, in as many pieces as the session allows."""

    def gradients(self, session: Session, batch: Batch, scored: int) -> Tensor:
        """See :class:`posx.training.parallel.base.Parallel`."""
        parameters = [p for p in session.model.parameters() if p.requires_grad]
        count = session.pieces(len(batch))
        if count == 1:
            loss = nats(session, batch) / scored
            loss.backward()
            return loss.detach()

        def piece(rows: slice) -> tuple[Tensor, tuple[Tensor, ...]]:
            loss = nats(session, batch[rows]) / scored
            return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

        pieces = at_once([partial(piece, rows) for rows in batch.cut(count)])
        for parameter, *gradients in zip(parameters, *(gradients for _, gradients in pieces), strict=True):
            for gradient in gradients:
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        return torch.stack([loss for loss, _ in pieces]).sum()


def nats(session: Session, batch: Batch) -> Tensor:
    """Sum of nats over the targets of a batch, with gradients."""
    ids, targets = (devices.to_device(array, session.device) for array in (batch.tokens, batch.targets))
    with torch.autocast(session.device.type, torch.bfloat16, enabled=session.dtype == torch.bfloat16):
        positions = None if batch.positions is None else batch.positions.to(session.device, non_blocking=True)
        hidden = session.model.readable(session.hidden(ids, positions))
    return head_cross_entropy(hidden.flatten(0, 1), session.model.head_weight, targets.flatten(), session.dtype)


SINGLE = Single()
