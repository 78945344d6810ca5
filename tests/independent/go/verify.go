// Checks stead's proofs with the Go team's own code, golang.org/x/mod/sumdb: signatures, inclusion and consistency.
//
//	verify LEAF.json PROOF.tlog-proof POLICY.tlog-policy   says what holds (exit code 0), or why not (1)
//	verify                                                 reads cases, one JSON object a line; answers "ok" or why not
//
// What is not theirs: splitting the proof file into lines, the policy's groups, and the message that a witness signs.
package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A file's bytes are base64 in JSON. Either leaf and proof, or old, checkpoint and hashes.
type input struct {
	Leaf, Proof, Policy, Old, Checkpoint []byte
	Hashes                               [][]byte
}

// C2SP tlog-cosignature: Ed25519 over "cosignature/v1", the time and the note's text.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }
func (c cosigner) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig), text)
	return ed25519.Verify(c.key, []byte(message), sig[8:])
}

func newCosigner(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("malformed witness key")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != 4 {
		return nil, errors.New("a witness key that is not cosignature/v1")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	hash := binary.BigEndian.Uint32(sum[:])
	if fmt.Sprintf("%08x", hash) != parts[1] {
		return nil, errors.New("the witness key's id is not its own")
	}
	return cosigner{parts[0], hash, key[1:]}, nil
}

// C2SP tlog-policy.
type policy struct {
	known     []note.Verifier
	logs      map[string]bool
	witnesses map[string]note.Verifier
	groups    map[string][]string // the threshold, then the members
	quorum    string
}

func parsePolicy(data []byte) (*policy, error) {
	p := &policy{logs: map[string]bool{}, witnesses: map[string]note.Verifier{}, groups: map[string][]string{}}
	for _, line := range strings.Split(string(data), "\n") {
		word := strings.Fields(line)
		switch {
		case len(word) == 0 || strings.HasPrefix(word[0], "#"):
		case word[0] == "log" && len(word) >= 2:
			key, err := note.NewVerifier(word[1])
			if err != nil {
				return nil, err
			}
			p.known, p.logs[key.Name()] = append(p.known, key), true
		case word[0] == "witness" && len(word) >= 3:
			key, err := newCosigner(word[2])
			if err != nil {
				return nil, err
			}
			p.known, p.witnesses[word[1]] = append(p.known, key), key
		case word[0] == "group" && len(word) >= 4:
			p.groups[word[1]] = word[2:]
		case word[0] == "quorum" && len(word) == 2 && p.quorum == "":
			p.quorum = word[1]
		default:
			return nil, errors.New("a policy line that says nothing: " + line)
		}
	}
	return p, nil
}

func (p *policy) met(name string, signed func(note.Verifier) bool) bool {
	if group, ok := p.groups[name]; ok {
		need, err := strconv.Atoi(group[0])
		if group[0] == "any" {
			need, err = 1, nil
		} else if group[0] == "all" {
			need, err = len(group)-1, nil
		}
		for _, member := range group[1:] {
			if p.met(member, signed) {
				need--
			}
		}
		return err == nil && need <= 0
	}
	return name == "none" || p.witnesses[name] != nil && signed(p.witnesses[name])
}

// The tree that a checkpoint speaks of, when the policy trusts its signatures.
func (p *policy) open(checkpoint []byte) (tree tlog.Tree, name string, err error) {
	signed, err := note.Open(checkpoint, note.VerifierList(p.known...))
	if err != nil {
		return tree, "", err
	}
	has := func(name string, hash uint32) bool {
		for _, each := range signed.Sigs {
			if each.Name == name && each.Hash == hash {
				return true
			}
		}
		return false
	}
	origin := strings.SplitN(signed.Text, "\n", 2)
	byLog := false
	for _, key := range p.known {
		byLog = byLog || p.logs[key.Name()] && key.Name() == origin[0] && has(key.Name(), key.KeyHash())
	}
	if !byLog {
		return tree, "", errors.New("not signed by a log that the policy names")
	}
	if !p.met(p.quorum, func(key note.Verifier) bool { return has(key.Name(), key.KeyHash()) }) {
		return tree, "", errors.New("the policy's quorum of witnesses is not met")
	}
	tree, err = tlog.ParseTree([]byte("go.sum database tree\n" + origin[1]))
	return tree, origin[0], err
}

func hashes(raw [][]byte) (out []tlog.Hash, err error) {
	for _, each := range raw {
		var hash tlog.Hash
		if copy(hash[:], each) != len(each) || len(each) != tlog.HashSize {
			return nil, errors.New("a hash that is not 32 bytes")
		}
		out = append(out, hash)
	}
	return out, nil
}

// C2SP tlog-proof: index, hashes, an empty line, the checkpoint.
func checkInclusion(p *policy, leaf, proof []byte) (string, error) {
	split := bytes.Index(proof, []byte("\n\n"))
	if split < 0 {
		return "", errors.New("a proof without its empty line")
	}
	lines := strings.Split(string(proof[:split]), "\n")
	if len(lines) > 1 && strings.HasPrefix(lines[1], "extra ") {
		lines = append(lines[:1], lines[2:]...)
	}
	if len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
		return "", errors.New("not a tlog-proof@v1")
	}
	index, err := strconv.ParseInt(lines[1][len("index "):], 10, 64)
	if err != nil {
		return "", err
	}
	var path tlog.RecordProof
	for _, line := range lines[2:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return "", err
		}
		path = append(path, hash)
	}
	tree, origin, err := p.open(proof[split+2:])
	if err != nil {
		return "", err
	}
	if index < 0 || index >= tree.N {
		return "", errors.New("the index lies outside of the tree")
	}
	said := fmt.Sprintf("proven: entry %d of %d in %s (index %d)", index+1, tree.N, origin, index)
	return said, tlog.CheckRecord(path, tree.N, tree.Hash, index, tlog.RecordHash(leaf))
}

func checkConsistency(p *policy, in input) (string, error) {
	old, _, err := p.open(in.Old)
	if err != nil {
		return "", err
	}
	tree, _, err := p.open(in.Checkpoint)
	if err != nil {
		return "", err
	}
	path, err := hashes(in.Hashes)
	if err != nil {
		return "", err
	}
	said := fmt.Sprintf("a tree of %d grew to %d", old.N, tree.N)
	return said, tlog.CheckTree(path, tree.N, tree.Hash, old.N, old.Hash)
}

func check(in input) (string, error) {
	p, err := parsePolicy(in.Policy)
	if err != nil {
		return "", err
	}
	if in.Old != nil {
		return checkConsistency(p, in)
	}
	return checkInclusion(p, in.Leaf, in.Proof)
}

func fail(code int, why ...any) {
	fmt.Fprintln(os.Stderr, why...)
	os.Exit(code)
}

func main() {
	if len(os.Args) == 4 {
		var files [3][]byte
		for at := range files {
			data, err := os.ReadFile(os.Args[at+1])
			if err != nil {
				fail(2, "can't read it:", err)
			}
			files[at] = data
		}
		said, err := check(input{Leaf: files[0], Proof: files[1], Policy: files[2]})
		if err != nil {
			fail(1, "not proven:", err)
		}
		fmt.Println(said)
		return
	} else if len(os.Args) > 1 {
		fail(2, "usage: verify LEAF.json PROOF.tlog-proof POLICY.tlog-policy")
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var in input
		if err := json.Unmarshal(lines.Bytes(), &in); err != nil {
			fail(1, err)
		}
		if _, err := check(in); err != nil {
			fmt.Println(strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok")
		}
	}
}
