"""Parse extensions and bind them to a scheme and a length.

``yarn+window(w=64)`` is parsed once into :class:`~posx.extensions.base.Extension` objects; :func:`bind` combines them
with a scheme and a length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from posx.config.catalog import PACKAGED, Catalog, read_yaml
from posx.config.schema import TRAINED
from posx.config.validate import typed
from posx.errors import PosxError, unknown
from posx.extensions.base import Applied, Extension, Target, moves, refuse_two_of_a_kind
from posx.models.classes import load_class, may_load
from posx.schemes.base import Scheme, names

MOST = 10**9  # longer than any text in tokens
_SPEC = re.compile(r"([\w.\-]+)\s*(?:\((.*)\))?")


# ---------------------------------------------------------------- parsing


Parse = Callable[[str], list[Extension]]  # parse_extension with a catalog; sweeps cache it


def parse_extension(text: str, catalog: Catalog = PACKAGED) -> list[Extension]:
    """``pi``, ``pi(s=4)``, ``ntk+window(w=64)`` or ``none``; an empty list for none and trained. Raises PosxError."""
    extensions: list[Extension] = []
    for part in _split_plus(text):
        match = _SPEC.fullmatch(part.strip())
        if match is None:
            raise PosxError(f"'{text}' is not an extension.", "Examples: pi, pi(s=4), ntk+window(w=64).")
        name, inside = match.groups()
        if name == "none":
            if inside or len(_split_plus(text)) > 1:
                raise PosxError(
                    f"'{text}': none cannot be combined with other extensions and has no parameters.",
                    "Remove it, or use --extension none.",
                )
            return []
        if name == TRAINED:
            if inside is not None:
                raise PosxError(
                    f"'{text}': {TRAINED} takes no parameters.", "It stands for the extension of the training run."
                )
            continue  # resolved later, from the run
        if any(other.name == name for other in extensions):
            raise PosxError(f"'{text}' contains {name} twice.", "Remove one of them.")
        extensions.append(_parse_one(name, inside or "", text, catalog))
    return extensions


def _parse_one(name: str, inside: str, text: str, catalog: Catalog) -> Extension:
    """Extension ``name`` with the parameters ``inside`` its parentheses; ``text`` is the whole argument, for errors."""
    known = catalog.options("extension")
    if name in known:
        settings = catalog.settings("extension", name)
    elif "." in name and may_load(name, catalog):  # package.module.Class, without a YAML
        settings = {"_target_": name}
    else:
        raise unknown("extension", name, [*known, "none", TRAINED])
    cls = load_class(settings.pop("_target_", None), Extension, catalog)
    keys: set[str] = set()
    for pair in filter(None, re.split(r",(?=[^,=]*=)", inside)):  # a path may contain commas
        key, equals, value = pair.partition("=")
        if not equals:
            raise PosxError(f"'{text}': '{pair}' is not a parameter.", "Write name=value, as in pi(s=4).")
        if key.strip() in keys:
            raise PosxError(f"'{text}' sets {key.strip()} twice.", "Remove one of them.")
        keys.add(key.strip())
        settings[key.strip()] = number = _number(value.strip())
        if isinstance(number, int) and abs(number) > MOST:
            raise PosxError(f"'{text}': {key.strip()}={number} is too large.", f"Use at most {MOST}.")
    config: Any = typed(cls.Config, cls.read(settings, read_yaml), f"{name}.")
    cls.check(config)
    return cls.of(config, name)


def _split_plus(text: str) -> list[str]:
    """Split at the + signs outside parentheses."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        if sign == "+" and depth <= 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def spec_name(extensions: Sequence[Extension]) -> str:
    """The name of a composition in tables and records, independent of the order on the command line."""
    return "+".join(sorted(map(str, extensions))) or "none"


# ---------------------------------------------------------------- compatibility


def fits(extension: type[Extension], scheme: Scheme) -> bool:
    """Whether the scheme supports what the extension changes; masks and temperatures require logits."""
    masks = scheme.capabilities.masks
    if extension.changes in ("mask", "temperature"):
        return masks
    hook = "spectrum" if extension.changes == "wavelengths" else extension.changes
    sharpens = "amplitude" in extension.overrides  # acts as a temperature
    return hook in scheme.capabilities.accepts and (masks or not sharpens)


def only_masks(extension: type[Extension], scheme: Scheme) -> bool:
    """Whether only the extension's mask applies, because the scheme does not support distances."""
    return moves(extension) and "distances" not in scheme.capabilities.accepts


def check_fit(
    extensions: Sequence[Extension], scheme_name: str, scheme: Scheme, known: dict[str, type[Extension]]
) -> None:
    """Raise PosxError for extensions that this scheme does not support and for invalid combinations."""
    for extension in extensions:
        if not fits(type(extension), scheme):
            supported = sorted(name for name, cls in known.items() if fits(cls, scheme))
            raise PosxError(
                f"{extension.name} changes the {extension.changes} and does not fit {scheme_name}.",
                f"{scheme_name} supports {names(['none', *supported])}.",
            )
    refuse_two_of_a_kind(extensions)
    context = scheme.shape.context
    for extension in extensions:
        extension.check_scheme(scheme_name, Target(context, context, scheme.last_position, scheme.capabilities.rotated))


# ---------------------------------------------------------------- binding to a length


def freeze(extensions: Sequence[Extension], base_context: int, reached: int) -> list[Extension]:
    """The extensions as a run trained with them stores them, with the scale for ``reached`` positions."""
    target = Target(context=base_context, length=reached)
    return [extension.with_params(extension.frozen(target)) for extension in extensions]


def bind(
    extensions: Sequence[Extension],
    scheme: Scheme,
    length: int,
    trained: Sequence[Extension] = (),
    reached: int | None = None,
) -> Applied:
    """Bind extensions to a scheme and a length ℓ in tokens.

    Extensions that the model was ``trained`` with act at every length as in training, which ``reached`` a number of
    positions (default: L). The other extensions act on top: their s is ℓ / reached.
    """
    reached = reached or scheme.shape.context
    rotated, last = scheme.capabilities.rotated, scheme.last_position
    before = Target(scheme.shape.context, reached, last, rotated)
    if last is not None and any(extension.changes == "positions" for extension in trained):
        last = reached - 1  # in training, all positions up to here were mapped into the table
    on_top = Target(reached, length, last, rotated)
    # Sorted by name, so that results do not depend on the order on the command line, to the bit.
    return Applied(tuple(sorted(extensions, key=str)), on_top, tuple(sorted(trained, key=str)), before)
