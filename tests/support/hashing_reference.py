"""The hashes of events/hashing.py in plain Python integers, written from their description."""

from __future__ import annotations

A = 0x9E3779B97F4A7C15
B = 0xBF58476D1CE4E5B9
C = 0x94D049BB133111EB
NULL_WORD = 0xD6E8FEB86659FD93
MASK = (1 << 64) - 1


def finish(state: int) -> int:
    """Return splitmix64's finisher."""
    state = ((state ^ (state >> 30)) * B) & MASK
    state = ((state ^ (state >> 27)) * C) & MASK
    return state ^ (state >> 31)


def hash_text(text: str | None, seed: int = 0) -> int:
    """Hash one string."""
    if text is None:
        return NULL_WORD ^ seed
    data = text.encode()
    state = seed ^ ((len(data) * A) & MASK)
    for start in range(0, len(data), 8):
        word = int.from_bytes(data[start : start + 8].ljust(8, b"\0"), "little")
        state = ((state ^ word) * B) & MASK
        state ^= state >> 29
    return finish(state)


def mix_words(*words: int, seed: int = 0) -> int:
    """Mix 64-bit numbers; their order counts."""
    state = seed ^ A
    for word in words:
        state = finish((((state ^ (word & MASK)) * B) + A) & MASK)
    return state


def make_id(*words: int, seeds: tuple[int, int]) -> str:
    """Write the two mixes of some numbers as 32 hex digits."""
    return "".join(f"{mix_words(*words, seed=seed):016x}" for seed in seeds)
