package archive

import "fmt"

// Limits are how much of an archive is taken. Zero fields have the values of
// [DefaultLimits].
type Limits struct {
	Bytes   int64 // of all contents together, holes of sparse files included
	Entries int64
	Depth   int // directories above a file, itself included
	Name    int // bytes of a path
	Xattrs  int // bytes of the extended attributes of one entry, names included

	// Ratio is how many bytes one compressed byte may become, asked once Slack bytes
	// have come out: a file of zeros compresses well, and is no attack.
	Ratio int64
	Slack int64
}

// DefaultLimits are for images and volumes: far above what is seen, and low
// enough to end.
func DefaultLimits() Limits {
	return Limits{
		Bytes:   1 << 40,
		Entries: 10 << 20,
		Depth:   1024,
		Name:    4095, // PATH_MAX without its NUL
		Xattrs:  256 << 10,
		Ratio:   200,
		Slack:   256 << 20,
	}
}

// or fills zero fields with the defaults.
func (l Limits) or() Limits {
	d := DefaultLimits()
	fill(&l.Bytes, d.Bytes)
	fill(&l.Entries, d.Entries)
	fill(&l.Depth, d.Depth)
	fill(&l.Name, d.Name)
	fill(&l.Xattrs, d.Xattrs)
	fill(&l.Ratio, d.Ratio)
	fill(&l.Slack, d.Slack)
	return l
}

func fill[N int | int64](field *N, value N) {
	if *field == 0 {
		*field = value
	}
}

// A LimitError says that an archive is larger than what is taken.
type LimitError struct {
	What string // of what there is too much, in the words of the error: "bytes", "bytes in a name"
	Max  int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("the archive has more than the %d %s that are taken", e.Max, e.What)
}

// An EntryError says which entry of an archive, or which file of a tree, is at fault.
type EntryError struct {
	Name string // as the archive has it
	Err  error
}

func (e *EntryError) Error() string {
	// A name may be as long as its depth allows, and the error is for a person.
	const shown = 1024
	if len(e.Name) > shown {
		return fmt.Sprintf("%q...: %v", e.Name[:shown], e.Err)
	}
	return fmt.Sprintf("%q: %v", e.Name, e.Err)
}

func (e *EntryError) Unwrap() error { return e.Err }
