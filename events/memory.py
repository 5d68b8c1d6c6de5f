"""Bytes and words at addresses, for compiled loops: no array is passed, counted or checked between their functions.

An address is an int64 and has to lie in memory that the caller keeps alive; a word may lie anywhere, and is
little-endian. What is compiled here runs without Python's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

Word = np.uint64
Function = TypeVar("Function", bound=Callable[..., Any])

compiled = cast(Callable[[Function], Function], njit(nogil=True))  # a part of what is kept
ALL = Word(0xFFFFFFFFFFFFFFFF)
LONG = ir.IntType(64)


def kept(signature: str) -> Callable[[Function], Function]:
    """Compile for these types at once, and keep the machine code on disk for the next process."""
    return cast(Callable[[Function], Function], njit(signature, nogil=True, cache=True))


def _make_load(bits: int, result: Any) -> Any:
    def load(_typing: Any, _at: Any) -> Any:
        def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            kind = ir.IntType(bits)
            value = builder.load(builder.inttoptr(arguments[0], kind.as_pointer()), align=1)
            return value if bits == 64 else builder.zext(value, LONG)

        return result(types.int64), build

    return intrinsic(load)


def _make_store(bits: int) -> Any:
    def store(_typing: Any, _at: Any, value: Any) -> Any:
        def build(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            kind = ir.IntType(bits)
            narrow = arguments[1] if bits == 64 else builder.trunc(arguments[1], kind)
            builder.store(narrow, builder.inttoptr(arguments[0], kind.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, value), build

    return intrinsic(store)


def _count_zeros(_typing: Any, _word: Any) -> Any:
    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), build


def _read_number(_typing: Any, _word: Any) -> Any:
    def build(_context: Any, _builder: Any, _signature: Any, arguments: Any) -> Any:
        return arguments[0]

    return types.int64(types.uint64), build


load_byte: Callable[[int], int] = _make_load(8, types.int64)
load_word: Callable[[int], Word] = _make_load(64, types.uint64)
load: Callable[[int], int] = _make_load(64, types.int64)
store_byte: Callable[[int, int], None] = _make_store(8)
store_half: Callable[[int, int], None] = _make_store(32)
store: Callable[[int, int], None] = _make_store(64)
store_word: Callable[[int, Word], None] = _make_store(64)
count_zeros: Callable[[Word], int] = cast(Any, intrinsic(_count_zeros))  # below the lowest bit that is set; not of 0
to_number: Callable[[Word], int] = cast(Any, intrinsic(_read_number))  # the word's bits as an int64


@compiled
def mask(length: int) -> Word:
    """Make the mask of a word's first bytes: `length`, at least 1; eight where it is more."""
    return ALL >> Word(64 - 8 * min(length, 8))
