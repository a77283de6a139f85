"""Damages images of every kind at random and reads them: each is read or refused in one line, in time and memory.

    python benchmarks/damaged_images.py --count 5000 --seeds 1 2 3

Each is read as an image and as a mask, in a process of its own kind, so that what ends or stops that process is counted
too. Prints how many of each kind were read and refused, the slowest, and the most memory beyond the pixels; fails where
anything but a BlemishError was raised, a message was no line, standard error was written to, or a bound was broken.
"""

from __future__ import annotations

import argparse
import io
import lzma
import multiprocessing
import os
import resource
import struct
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
from PIL import Image as Pillow

from blemish.errors import BlemishError
from blemish.imaging.masks import read_mask
from blemish.imaging.read import read_image

MEMORY = 1 << 30
"""Bytes beyond its own pixels that one file may take."""
MAX_PIXELS = 200_000_000


CODECS = {
    "plain": (1, bytes),
    "lzw": (5, imagecodecs.lzw_encode),
    "deflate": (8, zlib.compress),
    "packbits": (32773, imagecodecs.packbits_encode),
    "lzma": (34925, lzma.compress),
    "zstd": (50000, imagecodecs.zstd_encode),
}
"""Of TIFF."""


@cache
def seeds() -> dict[str, bytes]:
    """A whole file of each kind."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 130, 3), np.uint8)
    soft = cv2.GaussianBlur(noise, (0, 0), 2)
    grey = soft[:, :, 0]
    drawn = cv2.circle(np.zeros_like(grey), (50, 40), 30, 255, -1)
    alpha = np.dstack([soft, drawn])
    files = {f"png {name}": _opencv(".png", image) for name, image in _kinds(soft).items()}
    files |= {f"tiff opencv {name}": _opencv(".tiff", image) for name, image in _kinds(soft).items()}
    for codec in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma"):
        files[f"tiff pillow {codec}"] = _pillow("TIFF", soft, compression=codec)
        files[f"tiff pillow grey {codec}"] = _pillow("TIFF", grey, compression=codec)
    for name, codec in CODECS.items():
        files |= {f"tiff {name} {way}": content for way, content in _tiffs(soft, drawn, *codec).items()}
    files["tiff palette"] = _pillow("TIFF", Pillow.fromarray(soft).quantize(16))
    files["tiff bits"] = _pillow("TIFF", Pillow.fromarray(grey > 127), compression="tiff_lzw")
    files["tiff fax"] = _pillow("TIFF", Pillow.fromarray(grey > 127), compression="group4")
    files["tiff pages"] = _pillow("TIFF", soft, save_all=True, append_images=[Pillow.fromarray(soft)])
    files["tiff alpha"] = _pillow("TIFF", alpha, compression="tiff_lzw")
    files["png palette"] = _pillow("PNG", Pillow.fromarray(soft).quantize(16), transparency=3)
    files["png profile"] = _pillow("PNG", soft, icc_profile=bytes(range(256)) * 3, dpi=(72, 72))
    files["png mask"], files["png alpha"] = _pillow("PNG", drawn), _pillow("PNG", alpha)
    files["jpeg"] = _pillow("JPEG", soft, quality=90)
    files["jpeg progressive"] = _pillow("JPEG", soft, progressive=True)
    files["jpeg grey"], files["jpeg mask"] = _pillow("JPEG", grey), _pillow("JPEG", drawn)
    files["jpeg cmyk"] = _pillow("JPEG", Pillow.fromarray(soft).convert("CMYK"))
    files["webp"], files["webp lossless"] = _pillow("WEBP", soft), _pillow("WEBP", alpha, lossless=True)
    files["webp alpha"] = _pillow("WEBP", alpha)
    files["webp animated"] = _pillow("WEBP", soft, save_all=True, append_images=[Pillow.fromarray(noise)])
    files |= {f"bmp {name}": content for name, content in _bmps(soft, alpha).items()}
    files["gif"] = _pillow("GIF", grey)
    return files


def _tiffs(soft: np.ndarray, drawn: np.ndarray, codec: int, compress) -> dict[str, bytes]:
    """All ways of storing pixels by one codec."""
    wide, real = soft.astype(np.uint16) * 257, soft.astype(np.float32) / 255
    return {
        "mask": tiff(drawn, codec, compress),
        "strips": tiff(soft, codec, compress, predictor=2),
        "strips 16": tiff(wide, codec, compress, predictor=2, order=">"),
        "strips float": tiff(real[:, :, 0], codec, compress, predictor=3),
        "one strip": tiff(soft, codec, compress, rows=96),
        "tiles": tiff(soft, codec, compress, tile=32, predictor=2),
        "tiles 16": tiff(wide[:, :, 0], codec, compress, tile=32, order=">"),
        "tiles float": tiff(real, codec, compress, tile=32),
    }


def tiff(image: np.ndarray, codec: int, compress, *, predictor=1, rows=10, tile=0, order="<") -> bytes:
    """A TIFF of an image, in strips of `rows` or in tiles."""
    height, width, samples = (*image.shape, 1)[:3]
    down, across = (tile, tile) if tile else (rows, width)
    whole = np.pad(image.reshape(height, width, samples), [(0, tile), (0, tile), (0, 0)]) if tile else image
    whole = whole.reshape(*whole.shape[:2], samples)
    blocks = []
    for top in range(0, height, down):
        for left in range(0, width, across):
            block = np.ascontiguousarray(whole[top : top + down, left : left + across])
            if predictor == 2:
                block = np.diff(block, axis=1, prepend=np.zeros_like(block[:, :1]))
            elif predictor == 3:
                block = imagecodecs.floatpred_encode(block, axis=-2)
            swapped = block if predictor == 3 else block.astype(block.dtype.newbyteorder(order))
            blocks.append(compress(swapped.tobytes()))
    lengths = [len(block) for block in blocks]
    places = (8 + np.cumsum([0, *lengths[:-1]])).tolist()
    known = {256: [width], 257: [height], 258: [8 * image.itemsize] * samples, 259: [codec]}
    known |= {262: [2 if samples == 3 else 1], 277: [samples], 317: [predictor]}
    known |= {339: [3 if image.dtype.kind == "f" else 1] * samples}
    known |= {322: [tile], 323: [tile], 324: places, 325: lengths} if tile else {273: places, 278: [rows], 279: lengths}
    start = 8 + sum(lengths)
    return struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, start) + b"".join(
        [*blocks, directory(known, start, order)]
    )


def directory(known: dict[int, list[int]], start: int, order: str) -> bytes:
    """The directory of a TIFF at `start`, what does not fit in it behind it."""
    entries, beyond, behind = b"", b"", start + 2 + 12 * len(known) + 4
    for tag, values in sorted(known.items()):
        content = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            content, beyond = struct.pack(order + "I", behind + len(beyond)), beyond + content
        entries += struct.pack(order + "HHI", tag, 4, len(values)) + content
    return struct.pack(order + "H", len(known)) + entries + bytes(4) + beyond


def _bmps(soft: np.ndarray, alpha: np.ndarray) -> dict[str, bytes]:
    runs = b"\x40\x07\x42\x09\0\0" * 95 + b"\x40\x07\x42\x09\0\1"
    run_lengths = struct.pack(
        "<2sIIIIiiHHIIiiII", b"BM", 1078 + len(runs), 0, 1078, 40, 130, 96, 1, 8, 1, 0, 0, 0, 256, 0
    )
    drawn = Pillow.fromarray(soft)
    return {
        "colour": _pillow("BMP", soft),
        "grey": _pillow("BMP", soft[:, :, 0]),
        "palette": _pillow("BMP", drawn.quantize(16)),
        "bits": _pillow("BMP", drawn.convert("1")),
        "32": _pillow("BMP", drawn.convert("RGBA")),
        "alpha": _opencv(".bmp", alpha),
        "runs": run_lengths + bytes(range(256)) * 4 + runs,
    }


def _kinds(soft: np.ndarray) -> dict[str, np.ndarray]:
    wide = soft.astype(np.uint16) * 257
    return {"grey": soft[:, :, 0], "colour": soft, "grey 16": wide[:, :, 0], "colour 16": wide, "16 alpha": _four(wide)}


def _four(image: np.ndarray) -> np.ndarray:
    return np.dstack([image, image[:, :, 0]])


def _opencv(extension: str, image: np.ndarray) -> bytes:
    return cv2.imencode(extension, image)[1].tobytes()


def _pillow(kind: str, image: np.ndarray | Pillow.Image, **options) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Pillow.Image) else Pillow.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def damage(data: bytes, generator: np.random.Generator) -> bytes:
    """The file with one thing wrong, or a few: flips, zeros, a cut, a lie in its header, parts doubled or swapped."""
    content = bytearray(data)
    for _ in range(int(generator.integers(1, 4))):
        place = int(generator.integers(len(content)))
        head = int(generator.integers(min(len(content), 400)))
        length = int(generator.integers(1, max(2, len(content) // 4)))
        match int(generator.integers(8)):
            case 0:
                content[place] ^= int(generator.integers(1, 256))
            case 1:
                content[head] ^= int(generator.integers(1, 256))
            case 2:
                content[place : place + length] = bytes(len(content[place : place + length]))
            case 3:
                del content[max(1, place) :]
            case 4:
                number = int(generator.choice([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFF0, 0xFFFFFFFF]))
                content[head : head + 4] = struct.pack(str(generator.choice([">I", "<I"])), number)
            case 5:
                content[head : head + 2] = struct.pack(">H", int(generator.integers(65536)))
            case 6:
                content[place:place] = content[max(0, place - length) : place]
            case 7:
                content[place : place + length] = generator.bytes(len(content[place : place + length]))
    return bytes(content)


@dataclass(frozen=True)
class Result:
    """What became of one file."""

    is_read: bool = False
    seconds: float = 0.0
    grown: int = 0
    """Bytes by which the process has grown beyond the pixels."""
    failure: str = ""


def check(path: Path) -> tuple[bool, int]:
    """Whether the file was read as an image, and the bytes of its pixels."""
    num_bytes, is_read = 0, False
    for read in (read_mask, read_image):
        try:
            pixels = read(path, MAX_PIXELS)
            num_bytes, is_read = pixels.nbytes, True
            assert pixels.ndim in (2, 3), pixels.shape
            assert pixels.dtype in (np.bool_, np.uint8, np.uint16, np.float32), pixels.dtype
        except BlemishError as error:
            is_read, message = False, str(error)
            assert "\n" not in message, message
            assert len(message) < 500, message
            assert message.startswith(f"{path}: "), message
    return is_read, num_bytes


def examine(path: Path, limit: float, errors: int) -> Result:
    """What became of the file at `path`; `errors` is where standard error goes."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10, time.perf_counter()
    try:
        is_read, num_bytes = check(path)
        seconds = time.perf_counter() - started
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before - num_bytes
        assert seconds < limit, f"{seconds:.1f} s"
        assert grown < MEMORY, f"{grown >> 20} MB"
        assert os.fstat(errors).st_size == 0, "standard error was written to"
    except Exception as error:  # any is a failure, and the next file is tried
        said = os.pread(errors, 200, 0)
        os.ftruncate(errors, 0)
        return Result(failure=f"{type(error).__name__}: {error} {said!r}")
    return Result(is_read, seconds, grown)


