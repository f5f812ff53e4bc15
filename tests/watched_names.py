"""Runs commands where nothing but the loopback is reached, and notes which names they ask for.

To be started in a namespace of its own: `unshare --map-root-user --net --mount python watched_names.py`.
Takes a list of commands as JSON on its input, runs them at once, and prints their exit statuses and the
names.
"""

import fcntl
import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def main() -> None:
    """Be the only name server there is while the commands run."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, tempfile.NamedTemporaryFile("w") as file:
        fcntl.ioctl(server, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
        file.write("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        file.flush()
        resolver = str(Path("/etc/resolv.conf").resolve())
        subprocess.run(["mount", "--bind", file.name, resolver], check=True)
        server.bind(("127.0.0.1", 53))
        names: list[str] = []
        threading.Thread(target=listen, args=(server, names), daemon=True).start()
        running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in json.load(sys.stdin)]
        print(json.dumps({"statuses": [one.wait() for one in running], "names": sorted(set(names))}))


def listen(server: socket.socket, names: list[str]) -> None:
    """Note the name in each question and answer that there is no such name."""
    while True:
        question, sender = server.recvfrom(4096)
        names.append(name_in(question))
        server.sendto(question[:2] + b"\x81\x83" + question[4:], sender)


def name_in(question: bytes) -> str:
    """The name asked for: labels after their lengths, behind a header of 12 bytes."""
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode("ascii", "replace"))
        at += 1 + length
    return ".".join(labels)


if __name__ == "__main__":
    main()
