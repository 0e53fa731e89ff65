package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/storage/erofs"
	"github.com/kakuri/kakuri/storage/tree"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// A Layer is a tar of the store.
type Layer struct {
	DiffID digest.Digest // sha256 of the tar
	Size   int64         // of the tar, in bytes

	path string
}

// Open opens the tar, byte for byte as it came.
func (l Layer) Open() (*os.File, error) { return files.Open(l.path) }

// A NoLayerError is a layer that the store does not have.
type NoLayerError struct{ DiffID digest.Digest }

// Is makes it an fs.ErrNotExist.
func (e *NoLayerError) Is(err error) bool { return err == fs.ErrNotExist }

// Error names it.
func (e *NoLayerError) Error() string {
	return fmt.Sprintf("layer %s is not in the store: pull or load its image again", e.DiffID)
}

// A CutLayerError is a layer whose tar is shorter than it was when it was indexed: a program of it would end by SIGBUS, at a page that is not there.
type CutLayerError struct {
	DiffID     digest.Digest
	Size, Want int64 // in bytes, of whole blocks of the index
}

// Error says what is wrong with it.
func (e *CutLayerError) Error() string {
	return fmt.Sprintf("layer %s is damaged: its tar has %d bytes, and had %d when it was stored", e.DiffID, e.Size, e.Want)
}

// A DigestError is bytes that are not what they were said to be.
type DigestError struct {
	What      string // "layer"
	Want, Got digest.Digest
}

// Error gives both digests.
func (e *DigestError) Error() string {
	return fmt.Sprintf("%s has the digest %s, not %s as it should: it was damaged or exchanged on its way", e.What, e.Got, e.Want)
}

func (s *Store) layerPath(id digest.Digest) string { return s.path(layersDir, id.Encoded()+".tar") }

// valid refuses what could be no file's name; only sha256 is kept.
func valid(id digest.Digest) error {
	if hexes, ours := strings.CutPrefix(string(id), "sha256:"); ours && len(hexes) == 2*sha256.Size && strings.Trim(hexes, "0123456789abcdef") == "" {
		return nil // as Validate finds by a regexp: 0.2 ms of each start for an image of 100 layers
	}
	if err := id.Validate(); err != nil {
		return fmt.Errorf("diffID %q: %w", string(id), err)
	}
	if id.Algorithm() != digest.SHA256 {
		return fmt.Errorf("diffID %q: layers are kept by their sha256", string(id))
	}
	return nil
}

// validBlob refuses what could be no part of a blob's name. A manifest may have sha512, too.
func validBlob(id digest.Digest) error {
	if err := id.Validate(); err != nil {
		return fmt.Errorf("layer %.200q: %w", string(id), err)
	}
	return nil
}

func (s *Store) stat(id digest.Digest) (Layer, error) {
	if err := valid(id); err != nil {
		return Layer{}, err
	}
	l := Layer{DiffID: id, path: s.layerPath(id)}
	st, err := os.Lstat(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return Layer{}, &NoLayerError{id}
	}
	if err != nil {
		return Layer{}, err
	}
	l.Size = st.Size()
	return l, nil
}

// Layer finds a layer, a [*NoLayerError] where it is not there.
func (s *Store) Layer(id digest.Digest) (Layer, error) {
	unlock, err := s.lock(unix.LOCK_SH)
	if err != nil {
		return Layer{}, err
	}
	defer unlock()
	return s.stat(id)
}

// Put stores a tar while it streams in. want is the diffID it has to have, a [*DigestError] otherwise; empty
// is whatever it has. A tar that no container could be shown, such as one whose names lead out of it, is refused. On
// error nothing is stored. A layer that is there already stays, unless it was cut, and r is still read to its end and verified.
func (s *Store) Put(ctx context.Context, r io.Reader, want digest.Digest) (Layer, error) {
	return s.put(ctx, r, want, func() error { return nil }, func(digest.Digest) error { return nil })
}

// PutBlob is Put for a layer that comes compressed, by inflate. With keep the blob, whose digest is id, is
// kept beside the tar, for [Store.Blob] to give it again. It is read to its end; that it has this digest is for the reader
// to see, by an error in place of the end.
func (s *Store) PutBlob(ctx context.Context, blob io.Reader, id digest.Digest, inflate func(io.Reader) (io.ReadCloser, error), want digest.Digest, keep bool) (Layer, error) {
	if err := validBlob(id); err != nil {
		return Layer{}, err
	}
	save := func() error { return nil }
	beside := func(digest.Digest) error { return nil } // the tar: places the blob
	if keep && id != want {
		t, err := newTemp(s.path(layersDir))
		if err != nil {
			return Layer{}, fmt.Errorf("store a layer: %w", err)
		}
		defer t.discard()
		blob = io.TeeReader(blob, &early{f: t.File})
		beside = func(diff digest.Digest) error {
			if diff == id {
				return nil // it was not compressed
			}
			return t.place(s.blobPath(diff, id))
		}
		save = t.save
	}
	tar, err := inflate(blob)
	if err != nil {
		return Layer{}, fmt.Errorf("store a layer: %w", err)
	}
	defer tar.Close()
	return s.put(ctx, tar, want, func() error {
		// What is behind the compressed stream is part of the blob.
		if _, err := io.Copy(io.Discard, blob); err != nil {
			return err
		}
		return save()
	}, beside)
}

