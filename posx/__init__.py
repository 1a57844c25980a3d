"""posx: how far does a positional scheme really carry a language model?"""

__version__ = "0.3.0"
