package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kakuri/kakuri/abi"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// mountOptions are a mount's options, sorted by what they act on.
type mountOptions struct {
	bind, recursive bool
	attrs           Attrs
	idmap, ridmap   bool     // id-map the source with the container's user namespace
	mode            string   // propagation
	remount         bool     // change what is mounted there
	copyUp          bool     // a new tmpfs begins with what it covers
	ofLink, onLink  bool     // a link that is the source, or the destination, is meant itself: as crun
	copyLink        bool     // a source that is a symbolic link is copied, and not mounted: crun(1)
	data            []string // of the file system
}

// An attrWord is an option that sets or clears an attribute of a mount.
type attrWord struct {
	word       string
	set, clear uint64
}

// attrWords lists the words of mount(8) that are attributes of a mount. With an
// "r" before them they act on all mounts below as well (runtime-spec
// config.md, "Linux mount options").
var attrWords = [...]attrWord{
	{"ro", abi.MountAttrRdonly, 0}, {"rw", 0, abi.MountAttrRdonly},
	{"nosuid", abi.MountAttrNosuid, 0}, {"suid", 0, abi.MountAttrNosuid},
	{"nodev", abi.MountAttrNodev, 0}, {"dev", 0, abi.MountAttrNodev},
	{"noexec", abi.MountAttrNoexec, 0}, {"exec", 0, abi.MountAttrNoexec},
	{"nodiratime", abi.MountAttrNodiratime, 0}, {"diratime", 0, abi.MountAttrNodiratime},
	{"nosymfollow", abi.MountAttrNosymfollow, 0}, {"symfollow", 0, abi.MountAttrNosymfollow},
	{"relatime", abi.MountAttrRelatime, abi.MountAttrAtime}, {"norelatime", 0, 0}, // as with runc and crun: relatime is no bit that could be cleared
	{"noatime", abi.MountAttrNoatime, abi.MountAttrAtime}, {"atime", abi.MountAttrRelatime, abi.MountAttrAtime},
	{"strictatime", abi.MountAttrStrictatime, abi.MountAttrAtime}, {"nostrictatime", abi.MountAttrRelatime, abi.MountAttrAtime},
}

// modes are the words for the propagation of a mount.
var modes = [...]string{"private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable"}

// superWords are the words of mount(8) for flags of a file system, which fsconfig(2) takes for
// a new one. A bind has its file system's.
var superWords = [...]string{"sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand"}

// idleWords are flags of mount(2) that change nothing any more, or only what the kernel logs.
var idleWords = [...]string{"acl", "noacl", "iversion", "noiversion", "silent", "loud", "defaults", ""}

// MountOptions lists the words that mounts[i].options may have for every file system.
func MountOptions() []string {
	list := []string{"bind", "rbind", "remount", "idmap", "ridmap", "tmpcopyup", "copy-symlink", "src-nofollow", "dest-nofollow"}
	list = append(append(list, modes[:]...), superWords[:]...)
	for _, w := range idleWords {
		if w != "" {
			list = append(list, w)
		}
	}
	for _, w := range attrWords {
		list = append(list, w.word, "r"+w.word)
	}
	slices.Sort(list)
	return list
}

func findAttr(word string) (attrWord, bool) {
	for _, w := range attrWords {
		if w.word == word {
			return w, true
		}
	}
	return attrWord{}, false
}

// isAttr tells a word for an attribute of the mount itself.
func isAttr(word string) bool {
	_, ok := findAttr(word)
	return ok
}

// apply lets a later word win over an earlier one.
func (w attrWord) apply(set, clear *uint64) {
	*set = *set&^w.clear&^w.set | w.set
	*clear = *clear&^w.set&^w.clear | w.clear
}

// bindAtime is what the words for access times make of a bind. As with mount(2), a word that
// takes another one back says nothing by itself, and without any the source's stay.
func bindAtime(words []string) (set, clear uint64) {
	var noatime, nodiratime, relatime, strictatime bool
	for _, w := range words {
		switch w {
		case "noatime", "atime":
			noatime = w == "noatime"
		case "nodiratime", "diratime":
			nodiratime = w == "nodiratime"
		case "relatime", "norelatime":
			relatime = w == "relatime"
		case "strictatime", "nostrictatime":
			strictatime = w == "strictatime"
		}
	}
	if !noatime && !nodiratime && !relatime && !strictatime {
		return 0, 0
	}
	switch {
	case strictatime:
		set = abi.MountAttrStrictatime
	case noatime:
		set = abi.MountAttrNoatime
	}
	if nodiratime {
		set |= abi.MountAttrNodiratime
	}
	return set, abi.MountAttrAtime | abi.MountAttrNodiratime
}

