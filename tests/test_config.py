from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import yaml

from stead.config import check_aims, check_config, find_paths, load_config, notes
from stead.model.config import Config, Paths, ProbeConfig
from stead.model.errors import SteadError
from stead.model.workload import Health, WorkloadSpec

ROOT = Path(__file__).parents[1]


@pytest.fixture
def load(tmp_path):
    """Load with nothing but what the test gives."""
    etc = tmp_path / "etc"
    (etc / "conf.d").mkdir(parents=True)

    def run(text: str = "", environ: dict[str, str] | None = None, **files: str) -> tuple[Config, Paths]:
        for name, content in files.items():
            (etc / "conf.d" / f"{name}.yaml").write_text(content)
        (etc / "stead.yaml").write_text(text)
        return load_config(environ={"STEAD_STATE_DIR": "/s", **(environ or {})}, etc=str(etc))

    return run


def test_without_any_file_the_defaults_hold(tmp_path):
    config, paths = load_config(environ={"STEAD_STATE_DIR": "/s"}, etc=str(tmp_path / "none"))
    assert config == Config()
    assert paths == Paths("/s", "/s/run", "/s/log")


def test_later_wins_and_maps_join(load, tmp_path):
    named = tmp_path / "mine.yaml"
    named.write_text("agent: {labels: {c: named}}\nhub: {port: 3}\n")
    config, paths = load(
        "agent: {interval_s: 2, labels: {a: main, b: main}}\nhub: {port: 1}\n",
        {"STEAD_CONFIG": str(named), "STEAD_AGENT__LABELS__D": "env", "STEAD_LOG__METRICS": "true"},
        b="hub: {port: 22}\n",
        a="agent: {labels: {b: conf}}\nhub: {port: 2}\n",
    )
    assert config.agent.interval_s == 2.0
    assert config.agent.labels == {"a": "main", "b": "conf", "c": "named", "d": "env"}
    assert (config.hub.port, config.log.metrics) == (3, True)
    assert paths.config == str(named)
    assert load(environ={"STEAD_HUB__PORT": "4"})[0].hub.port == 4


def test_the_environment_is_yaml(load):
    config, _ = load(environ={"STEAD_AGENT__ADMINS": "[1000, 1001]", "STEAD_SAFETY__SOLO": "yes", "STEAD_CRASH_AT": "act.x"})
    assert config.agent.admins == (1000, 1001)
    assert config.safety.solo is True


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("agent:\n  intervall_s: 1\n", "unknown key agent.intervall_s", 2),
        ("agnet: {}\n", "unknown key agnet", 1),
        ("agent:\n  probes:\n    cpu: {enabld: false}\n", "unknown key agent.probes.cpu.enabld", 3),
        ("hub:\n  port: web\n", "hub.port should be a whole number, and is a text", 2),
        ("\nhub: {port: 65536}\n", "hub.port is 65536", 2),
        ("agent: {interval_s: 0}\n", "agent.interval_s is 0", 1),
        ("agent: {interval_s: .nan}\n", "agent.interval_s is nan", 1),
        ("agent:\n  probes:\n    cpu:\n      timeout_s: -1\n", "agent.probes.cpu.timeout_s is -1", 4),
        ("agent: {interval_s: 60, snapshot_s: 30}\n", "agent.snapshot_s is shorter", 1),
        ("store:\n  flush_s: 0\n", "store.flush_s is 0", 2),
        ("safety: {mode: automatic}\n", "safety.mode should be observe, advise or act, and is 'automatic'", 1),
        ("agent: {admins: [-1]}\n", "agent.admins[0] is -1", 1),
        ("workloads:\n- {name: a, argv: [x]}\n- {name: a, argv: [x]}\n", "two workloads are named a", 3),
        ("workloads:\n- {name: a, argv: []}\n", "the workload a has no command", 2),
        ("workloads:\n- {name: a/b, argv: [x]}\n", "'a/b' can't name a workload", 2),
        ("workloads:\n- {name: a}\n", "workloads[0] lacks the key argv", 2),
        ("workloads:\n- {name: a, argv: [x], workers: 9}\n", "the workload a has workers 9 outside 1 to 8", 2),
        ("workloads:\n- {name: a, argv: [x], port: 65530}\n", "the workload a has port 65530", 2),
        ("agent: [1]\n", "agent should be a map, and is a list", 1),
        ("agent: {\n", "this is not YAML", 2),
        ("hub: {port: 1}\nhub: {port: 2}\n", "the key hub is given twice", 2),
    ],
)
def test_a_mistake_is_one_sentence_with_its_line(load, tmp_path, text, what, line):
    with pytest.raises(SteadError) as raised:
        load(text)
    problem = raised.value.problem
    assert problem.what.startswith(what)
    assert problem.where == f"{tmp_path}/etc/stead.yaml, line {line}"
    assert problem.fix and problem.exit_code == 2
    assert "\n" not in str(problem)


