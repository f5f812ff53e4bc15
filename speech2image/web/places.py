"""Counted places: how many things of one kind may be going on, in all and for one client."""

from collections import Counter

from speech2image.web.errors import RequestRejected


class Slots:
    """A bounded number of places; all methods run in the event loop's thread, so nothing needs a lock.

    Args:
        most: places in all.
        per_client: of these, places of one client.
    """

    def __init__(self, most: int, per_client: int) -> None:
        self._most, self._per_client = most, per_client
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Slots taken."""
        return self._taken.total()

    def enter(self, client: str, wait: int) -> None:
        """Take a place.

        Args:
            client: who takes it.
            wait: seconds after which a place may be free.

        Raises:
            RequestRejected: 503, all are taken; 429, this client has taken all that one may have.
        """
        if self.taken >= self._most:
            raise RequestRejected(
                503, f"the server is busy: {self._most} requests wait; try again in {wait} s", wait
            )
        if self._taken[client] >= self._per_client:
            raise RequestRejected(
                429, f"{self._per_client} requests of yours are not finished; try again in {wait} s", wait
            )
        self._taken[client] += 1

    def leave(self, client: str) -> None:
        """Free a place of this client."""
        self._taken[client] -= 1
        if self._taken[client] == 0:
            del self._taken[client]
