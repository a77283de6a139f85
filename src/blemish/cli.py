"""The command line: parses, calls, prints. Each command imports what it needs, so that inspecting starts at once."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text
from typer.exceptions import TyperException

import blemish
from blemish.errors import BlemishError, extras
from blemish.progress import shown_progress

if TYPE_CHECKING:
    from blemish.config import RunConfig
    from blemish.graphs import Precision
    from blemish.types import Evaluation

console = Console()
errors = Console(stderr=True)

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

GOES_ON = {"train": " with --resume", "predict": ""}
"""Command that can be stopped -> what is to be added for it to go on."""

Folder = Annotated[Path, typer.Argument(help="A data set's root, one category's folder, or a folder of images.")]
Runs = Annotated[list[Path], typer.Argument(help="Folders that `train` left, one or several.")]

Model = Annotated[Path, typer.Argument(help="Folder of a fitted detector, as `train` leaves one per category.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """The `blemish` command: exit code 0 where all went well, 2 for what is the user's to mend, 130 on Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = next((argument for argument in given if not argument.startswith("-")), "")
    handler = RichHandler(console=errors, show_time=False, show_path=False)
    logging.basicConfig(format="%(message)s", handlers=[handler])
    logging.getLogger("blemish").setLevel(logging.INFO)
    try:
        with extras():
            parser, given = _learning_parser(command, given) if command in LEARNING else (_unparsed, given)
            code = build_app({command: parser})(given, standalone_mode=False)
    except BlemishError as error:
        _fail(str(error))
    except TyperException as error:
        message = error.format_message().replace("Value error, ", "").rstrip(".")
        _fail(f"{message}. 'blemish {command} --help' tells what there is.")
    if code == INTERRUPTED and command in GOES_ON:
        errors.print(f"stopped. The same command{GOES_ON[command]} goes on from here.")
    sys.exit(code)


def _fail(message: str) -> NoReturn:
    """One line on standard error, and exit code 2."""
    errors.print(Text.assemble(("error ", "bold red"), message), soft_wrap=True)
    sys.exit(2)


def _learning_parser(command: str, given: list[str]) -> tuple[Callable[..., None], list[str]]:
    """A command that learns, with a flag for each setting and option, and its arguments as it takes them.

    To know the options imports torch, so this is only for those commands themselves.
    """
    from blemish.flags import detector_flags, fit_flags, one_value_each, run_flags, with_flags

    fields, options = fit_flags() if command == "fit" else run_flags(), detector_flags()
    return with_flags(LEARNING[command], fields, options), one_value_each(given, fields | options)


def _unparsed() -> None:
    """Stands for a command that learns where another one was given."""


def build_app(parsers: dict[str, Callable[..., None]]) -> typer.Typer:
    """The commands; `parsers` has the one that learns, if it is the one that was given."""
    app = typer.Typer(
        help="Finds defects in pictures of manufactured parts, having seen only good ones.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for name, command in LEARNING.items():
        app.command(name, help=command.__doc__)(parsers.get(name, _unparsed))
    app.command("calibrate")(_calibrate)
    app.command("predict")(_predict)
    app.command("export")(_export)
    app.command("evaluate")(_evaluate)
    app.command("metrics")(_metrics)
    app.command("report")(_report)
    app.command("compare")(_compare)
    app.command("synth")(_synth)
    app.command("demo")(_demo)
    data = typer.Typer(help="Looks at data sets.", no_args_is_help=True)
    data.command("check")(_data_check)
    app.add_typer(data, name="data")
    return app


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"blemish {blemish.__version__}", highlight=False)
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def _train(config_path: Path | None, fields: dict[str, Any], options: dict[str, Any]) -> None:
    """Learn from good images, then find the defects in the test images and say how well.

    For every category: 10 % of the good training images, drawn at random, are held out; the epoch with the lowest
    loss on them is kept; the whole test set is scored at its own resolution.
    """
    from blemish.config import RunConfig

    merged = _merged(config_path, fields, options)
    for required in ("data_path", "ckpt_path"):
        if required not in merged:
            raise BlemishError(f"--{required} is missing: {RunConfig.model_fields[required].description}.")
    train(RunConfig.create(**merged))


