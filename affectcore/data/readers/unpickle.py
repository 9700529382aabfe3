"""A restricted unpickler: NumPy arrays, dicts, lists, tuples, sets, strings, bytes and numbers, nothing else.

A pickle is a program that may call anything it can name. Here it can name eight things, none of which is the real one:
each stands for a small class below that only stores what it is given. The arrays are built afterwards by `_plain`, from
checked shapes, types and bytes. Everything else (any other name, INST, OBJ, NEWOBJ_EX, EXT, persistent ids, outside
buffers) is refused before it acts, naming the file and what was asked for.

It is the standard library's unpickler in Python, not in C: the dispatch table can then be cut down, and joblib's dumps,
which keep the bytes of an array in the stream behind the object that describes it, can be read without joblib. Files
may be compressed (gzip, zlib, bz2, lzma, xz). No read goes beyond what the file can hold, so a declared size alone
reserves no memory; a compressed file may grow to `GROWTH` times its size.
"""

import bz2
import gzip
import io
import lzma
import math
import pickle
import re
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray

from affectcore.errors import DataError, UnsafePickleError

GROWTH = 200
SMALL = 64 * 2**20  # a file may always grow to this many bytes
DEPTH = 40
CHUNK = 16 * 2**20


def read(path: str | Path, *, limit: int | None = None) -> Any:
    """Return what a pickle or joblib dump holds; executes nothing of it.

    limit: most bytes the decompressed file may have (default: its own size, times GROWTH where it is compressed).
    Raises UnsafePickleError for anything that is not an array, container, string or number, DataError for a file that
    is truncated, damaged, too large, or not a pickle.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            size = path.stat().st_size
            stream, compressed = _decompressed(raw, str(path))
            allowed = limit if limit is not None else max(SMALL, size * GROWTH) if compressed else size
            return _load(_Stream(stream, allowed, str(path)), str(path))
    except OSError as e:
        if isinstance(e, gzip.BadGzipFile):
            raise _damaged(str(path), e) from e
        raise DataError(f"{path}: cannot be read: {e.strerror or e}") from e


def _damaged(file: str, why: object) -> DataError:
    text = f"{type(why).__name__}: {why}" if isinstance(why, Exception) else str(why)
    return DataError(f"{file}: is not a whole pickle, it is truncated, damaged or of another format ({text[:200]})")


class _Zlib(io.RawIOBase):
    """A zlib stream as a file: the one compression of joblib that the standard library reads only in whole strings."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self._z = raw, zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._z.eof:
            data = self._z.unconsumed_tail or self._raw.read(2**16)
            if not data:
                raise EOFError("the compressed stream ends early")
            out = self._z.decompress(data, len(buffer))
            if out:
                buffer[: len(out)] = out
                return len(out)
        return 0


