"""posx show: what is measured is true, and what is drawn is what was measured, for every scheme that there is."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from helpers import ABSOLUTE, SCHEMES, gap, posx
from posx.analysis.panels.drawing import picture
from posx.analysis.panels.scheme import Lines, Map, bound, decay, decay_of, panels, similarity
from posx.analysis.probe import Layer, content, grid, matrix, parts, silence
from posx.analysis.properties import Properties, Subject, along_diagonals, measure, reach, subject, weight_by_distance
from posx.extensions.base import NONE
from posx.models.attention.context import Call
from posx.models.attention.dispatch import attend_rotated, plan
from posx.models.build import compose_run
from posx.models.decoder import Decoder, initialise
from posx.schemes.base import Scheme

SMALL = ("train.context=16", "model.d_model=32", "model.n_heads=4", "model.n_layers=2")
EMBED = {"learned", "learned-concat", "randomized", "shape", "sinusoidal", "sinusoidal-concat"}
ROTATE = {"layers", "p-rope", "partial-rope", "rope", "ssmax", "xpos"}


def given(name: str, *overrides: str, length: str = "4x") -> Subject:
    """A scheme in a model of 4 heads of 8 dimensions, trained at 16."""
    fewer = {"layers": ("scheme.layers=[rope,nope]",), "t5": ("scheme.buckets=8",)}.get(name, ())
    return subject(compose_run([f"scheme={name}", *SMALL, *fewer, *overrides]), length)


def measured(name: str, *overrides: str, length: str = "4x") -> Properties:
    return measure(given(name, *overrides, length=length))[0]


def lines(one: Subject, kind: str) -> Lines:
    (found,) = [panel for panel in panels(one) if panel.kind == kind]
    assert isinstance(found, Lines)
    return found


def maps(one: Subject, kind: str) -> Map:
    (found,) = [panel for panel in panels(one) if panel.kind == kind]
    assert isinstance(found, Map)
    return found


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---------------------------------------------------------------- rotations


def test_decay_and_bound_of_two_pairs_by_hand() -> None:
    """D = 4, b = 10000: θ = 1, 0.01. At d = 1: (cos 1 + cos 0.01) / 2, and (|e^i| + |e^i + e^0.01i|) / 2."""
    one = given("rope", "model.n_heads=8")
    theta = torch.tensor([1.0, 0.01])
    by_hand = (math.cos(1) + math.cos(0.01)) / 2
    assert float(decay_of(theta, 4, 64)[1]) == pytest.approx(by_hand, abs=1e-9)
    assert float(decay(one.scheme, one.positions)[0][0, 1]) == pytest.approx(by_hand, abs=1e-5)
    assert lines(one, "decay").values["every head"][1] == pytest.approx(by_hand, abs=1e-5)
    edge = (1 + math.hypot(math.cos(1) + math.cos(0.01), math.sin(1) + math.sin(0.01))) / 2
    assert lines(one, "bound").values[""][1] == pytest.approx(edge, abs=1e-6)
    assert lines(one, "bound").values[""][0] == pytest.approx((1 + 2) / 2)


@pytest.mark.parametrize("settings", [(), ("scheme.base=50",), ("scheme.fraction=0.5",)])
def test_the_bound_lies_above_all_logits_whose_pairs_differ_by_one_at_most(settings: tuple[str, ...]) -> None:
    """|Σ h_k e^{idθ_k}| ≤ max |h_{k+1} − h_k| Σ_j |S_j|, for many h and not for the drawn one alone."""
    one = given("rope", *settings, "model.d_model=128")
    shown = lines(one, "bound").values[""]
    assert (shown >= lines(one, "decay").values["every head"] - 1e-9).all()
    theta = torch.zeros(16, dtype=torch.float64)
    own = one.scheme.frequencies()  # type: ignore[operator]
    theta[: len(own)] = own
    turns = torch.exp(1j * torch.arange(64)[:, None] * theta)
    draw = torch.Generator().manual_seed(1)
    for _ in range(50):
        h = torch.randn(17, generator=draw, dtype=torch.float64)
        h[16] = 0
        size = (turns * h[:16]).sum(-1).abs() / h.diff().abs().max() * 2 / 32
        assert (size.numpy() <= bound(theta, 32, 64).numpy() + 1e-9).all()


def test_angles_are_positions_times_frequencies() -> None:
    angles = maps(given("rope"), "angles").values[""]
    assert angles.shape == (64, 4)
    for p in (0, 1, 17, 63):
        for k in range(4):
            apart = angles[p, k] - p * 10000 ** (-k / 4)
            assert abs((apart + math.pi) % (2 * math.pi) - math.pi) < 1e-5
    assert (maps(given("p-rope", "scheme.kept=0.5"), "angles").values[""][:, 2:] == 0).all()


def test_xpos_changes_norms_by_its_formula() -> None:
    """Most of all those of pair 0: ζ_0 = 0.4 / 1.4, counted from the middle, 31.5 tokens from both ends."""
    found = measured("xpos")
    assert found.norms == pytest.approx((0.4 / 1.4) ** (-31.5 / 512) - 1, rel=1e-4)
    assert found.distance_alone is not None
    assert found.distance_alone < 1e-4
    kinds = {panel.kind for panel in panels(given("xpos"))}
    assert "scale" in kinds
    assert "bound" not in kinds


def test_rope_keeps_norms_and_shifts_by_a_rotation() -> None:
    found = measured("rope")
    assert found.norms is not None
    assert found.shift is not None
    assert 0 < found.norms < 1e-6
    assert found.shift < 1e-5
    assert found.reach is None
    broken = measured("ssmax")
    assert broken.shift is not None
    assert broken.shift > 0.1
    assert broken.norms == pytest.approx(1.0)  # ln 1 = 0: the first query is nothing


# ---------------------------------------------------------------- vectors


def test_sinusoids_shift_by_a_rotation_and_learned_vectors_do_not() -> None:
    sinusoidal, learned = measured("sinusoidal").shift, measured("learned").shift
    assert sinusoidal is not None
    assert learned is not None
    assert sinusoidal < 1e-5
    assert learned > 0.1


def test_vectors_and_their_likeness_by_hand() -> None:
    one = given("sinusoidal-concat")
    vectors = maps(one, "vectors").values[""]
    assert vectors.shape == (64, 8)
    for p in (0, 5, 63):
        for k in range(4):
            assert vectors[p, 2 * k] == pytest.approx(math.sin(p * 10000 ** (-k / 4)), abs=1e-5)
            assert vectors[p, 2 * k + 1] == pytest.approx(math.cos(p * 10000 ** (-k / 4)), abs=1e-5)
    for d in (0, 1, 40):
        cosine = sum(math.cos(d * 10000 ** (-k / 4)) for k in range(4)) / 4
        assert lines(one, "similarity").values[""][d] == pytest.approx(cosine, abs=1e-5)
    assert float(similarity(torch.tensor([[2.0, 0.0], [0.0, 3.0]]))[1]) == 0


def test_learned_positions_are_shown_up_to_their_end(there: Path) -> None:
    one = given("learned")
    assert maps(one, "vectors").values[""].shape == (16, 32)
    shown = posx("show", "learned", *SMALL)
    assert "Positions end at 16, before the 64 that were asked for." in shown.stdout
    assert "training begins with (seed 0)" in shown.stdout
    assert json.loads(posx("show", "learned", "--json", *SMALL).stdout)["last_position"] == 15


# ---------------------------------------------------------------- logits and weights


def test_distance_alone_is_told_from_more_than_distance() -> None:
    assert measured("alibi").distance_alone == 0
    assert measured("nope").distance_alone == 0
    for name in set(SCHEMES) - {"linear-rope"}:
        found = measured(name).distance_alone
        assert found is not None
        assert found > 0.01 if name in (*ABSOLUTE, "ssmax") else found < 1e-4, name


def test_along_diagonals_of_numbers() -> None:
    nan = float("nan")
    logits = torch.tensor([[[1.0, nan, nan], [4.0, 1.0, nan], [9.0, 6.0, 1.0]]])
    spread = float(np.std([1, 4, 1, 9, 6, 1], ddof=1))
    assert along_diagonals(logits) == pytest.approx(2 / spread)
    assert along_diagonals(torch.where(logits.isnan(), nan, 5.0)) == 0


@pytest.mark.parametrize("heads", [4, 3])
def test_alibi_weighs_as_the_softmax_by_hand(heads: int) -> None:
    one = given("alibi", f"model.n_heads={heads}", "model.head_dim=8")
    slopes = [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8] if heads == 4 else [2.0**-4, 2.0**-8, 2.0**-2]
    shown = lines(one, "weight").values
    for head, slope in enumerate(slopes):
        exact = np.exp(-slope * np.arange(64, dtype=np.float64))
        exact /= exact.sum()
        assert np.abs(shown[f"head {head + 1}"] - exact).max() < 1e-6
    added = maps(one, "added")
    i, j = np.tril_indices(64)
    for head, slope in enumerate(slopes):
        values = added.values[f"head {head + 1}"]
        assert (values[i, j] == -slope * (i - j)).all()
        assert np.isnan(values[j[i > j], i[i > j]]).all()


def test_weights_known_by_heart() -> None:
    """nope gives each of 64 the same; a stick broken in halves; the nearest 61 of 64 hold 95 %."""
    nope = given("nope")
    assert np.abs(lines(nope, "weight").values["every head"] - 1 / 64).max() < 1e-8
    assert measured("nope").reach == (60, 60)
    sticks = lines(given("stick-breaking"), "weight").values["every head"]
    assert sticks[0] == 0
    assert np.abs(sticks[1:40] - 0.5 ** np.arange(1, 40)).max() < 1e-6


def test_reach_is_where_the_tail_ends() -> None:
    assert reach(torch.tensor([0.6, 0.3, 0.06, 0.04])) == 2
    assert reach(torch.tensor([0.96, 0.04])) == 0
    assert reach(torch.full((128,), 1 / 128)) == 121


def test_linear_attention_weighs_by_its_own_rule() -> None:
    """φ(0) = 1 in all dimensions: the decay, over the number of keys."""
    one = given("linear-rope")
    exact = decay_of(one.scheme.frequencies(), 8, 64) / 64  # type: ignore[operator]
    found = weight_by_distance(one, parts(one.scheme)[0])
    assert found is not None
    assert gap(found[0], exact.float()) < 1e-6


@pytest.mark.parametrize("name", ["alibi", "cope", "dape", "forgetting", "rope", "stick-breaking", "transformer-xl"])
def test_a_query_at_a_time_is_the_attention_of_the_model(name: str) -> None:
    """What the probe's weights make of values, against the output of posx.models.attention.dispatch."""
    one = given(name, length="24")
    told = content(one.scheme, one.positions, seed=3)
    with torch.no_grad():
        probed = matrix(Layer(one.scheme, one.positions, told), "weights").nan_to_num()
        flow = plan(one.scheme, one.positions, NONE, Call(1, 4)).at(told.x)
        q, k = one.scheme.rotate(told.q, told.k, flow.site(0, 24))
        v = torch.randn(1, 4, 24, 8, generator=torch.Generator().manual_seed(4))
        assert gap(probed @ v, attend_rotated(q, k, v, flow)) < 1e-5


