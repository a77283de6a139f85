"""anomalib's part of `detectors.py` and `inference.py`, in an environment of its own.

    python -m venv ANOMALIB
    ANOMALIB/bin/pip install -c constraints.txt torch torchvision
    ANOMALIB/bin/pip install -c constraints.txt anomalib==2.7.0 onnx onnxscript openvino nncf

The first line before the second, so that torch is the one that blemish runs on. Where torch is a build for processors
alone, torchvision cannot load its compiled operators beside it; nothing here needs them, so two are declared by name.

The network has random weights. Nothing is measured that blemish leaves out: no validation pass in `fit`, no pictures
drawn in `test`, and of the metrics only the two AUROC, which anomalib computes at 256x256.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

from processes import THREADS, peak_memory, processor_time

started = time.perf_counter()
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
os.environ["TRUST_REMOTE_CODE"] = "1"  # TorchInferencer unpickles the model
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # openvino then imports a stub

import cv2  # noqa: E402
import torch  # noqa: E402

for name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, name):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from anomalib.data import MVTecAD  # noqa: E402
from anomalib.deploy import CompressionType, OpenVINOInferencer, TorchInferencer  # noqa: E402
from anomalib.engine import Engine  # noqa: E402
from anomalib.metrics import AUROC, Evaluator  # noqa: E402
from anomalib.models import Padim, Patchcore  # noqa: E402
from anomalib.models.image.patchcore.torch_model import PatchcoreModel  # noqa: E402

imported = time.perf_counter() - started
BACKBONE: dict[str, Any] = {"pre_trained": False, "visualizer": False}
LAYERS = {"wide_resnet50_2": ["layer2", "layer3"], "tf_efficientnet_lite2": ["blocks.2", "blocks.4"]}
"""Backbone -> its levels of stride 8 and 16, by their names in timm."""
MODELS = {"patchcore": Patchcore, "padim": lambda **options: Padim(**options, n_features=100)}
COMPRESSIONS = {"float32": None, "int8": CompressionType.INT8_PTQ}
"""Folder of an export for OpenVINO -> what anomalib calls its precision."""
SIDE, WARM_UP = 256, 5


def _openvino(folder: str, **settings: object) -> Callable[[Path], OpenVINOInferencer]:
    threads = {"INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY"}
    file = Path(folder) / "weights" / "openvino" / "model.xml"
    return lambda out: OpenVINOInferencer(out / file, "CPU", threads | settings)


INFERENCERS: dict[str, Callable[[Path], Any]] = {
    "torch": lambda out: TorchInferencer(out / "weights" / "torch" / "model.pt", "cpu"),
    "openvino": _openvino("float32"),  # which computes in bfloat16 by itself where the processor can
    "openvino-float32": _openvino("float32", INFERENCE_PRECISION_HINT="f32"),
    "openvino-int8": _openvino("int8"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("fit-and-test", "export", "infer"))
    parser.add_argument("data", type=Path, help="a category's folder in the layout of MVTec AD")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode")
    parser.add_argument("--model", choices=MODELS, default="patchcore")
    parser.add_argument("--backbone", choices=LAYERS, default="wide_resnet50_2")
    parser.add_argument("--bank", type=int, default=6144, help="patches of an exported PatchCore")
    parser.add_argument("--out", type=Path, help="folder of the exports")
    parser.add_argument("--inferencer", choices=INFERENCERS, default="torch")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    tasks: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "fit-and-test": fit_and_test,
        "export": export,
        "infer": infer,
    }
    print(json.dumps(tasks[options.task](options)))


def _backbone(options: argparse.Namespace) -> dict[str, Any]:
    return BACKBONE | {"backbone": options.backbone, "layers": LAYERS[options.backbone]}


def fit_and_test(options: argparse.Namespace) -> dict[str, Any]:
    """PatchCore with 10 % of the patches, from the files to the figures."""
    images = AUROC(fields=["pred_score", "gt_label"], prefix="image_")
    pixels = AUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_")
    model = Patchcore(
        **_backbone(options), coreset_sampling_ratio=0.1, evaluator=Evaluator(test_metrics=[images, pixels])
    )
    # Without validation images the data module cannot say how many there are, so none are asked for.
    data = _data(options, val_split_mode="none")
    with TemporaryDirectory() as folder:
        engine = _engine(folder, limit_val_batches=0)
        start, computed = time.perf_counter(), processor_time()
        engine.fit(model, datamodule=data)
        fitted, fit_memory, fit_computed = time.perf_counter(), peak_memory(), processor_time()
        figures = engine.test(model, datamodule=data)[0]
        tested = time.perf_counter()
    return {
        "import": imported,
        "fit": fitted - start,
        "test": tested - fitted,
        "fit_processor": fit_computed - computed,
        "test_processor": processor_time() - fit_computed,
        "fit_memory": fit_memory,
        "memory": peak_memory(),
        "bank": len(model.model.memory_bank),
        "image_auroc": float(figures["image_AUROC"]),
        "pixel_auroc": float(figures["pixel_AUROC"]),
    }


def export(options: argparse.Namespace) -> dict[str, Any]:
    """Fits and exports for each inferencer; the bank is drawn at random, which takes the same time to search."""

    def draw(model: PatchcoreModel, *_: object) -> None:
        patches = torch.vstack(model.embedding_store)
        model.embedding_store.clear()
        model.memory_bank = patches[torch.randperm(len(patches))[: options.bank]]

    PatchcoreModel.subsample_embedding = draw
    model = MODELS[options.model](**_backbone(options))
    data = _data(options, val_split_mode="same_as_test")
    with TemporaryDirectory() as folder:
        _engine(folder).fit(model, datamodule=data)
    model.to_torch(options.out)
    data.train_batch_size = data.eval_batch_size = 1  # what int8 takes its ranges from has to fit the graph
    for name, compression in COMPRESSIONS.items():
        model.to_openvino(
            options.out / name,
            input_size=(SIDE, SIDE),
            compression_type=compression,
            datamodule=data,
            onnx_kwargs={"dynamic_shapes": None},  # with anomalib's own PatchCore's graph takes batches of 2 alone
        )
    return {"import": imported}


def infer(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of each picture from its file to the decision."""
    os.chdir(options.out)  # where OpenVINOInferencer puts its cache
    inferencer = INFERENCERS[options.inferencer](options.out)

    def predict(file: Path) -> bool:
        given = file if options.inferencer == "torch" else read_small(file)
        return bool(inferencer.predict(given).pred_label)

    files = sorted(options.data.glob("test/*/*.png"))
    predict(files[0])
    first = time.perf_counter() - started
    for file in files[:WARM_UP]:
        predict(file)
    seconds = []
    for file in files:
        before = time.perf_counter()
        predict(file)
        seconds.append(time.perf_counter() - before)
    cuts = quantiles(seconds, n=20, method="inclusive")
    return {
        "p50": 1e3 * cuts[9],
        "p95": 1e3 * cuts[18],
        "throughput": len(seconds) / sum(seconds),
        "first": first,
        "memory": peak_memory(),
    }


def read_small(file: Path) -> Any:
    """(256, 256, 3): the file at the size of the graph, by the fastest way."""
    image = cv2.resize(cv2.imread(str(file)), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _data(options: argparse.Namespace, val_split_mode: str) -> MVTecAD:
    return MVTecAD(
        root=options.data.parent,
        category=options.data.name,
        num_workers=options.workers,
        val_split_mode=val_split_mode,
    )


def _engine(folder: str, **limits: int) -> Engine:
    return Engine(
        accelerator="cpu", devices=1, logger=False, default_root_dir=folder, enable_progress_bar=False, **limits
    )


if __name__ == "__main__":
    main()
