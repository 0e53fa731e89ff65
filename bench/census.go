package main

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// census counts what containers could leave behind where the bench can see it.
type census struct {
	Mounts  int      // of the bench's mount namespace
	Links   int      // of its network namespace
	State   int      // files and directories below the state directories of kakuri and the peers
	Cgroups []string // of this run, or with kakuri in their name
}

func takeCensus(w workshop) census {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	links, _ := net.Interfaces()
	c := census{
		Mounts:  strings.Count(string(mounts), "\n"),
		Links:   len(links),
		Cgroups: append(cgroupDirs(w.Prefix), cgroupDirs("kakuri")...),
	}
	for _, dir := range []string{w.State, filepath.Join(w.Dir, "lib")} {
		filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error {
			if err == nil {
				c.State++
			}
			return nil
		})
	}
	return c
}

// leftBehind says what there is more of than before. Links go when the kernel gets to it, so it
// counts again for a while before it complains.
func leftBehind(before census, count func() census) []string {
	deadline := time.Now().Add(5 * time.Second)
	for {
		left := before.compare(count())
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (before census) compare(after census) []string {
	var left []string
	for _, c := range []struct {
		what     string
		old, new int
	}{
		{"mounts", before.Mounts, after.Mounts},
		{"network links", before.Links, after.Links},
		{"files of state", before.State, after.State},
	} {
		if c.new > c.old {
			left = append(left, fmt.Sprintf("%s: %d before the rounds, %d after", c.what, c.old, c.new))
		}
	}
	for _, path := range after.Cgroups {
		if !slices.Contains(before.Cgroups, path) {
			left = append(left, "cgroup "+path)
		}
	}
	return left
}
