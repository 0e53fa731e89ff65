package main

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A release is a kernel that the tests are to run on.
type release struct{ name, suite string }

// releases are the kernels of Debian's oldest and newest supported release, and the
// newest there is.
func releases() []release {
	return []release{{"6.1", "bookworm"}, {"6.12", "trixie"}, {"new", "sid"}}
}

func choose(name string) ([]release, error) {
	all := releases()
	if name == "" {
		return all, nil
	}
	for _, r := range all {
		if r.name == name {
			return []release{r}, nil
		}
	}
	return nil, fmt.Errorf("kernel %q: it is 6.1, 6.12 or new", name)
}

// A kernel is unpacked in the cache.
type kernel struct {
	version string // as uname -r says
	image   string // for qemu
	modules string // directory of modules
}

// getKernel fetches the cloud kernel of a release where the cache has none.
func getKernel(o options, r release) (*kernel, error) {
	dir := filepath.Join(o.Cache, "kernel-"+r.name+"-"+o.Arch)
	err := fresh(dir, o.Update, func(dir string) error {
		fmt.Printf("fetching the cloud kernel of %s for %s\n", r.suite, o.Arch)
		a, err := openArchive(o, r.suite)
		if err != nil {
			return err
		}
		pkgs, err := kernelPackages(a.depends, "linux-image-cloud-"+o.Arch)
		if err != nil {
			return err
		}
		debs := filepath.Join(dir, "debs")
		if err := a.download(debs, pkgs...); err != nil {
			return err
		}
		files, err := filepath.Glob(debs + "/*.deb")
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := unpack(f, dir); err != nil {
				return err
			}
		}
		return os.RemoveAll(debs)
	})
	if err != nil {
		return nil, err
	}
	return openKernel(dir)
}

// kernelPackages lists what has files of the kernel among a package's dependencies. Since
// 6.17 image and modules are packages of their own.
func kernelPackages(depends func(string) ([]string, error), pkg string) ([]string, error) {
	list := []string{pkg}
	for i := 0; i < len(list); i++ {
		deps, err := depends(list[i])
		if err != nil {
			return nil, err
		}
		for _, d := range deps {
			kernel := slices.ContainsFunc([]string{"linux-image-", "linux-base-", "linux-binary-", "linux-modules-"}, func(p string) bool { return strings.HasPrefix(d, p) })
			if kernel && !slices.Contains(list, d) {
				list = append(list, d)
			}
		}
	}
	return list, nil
}

// openKernel finds the parts of an unpacked kernel: below /usr or not.
func openKernel(dir string) (*kernel, error) {
	var found []string
	for _, p := range []string{"lib/modules/*", "usr/lib/modules/*"} {
		match, err := filepath.Glob(filepath.Join(dir, p))
		if err != nil {
			return nil, err
		}
		found = append(found, match...)
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%d directories of modules in %s", len(found), dir)
	}
	k := &kernel{version: filepath.Base(found[0]), modules: found[0]}
	for _, p := range []string{filepath.Join(dir, "boot/vmlinuz-"+k.version), filepath.Join(k.modules, "vmlinuz")} {
		if fileExists(p) {
			k.image = p
			return k, plainImage(k)
		}
	}
	return nil, fmt.Errorf("no vmlinuz in %s", dir)
}

// plainImage puts an image that unpacks itself by EFI's means beside its unpacked
// form: qemu's own loader knows it since 8.0 only. It is arm64's form; include/linux/pe.h
// and drivers/firmware/efi/libstub/zboot-header.S have its header.
func plainImage(k *kernel) error {
	plain := k.image + ".plain"
	if fileExists(plain) {
		k.image = plain
		return nil
	}
	data, err := os.ReadFile(k.image)
	if err != nil {
		return err
	}
	packed, isZboot, err := zboot(data)
	if err != nil || !isZboot {
		return err
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return fmt.Errorf("%s: %w", k.image, err)
	}
	data, err = io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("%s: %w", k.image, err)
	}
	k.image = plain
	return os.WriteFile(plain, data, 0o644)
}