def _merged(config_path: Path | None, fields: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """What the TOML file says, and over it what the flags say."""
    from blemish.config import read_toml

    from_file = read_toml(config_path) if config_path else {}
    return {**from_file, **fields, "options": {**from_file.get("options", {}), **options}}


def _fit(
    images: Annotated[Path, typer.Argument(help="Folder of good images, or one category of a data set.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the fitted detector.")] = None,
    update: Annotated[Path | None, typer.Option(help="Fitted detector that is to learn these images as well.")] = None,
    *,
    config_path: Path | None,
    fields: dict[str, Any],
    options: dict[str, Any],
) -> None:
    """Learn from a folder of good images; what is left open is chosen by what held-out good images say.

    The model is `ensemble` unless another is asked for. With --update a fitted detector learns further images without
    starting over; it keeps its settings, and its place unless --out names another.
    """
    from blemish.config import RunConfig
    from blemish.run import fit
    from blemish.update import update as update_model

    with shown_progress(images.name, errors) as phases:
        if update is not None:
            if fields or options or config_path:
                raise BlemishError("--update: a fitted detector keeps its settings. Leave the other options out.")
            model = update_model(update, images, out, phases)
        elif out is None:
            raise BlemishError("--out is missing: folder for the fitted detector.")
        else:
            merged = {"model": "ensemble", **_merged(config_path, fields, options)}
            model = fit(RunConfig.create(**{**merged, "data_path": images, "ckpt_path": out}), phases)
    console.print(
        f"{model.model} from {len(model.provenance['learned_from'])} images is in {model.folder}", highlight=False
    )


LEARNING: dict[str, Callable[..., None]] = {"train": _train, "fit": _fit}
"""The commands that take the settings of a run and the options of the detectors."""


def train(config: RunConfig) -> list[Evaluation]:
    """Runs every category, prints a line for each and the headline last, and writes the results."""
    from blemish import figures
    from blemish.data import find_categories
    from blemish.results import write_results
    from blemish.run import run
    from blemish.training import is_main_process

    evaluations = []
    for category in find_categories(config.data_path, config.category):
        with shown_progress(category.name, errors) as phases:
            evaluation = run(config.for_category(category.name), phases)
        evaluations.append(evaluation)
        if is_main_process():
            console.print(_line(evaluation), highlight=False, soft_wrap=True)
    if is_main_process():
        write_results(evaluations, config.ckpt_path)
        if any(evaluation.images for evaluation in evaluations):
            figures.averages(evaluations, config.ckpt_path / "figures" / "auroc.png")
        console.print(f"{_too_few(evaluations)}{_headline(evaluations, config)}", highlight=False, soft_wrap=True)
    return evaluations


def _line(evaluation: Evaluation) -> str:
    from blemish.results import shown

    if not evaluation.images:
        line = f"{evaluation.category}: trained; it has no test images, so there is nothing to evaluate"
        return line + _threshold(evaluation)
    pixel, image = (evaluation.metrics.get(name) for name in ("pixel_auroc", "image_auroc"))
    why = "; ".join(
        f"{name.replace('_', ' ')}: {evaluation.reasons[name]}"
        for name in ("pixel_auroc", "image_auroc")
        if name in evaluation.reasons
    )
    line = f"{evaluation.category}: pixel AUROC {shown(pixel)}, image AUROC {shown(image)}"
    return (f"{line} ({why})" if why else line) + _threshold(evaluation)


def _threshold(evaluation: Evaluation) -> str:
    """What the held-out images made of it, in words."""
    found = evaluation.calibration
    if found is None:
        return ", no threshold"
    return f", threshold {found['threshold']:.4g} ({found['false_alarm_rate']:.2g} false alarms)"


def _too_few(evaluations: list[Evaluation]) -> str:
    """One line where fewer images were held out than the usual false-alarm rate needs."""
    from blemish.calibration import FALSE_ALARM_RATE, num_images_for, smallest_rate

    fewest = min(len(evaluation.validation) for evaluation in evaluations)
    if smallest_rate(fewest) <= FALSE_ALARM_RATE:
        return ""
    needed = num_images_for(FALSE_ALARM_RATE)
    return (
        f"{fewest} held-out good images support a false-alarm rate of {smallest_rate(fewest):.2g} at the least, "
        f"{FALSE_ALARM_RATE:g} needs {needed}: see blemish calibrate --help\n"
    )


def _headline(evaluations: list[Evaluation], config: RunConfig) -> str:
    from blemish.results import average_of

    average = average_of(evaluations, config.model, "pixel_auroc")
    where = f"results and figures are in {config.ckpt_path}"
    if average is None:
        return f"nothing to average; what was learned is in {config.ckpt_path}"
    return f"{where}\n[bold]average pixel AUROC {average:.4f}[/]"


def _calibrate(
    model: Model,
    false_alarm_rate: Annotated[
        float | None, typer.Option(help="Choose the threshold for this rate of false alarms, such as 0.01.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of other good images (and folders of defects beside one named good).")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Score each good training image by a detector fitted without its fold.")
    ] = None,
    data_path: Annotated[Path | None, typer.Option("--data_path", help="The training images, for --folds.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Set the threshold of the score by hand.")] = None,
    pixel_rate: Annotated[
        float | None, typer.Option(help="Choose the pixel threshold for this part of the good area, such as 0.001.")
    ] = None,
    pixel_threshold: Annotated[float | None, typer.Option(help="Set the threshold of the map by hand.")] = None,
    min_area: Annotated[
        int | None, typer.Option(min=0, help="Pixels of a defect region at least; smaller ones do not count.")
    ] = None,
) -> None:
    """Choose or set what makes a score a defect; without options: show it. The model itself is never changed.

    Choosing needs good images that the detector has not seen: those that `train` held out, or --images, or --folds.
    """
    from blemish.calibrate import calibrate_model, describe
    from blemish.model_folder import find_model

    with shown_progress("", errors) as phases:
        calibrated = calibrate_model(
            find_model(model),
            false_alarm_rate=false_alarm_rate,
            images=images,
            folds=folds,
            data_path=data_path,
            threshold=threshold,
            pixel_rate=pixel_rate,
            pixel_threshold=pixel_threshold,
            min_area=min_area,
            phases=phases,
        )
    lines, table = describe(calibrated)
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    if table:
        console.print(table)


def _predict(
    model: Model,
    images: Annotated[list[str], typer.Argument(help="Files, folders, 'patterns', or - for a list on standard input.")],
    out: Annotated[Path, typer.Option(help="Folder for predictions.csv and predictions.jsonl.")],
    maps: Annotated[bool, typer.Option("--maps", help="Write anomaly maps: float TIFF at the file's size.")] = False,
    overlays: Annotated[bool, typer.Option("--overlays", help="Write pictures with the map over them: PNG.")] = False,
    fail_on_defect: Annotated[
        bool, typer.Option("--fail-on-defect", help="Exit with 3 where a defect was found.")
    ] = False,
    backend: Annotated[
        str, typer.Option(help="What runs the detector: torch, or onnx or openvino once it is exported.")
    ] = "torch",
    batch_size: Annotated[int, typer.Option("--batch_size", min=1, help="Images computed at once.")] = 8,
    workers: Annotated[int, typer.Option(min=0, help="Threads that decode images; 0: one per core.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Threads that compute; 0: one per core.")] = 0,
) -> None:
    """Inspect images: score, decision, p-value and defect regions of each. The same command goes on after a stop.

    Exit code 0 where all went well, 2 where a file could not be used, 3 with --fail-on-defect.
    """
    from blemish.inspector import Inspector
    from blemish.model_folder import find_model, read_model
    from blemish.predict import find_images, predict

    folder = find_model(model)
    inspector = Inspector.load(folder, backend, batch_size=batch_size, workers=workers, threads=threads)
    if fail_on_defect and inspector.calibration is None:
        raise BlemishError(f"{folder}: not calibrated, so nothing is a defect. Run 'blemish calibrate' first.")
    identity = {"backend": backend, "sha256": read_model(folder).sha256}
    with shown_progress("", errors) as phases:
        found = find_images(images, sys.stdin if "-" in images else ())
        options: dict[str, Any] = {"maps": maps, "overlays": overlays, "progress": phases("inspecting")}
        summary = predict(inspector, found, out, identity=identity, **options)
    decided = f"{summary.num_defects} defects" if inspector.calibration else "not calibrated, so none is decided"
    speed = f"; {summary.rate:.1f} images/s" if summary.rate else ", none left to inspect"
    line = f"{summary.num_images} images: {decided}, {summary.num_unreadable} unreadable{speed}"
    console.print(f"{line}\npredictions.csv and predictions.jsonl are in {out}", highlight=False, soft_wrap=True)
    if fail_on_defect and summary.num_defects:
        raise typer.Exit(3)
    if summary.num_unreadable:
        raise typer.Exit(2)


def _export(
    model: Model,
    target: Annotated[str, typer.Option("--format", help="onnx or openvino.")] = "onnx",
    half: Annotated[bool, typer.Option("--half", help="Store what was learned in 16 bits: half the file.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Compute convolutions in 8 bits, their ranges from the good training images.")
    ] = False,
    data_path: Annotated[
        Path | None,
        typer.Option("--data_path", help="Images to compare on; default: the data set that the detector learned from."),
    ] = None,
) -> None:
    """Write the detector for another runtime into its folder, after comparing the two on the test images.

    Where scores, maps or decisions differ by more than is allowed, nothing is written.
    """
    from blemish.export import describe, export
    from blemish.model_folder import find_model

    if half and int8:
        raise BlemishError("half, int8: one precision or the other. Leave one out.")
    precision: Precision = "half" if half else "int8" if int8 else "float32"
    with shown_progress("", errors) as phases:
        written = export(find_model(model), target, precision, data_path, phases)
    for path in written.files:
        console.print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", highlight=False, soft_wrap=True)
    found = f"{precision} against torch on {written.parity.num_images} images: {describe(written.parity)}"
    console.print(found, highlight=False, soft_wrap=True)
    for name, (before, after) in written.auroc.items():
        line = f"{name.replace('_auroc', ' AUROC')} {after:.4f}, in torch {before:.4f}: {after - before:+.4f}"
        console.print(line, highlight=False)


def _evaluate(
    runs: Runs,
    data_path: Annotated[Path, typer.Option("--data_path", help="Root of the data set, or one category's folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the tables; default: the first run's.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="Category to evaluate, repeatable; default: all.")] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples for the intervals; 0: none.")] = 1000,
) -> None:
    """Score the test images with what was learned: every metric, per category and averaged, with 95 % intervals."""
    from blemish.run import evaluate_run

    evaluations = []
    for run_path in runs:
        with shown_progress(run_path.name, errors) as phases:
            evaluations += evaluate_run(run_path, data_path, category or (), resamples, phases)
    _show(evaluations, out or runs[0])


def _metrics(
    maps: Annotated[Path, typer.Option(help="Folder of anomaly maps: <category>/test/<type>/<stem>.tiff or .npy.")],
    data_path: Annotated[Path, typer.Option("--data_path", help="Root of the data set, or one category's folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the tables; default: that of the maps.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="Category to score, repeatable; default: all.")] = None,
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples for the intervals; 0: none.")] = 1000,
    name: Annotated[str, typer.Option(help="Name of the method in the tables.")] = "maps",
) -> None:
    """Score anomaly maps that any program wrote, in the layout of the official MVTec AD evaluation.

    The score of an image is the maximum of its map.
    """
    from blemish.data import find_categories
    from blemish.evaluate import measure, predictions_from_maps
    from blemish.record import Preview, previewed, write_measured

    evaluations = []
    for found in find_categories(data_path, category or ()):
        previews: list[Preview] = []
        measured = measure(
            previewed(predictions_from_maps(maps, found), found.root, previews),
            found.of("test"),
            method=name,
            category=found.name,
            root=found.root,
            num_resamples=resamples,
        )
        write_measured(measured, previews, {}, (out or maps) / found.name)
        evaluations.append(measured.evaluation)
    _show(evaluations, out or maps)


def _report(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("report.html"),
) -> None:
    """Write one HTML file to see every decision in: it opens from disk and asks no host for anything."""
    from blemish.report.render import report

    report(runs, out)
    console.print(f"the report is {out}", highlight=False, soft_wrap=True)


def _compare(
    first: Annotated[Path, typer.Argument(help="Folder that `train` left.")],
    second: Annotated[Path, typer.Argument(help="Another one, on the same test images.")],
) -> None:
    """Tell in which metrics one of two runs is significantly better, on the same test images.

    By images: a paired bootstrap over the test images, averaged over the categories; it makes the verdict, at p < 0.05.
    By categories: the Wilcoxon signed-rank test, from six categories on.
    """
    from blemish.report.compare import compare_runs, verdicts_table
    from blemish.report.read import read_runs

    runs = read_runs([first, second])
    verdicts = compare_runs(*runs)
    if not verdicts:
        raise BlemishError(f"{first}, {second}: no category has figures of both. Run both on the same data set.")
    console.print(verdicts_table(runs[0], runs[1], verdicts))
    for reason in dict.fromkeys(verdict.images for verdict in verdicts if isinstance(verdict.images, str)):
        console.print(f"cannot tell: {reason}", style="dim", highlight=False, markup=False, soft_wrap=True)


def _show(evaluations: list[Evaluation], out: Path) -> None:
    """Prints all metrics and writes the tables."""
    from blemish.results import comparison_table, methods_of, metrics_tables, write_results

    for method in methods_of(evaluations):
        for table in metrics_tables(evaluations, method):
            console.print(table)
            console.print()
    if len(methods_of(evaluations)) > 1:
        console.print(comparison_table(evaluations))
    for evaluation in evaluations:
        for reason in dict.fromkeys(evaluation.reasons.values()):
            names = ", ".join(name for name, why in evaluation.reasons.items() if why == reason)
            line = f"{evaluation.method}, {evaluation.category}: {names} not applicable: {reason}"
            console.print(line, style="dim", highlight=False, soft_wrap=True)
    write_results(evaluations, out)
    console.print(f"results.json, results.csv and results.tex are in {out}", highlight=False)


def _synth(
    out: Annotated[Path, typer.Argument(help="Folder to write the data set to.")],
    category: Annotated[list[str] | None, typer.Option(help="Category to make, repeatable; default: all.")] = None,
    size: Annotated[int, typer.Option(help="Side length of the images in pixels.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 0,
) -> None:
    """Make the built-in data set: synthetic pictures of parts, with and without defects, in the layout of MVTec AD."""
    from blemish.data.synthetic import synthesize

    with shown_progress("", errors) as phases:
        folders = synthesize(out, categories=category or None, size=size, seed=seed, progress=phases("drawing"))
    console.print(
        f"{len(folders)} categories in {out}: {', '.join(folder.name for folder in folders)}", highlight=False
    )


def _demo(
    out: Annotated[Path, typer.Argument(help="Folder for the data, the runs and the comparison.")] = Path("runs/demo"),
) -> None:
    """Make the built-in data set, run every method on it, and compare them."""
    from blemish.demo import demo

    demo(out, console, errors)


def _data_check(path: Folder) -> None:
    """Print what a data set holds and every problem found in it; exit with 2 where training would refuse it."""
    from blemish.data.overview import overview

    with shown_progress("", errors) as phases:
        table, problems = overview(path, phases("reading"))
    console.print(table)
    for problem in problems:
        style = "bold red" if problem.severity == "error" else "bold yellow"
        console.print(Text.assemble((problem.severity, style), f" {problem}"), soft_wrap=True)
    num_errors = sum(problem.severity == "error" for problem in problems)
    console.print(f"{num_errors} errors, {len(problems) - num_errors} warnings", highlight=False)
    if num_errors:
        raise typer.Exit(2)
