package image_test

import (
	"fmt"

	"github.com/kakuri/kakuri/image"
)

func ExampleParseReference() {
	for _, name := range []string{"busybox", "localhost:5000/team/app:1", "Foo/bar"} {
		r, err := image.ParseReference(name)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(r.Tagged(), r.Familiar())
	}
	// Output:
	// docker.io/library/busybox:latest busybox
	// localhost:5000/team/app:1 localhost:5000/team/app:1
	// Foo/bar:latest Foo/bar
}

func ExampleParsePlatform() {
	p, err := image.ParsePlatform("linux/aarch64")
	fmt.Println(p.OS, p.Architecture, err)
	// Output: linux arm64 <nil>
}

func ExampleChange() {
	var c image.Config
	err := image.Change(&c, []string{`CMD ["sh", "-c", "date"]`, "EXPOSE 80", "USER 1000"})
	fmt.Println(c.Cmd, c.ExposedPorts, c.User, err)
	// Output: [sh -c date] map[80/tcp:{}] 1000 <nil>
}
