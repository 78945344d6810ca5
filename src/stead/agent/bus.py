"""The bus in the process: hands copies of events to whoever subscribed. It never carries control.

A subscriber that does not keep up loses its place (`Subscriber.lost`) rather than slowing the road.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Final

from stead.model.messages import Event

QUEUE_LIMIT: Final = 2_000


class Subscriber:
    """One listener's bounded queue."""

    def __init__(self, topics: tuple[str, ...], wake: Callable[[], None]) -> None:
        self.topics = topics
        self.wake = wake
        self.queue: deque[Event] = deque()
        self.lost = False

    def matches(self, topic: str) -> bool:
        """Does any of its globs match?"""
        return any(fnmatchcase(topic, glob) for glob in self.topics)


class LocalBus:
    """Implements `protocols.Bus` for one process."""

    def __init__(self) -> None:
        self.subscribers: set[Subscriber] = set()
        self.seq = 0

    def wants(self, topic: str) -> bool:
        """Is anybody listening? Spares the making of events that nobody gets."""
        return any(subscriber.matches(topic) for subscriber in self.subscribers)

    def subscribe(self, topics: tuple[str, ...], wake: Callable[[], None]) -> Subscriber:
        """Listen from now on; `wake` is called when something was queued."""
        subscriber = Subscriber(topics, wake)
        self.subscribers.add(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Stop listening."""
        self.subscribers.discard(subscriber)

    def next_seq(self) -> int:
        """The number of the next event."""
        self.seq += 1
        return self.seq

    def publish(self, event: Event) -> None:
        """Queue a copy for each listener."""
        for subscriber in self.subscribers:
            if not subscriber.matches(event.type):
                continue
            if len(subscriber.queue) >= QUEUE_LIMIT:
                subscriber.lost = True
            else:
                subscriber.queue.append(event)
            subscriber.wake()
