"""Hostile archives (users.md 4.4, S5), made here byte by byte, and honest ones as every tool writes them."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.replicas import unpack

BOUNDS = unpack.Bounds(bytes=64 * 1024 * 1024, entries=2000, ratio=200)


def header(
    name: bytes,
    size: int = 0,
    type: bytes = b"0",
    *,
    mode: int = 0o644,
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    size_field: bytes | None = None,
    checksum: bytes | None = None,
) -> bytes:
    block = bytearray(512)
    block[0:100] = name[:100].ljust(100, b"\0")
    block[100:108] = b"%07o\0" % mode
    block[108:124] = b"0000000\x000000000\x00"
    block[124:136] = size_field if size_field is not None else b"%011o\0" % size
    block[136:148] = b"00000000000\0"
    block[156:157] = type
    block[157:257] = link[:100].ljust(100, b"\0")
    block[257:265] = magic
    block[345:500] = prefix[:155].ljust(155, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = checksum if checksum is not None else b"%06o\0 " % sum(block)
    return bytes(block)


def entry(name: bytes, data: bytes = b"", type: bytes = b"0", **how: object) -> bytes:
    return header(name, len(data), type, **how) + data + bytes(-len(data) % 512)  # type: ignore[arg-type]


def pax(records: dict[bytes, bytes], type: bytes = b"x") -> bytes:
    data = b""
    for key, value in records.items():
        size = len(key) + len(value) + 3
        while size != len(str(size)) + len(key) + len(value) + 3:
            size = len(str(size)) + len(key) + len(value) + 3
        data += b"%d %s=%s\n" % (size, key, value)
    return entry(b"PaxHeader", data, type)


END = bytes(1024)
F = entry(b"ok.txt", b"fine")


def gz(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def tar(*parts: bytes) -> bytes:
    return gz(b"".join(parts) + END)


def flip(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 0xFF
    return bytes(changed)


def zip_file() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("a", "b")
    return out.getvalue()


def many(count: int) -> bytes:
    return gz(b"".join(entry(b"f%d" % n) for n in range(count)) + END)


def bomb() -> bytes:
    """320 MiB of zeros in some 300 KiB: a thousand to one."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9, mtime=0) as file:
        file.write(header(b"zeros", 320 * 1024 * 1024))
        for _ in range(320):
            file.write(bytes(1024 * 1024))
        file.write(END)
    return out.getvalue()


