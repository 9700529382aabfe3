"""The restricted unpickler: honest files come back equal, hostile ones are refused and nothing of them runs."""

import bz2
import contextlib
import copyreg
import gzip
import io
import os
import pickle
import struct
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from affectcore.data.readers.unpickle import read
from affectcore.errors import DataError, UnsafePickleError

CANARY = "canary"


def honest() -> dict:
    rng = np.random.default_rng(0)
    return {
        "train": {
            "text": rng.normal(size=(30, 5, 4)).astype("f4"),
            "fortran": np.asfortranarray(rng.normal(size=(3, 4))),
            "id": [f"a$_${i}" for i in range(30)],
            "raw_text": np.array(["héllo", "b"], dtype=object),
            "unicode": np.array(["ab", "cdé"]),
            "bytes": np.array([b"x", b""]),
            "scalars": [np.int64(3), np.float32(2.5), np.str_("q"), np.bool_(True), b""],
            "empty": np.zeros((0, 3)),
            "big_endian": np.arange(3, dtype=">f8"),
            "set": {"a", "b"},
            "numbers": (1, 2.5, None, 2**70, float("inf")),
        }
    }


def equal(a: object, b: object) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    return a == b


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol_come_back_equal(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(honest(), protocol))
    assert equal(honest(), read(tmp_path / "a.pkl"))


@pytest.mark.parametrize("compress", [0, "zlib", "gzip", "bz2", "lzma", "xz"])
def test_joblib_dumps_come_back_equal(tmp_path: Path, compress: str | int) -> None:
    joblib.dump(honest(), tmp_path / "a", compress=(compress, 3) if compress else 0)
    assert equal(honest(), read(tmp_path / "a"))


# Hostile payloads. Each is a pickle that, loaded by pickle.load, would run `touch canary` or something as bad.


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text.encode())]) + text.encode()


def call(module: str, name: str, *args: bytes) -> bytes:
    """STACK_GLOBAL and REDUCE in protocol 4."""
    return b"\x80\x04" + short(module) + short(name) + b"\x93(" + b"".join(args) + b"tR."


def of(obj: object, protocol: int = 4) -> bytes:
    return pickle.dumps(obj, protocol)


class Reduces:
    def __init__(self, *reduced: object) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple:
        return self.reduced


def array_with_object(item: object) -> bytes:
    a = np.empty(1, dtype=object)
    a[0] = item
    return of(a)


def joblib_with_object(item: object) -> bytes:
    a = np.empty(1, dtype=object)
    a[0] = item
    f = io.BytesIO()
    joblib.dump({"train": a}, f)
    return f.getvalue()


def extension() -> bytes:
    copyreg.add_extension("posix", "system", 0xF0)
    try:
        return pickle.dumps(os.system, 2).replace(b".", b"") + short(f"touch {CANARY}") + b"\x85R."
    finally:
        copyreg.remove_extension("posix", "system", 0xF0)


