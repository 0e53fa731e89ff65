package format

import (
	"fmt"

	"github.com/kakuri/kakuri/ui"
)

// Size is a number of bytes with four digits, in decimal units: 1.234kB.
func Size(n float64) string {
	return scaled(n, 1000, 4, "B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
}

// Short is a number of bytes with three digits, in decimal units: 1.23kB.
func Short(n float64) string {
	return scaled(n, 1000, 3, "B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
}

// Binary is a number of bytes with four digits, in binary units: 1.234KiB.
func Binary(n float64) string {
	return scaled(n, 1024, 4, "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
}

func scaled(n, base float64, digits int, units ...string) string {
	i := 0
	for ; n >= base && i < len(units)-1; i++ {
		n /= base
	}
	return fmt.Sprintf("%.*g%s", digits, n, units[i])
}

// ID is the short form of an id: twelve digits, without the digest's algorithm.
func ID(id string) string {
	for i := range len(id) {
		if id[i] == ':' {
			id = id[i+1:]
			break
		}
	}
	return id[:min(12, len(id))]
}

// Ellipsis cuts s to a number of columns; the last of them is an ellipsis then.
func Ellipsis(s string, columns int) string { return ui.Cut(s, columns, "…") }
