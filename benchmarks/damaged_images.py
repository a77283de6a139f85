"""Damages images of every kind at random and reads them: each is read or refused in one line, in time and memory.

    python benchmarks/damaged_images.py --count 5000

Prints how many of each kind were read and refused, the slowest, and the most memory beyond the pixels; fails where
anything but a BlemishError was raised, a message was no line, standard error was written to, or a bound was broken.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import struct
import tempfile
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pillow

from blemish.errors import BlemishError
from blemish.imaging.read import decode_file

MEMORY = 1 << 30
"""Bytes beyond its own pixels that one file may take."""
MAX_PIXELS = 200_000_000


def seeds() -> dict[str, bytes]:
    """A whole file of each kind."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 130, 3), np.uint8)
    soft = cv2.GaussianBlur(noise, (0, 0), 2)
    grey = soft[:, :, 0]
    alpha = np.dstack([soft, grey])
    files = {f"png {name}": _opencv(".png", image) for name, image in _kinds(soft).items()}
    files |= {f"tiff {name}": _opencv(".tiff", image) for name, image in _kinds(soft).items()}
    files["tiff float"] = _opencv(".tiff", soft.astype(np.float32) / 255)
    for codec in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma"):
        files[f"tiff {codec}"] = _pillow("TIFF", soft, compression=codec)
        files[f"tiff grey {codec}"] = _pillow("TIFF", grey, compression=codec)
    files["tiff palette"] = _pillow("TIFF", Pillow.fromarray(soft).quantize(16))
    files["tiff bits"] = _pillow("TIFF", Pillow.fromarray(grey > 127))
    files["tiff fax"] = _pillow("TIFF", Pillow.fromarray(grey > 127), compression="group4")
    files["tiff pages"] = _pillow("TIFF", soft, save_all=True, append_images=[Pillow.fromarray(soft)])
    files["png palette"] = _pillow("PNG", Pillow.fromarray(soft).quantize(16))
    files["png profile"] = _pillow("PNG", soft, icc_profile=bytes(range(256)) * 3, dpi=(72, 72))
    files["jpeg"] = _pillow("JPEG", soft, quality=90)
    files["jpeg progressive"] = _pillow("JPEG", soft, progressive=True)
    files["jpeg grey"] = _pillow("JPEG", grey)
    files["jpeg cmyk"] = _pillow("JPEG", Pillow.fromarray(soft).convert("CMYK"))
    files["webp"], files["webp lossless"] = _pillow("WEBP", soft), _pillow("WEBP", alpha, lossless=True)
    files["webp animated"] = _pillow("WEBP", soft, save_all=True, append_images=[Pillow.fromarray(noise)])
    files["bmp"], files["bmp grey"] = _pillow("BMP", soft), _pillow("BMP", grey)
    files["gif"] = _pillow("GIF", grey)
    return files


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


def check(name: str, data: bytes) -> tuple[bool, float, int]:
    """Whether a file was read, its seconds, and by how much the process has grown beyond the pixels."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10, time.perf_counter()
    num_bytes, is_read = 0, False
    try:
        image = decode_file(data, Path(name), MAX_PIXELS).pixels
        num_bytes, is_read = image.nbytes, True
        assert image.ndim in (2, 3), image.shape
        assert image.dtype in (np.uint8, np.uint16, np.float32), image.dtype
    except BlemishError as error:
        message = str(error)
        assert "\n" not in message, message
        assert len(message) < 500, message
        assert message.startswith(f"{name}: "), message
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before
    return is_read, time.perf_counter() - started, grown - num_bytes


def main(count: int, seed: int, limit: float, keep: Path | None) -> None:
    """Reads `count` damaged files, each in `limit` seconds; those that broke a rule are written to `keep`."""
    generator, files = np.random.default_rng(seed), seeds()
    read, refused = Counter(), Counter()
    slowest, most, failures = 0.0, 0, []
    errors = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - to the end of the process
    stderr = os.dup(2)
    os.dup2(errors.fileno(), 2)
    for index in range(count):
        kind = list(files)[index % len(files)]
        data = damage(files[kind], generator)
        try:
            is_read, seconds, grown = check("x.img", data)
            (read if is_read else refused)[kind.split()[0]] += 1
            slowest, most = max(slowest, seconds), max(most, grown)
            assert seconds < limit, f"{seconds:.1f} s"
            assert grown < MEMORY, f"{grown >> 20} MB"
            assert os.fstat(errors.fileno()).st_size == 0, "standard error was written to"
        except Exception as error:  # any is a failure, and the next file is tried
            said = os.pread(errors.fileno(), 200, 0)
            os.ftruncate(errors.fileno(), 0)
            failures.append(f"{index} {kind}: {type(error).__name__}: {error} {said!r}")
            if keep:
                (keep / f"{index}-{kind}.bin").write_bytes(data)
    os.dup2(stderr, 2)
    for kind in sorted(read | refused):
        print(f"{kind}: {read[kind]} read, {refused[kind]} refused")
    print(f"{count} files: {len(failures)} failures, slowest {slowest:.2f} s, {most / 1e6:.0f} MB beyond the pixels")
    print("\n".join(failures[:40]))
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0, help="that one file may take")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    main(given.count, given.seed, given.seconds, given.keep)
