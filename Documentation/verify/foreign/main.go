// Checks an audit package with libraries of other makers: golang.org/x/mod/sumdb/note opens the signed checkpoint,
// golang.org/x/mod/sumdb/tlog computes hashes, reads tiles and verifies inclusion proofs. Nothing here is shared with the
// server; what this file adds is where a package keeps its parts, and cosignatures, which note does not know.
//
// usage: foreign PACKAGE.zip POLICY
//
// POLICY is a C2SP tlog-policy from elsewhere than the package (ftnode audit keys --org KEY): its "log" lines are keys of
// the log, its "witness" lines those of the replicas, of which more than half must have cosigned. Exit: 0 valid, 1 not.
package main

import (
	"archive/zip"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const tileHeight = 8
const width = 1 << tileHeight

// cosigner verifies C2SP tlog-cosignature: Ed25519, type 4, over a time and the note.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c *cosigner) Name() string    { return c.name }
func (c *cosigner) KeyHash() uint32 { return c.hash }
func (c *cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(signature), text)
	return ed25519.Verify(c.key, []byte(message), signature[8:])
}

func newCosigner(vkey string) (*cosigner, error) {
	fields := strings.SplitN(vkey, "+", 3)
	if len(fields) != 3 {
		return nil, errors.New("malformed key")
	}
	key, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != 4 {
		return nil, errors.New("not the key of a cosigner")
	}
	sum := sha256.Sum256(append([]byte(fields[0]+"\n"), key...))
	hash := binary.BigEndian.Uint32(sum[:])
	if fmt.Sprintf("%08x", hash) != fields[1] {
		return nil, errors.New("the key is not that of its id")
	}
	return &cosigner{fields[0], hash, ed25519.PublicKey(key[1:])}, nil
}

// trust is what the policy says: verifiers, and the names of those who may cosign.
type trust struct {
	verifiers []note.Verifier
	cosigners map[string]bool
}

func readPolicy(text string) (*trust, error) {
	found := &trust{cosigners: map[string]bool{}}
	for _, line := range strings.Split(text, "\n") {
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 2 && fields[0] == "log":
			verifier, err := note.NewVerifier(fields[1])
			if err != nil {
				return nil, err
			}
			found.verifiers = append(found.verifiers, verifier)
		case len(fields) >= 3 && fields[0] == "witness":
			for _, vkey := range fields[2:] {
				// The last field may be an address.
				if strings.Contains(vkey, "://") {
					continue
				}
				verifier, err := newCosigner(vkey)
				if err != nil {
					return nil, err
				}
				found.verifiers = append(found.verifiers, verifier)
				found.cosigners[verifier.name] = true
			}
		}
	}
	return found, nil
}

type checkpoint struct {
	origin string
	tree   tlog.Tree
}

