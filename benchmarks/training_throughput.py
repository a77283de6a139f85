"""Seconds per epoch of training the autoencoder, ours against the plain recipe, in one run.

    python benchmarks/training_throughput.py [--images 64] [--epochs 3]

The images are 1024x1024 PNGs that the benchmark makes. The network is the autoencoder of width 128 at 128x128, batch
8, latent 100: 95.7 million parameters. The plain recipe is what a first script does: PIL decodes and resizes every
file in every epoch, the network is torch's own convolutions in float32, the optimiser torch's Adam as it comes.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from blemish.data.source import load
from blemish.detectors.autoencoder import Autoencoder
from blemish.detectors.parts.convolution import halvings, widths
from blemish.imaging.preprocess import Preprocess
from blemish.training.loop import train
from blemish.training.settings import Training
from blemish.types import Sample

SIDE, WIDTH, LATENT, BATCH = 128, 128, 100, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="each way so often, in turn")
    parser.add_argument("--only", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(VARIANTS[options.only](sorted(options.folder.iterdir()), options.epochs)))
        return
    seconds: dict[str, list[list[float]]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), options.images)
        for _ in range(options.rounds):
            for name, rounds in seconds.items():
                rounds.append(measure(name, folder, options.epochs))
                print(f"{name}: epochs of {', '.join(f'{value:.1f}' for value in rounds[-1])} s", flush=True)
    print_table(seconds, options.images)


def measure(name: str, folder: str, epochs: int) -> list[float]:
    """Seconds of each epoch, in a process of its own, so that neither way works in the memory of the other."""
    command = [sys.executable, __file__, "--only", name, "--folder", folder, "--epochs", str(epochs)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return list(json.loads(printed.splitlines()[-1]))


def make_images(folder: Path, count: int) -> list[Path]:
    """Pictures that compress about as photographs do: smooth shapes and a little noise."""
    generator = np.random.default_rng(0)
    paths = []
    for index in range(count):
        coarse = generator.random((12, 12, 3)).astype(np.float32)
        picture = 255 * cv2.resize(coarse, (1024, 1024), interpolation=cv2.INTER_CUBIC)
        picture += generator.normal(0, 3, picture.shape).astype(np.float32)
        paths.append(folder / f"{index:03}.png")
        cv2.imwrite(str(paths[-1]), np.clip(picture, 0, 255).astype(np.uint8))
    return paths


def run_plain(paths: list[Path], epochs: int) -> list[float]:
    """Seconds of each epoch, the plain way."""
    network = plain_network()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        for rows in torch.randperm(len(paths)).split(BATCH):
            images = torch.stack([read_plain(paths[row]) for row in rows.tolist()])
            loss = nn.functional.mse_loss(network(images), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds


def read_plain(path: Path) -> Tensor:
    image = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1).contiguous()


def plain_network() -> nn.Sequential:
    """The layers of `Autoencoder`, from torch's own."""
    sides = halvings(SIDE)
    channels = [3, *widths(WIDTH, len(sides) - 1)]
    encoder = [layer for a, b in pairwise(channels) for layer in (nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2))]
    decoder = [
        layer for a, b in pairwise(channels[::-1]) for layer in (nn.LeakyReLU(0.2), nn.ConvTranspose2d(a, b, 4, 2, 1))
    ]
    bottleneck = [nn.Conv2d(channels[-1], LATENT, sides[-1]), nn.ConvTranspose2d(LATENT, channels[-1], sides[-1])]
    return nn.Sequential(*encoder, *bottleneck, *decoder, nn.Sigmoid())


def run_ours(paths: list[Path], epochs: int) -> list[float]:
    """Seconds of each epoch; reading the files, which is done once, belongs to the first."""
    marks = [time.perf_counter()]
    source = load([Sample(path, False, split="train") for path in paths], Preprocess((SIDE, SIDE)))
    detector = Autoencoder(SIDE, WIDTH, LATENT)
    num_steps = -(-len(paths) // BATCH)

    def note(done: int, total: int, **shown: float) -> None:  # noqa: ARG001
        if done % num_steps == 0:
            marks.append(time.perf_counter())

    train(detector, source, None, Training(epochs=epochs, batch_size=BATCH), progress=note)
    return [after - before for before, after in pairwise(marks)]


VARIANTS = {"plain recipe": run_plain, "blemish": run_ours}


def print_table(seconds: dict[str, list[list[float]]], count: int) -> None:
    """The median over the rounds of each figure, and the ratio of the medians."""
    millions = sum(parameter.numel() for parameter in plain_network().parameters()) / 1e6
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"\n{count} PNGs of 1024x1024, {millions:.1f} million parameters, batch {BATCH}")
    print(f"{machine}, {datetime.now(UTC):%Y-%m-%d}, medians of {len(seconds['blemish'])} rounds\n")
    print("| | plain recipe | blemish | ratio |\n|---|---|---|---|")
    epochs = len(seconds["blemish"][0])
    figures: dict[str, Callable[[list[float]], float]] = {
        "first epoch, s": lambda run: run[0],
        "a later epoch, s": lambda run: median(run[1:] or run),
        f"{epochs} epochs in all, s": sum,
    }
    for name, figure in figures.items():
        before, after = (median(figure(run) for run in runs) for runs in seconds.values())
        print(f"| {name} | {before:.1f} | {after:.1f} | {before / after:.1f} |")


if __name__ == "__main__":
    main()