// zboot finds the packed kernel in an image of that form.
func zboot(data []byte) (packed []byte, is bool, err error) {
	if len(data) < 64 || string(data[4:8]) != "zimg" {
		return nil, false, nil
	}
	if kind := string(bytes.TrimRight(data[24:56], "\x00")); !strings.HasPrefix(kind, "gzip") {
		return nil, true, fmt.Errorf("kernel image packed by %q, not gzip", kind)
	}
	at, size := int(binary.LittleEndian.Uint32(data[8:])), int(binary.LittleEndian.Uint32(data[12:]))
	if at < 0 || size < 0 || at+size > len(data) {
		return nil, true, errors.New("kernel image ends early")
	}
	return data[at : at+size], true, nil
}

// A module is a file to load, unpacked.
type module struct {
	name string
	data []byte
}

// The modules that a guest cannot do without, and those that tests use. A test that is content with a kernel that has no macvlan or ipvlan
// has to meet one that has.
var (
	mustLoad = []string{"virtio_pci", "virtio_blk", "virtio_console", "ext4", "overlay", "macvlan", "ipvlan"}
	mayLoad  = []string{
		"autofs4", "loop", "tun", "veth", "macvlan", "ipvlan", "bridge", "br_netfilter", "dummy", "8021q", "vxlan", "sch_ingress", "cls_bpf",
		"nf_tables", "nf_conntrack", "nf_conntrack_netlink", "nf_nat", "nft_ct", "nft_nat", "nft_masq", "nft_redir", "nft_chain_nat", "nft_reject_inet", "nft_fib_inet", "nft_limit", "nft_log", "nf_log_syslog", "nft_compat", "xt_tcpudp", "xt_comment", "xt_addrtype", "xt_conntrack", "xt_limit", "xt_multiport", "xt_LOG", "xt_nat", "xt_MASQUERADE", "ipt_REJECT", "ip6t_REJECT", "ipt_rpfilter", "ip6t_rpfilter", "inet_diag", "tcp_diag", "udp_diag",
		"bfq", "fuse", "binfmt_misc", "erofs", "quota_v2",
	}
)

// loadList reads the modules named, each after those it depends on. What is built in
// is left out, and so is a name of may that this kernel does not have.
func loadList(k *kernel, must, may []string) ([]module, error) {
	paths, err := modulePaths(k.modules)
	if err != nil {
		return nil, err
	}
	builtin, err := builtins(k.modules)
	if err != nil {
		return nil, err
	}
	var list []module
	done := map[string]bool{}
	var add func(name string, must bool) error
	add = func(name string, must bool) error {
		if name = moduleName(name); done[name] || builtin[name] {
			return nil
		}
		done[name] = true
		path, ok := paths[name]
		if !ok && !must {
			return nil
		} else if !ok {
			return fmt.Errorf("no module %s in %s", name, k.modules)
		}
		data, err := readModule(path)
		if err != nil {
			return err
		}
		hard, soft, err := modinfo(data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, d := range hard {
			if err := add(d, true); err != nil {
				return err
			}
		}
		for _, d := range soft {
			if err := add(d, false); err != nil {
				return err
			}
		}
		list = append(list, module{name, data})
		return nil
	}
	for _, name := range must {
		if err := add(name, true); err != nil {
			return nil, err
		}
	}
	for _, name := range may {
		if err := add(name, false); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// moduleName is the name under which a module is known, from that of a file.
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func modulePaths(dir string) (map[string]string, error) {
	paths := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err == nil && strings.Contains(e.Name(), ".ko") {
			paths[moduleName(p)] = p
		}
		return err
	})
	return paths, err
}

func builtins(dir string) (map[string]bool, error) {
	data, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	set := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		set[moduleName(strings.TrimSpace(line))] = true
	}
	return set, nil
}

func readModule(path string) ([]byte, error) {
	if strings.HasSuffix(path, ".xz") {
		return output("xz", "-dc", path)
	}
	return os.ReadFile(path)
}

// modinfo reads from a module which others it needs, and which it would like to find
// when it is loaded. No modules.dep is in a kernel's package: depmod writes it where that is installed.
func modinfo(data []byte) (hard, soft []string, err error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, nil, errors.New("no section .modinfo")
	}
	text, err := s.Data()
	if err != nil {
		return nil, nil, err
	}
	for field := range strings.SplitSeq(string(text), "\x00") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "depends":
			hard = append(hard, strings.FieldsFunc(value, func(r rune) bool { return r == ',' })...)
		case "softdep":
			if pre, ok := strings.CutPrefix(value, "pre:"); ok {
				pre, _, _ = strings.Cut(pre, "post:")
				soft = append(soft, strings.Fields(pre)...)
			}
		}
	}
	return hard, soft, nil
}
