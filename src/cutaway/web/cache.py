"""How do a hundred readers not ask for the same thing a hundred times? It is made once, and kept for a while.

Whoever asks while a thing is being made waits for the same one. What cannot change (a slice of a result, whose
name is the hash of its contents) is kept until there is no room; what can is kept for moments.
Limits: one event loop; sizes are those of the bytes kept. A thing that nobody waits for any more is given up.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cache(Generic[T]):
    """Things by key.

    Args:
        largest: how many bytes are kept in all.
        seconds: for how long.
        size: bytes of a thing.
    """

    def __init__(self, largest: int, seconds: float = math.inf, size: Callable[[T], int] = lambda thing: 1) -> None:
        self._largest, self._seconds, self._size = largest, seconds, size
        self._kept: OrderedDict[Hashable, tuple[float, T]] = OrderedDict()
        self._made: dict[Hashable, asyncio.Future[T]] = {}
        self._waiting: dict[Hashable, int] = {}
        self._bytes = 0
        self._age = 0

    async def get(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """The thing, made now unless it is kept or being made."""
        now = asyncio.get_running_loop().time()
        known = self._kept.get(key)
        if known is not None and now - known[0] <= self._seconds:
            self._kept.move_to_end(key)
            return known[1]
        if key not in self._made:
            self._made[key] = asyncio.ensure_future(self._make(key, make))
        made = self._made[key]
        self._waiting[key] = self._waiting.get(key, 0) + 1
        try:
            return await asyncio.shield(made)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
                if not made.done():
                    made.cancel()
                    self._made.pop(key, None)

    def forget(self, wanted: Callable[[Hashable], bool] = lambda key: True) -> None:
        """Let go of what is kept under these keys, and do not keep what is being made."""
        self._age += 1
        for key in [key for key in self._kept if wanted(key)]:
            self._drop(key)
        for key in [key for key in self._made if wanted(key)]:
            del self._made[key]

    async def _make(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        age, mine = self._age, asyncio.current_task()
        try:
            thing = await make()
        finally:
            if self._made.get(key) is mine:
                del self._made[key]
        if age == self._age and self._size(thing) <= self._largest:
            self._keep(key, thing)
        return thing

    def _keep(self, key: Hashable, thing: T) -> None:
        if key in self._kept:
            self._drop(key)
        self._kept[key] = (asyncio.get_running_loop().time(), thing)
        self._bytes += self._size(thing)
        while self._bytes > self._largest:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        self._bytes -= self._size(self._kept.pop(key)[1])
