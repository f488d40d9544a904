// Judges a log with Go's own sumdb packages; none of our code has a say in it.
//
// Usage: logcheck FOLDER
//
// FOLDER holds the tiles of the log under their names, and claims.json: the log's and the
// witness's verifier keys, signed heads, and proofs about them. The program ends with 0 and
// says what it checked, or with 1 and says what it refused.
//
// note and tlog are copies of the packages that Go itself uses, made when this is built.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"logcheck/note"
	"logcheck/tlog"
)

const (
	height       = 8    // tlog-tiles
	cosignature1 = 0x04 // the algorithm byte of cosignature/v1
)

type claims struct {
	Log         string // verifier keys
	Witness     string
	Heads       []head
	Inclusion   []inclusion
	Consistency []consistency
}

type head struct {
	Note     string
	Cosigned bool // whether the witness must have signed it, too
}

type inclusion struct {
	Index, Size int64
	Proof       [][]byte
}

type consistency struct {
	Old, New int64
	Proof    [][]byte
}

type checked struct {
	Heads, Cosigned, Leaves, Tiles, Inclusion, Consistency int
}

func main() {
	counts, err := check(os.Args[1])
	if err != nil {
		fmt.Println("refused:", err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(counts)
}

func check(folder string) (counts checked, err error) {
	text, err := os.ReadFile(filepath.Join(folder, "claims.json"))
	if err != nil {
		return counts, err
	}
	var said claims
	if err := json.Unmarshal(text, &said); err != nil {
		return counts, err
	}
	log, err := note.NewVerifier(said.Log)
	if err != nil {
		return counts, err
	}
	witness, err := newWitness(said.Witness)
	if err != nil {
		return counts, err
	}
	trees := map[int64]tlog.Tree{}
	leaves := map[int64]tlog.Hash{}
	files := &tileFiles{folder: folder}
	for _, one := range said.Heads {
		tree, err := open(one, log, witness)
		if err != nil {
			return counts, err
		}
		if before, ok := trees[tree.N]; ok && before != tree {
			return counts, fmt.Errorf("two roots of size %d", tree.N)
		}
		trees[tree.N] = tree
		if err := checkTiles(tree, files, leaves); err != nil {
			return counts, fmt.Errorf("tiles of size %d: %w", tree.N, err)
		}
		counts.Heads++
		if one.Cosigned {
			counts.Cosigned++
		}
	}
	for _, one := range said.Inclusion {
		tree, known := trees[one.Size]
		leaf, read := leaves[one.Index]
		if !known || !read {
			return counts, fmt.Errorf("leaf %d of size %d is of no head", one.Index, one.Size)
		}
		if err := tlog.CheckRecord(hashes(one.Proof), tree.N, tree.Hash, one.Index, leaf); err != nil {
			return counts, fmt.Errorf("leaf %d of size %d: %w", one.Index, one.Size, err)
		}
		counts.Inclusion++
	}
	for _, one := range said.Consistency {
		before, known := trees[one.Old]
		after, alsoKnown := trees[one.New]
		if !known || !alsoKnown {
			return counts, fmt.Errorf("size %d or %d is of no head", one.Old, one.New)
		}
		if err := tlog.CheckTree(hashes(one.Proof), after.N, after.Hash, before.N, before.Hash); err != nil {
			return counts, fmt.Errorf("size %d to %d: %w", one.Old, one.New, err)
		}
		counts.Consistency++
	}
	counts.Leaves, counts.Tiles = len(leaves), files.read
	return counts, nil
}

// open returns the tree that a signed head is of.
func open(one head, log, witness note.Verifier) (tlog.Tree, error) {
	var tree tlog.Tree
	opened, err := note.Open([]byte(one.Note), note.VerifierList(log, witness))
	if err != nil {
		return tree, err
	}
	signed := map[string]bool{}
	for _, signature := range opened.Sigs {
		signed[signature.Name] = true
	}
	if !signed[log.Name()] {
		return tree, fmt.Errorf("a head is not signed by its log")
	}
	if one.Cosigned && !signed[witness.Name()] {
		return tree, fmt.Errorf("a head is not signed by the witness")
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != log.Name() || lines[3] != "" {
		return tree, fmt.Errorf("a head is no checkpoint of this log")
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return tree, err
	}
	tree.Hash, err = tlog.ParseHash(lines[2])
	return tree, err
}

// checkTiles proves every leaf of tree by its tiles, and every entry by its leaf.
func checkTiles(tree tlog.Tree, files *tileFiles, leaves map[int64]tlog.Hash) error {
	if tree.N == 0 {
		return nil
	}
	reader := tlog.TileHashReader(tree, files)
	root, err := tlog.TreeHash(tree.N, reader)
	if err != nil {
		return err
	}
	if root != tree.Hash {
		return fmt.Errorf("the tiles lead to another root")
	}
	indexes := make([]int64, tree.N)
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(0, int64(i))
	}
	proven, err := reader.ReadHashes(indexes) // each against its parents, up to the root
	if err != nil {
		return err
	}
	entries, err := files.entries(tree.N)
	if err != nil {
		return err
	}
	for i, entry := range entries {
		if tlog.RecordHash(entry) != proven[i] {
			return fmt.Errorf("entry %d is not the leaf", i)
		}
		leaves[int64(i)] = proven[i]
	}
	return nil
}

func hashes(proof [][]byte) []tlog.Hash {
	list := make([]tlog.Hash, len(proof))
	for i, step := range proof {
		if len(step) == tlog.HashSize {
			copy(list[i][:], step) // one of another length stays zero, and proves nothing
		}
	}
	return list
}

// tileFiles reads tiles from a folder. It is a tlog.TileReader.
type tileFiles struct {
	folder string
	read   int
}

func (t *tileFiles) Height() int { return height }

func (t *tileFiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t *tileFiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	list := make([][]byte, len(tiles))
	for i, tile := range tiles {
		content, err := t.file(tile)
		if err != nil {
			return nil, err
		}
		list[i] = content
	}
	return list, nil
}

// file returns a tile under its name in tlog-tiles, which is sumdb's without the height.
func (t *tileFiles) file(tile tlog.Tile) ([]byte, error) {
	t.read++
	name := strings.Replace(tile.Path(), "tile/8/data/", "tile/entries/", 1)
	name = strings.Replace(name, "tile/8/", "tile/", 1)
	return os.ReadFile(filepath.Join(t.folder, filepath.FromSlash(name)))
}

// entries returns the first size entries, of the bundles of tlog-tiles.
func (t *tileFiles) entries(size int64) ([][]byte, error) {
	const width = 1 << height
	var list [][]byte
	for n := int64(0); n*width < size; n++ {
		tile := tlog.Tile{H: height, L: -1, N: n, W: int(min(width, size-n*width))}
		bundle, err := t.file(tile)
		if err != nil {
			return nil, err
		}
		for len(bundle) > 0 {
			if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
				return nil, fmt.Errorf("a bundle ends within an entry")
			}
			end := 2 + int(binary.BigEndian.Uint16(bundle))
			list = append(list, bundle[2:end])
			bundle = bundle[end:]
		}
		if got := int64(len(list)); got != min((n+1)*width, size) {
			return nil, fmt.Errorf("after bundle %d there are %d entries", n, got)
		}
	}
	return list, nil
}

// witnessVerifier checks cosignature/v1, which sumdb does not know. It is a note.Verifier.
type witnessVerifier struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func newWitness(vkey string) (*witnessVerifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("malformed verifier key of the witness")
	}
	typed, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(typed) != 1+ed25519.PublicKeySize || typed[0] != cosignature1 {
		return nil, fmt.Errorf("the witness's key is no cosignature/v1 key")
	}
	digest := sha256.Sum256(bytes.Join([][]byte{[]byte(parts[0]), typed}, []byte("\n")))
	hash := binary.BigEndian.Uint32(digest[:])
	if fmt.Sprintf("%08x", hash) != parts[1] {
		return nil, fmt.Errorf("the witness's key has another hash")
	}
	return &witnessVerifier{name: parts[0], hash: hash, key: typed[1:]}, nil
}

func (w *witnessVerifier) Name() string    { return w.name }
func (w *witnessVerifier) KeyHash() uint32 { return w.hash }

func (w *witnessVerifier) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", at, msg)
	return ed25519.Verify(w.key, []byte(signed), sig[8:])
}
