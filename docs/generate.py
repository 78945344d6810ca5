"""Writes `docs/reference/` from the code: `make docs`. A test compares, so that the pages can't fall behind.

Words come from where they belong: docstrings of structs and handlers, the comment beside a setting, the help of a
verb, the catalogue.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

import click
import msgspec

from stead.model import config as config_model
from stead.model import intent as intent_model
from stead.model import workload as workload_model
from stead.model.catalog import Catalog, MetricCatalogEntry
from stead.model.observe import MetricSpec

FOLDER = Path(__file__).parent / "reference"
SOURCE = Path(config_model.__file__).parents[1]
NOTE = "<!-- Written by docs/generate.py (`make docs`): change the code, not this page. -->\n"


def row(*cells: str) -> str:
    """One line of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def head(*names: str) -> list[str]:
    """The first two lines of a table."""
    return [row(*names), "|" + "---|" * len(names)]


def code(text: object) -> str:
    """Text in a fixed-width font; nothing for nothing."""
    return f"`{text}`" if text not in ("", None) else ""


# configuration


def comments(module: ModuleType) -> dict[tuple[str, str], str]:
    """The comment beside each field of each struct of a module: (struct, field) → words."""
    source = inspect.getsource(module)
    beside = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for struct in (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)):
        for field in struct.body:
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                found[struct.name, field.target.id] = beside.get(field.end_lineno or 0, "")
    return found


def type_name(kind: Any) -> str:
    """A type as a person writes it."""
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "NoneType": "nothing"}
    origin, inside = getattr(kind, "__origin__", None), get_args(kind)
    if origin is dict:
        return f"map of {type_name(inside[1])}"
    if origin is tuple:
        return f"list of {type_name(inside[0])}"
    if inside and all(isinstance(each, str) for each in inside):
        return ", ".join(inside)
    if inside:
        return " or ".join(type_name(each) for each in inside)
    name: str = kind.__name__
    return names.get(name, name)


def default_of(field: msgspec.structs.FieldInfo) -> str:
    """A field's default as YAML would say it."""
    if field.required:
        return "needed"
    made = field.default_factory if field.default is msgspec.NODEFAULT else None
    value = made() if callable(made) else field.default
    built = msgspec.to_builtins(value)
    return "" if built is None or (isinstance(built, dict) and built) else code(json.dumps(built))


def settings(struct: type[msgspec.Struct], place: str, words: dict[tuple[str, str], str]) -> list[str]:
    """The rows of one section."""
    hints = get_type_hints(struct)
    return [
        row(
            code(f"{place}{field.encode_name}"),
            type_name(hints[field.name]),
            default_of(field),
            words.get((struct.__name__, field.name), ""),
        )
        for field in msgspec.structs.fields(struct)
    ]


def table(title: str, said: str, struct: type[msgspec.Struct], place: str, words: dict[tuple[str, str], str]) -> list[str]:
    """One section of the page of configuration."""
    return [f"{title}\n", f"{said}\n", *head("key", "type", "default", "meaning"), *settings(struct, place, words), ""]


def configuration() -> str:
    """Every key."""
    words = comments(config_model) | comments(workload_model) | comments(intent_model)
    lines = [
        "# Configuration\n",
        "Read in this order, later ones winning: `/etc/stead/stead.yaml`, `/etc/stead/conf.d/*.yaml`, the file named by",
        "`--config` or `STEAD_CONFIG`, and the environment (there `agent.interval_s` is `STEAD_AGENT__INTERVAL_S`).",
        "`config.yaml.example` has all of it with comments; `stead config check` names every mistake with file and line.\n",
    ]
    sections = get_type_hints(config_model.Config)
    known = {name: kind for name, kind in sections.items() if inspect.isclass(kind) and issubclass(kind, msgspec.Struct)}
    for name, kind in known.items():
        lines += table(f"## {name}", first_line(kind), kind, f"{name}.", words)
    probes, spec, health = config_model.ProbeConfig, workload_model.WorkloadSpec, workload_model.Health
    lines += table("## agent.probes.NAME", first_line(probes), probes, "agent.probes.NAME.", words)
    lines += table("## workloads", "A list. " + first_line(spec), spec, "workloads[].", words)
    lines += table("### workloads[].health", first_line(health), health, "workloads[].health.", words)
    said = "A list of patterns, or of maps with these keys: [protect the work that matters](../how-to/protect.md)."
    lines += table("## protect", said, intent_model.Protect, "protect[].", words)
    lines += table("### protect[].objective", first_line(goal := intent_model.Objective), goal, "protect[].objective.", words)
    lines += ["## Top level\n", *head("key", "type", "default", "meaning")]
    top = settings(config_model.Config, "", words)
    plain = (kind is str or name in ("protect", "best_effort") for name, kind in sections.items())
    lines += [line for line, shown in zip(top, plain, strict=True) if shown]
    return "\n".join(lines) + "\n"


