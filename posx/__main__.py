"""``python -m posx`` and the command ``posx``."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from posx.cli.app import app

    app()


if __name__ == "__main__":
    main()
