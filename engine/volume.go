package engine

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kakuri/kakuri/engine/content"
	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/monitor"
	"github.com/kakuri/kakuri/volume"
)

// A Volume is a volume in the form of Docker's API.
type Volume struct {
	CreatedAt  string
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
	Status     map[string]any `json:",omitempty"` // what a driver tells, which local does not: templates find the name, as with Docker
	UsageData  *VolumeUsage   `json:",omitempty"` // where it was asked for
}

// VolumeUsage is how much a volume holds, and how many containers have it.
type VolumeUsage struct {
	RefCount int64
	Size     int64 // bytes
}

// VolumeConfig asks for a volume: see [volume.Config].
type VolumeConfig = volume.Config

// anonymousLabel is Docker's mark of a volume that nobody gave a name.
const anonymousLabel = "com.docker.volume.anonymous"

func (e *Engine) volumes() *volume.Store {
	s := volume.Open(e.data + "/volumes")
	if !e.host.Privileged() {
		s.RemoveAll = func(path string) error {
			return e.volumeFiles().RemoveAll(context.Background(), path)
		}
	}
	return s
}

// volumeFiles are the files of volumes, which may have other ids than the caller.
func (e *Engine) volumeFiles() content.Volumes {
	return content.Volumes{Store: e.data + "/volumes", Privileged: e.host.Privileged(), IDs: e.storageIDs, Alone: childIsCalled}
}

func shownVolume(v volume.Volume) Volume {
	return Volume{
		CreatedAt: v.Created.Format(time.RFC3339), Driver: v.Driver, Labels: v.Labels, Mountpoint: v.Dir(), Name: v.Name, Options: v.Options, Scope: "local",
	}
}

// VolumeCreate makes a volume, or returns the one of that name.
func (e *Engine) VolumeCreate(ctx context.Context, c VolumeConfig) (Volume, error) {
	v, err := e.makeVolume(c)
	return shownVolume(v), err
}

func (e *Engine) makeVolume(c VolumeConfig) (volume.Volume, error) {
	if c.Name == "" {
		labels := map[string]string{anonymousLabel: ""}
		for k, v := range c.Labels {
			labels[k] = v
		}
		c.Labels = labels
	}
	v, made, err := e.volumes().Create(c)
	if made {
		e.tell("volume", "create", v.Name, map[string]string{"driver": v.Driver})
	}
	return v, err
}

// VolumeInspect returns a volume; its size and users only where they are asked for.
func (e *Engine) VolumeInspect(ctx context.Context, name string, usage bool) (Volume, error) {
	v, err := e.volumes().Get(name)
	if err != nil {
		return Volume{}, err
	}
	list, err := e.withUsage(ctx, []volume.Volume{v}, usage)
	if err != nil {
		return Volume{}, err
	}
	return list[0], nil
}

func (e *Engine) withUsage(ctx context.Context, list []volume.Volume, usage bool) ([]Volume, error) {
	shown := make([]Volume, 0, len(list))
	var users map[string][]string
	if usage {
		var err error
		if users, err = e.volumeUsers(); err != nil {
			return nil, err
		}
	}
	for _, v := range list {
		s := shownVolume(v)
		if usage {
			size, err := e.volumeFiles().Size(ctx, v.Name)
			if err != nil {
				size = -1 // as Docker tells what it cannot know: the volume of a device that is not there
			}
			s.UsageData = &VolumeUsage{RefCount: int64(len(users[v.Name])), Size: size}
		}
		shown = append(shown, s)
	}
	return shown, nil
}

// VolumeList returns the volumes that all filters let pass: dangling, driver, label, name.
func (e *Engine) VolumeList(ctx context.Context, f Filters, usage bool) ([]Volume, error) {
	keep, err := e.volumeFilter(f, "dangling", "driver", "label", "name")
	if err != nil {
		return nil, err
	}
	e.complain(e.sweepVolumes()) // those of containers that have gone by --rm nobody has any more
	list, damaged, err := e.volumes().List()
	if err != nil {
		return nil, err
	}
	for _, d := range damaged {
		e.caution(d)
	}
	return e.withUsage(ctx, slices.DeleteFunc(list, func(v volume.Volume) bool { return !keep(v) }), usage)
}

// volumeFilter makes one question of filters. Of several values of a key one has to fit, of labels all.
func (e *Engine) volumeFilter(f Filters, keys ...string) (func(volume.Volume) bool, error) {
	if err := f.Check(keys...); err != nil {
		return nil, err
	}
	dangling, err := f.truth("dangling")
	if err != nil {
		return nil, err
	}
	var users map[string][]string
	if dangling != nil {
		if users, err = e.volumeUsers(); err != nil {
			return nil, err
		}
	}
	hasName, err := f.patterns("name")
	if err != nil {
		return nil, err
	}
	return func(v volume.Volume) bool {
		return (dangling == nil || *dangling == (len(users[v.Name]) == 0)) &&
			f.any("driver", func(s string) bool { return v.Driver == s }) && hasName(v.Name) && f.Labels(v.Labels)
	}, nil
}