def first_line(thing: Any) -> str:
    """What a docstring says first."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


# command line


def cli() -> str:
    """Every verb with its help."""
    group = import_module("stead.cli.root").stead
    lines = ["# Commands\n", *head("verb", "does")]
    verbs = {name: group.get_command(click.Context(group), name) for name in group.list_commands(click.Context(group))}
    lines += [row(f"[`stead {name}`](#stead-{name})", verb.get_short_help_str(200)) for name, verb in verbs.items()]
    lines += ["", "Options of `stead` itself:\n", *options(group), ""]
    for name, verb in verbs.items():
        lines += command(verb, f"stead {name}", 2)
    return "\n".join(lines).rstrip() + "\n"


def command(verb: click.Command, path: str, level: int) -> Iterator[str]:
    """One verb and those below it."""
    context = click.Context(verb, info_name=path)
    pieces = " ".join(verb.collect_usage_pieces(context))
    yield from (
        f"{'#' * level} {path}\n",
        f"```\n{path} {pieces}\n```\n",
        inspect.cleandoc(verb.help or "").replace("\b\n", "") + "\n",
    )
    if rows := options(verb):
        yield from (*rows, "")
    if verb.epilog:
        yield "```\n" + inspect.cleandoc(verb.epilog.replace("\b\n", "").replace("Examples:\n", "")) + "\n```\n"
    if isinstance(verb, click.Group):
        for name in verb.list_commands(context):
            below = verb.get_command(context, name)
            if below is not None:
                yield from command(below, f"{path} {name}", level + 1)


def options(verb: click.Command) -> list[str]:
    """The options of a verb as a table."""
    found = [param for param in verb.params if isinstance(param, click.Option) and not param.hidden]
    rows = []
    for param in found:
        kind = "" if param.is_flag else " " + param.make_metavar(click.Context(verb)).lstrip("[").rstrip("]")
        names = ", ".join((*param.opts, *param.secondary_opts))
        rows.append(row(code(names + kind), param.help or ""))
    return [*head("option", "meaning"), *rows] if rows else []


# metrics


def declared() -> dict[str, tuple[str, MetricSpec]]:
    """Every metric that a shipped probe or the agent itself declares: id → (probe, declaration)."""
    found: dict[str, tuple[str, MetricSpec]] = {}
    for folder in ("probes", "agent"):
        for path in sorted((SOURCE / folder).glob("*.py")):
            if folder == "agent" and "_probe" not in path.stem:
                continue
            module = import_module(f"stead.{folder}.{path.stem}")
            for name, kind in inspect.getmembers(module, inspect.isclass):
                specs = getattr(kind, "metrics", None)
                if kind.__module__ == module.__name__ and isinstance(specs, tuple):
                    found.update({spec.id: (getattr(kind, "name", name), spec) for spec in specs})
    return found


def bands(thresholds: Any) -> str:
    """Where warning and critical begin."""
    if thresholds is None:
        return ""
    pieces = []
    for name in ("warning", "critical"):
        for each in getattr(thresholds, name):
            low = f"{each.lower:g}" if each.lower is not None else ""
            high = f"{each.upper:g}" if each.upper is not None else ""
            pieces.append(f"{name} {low}…{high}")
    return ", ".join(pieces)


def judged(entry: MetricCatalogEntry, catalog: Catalog) -> str:
    """The row of one catalogued metric."""
    words = entry.description + (f" *(unsupported: {entry.unsupported})*" if entry.unsupported else "")
    answers = ", ".join(dict.fromkeys(playbook.playbook_id for playbook in catalog.answering(entry.metric_id)))
    lasts = f"{entry.for_s:g} s" if entry.thresholds else ""
    return row(code(entry.metric_id), entry.unit, words, bands(entry.thresholds), lasts, answers)


def metrics() -> str:
    """What is judged, then what is only measured, then the remedies."""
    catalog = import_module("stead.catalog").load_catalog("", known_metrics=None, actuators=None)
    measured = declared()
    lines = [
        "# Metrics and playbooks\n",
        "What the shipped catalogue judges. A metric without a source yet is *unsupported*, and says what is missing.\n",
    ]
    for category, title in import_module("stead.catalog").GROUPS.items():
        entries = [entry for entry in catalog.metrics.values() if entry.category == category]
        if entries:
            lines += [f"## {title}\n", *head("metric", "unit", "meaning", "bands", "for", "answered by")]
            lines += [*(judged(entry, catalog) for entry in entries), ""]
    lines += ["## Measured and not judged\n", *head("metric", "unit", "meaning", "probe")]
    lines += [
        row(code(spec.id), spec.unit, spec.help, probe)
        for spec, probe in sorted(
            ((spec, probe) for probe, spec in measured.values() if spec.id not in catalog.metrics), key=lambda it: it[0].id
        )
    ]
    lines += ["", "## Playbooks\n", *head("playbook", "risk", "tier", "does", "predicts")]
    for playbook in catalog.playbooks.values():
        words = (playbook.title or playbook.description) + (
            f" *(unsupported: {playbook.unsupported})*" if playbook.unsupported else ""
        )
        predicts = f"{playbook.predict.metric} {playbook.predict.direction}" if playbook.predict else ""
        lines.append(row(code(playbook.playbook_id), playbook.risk, str(playbook.tier), words, predicts))
    return "\n".join(lines) + "\n"


# events and ledger entries


TOPICS = {
    "metrics.<metric_id>": "the value of an evaluation interval of a catalogued metric: unit, subject, band (`MetricEvent`)",
    "samples": "every sample of one tick, and the busiest processes when they are new",
    "snapshots.taken": "the summaries of a window (five minutes by default) of every metric and subject (`MetricsSnapshot`)",
    "finding.opened": "a finding opened",
    "finding.changed": "a finding grew, or went from one band to the other",
    "finding.cleared": "a finding cleared",
    "metrics.action_recommended": "a remedy was proposed for a finding; its number is that of the ledger's entry of this type",
    "governance.policy.check": "the policy answered, first or again; its number is that of the ledger's entry that says so",
    "infrastructure.<what>": "something of the fleet or of what is installed changed; never without its entry in the ledger",
    "receipt.issued": "a run's receipt: its verdict stands, or it ended after it touched something",
    "run.<state>": "a run is in a new state; see the states in `docs/architecture.md`",
    "autonomy.changed": "mode, ceiling, lock or pause changed",
}


def topics_in_code() -> set[str]:
    """Every topic that is published, as the code says it: what is given to `event`, with the words that it is made of."""
    found: set[str] = set()
    for path in (SOURCE / "flow").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        words = {
            getattr(node.targets[0], "id", ""): texts(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and texts(node.value)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "event" and node.args:
                for topic in texts(node.args[0]):
                    variable = topic.partition("<")[2].rstrip(">")
                    found |= {topic.replace(f"<{variable}>", word) for word in words.get(variable, {f"<{variable}>"})}
    keep = import_module("stead.flow.keep")
    recorded = {*keep.TOLD, *keep.TOLD_AS.values()}
    found |= {{"run.": "run.<state>", "infrastructure.": "infrastructure.<what>"}.get(topic, topic) for topic in recorded}
    return {re.sub(r"<one.metric>", "<metric_id>", topic) for topic in found}


def texts(node: ast.expr) -> set[str]:
    """The strings that an expression may be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.JoinedStr):
        parts = (part.value for part in node.values if isinstance(part, ast.Constant | ast.FormattedValue))
        return {"".join(f"<{ast.unparse(part)}>" if isinstance(part, ast.expr) else str(part) for part in parts)}
    return texts(node.body) | texts(node.orelse) if isinstance(node, ast.IfExp) else set()


