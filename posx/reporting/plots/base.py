"""The interface of a kind of plot.

A module of this folder draws one kind: ``plot_KIND(cells)`` returns a figure, or raises :class:`NothingToDraw`. If a
kind has several views, the module lists them in ``VIEWS``, the default first, and the function takes one as ``by``.
"""

from __future__ import annotations

from posx.errors import PosxError


class NothingToDraw(PosxError):
    """These cells contain nothing that this kind of plot shows."""