def test_a_near_word_is_offered(load):
    with pytest.raises(SteadError, match="did you mean interval_s"):
        load("agent: {intervall_s: 1}")


def test_a_mistake_in_the_environment_names_the_variable(load):
    with pytest.raises(SteadError, match="environment STEAD_HUB__PROT") as raised:
        load(environ={"STEAD_HUB__PROT": "1"})
    assert raised.value.problem.what == "unknown key hub.prot"


def test_a_file_that_was_named_must_be_there(load, tmp_path):
    with pytest.raises(SteadError, match="can't read it"):
        load(environ={"STEAD_CONFIG": str(tmp_path / "absent.yaml")})


def test_all_mistakes_are_found_at_once(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("hub: {prot: 1}\nlog: {keep: x}\nagent: {host_name: 3}\n")
    assert [problem.where for problem in check_config([str(file)])] == [f"{file}, line {n}" for n in (1, 2, 3)]
    file.write_text("hub: {port: 1}\n")
    assert check_config([str(file)]) == []
    assert [p.what for p in check_config([str(tmp_path / "absent")])] == ["can't read it: No such file or directory"]


@pytest.mark.parametrize(
    ("safety", "mode", "note"),
    [
        ("{simulation_mode: true}", "advise", False),
        ("{simulation_mode: true, mode: act}", "advise", True),
        ("{simulation_mode: true, mode: observe}", "observe", False),
        ("{simulation_mode: false}", "advise", True),
        ("{simulation_mode: false, mode: act}", "act", False),
        ("{simulation_mode: false, mode: observe}", "observe", False),
    ],
)
def test_simulation_mode_never_makes_stead_act(load, tmp_path, safety, mode, note):
    config, _ = load(f"safety: {safety}\n")
    assert config.safety.mode == mode
    found = check_config([str(tmp_path / "etc" / "stead.yaml")])
    assert bool(found) is note
    assert all(problem.exit_code == 0 and problem.where.endswith("line 1") for problem in found)


def test_a_note_is_given_for_a_loaded_configuration(load):
    assert [n.code for n in notes(load("safety: {simulation_mode: false}")[0])] == ["config.note"]
    assert notes(load("safety: {mode: act}")[0]) == []


def test_protected_patterns_are_joined(load):
    config, _ = load("safety: {protected: [a, b], protected_patterns: [b, c]}\n")
    assert config.safety.protected == ("a", "b", "c")


@pytest.mark.parametrize(
    ("state", "environ", "uid", "expected"),
    [
        (None, {}, 0, ("/var/lib/stead", "/run/stead", "/var/log/stead")),
        (None, {"STEAD_STATE_DIR": "/x"}, 0, ("/x", "/x/run", "/x/log")),
        ("/y", {"STEAD_STATE_DIR": "/x"}, 0, ("/y", "/y/run", "/y/log")),
        (None, {"HOME": "/home/u"}, 1000, tuple(f"/home/u/.local/state/stead{end}" for end in ("", "/run", "/log"))),
        (None, {"HOME": "/h", "XDG_STATE_HOME": "/xdg"}, 1, ("/xdg/stead", "/xdg/stead/run", "/xdg/stead/log")),
        (None, {"HOME": "/h", "XDG_STATE_HOME": "relative"}, 1, tuple(f"/h/.local/state/stead{e}" for e in ("", "/run", "/log"))),
    ],
)
def test_paths(state, environ, uid, expected):
    paths = find_paths(state, environ, uid)
    assert (paths.state, paths.run, paths.log) == expected


def test_a_relative_state_directory_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_paths("here", {}).state == str(tmp_path / "here")


def test_a_path_too_long_for_a_socket_is_said_at_once(tmp_path):
    with pytest.raises(SteadError, match="too long for a socket"):
        load_config(state_dir="/" + "x" * 120, environ={}, etc=str(tmp_path))


def test_the_policy_of_the_host_is_found(load, tmp_path):
    policy = tmp_path / "etc" / "policy.yaml"
    policy.write_text("rules: []\n")
    assert load()[1].policy == str(policy)
    assert load("policy: /mine.yaml\n")[1].policy == "/mine.yaml"


@pytest.mark.parametrize("name", ["config.yaml.example", "config.dev.yaml"])
def test_the_files_in_the_repository_are_right(name):
    assert check_config([str(ROOT / name)]) == []


def test_the_example_has_every_key_and_the_defaults():
    example = yaml.safe_load((ROOT / "config.yaml.example").read_text())
    keys = {
        name: set(section.__struct_fields__) for name, section in msgspec.structs.asdict(Config()).items() if name in SECTIONS
    }
    assert set(example) == set(Config.__struct_fields__)
    assert {name: set(example[name]) for name in keys} == keys
    workload = example["workloads"][0]
    assert set(workload) == set(WorkloadSpec.__struct_fields__)
    assert set(workload["health"]) == set(Health.__struct_fields__)
    (probe,) = example["agent"]["probes"].values()
    assert set(probe) == set(ProbeConfig.__struct_fields__)
    without = {**example, "workloads": [], "agent": {**example["agent"], "probes": {}}}
    assert msgspec.convert(without, Config) == Config()


SECTIONS = ("agent", "hub", "store", "safety", "log")


def test_an_intent_is_written_as_patterns_or_as_maps(load):
    text = "protect: ['service:web', {name: db, match: [postgres*], objective: {pressure: io, below: 2}}]\nbest_effort: [make]\n"
    intent = load(text)[0].intent
    assert [(one.title, one.match) for one in intent.protect] == [("service:web", ("service:web",)), ("db", ("postgres*",))]
    assert intent.protect[1].objective.below == 2
    assert intent.best_effort == ("make",)


def test_an_intent_that_would_slow_ssh_is_refused_with_file_and_line(load, tmp_path):
    text = "protect:\n  - name: web\n    match:\n      - web\n      - servce:db\nbest_effort:\n  - make\n  - ssh*\n"
    with pytest.raises(SteadError, match="servce:db"):
        load(text)
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    found = check_config([str(file)])
    assert [(one.where, one.exit_code) for one in found] == [(f"{file}, line 5", 2), (f"{file}, line 8", 2)]
    assert "ssh* covers" in found[1].what and "never slowed" in found[1].what


def test_an_objective_that_nothing_tells_of_is_a_mistake_with_file_and_line(tmp_path):
    aims = ["{metric: api.latncy_p95, below: 9}", "{metric: api.latency_p95, below: 9, subject: 'workload:wbe'}"]
    aims += ["{metric: api.latency_p95, below: 9, subject: 'workload:web'}", "{pressure: io, below: 2}"]
    file = tmp_path / "mine.yaml"
    protect = "".join(f"  - name: n{at}\n    match: [m{at}]\n    objective: {aim}\n" for at, aim in enumerate(aims))
    file.write_text(f"workloads:\n  - {{name: web, argv: [x]}}\nprotect:\n{protect}")
    found = check_aims({"api.latency_p95", "infra.psi_cpu"}, [str(file)])
    assert [(one.where, one.fix, one.exit_code) for one in found] == [
        (f"{file}, line 6", "did you mean api.latency_p95?", 2),
        (f"{file}, line 9", "did you mean web?", 2),
    ]
    assert "the objective of n0 is about api.latncy_p95, which nothing here tells of" in found[0].what
