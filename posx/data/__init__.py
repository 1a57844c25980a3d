"""Token ids of documents on disk, and the windows that training draws from them."""
