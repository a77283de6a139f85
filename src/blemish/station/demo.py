"""The demonstration: a product made of the built-in data, taught, inspected and partly reviewed."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select

from blemish.data.synthetic import synthesize
from blemish.station import audit, job
from blemish.station.inspecting import item_of
from blemish.station.recording import Found
from blemish.station.reviewing import answer, next_for
from blemish.station.station import Settings, Station
from blemish.station.tables import Inspection, Job, Product
from blemish.station.uploads import Arrived, Limits, add_image
from blemish.station.workspace import Workspace

NAME, CATEGORY, WHO = "gear", "gear", "demo"
SIZE = 256
"""The images' side in pixels."""
NUM_GOOD, NUM_TEST, NUM_PER_DEFECT = 60, 24, 6
NUM_REVIEWS = 4


def demo(workspace: Workspace, say: Callable[[str], None]) -> None:
    """Makes the product, unless there are products already; `say` is told each step."""
    with workspace.store.reading() as session:
        if session.scalar(select(Product.id).limit(1)):
            return
    with tempfile.TemporaryDirectory() as folder:
        say("drawing the built-in data")
        (root,) = synthesize(
            Path(folder),
            categories=[CATEGORY],
            size=SIZE,
            num_train=NUM_GOOD,
            num_test_good=NUM_TEST,
            num_per_defect=NUM_PER_DEFECT,
        )
        good = sorted((root / "train/good").glob("*.png"))
        defects = sorted(path for path in (root / "test").glob("*/*.png") if path.parent.name != "good")
        product = _product(workspace, good, defects[::2])
        say("teaching it")
        _teach(workspace, product)
        say("inspecting and reviewing")
        _inspect(workspace, product, [*sorted((root / "test/good").glob("*.png")), *defects[1::2]])
    _review(workspace, product)


def _product(workspace: Workspace, good: list[Path], defects: list[Path]) -> Product:
    with workspace.store.writing() as session:
        product = Product(name=NAME, created_by=WHO)
        session.add(product)
        audit.append(session, WHO, "product created", f"product {NAME}")
    for path, is_defect in [*((path, False) for path in good), *((path, True) for path in defects)]:
        arrived = Arrived(path.read_bytes(), f"{path.parent.name}-{path.name}")
        add_image(workspace, product.id, arrived, WHO, Limits(), is_defect=is_defect)
    return product


def _teach(workspace: Workspace, product: Product) -> None:
    with workspace.store.writing() as session:
        made = Job(product_id=product.id, kind="teach", settings={}, created_by=WHO, station="", log=[])
        session.add(made)
    job.run(workspace, made.id)


def _inspect(workspace: Workspace, product: Product, paths: list[Path]) -> None:
    """Inspects the images one after the other, as a line would."""
    station = Station(workspace, Settings(keep_free=0))
    for path in random.Random(0).sample(paths, len(paths)):
        arrived = Arrived(path.read_bytes(), f"{path.parent.name}-{path.name}")
        item = item_of(arrived, Limits(), source="demo", who=WHO, state="demo")
        found: Found = station.inspecting.submit(product.id, item).result()
        assert found.row is not None
    station.inspecting.close()


def _review(workspace: Workspace, product: Product) -> None:
    """Reviews some images, by what the built-in data says of them."""
    for _ in range(NUM_REVIEWS):
        with workspace.store.writing() as session:
            found = next_for(session, product.id, WHO)
            if found is None:
                return
            truth = "good" if found.name.startswith("good-") else "defect"
            answer(session, session.get_one(Inspection, found.id), truth, "demonstration", WHO)
