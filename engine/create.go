package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kakuri/kakuri/internal/files"
	"github.com/kakuri/kakuri/monitor"
	"golang.org/x/sys/unix"
)

// slots is how many ranges of 65,536 ids there are, from slotBase(0) on.
const slots = 4096

// slotBase is the first id of the host in a slot's range: 0x70000000 is above
// what user databases and other engines hand out.
func slotBase(slot int) uint32 { return 0x70000000 + uint32(slot)<<16 }

// Create makes a container, and does not start it.
func (e *Engine) Create(ctx context.Context, cfg Config) (Container, error) {
	if err := ctx.Err(); err != nil {
		return Container{}, err
	}
	if err := e.chooseNetwork(&cfg); err != nil {
		return Container{}, err
	}
	c, lock, err := e.create(ctx, cfg)
	if err != nil {
		return c, err
	}
	defer lock.Close()
	b, err := e.build(ctx, c.Record, true)
	if err != nil {
		return c, errors.Join(err, e.discard(&c))
	}
	b.tell()
	if err := e.noteLinks(&c); err != nil {
		return c, errors.Join(err, e.discard(&c))
	}
	c.Status = monitor.Created
	if err := c.writeState(); err != nil {
		return c, errors.Join(err, e.discard(&c))
	}
	e.event(&c, "create", nil)
	return c, e.finished(&c)
}

// record is the record of a container that is asked for, its network chosen, without what has to be reserved. Its image stays until release is called: by
// then the record is in its place, or given up.
func (e *Engine) record(ctx context.Context, cfg Config) (r Record, release func(), err error) {
	r, err = e.plainRecord(cfg)
	if err != nil || !cfg.fromImage() {
		return r, func() {}, err
	}
	img, release, err := e.image(ctx, &r.Config)
	if err != nil {
		return r, nil, err
	}
	if err := e.runs(img, cfg.Platform); err != nil {
		release()
		return r, nil, err
	}
	for _, left := range r.Config.applyImage(img) {
		if e.warn != nil {
			e.warn(fmt.Sprintf("image %s: %s: it is left out", cfg.Image, left))
		}
	}
	r.ImageID, r.Command = img.ID.String(), r.Config.argv()
	for _, d := range img.Chain() {
		r.Chain = append(r.Chain, d.String())
	}
	if err := checkHealth(r.Config.Health); err != nil {
		release()
		return r, nil, err
	}
	return r, release, nil
}

// plainRecord is record without an image.
func (e *Engine) plainRecord(cfg Config) (Record, error) {
	name := strings.TrimPrefix(cfg.Name, "/") // inspect writes it so, and Docker takes it back
	if cfg.Name != "" && !ValidName(name) {
		return Record{}, fmt.Errorf("--name %q: a name is two to %d of a-z, A-Z, 0-9, and after the first _ . -", cfg.Name, maxName)
	}
	cfg.Name = name
	switch cfg.Runtime {
	case "", "kakuri", "kakuri-runtime":
	case "runc", "io.containerd.runc.v2": // Docker's default by its names: whoever writes it out asks for nothing special
	default:
		return Record{}, fmt.Errorf("unknown or invalid runtime name: %s: kakuri-runtime is the only one", cfg.Runtime)
	}
	for key := range cfg.StorageOpt {
		if key != "size" {
			return Record{}, fmt.Errorf("--storage-opt %s: there is no such option: size is the only one", key)
		}
	}
	if cfg.AutoRemove && !cfg.Restart.Never() {
		return Record{}, errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	if err := cfg.conflict(); err != nil {
		return Record{}, err
	}
	if err := checkLog(cfg.Log); err != nil {
		return Record{}, err
	}
	if err := checkRestart(&cfg.Restart); err != nil {
		return Record{}, err
	}
	if err := checkHealth(cfg.Health); err != nil {
		return Record{}, err
	}
	e.warnOfOOM(cfg.Resources)
	r := Record{ID: files.NewID(), Name: cfg.Name, Created: time.Now(), Config: cfg, Image: cfg.Image, Command: cfg.argv(), Slot: -1, UserNS: e.ownUserNS(cfg)}
	if cfg.Rootfs != "" {
		r.Image = cfg.Rootfs
	}
	labels, err := e.labelsFor(&cfg)
	r.ProcessLabel, r.MountLabel = labels.Process, labels.File
	return r, err
}

// warnOfOOM warns of a container that nothing ends when memory runs out, the machine's or that of a group above. With version 2 the flag has no effect, which the runtime says.
func (e *Engine) warnOfOOM(r Resources) {
	if e.warn != nil && r.OOMKillDisable && r.Memory == 0 && !unifiedMemory() {
		e.warn("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources")
	}
}

// create makes the directory of a container, which is being created as long as its lock is held. Who calls ends that by
// finished, when it is there as a whole, or by discard.
func (e *Engine) create(ctx context.Context, cfg Config) (c Container, lock *os.File, err error) {
	var release func()
	if c.Record, release, err = e.record(ctx, cfg); err != nil {
		return c, nil, err
	}
	defer release()
	e.joinByID(&c.Config)
	if err := e.mkdirs(); err != nil {
		return c, nil, err
	}
	making, err := e.lockMaking(unix.LOCK_SH)
	if err != nil {
		return c, nil, err
	}
	defer making.Close()
	c.dir = e.home(c.Record)
	if err := os.Symlink(c.dir, e.creating()+"/"+c.ID); err != nil {
		return c, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.discard(&c))
			if lock != nil {
				lock.Close()
			}
		}
	}()
	if err := e.reserve(&c.Record); err != nil {
		return c, nil, err
	}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return c, nil, err
	}
	if lock, err = lockDir(c.dir, unix.LOCK_EX); err != nil {
		return c, nil, err
	}
	c.State = State{Status: monitor.Creating}
	if err := c.writeState(); err != nil {
		return c, lock, err
	}
	return c, lock, e.withVolumes(ctx, &c)
}

