"""Send a recording to a running `speech2image serve` as if it were spoken now, and keep the pictures.

python examples/live_client.py clip.wav flower.png [ws://127.0.0.1:7860] [number]

clip.wav holds 16-bit samples of one channel. The picture file is written anew with each update; the pictures
of the end follow. Needs the package `websockets`, which comes with the extra `web`.
"""

import base64
import json
import os
import sys
import threading
import time
import wave
from pathlib import Path

from websockets.sync.client import ClientConnection, connect

PIECE = 0.1  # seconds


def speak(socket: ClientConnection, samples: bytes, rate: int) -> None:
    """Send the samples as fast as a microphone gives them."""
    size = 2 * round(PIECE * rate)
    for start in range(0, len(samples), size):
        socket.send(samples[start : start + size])
        time.sleep(PIECE)
    socket.send(json.dumps({"type": "end"}))


def main(clip: str, out: str, address: str = "ws://127.0.0.1:7860", n: str = "1") -> None:
    with wave.open(clip) as file:
        if file.getsampwidth() != 2 or file.getnchannels() != 1:
            sys.exit(f"{clip} does not hold 16-bit samples of one channel")
        rate, samples = file.getframerate(), file.readframes(file.getnframes())
    key = os.environ.get("SPEECH2IMAGE_API_KEY")
    query = f"audio=s16le&rate={rate}&n={n}&encoding=png"
    headers = {"X-API-Key": key} if key else {}
    with connect(f"{address}/v1/live?{query}", additional_headers=headers, max_size=2**28) as socket:
        threading.Thread(target=speak, args=(socket, samples, rate), daemon=True).start()
        for message in socket:
            event = json.loads(message)
            if event["type"] == "error":
                sys.exit(f"{event['status']}: {event['detail']}")
            if event["type"] == "partial":
                Path(out).write_bytes(base64.b64decode(event["picture"]["png"]))
                print(f"{event['heard_seconds']:.1f} s: {event.get('transcript', '')}")
            if event["type"] == "final":
                for k, picture in enumerate(event["pictures"]):
                    path = Path(out).with_stem(f"{Path(out).stem}-{k + 1}") if k else Path(out)
                    path.write_bytes(base64.b64decode(picture["png"]))
                    print(f"{path}: model {event['model']}, seed {event['seed']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