// parseMount sorts the options of mounts[i].
func (c *compiler) parseMount(i int, m specs.Mount) (mountOptions, error) {
	o := mountOptions{bind: m.Type == "bind"}
	for k, word := range m.Options {
		if err := o.word(word); err != nil {
			return o, specErr(fmt.Sprintf("mounts[%d].options[%d]", i, k), "%v", err)
		}
	}
	if o.bind && !o.remount {
		const all = abi.MountAttrAtime | abi.MountAttrNodiratime
		set, clear := bindAtime(m.Options)
		o.attrs.Set, o.attrs.Clear = o.attrs.Set&^all|set, o.attrs.Clear&^all|clear
	}
	own := len(m.UIDMappings) > 0
	o.idmap = o.idmap || own
	switch {
	case own != (len(m.GIDMappings) > 0):
		return o, specErr(fmt.Sprintf("mounts[%d].uidMappings", i), "uidMappings and gidMappings belong together")
	case o.idmap && !o.bind:
		return o, specErr(fmt.Sprintf("mounts[%d].options", i), "ids are mapped in bind mounts only")
	case o.idmap && !own && !c.userNS:
		return o, specErr(fmt.Sprintf("mounts[%d].options", i), "idmap without uidMappings is for a container with a user namespace")
	case o.copyUp && m.Type != "tmpfs":
		return o, specErr(fmt.Sprintf("mounts[%d].options", i), "tmpcopyup is for mounts of type tmpfs")
	case (o.copyLink || o.ofLink || o.onLink) && (!o.bind || o.remount):
		return o, specErr(fmt.Sprintf("mounts[%d].options", i), "copy-symlink, src-nofollow and dest-nofollow are for bind mounts")
	case o.copyLink && (o.ofLink || o.onLink):
		return o, specErr(fmt.Sprintf("mounts[%d].options", i), "copy-symlink does not go with src-nofollow and dest-nofollow")
	case o.ofLink && o.idmap:
		return o, specErr(fmt.Sprintf("mounts[%d].options", i), "src-nofollow does not go with idmap")
	}
	return o, nil
}

// word takes one option into o.
func (o *mountOptions) word(word string) error {
	switch word {
	case "bind":
		o.bind = true
		return nil
	case "rbind":
		o.bind, o.recursive = true, true
		return nil
	case "remount":
		o.remount = true
		return nil
	case "idmap":
		o.idmap = true
		return nil
	case "ridmap":
		o.idmap, o.ridmap = true, true
		return nil
	case "tmpcopyup":
		o.copyUp = true
		return nil
	case "copy-symlink":
		o.copyLink = true
		return nil
	case "src-nofollow":
		o.ofLink = true
		return nil
	case "dest-nofollow":
		o.onLink = true
		return nil
	}
	if slices.Contains(modes[:], word) {
		o.mode = word
		return nil
	}
	if slices.Contains(idleWords[:], word) {
		return nil
	}
	if w, ok := findAttr(word); ok {
		w.apply(&o.attrs.Set, &o.attrs.Clear)
	} else if w, ok := findAttr(strings.TrimPrefix(word, "r")); ok && word[0] == 'r' {
		w.apply(&o.attrs.RecSet, &o.attrs.RecClear)
	} else if !o.bind && !o.remount {
		o.data = append(o.data, word)
	} else if !slices.Contains(superWords[:], word) {
		return fmt.Errorf("a bind mount has no option %q", word)
	}
	return nil
}

// tmpfsSize is the limit that options of a tmpfs set, in bytes: tmpfs(5). 0 is none, one in hundredths of the memory, or one in blocks.
func tmpfsSize(options []string) (bytes uint64) {
	for _, o := range options {
		value, ok := strings.CutPrefix(o, "size=")
		if !ok {
			continue
		}
		digits := strings.TrimRight(value, "kKmMgG")
		n, err := strconv.ParseUint(digits, 10, 64)
		shift := map[string]int{"": 0, "k": 10, "m": 20, "g": 30}
		by, known := shift[strings.ToLower(value[len(digits):])]
		if bytes = n << by; err != nil || !known || bytes>>by != n {
			bytes = 0
		}
	}
	return bytes
}

// isMode tells the option of a tmpfs that gives its mode.
func isMode(option string) bool { return strings.HasPrefix(option, "mode=") }