H, N, L = "hostile-archive", "not-an-archive", "archive-too-large"
FIELD = b"\x80" + bytes(3) + struct.pack("!Q", 1 << 62)
CORPUS: list[tuple[str, bytes, str]] = [
    # Names that leave the target
    ("dot-dot", tar(entry(b"../evil")), H),
    ("dot-dot-inside", tar(entry(b"a/../../evil")), H),
    ("dot-dot-harmless", tar(entry(b"a/../b")), H),
    ("dot-dot-last", tar(entry(b"a/..", type=b"5")), H),
    ("dot-dot-in-prefix", tar(entry(b"evil", prefix=b"../..")), H),
    ("dot-dot-in-pax", tar(pax({b"path": b"../evil"}), entry(b"fine")), H),
    ("dot-dot-in-gnu-name", tar(entry(b"././@LongLink", b"../evil\0", b"L"), entry(b"fine")), H),
    ("absolute-dot-dot", tar(entry(b"/../../etc/evil")), H),
    ("dot-dot-directory", tar(entry(b"../", type=b"5")), H),
    ("nul-in-pax-path", tar(pax({b"path": b"a\0/../b"}), entry(b"fine")), H),
    # Links
    ("symlink-out", tar(entry(b"l", type=b"2", link=b"/etc/passwd")), H),
    ("symlink-relative-out", tar(entry(b"l", type=b"2", link=b"../../x")), H),
    ("symlink-inside", tar(F, entry(b"l", type=b"2", link=b"ok.txt")), H),
    ("symlink-then-write", tar(entry(b"l", type=b"2", link=b"/tmp"), entry(b"l/evil", b"x")), H),
    ("symlink-chain", tar(*(entry(b"l%d" % n, type=b"2", link=b"l%d/.." % (n + 1)) for n in range(5))), H),
    ("symlink-empty-target", tar(entry(b"l", type=b"2", link=b"")), H),
    ("symlink-directory-like", tar(entry(b"l/", type=b"2", link=b"..")), H),
    ("symlink-by-pax", tar(pax({b"linkpath": b"/etc"}), entry(b"l", type=b"2", link=b"fine")), H),
    ("symlink-to-self", tar(entry(b"l", type=b"2", link=b"l")), H),
    ("symlink-named-dot", tar(entry(b".", type=b"2", link=b"/tmp")), H),
    ("hardlink-out", tar(entry(b"l", type=b"1", link=b"/etc/shadow")), H),
    ("hardlink-inside", tar(F, entry(b"l", type=b"1", link=b"ok.txt")), H),
    ("hardlink-with-content", tar(F, entry(b"l", b"data", b"1", link=b"ok.txt")), H),
    ("gnu-long-link", tar(entry(b"././@LongLink", b"/etc/passwd\0", b"K"), entry(b"l", type=b"2")), H),
    # Special files
    ("character-device", tar(entry(b"null", type=b"3")), H),
    ("block-device", tar(entry(b"sda", type=b"4")), H),
    ("fifo", tar(entry(b"pipe", type=b"6")), H),
    ("gnu-sparse", tar(entry(b"s", type=b"S")), H),
    ("pax-sparse", tar(pax({b"GNU.sparse.major": b"1", b"GNU.sparse.realsize": b"99999999999"}), entry(b"s")), H),
    ("multi-volume", tar(entry(b"m", type=b"M")), H),
    ("volume-label", tar(entry(b"label", type=b"V")), H),
    ("unknown-type", tar(entry(b"z", type=b"Z")), H),
    # Clashes
    ("file-then-folder", tar(entry(b"a", b"x"), entry(b"a/b", b"y")), H),
    ("folder-then-file", tar(entry(b"a/b", b"y"), entry(b"a", b"x")), H),
    ("folder-entry-over-file", tar(entry(b"a", b"x"), entry(b"a/", type=b"5")), H),
    ("root-as-file", tar(entry(b"./", b"x", b"7")), H),
    ("nameless-file", tar(entry(b"", b"x")), H),
    ("folder-with-content", tar(entry(b"d/", b"content", b"5")), H),
    # Lengths and numbers
    ("name-part-too-long", tar(pax({b"path": b"x" * 300}), entry(b"f")), H),
    ("path-too-long", tar(pax({b"path": b"/".join([b"d" * 100] * 60)}), entry(b"f")), H),
    ("too-deep", tar(pax({b"path": b"/".join([b"d"] * 500)}), entry(b"f")), H),
    ("huge-pax-header", tar(header(b"p", 5_000_000, b"x"), bytes(5_000_000 + -5_000_000 % 512), F), H),
    ("huge-gnu-name", tar(header(b"p", 5_000_000, b"L"), bytes(5_000_000 + -5_000_000 % 512), F), H),
    ("several-pax-headers", tar(pax({b"a": b"b"}), pax({b"path": b"x"}), F), H),
    ("several-gnu-names", tar(entry(b"L", b"a\0", b"L"), entry(b"L", b"b\0", b"L"), F), H),
    ("negative-size", tar(header(b"f", size_field=b"\xff" * 12)), H),
    ("base-256-size", tar(header(b"f", size_field=FIELD)), L),
    ("size-not-a-number", tar(header(b"f", size_field=b"12x45678901\0")), N),
    ("pax-size-negative", tar(pax({b"size": b"-1"}), F), H),
    ("pax-size-huge", tar(pax({b"size": b"999999999999"}), F), L),
    ("pax-record-overruns", tar(entry(b"p", b"999 path=x\n", b"x"), F), N),
    ("pax-record-zero", tar(entry(b"p", b"0 path=x\n", b"x"), F), N),
    ("pax-record-garbage", tar(entry(b"p", b"\xff\xfe", b"x"), F), N),
    ("global-pax-path", tar(pax({b"path": b"everything"}, b"g"), F), H),
    ("global-pax-size", tar(pax({b"size": b"0"}, b"g"), F), H),
    # Too much
    ("too-many-entries", many(2001), L),
    ("too-many-folders", tar(*(entry(b"d%d/" % n, type=b"5") for n in range(2001))), L),
    ("too-large", gz(header(b"big", 65 * 1024 * 1024)), L),
    # Ends
    ("empty-file", b"", N),
    ("empty-gzip", gz(b""), N),
    ("not-gzip", b"this is a model, honestly" * 100, N),
    ("zip", zip_file(), N),
    ("html", b"<html>AccessDenied</html>", N),
    ("pickle", b"\x80\x04" + bytes(2000), N),
    ("gzip-of-text", gz(b"model" * 1000), N),
    ("gzip-in-gzip", gz(tar(F)), N),
    ("gzip-head-only", tar(F)[:5], N),
    ("gzip-cut", tar(entry(b"f", random.Random(1).randbytes(9000)))[:-700], N),
    ("gzip-without-trailer", tar(F)[:-8], N),
    ("gzip-bad-crc", flip(tar(F), -6), N),
    ("gzip-damaged", flip(tar(entry(b"f", random.Random(2).randbytes(9000))), 300), N),
    ("tar-cut-in-data", gz(header(b"f", 5000) + bytes(2000)), N),
    ("tar-cut-in-header", gz(F + header(b"g")[:300]), N),
    ("plain-tar-cut", F, N),
    ("ends-after-pax", tar(pax({b"path": b"a"})), N),
    ("bad-checksum", tar(F, header(b"g", checksum=b"000000\0 ")), N),
    ("garbage-after-gzip", tar(F) + b"<script>", H),
    ("one-byte-after-gzip", tar(F) + b"x", H),
    ("zeros-then-garbage-after-gzip", tar(F) + bytes(100) + b"x", H),
    ("garbage-after-tar", tar(F, END, b"hidden" * 100), H),
    ("hidden-second-archive", tar(F, END, entry(b"hidden", b"x")), H),
    ("garbage-after-plain-tar", F + END + b"x" * 512, H),
]  # fmt: skip


