package engine

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/kakuri/kakuri/host"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// etcFiles mounts on an image's container what depends on where it runs: its name, those of hosts, and who answers for names. The
// files lie in the container's directory, written at each start; with --network container:NAME they are that container's.
func (b *builder) etcFiles() error {
	if !b.run.fromImage() {
		return nil
	}
	name := b.spec.Hostname
	if name == "" {
		name = strings.TrimSpace(string(hostFile("/proc/sys/kernel/hostname")))
	}
	resolv, hosts := hostFile("/etc/resolv.conf"), hostFile("/etc/hosts")
	if own(b.run.Network) {
		resolv, hosts = nil, []byte("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	}
	b.etc = map[string][]byte{"hostname": []byte(name + "\n"), "hosts": hosts, "resolv.conf": resolv}
	dir := b.engine.home(b.rec)
	for _, file := range []string{"hostname", "hosts", "resolv.conf"} {
		from, dest := dir, "/etc/"+file
		if slices.ContainsFunc(b.run.Mounts, func(m Mount) bool { return path.Clean(m.Dest) == dest }) {
			delete(b.etc, file)
			continue
		}
		if c, ok := b.shared[b.run.Network]; ok && file != "hostname" && c.Config.fromImage() {
			delete(b.etc, file)
			from = c.dir
		}
		options := []string{"rbind", "rprivate", "nodev"}
		if b.opts.IDMapRoot {
			options = append(options, "ridmap")
		}
		b.mount(specs.Mount{Destination: dest, Type: "bind", Source: from + "/" + file, Options: options}, fmt.Sprintf("default: the container's own %s", strings.TrimSuffix(file, ".conf")))
	}
	return nil
}

// hostFile is a file of the host, empty where it is not there.
func hostFile(name string) []byte {
	data, _ := host.ReadFile(name)
	return data
}