// blobPath is where a compressed form of a layer is kept.
func (s *Store) blobPath(diff, id digest.Digest) string {
	return s.path(layersDir, diff.Encoded()+"."+id.Encoded()+".blob")
}

// blobDigest is the digest of which the name of a compressed form has the digits: their number tells the algorithm.
func blobDigest(hex string) digest.Digest {
	for _, a := range []digest.Algorithm{digest.SHA384, digest.SHA512} {
		if len(hex) == 2*a.Size() {
			return digest.NewDigestFromEncoded(a, hex)
		}
	}
	return digest.NewDigestFromEncoded(digest.SHA256, hex)
}

// Blob opens the compressed form of a layer that has the digest id, byte for byte as it came; fs.ErrNotExist where it was not
// kept. An uncompressed layer is its own.
func (s *Store) Blob(diff, id digest.Digest) (*os.File, error) {
	if err := validBlob(id); err != nil {
		return nil, err
	}
	l, err := s.Layer(diff)
	if err != nil {
		return nil, err
	}
	if id == diff {
		return l.Open()
	}
	return files.Open(s.blobPath(diff, id))
}

// put stores a tar. rest is called when it has come, and beside with its diffID when it comes to be in the store, under the lock of that.
func (s *Store) put(ctx context.Context, r io.Reader, want digest.Digest, rest func() error, beside func(digest.Digest) error) (Layer, error) {
	if want != "" {
		if err := valid(want); err != nil {
			return Layer{}, err
		}
	}
	t, err := newTemp(s.path(layersDir))
	if err != nil {
		return Layer{}, fmt.Errorf("store a layer: %w", err)
	}
	defer t.discard()
	var size int64
	var seen *tree.Tree
	h := sha256.New()
	err = spread(ctx, r,
		func(r io.Reader) (err error) { size, err = io.Copy(&early{f: t.File}, r); return err },
		func(r io.Reader) error { _, err := io.Copy(h, r); return err },
		func(r io.Reader) (err error) {
			seen, err = tree.Scan(ctx, archive.NewReader(r, archive.ReaderOptions{Limits: tree.Limits()}), 0, nil)
			return err
		},
	)
	if err != nil {
		return Layer{}, fmt.Errorf("store a layer: %w", err)
	}
	id := digest.NewDigest(digest.SHA256, h)
	if want != "" && id != want {
		return Layer{}, &DigestError{"layer", want, id}
	}
	if err := rest(); err != nil {
		return Layer{}, fmt.Errorf("store a layer: %w", err)
	}
	if size%erofs.BlockSize == 0 {
		s.scanned.put(id, seen)
	}
	return s.place(t, Layer{DiffID: id, Size: size, path: s.layerPath(id)}, beside)
}

// early has the kernel begin to write a file to the disk while there is more to come: so the sync at its end is
// short.
type early struct {
	f       *os.File
	at, due int64
}

// Write implements [io.Writer].
func (e *early) Write(p []byte) (int, error) {
	n, err := e.f.Write(p)
	e.at += int64(n)
	if e.at-e.due >= 8<<20 {
		unix.SyncFileRange(int(e.f.Fd()), e.due, e.at-e.due, unix.SYNC_FILE_RANGE_WRITE)
		e.due = e.at
	}
	return n, err
}

// place gives a layer's file its name, and what comes beside it, so that nobody takes that for something that is left. A file of another size that has the name is
// damaged, since its digest is the same: the whole one takes its place.
func (s *Store) place(t *temp, l Layer, beside func(digest.Digest) error) (Layer, error) {
	if err := t.save(); err != nil { // before others have to wait for it
		return Layer{}, fmt.Errorf("store layer %s: %w", short(l.DiffID), err)
	}
	unlock, err := s.lock(unix.LOCK_SH)
	if err != nil {
		return Layer{}, err
	}
	defer unlock()
	put := t.place
	if former, err := s.stat(l.DiffID); err == nil && former.Size != l.Size {
		put = t.replace
	}
	if err = beside(l.DiffID); err == nil {
		err = put(l.path)
	}
	if err != nil {
		return Layer{}, fmt.Errorf("store layer %s: %w", short(l.DiffID), err)
	}
	return l, nil
}
