package volume_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kakuri/kakuri/archive"
	"github.com/kakuri/kakuri/volume"
)

// A volume that begins with what an image has at the place where it is mounted.
func Example() {
	dir, err := os.MkdirTemp("", "volumes")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	os.MkdirAll(dir+"/image/var/lib/db", 0o755)
	os.WriteFile(dir+"/image/var/lib/db/seed", nil, 0o644)
	root, err := os.Open(dir + "/image")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer root.Close()

	s := volume.Open(dir + "/volumes")
	v, made, err := s.Create(volume.Config{Name: "db"})
	if err == nil {
		err = v.Populate(context.Background(), volume.Dir(root, "/var/lib/db"), archive.Options{})
	}
	files, _ := filepath.Glob(v.Dir() + "/*")
	for _, name := range files {
		fmt.Println(v.Name, made, filepath.Base(name), err)
	}
	// Output: db true seed <nil>
}