@pytest.fixture
def target(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "room" / "target").mkdir(parents=True)
    fd = os.open(tmp_path / "room" / "target", os.O_RDONLY)
    yield fd
    os.close(fd)


def everything(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IFMT(path.lstat().st_mode) for path in folder.rglob("*")}


def test_the_corpus_is_large_enough() -> None:
    assert len(CORPUS) >= 60
    assert len({name for name, _, _ in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize(("data", "kind"), [(data, kind) for _, data, kind in CORPUS], ids=[name for name, _, _ in CORPUS])
def test_hostile_archives_are_refused_and_write_nothing_outside(tmp_path: Path, target: int, data: bytes, kind: str) -> None:
    with pytest.raises(unpack.Refused) as caught:
        unpack.extract(io.BytesIO(data), target, BOUNDS)
    assert caught.value.kind == kind
    assert caught.value.message
    assert caught.value.mend
    assert [path.name for path in tmp_path.iterdir()] == ["room"]
    assert [path.name for path in (tmp_path / "room").iterdir()] == ["target"]
    assert set(everything(tmp_path / "room" / "target").values()) <= {stat.S_IFREG, stat.S_IFDIR}


def test_a_decompression_bomb_is_refused(target: int) -> None:
    with pytest.raises(unpack.Refused) as caught:
        unpack.extract(io.BytesIO(bomb()), target, unpack.Bounds(10**12, 10, 200))
    assert caught.value.kind == "archive-too-large"


def test_links_planted_beforehand_are_not_followed(tmp_path: Path, target: int) -> None:
    (tmp_path / "room" / "target" / "a").symlink_to(tmp_path)
    (tmp_path / "room" / "target" / "f").symlink_to(tmp_path / "stolen")
    with pytest.raises(unpack.Refused):
        unpack.extract(io.BytesIO(tar(entry(b"a/evil", b"x"))), target, BOUNDS)
    unpack.extract(io.BytesIO(tar(entry(b"f", b"x"))), target, BOUNDS)
    assert not (tmp_path / "stolen").exists()
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("compressed", [True, False])
def test_honest_archives(tmp_path: Path, target: int, format: int, compressed: bool) -> None:
    data = random.Random(3).randbytes(700_000)
    names = {
        "model.joblib": data,
        "code/inference.py": b"def f(): pass\n",
        "empty": b"",
        "d" * 60 + "/" + "e" * 60 + "/deep": b"1",
    }
    if format != tarfile.USTAR_FORMAT:
        names["Größe/" + "x" * 200] = b"long"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz" if compressed else "w", format=format) as file:
        for name, content in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    out.seek(0)
    counts = unpack.extract(out, target, BOUNDS)
    assert counts.files == len(names)
    for name, content in names.items():
        assert (tmp_path / "room" / "target" / name).read_bytes() == content


def test_what_sdks_and_tools_write_is_taken(tmp_path: Path, target: int) -> None:
    parts = (
        entry(b"./", type=b"5"),
        entry(b"/code/inference.py", b"leading slash"),
        entry(b"./model", b"leading dot"),
        entry(b"v7/", b"", b"\0", magic=bytes(8)),
        pax({b"comment": b"git"}, b"g"),
        entry(b"model", b"the last of two wins"),
        entry(b"run.sh", b"#!", mode=0o6777),
        entry(b"Model", b"case is not a clash"),
        entry("na\u0308me".encode(), b"nor is unicode"),
        entry("n\u00e4me".encode(), b"composed"),
        entry(b"latin-\xe4", b"raw bytes"),
    )
    counts = unpack.extract(io.BytesIO(tar(*parts) + bytes(512)), target, BOUNDS)
    folder = tmp_path / "room" / "target"
    assert counts.files == 8
    assert (folder / "code" / "inference.py").read_bytes() == b"leading slash"
    assert (folder / "model").read_bytes() == b"the last of two wins"
    assert stat.S_IMODE((folder / "run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((folder / "model").stat().st_mode) == 0o644


def test_several_gzip_members_are_one_archive(tmp_path: Path, target: int) -> None:
    data = entry(b"a", b"1" * 3000) + entry(b"b", b"2" * 3000) + END
    unpack.extract(io.BytesIO(gz(data[:2000]) + gz(data[2000:5000]) + gz(b"") + gz(data[5000:])), target, BOUNDS)
    assert (tmp_path / "room" / "target" / "b").read_bytes() == b"2" * 3000


def test_random_damage_never_escapes(tmp_path: Path, target: int) -> None:
    chance = random.Random(5)
    data = b"".join((F, pax({b"path": b"a/b"}), entry(b"x", b"y"), entry(b"d/", type=b"5"), END))
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            unpack.extract(io.BytesIO(bytes(damaged)), target, BOUNDS)
        except unpack.Refused:
            continue
    assert [path.name for path in (tmp_path / "room").iterdir()] == ["target"]


def child(target: int, data: bytes, tmp_path: Path, **order: object) -> dict[str, object]:
    (tmp_path / "archive").write_bytes(data)
    settings = {"bytes": 10**9, "entries": 100, "ratio": 200, "cpu_seconds": 20, "target": target, **order}
    with open(tmp_path / "archive", "rb") as archive:
        result = subprocess.run(
            [sys.executable, "-I", "-S", unpack.__file__, *(f"{name}={value}" for name, value in settings.items())],
            stdin=archive, stdout=subprocess.PIPE, pass_fds=[target], check=True,
        )  # fmt: skip
    answer: dict[str, object] = json.loads(result.stdout)
    return answer


def test_as_a_child_it_reports_in_json(tmp_path: Path, target: int) -> None:
    assert child(target, tar(F), tmp_path) == {"kind": "ok", "files": 1, "bytes": 4}
    refused = child(target, tar(entry(b"../x")), tmp_path)
    assert refused["kind"] == "hostile-archive"
    assert "out of the archive" in str(refused["message"])
    name = '../"\\\u00fc\U0001f600\n'
    assert child(target, tar(entry(name.encode())), tmp_path)["message"] == f"a name points out of the archive: {name!r}"


def test_as_a_child_it_imports_next_to_nothing() -> None:
    """An endpoint's start waits for it, and so does the first request of a model."""
    code = f"import sys; sys.path.append({os.path.dirname(unpack.__file__)!r}); import unpack; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"re", "json", "contextlib", "typing", "collections", "functools", "enum"}.intersection(told)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up root")
def test_as_a_child_of_root_it_gives_up_root(tmp_path: Path, target: int) -> None:
    assert "Errno 13" in str(subprocess_error(target, tmp_path))
    os.fchown(target, 54321, 54321)
    assert child(target, tar(F), tmp_path, uid=54321)["kind"] == "ok"
    assert (tmp_path / "room" / "target" / "ok.txt").stat().st_uid == 54321


def subprocess_error(target: int, tmp_path: Path) -> str:
    (tmp_path / "archive").write_bytes(tar(F))
    order = f"bytes={10**9} entries=100 ratio=200 cpu_seconds=20 uid=54321 target={target}".split()
    with open(tmp_path / "archive", "rb") as archive:
        result = subprocess.run(
            [sys.executable, "-I", "-S", unpack.__file__, *order],
            stdin=archive, capture_output=True, pass_fds=[target], text=True, check=False,
        )  # fmt: skip
    return result.stderr
