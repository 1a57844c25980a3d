"""How the gradients of a batch are computed: by one process, and later by several. One way a file."""
