package specjson_test

import (
	"fmt"

	"github.com/kakuri/kakuri/oci/specjson"
)

func ExampleDecode() {
	_, err := specjson.Decode([]byte(`{
	"ociVersion": "1.3.0",
	"process": {
		"user": {"uid": -1, "gid": 0}
	}
}`))
	fmt.Println(err)
	// Output:
	// config.json: process.user.uid: want an integer from 0 to 4294967295, got -1 (line 4)
}

func ExampleValidate() {
	spec, err := specjson.Decode([]byte(`{
	"ociVersion": "1.4.0",
	"root": {"path": "rootfs"},
	"process": {"cwd": "/", "args": ["sh"]},
	"hostname": "web",
	"linux": {"namespaces": [{"type": "mount"}]}
}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	warnings, err := specjson.Validate(spec)
	for _, w := range warnings {
		fmt.Println("warning:", w)
	}
	fmt.Println("error:", err)
	// Output:
	// warning: config.json: ociVersion: want at most 1.3, got "1.4.0": what later versions added is ignored
	// error: config.json: hostname: want a uts namespace to set it in, got "web" without one: add {"type": "uts"} to linux.namespaces, or remove it
}
