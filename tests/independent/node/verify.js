// Checks stead's proofs with sigstore's own code, @sigstore/verify: the log's signature and the inclusion.
//
//   node verify.js LEAF.json PROOF.tlog-proof POLICY.tlog-policy   says what holds (exit code 0), or why not (1)
//   node verify.js                                                 reads cases, one JSON object a line; answers "ok" or why not
//
// What is not theirs: splitting the proof file into lines and reading the log's key. Witnesses are not looked at: sigstore knows none.
"use strict";

const { createPublicKey } = require("node:crypto");
const { readFileSync } = require("node:fs");
const { verifyCheckpoint } = require("@sigstore/verify/dist/tlog/checkpoint.js");
const { verifyMerkleInclusion } = require("@sigstore/verify/dist/tlog/merkle.js");

const ED25519 = 1;
const SPKI = Buffer.from("302a300506032b6570032100", "hex"); // RFC 8410: what comes before an Ed25519 key in DER

function logKey(vkey) {
  const [name, id, ...key] = vkey.split("+");
  const raw = Buffer.from(key.join("+"), "base64");
  if (raw.length !== 33 || raw[0] !== ED25519) throw new Error("a log key that is not Ed25519");
  const publicKey = createPublicKey({ key: Buffer.concat([SPKI, raw.subarray(1)]), format: "der", type: "spki" });
  return { logID: Buffer.from(id, "hex"), baseURL: name, publicKey };
}

// C2SP tlog-proof: index, hashes, an empty line, the checkpoint.
function entry(leaf, proof) {
  const split = proof.indexOf("\n\n");
  const lines = proof.slice(0, split).split("\n");
  if (split < 0 || lines.shift() !== "c2sp.org/tlog-proof@v1") throw new Error("not a tlog-proof@v1");
  if (lines[0].startsWith("extra ")) lines.shift();
  const index = /^index (\d+)$/.exec(lines.shift());
  if (!index) throw new Error("a proof without an index");
  const hashes = lines.map((line) => Buffer.from(line, "base64"));
  return { canonicalizedBody: leaf, inclusionProof: { logIndex: index[1], hashes, checkpoint: { envelope: proof.slice(split + 2) } } };
}

function check({ leaf, proof, policy }) {
  const words = policy.toString().split("\n").map((line) => line.trim().split(/[ \t]+/));
  const logs = words.filter((line) => line[0] === "log").map((line) => logKey(line[1]));
  const proven = entry(leaf, proof.toString());
  const checkpoint = verifyCheckpoint(proven, logs);
  if (!logs.some((log) => log.baseURL === checkpoint.origin)) throw new Error("the origin is no log that the policy names");
  verifyMerkleInclusion(proven, checkpoint);
  const index = proven.inclusionProof.logIndex;
  const witnesses = words.some((line) => line[0] === "quorum" && line[1] !== "none");
  return (
    `proven: entry ${BigInt(index) + 1n} of ${checkpoint.logSize} in ${checkpoint.origin} (index ${index})` +
    (witnesses ? "; whether the policy's witnesses cosigned was not looked at" : "")
  );
}

function answer(line) {
  try {
    const { leaf, proof, policy } = JSON.parse(line);
    check({ leaf: Buffer.from(leaf, "base64"), proof: Buffer.from(proof, "base64"), policy: Buffer.from(policy, "base64") });
    return "ok";
  } catch (error) {
    return String(error.message).replaceAll("\n", " ");
  }
}

function fail(code, why) {
  console.error(why);
  process.exit(code);
}

function read(name) {
  try {
    return readFileSync(name);
  } catch (error) {
    fail(2, `can't read it: ${error.message}`);
  }
}

const names = process.argv.slice(2);
if (names.length === 3) {
  const [leaf, proof, policy] = names.map(read);
  try {
    console.log(check({ leaf, proof, policy }));
  } catch (error) {
    fail(1, `not proven: ${error.message}`);
  }
} else if (names.length) {
  fail(2, "usage: node verify.js LEAF.json PROOF.tlog-proof POLICY.tlog-policy");
} else {
  const lines = readFileSync(0, "utf8").split("\n").filter(Boolean);
  process.stdout.write(lines.map((line) => answer(line) + "\n").join(""));
}
