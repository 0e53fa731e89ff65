package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A linked package is one that is in the programs.
type linked struct {
	Module string // with its version, or Go itself
	Root   string // directory of the module
	Dir    string // of the package, below it
}

// notices are the terms of what the programs link, which go with every copy of these.
func notices(ctx context.Context, source, arch string) ([]byte, error) {
	list, err := linkedInto(ctx, source, arch)
	if err != nil {
		return nil, err
	}
	return terms(list)
}

// linkedInto asks go which packages of others the programs link.
func linkedInto(ctx context.Context, source, arch string) (list []linked, err error) {
	c := goTool(ctx, source, arch, append([]string{"list", "-deps", "-json=Dir,Root,Standard,Module"}, programs...)...)
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("go list for %s: %w", arch, err)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir, Root string
			Standard  bool
			Module    *struct {
				Path, Version, Dir string
				Main               bool
			}
		}
		switch err := d.Decode(&p); {
		case err == io.EOF:
			return list, nil
		case err != nil:
			return nil, fmt.Errorf("go list for %s: %w", arch, err)
		case p.Standard:
			list = append(list, linked{"Go, its runtime and standard library", p.Root, p.Dir})
		case p.Module != nil && !p.Module.Main:
			list = append(list, linked{p.Module.Path + " " + p.Module.Version, p.Module.Dir, p.Dir})
		}
	}
}

// ofTerms are the names of files with terms.
var ofTerms = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// terms are the texts of the files of terms in each package's directory and those above it, up to its module's, sorted by module. That a module has none is an error.
func terms(list []linked) ([]byte, error) {
	files := map[string][]string{} // of a module
	seen := map[string]bool{}
	for _, p := range list {
		if _, known := files[p.Module]; !known {
			files[p.Module] = nil
		}
		for dir := p.Dir; !seen[dir]; dir = filepath.Dir(dir) {
			seen[dir] = true
			entries, err := os.ReadDir(dir)
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				if e.Type().IsRegular() && ofTerms.MatchString(e.Name()) && !strings.HasSuffix(e.Name(), ".go") {
					files[p.Module] = append(files[p.Module], filepath.Join(dir, e.Name()))
				}
			}
			if dir == p.Root {
				break
			}
		}
	}
	var b bytes.Buffer
	b.WriteString("kakuri's programs have code of others in them. These are its terms.\n")
	for _, module := range slices.Sorted(maps.Keys(files)) {
		if len(files[module]) == 0 {
			return nil, fmt.Errorf("%s: it has no file with its terms, and may not be given away", module)
		}
		fmt.Fprintf(&b, "\n%s\n%s\n", strings.Repeat("=", 78), module)
		slices.Sort(files[module])
		for _, name := range files[module] {
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&b, "%s\n\n%s\n", strings.Repeat("-", 78), bytes.TrimSpace(text))
		}
	}
	return b.Bytes(), nil
}

// goTool is the go command as the programs are built with.
func goTool(ctx context.Context, source, arch string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "go", args...)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) } // it has files of its own to remove
	c.Dir, c.Stderr = source, os.Stderr
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	return c
}
