"""``python -m videobrain``."""

from videobrain.cli import main

main()
