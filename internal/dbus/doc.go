// Package dbus speaks D-Bus to systemd, systemd-resolved and firewalld, by one Unix socket and a few types of values. The usual library, with the
// packages net, os/exec and os/user below it, takes 0.1 ms of each start of kakuri-runtime, whether it is used or not, and 1.1 MB of its file.
//
//	b, err := dbus.System()
//	if err != nil {
//		return err
//	}
//	defer b.Close()
//	body, err := b.Call(&dbus.Message{Destination: "org.freedesktop.DBus", Path: "/org/freedesktop/DBus", Interface: "org.freedesktop.DBus", Member: "ListNames"})
package dbus
