"""What a kind of plot is.

A module of this folder draws one kind: ``plot_KIND(cells)`` returns a figure, or raises :class:`NothingToDraw`. Where a
kind has several views, the module names them in ``VIEWS``, the default first, and the function takes one as ``by``.
"""

from __future__ import annotations

from posx.errors import PosxError


class NothingToDraw(PosxError):
    """These cells hold nothing that this kind of plot shows."""
