// Package fakebus is a system bus for tests, at which others of the machine answer as a test says:
//
//	fakebus.Serve(t, func(m *dbus.Message) (any, error) { return ":1.1", nil })
//
// What it may not do: be imported by anything but tests.
package fakebus
