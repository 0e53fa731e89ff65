// Package nstest runs the tests of rooms that change the kernel's state where
// they can do no harm, and finds what they leave behind.
//
// A package's TestMain hands over to [Main]. As root, it starts the test binary
// once more in a mount, pid, network, ipc and uts namespace of its own, with
// private propagation first, an empty /tmp (on the disk of KAKURI_TEST_TMP, where tests need a
// file system that tmpfs is not: it can be id-mapped since Linux 6.3), /run, /dev/shm and /var/lib/kakuri, and the machine's
// files read-only; below a small init that ends everything when the tests end. Then it
// compares: descriptors, mounts, processes, cgroups and network links must be as
// they were.
//
//	func TestMain(m *testing.M) {
//		os.Exit(nstest.Main(m, nstest.Options{
//			Build: []string{"./cmd/kakuri"},
//			Parts: map[string]func([]string) int{"hold": hold},
//		}))
//	}
//
//	func TestMount(t *testing.T) {
//		nstest.Root(t)     // skips, with the reason, where there is no root
//		nstest.NoLeaks(t)  // for this test alone
//		root := nstest.RootFS(t)
//		...
//	}
//
// A test binary also plays the programs that its tests need ([Options].Parts),
// inside containers too: it is static. [Inside] runs one test again in further
// namespaces, or as another user.
//
// What it may not do: know any room of the module, so that each can use it.
package nstest
