package main

import (
	"bytes"
	"compress/gzip"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/kakuri/kakuri/cli"
	"github.com/kakuri/kakuri/internal/docgen"
)

// A File is one of a package, below the root of the file system it is installed in.
type File struct {
	Name string // usr/bin/kakuri
	Mode int64
	Data []byte
}

const units = "usr/lib/systemd/system/"

// gather collects what is installed: programs from bin, the rest from the source.
func gather(source, bin string) ([]File, error) {
	var files []File
	add := func(name string, mode int64, data []byte, err error) error {
		files = append(files, File{name, mode, data})
		return err
	}
	copied := func(name string, mode int64, from string) error {
		data, err := os.ReadFile(from)
		return add(name, mode, data, err)
	}
	for _, program := range []string{"kakuri", "kakuri-runtime", "kakuri-uplink"} {
		if err := copied("usr/bin/"+program, 0o755, filepath.Join(bin, program)); err != nil {
			return nil, err
		}
	}
	pages := docgen.Manual(cli.Root(cli.IO{}))
	for _, name := range []string{"kakuri-runtime.8", "kakuri-uplink.8"} {
		text, err := os.ReadFile(filepath.Join(source, "docs/man", name))
		if err != nil {
			return nil, err
		}
		pages = append(pages, docgen.Page{Name: name, Text: text})
	}
	for _, p := range pages {
		data, err := zipped(p.Text)
		if err := add("usr/share/man/man"+path.Ext(p.Name)[1:]+"/"+p.Name+".gz", 0o644, data, err); err != nil {
			return nil, err
		}
	}
	if err := completions(add); err != nil {
		return nil, err
	}
	list, err := filepath.Glob(filepath.Join(source, "systemd/*/*"))
	if err != nil {
		return nil, err
	}
	for _, unit := range list {
		kind := filepath.Base(filepath.Dir(unit)) // system, user
		if err := copied("usr/lib/systemd/"+kind+"/"+filepath.Base(unit), 0o644, unit); err != nil {
			return nil, err
		}
	}
	if err := copied(profile, 0o644, filepath.Join(source, "apparmor/kakuri")); err != nil {
		return nil, err
	}
	// As in the source, so that links among them lead on.
	for _, pattern := range []string{"README*.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "docs/*.md", "examples/*"} {
		docs, err := filepath.Glob(filepath.Join(source, pattern))
		if err != nil {
			return nil, err
		}
		for _, doc := range docs {
			mode := int64(0o644)
			if strings.HasSuffix(doc, ".sh") {
				mode = 0o755
			}
			name := path.Join(path.Dir(pattern), filepath.Base(doc))
			if err := copied("usr/share/doc/kakuri/"+name, mode, doc); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

// completions makes the scripts by which shells complete a line: they ask kakuri.
func completions(add func(string, int64, []byte, error) error) error {
	root := cli.Root(cli.IO{})
	for _, place := range []struct{ shell, name string }{
		{"bash", "bash-completion/completions/kakuri"},
		{"zsh", "zsh/vendor-completions/_kakuri"},
		{"fish", "fish/vendor_completions.d/kakuri.fish"},
	} {
		script, err := cli.Completion(root, place.shell)
		if err := add("usr/share/"+place.name, 0o644, script, err); err != nil {
			return err
		}
	}
	return nil
}

// zipped is data as gzip(1) -9n has it.
func zipped(data []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}

// profile is where the package has AppArmor's.
const profile = "usr/share/kakuri/apparmor/kakuri"

// unitNames are the services among files that are started with the machine.
func unitNames(files []File) []string {
	var names []string
	for _, f := range files {
		name, ok := strings.CutPrefix(f.Name, units)
		if ok && bytes.Contains(f.Data, []byte("\n[Install]\n")) && !strings.Contains(name, "@") {
			names = append(names, name)
		}
	}
	return names
}
