"""The configuration of agent and hub, as a value. `stead.config` loads it from YAML and the environment."""

from __future__ import annotations

from typing import Literal

import msgspec

from stead.model.intent import Intent, Protect
from stead.model.policy import Mode, Profile
from stead.model.workload import WorkloadSpec


class ProbeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One probe's own timing; None keeps its default."""

    enabled: bool = True  # false: it is not read at all
    interval_s: float | None = None
    timeout_s: float | None = None


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The daemon on a host."""

    interval_s: float = 1.0  # one tick; no probe is read more often
    snapshot_s: float = 300.0  # a window that is summarised
    admins: tuple[int, ...] = ()  # further uids that may approve, undo and set modes
    labels: dict[str, str] = {}  # of this host; rules of the policy can name them
    probes: dict[str, ProbeConfig] = {}  # by name
    host_name: str = ""  # empty: the system's own


class HubConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The process for people: HTTP on loopback."""

    bind: str = "127.0.0.1"  # address to listen on
    port: int = 8000  # 0: any free one
    user: str = ""  # drop to this user when started as root; empty: "stead" if it exists, else "nobody"
    hosts: tuple[str, ...] = ()  # further names by which browsers may call it (a proxy's); loopback's are always allowed


class StoreConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long detail is kept on the host."""

    raw_days: float = 7.0  # values as they were read
    snapshot_days: float = 30.0  # summaries of five minutes
    hour_days: float = 400.0  # summaries of an hour
    flush_s: float = 10.0  # at most this much is lost by kill -9


class LedgerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of this host's record, and who vouches for it: witnesses that cosign its checkpoints."""

    policy: str = ""  # a tlog-policy file: the witnesses (name, vkey, URL) and their quorum; empty: none cosigns
    witness_interval_s: float = 300.0  # how often a checkpoint that moved is submitted
    witness_timeout_s: float = 10.0  # for all witnesses together; whoever is slower is unknown
    key_overlap_days: float = 30.0  # how long the old key goes on signing after `stead ledger key --rotate`
    keep_days: float = 90.0  # how long runs and findings are listed after they ended, 1 at least; their entries stay for ever
    require_witness_at_start: bool = False  # true: record and change nothing before a witness has cosigned


class WitnessConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose record this host vouches for: the logs that it cosigns as a C2SP tlog-witness."""

    logs: tuple[str, ...] = ()  # their vkeys, as `stead ledger key` prints them there
    policy: str = ""  # a tlog-policy file whose `log` lines are cosigned too


class SafetyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The limits of what stead may do here. Aliases of the seeds: simulation_mode (true: mode advise), protected_patterns."""

    mode: Mode = "advise"  # at first start; afterwards `stead mode` decides
    profile: Profile = "balanced"  # how high a tier acts alone at first: none, 1, or 2
    protected: tuple[str, ...] = ()  # names that nothing may touch, beyond the built-in ones and the policy's; shell globs
    simulation_mode: bool | None = None  # alias of the seeds; true: mode advise
    protected_patterns: tuple[str, ...] = ()  # alias of the seeds for `protected`
    solo: bool | None = None  # a one-person host; overrules the policy's `solo`


class LogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """JSON lines in stead.log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    max_bytes: int = 10_000_000  # then the file is turned over
    keep: int = 5  # old files
    metrics: bool = False  # one line of all metric values an interval


class Paths(msgspec.Struct, frozen=True):
    """Where things are. With STEAD_STATE_DIR, --state or without root, all live under the state directory."""

    state: str
    run: str  # holds agent.sock, pause
    log: str
    config: str = ""
    policy: str = ""

    @property
    def socket(self) -> str:
        """The agent's door."""
        return f"{self.run}/agent.sock"

    @property
    def pause(self) -> str:
        """While this file exists nothing is changed."""
        return f"{self.run}/pause"

    @property
    def token(self) -> str:
        """The hub's token for people, 0600."""
        return f"{self.state}/token"

    @property
    def hub_key(self) -> str:
        """What the hub proves itself to the agent with, 0600."""
        return f"{self.state}/hub.key"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be set."""

    agent: AgentConfig = AgentConfig()
    hub: HubConfig = HubConfig()
    store: StoreConfig = StoreConfig()
    ledger: LedgerConfig = LedgerConfig()
    witness: WitnessConfig = WitnessConfig()
    safety: SafetyConfig = SafetyConfig()
    log: LogConfig = LogConfig()
    workloads: tuple[WorkloadSpec, ...] = ()
    protect: tuple[str | Protect, ...] = ()  # the work that matters: patterns, or maps with a name and an objective
    best_effort: tuple[str, ...] = ()  # patterns of what may be slowed for its sake; what matches neither is left alone
    catalog: str = ""  # a folder or file laid over the shipped catalogue
    policy: str = ""  # path of policy.yaml; empty: /etc/stead/policy.yaml, else the shipped one

    @property
    def intent(self) -> Intent:
        """What is protected, and what may be slowed for its sake."""
        named = tuple(one if isinstance(one, Protect) else Protect((one,), one) for one in self.protect)
        return Intent(named, self.best_effort)
