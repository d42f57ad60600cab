"""Flags and configuration files: upstream's syntax, refusals by name."""

import re
from pathlib import Path

import pytest

from machinery import settings
from machinery.errors import SettingsError
from machinery.settings import Flag, FlagSet

FLAGS = FlagSet(
    "kube-thing",
    [
        Flag("port", int, 6443),
        Flag("leader-elect", settings.boolean, True),
        Flag("names", settings.strings, []),
        Flag("labels", settings.mapping, {}),
        Flag("period", settings.duration, 1.0),
        Flag("v", int, 0),
    ],
    harmless=["profiling", "qps"],
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1m30s", 90.0), ("100ms", 0.1), ("1.5h", 5400.0), ("0", 0.0), ("-2s", -2.0), ("10us", 1e-5), ("0s", 0.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert settings.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.512, "512ms"),
        (1e-5, "10µs"),
        (1.5, "1.5s"),
        (10, "10s"),
        (80, "1m20s"),
        (300, "5m0s"),
        (3661, "1h1m1s"),
        (86400, "24h0m0s"),
        (-3600, "-1h0m0s"),
    ],
)
def test_durations_as_go_prints_them(seconds: float, text: str) -> None:
    assert settings.show_duration(seconds) == text


@pytest.mark.parametrize("text", ["", "5", "s", "1m30", "1 s", "abc", "1x"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        settings.duration(text)


def test_both_spellings_switches_lists_and_maps() -> None:
    values = FLAGS.parse(
        [
            "--port",
            "1",
            "--leader-elect=false",
            "--names=a,b",
            "--names",
            "c",
            "--labels=x=1,y=2",
            "-v=4",
            "--period=2m",
        ]
    )
    assert values == {
        "port": 1,
        "leader-elect": False,
        "names": ["a", "b", "c"],
        "labels": {"x": "1", "y": "2"},
        "v": 4,
        "period": 120.0,
    }


def test_a_harmless_flag_is_accepted_with_its_value() -> None:
    assert FLAGS.parse(["--qps", "5", "--profiling=false", "--port=2"])["port"] == 2


def test_the_version_is_told_as_upstreams_programs_tell_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        FLAGS.parse(["--version"])
    assert left.value.code == 0
    assert re.fullmatch(r"Kubernetes v1\.36\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nope"], "unknown or unsupported flag: --nope"),
        (["--port=x"], "invalid argument 'x' for --port"),
        (["--port"], "flag needs an argument: --port"),
        (["stray"], "unexpected argument 'stray'"),
        (["--period=1"], "invalid argument '1' for --period"),
    ],
)
def test_wrong_flags_are_refused_by_name(arguments: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        FLAGS.parse(arguments)


def test_a_configuration_file_of_another_kind_or_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    with pytest.raises(SettingsError, match="cannot read"):
        settings.load_config(file, "KubeletConfiguration", ["kubelet.config.k8s.io/v1beta1"])
    file.write_text("kind: Other\n")
    with pytest.raises(SettingsError, match="holds no KubeletConfiguration"):
        settings.load_config(file, "KubeletConfiguration", ["kubelet.config.k8s.io/v1beta1"])
    file.write_text("kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v9\n")
    with pytest.raises(SettingsError, match=r"has apiVersion 'kubelet.config.k8s.io/v9'"):
        settings.load_config(file, "KubeletConfiguration", ["kubelet.config.k8s.io/v1beta1"])
    file.write_text("a: [1\n")
    with pytest.raises(SettingsError, match="cannot parse"):
        settings.load_config(file, "KubeletConfiguration", ["kubelet.config.k8s.io/v1beta1"])
