"""The picture of `posx show`. ``panel``: the data of a panel; ``scheme`` and ``extension``: the panels of a scheme, and
those that an extension adds; ``drawing``: draws all of them as one picture."""
