"""Extensions from the text that asks for them to what a forward pass is given.

``yarn+window(w=64)`` is parsed into :class:`~posx.extensions.base.Extension` objects, once; :func:`bind` puts them
beside a scheme and a length.
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

MOST = 10**9  # no text has more tokens
_SPEC = re.compile(r"([\w.\-]+)\s*(?:\((.*)\))?")


# ---------------------------------------------------------------- from text


Parse = Callable[[str], list[Extension]]  # parse_extension with a catalog; a sweep's reads each text once


def parse_extension(text: str, catalog: Catalog = PACKAGED) -> list[Extension]:
    """``pi``, ``pi(s=4)``, ``ntk+window(w=64)`` or ``none``; an empty list for none and trained. Raises PosxError."""
    found: list[Extension] = []
    for part in _split_plus(text):
        match = _SPEC.fullmatch(part.strip())
        if match is None:
            raise PosxError(f"'{text}' is not an extension.", "They look like pi, pi(s=4) or ntk+window(w=64).")
        name, inside = match.groups()
        if name == "none":
            if inside or len(_split_plus(text)) > 1:
                raise PosxError(f"'{text}': none stands alone.", "Drop it, or use --extension none.")
            return []
        if name == TRAINED:
            if inside is not None:
                raise PosxError(f"'{text}': {TRAINED} takes no parameters.", "It means what the run was trained with.")
            continue  # it is the run that knows what that is
        if any(other.name == name for other in found):
            raise PosxError(f"'{text}' names {name} twice.", "Once is enough.")
        found.append(_parse_one(name, inside or "", text, catalog))
    return found


def _parse_one(name: str, inside: str, text: str, catalog: Catalog) -> Extension:
    """The extension ``name`` with the parameters ``inside`` its parentheses; ``text`` is all of what was typed."""
    known = catalog.options("extension")
    if name in known:
        settings = catalog.settings("extension", name)
    elif "." in name and may_load(name, catalog):  # package.module.Class, without a YAML
        settings = {"_target_": name}
    else:
        raise unknown("extension", name, [*known, "none", TRAINED])
    cls = load_class(settings.pop("_target_", None), Extension, catalog)
    given: set[str] = set()
    for pair in filter(None, re.split(r",(?=[^,=]*=)", inside)):  # a path may hold commas
        key, equals, value = pair.partition("=")
        if not equals:
            raise PosxError(f"'{text}': '{pair}' is not a parameter.", "They look like pi(s=4).")
        if key.strip() in given:
            raise PosxError(f"'{text}' sets {key.strip()} twice.", "Once is enough.")
        given.add(key.strip())
        settings[key.strip()] = number = _number(value.strip())
        if isinstance(number, int) and abs(number) > MOST:
            raise PosxError(f"'{text}': {key.strip()}={number} is too large.", f"Give at most {MOST}.")
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
    """How tables and records call a composition; the order in which it was typed does not matter."""
    return "+".join(sorted(map(str, extensions))) or "none"


# ---------------------------------------------------------------- what fits


def fits(extension: type[Extension], scheme: Scheme) -> bool:
    """Whether the scheme listens to what the extension changes; masks and temperatures need attention with logits."""
    masks = scheme.capabilities.masks
    if extension.changes in ("mask", "temperature"):
        return masks
    hook = "spectrum" if extension.changes == "wavelengths" else extension.changes
    sharpens = "amplitude" in extension.overrides  # a temperature, too
    return hook in scheme.capabilities.accepts and (masks or not sharpens)


def only_masks(extension: type[Extension], scheme: Scheme) -> bool:
    """Whether the scheme, which knows no distances, leaves of such an extension the mask."""
    return moves(extension) and "distances" not in scheme.capabilities.accepts


def check_fit(
    extensions: Sequence[Extension], scheme_name: str, scheme: Scheme, known: dict[str, type[Extension]]
) -> None:
    """Refuse, before any work, what this scheme would ignore, and compositions without a meaning."""
    for one in extensions:
        if not fits(type(one), scheme):
            fitting = sorted(name for name, cls in known.items() if fits(cls, scheme))
            raise PosxError(
                f"{one.name} changes the {one.changes} and does not fit {scheme_name}, which has none to change.",
                f"For {scheme_name} there is {names(['none', *fitting])}.",
            )
    refuse_two_of_a_kind(extensions)
    context = scheme.shape.context
    for one in extensions:
        one.check_scheme(scheme_name, Target(context, context, scheme.last_position, scheme.capabilities.rotated))


# ---------------------------------------------------------------- at a length


def freeze(extensions: Sequence[Extension], base_context: int, reached: int) -> list[Extension]:
    """The extensions as a run that is trained with them keeps them: with the scale of what its training reached."""
    target = Target(context=base_context, length=reached)
    return [one.with_params(one.frozen(target)) for one in extensions]


def bind(
    extensions: Sequence[Extension],
    scheme: Scheme,
    length: int,
    trained: Sequence[Extension] = (),
    reached: int | None = None,
) -> Applied:
    """The extensions for one scheme at one length ℓ in tokens.

    Those that the model was ``trained`` with act at every length as they did where training ``reached`` so many
    positions (default: L). The others extend that: their s is ℓ / reached.
    """
    reached = reached or scheme.shape.context
    rotated, last = scheme.capabilities.rotated, scheme.last_position
    before = Target(scheme.shape.context, reached, last, rotated)
    if last is not None and any(one.changes == "positions" for one in trained):
        last = reached - 1  # training led all positions up to there into the table
    on_top = Target(reached, length, last, rotated)
    # By name, so that the order on the command line changes no bit of a result.
    return Applied(tuple(sorted(extensions, key=str)), on_top, tuple(sorted(trained, key=str)), before)
