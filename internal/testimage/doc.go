// Package testimage makes the images that tests run, load and pull: of programs
// as people use them, out of Debian's packages, with a configuration like that of the official
// images of the same names.
//
//	func TestMain(m *testing.M) {
//		os.Exit(nstest.Main(m, nstest.Options{Prepare: testimage.Prepare(testimage.Nginx, testimage.Postgres)}))
//	}
//
//	func TestPull(t *testing.T) {
//		host := testimage.Registry(t, map[string]v1.Image{"library/nginx:1": testimage.Get(t, testimage.Nginx)})
//		...
//	}
//
// [Busybox] and [Deep] are made on the spot, of Debian's busybox-static. The others take up to some minutes, need root, debootstrap and
// Debian's archive, and are kept below the user's cache directory, in a directory whose name is a hash of what they are made of: one
// that is there is taken, two processes that want the same wait for each other. They are built before the namespaces of the tests, by [Prepare],
// with the mounts that this takes in a mount namespace of its own; inside, where the disk is read-only, [Get] opens them.
//
// What it may not do: know any room of the module but nstest, so that each can use it.
package testimage
