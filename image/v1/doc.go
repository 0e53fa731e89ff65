// Package v1 has the documents of the OCI image specification, version 1, and what Docker's images have besides, as Go types.
//
// They are those of github.com/opencontainers/image-spec/specs-go/v1 and github.com/moby/docker-image-spec/specs-go/v1, field by field and tag by tag, which
// a test compares; those import go-digest, whose regular expressions are compiled before main. What it may not do: read or check anything.
package v1
