"""Writes whisper_frames.json: Whisper's log-mel frames as faster-whisper computes them.

Origin: faster_whisper.feature_extractor.FeatureExtractor (pip install '.[asr]'), on the samples of
log_mel.json, with half a second of padding. Run: python tests/reference/make_whisper_frames.py
"""

import json
from pathlib import Path

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor

HERE = Path(__file__).parent
FRAMES = [0, 1, 30, 64, 65, 66, 67, 114]


def main() -> None:
    samples = json.loads((HERE / "log_mel.json").read_text())["samples"]
    frames = FeatureExtractor()(np.array(samples, np.float32) / 32768, padding=8000)
    table = {
        "origin": "faster_whisper FeatureExtractor()(samples of log_mel.json, padding=8000)",
        "shape": list(frames.shape),
        "frames": FRAMES,
        "values": [[round(float(value), 6) for value in frames[:, k]] for k in FRAMES],
    }
    (HERE / "whisper_frames.json").write_text(json.dumps(table) + "\n")


if __name__ == "__main__":
    main()
