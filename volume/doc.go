// Package volume keeps volumes: directories with a name that outlive containers.
//
// A [Store] is a directory with one for each volume:
//
//	NAME/volume.json   what the volume is: [Volume]
//	NAME/_data         its files
//	NAME/copying       while a container's image is copied into it for the first time
//	lock               shared by who makes or uses volumes, alone for who removes one
//
// Directories whose names begin with a dot are being made or removed: nobody sees them, and
// [Store.Sweep] removes what a killed process left. Names of files in a volume are looked up by descriptor: a
// container may change them meanwhile.
//
//	s := volume.Open(data + "/volumes")
//	v, made, err := s.Create(volume.Config{Name: "db"})
//	err = v.Populate(ctx, volume.Dir(imageRoot, "/var/lib/db"), archive.Options{})
//
// What it may not do: know containers. Whether a volume is in use is the caller's to say.
package volume