def test_a_long_matrix_is_thinned_out_and_says_where() -> None:
    one = given("alibi", length="1000")
    added = maps(one, "added")
    assert added.places == grid(1000).tolist() == list(range(0, 1000, 4))
    assert added.values["head 1"][-1, 0] == -0.25 * 996
    assert float(matrix(Layer(one.scheme, one.positions, silence(one.scheme, one.positions)), "added")[0, 5, 2]) == -3


# ---------------------------------------------------------------- pictures


def axes(figure: Figure) -> list[Axes]:
    return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_is_drawn(name: str, there: Path) -> None:
    overrides = {"layers": ["scheme.layers=[rope,nope]"], "t5": ["scheme.buckets=8"]}.get(name, [])
    told = json.loads(posx("show", name, "-o", "drawn", "--json", *SMALL, *overrides).stdout)
    assert told["files"] == ["drawn.png", "drawn.svg"]
    assert sorted(path.name for path in there.iterdir()) == told["files"]
    with Image.open("drawn.png") as image:
        pixels = np.asarray(image.convert("L"), dtype=float)
    assert min(pixels.shape) > 400
    assert pixels.std() > 10
    root = ElementTree.parse("drawn.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    (first, *others) = told["parts"]
    assert (first["norms"] is not None) == (name in ROTATE)
    assert (first["shift"] is not None) == (name in ROTATE | EMBED)
    assert (first["reach"] is None) == (name in ROTATE | EMBED)
    assert [part["layers"] for part in others] == ([[2]] if name == "layers" else [])


@pytest.mark.parametrize(("name", "kind"), [("alibi", "added"), ("rope", "angles"), ("sinusoidal", "vectors")])
def test_heat_maps_hold_the_numbers(name: str, kind: str) -> None:
    one = given(name)
    figure = picture(one)
    drawn = [axis.images[0] for axis in axes(figure) if axis.images]
    wanted = list(maps(one, kind).values.values())
    assert len(drawn) == len(wanted)
    for image, values in zip(drawn, wanted, strict=True):
        shown = np.ma.filled(image.get_array(), np.nan)  # type: ignore[arg-type]
        assert np.array_equal(shown, values, equal_nan=True)
        low, high = image.get_clim()
        assert low <= np.nanmin(values)
        assert high >= np.nanmax(values)
        assert image.get_extent()[2:] == [63.5, -0.5]
    plt.close(figure)


def test_the_training_context_is_marked_where_there_is_more() -> None:
    def said(one: Subject) -> list[str]:
        figure = picture(one)
        found = [text.get_text() for axis in axes(figure) for text in axis.texts]
        plt.close(figure)
        return found

    assert said(given("rope")) == ["trained at 16"] * 3
    assert said(given("alibi")) == ["L = 16", "trained at 16"]
    assert said(given("rope", length="1x")) == []


def test_at_most_four_maps_and_eight_lines() -> None:
    one = given("alibi", "model.n_heads=12", "model.d_model=96")
    assert list(maps(one, "added").values) == ["head 1", "head 5", "head 8", "head 12"]
    names = list(lines(one, "weight").values)
    assert (len(names), names[0], names[-1]) == (8, "head 1", "head 12")


# ---------------------------------------------------------------- on the command line

OWN = '''
from dataclasses import dataclass

import torch
from posx.schemes.base import Scheme


@dataclass
class MirrorConfig:
    strength: float = 1.0


class Mirror(Scheme):
    """Signs change with each position, and token vectors fade."""

    Config = MirrorConfig
    formula = "q, k · (−1)^p; costs $1, x / (1 + p)"

    def embed(self, tokens, positions):
        return tokens / (1 + self.config.strength * positions[:, None])

    def prepare(self, positions, extension):
        return (1 - 2 * (positions % 2))[:, None].float()

    def rotate(self, q, k, site):
        return q * site.shared[site.q_start:], k * site.shared

    def bias(self, site):
        return lambda b, h, i, j: -0.1 * (h + 1) * site.distance(b, i, j)
'''


def test_a_scheme_of_ones_own_is_shown_by_what_it_does(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (there / "mirrors_of_mine.py").write_text(OWN)
    (there / "own" / "scheme").mkdir(parents=True)
    (there / "own" / "scheme" / "mirror.yaml").write_text("_target_: mirrors_of_mine.Mirror\n")
    monkeypatch.syspath_prepend(str(there))
    told = json.loads(posx("show", "mirror", "--config-dir", "own", "--trust", "--json", *SMALL).stdout)
    (part,) = told["parts"]
    assert part["kind"] == "Mirror"
    assert part["norms"] == 0
    assert part["shift"] > 0.1  # of the embedding
    # The least d with r^(d+1) < 0.05 + 0.95 r^64, r = e^(−0.1 h): 7.49 and 29.6 for h = 4 and 1.
    assert part["reach"] == [7, 29]
    assert (there / "mirror.png").stat().st_size > 10_000
    one = subject(compose_run(["scheme=mirror", *SMALL], there / "own", True), "4x", True)
    kinds = [panel.kind for panel in panels(one)]
    assert kinds == ["vectors", "similarity", "turned", "decay", "added", "weight"]
    assert maps(one, "vectors").values[""][3, 0] == pytest.approx(1 / 4)
    assert maps(one, "turned").values[""][:3, 0].tolist() == [1, -1, 1]
    assert lines(one, "decay").values["every head"][:4].tolist() == [1, -1, 1, -1]


def test_what_is_printed(there: Path) -> None:
    result = posx("show", "rope", "scheme.base=500", *SMALL, "-o", "figure.svg")
    assert "figure.svg" in result.stdout.splitlines()
    assert [path.name for path in there.iterdir()] == ["figure.svg"]
    row = next(line for line in result.stdout.splitlines() if "norms of q and k" in line)
    assert "yes" in row
    assert "Next: posx train --scheme rope scheme.base=500" in result.stderr
    posx("show", "nope", *SMALL, "-o", "figure.pdf")
    assert (there / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_overrides_reach_the_scheme_and_the_model() -> None:
    one = given("rope", "scheme.base=50", "model.head_dim=4", "train.seed=5", length="20")
    assert maps(one, "angles").values[""][1].tolist() == pytest.approx([1, 50**-0.5])
    assert (one.length, one.seed) == (20, 5)
    tables = [given("learned", f"train.seed={seed}").scheme.table for seed in (0, 0, 1)]
    assert torch.equal(tables[0], tables[1])  # type: ignore[arg-type]
    assert not torch.equal(tables[0], tables[2])  # type: ignore[arg-type]


def test_what_is_shown_is_what_training_begins_with() -> None:
    config = compose_run(["scheme=learned", *SMALL])
    one = subject(config, "1x")
    other = given("learned").scheme
    assert isinstance(other, Scheme)
    model = Decoder(config.model, other, 61)
    initialise(model, 0)
    assert torch.equal(one.scheme.table, model.scheme.table)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "wants a scheme"),
        (["scheme.base=500"], "wants a scheme"),
        (["rop"], "Did you mean"),
        (["rope", "alibi"], "is not an override"),
        (["rope", "scheme=alibi"], "contradict each other"),
        (["rope", "-o", "x.jpg"], "not drawn as .jpg"),
        (["rope", "-o", "missing/x.png"], "There is no folder missing"),
        (["rope", "-o", "."], "is a folder"),
        (["rope", "--length", "0.5x"], "at least 1"),
        (["rope", "--length", "far"], "is not a length"),
        (["rope", "--length", "1"], "2 to 8,192 positions"),
        (["rope", "--length", "1000x"], "2 to 8,192 positions"),
        (["rope", "model.n_heads=3"], "n_heads"),
        (["rope", "scheme.slope=3"], "slope"),
        (["alibi", "eval.stride=3"], "is a setting of an evaluation"),
        (["rope", "train.extension=pi"], "no part of a scheme"),
        (["rope", "--config-dir", "nowhere"], "is not a directory"),
    ],
)
def test_mistakes_are_sentences(arguments: list[str], said: str, there: Path) -> None:
    result = posx("show", *arguments, code=2)
    assert result.stdout == ""
    assert said in result.stderr
    assert list(there.iterdir()) == []