def damaged_file(seed: int, index: int) -> tuple[str, bytes]:
    """The kind and the content of a damaged file."""
    kind = list(seeds())[index % len(seeds())]
    return kind, damage(seeds()[kind], np.random.default_rng([seed, index]))


def work(results: Connection, seed: int, indices: range, limit: float) -> None:
    """Sends what became of each file."""
    with tempfile.TemporaryFile("a+b", buffering=0) as errors, tempfile.TemporaryDirectory() as folder:
        os.dup2(errors.fileno(), 2)
        path = Path(folder) / "x.img"
        for index in indices:
            path.write_bytes(damaged_file(seed, index)[1])
            results.send(examine(path, limit, errors.fileno()))


def all_results(seed: int, count: int, limit: float) -> Iterator[Result]:
    """What became of each file, in the order of their numbers; a process that ended or stands still is replaced."""
    context, index = multiprocessing.get_context("spawn"), 0
    while index < count:
        results, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(theirs, seed, range(index, count), limit), daemon=True)
        process.start()
        theirs.close()
        failure = ""
        while index < count and not failure:
            index += 1
            try:
                if results.poll(limit + 60):
                    yield results.recv()
                else:
                    failure = f"hangs for more than {limit + 60:.0f} s"
            except EOFError:
                process.join()
                failure = f"the process ended with {process.exitcode}"
        if failure:
            process.kill()
            yield Result(failure=failure)
        process.join()


def main(count: int, chosen: list[int], limit: float, keep: Path | None) -> None:
    """Reads `count` damaged files of each seed, each in `limit` seconds; those that broke a rule go to `keep`."""
    read, refused = Counter(), Counter()
    slowest, most, failures = 0.0, 0, []
    for seed in chosen:
        for index, result in enumerate(all_results(seed, count, limit)):
            kind = list(seeds())[index % len(seeds())]
            (read if result.is_read else refused)[kind.split()[0]] += 1
            slowest, most = max(slowest, result.seconds), max(most, result.grown)
            if result.failure:
                failures.append(f"{seed}/{index} {kind}: {result.failure}")
                if keep:
                    (keep / f"{seed}-{index}-{kind}.bin").write_bytes(damaged_file(seed, index)[1])
    for kind in sorted(read | refused):
        print(f"{kind}: {read[kind]} read, {refused[kind]} refused")
    total = count * len(chosen)
    print(f"{total} files: {len(failures)} failures, slowest {slowest:.2f} s, {most / 1e6:.0f} MB beyond the pixels")
    print("\n".join(failures[:40]))
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="that one file may take")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    main(given.count, given.seeds, given.seconds, given.keep)