// VolumeRemove removes a volume that no container has. With force one that is not there is no error, and one whose record cannot be read goes with its files.
func (e *Engine) VolumeRemove(ctx context.Context, name string, force bool) error {
	v, err := e.volumes().Get(name)
	if err == nil || force && errors.As(err, new(*volume.DamagedError)) {
		err = e.volumes().Remove(name, force, e.usersOf)
	}
	var none *volume.NoVolumeError
	if errors.As(err, &none) && force {
		return nil
	}
	if err == nil {
		e.tell("volume", "destroy", name, map[string]string{"driver": v.Driver})
	}
	return err
}

// VolumePrune removes the volumes that no container has: those without a name of their own, and with the filter
// all=true the others, too, but for those with options: they say where files of somebody else's are, as with Docker. It returns the names, and the bytes that their files had.
func (e *Engine) VolumePrune(ctx context.Context, f Filters) (removed []string, bytes int64, err error) {
	all, err := f.truth("all")
	if err != nil {
		return nil, 0, err
	}
	keep, err := e.volumeFilter(f, "all", "label", "label!")
	if err != nil {
		return nil, 0, err
	}
	list, damaged, err := e.volumes().List()
	errs := []error{err}
	for _, d := range damaged {
		e.caution(d)
	}
	for _, v := range list {
		if !keep(v) || len(v.Options) > 0 || !(all != nil && *all) && !v.Anonymous {
			continue
		}
		size, _ := e.volumeFiles().Size(ctx, v.Name)
		err := e.VolumeRemove(ctx, v.Name, true)
		switch {
		case errors.As(err, new(*volume.InUseError)):
		case err != nil:
			errs = append(errs, err)
		default:
			removed, bytes = append(removed, v.Name), bytes+size
		}
	}
	return removed, bytes, e.pruned("volume", bytes, errors.Join(errs...))
}

// VolumeExport writes a volume's files as a tar.
func (e *Engine) VolumeExport(ctx context.Context, name string, w io.Writer) error {
	if _, err := e.volumes().Get(name); err != nil {
		return err
	}
	return e.volumeFiles().Export(ctx, name, w)
}

// VolumeImport puts the files of a tar, compressed or not, into a volume, over what is there. An archive that is not
// taken changes nothing. It returns what was left out, and why.
func (e *Engine) VolumeImport(ctx context.Context, name string, r io.Reader) (leftOut []string, err error) {
	if _, err := e.volumes().Get(name); err != nil {
		return nil, err
	}
	unlock, err := e.volumes().Lock(false) // nobody sweeps it meanwhile
	if err != nil {
		return nil, err
	}
	defer unlock()
	return e.volumeFiles().Import(ctx, name, r)
}

// volumeUsers are the containers that have each volume, those included that are being made.
func (e *Engine) volumeUsers() (map[string][]string, error) {
	users := map[string][]string{}
	for _, home := range e.homes() {
		list, err := files.List(home)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		for _, id := range list {
			if !files.IsID(id) {
				continue
			}
			var r struct{ Volumes []MountPoint }
			if err := monitor.ReadJSON(home+"/"+id+"/container.json", &r); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, ErrDamaged{id, err}
			}
			for _, m := range r.Volumes {
				if m.Type == "volume" && !slices.Contains(users[m.Name], id) {
					users[m.Name] = append(users[m.Name], id)
				}
			}
		}
	}
	return users, nil
}

func (e *Engine) usersOf(v volume.Volume) ([]string, error) {
	users, err := e.volumeUsers()
	return users[v.Name], err
}

// removeAnonymous removes the volumes of a container that is gone and that nobody gave a name, unless another
// container has them; with lent also those that another one had lent it.
func (e *Engine) removeAnonymous(r Record, lent bool) error {
	var errs []error
	for _, m := range r.Volumes {
		if !m.Anonymous && !(lent && m.Lent) {
			continue
		}
		err := e.VolumeRemove(context.Background(), m.Name, true)
		if err != nil && !errors.As(err, new(*volume.InUseError)) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// A container that is removed by its monitor leaves its anonymous volumes. Data/volumes/.owned has a link VOLUME.CONTAINER to the container for each such volume,
// also for one that another container lent it, and the next command removes the volume when the container is gone.
func (e *Engine) owned() string { return e.data + "/volumes/.owned" }

func (e *Engine) ownVolume(name, id string) error {
	if err := os.MkdirAll(e.owned(), 0o700); err != nil {
		return err
	}
	return files.Reserve(id, e.owned()+"/"+name+"."+id)
}

// sweepVolumes removes the volumes of containers that were to be removed at their end, and what killed commands left.
func (e *Engine) sweepVolumes() error {
	list, err := files.ListOwn(e.owned())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var errs []error
	for _, mark := range list {
		id, err := files.ReservedFor(e.owned() + "/" + mark)
		if err != nil || e.find(id) != "" || exists(e.creating()+"/"+id) {
			continue
		}
		err = e.VolumeRemove(context.Background(), strings.TrimSuffix(mark, "."+id), true)
		if errors.As(err, new(*volume.InUseError)) {
			err = nil // by --volumes-from: it goes with the last who has it, by --rm or rm -v
		}
		errs = append(errs, cmp.Or(err, removeIfThere(e.owned()+"/"+mark)))
	}
	_, err = e.volumes().Sweep()
	return errors.Join(append(errs, err)...)
}