TOUCH = short(f"touch {CANARY}")
CODE = f"open('{CANARY}', 'w').close()"
DTYPE = b"cnumpy\ndtype\n(" + short("f8") + b"\x89\x88tR"
ARRAY = (
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tc_codecs\nencode\n(" + short("b") + short("latin1")
)
ARRAY += b"tRtR"
SYSTEM = b"cposix\nsystem\n"

HOSTILE: dict[str, tuple[bytes, str]] = {
    "os.system": (of(Reduces(os.system, (f"touch {CANARY}",))), "posix.system"),
    "os.system by INST": (b"(S'touch canary'\nios\nsystem\n.", "os.system"),
    "os.system by OBJ": (b"(cos\nsystem\nS'touch canary'\no.", "os.system"),
    "subprocess.Popen": (call("subprocess", "Popen", short(f"touch {CANARY}")), "subprocess.Popen"),
    "subprocess by NEWOBJ": (
        b"\x80\x02csubprocess\nPopen\n" + short("touch canary") + b"\x85\x81.",
        "subprocess.Popen",
    ),
    "eval": (call("builtins", "eval", short(CODE)), "builtins.eval"),
    "exec": (call("builtins", "exec", short(CODE)), "builtins.exec"),
    "__builtin__.eval": (b"c__builtin__\neval\n(" + short(CODE) + b"tR.", "__builtin__.eval"),
    "builtins.print": (call("builtins", "print", short("x")), "builtins.print"),
    "builtins.open": (call("builtins", "open", short(CANARY), short("w")), "builtins.open"),
    "getattr chain": (call("builtins", "getattr", b"cnumpy\nndarray\n" + short("__subclasses__")), "builtins.getattr"),
    "dotted name": (call("numpy", "ndarray.__class__.__subclasses__"), "numpy.ndarray.__class__.__subclasses__"),
    "dotted module": (call("numpy.core.multiarray", "_reconstruct.__globals__"), "_reconstruct.__globals__"),
    "importlib": (call("importlib", "import_module", short("os")), "importlib.import_module"),
    "__import__": (call("builtins", "__import__", short("os")), "builtins.__import__"),
    "runpy": (call("runpy", "run_path", short("x.py")), "runpy.run_path"),
    "functools.partial": (call("functools", "partial", SYSTEM, TOUCH), "functools.partial"),
    "operator.attrgetter": (call("operator", "attrgetter", short("system")), "operator.attrgetter"),
    "copyreg._reconstructor": (call("copyreg", "_reconstructor", SYSTEM), "copyreg._reconstructor"),
    "numpy.load": (call("numpy", "load", short("x.npy"), b"N\x88"), "numpy.load"),
    "numpy fromstring": (call("numpy.core.multiarray", "fromstring", short("x")), "numpy.core.multiarray.fromstring"),
    "numpy runstring": (call("numpy.testing._private.utils", "runstring", short(CODE)), "runstring"),
    "numpy memmap": (call("numpy", "memmap", short(CANARY), short("u1"), short("w+")), "numpy.memmap"),
    "numpy.ndarray called": (
        call("numpy", "ndarray", b"\x8a\x05\x00\x00\x00\x00\x01"),
        "a call of numpy.ndarray itself",
    ),
    "joblib.load": (call("joblib", "load", short("x")), "joblib.load"),
    "joblib old wrapper": (call("joblib.numpy_pickle", "NDArrayWrapper"), "joblib.numpy_pickle.NDArrayWrapper"),
    "joblib wrapper of objects": (joblib_with_object(Reduces(os.system, (f"touch {CANARY}",))), "posix.system"),
    "torch storage": (call("torch._utils", "_rebuild_tensor_v2"), "torch._utils._rebuild_tensor_v2"),
    "pandas": (call("pandas", "read_pickle", short("x")), "pandas.read_pickle"),
    "nested pickle": (call("pickle", "loads", b"C" + bytes([10]) + b"0123456789"), "pickle.loads"),
    "codec with side effects": (call("_codecs", "decode", short("x"), short("zip")), "_codecs.decode"),
    "_codecs.encode to rot13": (call("_codecs", "encode", short("x"), short("rot13")), "_codecs.encode(str, 'rot13')"),
    "object array": (array_with_object(Reduces(os.system, (f"touch {CANARY}",))), "posix.system"),
    "object array of a list": (array_with_object([1]), "an object array that holds a list"),
    "__setstate__ of a class": (of(Reduces(io.BytesIO, (), (b"", 0, None))), "_io.BytesIO"),
    "BUILD on a dict": (b"}}b.", "a state for a dict"),
    "BUILD on an array's class": (b"cnumpy\nndarray\n}b.", "a state for numpy.ndarray itself"),
    "BUILD with slots": (b"\x80\x02" + DTYPE + b"N}" + short("dtype") + SYSTEM + b"s\x86b.", "posix.system"),
    "dtype with metadata": (
        b"\x80\x04" + DTYPE + b"(K\x04" + short("<") + b"NNN\x4a\xff\xff\xff\xff\x4a\xff\xff\xff\xffK\x00}tb.",
        "numpy.dtype with fields, a subarray or metadata",
    ),
    "dtype with fields": (of(np.zeros(1, [("a", "f4")])), "numpy.dtype('V4')"),
    "datetime dtype": (of(np.zeros(1, "M8[s]")), "numpy.dtype('M8')"),
    "dtype code with a comma": (call("numpy", "dtype", short("f4,O"), b"\x89\x88"), "numpy.dtype('f4,O')"),
    "dtype from a dict": (call("numpy", "dtype", b"}", b"\x89\x88"), "numpy.dtype({})"),
    "array with a negative shape": (
        b"\x80\x04" + ARRAY + b"(K\x01\x4a\xff\xff\xff\xff\x85" + DTYPE + b"\x89C\x00tb.",
        "an array of shape (-1,)",
    ),
    "array with an unknown state": (b"\x80\x04" + ARRAY + b"K\x01\x85b.", "an array with a state of unknown form"),
    "reconstruct of another class": (
        b"cnumpy.core.multiarray\n_reconstruct\n(c_codecs\nencode\n(K\x00tC\x01btR.",
        "numpy's _reconstruct for another class",
    ),
    "extension registry": (extension(), "the opcode EXT1"),
    "persistent id": (b"Pos.system\n.", "the opcode PERSID"),
    "binary persistent id": (short("x") + b"Q.", "the opcode BINPERSID"),
    "NEWOBJ_EX": (b"\x80\x04cnumpy\ndtype\n)}\x92.", "the opcode NEWOBJ_EX"),
    "outside buffer": (b"\x80\x05\x97.", "the opcode NEXT_BUFFER"),
    "a frozenset": (of(frozenset({1, 2})), "a frozenset"),
    "a class by itself": (of(np.ndarray), "numpy.ndarray itself"),
    "bytes of a number": (call("builtins", "bytes", b"\x8a\x05\x00\x00\x00\x00\x01"), "builtins.bytes of something"),
    "a call of a string": (short("x") + b")R.", "a call of a str"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_pickle_is_refused_by_name_and_runs_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    payload, asked = HOSTILE[case]
    (tmp_path / "hostile.pkl").write_bytes(payload)
    with pytest.raises(UnsafePickleError) as e:
        read(tmp_path / "hostile.pkl")
    message = str(e.value)
    assert "hostile.pkl" in message
    assert asked in message
    assert "\n" not in message
    assert not (tmp_path / CANARY).exists()


def test_the_canary_would_be_written_by_an_ordinary_unpickler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for case in ("os.system", "os.system by INST", "eval", "object array", "joblib wrapper of objects"):
        if "joblib" in case:
            joblib.load(io.BytesIO(HOSTILE[case][0]))
        else:
            pickle.loads(HOSTILE[case][0])
        assert (tmp_path / CANARY).exists(), case
        (tmp_path / CANARY).unlink()


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_a_hostile_payload_behind_compression_is_refused(tmp_path: Path, compress, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "h.pkl").write_bytes(compress(HOSTILE["os.system"][0]))
    with pytest.raises(UnsafePickleError, match=r"h\.pkl.*posix\.system"):
        read(tmp_path / "h.pkl")
    assert not (tmp_path / CANARY).exists()


# Bombs and damage


@pytest.mark.parametrize(
    "payload",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",  # bytes that declare a terabyte
        b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",  # the same as a bytearray
        b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.",  # the same as a frame
        b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01.",  # the same as an integer
        b"\x80\x04" + ARRAY + b"(K\x01\x8a\x06\x00\x00\x00\x00\x00\x01\x85" + DTYPE + b"\x89C\x00tb.",
    ],
    ids=["bytes", "bytearray", "frame", "integer", "array shape"],
)
def test_a_declared_size_beyond_the_file_is_refused(tmp_path: Path, payload: bytes) -> None:
    (tmp_path / "bomb.pkl").write_bytes(payload)
    with pytest.raises(DataError, match=r"bomb\.pkl"):
        read(tmp_path / "bomb.pkl")


def test_a_compressed_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    (tmp_path / "bomb.pkl").write_bytes(bz2.compress(pickle.dumps(np.zeros(20 * 2**20, "u1"))))
    assert (tmp_path / "bomb.pkl").stat().st_size < 1000
    assert len(read(tmp_path / "bomb.pkl")) == 20 * 2**20  # small files may always grow to 64 MiB
    with pytest.raises(DataError, match=r"bomb\.pkl.*2000000 bytes"):
        read(tmp_path / "bomb.pkl", limit=2_000_000)


def test_one_list_shared_by_many_arrays_is_a_bomb(tmp_path: Path) -> None:
    n = 2000
    shared = b"](" + b"N" * n + b"e\x94"  # a list of n Nones, kept in the memo at 0
    objects = b"cnumpy\ndtype\n(" + short("O") + b"\x89\x88tR"
    arrays = (ARRAY + b"(K\x01M" + struct.pack("<H", n) + b"\x85" + objects + b"\x89h\x00tb") * 500
    (tmp_path / "b.pkl").write_bytes(b"\x80\x04" + b"(" + shared + arrays + b"l.")
    with pytest.raises(DataError, match=r"b\.pkl.*arrays that hold more than the file does"):
        read(tmp_path / "b.pkl")


def test_a_list_that_holds_itself_and_deep_nesting_are_refused(tmp_path: Path) -> None:
    loop: list = []
    loop.append(loop)
    deep: list = []
    for _ in range(200):
        deep = [deep]
    for value, why in ((loop, "holds itself"), (deep, "nested more than")):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
        with pytest.raises(DataError, match=why):
            read(tmp_path / "a.pkl")


@pytest.mark.parametrize("compress", [0, "zlib", "gzip", "lzma"])
def test_every_truncation_is_one_clear_line(tmp_path: Path, compress: str | int) -> None:
    joblib.dump(honest(), tmp_path / "a", compress=(compress, 3) if compress else 0)
    whole = (tmp_path / "a").read_bytes()
    for n in range(0, len(whole) - 1, 97):
        (tmp_path / "cut").write_bytes(whole[:n])
        with pytest.raises(DataError) as e:
            read(tmp_path / "cut")
        assert str(e.value).startswith(f"{tmp_path / 'cut'}: ")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_raises_anything_but_a_data_error(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps({"id": ["a", "b"], "x": np.arange(3.0), "y": np.array(["a"], dtype=object)}, 4))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "d").write_bytes(bytes(whole))
    with contextlib.suppress(DataError):
        read(tmp_path / "d")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=60))
def test_random_bytes_raise_nothing_but_a_data_error(tmp_path: Path, noise: bytes) -> None:
    (tmp_path / "d").write_bytes(noise)
    with contextlib.suppress(DataError):
        read(tmp_path / "d")


def test_other_formats_and_absent_files_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="zip archive"):
        read(tmp_path / "a.npz")
    (tmp_path / "b").write_bytes(b"\x04\x22\x4d\x18rest")
    with pytest.raises(DataError, match="lz4"):
        read(tmp_path / "b")
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "none.pkl")
