"""Lists, details, pictures and checks of schemes and extensions. Each function but config_text returns an Output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from posx.api.arguments import OnProgress, Overrides, check_list, check_path
from posx.config.catalog import PACKAGED, Catalog
from posx.reporting.output import Output, Verbatim
from posx.utils.progress import as_display


def schemes(names: Sequence[str] = (), *, catalog: Catalog = PACKAGED) -> Output:
    """All positional schemes from their cards; or everything about the named ones, which requires torch."""
    names = check_list("names", names, '["rope"]')
    if names:
        from posx.analysis.catalog_details import describe_schemes

        return describe_schemes(names, catalog)
    from posx.analysis.catalog_pages import list_schemes

    return list_schemes(catalog)


def extensions(names: Sequence[str] = (), *, matrix: bool = False, catalog: Catalog = PACKAGED) -> Output:
    """All extensions from their cards; everything about the named ones; or which of them support which schemes."""
    names = check_list("names", names, '["pi"]')
    if matrix or names:
        from posx.analysis.catalog_details import describe_extensions, extension_matrix

        return extension_matrix(names, catalog) if matrix else describe_extensions(names, catalog)
    from posx.analysis.catalog_pages import list_extensions

    return list_extensions(catalog)


def machine() -> Output:
    """The hardware of this machine, and what posx will choose on it."""
    from posx.analysis.machine import describe_machine

    return describe_machine()


def config_text(scheme: str | None = None, overrides: Sequence[str] = (), *, catalog: Catalog = PACKAGED) -> str:
    """The resolved config of a run, and of an evaluation by the ``eval.*`` overrides, as YAML. Raises PosxError."""
    from posx.config.compose import as_overrides, compose_eval, key_of, to_yaml
    from posx.config.schema import EvalRoot
    from posx.models.build import compose_run

    texts = as_overrides([("--scheme", "scheme", scheme)], overrides)
    of_evaluation = [text for text in texts if key_of(text).startswith("eval.")]
    run = compose_run([text for text in texts if text not in of_evaluation], catalog)
    return to_yaml(run) + to_yaml(EvalRoot(compose_eval(of_evaluation, catalog)))


def show(
    scheme: str,
    overrides: Overrides = (),
    *,
    extension: str = "none",
    length: int | str = "4x",
    path: Path | str | None = None,
    catalog: Catalog = PACKAGED,
) -> Output:
    """Draw a scheme, and measure its properties at ``length`` (tokens, or a multiple of L).

    ``path`` is a .png, .svg or .pdf; without a suffix, .png and .svg are written. Default: SCHEME-EXTENSION.png.
    ``values["files"]`` are the files. Raises PosxError.
    """
    from posx.analysis.panels.drawing import draw, file_stem, files
    from posx.analysis.properties import make_subject, measure
    from posx.analysis.properties_page import as_dict, page
    from posx.config.compose import as_overrides
    from posx.models.build import compose_run
    from posx.models.python_values import as_texts

    texts = as_overrides([("SCHEME", "scheme", scheme)], as_texts(overrides, catalog))
    subject = make_subject(compose_run(texts, catalog), str(length), catalog, extension)
    paths = files(Path(f"{file_stem(scheme, subject.label)}.png") if path is None else check_path(path))
    properties = measure(subject)
    written = draw(subject, paths)
    return Output(as_dict(subject, properties, written), [page(subject, properties), *map(Verbatim, map(str, written))])


def explain(
    schemes: Sequence[str],
    length: int | str,
    train_length: int | str | None = None,
    *,
    extension: str | None = None,
    overrides: Overrides = (),
    catalog: Catalog = PACKAGED,
) -> Output:
    """What is new to each scheme at ``length`` if it was trained at ``train_length`` tokens. Raises PosxError.

    ``values`` are objects with, among others, ``facts``, ``outlook`` and ``commands``, which measure it.
    """
    from posx.analysis.extrapolation import Question, answer
    from posx.analysis.extrapolation_page import as_dict, notes, page
    from posx.models.python_values import as_texts

    trained = None if train_length is None else str(train_length)
    question = Question(str(length), trained, extension, as_texts(overrides, catalog))
    names = check_list("schemes", schemes, '["rope"]')
    answers = [answer(scheme, question, catalog) for scheme in names]
    blocks: list[Any] = []
    for result in answers:
        blocks += [page(result), *notes(result), Verbatim("\nMeasure it:")]
        blocks += [Verbatim(f"  {line}") for line in result.commands] + [Verbatim()]
    return Output([as_dict(result) for result in answers], blocks)


def explain_permutation(schemes: Sequence[str] | None = None, *, catalog: Catalog = PACKAGED) -> Output:
    """How much the output of each scheme, by default all, changes with word order. Raises PosxError."""
    from dataclasses import asdict

    from posx.analysis.permutation import page, permutations

    names = None if schemes is None else check_list("schemes", schemes, '["rope"]')
    results = permutations(names, catalog)
    return Output([asdict(result) for result in results], [page(results)])


def verify(names: Sequence[str] | None = None, *, progress: OnProgress = None, catalog: Catalog = PACKAGED) -> Output:
    """Check schemes and extensions, by default all, against papers and reference code. Raises PosxError."""
    from dataclasses import asdict

    from posx.verify.page import page
    from posx.verify.run import failed
    from posx.verify.run import verify as run_checks

    display = as_display(progress)

    count = 0

    def on_check(done: int, total: int, note: str) -> None:
        nonlocal count
        if done == 0:
            count = total
            display.start("Verifying", total)
        display.update(done, note)

    listed = None if names is None else check_list("names", names, '["rope"]')
    rows = run_checks(listed, catalog, on_check)
    display.update(count, "")
    display.finish()
    return Output([asdict(row) for row in rows], [page(rows)], failed(rows))
