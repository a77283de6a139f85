"""The other commands, and what the README promises of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import blemish
from blemish.cli import main

ROOT = Path(__file__).parents[2]


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(stopped.value.code or 0), capsys.readouterr().out


def test_help_and_version_import_no_torch():
    code = "import sys\nfrom blemish.cli import main\n"
    code += "try: main(sys.argv[1:])\nexcept SystemExit: print('torch' in sys.modules)"
    for arguments in (["--help"], ["--version"], []):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.strip().endswith("False")


def test_version(capsys):
    assert run(["--version"], capsys) == (0, f"blemish {blemish.__version__}\n")


def test_the_help_of_train_names_every_argument_with_its_default(capsys):
    code, text = run(["train", "--help"], capsys)
    words = " ".join(text.replace("│", " ").split())
    assert code == 0
    for name, default in {"epochs": 100, "batch_size": 32, "learning_rate": 0.001, "size": 128, "model": "vae"}.items():
        assert f"--{name}" in words
        assert f"default: {default})" in words
    for name in ("width", "latent_dim", "loss", "data_path", "ckpt_path", "category", "seed", "device", "resume"):
        assert f"--{name}" in words


def test_data_check(make_category, tmp_path: Path, capsys):
    folder = make_category(tmp_path, "bolt", num_train=5, num_bad=3)
    code, text = run(["data", "check", str(tmp_path)], capsys)
    assert code == 0
    assert "0 errors, 0 warnings" in text
    (folder / "test/good/copy.png").write_bytes(next((folder / "train/good").iterdir()).read_bytes())
    code, text = run(["data", "check", str(tmp_path)], capsys)
    assert code == 2
    assert "copy.png: identical to" in text


def test_synth_makes_a_data_set_that_passes_the_check(tmp_path: Path, capsys):
    code, text = run(["synth", str(tmp_path / "set"), "--size", "64", "--category", "fabric"], capsys)
    assert code == 0
    assert "1 categories" in text
    assert run(["data", "check", str(tmp_path / "set")], capsys)[0] == 0


def test_train_py_is_the_command_train():
    done = subprocess.run([sys.executable, "train.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--data_path is missing" in done.stderr
