"""Settings from a file and from the environment."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from services.config import TABLE, Settings, read, read_settings
from vitrine.errors import BadInput, NotFound

ROOT = Path(__file__).resolve().parents[2]


def file(folder: Path, text: str) -> dict[str, str]:
    path = folder / "vitrine.yaml"
    path.write_text(text)
    return {"VITRINE_CONFIG": str(path)}


def test_bulk_lengthens_a_run_of_the_model_by_as_much_as_is_set() -> None:
    assert read_settings({"VITRINE_BULK_MS": "40"}).limits.bulk_ms == 40.0


def test_every_field_is_in_the_table_once() -> None:
    keys = [row.key for row in TABLE]

    assert len(set(keys)) == len(keys) == len({row.env for row in TABLE})
    assert {field.name for field in fields(Settings)} <= set(keys)


def test_every_setting_is_in_the_docs() -> None:
    page = (ROOT / "docs/serving.md").read_text()

    assert [row.key for row in TABLE if f"| `{row.key}` | `{row.env}` | {row.what} |" not in page] == []


def test_nothing_set_means_the_defaults() -> None:
    assert read_settings({"PATH": "/bin"}) == Settings()


@pytest.mark.parametrize("name", ["VITRINE_CA", "VITRINE_CERT", "VITRINE_KEY", "VITRINE_ACTOR", "VITRINE_DATA"])
def test_what_commands_and_clients_read_may_be_set_beside_a_server(name: str) -> None:
    assert read_settings({name: "somewhere.pem"}) == Settings()


def test_the_environment_sets_typed_values() -> None:
    found = read_settings({"VITRINE_MODEL": "shop", "VITRINE_MAX_BATCH": "64", "VITRINE_MAX_WAIT_MS": "0.5"})

    assert found == Settings(model="shop", max_batch=64, max_wait_ms=0.5)


def test_a_file_sets_values_and_the_environment_wins(tmp_path: Path) -> None:
    environ = file(tmp_path, "model: shop\nmax_batch: 64\nmax_wait_ms: 1\n")

    found = read_settings(environ | {"VITRINE_MAX_BATCH": "8"})

    assert found == Settings(model="shop", max_batch=8, max_wait_ms=1.0)


def test_what_a_file_says_of_the_home_holds_for_every_reader(tmp_path: Path) -> None:
    environ = file(tmp_path, "home: /srv/vitrine\nqdrant_url: http://qdrant:6333\n") | {"QDRANT_URL": "http://here"}

    found = read(environ).environ

    assert (found["VITRINE_HOME"], found["QDRANT_URL"]) == ("/srv/vitrine", "http://here")


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    assert read_settings(file(tmp_path, "# nothing yet\n")) == Settings()


def test_a_container_listens_on_all_addresses_unless_told_otherwise() -> None:
    inside = {"BENTOML_CONTAINERIZED": "true"}

    assert read_settings(inside).grpc_addr == "0.0.0.0:50051"
    assert read_settings(inside | {"VITRINE_GRPC_ADDR": "127.0.0.1:1"}).grpc_addr == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("VITRINE_MAX_BATCH", "many", "VITRINE_MAX_BATCH is 'many', it must be a whole number"),
        ("VITRINE_MAX_BATCH", "1.5", "VITRINE_MAX_BATCH is '1.5', it must be a whole number"),
        ("VITRINE_QUEUE", "0", "VITRINE_QUEUE is 0, it must be 1 or more"),
        ("VITRINE_MAX_WAIT_MS", "nan", "VITRINE_MAX_WAIT_MS is nan, it must be 0 or more"),
        ("VITRINE_GRACE_S", "inf", "VITRINE_GRACE_S is 'inf', it must be a number"),
        ("VITRINE_TRACE_SHARE", "2", "VITRINE_TRACE_SHARE is 2, it must be at most 1"),
        ("VITRINE_LOG_LEVEL", "loud", "VITRINE_LOG_LEVEL is 'loud', it must be one of debug, info, warning, error"),
        ("VITRINE_SERVE_BATCH", "3", "VITRINE_SERVE_BATCH is no setting of the server; known: VITRINE_MODEL"),
        ("VITRINE_MAX_BACTH", "3", r"VITRINE_MAX_BACTH is no setting of the server; did you mean VITRINE_MAX_BATCH\?"),
        ("VITRINE_HTTP_TIMEOUT_S", "60", "VITRINE_HTTP_TIMEOUT_S is 60, it must be at most 55"),
        (
            "VITRINE_GRPC_ADDR",
            "garbage",
            r"VITRINE_GRPC_ADDR\) is 'garbage', it must be HOST:PORT such as 127.0.0.1:50051",
        ),
        ("VITRINE_GRPC_ADDR", "127.0.0.1:70000", "is '127.0.0.1:70000', it must be HOST:PORT"),
        ("VITRINE_GRPC_ADDR", ":50051", "is ':50051', it must be HOST:PORT"),
        ("VITRINE_BACKEND", "onxruntime", r"VITRINE_BACKEND\) is 'onxruntime', it must be one of auto, onnxruntime, "),
        ("VITRINE_PRECISION", "int9", r"VITRINE_PRECISION\) is 'int9', it must be one of fp32, fp16, bf16, int8"),
        ("VITRINE_INDEX", "foo", r"VITRINE_INDEX\) is 'foo', it must be one of exact, qdrant"),
        ("VITRINE_OTLP_ENDPOINT", "collector", "VITRINE_OTLP_ENDPOINT is 'collector', it must be http://HOST:PORT"),
        ("VITRINE_TLS_CERT", "a.pem", "TLS takes both tls_cert and tls_key"),
        ("VITRINE_TLS_CLIENT_CA", "a.pem", "tls_client_ca asks clients for certificates; that needs tls_cert"),
    ],
)
def test_a_wrong_setting_is_refused(name: str, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_settings({name: text})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_bacth: 3", r"max_bacth is no setting; did you mean max_batch"),
        ("colour: red", r"colour is no setting; known: model, grpc_addr"),
        ("max_batch: yes", "max_batch is True, it must be a whole number"),
        ("max_batch: 1.5", "max_batch is 1.5, it must be a whole number"),
        ("model: 7", "model is 7, it must be a text; put it in quotes"),
        ("- model", "must hold lines of KEY: VALUE, it holds a list"),
        ("model: [", "is no YAML"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_settings(file(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"VITRINE_CONFIG names .*none.yaml, which cannot be read: No such file"):
        read_settings({"VITRINE_CONFIG": str(tmp_path / "none.yaml")})


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::]:50051", "localhost:50051"])
def test_an_address_that_can_be_listened_on_is_taken(address: str) -> None:
    assert read_settings({"VITRINE_GRPC_ADDR": address}).grpc_addr == address


def test_names_of_other_programs_are_left_alone() -> None:
    assert read_settings({"VITRINE_DATA": "/photos", "VITRINE_WAREHOUSE": "north"}) == Settings()


def test_what_is_printed_is_yaml_with_sources_and_without_secrets(tmp_path: Path) -> None:
    environ = file(tmp_path, "max_batch: 64\nregistry_url: postgresql://shop:hunter2@db/vitrine\n")

    lines = read(environ | {"QDRANT_API_KEY": "hunter3", "VITRINE_QUEUE": "9"}).lines()

    printed = "\n".join(lines)
    assert "hunter" not in printed
    told = yaml.safe_load(printed)
    assert (told["registry_url"], told["qdrant_api_key"]) == ("postgresql://shop:***@db/vitrine", "***")
    assert any(
        line.startswith("max_batch: 64 ") and line.endswith(f"# file: {environ['VITRINE_CONFIG']}") for line in lines
    )
    assert any(line.startswith("queue: 9 ") and line.endswith("# environment: VITRINE_QUEUE") for line in lines)


def test_what_is_printed_reads_back_as_the_same(tmp_path: Path) -> None:
    before = read({"VITRINE_MODEL": "shop", "VITRINE_MAX_WAIT_MS": "0.25", "VITRINE_GRPC_ADDR": "[::]:1"})

    assert read(file(tmp_path, "\n".join(before.lines()))).settings == before.settings


def vitrine_serve(folder: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("VITRINE_", "QDRANT_"))}
    return subprocess.run(
        [sys.executable, "-c", "from vitrine.cli import main; main()", "serve", *options],
        cwd=ROOT,
        env=kept | {"VITRINE_HOME": str(folder / "home")} | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_the_settings_that_hold(tmp_path: Path) -> None:
    path = file(tmp_path, "max_batch: 64\ngrace_s: 3\n")["VITRINE_CONFIG"]

    printed = vitrine_serve(tmp_path, "--config", path, "--grpc-port", "7", "--print-config", VITRINE_MAX_BATCH="8")

    told = yaml.safe_load(printed.stdout)
    assert (told["max_batch"], told["grace_s"], told["grpc_addr"]) == (8, 3, "127.0.0.1:7")


def test_the_command_refuses_a_wrong_file_before_it_starts_anything(tmp_path: Path) -> None:
    told = vitrine_serve(tmp_path, "--config", file(tmp_path, "max_bacth: 3")["VITRINE_CONFIG"])

    assert told.returncode == 2
    assert "max_bacth is no setting; did you mean max_batch?" in told.stderr


@pytest.mark.parametrize(("mine", "other"), [("--port", "--grpc-port"), ("--grpc-port", "--port")])
def test_the_command_says_which_port_is_taken_and_what_to_do(tmp_path: Path, mine: str, other: str) -> None:
    with socket.socket() as taken, socket.socket() as free:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free.bind(("127.0.0.1", 0))
        port, another = taken.getsockname()[1], free.getsockname()[1]
        free.close()
        told = vitrine_serve(tmp_path, mine, str(port), other, str(another))

    assert told.returncode == 6
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; end the server that is there" in told.stderr
    assert f"or choose another {mine}" in " ".join(told.stderr.split())


def test_the_bento_ends_with_the_sentence_alone(tmp_path: Path) -> None:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("VITRINE_")}
    told = subprocess.run(
        [sys.executable, "-c", "import services.bento"],
        cwd=ROOT,
        env=environ | {"VITRINE_QUEUE": "0", "BENTOML_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (told.returncode, told.stderr) == (2, "error: VITRINE_QUEUE is 0, it must be 1 or more\n")
