"""What `--help` says: every option with its range and default, in 80 columns and few lines; and what helps who errs."""

from __future__ import annotations

import re

import pytest

from blemish.cli import main
from blemish.detectors import DETECTORS, detector_class
from blemish.detectors.base import FeatureDetector

COMMANDS = [
    [],
    *([name] for name in ("fit", "predict", "score", "calibrate", "export", "train", "evaluate", "metrics", "compare")),
    ["benchmark"],
    ["sweep"],
    *([name] for name in ("report", "data", "synth", "demo", "serve")),
    ["data", "check"],
    *(["fit", "--model", model] for model in sorted(DETECTORS)),
    *(["train", "--model", model] for model in sorted(DETECTORS)),
]


@pytest.fixture(autouse=True)
def _in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


def options(text: str) -> dict[str, str]:
    """Name of each option in a help text -> what is said of it."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if entry := re.match(r" (--[^ ]+)( [^ ]+)?  +(.*)", line):
            name = entry[1]
            found[name] = entry[3]
        elif line.startswith("     ") and name:
            found[name] += " " + line.strip()
        else:
            name = ""
    return {name: " ".join(words.split()) for name, words in found.items()}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_fits_and_shows_no_python(command, capsys):
    code, text, _ = run([*command, "--help"], capsys)
    assert code == 0
    assert text.startswith(" ".join(["Usage: blemish", *command]).partition(" --model")[0])
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"\bNone\b|\(\)|<(int|float|str|path|bool|list)|\{", text)
    assert not re.search(r"--[a-z-]+_", text.partition("Underscores")[0])


@pytest.mark.parametrize("model", sorted(DETECTORS))
def test_help_of_fit_is_short(model, capsys):
    _, usual, _ = run(["fit", "--help"], capsys)
    assert len(usual.splitlines()) < 68
    _, text, _ = run(["fit", "--help", "--model", model], capsys)
    assert len(text.splitlines()) < 76
    assert (text == usual) == (model == "ensemble")


@pytest.mark.parametrize("command", ["fit", "train"])
@pytest.mark.parametrize("model", sorted(DETECTORS))
def test_each_option_has_its_default(command, model, capsys):
    found = options(run([command, "--help", f"--model={model}"], capsys)[1])
    for name, words in found.items():
        assert name in ("--help", "--config") or re.search(r"\b(default|required)\b", words), f"{name}: {words}"
    for option, (_, default) in detector_class(model).option_fields().items():
        words = found.get(f"--{option.replace('_', '-')}") or found[f"--[no-]{option.replace('_', '-')}"]
        if default not in (None, ()):
            shown = f"{default:g}" if isinstance(default, float) else str(default)
            if option == "size" and issubclass(detector_class(model), FeatureDetector):
                shown = "256 or 384, by the images' size"
            assert f"default: {shown}]" in words
    assert "default: 0]" in found["--seed"]
    assert "[0 to 256; default: 0]" in found["--workers"]
    assert "[1 or more; default: 32]" in found["--batch-size"]


def test_defaults_are_those_of_the_model(capsys):
    trained = {model: options(run(["train", "--help", "--model", model], capsys)[1]) for model in ("vae", "selfsup")}
    assert "[1 or more; default: 100]" in trained["vae"]["--epochs"]
    assert "[1 or more; default: 40]" in trained["selfsup"]["--epochs"]
    assert "[more than 0; default: 0.003]" in trained["selfsup"]["--learning-rate"]
    assert "[0 or more; default: 20]" in trained["selfsup"]["--patience"]
    assert "[32 to 1024, multiples of 16; default: 128]" in trained["vae"]["--size"]
    assert "[32 to 1024, multiples of 16; default: 256]" in trained["selfsup"]["--size"]
    assert "--beta" in trained["vae"]
    assert "--beta" not in trained["selfsup"]
    closed_form = options(run(["train", "--help", "--model", "padim"], capsys)[1])
    assert not {"--epochs", "--learning-rate", "--patience"} & set(closed_form)


def test_the_seven_of_train_are_named_with_underscores_too(capsys):
    text = run(["train", "--help"], capsys)[1]
    for name in ("model", "epochs", "batch_size", "learning_rate", "size", "data_path", "ckpt_path"):
        assert f"--{name}" in text
        assert f"--{name.replace('_', '-')} " in text


def test_a_toml_file_names_the_model_whose_options_are_taken(tmp_path, capsys):
    (tmp_path / "run.toml").write_text('model = "padim"\n')
    found = options(run(["fit", "--help", "--config", str(tmp_path / "run.toml")], capsys)[1])
    assert "--dimensions" in found
    assert "--num-patches" not in found


def test_without_a_command_there_is_help(capsys):
    for arguments in ([], ["data"]):
        code, text, err = run(arguments, capsys)
        assert (code, err) == (0, "")
        assert text.strip() == run([*arguments, "--help"], capsys)[1].strip()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prdict"], "No such command 'prdict'. Did you mean 'predict'? 'blemish --help' lists what is available."),
        (
            ["data", "chck"],
            "No such command 'chck'. Did you mean 'check'? 'blemish data --help' lists what is available.",
        ),
        (["xyz"], "No such command 'xyz'. 'blemish --help' lists what is available."),
        (
            ["--verson"],
            "No such option: --verson (Possible options: --version). 'blemish --help' lists what is available.",
        ),
        (["fit"], "Missing argument 'images'. 'blemish fit --help' lists what is available."),
        (["data", "check"], "Missing argument 'path'. 'blemish data check --help' lists what is available."),
        (["fit", "d", "--ot", "x"], "No such option: --ot (Possible options: --layout, --out, --roi). "),
        (["fit", "d", "--model", "gan"], "model: not a detector; choose from ae, ensemble"),
        (["fit", "d", "--beta", "3"], "beta: not an option of Ensemble. It has: backbone, "),
        (["fit", "d", "--out", "m", "--seed", "x"], "Invalid value for '--seed': "),
    ],
)
def test_what_is_misspelt_gets_one_line_that_helps(arguments, said, capsys):
    code, out, err = run(arguments, capsys)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"error {said}")


@pytest.mark.parametrize("name", ["--batch-size", "--batch_size"])
def test_dashes_and_underscores_are_the_same(name, make_category, tmp_path, capsys):
    good = make_category(tmp_path, num_train=6) / "train" / "good"
    settings = ["--size", "32", name, "2", "--num_patches=50", "--memory-budget", "1GiB", "--quiet"]
    assert (
        run(
            ["fit", str(good), "--out", str(tmp_path / "m"), "--model", "patchcore", "--backbone", "gabor", *settings],
            capsys,
        )[0]
        == 0
    )
    assert '"batch_size": 2' in (tmp_path / "m" / "model.json").read_text()
    assert '"num_patches": 50' in (tmp_path / "m" / "model.json").read_text()
    assert run(["predict", str(tmp_path / "m"), str(good), "--out", str(tmp_path / "p"), name, "2"], capsys)[0] == 0