// joinByID has a container join the namespaces of those that have their names now, whatever they are called later, and says
// so as Docker's inspect does.
func (e *Engine) joinByID(c *Config) {
	for _, mode := range []*string{&c.PID, &c.IPC, &c.UTS, &c.UserNS, &c.CgroupNS, &c.Network} {
		ref, joins := strings.CutPrefix(*mode, "container:")
		if other, err := e.Find(ref); joins && err == nil { // else it is told when the container is built
			*mode = "container:" + other.ID
		}
	}
}

// withVolumes writes the record of a new container with the volumes that it gets, which nobody removes meanwhile.
func (e *Engine) withVolumes(ctx context.Context, c *Container) error {
	if len(c.Config.Mounts) == 0 && len(c.Config.VolumesFrom) == 0 {
		return c.writeRecord()
	}
	unlock, err := e.volumes().Lock(false)
	if err != nil {
		return err
	}
	defer unlock()
	release, err := e.chooseVolumes(ctx, &c.Record)
	defer release()
	if err != nil {
		return err
	}
	if err := c.writeRecord(); err != nil {
		return err
	}
	return e.fillVolumes(ctx, &c.Record)
}

// finished says that a container is there as a whole. Who sweeps may have seen that already.
func (e *Engine) finished(c *Container) error { return removeIfThere(e.creating() + "/" + c.ID) }

// discard takes away a container that was not made, or is to be removed: what it may have reserved last but one, so that a killed discard is
// found again. Of one that cannot be removed as a whole they stay, for the next sweep. Who looks for what is left waits for that.
func (e *Engine) discard(c *Container) error {
	defer e.amongMakers()()
	return e.discardAlone(c)
}

// amongMakers keeps who looks for what is left away until done. Who is at that may be so for long, or wait for this very command, which a hook calls of what it takes away: it is waited
// for a moment. Without it nothing goes that should not: a check may tell of what is just going.
func (e *Engine) amongMakers() (done func()) {
	making, err := lockSoon(func() (*os.File, error) { return e.lockMaking(unix.LOCK_SH | unix.LOCK_NB) })
	if err != nil {
		return func() {}
	}
	return func() { making.Close() }
}

// lockSoon takes a lock, by a call that does not wait, which somebody may have for a moment.
func lockSoon(take func() (*os.File, error)) (lock *os.File, err error) {
	soon(func() bool {
		lock, err = take()
		return !errors.Is(err, unix.EWOULDBLOCK)
	})
	return lock, err
}

// discardAlone is discard by who keeps them away.
func (e *Engine) discardAlone(c *Container) error {
	errs := []error{e.release(c, true), files.RemoveAll(c.dir)}
	if errs[1] != nil {
		return errors.Join(errs...)
	}
	errs = append(errs, e.leaveNetworks(c.ID))
	if c.Status == monitor.Creating {
		errs = append(errs, e.removeAnonymous(c.Record, false))
	}
	if c.Name != "" {
		errs = append(errs, e.giveBack(e.names(), c.Name, c.ID))
	}
	if c.Slot >= 0 {
		errs = append(errs, e.giveBack(e.ids(), strconv.Itoa(c.Slot), c.ID))
	}
	return errors.Join(append(errs, removeIfThere(e.creating()+"/"+c.ID))...)
}

