"""The shim over tensorrt and tensorrt_rtx: nothing there raises, so every answer is looked at."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from tests.factories import tiny_bundle
from vitrine.backends import _tensorrt_library as shim
from vitrine.backends import tensorrt
from vitrine.backends._tensorrt_library import Complaints, Library
from vitrine.errors import BadInput, Unavailable
from vitrine.progress import quiet

ERROR, WARNING, VERBOSE = 1, 2, 4


class Named:
    __name__ = "tensorrt"
    __version__ = "11.4.0"


def test_errors_are_quoted_before_warnings_and_idle_talk_is_dropped() -> None:
    complaints = Complaints()
    complaints.take(VERBOSE, "looking around")
    complaints.take(WARNING, "this may be slow")
    assert complaints.said() == "this may be slow"

    complaints.take(ERROR, "no such layer")
    assert complaints.said() == "no such layer"


def test_the_librarys_own_source_lines_are_left_out_where_others_are_there() -> None:
    complaints = Complaints()
    complaints.take(ERROR, "[checkMacros.cpp::catchCudaError::250] error 35")
    assert "checkMacros" in complaints.said()

    complaints.take(ERROR, "the shape does not fit")
    assert complaints.said() == "the shape does not fit"


def test_a_severity_that_is_no_number_is_kept_and_never_raises() -> None:
    complaints = Complaints()
    complaints.take(object(), "odd")

    assert complaints.said() == "odd"


def test_many_threads_may_complain_at_once() -> None:
    complaints = Complaints()
    threads = [threading.Thread(target=lambda: [complaints.take(ERROR, "x") for _ in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert complaints.said(100).count("x") == 64


@pytest.mark.parametrize("answer", [None, False, -1])
def test_an_empty_answer_is_an_error_with_the_librarys_words(answer: object) -> None:
    complaints = Complaints()
    complaints.take(ERROR, "out of memory")
    library = Library(Named(), False, None, complaints)

    with pytest.raises(Unavailable, match=r"^tensorrt 11\.4\.0 could not run a batch of 8: out of memory$"):
        library.checked(answer, "run a batch of 8")


@pytest.mark.parametrize("answer", [True, 0, 3, object()])
def test_any_other_answer_is_handed_on(answer: object) -> None:
    assert Library(Named(), False, None, Complaints()).checked(answer, "do it") is answer


def test_without_either_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(shim.importlib, "import_module", missing)
    with pytest.raises(Unavailable, match="neither tensorrt nor tensorrt_rtx is installed; install the gpu extra"):
        shim.library.__wrapped__()


def test_the_full_library_is_taken_before_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake(Named):
        ILogger = object

    monkeypatch.setattr(shim.importlib, "import_module", lambda _: Fake)
    monkeypatch.setattr(shim, "_logger", lambda *_: None)

    assert shim.library.__wrapped__().rtx is False


@pytest.fixture
def no_gpu() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("step", ["target", "load", "build"])
def test_without_a_driver_each_step_says_so_in_one_sentence(step: str, tmp_path) -> None:
    bundle = tiny_bundle(tmp_path / "b")
    steps = {
        "target": tensorrt.target,
        "load": lambda: tensorrt.load(bundle, threads=1, built=tmp_path),
        "build": lambda: tensorrt.build(bundle, precision="fp16", folder=tmp_path, calibration={}, track=quiet),
    }

    with pytest.raises(Unavailable, match="tensorrt needs an NVIDIA GPU and its driver") as error:
        steps[step]()
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("no_gpu")
def test_serving_with_it_ends_cleanly_and_never_by_a_signal(tmp_path) -> None:
    """A build of the library exists that kills the process where a runtime meets no driver: the guard comes first."""
    tiny_bundle(tmp_path / "b")
    code = (
        "from pathlib import Path\n"
        "from vitrine.bundle import read_bundle\n"
        "from vitrine.encoder import load_encoder\n"
        "from vitrine.errors import Unavailable\n"
        f"bundle = read_bundle(Path({str(tmp_path / 'b')!r}))\n"
        "try:\n"
        "    load_encoder(bundle, backend='tensorrt', engines=Path('.'))\n"
        "except Unavailable as error:\n"
        "    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)

    assert ran.returncode == 0, ran.stderr
    assert "needs an NVIDIA GPU" in ran.stdout


def test_a_precision_that_it_does_not_run_is_refused(tmp_path) -> None:
    with pytest.raises(BadInput, match="tensorrt runs fp16, bf16, fp32, not int8"):
        tensorrt.load(tiny_bundle(tmp_path / "b"), threads=1, precision="int8")


def test_without_torch_tensorrt_says_so_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed

    with pytest.raises(Unavailable, match="tensorrt keeps its buffers in torch, which is not installed; install it"):
        shim.need_driver()
