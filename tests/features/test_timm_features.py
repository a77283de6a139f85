"""Networks as backbones: whose features they are, where their weights come from, what is said without them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from blemish.errors import BlemishError
from blemish.features import timm_networks as networks
from blemish.features.registry import create_backbone

SMALL = "resnet10t"


@pytest.fixture(scope="module")
def whole() -> torch.nn.Module:
    create_backbone(SMALL)  # timm alone cannot be imported beside every torchvision
    import timm

    torch.manual_seed(5)
    return timm.create_model(SMALL).eval()


@pytest.fixture(scope="module")
def weights(whole, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The network's weights as each kind of file."""
    folder, state = tmp_path_factory.mktemp("weights"), whole.state_dict()
    save_file(state, folder / "plain.safetensors")
    torch.save(state, folder / "plain.pth")
    torch.save({"state_dict": state}, folder / "nested.pth")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["plain.safetensors", "plain.pth", "nested.pth"])
def test_features_are_the_network_s_own(whole, weights, name):
    features = create_backbone(SMALL, (1, 2), str(weights[name])).fit(None, seed=0)
    images = torch.rand(2, 3, 64, 64)
    normal = (images - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    with torch.no_grad():
        first = whole.layer1(whole.maxpool(whole.act1(whole.bn1(whole.conv1(normal)))))
        second = whole.layer2(first)
        found = features(images)
    assert found.shape == (2, 64 + 128, 16, 16)
    torch.testing.assert_close(found[:, :64], first)
    wide = torch.nn.functional.interpolate(second, size=(16, 16), mode="bilinear")
    torch.testing.assert_close(found[:, 64:], wide)


def test_weights_that_have_no_use_are_left_out_without_a_word(tmp_path, caplog):
    """The head of the network has weights in the file, but not in what computes the features."""
    create_backbone(SMALL)
    import timm

    name = "mobilenetv3_small_050"
    torch.save(timm.create_model(name).state_dict(), tmp_path / "whole.pth")
    with caplog.at_level("INFO"):
        create_backbone(name, (1, 2), str(tmp_path / "whole.pth")).fit(None, seed=0)
        assert not [record.message for record in caplog.records if "Unexpected keys" in record.message]
        logging.getLogger("timm.models._builder").warning("Unexpected keys (of the host's own network)")
    assert "Unexpected keys (of the host" in caplog.text


def test_the_operators_of_a_torchvision_that_works_are_left_alone(tmp_path: Path):
    """It defines them when it is imported; a second definition would end the process."""
    (tmp_path / "timm.py").write_text(
        "import torchvision\nis_model = lambda name: False\nlist_models = lambda: []\n"
        "get_pretrained_cfg = lambda name: None\n"
    )
    defined = 'import torch\ntorch.library.define("torchvision::nms", "(Tensor boxes) -> Tensor")\n'
    (tmp_path / "torchvision.py").write_text(defined)
    script = (
        "import torch\nfrom blemish.errors import BlemishError\nfrom blemish.features.registry import create_backbone\n"
        "try:\n    create_backbone('resnet18')\nexcept BlemishError:\n"
        "    print(torch.ops.torchvision.nms.default._schema)"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "torchvision::nms(Tensor boxes) -> Tensor", done.stderr


@pytest.mark.parametrize(("side", "grid"), [(64, 4), (80, 5)])
def test_a_transformer_takes_images_of_any_size(side, grid):
    features = create_backbone("vit_tiny_patch16_224", (2, 5), "random").fit(None, seed=0)
    assert features(torch.rand(1, 3, side, side)).shape == (1, 2 * 192, grid, grid)


def test_a_transformer_s_patches_need_not_divide_the_image():
    features = create_backbone("vit_small_patch14_dinov2", (0,), "random").fit(None, seed=0)
    assert features(torch.rand(1, 3, 64, 64)).shape == (1, 384, 5, 5)


def test_random_weights_follow_from_the_seed_and_leave_the_global_generator_alone():
    before = torch.random.get_rng_state()
    one, same, other = (create_backbone(SMALL, (1,), "random").fit(None, seed=seed) for seed in (3, 3, 4))
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one(images), same(images))
    assert not torch.equal(one(images), other(images))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_bfloat16_is_near_float32_and_is_in_the_network_alone():
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    exact, found = (
        create_backbone(SMALL, (1, 2), "random", dtype).fit(None, seed=0)(images)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert found.dtype == torch.float32
    assert 0 < (found - exact).abs().max() < 0.05 * exact.abs().max()


def test_layers_by_default_are_those_of_stride_8_and_16():
    assert create_backbone("resnet18").layers == (2, 3)
    assert create_backbone("vit_tiny_patch16_224").layers == (6, 9)


def test_a_backbone_is_never_trained():
    features = create_backbone(SMALL, (1,), "random").train()
    assert not any(module.training for module in features.modules())
    assert not any(weight.requires_grad for weight in features.parameters())


def test_without_the_hub_the_line_names_what_helps(monkeypatch, tmp_path):
    monkeypatch.setattr(networks, "_has_address", lambda host: False)
    with pytest.raises(
        BlemishError, match=r"resnet18: its weights cannot be loaded .* Give a file as weights, .* gabor or pca"
    ):
        create_backbone("resnet18").fit(None, seed=0)


def test_weights_in_the_hub_s_cache_need_no_network(whole, monkeypatch, tmp_path):
    snapshot = tmp_path / f"models--timm--{SMALL}.c3_in1k" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    save_file(whole.state_dict(), snapshot / "model.safetensors")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr(networks, "_has_address", lambda host: pytest.fail("the cache has it"))
    features = create_backbone(SMALL, (1,)).fit(None, seed=0)
    assert torch.equal(features.network.state_dict()["conv1.0.weight"], whole.state_dict()["conv1.0.weight"])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b"not a file of tensors"), "not a file of tensors only"),
        (lambda path: torch.save({"layer": torch.nn.Linear(2, 2)}, path), "not a file of tensors only"),
        (lambda path: torch.save({"epoch": 3}, path), "holds no state_dict"),
        (lambda path: torch.save({"conv1.weight": torch.zeros(3)}, path), f"do not fit {SMALL}"),
    ],
)
def test_weights_that_cannot_be_used_are_named(tmp_path, make, match):
    path = tmp_path / "weights.pth"
    make(path)
    with pytest.raises(BlemishError, match=match):
        create_backbone(SMALL, (1,), str(path)).fit(None, seed=0)