func removeIfThere(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// giveBack removes a reservation, if it is that of the id.
func (e *Engine) giveBack(dir, name, id string) error {
	if to, err := files.ReservedFor(dir + "/" + name); err != nil || to != id {
		return nil
	}
	return removeIfThere(dir + "/" + name)
}

// lockMaking is shared by those who make containers, and excluded by who looks for what they left.
func (e *Engine) lockMaking(how int) (*os.File, error) {
	f, err := os.OpenFile(e.data+"/lock", os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := files.Flock(f, how); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// reserve gives a container its name and its range of ids.
func (e *Engine) reserve(r *Record) error {
	for try := 0; ; try++ {
		name := r.Name
		if name == "" {
			name = freeName(try)
		}
		err := files.Reserve(r.ID, e.names()+"/"+name)
		if err == nil {
			r.Name = name
			break
		}
		if !errors.Is(err, os.ErrExist) {
			return err
		}
		if r.Name != "" && e.unused(name) {
			continue
		}
		if r.Name != "" {
			taken := r.Name
			r.Name = "" // it is not this container's to give back
			return e.nameTaken(taken)
		}
	}
	if !e.needsSlot(r.Config) {
		return nil
	}
	return e.eachFreeSlot(func(slot int) (bool, error) {
		err := files.Reserve(r.ID, e.ids()+"/"+strconv.Itoa(slot))
		if errors.Is(err, os.ErrExist) {
			return false, nil // another command was faster
		}
		if err == nil {
			r.Slot = slot
		}
		return true, err
	})
}

// unused gives a name back that nobody has any more, and reports whether it has: a rename that was killed leaves one.
func (e *Engine) unused(name string) bool {
	id, err := files.ReservedFor(e.names() + "/" + name)
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	// In this order: who makes a container takes the mark away when the container is there.
	if exists(e.creating() + "/" + id) {
		return false
	}
	if dir := e.find(id); dir != "" {
		lock, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			return false // perhaps it is about to get the name
		}
		defer lock.Close()
		if c, err := e.read(dir); err != nil || c.Name == name {
			return false
		}
	}
	return e.giveBack(e.names(), name, id) == nil
}

func (e *Engine) nameTaken(name string) error {
	id, _ := files.ReservedFor(e.names() + "/" + name)
	return ErrConflict{fmt.Sprintf("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+name, id)}
}

// freeName makes up a name: most pairs of words may be taken.
func freeName(try int) string {
	if try < 100 {
		return randomName()
	}
	return randomName() + strconv.Itoa(try)
}

// needsSlot reports whether a container maps a range of ids of its own: as root, in a user namespace of its own.
func (e *Engine) needsSlot(c Config) bool { return e.host.Privileged() && e.ownUserNS(c) }

// ownUserNS reports whether a container has a user namespace of its own, as far as its flags tell: one that joins another's namespaces may not have.
func (e *Engine) ownUserNS(c Config) bool {
	return own(c.UserNS) && !(c.Privileged && c.UserNS == "" && e.host.Privileged())
}

// eachFreeSlot tries the free ranges, lowest first, until one is taken.
func (e *Engine) eachFreeSlot(try func(slot int) (bool, error)) error {
	list, err := files.ListOwn(e.ids())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	taken := make(map[int]bool, len(list))
	for _, name := range list {
		if n, err := strconv.Atoi(name); err == nil {
			taken[n] = true
		}
	}
	for slot := range slots {
		if taken[slot] {
			continue
		}
		if done, err := try(slot); done || err != nil {
			return err
		}
	}
	return fmt.Errorf("all %d ranges of ids are taken by containers: remove some", slots)
}

// chooseFree fills in a name and a range of ids that are free at this moment, and reserves nothing.
func (e *Engine) chooseFree(r *Record) error {
	if r.Name != "" && exists(e.names()+"/"+r.Name) {
		return e.nameTaken(r.Name)
	}
	for try := 0; r.Name == ""; try++ {
		if name := freeName(try); !exists(e.names() + "/" + name) {
			r.Name = name
		}
	}
	if !e.needsSlot(r.Config) {
		return nil
	}
	return e.eachFreeSlot(func(slot int) (bool, error) { r.Slot = slot; return true, nil })
}

// ValidName reports whether Docker would take name for a container.
func ValidName(name string) bool { return len(name) > 1 && files.IsName(name, maxName) }

// maxName is the length of the longest name of a container, which is that of a file, too.
const maxName = 255
