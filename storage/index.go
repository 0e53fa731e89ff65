package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/storage/erofs"
	"github.com/kakuri/kakuri/storage/tree"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// chainID names a chain of layers, the lowest first: image-spec, config.md, "Layer ChainID".
func chainID(chain []digest.Digest) digest.Digest {
	if len(chain) == 0 {
		return ""
	}
	id := []byte(chain[0])
	for _, d := range chain[1:] {
		sum := sha256.Sum256(append(append(id, ' '), d...))
		id = hex.AppendEncode(append(id[:0], "sha256:"...), sum[:])
	}
	return digest.Digest(id)
}

// maxChain is how many layers an index has at most: a device has a number of 16 bits, and each is a file that
// is open while it is mounted.
const maxChain = 1000

func checkChain(chain []digest.Digest) error {
	if len(chain) == 0 || len(chain) > maxChain {
		return fmt.Errorf("an image of %d layers: 1 to %d are possible", len(chain), maxChain)
	}
	for _, id := range chain {
		if err := valid(id); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) indexPath(id digest.Digest) string { return s.path(indexesDir, id.Encoded()) }

// tars opens the tars of a chain.
func (s *Store) tars(chain []digest.Digest) ([]*os.File, error) {
	var list []*os.File
	for _, id := range chain {
		f, err := s.openTar(id)
		if err != nil {
			closeAll(list)
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

// openTar opens the tar of a layer.
func (s *Store) openTar(id digest.Digest) (*os.File, error) {
	f, err := files.Open(s.layerPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NoLayerError{id}
	}
	return f, err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// index makes the index of a chain, which has the ID given, where it is missing. The store's lock is held.
func (s *Store) index(ctx context.Context, id digest.Digest, chain []digest.Digest) error {
	name := s.indexPath(id)
	if _, err := os.Lstat(name); err == nil {
		return nil
	}
	tars, err := s.tars(chain)
	if err != nil {
		return err
	}
	defer closeAll(tars)
	t, err := newTemp(s.path(indexesDir))
	if err != nil {
		return err
	}
	defer t.discard()
	if err := s.writeIndex(ctx, t, chain, tars); err != nil {
		return fmt.Errorf("index the layers of an image: %w", err)
	}
	return t.place(name)
}

func (s *Store) writeIndex(ctx context.Context, t *temp, chain []digest.Digest, tars []*os.File) error {
	devices := make([]erofs.Device, len(chain))
	for i, f := range tars {
		st, err := f.Stat()
		if err != nil {
			return err
		}
		devices[i] = erofs.Device{Tag: chain[i].Encoded(), Size: st.Size()}
	}
	w := erofs.NewWriter(t, devices)
	root, err := s.merged(ctx, chain, tars, w.Content)
	if err != nil {
		return err
	}
	var uuid [16]byte
	hex.Decode(uuid[:], []byte(chainID(chain).Encoded()[:32]))
	return w.Finish(root, uuid)
}

// merged reads the layers of a chain, as many at a time as there are processors, and lays them over each other.
func (s *Store) merged(ctx context.Context, chain []digest.Digest, tars []*os.File, keep tree.Contents) (*erofs.Inode, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	trees, errs := make([]*tree.Tree, len(tars)), make([]error, len(tars))
	var all tree.Weight // all trees are in memory until they are one
	var mu sync.Mutex
	weigh := func(w tree.Weight) error {
		mu.Lock()
		defer mu.Unlock()
		all.Add(w)
		if err := all.Check(heavyLayers); err != nil {
			return fmt.Errorf("with the others it has %w", err)
		}
		return nil
	}
	var wg sync.WaitGroup
	slots := make(chan bool, runtime.GOMAXPROCS(0))
	for i := range tars {
		slots <- true
		wg.Go(func() {
			defer func() { <-slots }()
			if trees[i] = s.scanned.take(chain[i]); trees[i] == nil {
				trees[i], errs[i] = scanTar(ctx, tars[i], keep)
			}
			if errs[i] == nil {
				errs[i] = weigh(trees[i].Weight)
			}
			if errs[i] != nil {
				errs[i] = fmt.Errorf("layer %s: %w", short(chain[i]), errs[i])
				cancel()
			}
		})
	}
	wg.Wait()
	var root *erofs.Inode
	for i, t := range trees {
		if errs[i] != nil && !errors.Is(errs[i], context.Canceled) {
			return nil, errs[i]
		}
		if t == nil {
			continue
		}
		tree.OnDevice(t.Root, uint16(i+1))
		root = t.Over(root)
	}
	return root, errors.Join(errs...)
}

func scanTar(ctx context.Context, f *os.File, keep tree.Contents) (*tree.Tree, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return tree.Scan(ctx, archive.NewReader(f, archive.ReaderOptions{Limits: tree.Limits(), Seek: true}), st.Size(), keep)
}

// heavyLayers is how many layers of an image may be as large as one can be.
const heavyLayers = 2

// A cache has the trees of layers that were put a moment ago: their index is asked for next.
type cache struct {
	mu    sync.Mutex
	trees map[digest.Digest]*tree.Tree
	holds tree.Weight
}

// maxCached and maxCachedText bound the files of all trees that are kept, and their text.
const maxCached, maxCachedText = 500_000, 64 << 20

func (c *cache) put(id digest.Digest, t *tree.Tree) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.Sparse || c.holds.Files+t.Weight.Files > maxCached || c.holds.Text+t.Weight.Text > maxCachedText || c.trees[id] != nil {
		return
	}
	if c.trees == nil {
		c.trees = map[digest.Digest]*tree.Tree{}
	}
	c.trees[id] = t
	c.holds.Add(t.Weight)
}

// take gives a tree away, which is used up by being laid over others.
func (c *cache) take(id digest.Digest) *tree.Tree {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.trees[id]
	if t != nil {
		delete(c.trees, id)
		c.holds.Add(tree.Weight{Files: -t.Weight.Files, Text: -t.Weight.Text})
	}
	return t
}

// mountIndex mounts an index with its tars, and gives the mount, attached nowhere: fsopen(2). Linux 6.12 mounts
// EROFS from files that are no block devices.
func mountIndex(index *os.File, tars []*os.File) (int, error) {
	fd, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen erofs", err)
	}
	defer unix.Close(fd)
	set := func(key string, f *os.File) error {
		return os.NewSyscallError("fsconfig erofs "+key, unix.FsconfigSetString(fd, key, fmt.Sprintf("/proc/self/fd/%d", f.Fd())))
	}
	if err := set("source", index); err != nil {
		return -1, err
	}
	for _, f := range tars {
		if err := set("device", f); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return -1, os.NewSyscallError("mount erofs", err)
	}
	m, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	return m, os.NewSyscallError("fsmount erofs", err)
}
