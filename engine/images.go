package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/kakuri/kakuri/engine/content"
	"github.com/kakuri/kakuri/engine/dirs"
	"github.com/kakuri/kakuri/host"
	"github.com/kakuri/kakuri/image"
	"github.com/kakuri/kakuri/internal/selinux"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/plan"
	"github.com/kakuri/kakuri/storage"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// childIsCalled says that this program can be started for the work that [Child] does.
var childIsCalled bool

// Child does the work of a process that an engine has started of its own program: an ordinary user's unpacks or
// removes files of other ids, and one that finds no kakuri-runtime has monitors of the program itself. The main function of a program that opens
// engines calls it before all else, and ends with the code when it is done.
func Child() (done bool, code int) {
	childIsCalled = true
	if monitor.IsMonitor(os.Args) {
		return true, monitor.Main()
	}
	if done, code := content.Child(); done {
		return true, code
	}
	if filepath.Base(os.Args[0]) == tlsName && len(os.Args) == 2 {
		return true, tlsChild(os.Args[1])
	}
	if isWorldChild() {
		return true, worldChild(os.Args[1])
	}
	return storage.Child()
}

// stores are opened when they are needed first: most commands need none.
type stores struct {
	layers *storage.Store
	images *image.Store
}

// Storage returns the store of layers and of what containers write.
func (e *Engine) Storage() (*storage.Store, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.storage()
}

func (e *Engine) storage() (*storage.Store, error) {
	if e.stores.layers != nil {
		return e.stores.layers, nil
	}
	o := storage.Options{Data: e.data, Run: e.dir, Driver: os.Getenv("KAKURI_STORAGE_DRIVER"), Rootless: !e.host.Privileged()}
	if host.SELinux() {
		o.Label = selinux.Here().Layer()
	}
	if o.Rootless {
		var err error
		if o.IDs, err = e.storageIDs(); err != nil {
			return nil, err
		}
	}
	s, err := storage.Open(o)
	if err == nil {
		e.stores.layers = s
	}
	return s, dirs.NotMade(e.data, err)
}

// storageIDs are the ids that files of an ordinary user's images, containers and volumes have.
func (e *Engine) storageIDs() (storage.IDs, error) {
	ids := func(id uint32, ranges []plan.IDRange) ([]plan.IDMapping, error) {
		m, err := userNS{}.rootlessMap(id, 0, e.host.MapsOthers(), ranges)
		return planMap(m), err
	}
	uids, err := ids(e.host.UID, e.host.SubUIDs)
	if err != nil {
		return storage.IDs{}, err
	}
	gids, err := ids(e.host.GID, e.host.SubGIDs)
	return storage.IDs{UIDs: uids, GIDs: gids, Facts: e.host}, err
}

func planMap(list []specs.LinuxIDMapping) []plan.IDMapping {
	out := make([]plan.IDMapping, len(list))
	for i, m := range list {
		out[i] = plan.IDMapping{Inside: m.ContainerID, Outside: m.HostID, Size: m.Size}
	}
	return out
}

// Images returns the store of images, whose layers are the engine's.
func (e *Engine) Images() (*image.Store, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stores.images != nil {
		return e.stores.images, nil
	}
	layers, err := e.storage()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(e.data, "images")
	s, err := image.Open(image.Options{Dir: dir, Layers: keeper{layers, dir}, InUse: e.layersInUse, UserAgent: "kakuri", Tell: e.tellImage, Warn: e.warn})
	if err == nil {
		e.stores.images = s
	}
	return s, err
}

func (e *Engine) tellImage(action, id, name string, labels map[string]string) {
	attributes := map[string]string{}
	maps.Copy(attributes, labels)
	attributes["name"] = name
	e.tell("image", action, id, attributes)
}

// layersInUse lists the layers that containers need, whether an image still has them or not. Who makes a container holds the images only until its record is there. It takes
// nothing away: a check of the images is not to hide what one of the containers finds.
func (e *Engine) layersInUse() ([]digest.Digest, error) {
	list, damaged, err := e.listAll(ListOptions{All: true, making: true})
	if err != nil {
		return nil, err
	}
	for _, d := range damaged {
		e.caution(d)
	}
	var used []digest.Digest
	for _, c := range list {
		used = append(used, c.chain()...)
		for _, m := range c.Volumes {
			used = append(used, digests(m.Chain)...)
		}
	}
	return used, nil
}

// chain is the container's image by the digests of its layers, the lowest first.
func (r *Record) chain() []digest.Digest { return digests(r.Chain) }

func digests(chain []string) []digest.Digest {
	list := make([]digest.Digest, len(chain))
	for i, d := range chain {
		list[i] = digest.Digest(d)
	}
	return list
}

func digestStrings(chain []digest.Digest) []string {
	list := make([]string, len(chain))
	for i, d := range chain {
		list[i] = d.String()
	}
	return list
}

// A keeper has the image store's layers in package storage. layout is the directory of the image store.
type keeper struct {
	s      *storage.Store
	layout string
}

var _ image.Layers = keeper{}

// missing has the error of a layer that is not there be fs.ErrNotExist.
func missing(err error) error {
	if errors.As(err, new(*storage.NoLayerError)) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

func (k keeper) Stat(d digest.Digest) (int64, error) {
	l, err := k.s.Layer(d)
	return l.Size, missing(err)
}

func (k keeper) Open(d digest.Digest) (io.ReadCloser, error) {
	l, err := k.s.Layer(d)
	if err != nil {
		return nil, missing(err)
	}
	return l.Open()
}

func (k keeper) Put(ctx context.Context, tar io.Reader, want digest.Digest) (digest.Digest, int64, error) {
	l, err := k.s.Put(ctx, tar, want)
	return l.DiffID, l.Size, err
}

func (k keeper) PutBlob(ctx context.Context, blob io.Reader, d v1.Descriptor, inflate func(io.Reader) (io.ReadCloser, error), want digest.Digest) (int64, error) {
	settings, err := image.ReadSettings()
	if err != nil {
		return 0, err
	}
	l, err := k.s.PutBlob(ctx, blob, d.Digest, inflate, want, settings.KeepBlobs)
	if err == nil && settings.KeepBlobs {
		err = k.show(l.DiffID, d.Digest)
	}
	return l.Size, err
}

func (k keeper) Ready(ctx context.Context, chain []digest.Digest) error {
	_, err := k.s.View(ctx, chain, "")
	return err
}

// show has a blob that is kept be one of the images' layout, too: other programs find it there.
func (k keeper) show(diff, id digest.Digest) error {
	f, err := k.s.Blob(diff, id)
	if err != nil {
		return err
	}
	defer f.Close()
	dir := filepath.Join(k.layout, "blobs", id.Algorithm().String())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Link(f.Name(), filepath.Join(dir, id.Encoded())); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (k keeper) Blob(_ context.Context, diff digest.Digest, d v1.Descriptor) (io.ReadCloser, error) {
	f, err := k.s.Blob(diff, d.Digest)
	if err != nil {
		return nil, missing(err)
	}
	return f, nil
}

func (k keeper) Sweep(_ context.Context, used func(digest.Digest) bool) (image.Swept, error) {
	removed, bytes, err := k.s.GC(used)
	return image.Swept{Blobs: removed, Bytes: bytes}, err
}

func (k keeper) Discard(_ context.Context, d digest.Digest) error { return k.s.Remove(d) }

func (k keeper) Check(ctx context.Context, d digest.Digest) error { return k.s.Check(ctx, d) }
