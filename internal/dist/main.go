package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kakuri/kakuri/cli"
)

func main() {
	arch := flag.String("arch", "amd64,arm64", "architectures, as Go names them")
	to := flag.String("to", "dist", "directory of the results")
	flag.Parse()
	// A signal ends the compiler, and by that what waits for it, which removes what it has made.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	for a := range strings.SplitSeq(*arch, ",") {
		if err := dist(ctx, ".", *to, a); err != nil {
			fmt.Fprintln(os.Stderr, "dist:", err)
			os.Exit(1)
		}
	}
}

// dist builds the source in a directory, for one architecture.
func dist(ctx context.Context, source, to, arch string) error {
	when, err := sourceTime(source)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "kakuri-dist-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := build(ctx, source, tmp, arch); err != nil {
		return err
	}
	files, err := gather(source, tmp)
	if err != nil {
		return err
	}
	others, err := notices(ctx, source, arch)
	if err != nil {
		return err
	}
	files = append(files, File{"usr/share/doc/kakuri/THIRD-PARTY-NOTICES", 0o644, others})
	version := strings.Replace(cli.Version, "-", "~", 1) // 0.1.0~dev is before 0.1.0
	packaged, err := debian(files, version, when)
	if err != nil {
		return err
	}
	deb, err := Deb(control(version, arch), scripts(files), packaged, when)
	if err != nil {
		return err
	}
	name := "kakuri-" + cli.Version + "-linux-" + arch
	tarball, err := Tarball(name, files, when)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(to, "kakuri_"+version+"_"+arch+".deb"), deb, 0o644),
		os.WriteFile(filepath.Join(to, name+".tar.gz"), tarball, 0o644),
	)
}

// programs are the packages that are built.
var programs = []string{"./cmd/kakuri", "./cmd/kakuri-runtime", "./cmd/kakuri-uplink"}

// build compiles the programs into a directory.
func build(ctx context.Context, source, to, arch string) error {
	c := goTool(ctx, source, arch, append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", to + "/"}, programs...)...)
	if err := c.Run(); err != nil {
		return fmt.Errorf("go build for %s: %w", arch, err)
	}
	return nil
}

// sourceTime is SOURCE_DATE_EPOCH, else the time of the last commit.
func sourceTime(source string) (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		out, err := exec.Command("git", "-C", source, "log", "-1", "--format=%ct").Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("the time of the last commit: %w; set SOURCE_DATE_EPOCH where there is no git", err)
		}
		text = strings.TrimSpace(string(out))
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return time.Unix(n, 0).UTC(), err
}