def entry_types() -> dict[str, str]:
    """Type of each ledger entry → when it is written, from the functions that build them."""
    found = {}
    places = {"entry": 0, "_finding": 0, "order": 0, "Entry": 1}  # where a call names the type
    for path in (SOURCE / name for name in ("flow/record.py", "flow/receipt.py", "ledger/orders.py", "ledger/opening.py")):
        for function in (node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)):
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call) and node.args):
                for text in texts(call.args[places[name]]) if (name := getattr(call.func, "id", "")) in places else ():
                    found[re.sub(r"<.*>", "<state>", text)] = (ast.get_docstring(function) or "").partition("\n")[0]
    return found


def events() -> str:
    """What is published, and what is recorded."""
    lines = [
        "# Events\n",
        "Copies of what happened, for whoever listens: on the agent's socket after `subscribe` with globs, and on the hub's",
        "WebSocket. Control never travels on them.\n",
        *head("topic", "when"),
        *(row(code(topic), words) for topic, words in TOPICS.items()),
        "\nAn event that says what the ledger says has `seq`, the number of that entry; the others have 0.\n",
        "# Ledger entries\n",
        "Each is one leaf: an RFC 8785 object with `id`, `type`, `host`, `ts`, `actor`, `prev_cause`, `v` and `body`. Long and",
        "personal detail is in a salted blob beside it, of which the leaf holds the hash. `stead ledger` reads them.\n",
        *head("type", "written when"),
        *(row(code(name), words) for name, words in sorted(entry_types().items())),
    ]
    return "\n".join(lines) + "\n"