func (t *trust) open(text []byte) (*checkpoint, error) {
	opened, err := note.Open(text, note.VerifierList(t.verifiers...))
	if err != nil {
		return nil, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return nil, errors.New("the checkpoint does not have three lines")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 1 {
		return nil, errors.New("the checkpoint has no size")
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return nil, err
	}
	byLog, names := false, map[string]bool{}
	for _, signature := range opened.Sigs {
		byLog = byLog || signature.Name == lines[0]
		names[signature.Name] = names[signature.Name] || t.cosigners[signature.Name]
	}
	count := 0
	for _, isCosigner := range names {
		if isCosigner {
			count++
		}
	}
	if !byLog || count*2 <= len(t.cosigners) {
		return nil, fmt.Errorf("signed by the log: %v, cosigned by %d of %d", byLog, count, len(t.cosigners))
	}
	return &checkpoint{lines[0], tlog.Tree{N: size, Hash: root}}, nil
}

// archive gives the parts of a package, and its tiles to tlog.
type archive map[string][]byte

func readArchive(path string) (archive, error) {
	reader, err := zip.OpenReader(path)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	parts := archive{}
	for _, file := range reader.File {
		content, err := file.Open()
		if err != nil {
			return nil, err
		}
		if parts[file.Name], err = io.ReadAll(content); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// path is C2SP tlog-tiles' name of a tile: without the height, which tlog has in it.
func path(tile tlog.Tile) string {
	fields := strings.SplitN(tile.Path(), "/", 3)
	rest := fields[2]
	if strings.HasPrefix(rest, "data/") {
		rest = "entries/" + rest[5:]
	} else {
		level, number, _ := strings.Cut(rest, "/")
		value, _ := strconv.Atoi(level)
		rest = strconv.Itoa(value) + "/" + number
	}
	return "tile/" + rest
}

func (a archive) Height() int                         { return tileHeight }
func (a archive) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (a archive) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for place, tile := range tiles {
		part, ok := a[path(tile)]
		if !ok {
			return nil, fmt.Errorf("%s is missing", path(tile))
		}
		data[place] = part
	}
	return data, nil
}

// checkFull holds every record of a whole ledger against the signed tree, and proves some of them.
func checkFull(parts archive, signed *checkpoint) (int64, error) {
	hashes := tlog.TileHashReader(signed.tree, parts)
	for first := int64(0); first < signed.tree.N; first += width {
		count := signed.tree.N - first
		if count > width {
			count = width
		}
		name := path(tlog.Tile{H: tileHeight, L: -1, N: first / width, W: int(count)})
		bundle, ok := parts[name]
		if !ok {
			return 0, fmt.Errorf("%s is missing", name)
		}
		indexes, found := make([]int64, count), make([]tlog.Hash, count)
		for place := range indexes {
			if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
				return 0, fmt.Errorf("record %d is missing", first+int64(place)+1)
			}
			length := int(binary.BigEndian.Uint16(bundle))
			indexes[place] = tlog.StoredHashIndex(0, first+int64(place))
			found[place] = tlog.RecordHash(bundle[2 : 2+length])
			bundle = bundle[2+length:]
		}
		if len(bundle) != 0 {
			return 0, fmt.Errorf("%s has more than %d records", name, count)
		}
		wanted, err := hashes.ReadHashes(indexes)
		if err != nil {
			return 0, err
		}
		for place := range wanted {
			if wanted[place] != found[place] {
				return 0, fmt.Errorf("record %d is not the one that was signed", first+int64(place)+1)
			}
		}
		// One proof a bundle, made and verified by tlog.
		proof, err := tlog.ProveRecord(signed.tree.N, first, hashes)
		if err != nil {
			return 0, err
		}
		if err := tlog.CheckRecord(proof, signed.tree.N, signed.tree.Hash, first, found[0]); err != nil {
			return 0, fmt.Errorf("record %d: %v", first+1, err)
		}
	}
	root, err := tlog.TreeHash(signed.tree.N, hashes)
	if err != nil || root != signed.tree.Hash {
		return 0, fmt.Errorf("the tiles are not those of the signed root: %v", err)
	}
	return signed.tree.N, nil
}

// checkSelection verifies the inclusion proofs of shown records (C2SP tlog-proof).
func checkSelection(parts archive, policy *trust, signed *checkpoint) (int64, error) {
	records := map[int64][]byte{}
	for name, part := range parts {
		if !strings.HasPrefix(name, "records/") {
			continue
		}
		for _, line := range bytes.Split(bytes.TrimSuffix(part, []byte("\n")), []byte("\n")) {
			_, after, _ := bytes.Cut(line, []byte(`"sequence":`))
			digits := after[:len(after)-len(bytes.TrimLeft(after, "0123456789"))]
			sequence, err := strconv.ParseInt(string(digits), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: a record without a sequence", name)
			}
			records[sequence] = line
		}
	}
	count := int64(0)
	for name, part := range parts {
		if !strings.HasSuffix(name, ".tlog-proof") {
			continue
		}
		head, text, found := bytes.Cut(part, []byte("\n\n"))
		lines := strings.Split(string(head), "\n")
		if !found || len(lines) < 2 || !strings.HasPrefix(lines[0], "c2sp.org/tlog-proof@v1") {
			return 0, fmt.Errorf("%s is no proof", name)
		}
		opened, err := policy.open(text)
		if err != nil {
			return 0, fmt.Errorf("%s: %v", name, err)
		}
		var proof tlog.RecordProof
		index := int64(-1)
		for _, line := range lines[1:] {
			if strings.HasPrefix(line, "index ") {
				index, err = strconv.ParseInt(line[6:], 10, 64)
			} else if hash, problem := tlog.ParseHash(line); problem == nil {
				proof = append(proof, hash)
			}
		}
		record, ok := records[index+1]
		if err != nil || !ok || opened.origin != signed.origin {
			return 0, fmt.Errorf("%s proves nothing that is shown", name)
		}
		if err := tlog.CheckRecord(proof, opened.tree.N, opened.tree.Hash, index, tlog.RecordHash(record)); err != nil {
			return 0, fmt.Errorf("record %d: %v", index+1, err)
		}
		count++
	}
	if count == 0 {
		return 0, errors.New("no proofs")
	}
	return count, nil
}

func run(packagePath, policyPath string) (string, error) {
	text, err := os.ReadFile(policyPath)
	if err != nil {
		return "", err
	}
	policy, err := readPolicy(string(text))
	if err != nil {
		return "", fmt.Errorf("policy: %v", err)
	}
	parts, err := readArchive(packagePath)
	if err != nil {
		return "", err
	}
	signed, err := policy.open(parts["checkpoint"])
	if err != nil {
		return "", fmt.Errorf("checkpoint: %v", err)
	}
	var count int64
	what := "records"
	isSelection := false
	for name := range parts {
		isSelection = isSelection || strings.HasPrefix(name, "outline/")
	}
	if isSelection {
		what = "shown records with proofs"
		count, err = checkSelection(parts, policy, signed)
	} else {
		count, err = checkFull(parts, signed)
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s: %d %s are in the signed tree of %d", signed.origin, count, what, signed.tree.N), nil
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: foreign PACKAGE.zip POLICY")
		os.Exit(2)
	}
	message, err := run(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Println("not valid:", err)
		os.Exit(1)
	}
	fmt.Println("valid:", message)
}
