"""``python -m MedSegRegLib`` is ``medsegreg``: what ``torchrun -m`` needs."""

from .cli import main

if __name__ == "__main__":
    main()