def _decompressed(raw: IO[bytes], file: str) -> tuple[IO[bytes], bool]:
    head = raw.read(6)
    raw.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw), True  # type: ignore[return-value]
    if head.startswith(b"BZh"):
        return bz2.BZ2File(raw), True
    if head.startswith((b"\xfd7zXZ\x00", b"\x5d\x00")):
        return lzma.LZMAFile(raw), True
    if head.startswith((b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")):
        return io.BufferedReader(_Zlib(raw)), True
    if head.startswith(b"\x04\x22\x4d\x18"):
        raise DataError(f"{file}: is compressed with lz4, which is not read; write it again with zlib or none")
    if head.startswith(b"PK\x03\x04"):
        raise DataError(f"{file}: is a zip archive (npz or a torch file), not a pickle")
    return raw, False


class _Stream:
    """The bytes of the file, of which no more than `allowed` are ever read."""

    def __init__(self, raw: IO[bytes], allowed: int, file: str) -> None:
        self._raw, self._left, self._allowed, self.file = raw, allowed, allowed, file

    def _take(self, n: int) -> None:
        if n < 0 or n > self._left:
            rule = f"more than the {self._allowed} bytes that the file can hold"
            raise DataError(f"{self.file}: asks for {n} bytes at once or in all, {rule}: truncated, damaged or hostile")

    def read(self, n: int) -> bytes:
        """Exactly `n` bytes. Large reads go in pieces, so that memory follows the bytes that are really there."""
        self._take(n)
        piece = self._raw.read(min(n, CHUNK))
        if len(piece) == n:
            self._left -= n
            return piece
        out = bytearray(piece)
        while len(out) < n:
            piece = self._raw.read(min(n - len(out), CHUNK))
            if not piece:
                raise EOFError(f"{n - len(out)} bytes are missing")
            out += piece
        self._left -= n
        return bytes(out)

    @property
    def taken(self) -> int:
        return self._allowed - self._left

    def readline(self) -> bytes:
        line = self._raw.readline(min(self._left, 2**20) + 1)
        self._take(len(line))
        self._left -= len(line)
        return line


# What the eight names stand for


class _NdArrayClass:
    """Stands for numpy.ndarray, which may be named as an argument and never called."""


NDARRAY = _NdArrayClass()
_CODE = re.compile(r"[<>=|]?(?:([?])|([biuf])([1248])|(f)16|([SU])(\d{1,9})|(O)8?)$")


def _refuse(what: str) -> NoReturn:
    raise UnsafePickleError(what)


def _kind(x: object) -> str:
    return "numpy.ndarray itself" if x is NDARRAY else f"a {type(x).__name__.strip('_')}"


class _DType:
    """Stands for numpy.dtype(code, align, copy), completed by its state; plain numbers, strings and objects only."""

    def __init__(self, code: object, align: object = False, copy: object = True) -> None:
        if isinstance(code, bytes):
            code = code.decode("latin1")
        if not isinstance(code, str) or not _CODE.match(code):
            _refuse(f"numpy.dtype({code!r:.60}): only bool, int, uint, float, str, bytes and object are read")
        if type(align) not in (bool, int) or type(copy) not in (bool, int):
            _refuse("numpy.dtype with arguments that are not flags")
        self.dtype = np.dtype(code)

    def set_state(self, state: object) -> None:
        # (version, byte order, subarray, names, fields, size, alignment, flags[, metadata])
        if not isinstance(state, tuple) or len(state) != 8 or any(s is not None for s in state[2:5]):
            _refuse("numpy.dtype with fields, a subarray or metadata")
        order: Any = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "=", "|"):
            _refuse(f"numpy.dtype with byte order {order!r:.20}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands for an array under construction: a shape, a type, and bytes (or a list, for objects)."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (0,)
        self.dtype = np.dtype("b")
        self.fortran = False
        self.data: object = b""

    def fill(self, shape: object, dtype: object, fortran: object, data: object) -> "_Array":
        shape = (shape,) if type(shape) is int else shape
        if not isinstance(shape, tuple) or len(shape) > 8 or any(type(s) is not int or s < 0 for s in shape):
            _refuse(f"an array of shape {shape!r:.60}")
        if not isinstance(dtype, _DType) or type(fortran) not in (bool, int):
            _refuse("an array whose type is not a numpy.dtype")
        self.shape, self.dtype, self.fortran, self.data = shape, dtype.dtype, bool(fortran), data
        return self

    def set_state(self, state: object) -> None:
        # (version, shape, dtype, is Fortran order, data); version is absent in the oldest
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            _refuse("an array with a state of unknown form")
        self.fill(*state[-4:])

    def build(self) -> NDArray[Any]:
        count = math.prod(self.shape)
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        if self.dtype.hasobject:
            if not isinstance(data, list) or len(data) != count:
                raise ValueError(f"an object array of shape {self.shape} must hold a list of {count} items")
            flat = np.empty(count, dtype=object)
            for i, item in enumerate(data):
                if not isinstance(item, str | int | float | bytes | None):
                    _refuse(f"an object array that holds {_kind(item)}: only strings and numbers are read")
                flat[i] = item
        else:
            if not isinstance(data, bytes) or len(data) != count * self.dtype.itemsize:
                found = len(data) if isinstance(data, bytes) else type(data).__name__
                raise ValueError(f"an array of shape {self.shape}, {self.dtype} holds {found} bytes")
            if count == 0:
                return np.zeros(self.shape, self.dtype)
            flat = np.frombuffer(data, self.dtype)
        return flat.reshape(self.shape, order="F" if self.fortran else "C")


class _Wrapper:
    """Stands for joblib's NumpyArrayWrapper; the array's bytes follow it in the stream."""

    def __init__(self, state: object) -> None:
        known = {"subclass", "shape", "order", "dtype", "allow_mmap", "numpy_array_alignment_bytes"}
        if not isinstance(state, dict) or not {"shape", "order", "dtype"} <= set(state) <= known:
            _refuse("a joblib array of unknown form (joblib before 0.10 is not read)")
        if state.get("subclass", NDARRAY) is not NDARRAY or state["order"] not in ("C", "F"):
            _refuse("a joblib array of another class than numpy.ndarray")
        self.aligned = state.get("numpy_array_alignment_bytes") is not None
        self.array = _Array().fill(state["shape"], state["dtype"], state["order"] == "F", b"")

    def receive(self, stream: _Stream) -> _Array:
        a = self.array
        if a.dtype.hasobject:
            inner = _Unpickler(stream).load()
            if not isinstance(inner, _Array):
                _refuse("a joblib object array that is not an array")
            return inner
        if self.aligned:
            stream.read(stream.read(1)[0])
        a.data = stream.read(math.prod(a.shape) * a.dtype.itemsize)
        return a


def _reconstruct(cls: object, shape: object, code: object) -> _Array:
    if cls is not NDARRAY:
        _refuse("numpy's _reconstruct for another class than numpy.ndarray")
    return _Array()


def _scalar(dtype: object, data: object) -> _Array:
    if isinstance(dtype, _DType) and dtype.dtype.hasobject:
        _refuse("a numpy scalar of objects")
    return _Array().fill((), dtype, False, data)


def _frombuffer(data: object, dtype: object, shape: object, order: object, *more: object) -> _Array:
    if order not in ("C", "F") or more:
        _refuse(f"numpy's _frombuffer with order {order!r:.20}")
    return _Array().fill(shape, dtype, order == "F", data)


def _encode(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        _refuse(f"_codecs.encode({type(text).__name__}, {encoding!r:.30}): only str to latin1")
    return text.encode("latin1")


def _empty_bytes(*args: object) -> bytes:
    if args:
        _refuse("builtins.bytes of something")
    return b""


def _set(items: object = ()) -> set[object]:
    if type(items) not in (list, tuple):
        _refuse(f"builtins.set of {_kind(items)}")
    return set(items)  # type: ignore[call-overload]


_WRAPPER = object()  # joblib's class itself: admitted to NEWOBJ alone
_ALLOWED: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _empty_bytes,
    ("__builtin__", "bytes"): _empty_bytes,
    ("builtins", "set"): _set,  # how sets are written before protocol 4
    ("__builtin__", "set"): _set,
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): _WRAPPER,
}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _ALLOWED[f"{_core}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _frombuffer
_CALLABLE: tuple[Callable[..., object], ...] = (_DType, _encode, _empty_bytes, _set, _reconstruct, _scalar, _frombuffer)


def _refuse_opcode(name: str, _: object) -> NoReturn:
    _refuse(f"an object by the opcode {name}")


class _Unfinished:
    """What NEWOBJ of joblib's class makes until BUILD brings its state."""


class _Unpickler(pickle._Unpickler):
    """The standard unpickler with its dispatch table cut down and every call checked."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: _Stream) -> None:
        super().__init__(stream, fix_imports=False, encoding="latin1")
        self.stream = stream

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            _refuse(f"{module}.{name}")
        return _ALLOWED[module, name]

    def load_reduce(self) -> None:
        args = self.stack.pop()  # type: ignore[attr-defined]
        function = self.stack[-1]  # type: ignore[attr-defined]
        if type(args) is not tuple or not any(function is f for f in _CALLABLE):
            _refuse(f"a call of {_kind(function)}")
        self.stack[-1] = function(*args)  # type: ignore[attr-defined]

    def load_newobj(self) -> None:
        args = self.stack.pop()  # type: ignore[attr-defined]
        if args != () or self.stack[-1] is not _WRAPPER:  # type: ignore[attr-defined]
            _refuse("a new object of a class that is not joblib's array")
        self.stack[-1] = _Unfinished()  # type: ignore[attr-defined]

    def load_build(self) -> None:
        state = self.stack.pop()  # type: ignore[attr-defined]
        target = self.stack[-1]  # type: ignore[attr-defined]
        if isinstance(target, _DType | _Array):
            target.set_state(state)
        elif isinstance(target, _Unfinished):
            frame = self._unframer.current_frame  # type: ignore[attr-defined]
            if frame is not None and frame.read(1):
                raise ValueError("an array's bytes do not begin where its description ends")
            wrapper = _Wrapper(state)
            self.stack[-1] = wrapper.receive(self.stream)  # type: ignore[attr-defined]
        else:
            _refuse(f"a state for {_kind(target)}")

    def load_inst(self) -> None:
        module, name = (self.readline()[:-1].decode("latin1") for _ in range(2))  # type: ignore[attr-defined]
        _refuse(f"{module}.{name}")

    def load_bytearray8(self) -> None:  # the inherited one reserves the declared size before it reads
        (size,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        self.append(self.read(size))  # type: ignore[attr-defined]

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.INST[0]] = load_inst
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    for _name in ("OBJ", "NEWOBJ_EX", "PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"):
        dispatch[getattr(pickle, _name)[0]] = partial(_refuse_opcode, _name)


class _Budget:
    """What arrays may still hold in all: one item a byte of the file. A small list shared by many arrays is a bomb."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, n: int) -> None:
        self.left -= n
        if self.left < 0:
            raise ValueError("arrays that hold more than the file does")


def _plain(x: object, seen: dict[int, object], budget: _Budget, depth: int = 0) -> object:
    """The value with every array built, or a refusal. `seen` keeps shared parts shared and finds cycles."""
    if x is None or type(x) in (str, bytes, int, float, bool):
        return x
    if depth > DEPTH:
        raise ValueError(f"containers nested more than {DEPTH} deep")
    if id(x) in seen:
        if seen[id(x)] is None:
            raise ValueError("a container that holds itself")
        return seen[id(x)]
    seen[id(x)] = None
    out: object
    if type(x) is list:
        out = [_plain(v, seen, budget, depth + 1) for v in x]
    elif type(x) is tuple:
        out = tuple(_plain(v, seen, budget, depth + 1) for v in x)
    elif type(x) is set:
        out = {_plain(v, seen, budget, depth + 1) for v in x}
    elif type(x) is dict:
        out = {_plain(k, seen, budget, depth + 1): _plain(v, seen, budget, depth + 1) for k, v in x.items()}
    elif isinstance(x, _Array):
        if isinstance(x.data, list | str | bytes):
            budget.spend(len(x.data))
        if isinstance(x.data, list):
            x.data = [_plain(v, seen, budget, depth + 1) for v in x.data]
        built = x.build()
        out = built if built.ndim else built[()]
    else:
        _refuse(_kind(x))
    seen[id(x)] = out
    return out


def _load(stream: _Stream, file: str) -> Any:
    try:
        raw = _Unpickler(stream).load()
        return _plain(raw, {}, _Budget(stream.taken))
    except UnsafePickleError as e:
        rule = "which is not an array, container, string or number; nothing of the file was executed"
        raise UnsafePickleError(f"{file}: the pickle asks for {e}, {rule}") from None
    except DataError:
        raise
    except (
        pickle.UnpicklingError, EOFError, AttributeError, TypeError, ValueError, KeyError, IndexError, OverflowError,
        RecursionError, NotImplementedError, MemoryError, struct.error, zlib.error, lzma.LZMAError, gzip.BadGzipFile,
    ) as e:  # fmt: skip
        raise _damaged(file, e) from e
