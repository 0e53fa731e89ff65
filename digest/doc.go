// Package digest has the digests by which content is named: ALGORITHM:HEX, as descriptors of the OCI image specification have them.
//
//	d := digest.FromBytes(raw)
//	if err := d.Validate(); err != nil { … } // of a stranger's
//
// It does what github.com/opencontainers/go-digest does for the algorithms that have a meaning there, without regular expressions, which
// are compiled before main. What it may not do: read anything.
package digest
