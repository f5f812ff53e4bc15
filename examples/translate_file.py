"""Turn a recording into a picture.

python examples/translate_file.py clip.wav flower.png [model]
"""

import sys

import speech2image


def main(clip: str, out: str, model: str = "flowers-and-birds") -> None:
    result = speech2image.load(model).translate(clip, seed=0)
    result.save(out)
    print(f"{out}: {result.images[0].width} pixels wide, drawn in {result.seconds:.2f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
