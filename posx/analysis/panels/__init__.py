"""The pictures of `posx show`. ``panel``: what a panel holds, as numbers; ``scheme`` and ``extension``: which panels
there are of a scheme, and what an extension adds to them; ``drawing``: all of them as one picture."""
