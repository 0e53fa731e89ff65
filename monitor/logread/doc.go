// Package logread reads back what package log has written to files: with the older files that a log consists of, packed ones too, from the
// last lines or since some time, and following what comes.
//
//	err := logread.Read(ctx, "json-file", file, logread.Options{Tail: 10}, func(l logread.Line) error {
//		_, err := os.Stdout.Write(l.Text)
//		return err
//	})
//
// It changes nothing, and takes no lock: who writes is never held up. Damaged entries are left out, and reported in the end.
// [Journal] reads what systemd's journal has of a container in the same way.
package logread
