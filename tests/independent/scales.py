"""Checks stead's proofs with tlog-scales: log signatures, cosignatures, inclusion and consistency.

    python scales.py LEAF.json PROOF.tlog-proof POLICY.tlog-policy   says what holds (exit code 0), or why not (1)
    python scales.py                                                 reads cases, one JSON object a line; answers "ok" or why not

What is not theirs: splitting the proof file into lines, and the policy's groups. Nothing of stead is imported.
"""

from __future__ import annotations

import base64
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from tlog_scales.signing import Vkey, VkeySet
from tlog_scales.tiles import leaf_hash
from tlog_scales.tlog import Checkpoint, ConsistencyProof, InclusionProof


class RefusedError(Exception):
    """It does not hold, and why."""


class Policy:
    """C2SP tlog-policy: the keys of logs and witnesses, and how many of them must have signed."""

    def __init__(self, data: bytes) -> None:
        self.logs: list[Vkey] = []
        self.witnesses: dict[str, Vkey] = {}
        self.groups: dict[str, tuple[str, list[str]]] = {}
        self.quorum = ""
        for line in data.decode().splitlines():
            match line.split():
                case ["log", vkey, *_]:
                    self.logs.append(Vkey.from_string(vkey))
                case ["witness", name, vkey, *_]:
                    self.witnesses[name] = Vkey.from_string(vkey)
                case ["group", name, need, *members]:
                    self.groups[name] = (need, members)
                case ["quorum", name]:
                    self.quorum = name

    def met(self, name: str, signed: Callable[[Vkey], bool]) -> bool:
        """Whether this witness, or enough of this group, has signed."""
        if name in self.groups:
            need, members = self.groups[name]
            least = {"any": 1, "all": len(members)}.get(need) or int(need)
            return sum(self.met(member, signed) for member in members) >= least
        return name == "none" or signed(self.witnesses[name])

    def opened(self, data: bytes) -> Checkpoint:
        """The checkpoint, when a log of this policy and its quorum of witnesses signed it."""
        checkpoint = Checkpoint.from_text(data.decode())
        keys = {(key.name, key.key_id): key for key in (*self.logs, *self.witnesses.values())}
        by = {(key.name, key.key_id) for key, _ in VkeySet(*keys.values()).verify(checkpoint.signatures, checkpoint)}
        if not any(key.name == checkpoint.origin and (key.name, key.key_id) in by for key in self.logs):
            raise RefusedError("not signed by a log that the policy names")
        if not self.met(self.quorum, lambda key: (key.name, key.key_id) in by):
            raise RefusedError("the policy's quorum of witnesses is not met")
        return checkpoint


def check_inclusion(policy: Policy, leaf: bytes, proof: bytes) -> str:
    """C2SP tlog-proof: index, hashes, an empty line, the checkpoint."""
    head, _, signed = proof.partition(b"\n\n")
    magic, *lines = head.decode().split("\n")
    if lines[0].startswith("extra "):
        del lines[0]
    word, index = lines[0].split(" ")
    if (magic, word) != ("c2sp.org/tlog-proof@v1", "index"):
        raise RefusedError("not a tlog-proof@v1")
    hashes = [base64.b64decode(line, validate=True) for line in lines[1:]]
    checkpoint = policy.opened(signed)
    InclusionProof(int(index), checkpoint.size, hashes).check(leaf_hash(leaf), checkpoint.root_hash)
    return f"proven: entry {int(index) + 1} of {checkpoint.size} in {checkpoint.origin} (index {index})"


def check(case: dict[str, bytes], hashes: list[bytes]) -> str:
    """What one case says, when it holds. Raises whatever the library raises when it does not."""
    policy = Policy(case["policy"])
    if "old" not in case:
        return check_inclusion(policy, case["leaf"], case["proof"])
    old, new = policy.opened(case["old"]), policy.opened(case["checkpoint"])
    ConsistencyProof(old.size, new.size, hashes).check(old.root_hash, new.root_hash)
    return f"a tree of {old.size} grew to {new.size}"


def answer(line: str) -> str:
    """`ok`, or why this case does not hold."""
    case = json.loads(line)
    hashes = [base64.b64decode(each) for each in case.pop("hashes", [])]
    try:
        check({key: base64.b64decode(value) for key, value in case.items()}, hashes)
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace("\n", " ")
    return "ok"


def proven(names: list[str]) -> str:
    """What the three files prove, in words. Exits with the reason when that is nothing."""
    try:
        leaf, proof, policy = (Path(name).read_bytes() for name in names)
    except OSError as error:
        print(f"can't read {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    try:
        return check({"leaf": leaf, "proof": proof, "policy": policy}, [])
    except Exception as error:
        sys.exit(f"not proven: {error}")


def main(names: list[str]) -> None:
    """Three files, or cases on standard input."""
    logging.disable()
    if len(names) == len(("leaf", "proof", "policy")):
        print(proven(names))
    elif names:
        print("usage: scales.py LEAF.json PROOF.tlog-proof POLICY.tlog-policy", file=sys.stderr)
        sys.exit(2)
    else:
        for line in sys.stdin:
            print(answer(line))


if __name__ == "__main__":
    main(sys.argv[1:])
