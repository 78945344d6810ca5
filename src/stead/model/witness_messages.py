"""The messages about witnesses: other hosts that cosign this one's record, and logs that this host cosigns."""

from __future__ import annotations

import msgspec

from stead.model.errors import Problem


class AddCheckpoint(msgspec.Struct, frozen=True, tag="add-checkpoint"):
    """→ WitnessReply: another log asks this host to cosign. `body` is a C2SP tlog-witness request, which authorises itself."""

    body: bytes


class GetWitnesses(msgspec.Struct, frozen=True, tag="witnesses"):
    """→ WitnessList: who cosigns this host's record. `submit`: hand them the newest checkpoint first, and wait for them."""

    submit: bool = False


class WitnessReply(msgspec.Struct, frozen=True, tag="witness-reply"):
    """Answer to AddCheckpoint, as HTTP carries it: 200 with cosignature lines, 409 with a size, or why not."""

    status: int
    content_type: str
    body: bytes


class WitnessView(msgspec.Struct, frozen=True):
    """One witness of this host's record, as it answered last."""

    name: str
    url: str
    ok: bool | None  # None: unknown, it has not answered
    detail: str = ""
    size: int | None = None  # of the checkpoint that it cosigned last
    at_ms: int | None = None  # when


class WitnessedLog(msgspec.Struct, frozen=True):
    """A log of another host that this one cosigns. `size`: of the checkpoint cosigned last; None: not asked yet."""

    origin: str
    size: int | None
    refused: str = ""  # why the newest request was refused, where that is a reason to look


class WitnessList(msgspec.Struct, frozen=True, tag="witnesses"):
    """Answer to GetWitnesses. `quorum`: the newest cosigned checkpoint has the cosignatures that the policy asks for."""

    origin: str
    size: int
    cosigned: int | None
    quorum: bool
    witnesses: tuple[WitnessView, ...]
    vkey: str = ""  # by which this host cosigns others
    logs: tuple[WitnessedLog, ...] = ()  # which ones
    stopped: Problem | None = None  # why this host's own ledger records nothing more
