"""Ask a running `speech2image serve` for pictures of a recording, with Python's standard library alone.

python examples/http_client.py clip.wav flower.png [http://127.0.0.1:7860] [number]
"""

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path


def ask(address: str, recording: bytes, n: int) -> dict:
    headers = {"Content-Type": "application/octet-stream"}
    if key := os.environ.get("SPEECH2IMAGE_API_KEY"):
        headers["X-API-Key"] = key
    request = urllib.request.Request(f"{address}/v1/images?n={n}&format=json", recording, headers)
    while True:
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code not in (429, 503):
                sys.exit(f"{error.code}: {json.load(error)['detail']}")
            time.sleep(int(error.headers.get("Retry-After", "1")))


def main(clip: str, out: str, address: str = "http://127.0.0.1:7860", n: str = "1") -> None:
    told = ask(address, Path(clip).read_bytes(), int(n))
    for k, picture in enumerate(told["pictures"]):
        path = Path(out).with_stem(f"{Path(out).stem}-{k + 1}") if k else Path(out)
        path.write_bytes(base64.b64decode(picture["png"]))
        print(f"{path}: model {told['model']}, seed {told['seed']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
