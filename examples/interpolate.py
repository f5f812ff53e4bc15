"""Walk from one recording to another: f = alpha f1 + (1 - alpha) f2 under one noise (Fig. 5 of the paper).

python examples/interpolate.py first.wav second.wav row.png [model]
"""

import sys

import speech2image


def main(first: str, second: str, out: str, model: str = "flowers-and-birds") -> None:
    walk = speech2image.load(model).interpolate(first, second, steps=9, seed=0)
    walk.save(out)
    print(f"{out}: alpha = {', '.join(f'{alpha:.3f}' for alpha in walk.alphas)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