# HTTP


def http() -> str:
    """Every path of the API, from its own OpenAPI document."""
    document = openapi()
    lines = [
        "# HTTP\n",
        "The hub listens on loopback, port 8000 by default. `/openapi.json` is complete, with every type. Every request needs",
        "the token, as `Authorization: Bearer …` or as the cookie of `POST /api/v1/session`, except where the table says *open*.",
        "Errors are RFC 9457.\n",
        *head("method", "path", "does", "answers"),
    ]
    for path, methods in sorted(document["paths"].items()):
        for method, operation in methods.items():
            if method in ("get", "post", "put", "delete", "patch"):
                security = operation.get("security", [{"bearer": []}])
                words = (operation.get("description") or operation.get("summary") or "").partition("\n")[0]
                answers = " ".join(sorted(operation["responses"]))
                lines.append(row(method.upper(), code(path), words + ("" if security else " *(open)*"), answers))
    lines += [
        "",
        "Not in the OpenAPI document: the WebSocket `/api/v1/live` (a snapshot, then deltas) and the page at `/`.",
        "",
    ]
    return "\n".join(lines)


def openapi() -> dict[str, Any]:
    """The document that the hub serves, without a hub."""
    app = import_module("stead.hub.app")
    keys = import_module("stead.hub.keys")
    gateway = import_module("stead.hub.gateway")
    door = import_module("stead.wire").AsyncDoor("/nowhere")
    application = app.create_app(gateway.Gateway(door, "uid:0"), keys.Token.of(keys.new_token(), "uid:0"))
    described = import_module("stead.hub.openapi").document(application)
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(described))
    return document


PAGES: dict[str, Callable[[], str]] = {
    "configuration.md": configuration,
    "cli.md": cli,
    "metrics.md": metrics,
    "events.md": events,
    "http.md": http,
}


def main(names: list[str]) -> int:
    """Write the pages (all, or those named)."""
    FOLDER.mkdir(exist_ok=True)
    for name in names or PAGES:
        (FOLDER / name).write_text(NOTE + PAGES[name](), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
