"""Draw each recording under the same eight noises, a row a recording (Fig. 3 and 4 of the paper).

python examples/eight_noises.py grid.png model clip.wav [more clips]
"""

import sys

import speech2image
from speech2image.pipeline import images


def main(out: str, model: str, *clips: str) -> None:
    route = speech2image.load(model)
    pictures = []
    for clip in clips:
        embedding = route.embed(clip)
        pictures += route.generate(embedding, n=8, seed=0)
    images.save(images.grid(pictures, columns=8), out)
    print(f"{out}: {len(clips)} recordings, 8 noises")


if __name__ == "__main__":
    main(*sys.argv[1:])
