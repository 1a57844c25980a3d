"""From documents to token ids on disk, and the windows that training draws from them."""