def test_a_damaged_safetensors_file_is_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"\x00" * 20)
    with pytest.raises(BlemishError, match="damaged"):
        create_backbone(SMALL, (1,), str(path)).fit(None, seed=0)


def test_one_missing_weight_is_one_too_many(whole, tmp_path):
    state = {name: value for name, value in whole.state_dict().items() if name != "layer2.0.conv1.weight"}
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(BlemishError, match=r"layer2\.0\.conv1\.weight"):
        create_backbone(SMALL, (1,), str(tmp_path / "weights.safetensors")).fit(None, seed=0)


def test_unknown_names_and_layers_are_named():
    with pytest.raises(BlemishError, match=r"backbone resnet19: neither gabor, pca nor .* Did you mean .*resnet18"):
        create_backbone("resnet19")
    with pytest.raises(BlemishError, match=r"layers: 1 9 was given; resnet18 has 0 to 4"):
        create_backbone("resnet18", (1, 9))


def test_a_network_whose_shape_depends_on_numbers_has_strides_too():
    """Without numbers timm cannot build it. Its middle levels have cells of 8 and 16 pixels."""
    create_backbone(SMALL)
    import timm

    with pytest.raises(NotImplementedError), torch.device("meta"):
        timm.create_model("regnety_016")
    levels = create_backbone("regnety_016").levels(torch.rand(1, 3, 64, 64))
    assert [level.shape[2:] for level in levels] == [(8, 8), (4, 4)]
