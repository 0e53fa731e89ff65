package docgen

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Imports reads, for each package of a module, which others of it the package imports;
// its tests do not count. Both are named by their directories: "oci/specjson".
func Imports(module fs.FS, modulePath string) (map[string][]string, error) {
	rooms := map[string][]string{}
	err := fs.WalkDir(module, ".", func(file string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && file != "." && (strings.HasPrefix(e.Name(), ".") || e.Name() == "testdata"):
			return fs.SkipDir
		case e.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		data, err := fs.ReadFile(module, file)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, data, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir := path.Dir(file)
		list := rooms[dir]
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if room, ok := strings.CutPrefix(p, modulePath+"/"); err == nil && ok && !slices.Contains(list, room) {
				list = append(list, room)
			}
		}
		slices.Sort(list)
		rooms[dir] = list
		return nil
	})
	return rooms, err
}

// ImportTable shows imports as a table of Markdown. The tools of the house (generators,
// help for tests, bench) are left out: no program that is installed has them.
func ImportTable(rooms map[string][]string) string {
	var b strings.Builder
	b.WriteString("| room | imports |\n|---|---|\n")
	dirs := []string{}
	for dir := range rooms {
		if !tool(dir) {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		list := strings.Join(rooms[dir], ", ")
		if list == "" {
			list = "none"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", dir, list)
	}
	return b.String()
}

func tool(dir string) bool {
	switch dir {
	case "bench", "internal/dist", "internal/docgen", "internal/house", "internal/nstest", "internal/vm":
		return true
	}
	return strings.HasPrefix(dir, "bench/") || strings.HasSuffix(dir, "/internal/gen")
}
